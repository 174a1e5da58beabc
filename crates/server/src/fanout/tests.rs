//! Random commits and comings and goings, against a model of who must hear what.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{
    MessageId,
    api::ConversationKind,
    log::{Entry, EntryKind},
};
use proptest::prelude::*;

use super::*;
use crate::throttle::AddressKey;

const ACCOUNTS: u8 = 3;
const CONVERSATIONS: u8 = 3;

/// Device `n` is of account `n / 2`.
fn device(n: u8) -> DeviceId {
    DeviceId([n; 16])
}

fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

fn conversation(n: u8) -> ConversationId {
    ConversationId([n; 32])
}

#[derive(Default)]
struct Heard(Mutex<Vec<u64>>);

impl Sink for Heard {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        if name == Entries::NAME {
            let push: Entries = parlour_wire::decode(&content).unwrap();
            self.0.lock().unwrap().extend(push.entries.iter().map(|entry| entry.seq));
        }
        Ok(())
    }

    fn close(&self, _: Code, _: &str) {}
}

struct Phone {
    session: Arc<Shared>,
    heard: Arc<Heard>,
    /// What the store answered when the load began; none once it is over.
    loading: Option<Vec<ConversationState>>,
}

#[derive(Default)]
struct Talk {
    members: Vec<AccountId>,
    inside: BTreeSet<u8>,
}

/// The store and the links, as far as they matter here.
#[derive(Default)]
struct Model {
    fanout: Fanout,
    talks: BTreeMap<u8, Talk>,
    phones: BTreeMap<u8, Phone>,
    seq: u64,
    next_session: u64,
}

impl Model {
    fn states(&self, n: u8) -> Vec<ConversationState> {
        let talks = self.talks.iter().filter(|(_, talk)| talk.members.contains(&account(n / 2)));
        let state = |(id, talk): (&u8, &Talk)| ConversationState {
            conversation: conversation(*id),
            kind: ConversationKind::GROUP,
            members: talk.members.clone(),
            head: 1,
            cursor: talk.inside.contains(&n).then_some(1),
            welcome: None,
        };
        talks.map(state).collect()
    }

    fn come(&mut self, n: u8) {
        if self.phones.contains_key(&n) {
            return;
        }
        self.next_session += 1;
        let heard = Arc::new(Heard::default());
        let address = AddressKey::of([10, 0, 0, 1].into());
        let session = Shared::new(self.next_session, address, [0; 32], [0; 32], Arc::clone(&heard) as Arc<dyn Sink>);
        let session = Arc::new(session);
        self.fanout.enter_device(&session, account(n / 2), device(n), 1);
        let loading = Some(self.states(n));
        self.phones.insert(n, Phone { session, heard, loading });
    }

    fn loaded(&mut self, n: u8) {
        if let Some(states) = self.phones.get_mut(&n).and_then(|phone| phone.loading.take()) {
            self.fanout.load(&device(n), &states);
            self.fanout.loaded(&device(n));
        }
    }

    fn go(&mut self, n: u8) {
        if let Some(phone) = self.phones.remove(&n) {
            if phone.loading.is_some() {
                self.fanout.loaded(&device(n));
            }
            self.fanout.leave(&phone.session, 2);
        }
    }

    fn entry(&mut self, id: u8) -> Arc<Entry> {
        self.seq += 1;
        Arc::new(Entry {
            conversation: conversation(id),
            seq: self.seq,
            previous: [0; 32],
            id: MessageId([0; 16]),
            kind: EntryKind::MESSAGE,
            stored_ms: 0,
            payload: vec![1],
            receipt: None,
        })
    }

    /// Commits an entry and compares who heard it.
    fn commit(&mut self, id: u8, from: u8, added: &[u8], removed: &[u8], created: Option<Vec<AccountId>>, joined: bool) {
        let entry = self.entry(id);
        let mut expected = self.talks.get(&id).map(|talk| talk.inside.clone()).unwrap_or_default();
        expected.remove(&from);
        let talk = self.talks.entry(id).or_default();
        if let Some(members) = &created {
            talk.members.clone_from(members);
        }
        talk.inside.retain(|n| !removed.contains(n));
        talk.inside.extend(added.iter().chain(joined.then_some(&from)));
        let members = talk.members.clone();
        let devices = |all: &[u8]| all.iter().map(|n| device(*n)).collect::<Vec<_>>();
        let (added_devices, removed) = (devices(added), devices(removed));
        let mut changes = vec![Committed::Entry {
            entry: Arc::clone(&entry),
            from: device(from),
            added: added_devices,
            removed,
            members: created,
            parted: vec![],
            joined,
        }];
        changes.extend(added.iter().map(|n| Committed::Welcome {
            device: device(*n),
            welcome: Arc::new(Welcome {
                conversation: conversation(id),
                kind: ConversationKind::GROUP,
                seq: entry.seq,
                hash: [0; 32],
                welcome: vec![1],
                members: members.clone(),
                epoch: 1,
            }),
        }));
        self.fanout.committed(changes);
        for (n, phone) in &self.phones {
            let heard = std::mem::take(&mut *phone.heard.0.lock().unwrap());
            if phone.loading.is_none() {
                let must = expected.contains(n) && !added.contains(n);
                assert_eq!(heard, if must { vec![entry.seq] } else { vec![] }, "device {n}, conversation {id}");
            } else {
                assert!(heard.len() <= 1, "nothing is pushed twice");
            }
        }
    }

    fn step(&mut self, what: u8, id: u8, who: u8, other: u8) {
        let known = self.talks.get(&id);
        let inside = known.is_some_and(|talk| talk.inside.contains(&who));
        let member = |n: u8| known.is_some_and(|talk| talk.members.contains(&account(n / 2)));
        let (joins, other_inside) = (member(who), known.is_some_and(|talk| talk.inside.contains(&other)));
        match what {
            0 | 1 => self.come(who),
            2 | 3 => self.loaded(who),
            4 => self.go(who),
            5 if known.is_none() => {
                let members: BTreeSet<AccountId> = [account(who / 2), account(other / 2)].into();
                let added: &[u8] = if who == other { &[] } else { &[other] };
                self.commit(id, who, added, &[], Some(members.into_iter().collect()), true);
            }
            6 if inside && who != other && member(other) && !other_inside => self.commit(id, who, &[other], &[], None, false),
            7 if inside && who != other && other_inside => self.commit(id, who, &[], &[other], None, false),
            8 if joins => self.commit(id, who, &[], &[], None, true),
            _ if inside => self.commit(id, who, &[], &[], None, false),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_loaded_device_hears_of_its_conversations_and_nothing_is_left_behind(
        steps in prop::collection::vec((0..12u8, 0..CONVERSATIONS, 0..2 * ACCOUNTS, 0..2 * ACCOUNTS), 0..200),
    ) {
        let mut model = Model::default();
        for (what, id, who, other) in steps {
            model.step(what, id, who, other);
        }
        for n in 0..2 * ACCOUNTS {
            model.go(n);
        }
        prop_assert!(model.fanout.registry().is_empty());
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Bytes>>);

impl Sink for Kept {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        assert_eq!(name, Welcome::NAME);
        self.0.lock().unwrap().push(content);
        Ok(())
    }

    fn close(&self, _: Code, _: &str) {}
}

#[test]
fn a_welcome_is_encoded_once_for_all_whom_a_commit_adds() {
    let fanout = Fanout::new();
    let kept = Arc::new(Kept::default());
    for n in 0..4 {
        let address = AddressKey::of([10, 0, 0, 1].into());
        let session = Shared::new(n.into(), address, [0; 32], [0; 32], Arc::clone(&kept) as Arc<dyn Sink>);
        fanout.enter_device(&Arc::new(session), account(n / 2), device(n), 1);
    }
    let welcome = |n: u8| {
        Arc::new(Welcome {
            conversation: conversation(n),
            kind: ConversationKind::GROUP,
            seq: 1,
            hash: [1; 32],
            welcome: vec![n; 9],
            members: vec![account(0), account(1)],
            epoch: 1,
        })
    };
    let (first, second) = (welcome(1), welcome(2));
    let told = |n: u8, welcome: &Arc<Welcome>| Committed::Welcome { device: device(n), welcome: Arc::clone(welcome) };
    fanout.committed(vec![told(0, &first), told(9, &first), told(1, &first), told(2, &second), told(3, &second)]);
    let pushed = kept.0.lock().unwrap();
    let [a, b, c, d] = pushed.as_slice() else { panic!("{}", pushed.len()) };
    assert_eq!((a.as_ptr(), c.as_ptr()), (b.as_ptr(), d.as_ptr()), "one allocation");
    for (content, welcome) in [(a, &first), (c, &second)] {
        assert_eq!(parlour_wire::decode::<Welcome>(content).unwrap(), **welcome);
    }
}
