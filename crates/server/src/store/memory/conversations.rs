//! Logs, cursors and welcomes in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{ConversationKind, ConversationState, Cursor, EPOCH_WINDOW, Stored, Welcome},
    limits,
    log::{Entry, EntryKind},
};

use super::accounts::Accounts;
use crate::store::{Append, CommitWrite, Committed, GroupInfo, LogPage, Refusal, Written};

/// A device that is in a conversation.
struct Seat {
    /// The entry by which it joined; it reads what comes after.
    joined: u64,
    cursor: u64,
    welcome: Option<Arc<Welcome>>,
}

struct Conversation {
    kind: ConversationKind,
    members: Vec<AccountId>,
    epoch: u64,
    /// The oldest epoch that every device of the conversation was in: that of the last join.
    floor: u64,
    group_info: Vec<u8>,
    /// Without gaps; never empty.
    entries: VecDeque<Arc<Entry>>,
    head: u64,
    head_hash: [u8; 32],
    ids: BTreeMap<MessageId, Stored>,
    seats: BTreeMap<DeviceId, Seat>,
}

impl Conversation {
    fn empty(kind: ConversationKind, members: Vec<AccountId>) -> Self {
        Self {
            kind,
            members,
            epoch: 0,
            floor: 0,
            group_info: Vec::new(),
            entries: VecDeque::new(),
            head: 0,
            head_hash: [0; 32],
            ids: BTreeMap::new(),
            seats: BTreeMap::new(),
        }
    }

    fn push(
        &mut self,
        (conversation, id, kind): (ConversationId, MessageId, EntryKind),
        payload: Vec<u8>,
        receipt: Option<[u8; 64]>,
        stored_ms: u64,
    ) -> (Arc<Entry>, Stored) {
        let (seq, previous) = (self.head + 1, self.head_hash);
        let entry = Arc::new(Entry { conversation, seq, previous, id, kind, stored_ms, payload, receipt });
        let stored = Stored { seq, previous, stored_ms, receipt };
        self.head = seq;
        self.head_hash = entry.hash();
        self.ids.insert(id, stored.clone());
        self.entries.push_back(Arc::clone(&entry));
        (entry, stored)
    }

    fn sit(&mut self, device: DeviceId, welcome: Option<Arc<Welcome>>) {
        self.seats.insert(device, Seat { joined: self.head, cursor: self.head, welcome });
    }

    fn duplicate(&self, id: &MessageId) -> Option<Written> {
        self.ids.get(id).map(|stored| Written::Stored { stored: stored.clone(), duplicate: true })
    }

    fn read(&self, joined: u64, after: u64, limit: u32) -> LogPage {
        let after = after.max(joined);
        let first = self.entries.front().map_or(1, |entry| entry.seq);
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in self.entries.iter().skip(skip).take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            bytes += entry.payload.len();
            if !entries.is_empty() && bytes > limits::READ_BYTES {
                break;
            }
            entries.push(Entry::clone(entry));
        }
        LogPage { entries, head: self.head }
    }

    fn retain(&mut self, before_ms: u64, limit: u64) -> u64 {
        let taken = self.seats.values().map(|seat| seat.cursor).min().unwrap_or(self.head).min(self.head - 1);
        let mut deleted = 0;
        while deleted < limit && self.entries.front().is_some_and(|entry| entry.seq <= taken && entry.stored_ms < before_ms) {
            if let Some(entry) = self.entries.pop_front() {
                self.ids.remove(&entry.id);
            }
            deleted += 1;
        }
        deleted
    }
}

#[derive(Default)]
pub(super) struct Conversations {
    all: BTreeMap<ConversationId, Conversation>,
    of_account: BTreeMap<AccountId, BTreeSet<ConversationId>>,
}

impl Conversations {
    pub(super) fn append(&mut self, append: Append, heard: &mut Vec<Committed>) -> Result<Written, Refusal> {
        let Append { conversation: id, device, epoch, payload, now_ms, .. } = append;
        let conversation = self.all.get_mut(&id).ok_or(Refusal::NoConversation)?;
        if !conversation.seats.contains_key(&device) {
            return Err(Refusal::NotMember);
        }
        if let Some(duplicate) = conversation.duplicate(&append.id) {
            return Ok(duplicate);
        }
        if epoch > conversation.epoch || conversation.epoch - epoch > EPOCH_WINDOW || epoch < conversation.floor {
            return Err(Refusal::StaleEpoch);
        }
        let (entry, stored) = conversation.push((id, append.id, EntryKind::MESSAGE), payload, None, now_ms);
        let (added, removed) = (Vec::new(), Vec::new());
        heard.push(Committed::Entry { entry, from: device, added, removed, created: None, joined: false });
        Ok(Written::Stored { stored, duplicate: false })
    }

    pub(super) fn commit(
        &mut self,
        accounts: &Accounts,
        commit: CommitWrite,
        heard: &mut Vec<Committed>,
    ) -> Result<Written, Refusal> {
        let existing = self.all.get(&commit.conversation);
        if let Some(duplicate) = Self::check(accounts, existing, &commit)? {
            return Ok(duplicate);
        }
        let created = commit.create.as_ref().map(|(_, members)| members.clone());
        if let Some((kind, members)) = commit.create {
            for member in &members {
                self.of_account.entry(*member).or_default().insert(commit.conversation);
            }
            self.all.insert(commit.conversation, Conversation::empty(kind, members));
        }
        let conversation = self.all.get_mut(&commit.conversation).expect("checked or made above");
        let what = (commit.conversation, commit.id, EntryKind::COMMIT);
        let (entry, stored) = conversation.push(what, commit.commit, Some(commit.receipt), commit.now_ms);
        conversation.epoch = commit.parent_epoch + 1;
        conversation.group_info = commit.group_info;
        let mut removed = commit.removed;
        removed.retain(|device| conversation.seats.remove(device).is_some());
        let joined = created.is_some() || commit.external;
        if joined || !commit.added.is_empty() {
            conversation.floor = conversation.epoch;
        }
        if joined {
            conversation.sit(commit.device, None);
        }
        let welcome = commit.welcome.map(|welcome| {
            let (kind, members) = (conversation.kind, conversation.members.clone());
            let (seq, hash, epoch) = (entry.seq, entry.hash(), conversation.epoch);
            Arc::new(Welcome { conversation: commit.conversation, kind, seq, hash, welcome, members, epoch })
        });
        let added: Vec<DeviceId> = commit.added.iter().map(|added| added.device).collect();
        for device in &added {
            conversation.sit(*device, welcome.clone());
        }
        removed.retain(|device| !added.contains(device));
        heard.push(Committed::Entry { entry, from: commit.device, added: added.clone(), removed, created, joined });
        if let Some(welcome) = welcome {
            heard.extend(added.into_iter().map(|device| Committed::Welcome { device, welcome: Arc::clone(&welcome) }));
        }
        Ok(Written::Stored { stored, duplicate: false })
    }

    /// Refuses, or answers a duplicate, or lets the commit pass.
    fn check(accounts: &Accounts, existing: Option<&Conversation>, commit: &CommitWrite) -> Result<Option<Written>, Refusal> {
        let (members, epoch) = match (&commit.create, existing) {
            (Some(_), Some(conversation)) => {
                return conversation.duplicate(&commit.id).map(Some).ok_or(Refusal::ConversationExists);
            }
            (Some((_, members)), None) => (members, 0),
            (None, None) => return Err(Refusal::NoConversation),
            (None, Some(conversation)) => (&conversation.members, conversation.epoch),
        };
        if !members.contains(&commit.account) {
            return Err(Refusal::NotMember);
        }
        if let Some(conversation) = existing {
            if !commit.external && !conversation.seats.contains_key(&commit.device) {
                return Err(Refusal::NotMember);
            }
            if let Some(duplicate) = conversation.duplicate(&commit.id) {
                return Ok(Some(duplicate));
            }
        } else if members.iter().any(|member| accounts.get(member).is_none()) {
            return Err(Refusal::NoAccount);
        }
        if commit.parent_epoch != epoch {
            return Err(Refusal::StaleEpoch);
        }
        if commit.added.iter().any(|added| !members.contains(&added.account)) {
            return Err(Refusal::NotMember);
        }
        let is_in = |device: &DeviceId| existing.is_some_and(|conversation| conversation.seats.contains_key(device));
        if commit.added.iter().any(|added| is_in(&added.device) && !commit.removed.contains(&added.device)) {
            return Err(Refusal::AlreadyIn);
        }
        let known = accounts.owns(&commit.account, &commit.device)
            && commit.added.iter().all(|added| accounts.owns(&added.account, &added.device));
        if known { Ok(None) } else { Err(Refusal::NoDevice) }
    }

    pub(super) fn move_cursors(&mut self, device: DeviceId, cursors: &[Cursor]) {
        for cursor in cursors {
            let Some(conversation) = self.all.get_mut(&cursor.conversation) else { continue };
            let head = conversation.head;
            let Some(seat) = conversation.seats.get_mut(&device) else { continue };
            seat.cursor = seat.cursor.max(cursor.seq.min(head));
            if seat.welcome.as_ref().is_some_and(|welcome| welcome.seq <= cursor.seq) {
                seat.welcome = None;
            }
        }
    }

    pub(super) fn retain(&mut self, before_ms: u64, limit: u32) -> u64 {
        let mut deleted = 0;
        for conversation in self.all.values_mut() {
            deleted += conversation.retain(before_ms, u64::from(limit) - deleted);
        }
        deleted
    }

    pub(super) fn end(&mut self, device: &DeviceId) {
        for conversation in self.all.values_mut() {
            conversation.seats.remove(device);
        }
    }

    pub(super) fn log(&self, id: &ConversationId, device: &DeviceId, after: u64, limit: u32) -> Result<LogPage, Refusal> {
        let conversation = self.all.get(id).ok_or(Refusal::NoConversation)?;
        let seat = conversation.seats.get(device).ok_or(Refusal::NotMember)?;
        Ok(conversation.read(seat.joined, after, limit))
    }

    pub(super) fn group_info(&self, id: &ConversationId, account: &AccountId) -> Result<GroupInfo, Refusal> {
        let conversation = self.all.get(id).ok_or(Refusal::NoConversation)?;
        if !conversation.members.contains(account) {
            return Err(Refusal::NotMember);
        }
        Ok(GroupInfo { epoch: conversation.epoch, group_info: conversation.group_info.clone() })
    }

    /// The conversations of an account after one, in order, made as they are taken.
    pub(super) fn states(
        &self,
        account: AccountId,
        device: DeviceId,
        after: Option<ConversationId>,
    ) -> impl Iterator<Item = ConversationState> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.of_account.get(&account).into_iter().flat_map(move |ids| ids.range((start, Bound::Unbounded)));
        ids.filter_map(move |id| self.all.get(id).map(|conversation| (id, conversation))).map(move |(id, conversation)| {
            let seat = conversation.seats.get(&device);
            ConversationState {
                conversation: *id,
                kind: conversation.kind,
                members: conversation.members.clone(),
                head: conversation.head,
                cursor: seat.map(|seat| seat.cursor),
                welcome: seat.and_then(|seat| seat.welcome.as_deref().cloned()),
            }
        })
    }

    pub(super) fn peers(&self, account: &AccountId) -> Vec<AccountId> {
        let ids = self.of_account.get(account).into_iter().flatten();
        let members = ids.filter_map(|id| self.all.get(id)).flat_map(|conversation| conversation.members.iter().copied());
        let peers: BTreeSet<AccountId> = members.filter(|member| member != account).collect();
        peers.into_iter().collect()
    }
}
