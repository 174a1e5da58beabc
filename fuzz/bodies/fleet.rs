//! The proofs of a fleet: whatever is sent for a proof or for its answer, only what was made with the secret, for these keys, this
//! session and this nonce is taken for one.

use parlour_net::{
    FleetSecret,
    fuzzing::{FleetScene, agent_proof, station_answer, station_proves},
};

const SCENE: FleetScene = (Some([1; 32]), [2; 32], [3; 32]);
/// The same with an agent that has shown no key.
const NAMELESS: FleetScene = (None, [2; 32], [3; 32]);

/// Pairs of a position and what to flip there; a flip of nothing cuts.
fn changed(bytes: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % (bytes.len() + 1);
        match (change[1], bytes.get_mut(at)) {
            (0, _) => bytes.truncate(at),
            (flip, Some(byte)) => *byte ^= flip,
            (new, None) => bytes.push(new),
        }
    }
    bytes
}

fn holds(part: &[u8], whole: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// What is real is taken, and nothing else; what a later version says behind the known elements is passed over.
fn judged(is_taken: bool, content: &[u8], real: &[u8]) {
    let more = content.len() > real.len() && content[0] > real[0] && content[1..].starts_with(&real[1..]);
    assert!(is_taken || content != real, "what is real is refused");
    assert!(!is_taken || more || content == real, "what was changed is taken");
}

/// A station that is sent this as a proof.
fn station(secret: &FleetSecret, content: &[u8]) -> bool {
    let Some(answer) = station_answer(secret, &SCENE, content) else { return false };
    let mut nonces = content.windows(32).map(|nonce| nonce.try_into().expect("32 bytes"));
    assert!(nonces.any(|nonce| station_proves(secret, &SCENE, nonce, &answer)), "a good proof is answered with one");
    assert!(station_answer(&FleetSecret::from_bytes(&[8; 32]), &SCENE, content).is_none(), "under another secret");
    assert!(station_answer(secret, &NAMELESS, content).is_none(), "for other keys");
    assert!(!content.windows(32).any(|nonce| station_proves(secret, &SCENE, nonce.try_into().expect("32 bytes"), content)));
    true
}

/// The first byte says which way the rest takes: as a proof or an answer, by itself or as changes to a real one with a nonce.
pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else { return };
    let secret = FleetSecret::from_bytes(&[7; 32]);
    let nonce = [*way; 32];
    let proof = agent_proof(&secret, &SCENE, nonce);
    let answer = station_answer(&secret, &SCENE, &proof).expect("a real proof");
    match way % 4 {
        0 => _ = station(&secret, rest),
        1 => {
            let content = changed(&proof, rest);
            judged(station(&secret, &content), &content, &proof);
        }
        2 => {
            let content = changed(&answer, rest);
            judged(station_proves(&secret, &SCENE, nonce, &content), &content, &answer);
        }
        _ => {
            let is_taken = station_proves(&secret, &SCENE, nonce, rest);
            assert!(!is_taken || holds(&answer[answer.len() - 32..], rest), "nobody guesses a hash");
        }
    }
}
