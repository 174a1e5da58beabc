//! The proofs of a fleet, for the fuzz target `fleet`.

use bytes::Bytes;

use super::fleet::{FleetSecret, Proof, Scene, judge};
use crate::identity::PeerKey;

/// What the proofs are about: the agent's key if it has one, the station's key, and the challenge of the session.
pub type FleetScene = (Option<[u8; 32]>, [u8; 32], [u8; 32]);

fn scene(&(agent, station, challenge): &FleetScene) -> Scene {
    Scene { agent: agent.map(PeerKey), station: PeerKey(station), challenge }
}

/// What an agent sends to prove that it knows the secret.
#[must_use]
pub fn agent_proof(secret: &FleetSecret, about: &FleetScene, nonce: [u8; 32]) -> Bytes {
    Proof::with_nonce(secret, &scene(about), nonce).content
}

/// What a station answers to this; nothing if it does not take it for a proof.
#[must_use]
pub fn station_answer(secret: &FleetSecret, about: &FleetScene, content: &[u8]) -> Option<Bytes> {
    judge(secret, &scene(about), content).ok().map(|(_, answer)| answer)
}

/// Whether an agent that has sent the proof with this nonce takes this answer for the station's.
#[must_use]
pub fn station_proves(secret: &FleetSecret, about: &FleetScene, nonce: [u8; 32], answer: &[u8]) -> bool {
    Proof::with_nonce(secret, &scene(about), nonce).is_met(answer)
}
