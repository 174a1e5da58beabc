//! Messages that are to be forgotten.

use std::time::Duration;

use parlour_wire::content::Expiry;

use super::harness::World;
use crate::{
    api::{Draft, Message},
    core::{Command, Reply},
    event::Event,
};

const HOUR: Duration = Duration::from_secs(3600);

fn two() -> (World, usize, usize) {
    let mut world = World::new(9);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    (world, a, b)
}

fn write(world: &mut World, node: usize, to: &str, text: &str, expires: Expiry) -> Message {
    let draft = Draft { text: text.to_owned(), expires: Some(expires), ..Draft::default() };
    match world.ask(node, Command::Write { to: to.to_owned(), draft }) {
        Ok(Reply::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_expires_on_both_sides_by_itself() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "stays");
    let message = write(&mut world, a, "bob", "goes", Expiry::After(7200));
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        assert_eq!(world.texts(node, with), ["stays", "goes"]);
        let at = world.history(node, with)[1].expires_ms.unwrap();
        assert!(at >= message.sent_ms + 7_200_000 && at <= message.sent_ms + 7_300_000);
    }
    world.advance(HOUR);
    assert_eq!(world.texts(b, "alice").len(), 2, "not before its time");
    world.advance(HOUR + HOUR);
    for (node, with) in [(a, "bob"), (b, "alice")] {
        let gone = |event: &Event| matches!(event, Event::MessageGone { id, .. } if *id == message.id);
        assert!(world.nodes[node].events.iter().any(gone), "the program does it by itself");
        assert_eq!(world.texts(node, with), ["stays"]);
        assert!(world.search(node, "goes", None).is_empty());
    }
}

#[test]
fn what_expired_while_the_program_was_away_is_never_shown() {
    let (mut world, a, b) = two();
    write(&mut world, a, "bob", "goes", Expiry::After(3600));
    world.settle();
    world.crash(b);
    world.advance(2 * HOUR);
    assert!(world.texts(b, "alice").is_empty());
}

#[test]
fn a_message_that_comes_after_its_time_is_not_taken() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "stays");
    world.settle();
    world.offline(b);
    write(&mut world, a, "bob", "goes", Expiry::After(60));
    world.settle();
    world.advance(HOUR);
    world.back(b);
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["stays"]);
}

#[test]
fn a_message_that_expires_before_it_leaves_never_does() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "stays");
    world.settle();
    world.offline(a);
    write(&mut world, a, "bob", "goes", Expiry::After(60));
    world.advance(HOUR);
    world.back(a);
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["stays"]);
    assert_eq!(world.texts(a, "bob"), ["stays"]);
}

#[test]
fn a_message_that_expires_on_its_way_is_known_when_its_entry_comes() {
    let (mut world, a, _) = two();
    world.send(a, "bob", "stays");
    world.settle();
    let at = u32::try_from(world.unix_ms() / 1000).unwrap() + 5;
    write(&mut world, a, "bob", "goes", Expiry::At(at));
    // It is encrypted and on its way, and the answer takes long.
    while world.transmit(a) {}
    world.advance(Duration::from_secs(10));
    world.settle();
    assert_eq!(world.texts(a, "bob"), ["stays"], "nothing is said about a lost message");
}

#[test]
fn an_edit_does_not_make_a_message_stay() {
    let (mut world, a, b) = two();
    let message = write(&mut world, a, "bob", "goes", Expiry::After(3600));
    world.settle();
    world.change(a, Command::Edit { id: message.id, text: "goes too".to_owned() });
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["goes too"]);
    world.advance(2 * HOUR);
    assert!(world.texts(b, "alice").is_empty() && world.texts(a, "bob").is_empty());
}
