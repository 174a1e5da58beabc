//! Whether a device that was put back to an older copy encrypts with keys that it had used. Nobody without the keys can see the
//! place of a ciphertext in its ratchet; but between two copies of one state the ratchet only moves on within an epoch, so what a
//! restored device encrypts anew in an epoch in which it had encrypted after the copy was taken uses a key a second time. What
//! never reached the server does not count: nobody could tell the device of it.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{
    ConversationId,
    api::{Call as _, Send},
};

use crate::home::Log;

/// A conversation, how often it had been founded anew, and an epoch of MLS.
type Place = (ConversationId, usize, u64);
type Hash = [u8; 32];

/// What a device has encrypted.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// Everything, as soon as it is on the disk.
    made: BTreeSet<Hash>,
    /// What the copy knows of.
    known: BTreeSet<Hash>,
    /// What the server has seen.
    seen: BTreeSet<Hash>,
    /// What it has seen that the copy does not know of.
    since: BTreeMap<Place, BTreeSet<Hash>>,
    /// Places where it has seen what a device that was put back does not know of.
    undone: BTreeSet<Place>,
}

impl Spent {
    pub(crate) fn copied(&mut self) {
        self.known.clone_from(&self.made);
        self.since.clear();
    }

    pub(crate) fn put_back(&mut self) {
        self.undone.extend(std::mem::take(&mut self.since).into_keys());
        self.made.clone_from(&self.known);
    }

    /// A request is on the disk of the device.
    pub(crate) fn make(&mut self, name: &str, content: &[u8]) {
        if let Some((_, hash)) = ciphertext(name, content) {
            self.made.insert(hash);
        }
    }

    /// A request reaches the server; says where a key is used a second time by it.
    pub(crate) fn see(&mut self, log: &Log, name: &str, content: &[u8]) -> Option<Place> {
        let (send, hash) = ciphertext(name, content)?;
        let place = (send.conversation, log.foundings_by(&send.conversation, send.epoch), mls_epoch(&send.payload)?);
        if !self.seen.insert(hash) || self.known.contains(&hash) {
            return None;
        }
        self.since.entry(place).or_default().insert(hash);
        self.undone.contains(&place).then_some(place)
    }
}

fn ciphertext(name: &str, content: &[u8]) -> Option<(Send, Hash)> {
    if name != Send::NAME {
        return None;
    }
    let send: Send = parlour_wire::decode(content).ok()?;
    let hash = *blake3::hash(&send.payload).as_bytes();
    Some((send, hash))
}

/// The epoch of an MLS private message (RFC 9420, section 6): version, wire format, group id of 32 bytes, epoch.
fn mls_epoch(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(&[0, 1, 0, 2, 32])?;
    Some(u64::from_be_bytes(*rest.get(32..)?.first_chunk()?))
}
