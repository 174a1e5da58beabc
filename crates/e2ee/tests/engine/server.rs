//! A server that cheats: it withholds, doubles, reorders and replays entries, forks the log, and hands out what is not asked for. Each is
//! noticed, or does no harm.

use parlour_e2ee::{E2eeError, GroupChange, Member, Opened, Place};
use parlour_wire::{
    id::MessageId,
    log::{Entry, EntryKind},
};

use crate::{room::Room, world::message};

fn update(room: &mut Room, at: usize) -> parlour_e2ee::PendingCommit {
    room.step(at, |engine, rows, conversation, pinned| engine.update(rows, conversation, pinned)).unwrap()
}

#[test]
fn a_withheld_removal_is_noticed_with_the_next_entry() {
    let mut room = Room::new(3, 3);
    let change = GroupChange { remove: vec![room.id(2)], ..GroupChange::default() };
    let pending =
        room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
    let removal = room.server.accept(&pending);
    let pinned = room.lists();
    room.clients[0].open(&removal, &pinned).unwrap();
    let said = room.server.say(&mut room.clients[0], b"without her");
    assert_eq!(room.clients[1].open(&said, &pinned), Err(E2eeError::WrongEpoch { current: 1, entry: 2 }));
    let next = update(&mut room, 0);
    let next = room.server.accept(&next);
    assert_eq!(room.clients[1].open(&next, &pinned), Err(E2eeError::WrongEpoch { current: 1, entry: 2 }));
    assert!(matches!(room.clients[1].open(&removal, &pinned), Ok(Opened::Commit { .. })));
    assert_eq!(room.clients[1].open(&said, &pinned), Ok(message(&room.clients[0], b"without her")));
}

#[test]
fn a_commit_shown_again_changes_nothing() {
    let mut room = Room::new(3, 3);
    let pending = update(&mut room, 0);
    let entry = room.server.accept(&pending);
    room.spread(&entry);
    for _ in 0..3 {
        room.update(1);
    }
    for opened in room.spread(&entry) {
        assert_eq!(opened, Err(E2eeError::Duplicate));
    }
    room.check();
}

#[test]
fn a_server_that_signs_two_commits_for_one_epoch_is_found_out() {
    let mut room = Room::new(3, 3);
    let (ours, theirs) = (update(&mut room, 0), update(&mut room, 1));
    let fork = |room: &Room, commit: &[u8]| Entry {
        conversation: room.conversation(),
        seq: 2,
        previous: [0; 32],
        id: MessageId([1; 16]),
        kind: EntryKind::COMMIT,
        stored_ms: 0,
        payload: commit.to_vec(),
        receipt: Some(room.server.receipt(1, commit)),
    };
    let (left, right) = (fork(&room, &ours.commit), fork(&room, &theirs.commit));
    let pinned = room.lists();
    room.clients[0].open(&left, &pinned).unwrap();
    room.clients[1].open(&right, &pinned).unwrap();
    room.clients[2].open(&left, &pinned).unwrap();
    // Whoever comes to see the other side knows.
    assert_eq!(room.clients[0].open(&right, &pinned), Err(E2eeError::Forked));
    assert_eq!(room.clients[1].open(&left, &pinned), Err(E2eeError::Forked));
    assert_eq!(room.clients[2].open(&right, &pinned), Err(E2eeError::Forked));
    room.clients[2].restart();
    assert_eq!(room.clients[2].open(&right, &pinned), Err(E2eeError::Forked));
    assert_eq!(room.clients[2].open(&left, &pinned), Err(E2eeError::Duplicate));
}

#[test]
fn messages_in_any_order_are_read_once_each() {
    let mut room = Room::new(2, 2);
    let mut entries: Vec<_> = (0..20_u8).map(|n| room.server.say(&mut room.clients[0], &[n])).collect();
    entries.reverse();
    let pinned = room.lists();
    for entry in &entries {
        assert!(matches!(room.clients[1].open(entry, &pinned), Ok(Opened::Message { .. })));
        assert_eq!(room.clients[1].open(entry, &pinned), Err(E2eeError::AlreadyRead));
    }
}

#[test]
fn a_package_of_another_account_or_of_an_unlisted_device_adds_nobody() {
    let mut room = Room::new(2, 4);
    let foreign = room.clients[3].package();
    let swapped = Member { list: room.accounts[2].list(), packages: vec![foreign] };
    let change = GroupChange { add: vec![swapped], ..GroupChange::default() };
    assert!(room.change(0, &change).is_err());
    let mut planted = room.accounts[2].unlisted_device();
    let unlisted = Member { list: room.accounts[2].list(), packages: vec![planted.package()] };
    let change = GroupChange { add: vec![unlisted], ..GroupChange::default() };
    assert_eq!(room.change(0, &change).unwrap_err(), E2eeError::UnknownDevice { account: room.id(2) });
    room.check();
}

#[test]
fn a_group_info_of_another_server_or_of_the_past_is_not_joined() {
    let mut room = Room::new(2, 2);
    let (old_info, _, key) = room.server.to_join();
    room.update(0);
    room.update(1);
    let (info, home, _) = room.server.to_join();
    let mut join = |info: &[u8], home: u64, key: [u8; 32]| {
        room.step(1, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, info, home, &key, pinned))
    };
    assert_eq!(join(&info, home, [7; 32]).unwrap_err(), E2eeError::BadReceipt);
    assert_eq!(join(&old_info, 1, key).unwrap_err(), E2eeError::WrongEpoch { current: 3, entry: 1 });
    assert_eq!(join(&info, 1, key).unwrap_err(), E2eeError::Malformed("group info"));
    assert_eq!(join(&info, u64::MAX, key).unwrap_err(), E2eeError::Malformed("group info"));
    assert!(join(&info, home, key).is_ok());
}

#[test]
fn an_unlisted_device_that_joins_is_asked_about_and_then_passed_over() {
    let mut room = Room::new(2, 2);
    let planted = room.accounts[1].unlisted_device();
    // Only its own view says that it is listed.
    let listed = room.accounts[1].key.add_device(&room.accounts[1].list(), &planted.certificate, 9).unwrap();
    let mut believed = room.lists();
    believed.insert(listed.account(), listed);
    room.clients.push(planted);
    room.inside.push(false);
    let (info, home, key) = room.server.to_join();
    let conversation = room.conversation();
    let pending =
        room.clients[2].step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &believed)).unwrap();
    let entry = room.server.accept(&pending);
    let unknown = E2eeError::UnknownDevice { account: room.id(1) };
    for at in [0, 1] {
        let pinned = room.lists();
        assert_eq!(room.clients[at].open(&entry, &pinned), Err(unknown.clone()));
        let why = unknown.clone();
        let passed = room.clients[at].step(|engine, rows| engine.pass_over(rows, &entry, why)).unwrap();
        assert!(matches!(passed, Opened::Void { .. }));
    }
    room.update(0);
    room.check();
}

#[test]
fn a_device_set_back_to_an_old_copy_notices_and_comes_back_without_losing_a_message() {
    let mut room = Room::new(2, 2);
    let copy = room.clients[1].disk.clone();
    let lost = room.server.say(&mut room.clients[1], b"said before the copy came back");
    let pinned = room.lists();
    assert_eq!(room.clients[0].open(&lost, &pinned), Ok(message(&room.clients[1], b"said before the copy came back")));
    room.update(0);
    room.clients[1].disk = copy;
    room.clients[1].restart();
    // It finds a message of its own that it does not know, so its ratchets have been used: it joins again before it sends.
    assert_eq!(room.clients[1].open(&lost, &pinned), Ok(Opened::Own));
    let (info, home, key) = room.server.to_join();
    let join = room
        .step(1, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, &info, home, &key, pinned))
        .unwrap();
    let early = room.step(1, |engine, rows, conversation, _| engine.encrypt(rows, conversation, MessageId([1; 16]), b"x"));
    assert_eq!(early.unwrap_err(), E2eeError::AwaitingReceipt);
    room.accept(&join);
    room.check();
    room.update(1);
    room.check();
}

#[test]
fn a_message_says_where_in_the_log_its_sender_was() {
    let mut room = Room::new(2, 2);
    let (id, conversation, place) = (room.server.next_id(), room.conversation(), Place::new(7, &[9; 32]));
    let sealed = room.clients[0].step(|engine, rows| engine.encrypt_at(rows, &conversation, id, &place, b"here")).unwrap();
    let entry = room.server.message(id, sealed.epoch, &sealed.payload).unwrap();
    let pinned = room.lists();
    match room.clients[1].open(&entry, &pinned) {
        Ok(Opened::Message { content, place: said, .. }) => assert_eq!((content.as_slice(), said), (&b"here"[..], Some(place))),
        other => panic!("{other:?}"),
    }
    // It is bound to the message: another one does not open.
    let again = room.server.next_id();
    let sealed = room.clients[0].step(|engine, rows| engine.encrypt_at(rows, &conversation, again, &place, b"here")).unwrap();
    let mut payload = sealed.payload;
    let at = payload.windows(16).position(|window| window == [9; 16]).expect("in the clear");
    payload[at] ^= 1;
    let entry = room.server.message(again, sealed.epoch, &payload).unwrap();
    assert_eq!(room.clients[1].open(&entry, &pinned), Err(E2eeError::Undecryptable));
}
