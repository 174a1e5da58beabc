//! What a device has done and does not know of, because the answer did not reach it or its profile is an older copy of itself.

use std::{fs, time::Duration};

use parlour_server::store::{Store as _, suite::block_on};
use parlour_wire::{MessageId, name::Name};

use super::{
    groups::{change, create, people},
    harness::World,
};
use crate::{
    api::{MessageKind, State},
    core::{Command, GroupCommand, Reply},
    event::Event,
};

/// Dies, and writes before there is a connection again.
fn write_offline(world: &mut World, node: usize, to: &str, text: &str) -> MessageId {
    world.restart_offline(node);
    world.send(node, to, text).id
}

fn put_back(world: &mut World, node: usize, copy: &[u8]) {
    world.with_files(node, |home| {
        for left in ["parlour.db-wal", "parlour.db-shm"] {
            drop(fs::remove_file(home.join(left)));
        }
        fs::write(home.join("parlour.db"), copy).unwrap();
    });
}

/// What a device says about itself, and what people have said.
fn told_and_said(world: &mut World, node: usize, with: &str) -> (Vec<String>, Vec<String>) {
    let messages = world.history(node, with);
    let texts = |kind| messages.iter().filter(move |message| message.kind == kind).map(|message| message.text.clone()).collect();
    (texts(MessageKind::System), texts(MessageKind::Text))
}

/// The copy has the message, but knows neither that it was encrypted nor that the server has it.
fn a_copy_with_a_message_that_waits(then: impl FnOnce(&mut World)) {
    let (mut world, nodes) = people(1, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let two = write_offline(&mut world, a, "bob", "two");
    let mut copy = Vec::new();
    world.with_files(a, |home| copy = fs::read(home.join("parlour.db")).unwrap());
    // No more time than that passes, so the server does not hear how far the device has read.
    while !world.texts(b, "alice").contains(&"two".to_owned()) {
        if !world.step_any() {
            world.advance(Duration::from_millis(10));
        }
    }
    then(&mut world);
    put_back(&mut world, a, &copy);
    world.settle();
    world.send(a, "bob", "three");
    world.settle();
    let (told, said) = told_and_said(&mut world, b, "alice");
    assert_eq!(said, ["one", "two", "three"], "{told:?}");
    assert_eq!(told, [""; 0]);
    let (told, said) = told_and_said(&mut world, a, "bob");
    assert_eq!(said, ["one", "two", "three"]);
    assert!(told.iter().any(|text| text.contains("older copy")), "it joins again: {told:?}");
    assert_ne!(world.state(a, two), State::Queued);
}

#[test]
fn a_message_that_waits_in_an_older_copy_and_was_sent_is_not_followed_by_one_with_its_key() {
    a_copy_with_a_message_that_waits(|_| ());
}

#[test]
fn a_copy_notices_it_too_after_its_cursor_has_told_the_server() {
    a_copy_with_a_message_that_waits(World::settle);
}

#[test]
fn a_copy_that_does_not_know_a_commit_of_its_own_says_that_it_is_one() {
    let (mut world, nodes) = people(3, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let mut copy = Vec::new();
    world.with_files(a, |home| copy = fs::read(home.join("parlour.db")).unwrap());
    world.settle();
    let name = "crew".to_owned();
    world.command(a, Command::Group(GroupCommand::Rename { group: "#club".to_owned(), name }));
    while world.step_any() {}
    put_back(&mut world, a, &copy);
    world.settle();
    world.send(a, "#crew", "hello");
    world.settle();
    let (told, said) = told_and_said(&mut world, a, "#crew");
    assert_eq!(said, ["hello"]);
    assert!(told.iter().any(|text| text.contains("older copy")), "{told:?}");
    assert!(!told.iter().any(|text| text.contains("set up again")), "{told:?}");
    assert_eq!(told_and_said(&mut world, b, "#crew").1, ["hello"]);
}

#[test]
fn a_group_that_was_left_before_its_maker_knew_of_it_stays_ended() {
    let (mut world, nodes) = people(2, &["alice"]);
    let a = nodes[0];
    let sibling = world.device(0);
    world.settle();
    let club = Name::parse("club").unwrap();
    world.command(a, Command::Group(create("club", &[])));
    while block_on(world.store.group_by_name(&club)).unwrap().is_none() {
        assert!(world.transmit(a) || world.receive(a), "the group is made");
    }
    // The answer is lost with the connection.
    let queued = write_offline(&mut world, a, "#club", "hello");
    world.settle();
    change(&mut world, sibling, GroupCommand::Leave("club".into())).unwrap();
    world.settle();
    world.nodes[a].events.clear();
    world.go_online(a);
    world.settle();
    assert_eq!(block_on(world.store.group_by_name(&club)).unwrap(), None, "nobody has made it again");
    let heard = &world.nodes[a].events;
    assert!(!heard.iter().any(|event| matches!(event, Event::Trouble(_))), "{heard:?}");
    let groups = world.ask(a, Command::Group(GroupCommand::List)).unwrap();
    assert!(matches!(&groups, Reply::Groups(groups) if groups.is_empty()), "{groups:?}");
    let (told, said) = told_and_said(&mut world, a, "#club");
    assert_eq!((told.last().map(String::as_str), said), (Some("#club has ended: everybody has left it."), vec!["hello".into()]));
    assert_eq!(world.state(a, queued), State::Queued);
    change(&mut world, a, create("club", &[])).expect("the name is free");
}
