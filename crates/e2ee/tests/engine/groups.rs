//! Groups as they should go: members, roles, leaving, names, suites.

use parlour_e2ee::{E2eeError, GroupChange, GroupEvent, HYBRID_DEVICES, HistoryPolicy, Opened, suite_for};
use parlour_wire::{
    api::{Role, Suite},
    id::MessageId,
};

use crate::{
    room::{Room, name},
    world::message,
};

fn events(opened: &Result<Opened, E2eeError>) -> Vec<GroupEvent> {
    match opened {
        Ok(Opened::Commit { events, .. } | Opened::OwnCommit { events, .. }) => events.clone(),
        other => panic!("no commit: {other:?}"),
    }
}

#[test]
fn an_admin_changes_members_roles_name_and_history_and_all_see_the_same() {
    let mut room = Room::new(3, 4);
    let (second, newcomer) = (room.id(1), room.id(3));
    let change = GroupChange {
        add: vec![room.member(3)],
        roles: vec![(second, Role::ADMIN)],
        name: Some(name("family")),
        history: Some(HistoryPolicy::Last(20)),
        ..GroupChange::default()
    };
    let opened = room.change(0, &change).unwrap();
    for opened in &opened {
        let mut seen = events(opened);
        seen.sort_by_key(|event| format!("{event:?}"));
        let expected = [
            GroupEvent::Added(newcomer),
            GroupEvent::History(HistoryPolicy::Last(20)),
            GroupEvent::Renamed(name("family")),
            GroupEvent::Role(second, Role::ADMIN),
        ];
        assert_eq!(seen, expected);
    }
    room.check();
    let view = room.view(3);
    assert_eq!(view.name, Some(name("family")));
    assert_eq!(view.members.iter().find(|member| member.account == newcomer).map(|member| member.since), Some(2));
    // The new admin may do the same.
    let change = GroupChange { remove: vec![room.id(2)], ..GroupChange::default() };
    room.change(1, &change).unwrap();
    room.inside[2] = false;
    room.check();
}

#[test]
fn what_goes_to_the_server_says_what_changes() {
    let mut room = Room::new(2, 3);
    let change = GroupChange {
        add: vec![room.member(2)],
        roles: vec![(room.id(2), Role::ADMIN)],
        remove: vec![room.id(1)],
        name: Some(name("other")),
        ..GroupChange::default()
    };
    let pending =
        room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
    let told = pending.change.unwrap();
    assert_eq!((told.added, told.removed, told.name), (vec![room.id(2)], vec![room.id(1)], Some(name("other"))));
    assert_eq!(told.roles, [parlour_wire::api::Member { account: room.id(2), role: Role::ADMIN }]);
    assert_eq!(pending.removed, [room.clients[1].id()]);
    assert_eq!(pending.added.iter().map(|added| added.device).collect::<Vec<_>>(), [room.clients[2].id()]);
}

#[test]
fn who_is_no_admin_changes_nothing_and_the_last_admin_stays_one() {
    let mut room = Room::new(3, 3);
    let rename = GroupChange { name: Some(name("mine")), ..GroupChange::default() };
    assert_eq!(room.change(1, &rename).unwrap_err(), E2eeError::NotAdmin);
    let demote = GroupChange { roles: vec![(room.id(0), Role::MEMBER)], ..GroupChange::default() };
    assert_eq!(room.change(0, &demote).unwrap_err(), E2eeError::LastAdmin);
    let oneself = GroupChange { remove: vec![room.id(0)], ..GroupChange::default() };
    assert!(matches!(room.change(0, &oneself).unwrap_err(), E2eeError::Forbidden(_)));
    room.check();
}

#[test]
fn a_removed_member_reads_nothing_later_and_an_added_one_nothing_earlier() {
    let mut room = Room::new(3, 4);
    let before = room.server.say(&mut room.clients[0], b"before");
    room.spread(&before);
    let change = GroupChange { add: vec![room.member(3)], remove: vec![room.id(2)], ..GroupChange::default() };
    room.change(0, &change).unwrap();
    let after = room.server.say(&mut room.clients[0], b"after");
    let pinned = room.lists();
    assert!(room.clients[2].open(&after, &pinned).is_err());
    assert_eq!(room.clients[3].open(&before, &pinned), Err(E2eeError::BeforeJoin));
    assert_eq!(room.clients[3].open(&after, &pinned), Ok(message(&room.clients[0], b"after")));
    let sent =
        room.step(2, |engine, rows, conversation, _| engine.encrypt(rows, conversation, MessageId([1; 16]), b"still here"));
    assert_eq!(sent.unwrap_err(), E2eeError::Removed);
}

#[test]
fn nothing_is_encrypted_to_who_has_left_and_anybody_sweeps() {
    let mut room = Room::new(3, 3);
    let entry = room.leave(2);
    let leaver = room.id(2);
    for opened in room.spread(&entry) {
        assert_eq!(opened, Ok(Opened::Left { account: leaver }));
    }
    room.inside[2] = false;
    assert_eq!(room.view(1).left, [leaver]);
    let sent = room.step(1, |engine, rows, conversation, _| engine.encrypt(rows, conversation, MessageId([1; 16]), b"secret"));
    assert_eq!(sent.unwrap_err(), E2eeError::RevokedDevice { account: leaver, device: room.clients[2].id() });
    let drift = room.step(1, |engine, rows, conversation, pinned| engine.compare_devices(rows, conversation, pinned)).unwrap();
    assert_eq!((drift.left, drift.missing, drift.revoked), (vec![leaver], vec![], vec![]));
    let pending = room.step(1, |engine, rows, conversation, pinned| engine.update(rows, conversation, pinned)).unwrap();
    assert_eq!((&pending.change, &pending.removed), (&None, &vec![]), "the server has done it already");
    for opened in room.accept(&pending) {
        assert_eq!(events(&opened), [GroupEvent::Left(leaver)]);
    }
    room.check();
    assert!(room.view(0).left.is_empty());
}

#[test]
fn the_member_that_has_been_in_longest_succeeds_the_last_admin() {
    let mut room = Room::new(2, 4);
    for at in [2, 3] {
        let change = GroupChange { add: vec![room.member(at)], ..GroupChange::default() };
        room.change(0, &change).unwrap();
    }
    let entry = room.leave(0);
    room.spread(&entry);
    room.inside[0] = false;
    // The successor acts as admin with the very commit that makes it one.
    let successor = room.id(1);
    let rename = GroupChange { name: Some(name("theirs")), ..GroupChange::default() };
    assert_eq!(room.change(3, &rename).unwrap_err(), E2eeError::NotAdmin);
    let opened = room.change(1, &rename).unwrap();
    let expected = [GroupEvent::Left(room.id(0)), GroupEvent::Role(successor, Role::ADMIN), GroupEvent::Renamed(name("theirs"))];
    assert_eq!(events(&opened[0]), expected);
    assert_eq!(room.admins(3), [successor]);
    room.check();
    // And again, with a sweep by somebody who is no admin.
    let entry = room.leave(1);
    room.spread(&entry);
    room.inside[1] = false;
    room.update(3);
    assert_eq!(room.admins(3), [room.id(2)]);
    room.check();
}

#[test]
fn who_came_after_the_farewell_accepts_the_sweep() {
    let mut room = Room::new(3, 4);
    // The admin adds somebody before it has read that another one leaves.
    let change = GroupChange { add: vec![room.member(3)], ..GroupChange::default() };
    let pending =
        room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
    let entry = room.leave(2);
    room.spread(&entry);
    room.inside[2] = false;
    room.accept(&pending);
    assert!(room.view(3).left.is_empty(), "the newcomer has not seen it");
    room.update(1);
    room.check();
}

#[test]
fn who_came_after_the_farewell_can_be_told_of_it() {
    let mut room = Room::new(4, 5);
    let mut forged = room.leave(3).payload;
    *forged.last_mut().unwrap() ^= 1;
    let change = GroupChange { add: vec![room.member(4)], ..GroupChange::default() };
    let pending =
        room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
    let entry = room.leave(2);
    room.spread(&entry);
    room.inside[2] = false;
    room.accept(&pending);
    let elsewhere = Room::new(2, 2).leave(1).payload;
    let recall = |room: &mut Room, statements: &[&[u8]]| {
        room.step(4, |engine, rows, conversation, _| engine.recall_leaves(rows, conversation, statements)).unwrap()
    };
    assert_eq!(recall(&mut room, &[&forged, &elsewhere, &[], &[0xFF; 512], &[0xA0; 5000]]), [], "lies");
    assert_eq!(recall(&mut room, &[&forged, &entry.payload, &entry.payload]), [room.id(2)]);
    assert_eq!(recall(&mut room, &[&entry.payload]), [], "known");
    assert_eq!(room.view(4).left, [room.id(2)]);
    // Its next commit takes the account out, and the others find that right.
    room.update(4);
    assert!(room.view(1).members.iter().all(|member| member.account != room.id(2)));
    assert_eq!(recall(&mut room, &[&entry.payload]), [], "of a stay that is over");
    room.check();
}

#[test]
fn a_farewell_is_good_for_one_stay_only() {
    let mut room = Room::new(3, 3);
    let farewell = room.leave(2);
    room.spread(&farewell);
    room.inside[2] = false;
    // Swept and brought back in one commit.
    let change = GroupChange { add: vec![room.member(2)], ..GroupChange::default() };
    let opened = room.change(0, &change).unwrap();
    let account = room.id(2);
    assert_eq!(events(&opened[1]), [GroupEvent::Left(account), GroupEvent::Added(account)]);
    room.check();
    let replayed = room.server.leave(&farewell.payload);
    for opened in room.spread(&replayed) {
        let why = E2eeError::Forbidden("an old leave statement, or one of another group");
        assert_eq!(opened, Ok(Opened::Void { committer: None, why }));
    }
    room.check();
}

#[test]
fn nobody_leaves_for_another_nor_with_a_forged_statement() {
    let mut room = Room::new(3, 3);
    let mut other = Room::new(2, 2);
    let mut forged = room.leave(2).payload;
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = other.leave(1).payload;
    for payload in [forged, elsewhere, vec![], vec![0xFF; 512], vec![0xA0; 5000]] {
        let entry = room.server.leave(&payload);
        for opened in room.spread(&entry) {
            assert!(matches!(opened, Ok(Opened::Void { committer: None, .. })), "{opened:?}");
        }
    }
    room.check();
}

#[test]
fn the_suite_follows_from_the_number_of_devices() {
    assert_eq!((suite_for(2), suite_for(HYBRID_DEVICES)), (Suite::HYBRID, Suite::HYBRID));
    assert_eq!((suite_for(HYBRID_DEVICES + 1), suite_for(1000)), (Suite::CLASSICAL, Suite::CLASSICAL));
    let mut room = Room::of_suite(Suite::CLASSICAL, 3, 3);
    assert_eq!(room.view(1).suite, Suite::CLASSICAL);
    room.check();
    // A package of the other suite is not taken.
    room.suite = Suite::HYBRID;
    let add = room.member(1);
    let pending = room.step(0, |engine, rows, conversation, pinned| engine.add_devices(rows, conversation, &[add], pinned));
    assert_eq!(pending.unwrap_err(), E2eeError::Malformed("key package"));
}

#[test]
fn a_hybrid_group_that_is_full_goes_on_in_the_classical_suite() {
    let mut room = Room::new(HYBRID_DEVICES, HYBRID_DEVICES + 1);
    let change = GroupChange { add: vec![room.member(HYBRID_DEVICES)], ..GroupChange::default() };
    assert_eq!(room.change(0, &change).unwrap_err(), E2eeError::GroupFull);
    refound(&mut room, 0);
    let change = GroupChange { add: vec![room.member(HYBRID_DEVICES)], ..GroupChange::default() };
    room.change(0, &change).unwrap();
    assert_eq!(room.view(HYBRID_DEVICES).members.len(), HYBRID_DEVICES + 1);
    let said = room.server.say(&mut room.clients[HYBRID_DEVICES], b"hello, all");
    let read = message(&room.clients[HYBRID_DEVICES], b"hello, all");
    assert_eq!(room.spread(&said).into_iter().filter(|opened| *opened == Ok(read.clone())).count(), HYBRID_DEVICES);
}

/// Founds a group anew in the classical suite.
fn refound(room: &mut Room, at: usize) {
    room.suite = Suite::CLASSICAL;
    let others: Vec<usize> = (0..room.clients.len()).filter(|other| *other != at && room.inside[*other]).collect();
    let members: Vec<_> = others.iter().map(|other| room.member(*other)).collect();
    let pending =
        room.step(at, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    assert_eq!(pending.removed.len(), others.len());
    for opened in room.accept(&pending) {
        assert_eq!(events(&opened), [GroupEvent::Refounded(Suite::CLASSICAL)]);
    }
}

#[test]
fn a_group_founded_anew_keeps_its_members_roles_and_name() {
    let mut room = Room::new(4, 4);
    let change = GroupChange { roles: vec![(room.id(1), Role::ADMIN)], ..GroupChange::default() };
    room.change(0, &change).unwrap();
    let before = room.view(0);
    let farewell = room.leave(3);
    room.spread(&farewell);
    room.inside[3] = false;
    assert_eq!(
        room.step(2, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &[])).unwrap_err(),
        E2eeError::NotAdmin
    );
    refound(&mut room, 1);
    room.check();
    let after = room.view(2);
    assert_eq!((after.suite, &after.name, after.epoch), (Suite::CLASSICAL, &before.name, before.epoch + 1));
    let stayed: Vec<_> = before.members.into_iter().filter(|member| member.account != room.id(3)).collect();
    assert_eq!(after.members, stayed);
    room.update(2);
    room.check();
}

#[test]
fn who_has_no_welcome_into_the_new_group_joins_it_by_external_commit() {
    let mut room = Room::new(3, 3);
    room.suite = Suite::CLASSICAL;
    let members = [room.member(1)];
    let pending =
        room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    room.accept(&pending);
    let early = room.step(2, |engine, rows, conversation, _| engine.encrypt(rows, conversation, MessageId([1; 16]), b"early"));
    assert_eq!(early.unwrap_err(), E2eeError::NoConversation);
    let (info, home, key) = room.server.to_join();
    let join = room
        .step(2, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, &info, home, &key, pinned))
        .unwrap();
    room.accept(&join);
    room.check();
}

#[test]
fn a_bad_key_package_keeps_no_group_from_being_founded_anew() {
    let mut room = Room::new(4, 4);
    room.suite = Suite::CLASSICAL;
    let (mut garbage, mut foreign) = (room.member(2), room.member(3));
    garbage.packages[0].package = vec![1, 2, 3];
    foreign.packages[0].package = room.member(1).packages[0].package.clone();
    let members = [garbage, room.member(1), foreign];
    let pending =
        room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    let devices: Vec<_> = pending.added.iter().map(|added| added.device).collect();
    assert_eq!((pending.added.len(), pending.added[0].account), (1, room.id(1)));
    assert_eq!(pending.removed, devices, "whoever has no way in yet is not taken out at the server");
    room.accept(&pending);
    for outside in [2, 3] {
        let (info, home, key) = room.server.to_join();
        let join = room
            .step(outside, |engine, rows, conversation, pinned| {
                engine.join_external(rows, conversation, &info, home, &key, pinned)
            })
            .unwrap();
        room.accept(&join);
    }
    room.check();
}

#[test]
fn a_founding_that_loses_the_race_leaves_the_group_as_it_was() {
    let mut room = Room::new(3, 3);
    room.suite = Suite::CLASSICAL;
    let members = [room.member(1), room.member(2)];
    room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    room.update(1);
    room.check();
    room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    room.step(0, |engine, rows, conversation, _| engine.abandon(rows, conversation, 2)).unwrap();
    room.check();
    room.update(0);
    room.check();
}

#[test]
fn another_welcome_than_the_announced_one_leads_nowhere() {
    let mut room = Room::new(3, 3);
    room.suite = Suite::CLASSICAL;
    let members = [room.member(1), room.member(2)];
    let first =
        room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    room.step(0, |engine, rows, conversation, _| engine.abandon(rows, conversation, 1)).unwrap();
    let members = [room.member(1), room.member(2)];
    let second =
        room.step(0, |engine, rows, conversation, _| engine.refound(rows, conversation, Suite::CLASSICAL, &members)).unwrap();
    let entry = room.server.accept(&second);
    room.spread(&entry);
    let mut welcome = room.server.welcome.clone().unwrap();
    let pinned = room.lists();
    welcome.welcome = first.welcome.unwrap();
    assert_eq!(room.clients[1].join(&welcome, &pinned), Err(E2eeError::WrongConversation));
    let good = room.server.welcome.clone().unwrap();
    assert_eq!(room.clients[1].join(&good, &pinned), Ok(2));
}

#[test]
fn a_signal_is_read_by_members_of_the_same_epoch_only() {
    let mut room = Room::new(3, 4);
    let conversation = room.conversation();
    let seal = |room: &mut Room, at: usize| {
        let client = &mut room.clients[at];
        client.engine.seal_signal(&client.disk, &conversation, b"typing")
    };
    let open = |room: &mut Room, at: usize, bytes: &[u8]| {
        let client = &mut room.clients[at];
        client.engine.open_signal(&client.disk, &conversation, bytes)
    };
    let bytes = seal(&mut room, 0).unwrap();
    let leaf = (room.id(0), room.clients[0].id());
    assert_eq!(open(&mut room, 1, &bytes), Ok((leaf, b"typing".to_vec())));
    assert_eq!(open(&mut room, 3, &bytes), Err(E2eeError::NoConversation));
    for at in 0..bytes.len() {
        let mut garbled = bytes.clone();
        garbled[at] ^= 1;
        assert_eq!(open(&mut room, 1, &garbled), Err(E2eeError::Undecryptable), "byte {at}");
        assert_eq!(open(&mut room, 1, &bytes[..at]), Err(E2eeError::Undecryptable), "cut at {at}");
    }
    room.update(1);
    assert_eq!(open(&mut room, 1, &bytes), Err(E2eeError::Undecryptable));
    let change = GroupChange { remove: vec![room.id(2)], ..GroupChange::default() };
    room.change(0, &change).unwrap();
    let bytes = seal(&mut room, 0).unwrap();
    assert!(open(&mut room, 2, &bytes).is_err());
    assert!(seal(&mut room, 2).is_err());
}
