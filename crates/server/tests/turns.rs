//! What one session can make the server hold, and how sessions share the store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_wire::{ConversationId, api, limits};
use support::{World, direct, look, message};

#[test]
fn few_large_answers_of_one_session_are_read_at_once() {
    let mut world = World::gated();
    let (alice, mut alices) = world.person("alice", 2);
    let (bob, _bobs) = world.person("bob", 1);
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    let read = api::Read { conversation, after: 0, limit: 1024 };
    let mut reads: Vec<_> = (0..limits::REQUESTS_IN_FLIGHT).map(|_| world.begin(&mut alices[0], &read)).collect();

    world.store.shut("log");
    assert!(reads.iter_mut().all(|reading| look(&read, reading).is_none()));
    let asked = world.store.asked("log");
    assert!((1..=limits::UNACKED_BYTES / limits::READ_BYTES).contains(&asked), "{asked}");
    let info = api::GroupInfoGet { conversation };
    let mut waiting = world.begin(&mut alices[0], &info);
    assert!(look(&info, &mut waiting).is_none(), "one count for all that is large");
    assert!(world.ask(&mut alices[0], &message(conversation, 3, 1)).is_ok(), "what is written does not wait for it");
    assert!(world.ask(&mut alices[1], &info).is_ok(), "nor do other sessions");

    world.store.open();
    let mut answers = 0;
    while !reads.is_empty() {
        let before = reads.len();
        reads.retain_mut(|reading| look(&read, reading).is_none_or(|answer| answer.is_err()));
        answers += before - reads.len();
        assert!(reads.len() < before, "somebody is always next");
    }
    assert_eq!(answers, limits::REQUESTS_IN_FLIGHT);
    assert!(look(&info, &mut waiting).unwrap().is_ok());
}
