//! Crashes: every step may be dropped, or be the last thing before a restart. Whatever the schedule, in the end everybody has
//! read everything once.

use std::collections::BTreeMap;

use parlour_e2ee::{E2eeError, Engine, Member, Opened, PendingCommit, Sealed, Step};
use parlour_wire::{id::MessageId, log::EntryKind};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::world::{Account, Client, Disk, Pinned, Server, lists};

const SCHEDULES: u64 = 300;
const ACTIONS: usize = 50;

/// What becomes of a step's transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    KeptThenCrash,
    Dropped,
    DroppedByCrash,
}

#[derive(Clone)]
enum Outgoing {
    Message { id: MessageId, sealed: Sealed, content: Vec<u8> },
    Commit { id: MessageId, commit: Box<PendingCommit> },
}

/// The client's own tables, changed in the same transaction.
#[derive(Clone, Default)]
struct Tables {
    outbox: Vec<Outgoing>,
    read: Vec<Vec<u8>>,
    wrote: Vec<Vec<u8>>,
    mine: Vec<MessageId>,
    cursor: usize,
    joined: bool,
    began: usize,
    skipped: usize,
}

struct Node {
    client: Client,
    tables: Tables,
}

struct Schedule {
    rng: StdRng,
    server: Server,
    pinned: Pinned,
    nodes: Vec<Node>,
    faults: bool,
    written: u32,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let (mut alice, mut bob) = (Account::new(), Account::new());
        let (a, b) = (alice.device(), bob.device());
        let second = alice.device();
        let server = Server::new(&alice.id(), &bob.id());
        let nodes: Vec<_> = [a, b, second].into_iter().map(|client| Node { client, tables: Tables::default() }).collect();
        let mut schedule =
            Self { rng: StdRng::seed_from_u64(seed), server, pinned: lists(&[&alice, &bob]), nodes, faults: true, written: 0 };
        let package = schedule.nodes[1].client.package();
        let new = schedule.server.new_conversation(vec![Member { list: bob.list(), packages: vec![package] }]);
        let id = schedule.server.next_id();
        while schedule.nodes[0].tables.outbox.is_empty() {
            schedule.transact(
                0,
                |engine, rows, _| engine.create(rows, &new),
                |tables, commit| {
                    tables.outbox.push(Outgoing::Commit { id, commit: Box::new(commit) });
                    tables.joined = true;
                },
            );
        }
        schedule
    }

    fn fate(&mut self) -> Fate {
        match self.rng.gen_range(0..10) {
            _ if !self.faults => Fate::Kept,
            0..=4 => Fate::Kept,
            5 | 6 => Fate::KeptThenCrash,
            7 | 8 => Fate::Dropped,
            _ => Fate::DroppedByCrash,
        }
    }

    /// A step and a change of the tables in one transaction. Panics at an error that no schedule may bring about.
    fn transact<T>(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Engine, &Disk, &Pinned) -> Result<Step<T>, E2eeError>,
        change: impl FnOnce(&mut Tables, T),
    ) {
        let fate = self.fate();
        let node = &mut self.nodes[at];
        let step = step(&mut node.client.engine, &node.client.disk, &self.pinned).expect("a step that may be taken");
        if matches!(fate, Fate::Kept | Fate::KeptThenCrash) {
            node.client.disk.apply(&step.changes);
            change(&mut node.tables, step.output);
        }
        match fate {
            Fate::Kept => node.client.engine.committed(),
            Fate::Dropped => node.client.engine.rolled_back(),
            Fate::KeptThenCrash | Fate::DroppedByCrash => node.client.restart(),
        }
    }

    fn established(&mut self, at: usize) -> bool {
        let (node, conversation) = (&mut self.nodes[at], self.server.conversation);
        let pending = node.client.engine.pending(&node.client.disk, &conversation).unwrap();
        node.tables.joined && pending != Some(0) && node.client.engine.epoch(&node.client.disk, &conversation).is_ok()
    }

    fn busy(&mut self, at: usize) -> bool {
        let (node, conversation) = (&mut self.nodes[at], self.server.conversation);
        node.client.engine.pending(&node.client.disk, &conversation).unwrap().is_some()
    }

    fn write(&mut self, at: usize) {
        if !self.established(at) {
            return;
        }
        self.written += 1;
        let content = format!("{at}: {}", self.written).into_bytes();
        self.encrypt(at, content, None);
    }

    fn encrypt(&mut self, at: usize, content: Vec<u8>, instead_of: Option<MessageId>) {
        let (id, conversation) = (self.server.next_id(), self.server.conversation);
        self.transact(
            at,
            |engine, rows, _| engine.encrypt(rows, &conversation, id, &content),
            |tables, sealed| {
                tables.outbox.retain(|out| !matches!(out, Outgoing::Message { id, .. } if Some(*id) == instead_of));
                if instead_of.is_none() {
                    tables.wrote.push(content.clone());
                }
                tables.mine.push(id);
                tables.outbox.push(Outgoing::Message { id, sealed, content: content.clone() });
            },
        );
    }

    fn renew(&mut self, at: usize) {
        if !self.established(at) || self.busy(at) {
            return;
        }
        let (id, conversation) = (self.server.next_id(), self.server.conversation);
        self.transact(
            at,
            |engine, rows, pinned| engine.update(rows, &conversation, pinned),
            |tables, commit| tables.outbox.push(Outgoing::Commit { id, commit: Box::new(commit) }),
        );
    }

    /// Joins, if the device has not: by the welcome or by external commit.
    fn join(&mut self, at: usize) {
        if self.nodes[at].tables.joined || self.server.epoch.is_none() || self.busy(at) {
            return;
        }
        let conversation = self.server.conversation;
        if at == 1 {
            let welcome = self.server.welcome.clone().unwrap();
            let seq = usize::try_from(welcome.seq).unwrap();
            self.transact(
                at,
                |engine, rows, pinned| engine.join(rows, &welcome, pinned),
                |tables, _| {
                    tables.joined = true;
                    tables.cursor = seq;
                },
            );
        } else {
            let id = self.server.next_id();
            let (info, home, key) = self.server.to_join();
            self.transact(
                at,
                |engine, rows, pinned| engine.join_external(rows, &conversation, &info, home, &key, pinned),
                |tables, commit| tables.outbox.push(Outgoing::Commit { id, commit: Box::new(commit) }),
            );
        }
    }

    /// Brings the oldest outgoing thing to the server. The answer may be lost.
    fn send(&mut self, at: usize) {
        let Some(out) = self.nodes[at].tables.outbox.first().cloned() else { return };
        let answer_lost = self.faults && self.rng.gen_bool(0.3);
        match out {
            Outgoing::Message { id, sealed, content } => match self.server.message(id, sealed.epoch, &sealed.payload) {
                Ok(_) if !answer_lost => drop(self.nodes[at].tables.outbox.remove(0)),
                Ok(_) => {}
                Err(_) if self.established(at) => self.encrypt(at, content, Some(id)),
                Err(_) => {}
            },
            Outgoing::Commit { id, commit } => match self.server.commit(id, &commit) {
                Ok(entry) if !answer_lost => {
                    let node = &mut self.nodes[at];
                    node.tables.outbox.remove(0);
                    if commit.external {
                        // The log of a device begins where it joins.
                        node.tables.cursor = usize::try_from(entry.seq).unwrap() - 1;
                        node.tables.began = node.tables.cursor;
                        node.tables.joined = true;
                    }
                }
                Ok(_) => {}
                Err(_) => {
                    let conversation = self.server.conversation;
                    self.transact(
                        at,
                        |engine, rows, _| engine.abandon(rows, &conversation, commit.parent_epoch),
                        |tables, ()| {
                            tables.outbox.remove(0);
                        },
                    );
                }
            },
        }
    }

    fn receive(&mut self, at: usize) {
        let tables = &self.nodes[at].tables;
        let Some(entry) = self.server.log.get(tables.cursor).cloned() else { return };
        if !tables.joined {
            return;
        }
        if tables.mine.contains(&entry.id) {
            self.nodes[at].tables.cursor += 1;
            return;
        }
        // A message on its way while a device joins is not for that device.
        let node = &mut self.nodes[at];
        let tried = node.client.engine.open(&node.client.disk, &entry, &self.pinned);
        node.client.engine.rolled_back();
        if at == 2 && tried.is_err_and(|error| error == E2eeError::BeforeJoin) {
            node.tables.cursor += 1;
            node.tables.skipped += 1;
            return;
        }
        self.transact(
            at,
            |engine, rows, pinned| engine.open(rows, &entry, pinned),
            |tables, opened| {
                tables.cursor += 1;
                match opened {
                    Opened::Message { content, .. } => tables.read.push(content),
                    Opened::Commit { .. } | Opened::OwnCommit { .. } => {}
                    other => panic!("not in this schedule: {other:?}"),
                }
            },
        );
    }

    fn act(&mut self) {
        let at = self.rng.gen_range(0..self.nodes.len());
        match self.rng.gen_range(0..12) {
            0..=2 => self.write(at),
            3 => self.renew(at),
            4 => self.join(at),
            5..=7 => self.send(at),
            _ => self.receive(at),
        }
    }

    /// Without faults, until nothing is left to do.
    fn settle(&mut self) {
        self.faults = false;
        for _ in 0..1000 {
            for at in 0..self.nodes.len() {
                self.join(at);
                self.send(at);
                self.receive(at);
            }
            let head = self.server.log.len();
            if self.nodes.iter().all(|node| node.tables.outbox.is_empty() && node.tables.cursor == head && node.tables.joined) {
                return;
            }
        }
        panic!("the schedule does not come to rest");
    }

    fn check(&mut self) {
        let conversation = self.server.conversation;
        let everything: BTreeMap<MessageId, usize> =
            self.server.log.iter().enumerate().map(|(at, entry)| (entry.id, at)).collect();
        assert_eq!(everything.len(), self.server.log.len(), "nothing is stored twice");
        let wrote: Vec<Vec<Vec<u8>>> = self.nodes.iter().map(|node| node.tables.wrote.clone()).collect();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            assert_eq!(node.client.engine.epoch(&node.client.disk, &conversation).ok(), self.server.epoch);
            let mut read = node.tables.read.clone();
            read.sort();
            let doubled = read.windows(2).any(|pair| pair[0] == pair[1]);
            assert!(!doubled, "device {at} has read something twice");
            if at == 2 {
                // It joined in the middle and reads from there.
                let log = self.server.log[node.tables.began..].iter();
                let of_others =
                    log.filter(|entry| entry.kind == EntryKind::MESSAGE && !node.tables.mine.contains(&entry.id)).count();
                assert_eq!(read.len() + node.tables.skipped, of_others, "device {at}");
                continue;
            }
            let mut others: Vec<_> =
                wrote.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, wrote)| wrote.clone()).collect();
            others.sort();
            assert_eq!(read, others, "device {at}");
        }
    }
}

#[test]
fn whatever_crashes_everything_is_read_once() {
    for seed in 0..SCHEDULES {
        // Printed only if the test fails.
        eprintln!("seed {seed}");
        let mut schedule = Schedule::new(seed);
        for _ in 0..ACTIONS {
            schedule.act();
        }
        schedule.settle();
        schedule.check();
    }
}
