//! Random histories of a group: several devices change it at once, lose races, crash between a step and its transaction, and leave.
//! Checked against a model that knows only what the log says: in the end all see the same group, and everybody has read once what was
//! encrypted while they were in it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use parlour_e2ee::{E2eeError, Engine, GroupChange, GroupEvent, Opened, PendingCommit, Sealed, Step};
use parlour_wire::{
    api::Role,
    id::{AccountId, MessageId},
    log::EntryKind,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    room::{Room, name},
    world::Disk,
};

const HISTORIES: u64 = 150;
const ACTIONS: usize = 120;
const ACCOUNTS: usize = 5;

/// What a device keeps in its own tables.
#[derive(Clone, Default)]
struct Tables {
    cursor: usize,
    /// By id, what was read.
    read: BTreeMap<MessageId, Vec<u8>>,
    wrote: BTreeMap<MessageId, Vec<u8>>,
    outbox: Vec<(MessageId, Outgoing)>,
    /// Whether the device follows the log.
    inside: bool,
}

#[derive(Clone)]
enum Outgoing {
    Message(Sealed, Vec<u8>),
    Commit(Box<PendingCommit>),
}

struct History {
    rng: StdRng,
    room: Room,
    tables: Vec<Tables>,
    /// Under which epoch of the home each message in the log is encrypted.
    epochs: BTreeMap<MessageId, u64>,
    /// Who was in at each epoch of the home.
    members_at: BTreeMap<u64, BTreeSet<usize>>,
    /// Who is in, by the log alone.
    members: BTreeSet<usize>,
    said: u32,
    faults: bool,
}

impl History {
    fn new(seed: u64) -> Self {
        let room = Room::new(3, ACCOUNTS);
        let mut tables = vec![Tables::default(); ACCOUNTS];
        for table in tables.iter_mut().take(3) {
            (table.inside, table.cursor) = (true, 1);
        }
        Self {
            rng: StdRng::seed_from_u64(seed),
            room,
            tables,
            epochs: BTreeMap::new(),
            members_at: [(1, (0..3).collect())].into(),
            members: (0..3).collect(),
            said: 0,
            faults: true,
        }
    }

    /// A step and a change of the tables in one transaction, which may be dropped, or be the last thing before a restart.
    fn transact<T>(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Engine, &Disk, &crate::world::Pinned) -> Result<Step<T>, E2eeError>,
        change: impl FnOnce(&mut Tables, T),
    ) -> Result<(), E2eeError> {
        let pinned = self.room.lists();
        let client = &mut self.room.clients[at];
        let step = match step(&mut client.engine, &client.disk, &pinned) {
            Ok(step) => step,
            Err(error) => {
                client.engine.rolled_back();
                return Err(error);
            }
        };
        let (kept, crash) = if self.faults { (self.rng.gen_bool(0.8), self.rng.gen_bool(0.2)) } else { (true, false) };
        if kept {
            client.disk.apply(&step.changes);
            change(&mut self.tables[at], step.output);
        }
        if crash {
            client.restart();
        } else if kept {
            client.engine.committed();
        } else {
            client.engine.rolled_back();
        }
        Ok(())
    }

    fn at_of(&self, account: &AccountId) -> usize {
        (0..ACCOUNTS).find(|at| self.room.id(*at) == *account).unwrap()
    }

    fn say(&mut self, at: usize) {
        self.said += 1;
        let content = format!("{at} says {}", self.said).into_bytes();
        self.encrypt(at, content, None);
    }

    fn encrypt(&mut self, at: usize, content: Vec<u8>, instead_of: Option<MessageId>) {
        let (id, conversation) = (self.room.server.next_id(), self.room.conversation());
        let result = self.transact(
            at,
            |engine, rows, _| engine.encrypt(rows, &conversation, id, &content),
            |tables, sealed| {
                tables.outbox.retain(|(old, _)| Some(*old) != instead_of);
                tables.outbox.push((id, Outgoing::Message(sealed, content.clone())));
            },
        );
        match result {
            Ok(()) | Err(E2eeError::AwaitingReceipt) => {}
            Err(E2eeError::RevokedDevice { .. }) => self.commit(at, &GroupChange::default()),
            Err(error) => panic!("encrypting at {at}: {error:?}"),
        }
    }

    /// Some change of the group, by whoever may.
    fn commit(&mut self, at: usize, change: &GroupChange) {
        let (id, conversation) = (self.room.server.next_id(), self.room.conversation());
        let plain = change.add.is_empty()
            && change.remove.is_empty()
            && change.roles.is_empty()
            && change.name.is_none()
            && change.history.is_none();
        let result = self.transact(
            at,
            |engine, rows, pinned| match plain {
                true => engine.update(rows, &conversation, pinned),
                false => engine.change_group(rows, &conversation, change, pinned),
            },
            |tables, commit| tables.outbox.push((id, Outgoing::Commit(Box::new(commit)))),
        );
        match result {
            Ok(())
            | Err(
                E2eeError::CommitPending
                | E2eeError::NotAdmin
                | E2eeError::LastAdmin
                | E2eeError::NotMember { .. }
                | E2eeError::Forbidden(_),
            ) => {}
            Err(error) => panic!("committing at {at}: {error:?}"),
        }
    }

    fn change(&mut self, at: usize) {
        let other = self.rng.gen_range(0..ACCOUNTS);
        let account = self.room.id(other);
        let change = match self.rng.gen_range(0..6) {
            0 | 1 => GroupChange { add: vec![self.room.member(other)], ..GroupChange::default() },
            2 => GroupChange { remove: vec![account], ..GroupChange::default() },
            3 => GroupChange { roles: vec![(account, Role(self.rng.gen_range(0..2)))], ..GroupChange::default() },
            4 => GroupChange { name: Some(name(&format!("n{}", self.said))), ..GroupChange::default() },
            _ => GroupChange::default(),
        };
        self.commit(at, &change);
    }

    fn leave(&mut self, at: usize) {
        if self.members.len() < 3 || !self.members.contains(&at) || !self.tables[at].outbox.is_empty() {
            return;
        }
        let statement = self.room.step(at, |engine, rows, conversation, _| engine.leave(rows, conversation)).unwrap();
        self.room.server.leave(&statement);
        self.members.remove(&at);
        self.go(at);
    }

    /// The conversation is over for a device; it may come back as a new one.
    fn go(&mut self, at: usize) {
        let conversation = self.room.conversation();
        self.room.step(at, |engine, rows, _, _| engine.forget(rows, &conversation)).unwrap();
        let tables = &mut self.tables[at];
        (tables.inside, tables.outbox) = (false, Vec::new());
    }

    /// Brings the oldest outgoing thing to the server; the answer may be lost.
    fn send(&mut self, at: usize) {
        let Some((id, out)) = self.tables[at].outbox.first().cloned() else { return };
        let lost = self.faults && self.rng.gen_bool(0.2);
        if !self.members.contains(&at) {
            // The server refuses who is no member any more; the device will read why.
            return;
        }
        match out {
            Outgoing::Message(sealed, content) => {
                let known = self.room.server.log.iter().any(|entry| entry.id == id);
                match self.room.server.message(id, sealed.epoch, &sealed.payload) {
                    Ok(_) => {
                        if !known {
                            self.epochs.insert(id, sealed.epoch);
                        }
                        self.tables[at].wrote.insert(id, content);
                        if !lost {
                            self.tables[at].outbox.remove(0);
                        }
                    }
                    Err(_) => self.encrypt(at, content, Some(id)),
                }
            }
            Outgoing::Commit(commit) => self.send_commit(at, id, &commit, lost),
        }
    }

    fn send_commit(&mut self, at: usize, id: MessageId, commit: &PendingCommit, lost: bool) {
        let known = self.room.server.log.iter().any(|entry| entry.id == id);
        match self.room.server.commit(id, commit) {
            Ok(entry) => {
                if !known {
                    self.take_effect(commit, usize::try_from(entry.seq).unwrap());
                }
                if !lost {
                    self.tables[at].outbox.remove(0);
                }
            }
            Err(_) => {
                let conversation = self.room.conversation();
                self.transact(
                    at,
                    |engine, rows, _| engine.abandon(rows, &conversation, commit.parent_epoch),
                    |tables, ()| drop(tables.outbox.remove(0)),
                )
                .unwrap();
            }
        }
    }

    /// What the model makes of a commit that the server has taken: it believes what the honest committer told.
    fn take_effect(&mut self, commit: &PendingCommit, seq: usize) {
        let change = commit.change.clone().unwrap_or_default();
        for account in &change.removed {
            let at = self.at_of(account);
            self.members.remove(&at);
        }
        let mut joining = Vec::new();
        for account in &change.added {
            let at = self.at_of(account);
            self.members.insert(at);
            joining.push(at);
        }
        self.members_at.insert(commit.parent_epoch + 1, self.members.clone());
        for at in joining {
            // A newcomer joins before anything else can happen to it.
            let welcome = self.room.server.welcome.clone().unwrap();
            let pinned = self.room.lists();
            self.room.clients[at].join(&welcome, &pinned).unwrap();
            let tables = &mut self.tables[at];
            (tables.inside, tables.cursor, tables.outbox) = (true, seq, Vec::new());
        }
    }

    fn receive(&mut self, at: usize) {
        let tables = &self.tables[at];
        let Some(entry) = self.room.server.log.get(tables.cursor).cloned() else { return };
        let echo = entry.kind == EntryKind::MESSAGE && tables.wrote.contains_key(&entry.id);
        if echo {
            self.tables[at].outbox.retain(|(id, _)| *id != entry.id);
            self.tables[at].cursor += 1;
            return;
        }
        let (own, account) = (self.room.clients[at].id(), self.room.id(at));
        let mut over = false;
        let result = self.transact(
            at,
            |engine, rows, pinned| engine.open(rows, &entry, pinned),
            |tables, opened| {
                tables.cursor += 1;
                tables.outbox.retain(|(id, _)| *id != entry.id);
                match opened {
                    Opened::Message { content, .. } => {
                        assert!(tables.read.insert(entry.id, content).is_none(), "read twice");
                    }
                    Opened::Commit { removed, events, .. } => {
                        over = removed.iter().any(|leaf| leaf.1 == own);
                        assert_eq!(over, events.iter().any(|event| is_out(event, &account)));
                    }
                    Opened::Left { account: left } => over = left == account,
                    Opened::OwnCommit { .. } => {}
                    Opened::Own | Opened::Void { .. } => panic!("not in this history: {opened:?}"),
                }
            },
        );
        match result {
            Ok(()) if over => self.go(at),
            Ok(()) => {}
            Err(E2eeError::BeforeJoin) => self.tables[at].cursor += 1,
            Err(error) => panic!("reading {} at {at}: {error:?}", entry.seq),
        }
    }

    fn act(&mut self) {
        let at = self.rng.gen_range(0..ACCOUNTS);
        if !self.tables[at].inside {
            return;
        }
        match self.rng.gen_range(0..20) {
            0..=3 => self.say(at),
            4 | 5 => self.change(at),
            6 if self.rng.gen_bool(0.3) => self.leave(at),
            7..=11 => self.send(at),
            _ => self.receive(at),
        }
    }

    /// Without faults, until nothing is left to do.
    fn settle(&mut self) {
        self.faults = false;
        for _ in 0..2000 {
            for at in 0..ACCOUNTS {
                if self.tables[at].inside {
                    self.receive(at);
                    self.send(at);
                }
            }
            let head = self.room.server.log.len();
            let quiet = |tables: &Tables| !tables.inside || (tables.outbox.is_empty() && tables.cursor == head);
            if self.tables.iter().all(quiet) && self.sweep() {
                return;
            }
        }
        panic!("the history does not come to rest");
    }

    /// Somebody takes out who has left, if anybody has. Whether nobody had.
    fn sweep(&mut self) -> bool {
        let at = *self.members.first().unwrap();
        if self.room.view(at).left.is_empty() {
            return true;
        }
        self.commit(at, &GroupChange::default());
        false
    }

    fn check(&mut self) {
        let inside: BTreeSet<usize> = (0..ACCOUNTS).filter(|at| self.tables[*at].inside).collect();
        assert_eq!(inside, self.members, "who is in");
        let views: Vec<_> = inside.iter().map(|at| self.room.view(*at)).collect();
        assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "all see the same");
        let accounts: BTreeSet<AccountId> = views[0].members.iter().map(|member| member.account).collect();
        assert_eq!(accounts, inside.iter().map(|at| self.room.id(*at)).collect());
        assert!(views[0].members.iter().any(|member| member.role == Role::ADMIN));
        assert_eq!(Some(views[0].epoch), self.room.server.epoch);
        let wrote: BTreeMap<MessageId, Vec<u8>> = self.tables.iter().flat_map(|tables| tables.wrote.clone()).collect();
        let since: Vec<u64> = (0..ACCOUNTS).map(|at| self.since(at)).collect();
        for (at, tables) in self.tables.iter().enumerate() {
            for (id, content) in &tables.read {
                assert_eq!(wrote.get(id), Some(content));
                let epoch = self.epochs[id];
                assert!(self.members_at[&epoch].contains(&at), "{at} has read what was not for it");
            }
            for (id, epoch) in &self.epochs {
                let owed = inside.contains(&at) && *epoch >= since[at] && !tables.wrote.contains_key(id);
                assert!(!owed || tables.read.contains_key(id), "{at} has not read what was said at epoch {epoch}");
            }
        }
        self.room.inside = (0..ACCOUNTS).map(|at| inside.contains(&at)).collect();
        self.room.check();
    }

    /// The home's epoch at which an account came in last.
    fn since(&mut self, at: usize) -> u64 {
        let id = self.room.id(at);
        let first = *self.members.first().unwrap();
        self.room.view(first).members.iter().find(|member| member.account == id).map_or(u64::MAX, |member| member.since)
    }
}

fn is_out(event: &GroupEvent, account: &AccountId) -> bool {
    matches!(event, GroupEvent::Removed(gone) | GroupEvent::Left(gone) if gone == account)
}

#[test]
fn whatever_happens_to_a_group_all_agree_and_everything_is_read_once() {
    for seed in 0..HISTORIES {
        // Printed only if the test fails.
        eprintln!("history {seed}");
        let mut history = History::new(seed);
        for _ in 0..ACTIONS {
            history.act();
        }
        history.settle();
        history.check();
    }
}
