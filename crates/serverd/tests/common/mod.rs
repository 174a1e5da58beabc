//! A store with two accounts that write to each other, for tests below the service.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use parlour_server::store::{
    Account, Append, CommitWrite, Committed, ListedDevice, Observer, Store, StoreError, Write, Written, suite::block_on,
};
use parlour_serverd::sqlite::SqliteStore;
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{Added, ConversationKind, Create, Cursor},
    log::Entry,
    name::Name,
};

/// Hears nothing.
pub(crate) struct Deaf;

impl Observer for Deaf {
    fn committed(&self, _: Vec<Committed>) {}
}

pub(crate) fn deaf() -> Arc<dyn Observer> {
    Arc::new(Deaf)
}

pub(crate) fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

pub(crate) fn device(n: u8) -> DeviceId {
    DeviceId([n; 16])
}

pub(crate) fn conversation(n: u16) -> ConversationId {
    let mut id = [5; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    ConversationId(id)
}

pub(crate) fn message(n: u64) -> MessageId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    MessageId(id)
}

/// Accounts 1 and 2 with a device each, and so many conversations between them. Does nothing where that is there already.
pub(crate) fn furnish(store: &SqliteStore, conversations: u16) {
    for n in [1, 2] {
        let write = Write::CreateAccount {
            account: Account {
                id: account(n),
                name: Name::parse(&format!("user{n}")).expect("a name"),
                record: vec![n; 192],
                wrapped_root: vec![n; 72],
                device_list: vec![n],
                list_version: 1,
                disabled: false,
                seen_ms: 0,
            },
            devices: vec![ListedDevice { id: device(n), signature_key: [n; 32] }],
            invite: None,
            now_ms: 0,
        };
        let _created_or_there = block_on(store.apply(write)).expect("the disk works");
    }
    let made: Vec<_> = (0..conversations).map(|n| store.apply(Write::Commit(Box::new(creation(n))))).collect();
    for future in made {
        block_on(future).expect("the disk works").expect("stored, also if it was before");
    }
}

fn creation(n: u16) -> CommitWrite {
    CommitWrite {
        conversation: conversation(n),
        account: account(1),
        device: device(1),
        id: message(u64::MAX - u64::from(n)),
        parent_epoch: 0,
        create: Some(Create { kind: ConversationKind::GROUP, members: vec![account(1), account(2)], name: None }),
        change: None,
        commit: vec![7; 300],
        receipt: [9; 64],
        welcome: Some(vec![8; 300]),
        added: vec![Added { account: account(2), device: device(2) }],
        removed: vec![],
        group_info: vec![6; 300],
        external: false,
        now_ms: 1,
    }
}

pub(crate) fn append(conversation_number: u16, id: u64, bytes: usize) -> Write {
    Write::Append(Append {
        conversation: conversation(conversation_number),
        device: device(1),
        id: message(id),
        epoch: 1,
        payload: vec![7; bytes],
        blobs: vec![],
        now_ms: 2,
    })
}

/// The number of the entry that was stored.
pub(crate) fn seq(answer: Result<Result<Written, parlour_server::store::Refusal>, StoreError>) -> Result<u64, StoreError> {
    match answer? {
        Ok(Written::Stored { stored, .. }) => Ok(stored.seq),
        other => panic!("not stored: {other:?}"),
    }
}

/// The whole log after its first entry, checked: no gaps, every entry has the hash of the one before.
pub(crate) fn read_log(store: &SqliteStore, number: u16) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = block_on(store.log(conversation(number), device(2), after, 1000)).expect("the disk works").expect("a member");
        if page.entries.is_empty() {
            assert_eq!(page.head, entries.last().map_or(page.head, |entry| entry.seq));
            return entries;
        }
        for entry in page.entries {
            if let Some(previous) = entries.last() {
                assert_eq!(entry.seq, previous.seq + 1, "a gap in the log");
                assert_eq!(entry.previous, previous.hash(), "the chain is broken at {}", entry.seq);
            }
            entries.push(entry);
        }
    }
}

/// Everybody has taken a log up to its end.
pub(crate) fn take_all(store: &SqliteStore, number: u16) {
    for n in [1, 2] {
        let cursors = vec![Cursor { conversation: conversation(number), seq: u64::MAX }];
        block_on(store.apply(Write::MoveCursors { device: device(n), cursors })).expect("the disk works").expect("never refused");
    }
}
