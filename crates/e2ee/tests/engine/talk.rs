//! Conversations that go well.

use parlour_e2ee::{Drift, E2eeError, Member, Opened};
use parlour_wire::{api::Added, id::MessageId};

use crate::world::{Pair, lists, message};

#[test]
fn two_devices_talk_both_ways() {
    let mut pair = Pair::new(1, 1);
    let pinned = pair.lists();
    for round in 0..3_u8 {
        let entry = pair.server.say(&mut pair.a[0], &[b'a', round]);
        assert_eq!(pair.b[0].open(&entry, &pinned), Ok(message(&pair.a[0], &[b'a', round])));
        assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::Own));
        let entry = pair.server.say(&mut pair.b[0], &[b'b', round]);
        assert_eq!(pair.a[0].open(&entry, &pinned), Ok(message(&pair.b[0], &[b'b', round])));
    }
}

#[test]
fn four_devices_of_two_accounts_all_read_each_other() {
    let mut pair = Pair::new(2, 2);
    let pinned = pair.lists();
    let from_alice = pair.server.say(&mut pair.a[1], b"from the second");
    let from_bob = pair.server.say(&mut pair.b[0], b"from bob");
    for reader in [0, 1] {
        assert_eq!(pair.b[reader].open(&from_alice, &pinned), Ok(message(&pair.a[1], b"from the second")));
        assert_eq!(pair.a[reader].open(&from_bob, &pinned), Ok(message(&pair.b[0], b"from bob")));
    }
    assert_eq!(pair.a[0].open(&from_alice, &pinned), Ok(message(&pair.a[1], b"from the second")));
    let conversation = pair.conversation();
    let a = &mut pair.a[0];
    assert_eq!(a.engine.members(&a.disk, &conversation).unwrap().len(), 4);
}

#[test]
fn ciphertexts_of_short_messages_have_one_length() {
    let mut pair = Pair::new(1, 1);
    let lengths: Vec<_> = [1, 10, 60].map(|length| pair.server.say(&mut pair.a[0], &vec![b'x'; length]).payload.len()).to_vec();
    assert_eq!(lengths[0], lengths[1]);
    assert_eq!(lengths[1], lengths[2]);
}

#[test]
fn a_new_device_joins_by_external_commit_and_then_all_read() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let mut second = pair.bob.device();
    let pinned = pair.lists();
    let (info, home, key) = pair.server.to_join();
    let pending = second.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned)).unwrap();
    assert!(pending.external && pending.welcome.is_none());
    let refused = second.engine.encrypt(&second.disk, &conversation, MessageId([1; 16]), b"too early");
    assert_eq!(refused.unwrap_err(), E2eeError::AwaitingReceipt);
    let entry = pair.server.accept(&pending);
    assert_eq!(second.open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 2, events: vec![] }));
    let leaf = (second.account(), second.id());
    for old in [&mut pair.a[0], &mut pair.b[0]] {
        let opened = old.open(&entry, &pinned);
        assert_eq!(opened, Ok(Opened::Commit { epoch: 2, committer: leaf, added: vec![leaf], removed: vec![], events: vec![] }));
    }
    let hello = pair.server.say(&mut second, b"hello from a new device");
    let answer = pair.server.say(&mut pair.a[0], b"welcome");
    assert_eq!(pair.a[0].open(&hello, &pinned), Ok(message(&second, b"hello from a new device")));
    assert_eq!(pair.b[0].open(&hello, &pinned), Ok(message(&second, b"hello from a new device")));
    assert_eq!(pair.b[0].open(&answer, &pinned), Ok(message(&pair.a[0], b"welcome")));
    assert_eq!(second.open(&answer, &pinned), Ok(message(&pair.a[0], b"welcome")));
}

#[test]
fn a_device_that_lost_its_rows_joins_again_in_its_own_place() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let b = &mut pair.b[0];
    b.disk = crate::world::Disk::default();
    b.restart();
    let (info, home, key) = pair.server.to_join();
    let pending = b.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned)).unwrap();
    let entry = pair.server.accept(&pending);
    assert_eq!(b.open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 2, events: vec![] }));
    let leaf = (pair.b[0].account(), pair.b[0].id());
    let opened = pair.a[0].open(&entry, &pinned);
    assert_eq!(opened, Ok(Opened::Commit { epoch: 2, committer: leaf, added: vec![leaf], removed: vec![], events: vec![] }));
    let a = &mut pair.a[0];
    assert_eq!(a.engine.members(&a.disk, &conversation).unwrap().len(), 2);
    let entry = pair.server.say(&mut pair.b[0], b"back");
    assert_eq!(pair.a[0].open(&entry, &pinned), Ok(message(&pair.b[0], b"back")));
}

#[test]
fn a_device_is_added_by_welcome_and_removed_after_revocation() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let mut second = pair.bob.device();
    let pinned = pair.lists();
    let leaf = (second.account(), second.id());
    let drift = pair.a[0].step(|engine, rows| engine.compare_devices(rows, &conversation, &pinned)).unwrap();
    assert_eq!(drift, Drift { missing: vec![leaf], ..Drift::default() });

    let add = Member { list: pair.bob.list(), packages: vec![second.package()] };
    let pending = pair.a[0].step(|engine, rows| engine.add_devices(rows, &conversation, &[add], &pinned)).unwrap();
    assert_eq!(pending.added, vec![Added { account: leaf.0, device: leaf.1 }]);
    let entry = pair.server.accept(&pending);
    assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 2, events: vec![] }));
    assert!(matches!(pair.b[0].open(&entry, &pinned), Ok(Opened::Commit { added, .. }) if added == vec![leaf]));
    assert_eq!(second.join(&pair.server.welcome.clone().unwrap(), &pinned), Ok(2));

    pair.bob.revoke(&leaf.1);
    let pinned = pair.lists();
    let drift = pair.a[0].step(|engine, rows| engine.compare_devices(rows, &conversation, &pinned)).unwrap();
    assert_eq!(drift.revoked, vec![leaf]);
    let refused = pair.a[0].step(|engine, rows| engine.encrypt(rows, &conversation, MessageId([1; 16]), b"secret"));
    assert_eq!(refused.unwrap_err(), E2eeError::RevokedDevice { account: leaf.0, device: leaf.1 });

    let pending = pair.a[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[leaf.1], &pinned)).unwrap();
    let entry = pair.server.accept(&pending);
    assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 3, events: vec![] }));
    assert!(matches!(pair.b[0].open(&entry, &pinned), Ok(Opened::Commit { removed, .. }) if removed == vec![leaf]));
    assert!(matches!(second.open(&entry, &pinned), Ok(Opened::Commit { removed, .. }) if removed == vec![leaf]));
    let secret = pair.server.say(&mut pair.a[0], b"secret");
    assert_eq!(pair.b[0].open(&secret, &pinned), Ok(message(&pair.a[0], b"secret")));
    assert!(second.open(&secret, &pinned).is_err());
    let gone = second.step(|engine, rows| engine.encrypt(rows, &conversation, MessageId([2; 16]), b"still here?"));
    assert_eq!(gone.unwrap_err(), E2eeError::Removed);
}

#[test]
fn the_loser_of_a_race_abandons_and_follows_the_winner() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let winner = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let loser = pair.b[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&winner);
    let id = pair.server.next_id();
    assert!(pair.server.commit(id, &loser).is_err());
    pair.b[0].step(|engine, rows| engine.abandon(rows, &conversation, 1)).unwrap();
    assert!(matches!(pair.b[0].open(&entry, &pinned), Ok(Opened::Commit { epoch: 2, .. })));
    assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 2, events: vec![] }));
    let again = pair.b[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&again);
    assert_eq!(pair.b[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 3, events: vec![] }));
    assert!(matches!(pair.a[0].open(&entry, &pinned), Ok(Opened::Commit { epoch: 3, .. })));
}

#[test]
fn the_winner_also_clears_a_commit_that_nobody_abandoned() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let winner = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    pair.b[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&winner);
    assert!(matches!(pair.b[0].open(&entry, &pinned), Ok(Opened::Commit { epoch: 2, .. })));
    let b = &mut pair.b[0];
    assert_eq!(b.engine.pending(&b.disk, &conversation), Ok(None));
}

#[test]
fn two_who_create_at_once_meet_in_one_conversation() {
    use crate::world::{Account, Server};
    let (mut alice, mut bob) = (Account::new(), Account::new());
    let (mut a, mut b) = (alice.device(), bob.device());
    let mut server = Server::new(&alice.id(), &bob.id());
    let pinned = lists(&[&alice, &bob]);
    let for_bob = server.new_conversation(vec![Member { list: bob.list(), packages: vec![b.package()] }]);
    let for_alice = server.new_conversation(vec![Member { list: alice.list(), packages: vec![a.package()] }]);
    let winner = a.step(|engine, rows| engine.create(rows, &for_bob)).unwrap();
    let loser = b.step(|engine, rows| engine.create(rows, &for_alice)).unwrap();
    let entry = server.accept(&winner);
    let id = server.next_id();
    assert!(server.commit(id, &loser).is_err());
    a.open(&entry, &pinned).unwrap();
    // Whether or not the loser has given up, the welcome takes the place of what it was making.
    assert_eq!(b.join(&server.welcome.clone().unwrap(), &pinned), Ok(1));
    let entry = server.say(&mut b, b"hello");
    assert_eq!(a.open(&entry, &pinned), Ok(message(&b, b"hello")));
}

#[test]
fn messages_of_the_epoch_window_are_still_read() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let late: Vec<_> = (0..2).map(|i| pair.server.say(&mut pair.b[0], &[i])).collect();
    for epoch in 2..=4 {
        let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
        let entry = pair.server.accept(&pending);
        assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch, events: vec![] }));
        pair.b[0].open(&entry, &pinned).unwrap();
    }
    assert_eq!(pair.a[0].open(&late[0], &pinned), Ok(message(&pair.b[0], &[0])));
    let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&pending);
    pair.a[0].open(&entry, &pinned).unwrap();
    assert_eq!(pair.a[0].open(&late[1], &pinned), Err(E2eeError::Undecryptable));
}

#[test]
fn a_device_alone_talks_to_itself() {
    use crate::world::{Account, Server};
    let mut alice = Account::new();
    let mut a = alice.device();
    let mut server = Server::new(&alice.id(), &alice.id());
    let pinned = lists(&[&alice]);
    let new = server.new_conversation(vec![]);
    let pending = a.step(|engine, rows| engine.create(rows, &new)).unwrap();
    let entry = server.accept(&pending);
    assert_eq!(a.open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 1, events: vec![] }));
    let mut second = alice.device();
    let pinned = lists(&[&alice]);
    let conversation = server.conversation;
    let (info, home, key) = server.to_join();
    let pending = second.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned)).unwrap();
    let entry = server.accept(&pending);
    second.open(&entry, &pinned).unwrap();
    a.open(&entry, &pinned).unwrap();
    let note = server.say(&mut a, b"note to self");
    assert_eq!(second.open(&note, &pinned), Ok(message(&a, b"note to self")));
}
