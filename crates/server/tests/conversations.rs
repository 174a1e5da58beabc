//! Stories of conversations: making them, writing, reading, and who may do which.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_server::{
    ServiceConfig,
    store::suite::block_on,
    throttle::{Rate, ThrottleConfig},
};
use parlour_wire::{Code, ConversationId, api, encode, limits, log, log::EntryKind, name::Name};
use support::{Link, Person, World, commit, config, direct, message, message_id};

struct Pair {
    world: World,
    alice: Person,
    bob: Person,
    alices: Vec<Link>,
    bobs: Vec<Link>,
    conversation: ConversationId,
}

/// Alice and Bob with two phones each, online, and a direct conversation between their first phones.
fn pair() -> Pair {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 2);
    let (bob, bobs) = world.person("bob", 2);
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    for link in alices.iter().chain(&bobs) {
        link.inbox.take();
    }
    Pair { world, alice, bob, alices, bobs, conversation }
}

#[test]
fn two_people_write_to_each_other_and_read_what_they_missed() {
    let Pair { world, mut alices, mut bobs, conversation, .. } = pair();
    let first = world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    let second = world.ask(&mut bobs[0], &message(conversation, 3, 1)).unwrap();
    assert_eq!((first.seq, second.seq, first.receipt), (2, 3, None));
    let read = api::Read { conversation, after: 0, limit: 100 };
    let answer = world.ask(&mut bobs[0], &read).unwrap();
    assert_eq!(answer.head, 3);
    assert_eq!(answer.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(answer.entries[1].previous, answer.entries[0].hash());
    assert_eq!(second.previous, answer.entries[0].hash());

    world.act(&mut bobs[0], &api::Cursors { cursors: vec![api::Cursor { conversation, seq: 2 }] });
    let state = &world.ask(&mut bobs[0], &api::Sync { after: None }).unwrap().conversations[0];
    assert_eq!((state.head, state.cursor, state.welcome.is_some()), (3, Some(2), false));
    world.ask(&mut bobs[0], &api::CursorsSet { cursors: vec![api::Cursor { conversation, seq: 3 }] }).unwrap();
    let state = &world.ask(&mut bobs[0], &api::Sync { after: None }).unwrap().conversations[0];
    assert_eq!(state.cursor, Some(3));
    let other = &world.ask(&mut bobs[1], &api::Sync { after: None }).unwrap().conversations[0];
    assert_eq!((other.head, other.cursor), (3, None), "the second phone sees it and is not in it");
}

#[test]
fn a_commit_carries_a_receipt_that_anybody_can_check() {
    let Pair { world, mut alices, mut bobs, conversation, .. } = pair();
    let call = commit(conversation, 9, 1);
    let stored = world.ask(&mut alices[0], &call).unwrap();
    let key = world.ask(&mut alices[0], &api::ServerInfo {}).unwrap().receipt_key;
    let receipt = stored.receipt.unwrap();
    assert_eq!(log::verify_receipt(&key, &conversation, 1, &call.commit, &receipt), Ok(()));
    assert!(log::verify_receipt(&key, &conversation, 2, &call.commit, &receipt).is_err());
    let read = api::Read { conversation, after: 1, limit: 1 };
    let entry = &world.ask(&mut bobs[0], &read).unwrap().entries[0];
    assert_eq!((entry.kind, entry.receipt, entry.payload.clone()), (EntryKind::COMMIT, Some(receipt), call.commit));
    let info = world.ask(&mut bobs[1], &api::GroupInfoGet { conversation }).unwrap();
    assert_eq!((info.epoch, info.group_info), (2, call.group_info));
}

#[test]
fn of_two_people_who_begin_at_once_one_wins_and_both_are_in() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    let from_alice = encode(&direct(&alice, &bob, 1));
    let from_bob = encode(&direct(&bob, &alice, 2));
    let now = world.now();
    let first = world.service.request(bobs[0].session.as_mut().unwrap(), "conversation.commit", &from_bob, now);
    let second = world.service.request(alices[0].session.as_mut().unwrap(), "conversation.commit", &from_alice, now);
    assert_eq!(block_on(second).unwrap_err().code(), Code::ALREADY_EXISTS, "polled first, but called second");
    assert!(block_on(first).is_ok());
    let welcomes: Vec<api::Welcome> = alices[0].inbox.all();
    assert_eq!((welcomes.len(), welcomes[0].welcome.clone()), (1, vec![2; 10]));
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    world.ask(&mut alices[0], &message(conversation, 3, 1)).unwrap();
    assert_eq!(bobs[0].inbox.seqs(), [2]);
}

#[test]
fn sending_again_gives_the_same_answer_and_reaches_nobody_twice() {
    let Pair { world, mut alices, mut bobs, conversation, .. } = pair();
    let sent = world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    let made = world.ask(&mut alices[0], &commit(conversation, 3, 1)).unwrap();
    assert_eq!(bobs[0].inbox.seqs(), [2, 3]);
    assert_eq!(world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap(), sent);
    assert_eq!(world.ask(&mut alices[0], &commit(conversation, 3, 1)).unwrap(), made);
    assert_eq!(bobs[0].inbox.seqs(), []);
    let read = api::Read { conversation, after: 0, limit: 100 };
    assert_eq!(world.ask(&mut bobs[0], &read).unwrap().entries.len(), 2);
}

#[test]
fn requests_keep_the_order_of_their_calls() {
    let Pair { world, mut alices, mut bobs, conversation, .. } = pair();
    let session = alices[0].session.as_mut().unwrap();
    let calls: Vec<_> = (2..20).map(|id| encode(&message(conversation, id, 1))).collect();
    let answers: Vec<_> =
        calls.iter().map(|call| world.service.request(session, "conversation.send", call, world.now())).collect();
    for answer in answers.into_iter().rev() {
        block_on(answer).unwrap();
    }
    let read = api::Read { conversation, after: 0, limit: 100 };
    let entries = world.ask(&mut bobs[0], &read).unwrap().entries;
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), (2..20).map(message_id).collect::<Vec<_>>());
    assert_eq!(bobs[0].inbox.seqs(), (2..20).collect::<Vec<u64>>());
}

#[test]
fn stale_epochs_are_said_so() {
    let Pair { world, mut alices, mut bobs, conversation, .. } = pair();
    world.ask(&mut alices[0], &commit(conversation, 2, 1)).unwrap();
    assert_eq!(world.refused(&mut bobs[0], &commit(conversation, 3, 1)), Code::STALE_EPOCH);
    assert_eq!(world.refused(&mut bobs[0], &message(conversation, 4, 3)), Code::STALE_EPOCH);
    for (id, epoch) in [(5, 2), (6, 3)] {
        world.ask(&mut bobs[0], &commit(conversation, id, epoch)).unwrap();
    }
    assert_eq!(world.refused(&mut alices[0], &message(conversation, 7, 1)), Code::STALE_EPOCH);
    world.ask(&mut alices[0], &message(conversation, 7, 2)).unwrap();
}

#[test]
fn strangers_get_nothing_of_a_conversation() {
    let Pair { mut world, mut bobs, conversation, .. } = pair();
    let (carol, mut carols) = world.person("carol", 1);
    let nowhere = ConversationId::group([9; 32]);
    for (id, refusal) in [(conversation, Code::NOT_MEMBER), (nowhere, Code::CONVERSATION_NOT_FOUND)] {
        assert_eq!(world.refused(&mut carols[0], &message(id, 2, 1)), refusal);
        assert_eq!(world.refused(&mut carols[0], &commit(id, 2, 1)), refusal);
        assert_eq!(world.refused(&mut carols[0], &api::Commit { external: true, ..commit(id, 2, 1) }), refusal);
        assert_eq!(world.refused(&mut carols[0], &api::Read { conversation: id, after: 0, limit: 9 }), refusal);
        assert_eq!(world.refused(&mut carols[0], &api::GroupInfoGet { conversation: id }), refusal);
    }
    assert_eq!(world.ask(&mut carols[0], &api::Sync { after: None }).unwrap().conversations, []);
    let adding = api::Commit {
        added: vec![api::Added { account: carol.id(), device: carol.device(0) }],
        welcome: Some(vec![1]),
        ..commit(conversation, 2, 1)
    };
    assert_eq!(world.refused(&mut bobs[0], &adding), Code::NOT_MEMBER);
    assert_eq!(world.refused(&mut bobs[1], &message(conversation, 2, 1)), Code::NOT_MEMBER, "nor does a phone that is not in");
}

#[test]
fn what_a_commit_says_must_fit() {
    let Pair { mut world, alice, bob, mut alices, conversation, .. } = pair();
    let (carol, _) = world.person("carol", 1);
    let added = |person: &Person| api::Added { account: person.id(), device: person.device(1) };
    let group = ConversationId::group([5; 32]);
    let create = |kind, members: &[&Person]| {
        let name = (kind == api::ConversationKind::GROUP).then(|| Name::parse("team").unwrap());
        Some(api::Create { kind, members: members.iter().map(|person| person.id()).collect(), name })
    };
    let (direct_kind, group_kind) = (api::ConversationKind::DIRECT, api::ConversationKind::GROUP);
    let with_carol = ConversationId::direct(&alice.id(), &carol.id());
    let between_others = ConversationId::direct(&bob.id(), &carol.id());
    let large = limits::HANDSHAKE_PAYLOAD + 1;
    let base = commit(conversation, 7, 1);
    let make = |id, kind, members: &[&Person]| api::Commit { create: create(kind, members), ..commit(id, 7, 0) };
    let bad = Code::BAD_REQUEST;
    for (what, call, code) in [
        ("no commit", api::Commit { commit: vec![], ..base.clone() }, bad),
        ("no group info", api::Commit { group_info: vec![], ..base.clone() }, bad),
        ("a welcome for nobody", api::Commit { welcome: Some(vec![1]), ..base.clone() }, bad),
        ("added without welcome", api::Commit { added: vec![added(&bob)], ..base.clone() }, bad),
        ("added twice", api::Commit { added: vec![added(&bob); 2], welcome: Some(vec![1]), ..base.clone() }, bad),
        ("removed twice", api::Commit { removed: vec![bob.device(0); 2], ..base.clone() }, bad),
        ("the last epoch", api::Commit { parent_epoch: u64::MAX, ..base.clone() }, bad),
        ("a large commit", api::Commit { commit: vec![1; large], ..base.clone() }, Code::TOO_LARGE),
        ("a large group info", api::Commit { group_info: vec![1; large], ..base.clone() }, Code::TOO_LARGE),
        (
            "a large welcome",
            api::Commit { added: vec![added(&bob)], welcome: Some(vec![1; large]), ..base.clone() },
            Code::TOO_LARGE,
        ),
        ("a direct conversation of three", make(with_carol, direct_kind, &[&alice, &carol, &bob]), bad),
        ("a direct conversation with oneself", make(with_carol, direct_kind, &[&alice, &alice]), bad),
        ("a direct conversation of others", make(between_others, direct_kind, &[&bob, &carol]), bad),
        ("another id", make(group, direct_kind, &[&alice, &carol]), bad),
        ("a group under a direct id", make(with_carol, group_kind, &[&alice]), bad),
        ("a group without its creator", make(group, group_kind, &[&bob]), bad),
        ("a member twice", make(group, group_kind, &[&alice, &bob, &bob]), bad),
        ("an unknown kind", make(group, api::ConversationKind(9), &[&alice]), bad),
        ("a creation in epoch 1", api::Commit { parent_epoch: 1, ..make(group, group_kind, &[&alice]) }, bad),
        ("an external creation", api::Commit { external: true, ..make(group, group_kind, &[&alice]) }, bad),
        ("an unknown member", make(group, group_kind, &[&alice, &Person::new("nobody", 0)]), Code::USER_NOT_FOUND),
    ] {
        assert_eq!(world.refused(&mut alices[0], &call), code, "{what}");
    }
    world.ask(&mut alices[0], &base).unwrap();
    world.ask(&mut alices[0], &make(group, group_kind, &[&alice, &bob])).unwrap();
}

#[test]
fn what_a_message_says_must_fit() {
    let Pair { world, mut alices, conversation, .. } = pair();
    let large = api::Send { payload: vec![1; limits::ENTRY_PAYLOAD + 1], ..message(conversation, 2, 1) };
    assert_eq!(world.refused(&mut alices[0], &large), Code::TOO_LARGE);
    let empty = api::Send { payload: vec![], ..message(conversation, 2, 1) };
    assert_eq!(world.refused(&mut alices[0], &empty), Code::BAD_REQUEST);
    let cursors = vec![api::Cursor { conversation, seq: 1 }; limits::READ_ENTRIES + 1];
    assert_eq!(world.refused(&mut alices[0], &api::CursorsSet { cursors }), Code::TOO_LARGE);
}

#[test]
fn a_second_phone_joins_by_itself_and_a_removed_one_is_out() {
    let Pair { world, bob, mut alices, mut bobs, conversation, .. } = pair();
    let info = world.ask(&mut bobs[1], &api::GroupInfoGet { conversation }).unwrap();
    assert_eq!(info.epoch, 1);
    world.ask(&mut bobs[1], &api::Commit { external: true, ..commit(conversation, 2, 1) }).unwrap();
    assert_eq!(alices[0].inbox.seqs(), [2]);
    assert_eq!(bobs[0].inbox.seqs(), [2]);
    world.ask(&mut alices[0], &message(conversation, 3, 2)).unwrap();
    assert_eq!(bobs[1].inbox.seqs(), [3], "it is pushed to from there on");
    assert_eq!(bobs[0].inbox.seqs(), [3]);

    let removal = api::Commit { removed: vec![bob.device(0)], ..commit(conversation, 4, 2) };
    assert_eq!(world.refused(&mut alices[0], &removal), Code::FORBIDDEN, "only its own account takes a phone out that it lists");
    world.ask(&mut bobs[1], &removal).unwrap();
    world.ask(&mut alices[0], &message(conversation, 5, 3)).unwrap();
    assert_eq!(bobs[0].inbox.seqs(), [4], "the commit that removes a device is its last");
    assert_eq!(bobs[1].inbox.seqs(), [5]);
    assert_eq!(alices[0].inbox.seqs(), [4]);
    assert_eq!(world.refused(&mut bobs[0], &api::Read { conversation, after: 0, limit: 9 }), Code::NOT_MEMBER);
    let state = &world.ask(&mut bobs[0], &api::Sync { after: None }).unwrap().conversations[0];
    assert_eq!(state.cursor, None);
}

#[test]
fn a_committer_does_not_invite_the_own_device() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 2);
    let (bob, _bobs) = world.person("bob", 1);
    let own = api::Added { account: alice.id(), device: alice.device(0) };
    let mut call = direct(&alice, &bob, 1);
    call.added.push(own.clone());
    assert_eq!(world.refused(&mut alices[0], &call), Code::BAD_REQUEST);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    let conversation = call.conversation;
    let (added, welcome) = (vec![own.clone()], Some(vec![2; 10]));
    let again = api::Commit { external: true, removed: vec![own.device], added, welcome, ..commit(conversation, 2, 1) };
    assert_eq!(world.refused(&mut alices[0], &again), Code::BAD_REQUEST);
    let sibling = api::Commit { added: vec![api::Added { device: alice.device(1), ..own }], removed: vec![], ..again };
    world.ask(&mut alices[0], &sibling).unwrap();
}

#[test]
fn nobody_makes_others_members_without_end() {
    let throttle = ThrottleConfig { members_per_account: Rate::new(5, 1000), ..ThrottleConfig::default() };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    let group = |id: u8| api::Commit {
        create: Some(api::Create {
            kind: api::ConversationKind::GROUP,
            members: vec![alice.id(), bob.id()],
            name: Some(Name::parse(&format!("group{id}")).unwrap()),
        }),
        ..commit(ConversationId::group([id; 32]), id, 0)
    };
    world.ask(&mut alices[0], &group(1)).unwrap();
    world.ask(&mut alices[0], &group(2)).unwrap();
    let failure = world.ask(&mut alices[0], &group(3)).unwrap_err();
    assert_eq!((failure.code(), failure.to_wire().retry_after_ms), (Code::RATE_LIMITED, Some(1000)));
    world.ask(&mut alices[0], &commit(ConversationId::group([2; 32]), 4, 1)).unwrap();
    world.ask(&mut bobs[0], &direct(&bob, &alice, 5)).unwrap();
    world.now_ms += 1000;
    world.ask(&mut alices[0], &group(3)).unwrap();
}

#[test]
fn nobody_writes_without_end() {
    let throttle = ThrottleConfig {
        entries_per_account: Rate::new(4, 1000),
        entry_kib_per_account: Rate::new(100, 10),
        ..ThrottleConfig::default()
    };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (alice, mut alices) = world.person("alice", 2);
    let (bob, mut bobs) = world.person("bob", 1);
    let refusal = |world: &World, link: &mut Link, call: &api::Send| {
        let failure = world.ask(link, call).unwrap_err();
        (failure.code(), failure.to_wire().retry_after_ms)
    };
    let call = direct(&alice, &bob, 1);
    let conversation = call.conversation;
    world.ask(&mut alices[0], &call).unwrap();
    for id in 2..5 {
        world.ask(&mut alices[0], &message(conversation, id, 1)).unwrap();
    }
    assert_eq!(refusal(&world, &mut alices[0], &message(conversation, 5, 1)), (Code::RATE_LIMITED, Some(1000)));
    assert_eq!(world.refused(&mut alices[0], &commit(conversation, 6, 1)), Code::RATE_LIMITED);
    assert_eq!(world.refused(&mut alices[1], &message(conversation, 5, 1)), Code::RATE_LIMITED, "one count for all devices");
    let large = |id| api::Send { payload: vec![1; 60 * 1024], ..message(conversation, id, 1) };
    world.ask(&mut bobs[0], &large(7)).unwrap();
    assert_eq!(refusal(&world, &mut bobs[0], &large(8)), (Code::RATE_LIMITED, Some(200)));
    world.now_ms += 1000;
    world.ask(&mut alices[0], &message(conversation, 5, 1)).unwrap();
    world.ask(&mut bobs[0], &large(8)).unwrap();
}

#[test]
fn cursors_are_moved_at_a_bounded_pace() {
    let throttle = ThrottleConfig { cursors_per_device: Rate::new(4, 1000), ..ThrottleConfig::default() };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    let call = direct(&alice, &bob, 1);
    let conversation = call.conversation;
    world.ask(&mut alices[0], &call).unwrap();
    world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    let cursor = |world: &World, link: &mut Link| world.ask(link, &api::Sync { after: None }).unwrap().conversations[0].cursor;
    let nowhere = api::Cursor { conversation: ConversationId([9; 32]), seq: 1 };
    world.act(&mut bobs[0], &api::Cursors { cursors: vec![nowhere; 3] });
    let moved = vec![api::Cursor { conversation, seq: 2 }; 2];
    world.act(&mut bobs[0], &api::Cursors { cursors: moved.clone() });
    assert_eq!(cursor(&world, &mut bobs[0]), Some(1), "an action too many is not taken");
    assert_eq!(world.refused(&mut bobs[0], &api::CursorsSet { cursors: moved.clone() }), Code::RATE_LIMITED);
    world.now_ms += 1000;
    world.ask(&mut bobs[0], &api::CursorsSet { cursors: moved }).unwrap();
    assert_eq!(cursor(&world, &mut bobs[0]), Some(2));
}
