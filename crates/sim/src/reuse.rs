//! Whether a device that was put back to an older copy encrypts with keys that it had used. Nobody without the keys can see the
//! place of a ciphertext in its ratchet; but between two copies of one state the ratchet only moves on within an epoch, so what a
//! restored device encrypts anew in an epoch in which it had encrypted after the copy was taken uses a key a second time.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{
    ConversationId,
    api::{Call as _, Send},
};

/// A conversation and an epoch of MLS.
type Place = (ConversationId, u64);
type Hash = [u8; 32];

/// What a device has encrypted.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    all: BTreeSet<Hash>,
    /// First seen since the copy was taken.
    since: BTreeMap<Place, BTreeSet<Hash>>,
    /// What copies that were put back do not know of.
    undone: BTreeMap<Place, BTreeSet<Hash>>,
}

impl Spent {
    pub(crate) fn copied(&mut self) {
        self.since.clear();
    }

    pub(crate) fn put_back(&mut self) {
        for (place, hashes) in &self.since {
            self.undone.entry(*place).or_default().extend(hashes);
        }
    }

    /// A request leaves the device; says where a key is used a second time by it.
    pub(crate) fn note(&mut self, name: &str, content: &[u8]) -> Option<Place> {
        if name != Send::NAME {
            return None;
        }
        let send: Send = parlour_wire::decode(content).ok()?;
        let place = (send.conversation, mls_epoch(&send.payload)?);
        let hash = *blake3::hash(&send.payload).as_bytes();
        if !self.all.insert(hash) {
            // Encrypted before the copy was taken, and still on its way: the same bytes again.
            if let Some(undone) = self.undone.get_mut(&place) {
                undone.remove(&hash);
            }
            return None;
        }
        self.since.entry(place).or_default().insert(hash);
        self.undone.get(&place).is_some_and(|undone| !undone.is_empty()).then_some(place)
    }
}

/// The epoch of an MLS private message (RFC 9420, section 6): version, wire format, group id of 32 bytes, epoch.
fn mls_epoch(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(&[0, 1, 0, 2, 32])?;
    Some(u64::from_be_bytes(*rest.get(32..)?.first_chunk()?))
}
