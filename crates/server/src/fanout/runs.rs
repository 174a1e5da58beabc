//! Entries of one conversation and one sender that are committed together go out in one push.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parlour_wire::{AccountId, ConversationId, DeviceId, limits, log::Entry};

/// Entries for one push, oldest first.
pub(super) struct Run {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) bytes: usize,
    pub(super) from: DeviceId,
    pub(super) added: Vec<DeviceId>,
    pub(super) removed: Vec<DeviceId>,
    pub(super) members: Option<Vec<AccountId>>,
    pub(super) parted: Vec<AccountId>,
    pub(super) joined: bool,
}

/// [`parlour_wire::api::Entries`] of entries that are shared.
#[derive(minicbor::Encode)]
#[cbor(map)]
struct SharedEntries<'a> {
    #[n(0)]
    entries: Vec<&'a Entry>,
}

impl Run {
    /// A run of one entry that changes nothing about who is in the conversation.
    pub(super) fn of(entry: Arc<Entry>, from: DeviceId) -> Self {
        Self {
            bytes: entry.payload.len(),
            entries: vec![entry],
            from,
            added: Vec::new(),
            removed: Vec::new(),
            members: None,
            parted: Vec::new(),
            joined: false,
        }
    }

    /// Whether it changes who is in the conversation. Such an entry goes alone.
    fn changes_devices(&self) -> bool {
        self.joined || self.members.is_some() || !self.added.is_empty() || !self.removed.is_empty()
    }

    fn takes(&self, other: &Self) -> bool {
        self.from == other.from
            && !self.changes_devices()
            && !other.changes_devices()
            && self.bytes + other.bytes <= limits::ENTRY_PAYLOAD
            && self.entries.len() < limits::SYNC_PAGE
    }

    /// The content of the push.
    pub(super) fn encode(&self) -> Bytes {
        let entries = self.entries.iter().map(AsRef::as_ref).collect();
        parlour_wire::encode(&SharedEntries { entries }).into()
    }
}

/// The runs that are still open, at most one for each conversation.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<ConversationId, Run>);

impl Runs {
    /// Adds a run of one entry. Answers what is complete by that.
    pub(super) fn push(&mut self, run: Run) -> impl Iterator<Item = (ConversationId, Run)> + use<> {
        let conversation = run.entries[0].conversation;
        let complete = match self.0.get_mut(&conversation) {
            Some(open) if open.takes(&run) => {
                open.bytes += run.bytes;
                open.entries.extend(run.entries);
                None
            }
            _ => self.0.insert(conversation, run),
        };
        complete.map(|run| (conversation, run)).into_iter()
    }

    pub(super) fn take(&mut self, conversation: &ConversationId) -> Option<Run> {
        self.0.remove(conversation)
    }
}

impl IntoIterator for Runs {
    type Item = (ConversationId, Run);
    type IntoIter = std::collections::btree_map::IntoIter<ConversationId, Run>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use parlour_wire::{MessageId, api::Entries, log::EntryKind};

    use super::*;

    fn run(conversation: u8, seq: u64, from: u8, size: usize) -> Run {
        let entry = Entry {
            conversation: ConversationId([conversation; 32]),
            seq,
            previous: [3; 32],
            id: MessageId([4; 16]),
            kind: EntryKind::COMMIT,
            stored_ms: 5,
            payload: vec![6; size],
            receipt: Some([7; 64]),
        };
        Run::of(Arc::new(entry), DeviceId([from; 16]))
    }

    fn seqs(run: &Run) -> Vec<u64> {
        let entries: Entries = parlour_wire::decode(&run.encode()).unwrap();
        assert!(entries.entries.iter().zip(&run.entries).all(|(decoded, entry)| *decoded == **entry));
        entries.entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn a_run_is_of_one_sender_and_bounded() {
        let mut runs = Runs::default();
        assert_eq!(runs.push(run(1, 1, 1, 10)).count(), 0);
        assert_eq!(runs.push(run(2, 1, 1, 10)).count(), 0, "conversations do not disturb each other");
        assert_eq!(runs.push(run(1, 2, 1, 10)).count(), 0);
        let complete: Vec<_> = runs.push(run(1, 3, 2, 10)).collect();
        assert_eq!(complete.iter().map(|(_, run)| seqs(run)).collect::<Vec<_>>(), [[1, 2]]);
        let complete: Vec<_> = runs.push(run(1, 4, 2, limits::ENTRY_PAYLOAD)).collect();
        assert_eq!(complete.iter().map(|(_, run)| seqs(run)).collect::<Vec<_>>(), [[3]]);
        let rest: Vec<_> = runs.into_iter().map(|(conversation, run)| (conversation.0[0], seqs(&run))).collect();
        assert_eq!(rest, [(1, vec![4]), (2, vec![1])]);
    }

    #[test]
    fn an_entry_that_changes_devices_goes_alone() {
        let mut runs = Runs::default();
        assert_eq!(runs.push(run(1, 1, 1, 10)).count(), 0);
        assert_eq!(runs.push(Run { removed: vec![DeviceId([9; 16])], ..run(1, 2, 1, 10) }).count(), 1);
        assert_eq!(runs.push(run(1, 3, 1, 10)).count(), 1);
    }
}
