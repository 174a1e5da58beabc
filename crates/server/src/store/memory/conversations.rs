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
    name::Name,
};

use super::{accounts::Accounts, blobs::BlobTable};
use crate::store::{Append, CommitWrite, Committed, GroupInfo, LeaveWrite, LogPage, Refusal, Roster, Written};

/// A device that is in a conversation.
struct Seat {
    /// The entry by which it joined; it reads what comes after.
    joined: u64,
    cursor: u64,
    welcome: Option<Arc<Welcome>>,
}

struct Conversation {
    kind: ConversationKind,
    name: Option<Name>,
    roster: Roster,
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
    fn empty(kind: ConversationKind) -> Self {
        Self {
            kind,
            name: None,
            roster: Roster::default(),
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

    fn seat(&self) -> Seat {
        Seat { joined: self.head, cursor: self.head, welcome: None }
    }

    /// A device that has a seat reads on from where it is.
    fn invite(&mut self, device: DeviceId, welcome: Option<Arc<Welcome>>) {
        let seat = self.seat();
        self.seats.entry(device).or_insert(seat).welcome = welcome;
    }

    /// Takes the name that a commit gives, if it gives one.
    fn keep_name(&mut self, accounts: &mut Accounts, commit: &CommitWrite) {
        let created = commit.create.as_ref().and_then(|create| create.name.clone());
        if let Some(name) = created.or_else(|| commit.change.as_ref().and_then(|change| change.name.clone())) {
            if let Some(before) = self.name.replace(name.clone()) {
                accounts.free_name(&before);
            }
            accounts.name_group(name, commit.conversation);
        }
    }

    /// What the devices need that the newest entry adds.
    fn welcome(&self, entry: &Entry, welcome: Vec<u8>) -> Welcome {
        let (conversation, seq, hash) = (entry.conversation, entry.seq, entry.hash());
        Welcome { conversation, kind: self.kind, seq, hash, welcome, members: self.roster.accounts(), epoch: self.epoch }
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

/// What the rules say about a commit.
enum Checked {
    /// It was stored before.
    Duplicate(Written),
    /// It may pass, and these are the members then.
    Passed(Roster),
}

fn check(accounts: &Accounts, existing: Option<&Conversation>, commit: &CommitWrite) -> Result<Checked, Refusal> {
    let epoch = commit.parent_epoch.saturating_add(1);
    let roster = match (&commit.create, existing) {
        (None, None) => return Err(Refusal::NoConversation),
        (Some(_), Some(conversation)) => {
            return conversation.duplicate(&commit.id).map(Checked::Duplicate).ok_or(Refusal::ConversationExists);
        }
        (Some(create), None) => {
            let roster = Roster::begin(&commit.account, &create.members)?;
            if roster.members().iter().any(|member| accounts.get(&member.account).is_none()) {
                return Err(Refusal::NoAccount);
            }
            if commit.parent_epoch != 0 {
                return Err(Refusal::StaleEpoch);
            }
            roster
        }
        (None, Some(conversation)) => {
            conversation.roster.get(&commit.account).ok_or(Refusal::NotMember)?;
            if !commit.external && !conversation.seats.contains_key(&commit.device) {
                return Err(Refusal::NotMember);
            }
            if let Some(duplicate) = conversation.duplicate(&commit.id) {
                return Ok(Checked::Duplicate(duplicate));
            }
            if commit.parent_epoch != conversation.epoch {
                return Err(Refusal::StaleEpoch);
            }
            match &commit.change {
                Some(change) => conversation.roster.change(conversation.kind, &commit.account, change, epoch)?,
                None => conversation.roster.clone(),
            }
        }
    };
    check_names(accounts, existing, commit)?;
    check_devices(accounts, existing, commit, &roster)?;
    Ok(Checked::Passed(roster))
}

fn check_names(accounts: &Accounts, existing: Option<&Conversation>, commit: &CommitWrite) -> Result<(), Refusal> {
    let change = commit.change.as_ref();
    if change.is_some_and(|change| change.added.iter().any(|account| accounts.get(account).is_none())) {
        return Err(Refusal::NoAccount);
    }
    let name = commit.create.as_ref().and_then(|create| create.name.as_ref()).or(change.and_then(|change| change.name.as_ref()));
    let own = existing.and_then(|conversation| conversation.name.as_ref());
    match name {
        Some(name) if Some(name) != own && accounts.is_taken(name) => Err(Refusal::NameTaken),
        _ => Ok(()),
    }
}

fn check_devices(
    accounts: &Accounts,
    existing: Option<&Conversation>,
    commit: &CommitWrite,
    roster: &Roster,
) -> Result<(), Refusal> {
    if commit.added.iter().any(|added| roster.get(&added.account).is_none()) {
        return Err(Refusal::NotMember);
    }
    let is_in = |device: &DeviceId| existing.is_some_and(|conversation| conversation.seats.contains_key(device));
    if commit.added.iter().any(|added| is_in(&added.device) && !commit.removed.contains(&added.device)) {
        return Err(Refusal::AlreadyIn);
    }
    let known = accounts.owns(&commit.account, &commit.device)
        && commit.added.iter().all(|added| accounts.owns(&added.account, &added.device));
    if !known {
        return Err(Refusal::NoDevice);
    }
    let admin = roster.is_admin(&commit.account);
    let may_go = |device: &DeviceId| {
        let owner = accounts.owner(device).filter(|owner| roster.get(owner).is_some());
        owner.is_none_or(|owner| owner == commit.account) || (admin && commit.added.iter().any(|added| added.device == *device))
    };
    if !commit.removed.iter().all(may_go) {
        return Err(Refusal::Forbidden);
    }
    let parted = |device: &DeviceId| accounts.owner(device).is_none_or(|owner| roster.get(&owner).is_none());
    let stay = existing.map_or(0, |conversation| {
        conversation.seats.keys().filter(|device| !commit.removed.contains(device) && !parted(device)).count()
    });
    let joins = existing.is_none() || (commit.external && !is_in(&commit.device));
    if stay + commit.added.len() + usize::from(joins) > limits::GROUP_DEVICES { Err(Refusal::TooMany) } else { Ok(()) }
}

#[derive(Default)]
pub(super) struct Conversations {
    all: BTreeMap<ConversationId, Conversation>,
    /// Those that have ended. A creation that arrives again must not make one a second time.
    ended: BTreeSet<ConversationId>,
    of_account: BTreeMap<AccountId, BTreeSet<ConversationId>>,
}

impl Conversations {
    pub(super) fn append(
        &mut self,
        accounts: &Accounts,
        blobs: &mut BlobTable,
        append: Append,
        heard: &mut Vec<Committed>,
    ) -> Result<Written, Refusal> {
        let Append { conversation: id, device, epoch, now_ms, .. } = append;
        let conversation = self.all.get(&id).ok_or(Refusal::NoConversation)?;
        if !conversation.seats.contains_key(&device) {
            return Err(Refusal::NotMember);
        }
        if let Some(duplicate) = conversation.duplicate(&append.id) {
            return Ok(duplicate);
        }
        if epoch > conversation.epoch || conversation.epoch - epoch > EPOCH_WINDOW || epoch < conversation.floor {
            return Err(Refusal::StaleEpoch);
        }
        let account = accounts.owner(&device).ok_or(Refusal::NotMember)?;
        if append.blobs.iter().any(|blob| blobs.readable(self, blob, &account).is_none()) {
            return Err(Refusal::NoBlob);
        }
        if append.blobs.iter().any(|blob| !blobs.may_name(id, *blob)) {
            return Err(Refusal::Quota);
        }
        blobs.name(id, &append.blobs, now_ms);
        let conversation = self.all.get_mut(&id).ok_or(Refusal::NoConversation)?;
        let (entry, stored) = conversation.push((id, append.id, EntryKind::MESSAGE), append.payload, None, now_ms);
        let (added, removed, parted) = (Vec::new(), Vec::new(), Vec::new());
        heard.push(Committed::Entry { entry, from: device, added, removed, members: None, parted, joined: false });
        Ok(Written::Stored { stored, duplicate: false })
    }

    pub(super) fn commit(
        &mut self,
        accounts: &mut Accounts,
        commit: CommitWrite,
        heard: &mut Vec<Committed>,
    ) -> Result<Written, Refusal> {
        if commit.create.is_some() && self.ended.contains(&commit.conversation) {
            return Err(Refusal::ConversationEnded);
        }
        let existing = self.all.get(&commit.conversation);
        let roster = match check(accounts, existing, &commit)? {
            Checked::Duplicate(written) => return Ok(written),
            Checked::Passed(roster) => roster,
        };
        let created = commit.create.is_some();
        if let Some(create) = &commit.create {
            self.all.insert(commit.conversation, Conversation::empty(create.kind));
        }
        let conversation = self.all.get_mut(&commit.conversation).expect("checked or made above");
        conversation.keep_name(accounts, &commit);
        let mut parted = commit.change.as_ref().map(|change| change.removed.clone()).unwrap_or_default();
        parted.retain(|account| conversation.roster.get(account).is_some());
        let evicted = conversation.seats.keys().filter(|device| accounts.owner(device).is_some_and(|a| parted.contains(&a)));
        let mut removed = [commit.removed.clone(), evicted.copied().collect()].concat();
        // Who is taken out and brought in keeps the seat: what has not been read yet was written to that device.
        let again: BTreeSet<DeviceId> = commit.added.iter().map(|added| added.device).collect();
        removed.retain(|device| !again.contains(device) && conversation.seats.remove(device).is_some());
        let moved = created || commit.change.as_ref().is_some_and(|change| !change.added.is_empty() || !parted.is_empty());
        let members = moved.then(|| roster.accounts());
        conversation.roster = roster;
        for account in &parted {
            self.of_account.entry(*account).or_default().remove(&commit.conversation);
        }
        for member in members.iter().flatten() {
            self.of_account.entry(*member).or_default().insert(commit.conversation);
        }

        let what = (commit.conversation, commit.id, EntryKind::COMMIT);
        let (entry, stored) = conversation.push(what, commit.commit, Some(commit.receipt), commit.now_ms);
        conversation.epoch = commit.parent_epoch + 1;
        conversation.group_info = commit.group_info;
        let joined = created || commit.external;
        if joined || !commit.added.is_empty() {
            conversation.floor = conversation.epoch;
        }
        if joined {
            let seat = conversation.seat();
            conversation.seats.insert(commit.device, seat);
        }
        let welcome = commit.welcome.map(|welcome| Arc::new(conversation.welcome(&entry, welcome)));
        let added: Vec<DeviceId> = commit.added.iter().map(|added| added.device).collect();
        for device in &added {
            conversation.invite(*device, welcome.clone());
        }
        heard.push(Committed::Entry { entry, from: commit.device, added: added.clone(), removed, members, parted, joined });
        if let Some(welcome) = welcome {
            heard.extend(added.into_iter().map(|device| Committed::Welcome { device, welcome: Arc::clone(&welcome) }));
        }
        Ok(Written::Stored { stored, duplicate: false })
    }

    pub(super) fn leave(
        &mut self,
        accounts: &mut Accounts,
        leave: LeaveWrite,
        heard: &mut Vec<Committed>,
    ) -> Result<Written, Refusal> {
        let conversation = self.all.get_mut(&leave.conversation).ok_or(Refusal::NoConversation)?;
        let said = conversation.entries.iter().find(|entry| entry.id == leave.id);
        if said.is_some_and(|entry| entry.payload == leave.statement) {
            return conversation.duplicate(&leave.id).ok_or(Refusal::NotMember);
        }
        let since = conversation.roster.get(&leave.account).ok_or(Refusal::NotMember)?.since;
        if !accounts.owns(&leave.account, &leave.device) {
            return Err(Refusal::NoDevice);
        }
        if conversation.kind != ConversationKind::GROUP || said.is_some() {
            return Err(Refusal::Forbidden);
        }
        if since != leave.since {
            return Err(Refusal::StaleEpoch);
        }
        let what = (leave.conversation, leave.id, EntryKind::LEAVE);
        let (entry, stored) = conversation.push(what, leave.statement, None, leave.now_ms);
        conversation.roster = conversation.roster.leave(&leave.account);
        let own = conversation.seats.keys().filter(|device| accounts.owns(&leave.account, device));
        let removed: Vec<DeviceId> = own.copied().collect();
        for device in &removed {
            conversation.seats.remove(device);
        }
        self.of_account.entry(leave.account).or_default().remove(&leave.conversation);
        let members = conversation.roster.accounts();
        if members.is_empty() {
            if let Some(name) = &conversation.name {
                accounts.free_name(name);
            }
            self.all.remove(&leave.conversation);
            self.ended.insert(leave.conversation);
        }
        let (members, parted) = (Some(members), vec![leave.account]);
        heard.push(Committed::Entry { entry, from: leave.device, added: vec![], removed, members, parted, joined: false });
        Ok(Written::Stored { stored, duplicate: false })
    }

    pub(super) fn exists(&self, id: &ConversationId) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn is_member(&self, id: &ConversationId, account: &AccountId) -> bool {
        self.all.get(id).is_some_and(|conversation| conversation.roster.get(account).is_some())
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
        if conversation.roster.get(account).is_none() {
            return Err(Refusal::NotMember);
        }
        Ok(GroupInfo { epoch: conversation.epoch, group_info: conversation.group_info.clone() })
    }

    pub(super) fn leaves(&self, id: &ConversationId, account: &AccountId) -> Result<Vec<Vec<u8>>, Refusal> {
        let conversation = self.all.get(id).ok_or(Refusal::NoConversation)?;
        if conversation.roster.get(account).is_none() {
            return Err(Refusal::NotMember);
        }
        let left = conversation.entries.iter().rev().filter(|entry| entry.kind == EntryKind::LEAVE);
        Ok(left.take(limits::LEAVE_STATEMENTS).map(|entry| entry.payload.clone()).collect())
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
                members: conversation.roster.accounts(),
                head: conversation.head,
                cursor: seat.map(|seat| seat.cursor),
                welcome: seat.and_then(|seat| seat.welcome.as_deref().cloned()),
            }
        })
    }

    pub(super) fn peers(&self, account: &AccountId) -> Vec<AccountId> {
        let ids = self.of_account.get(account).into_iter().flatten();
        let members = ids.filter_map(|id| self.all.get(id)).flat_map(|conversation| conversation.roster.accounts());
        let peers: BTreeSet<AccountId> = members.filter(|member| member != account).collect();
        peers.into_iter().collect()
    }
}
