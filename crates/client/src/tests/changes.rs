//! Reactions, edits, deletes, replies, mentions: what they do on every device.

use std::time::Duration;

use parlour_wire::Code;

use super::harness::World;
use crate::{
    api::{Message, MessageKind, State},
    core::{Command, Reply},
    event::Event,
};

fn two() -> (World, usize, usize) {
    let mut world = World::new(7);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    (world, a, b)
}

fn react(message: &Message, emoji: &str, remove: bool) -> Command {
    Command::React { id: message.id, emoji: emoji.to_owned(), remove }
}

fn reactions(world: &mut World, node: usize, with: &str) -> Vec<(String, String)> {
    let messages = world.history(node, with);
    let reactions = messages.into_iter().flat_map(|message| message.reactions);
    reactions.map(|reaction| (reaction.emoji, reaction.from)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(emoji, from)| ((*emoji).to_owned(), (*from).to_owned())).collect()
}

#[test]
fn a_reaction_shows_on_both_sides_and_goes_when_it_is_taken_back() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "done!");
    world.settle();
    let changed = world.change(b, react(&message, "👍", false));
    assert_eq!(changed.reactions.len(), 1);
    world.change(b, react(&message, "👍", false));
    world.change(a, react(&message, "🎉", false));
    world.settle();
    assert_eq!(reactions(&mut world, a, "bob").len(), 2);
    let mut seen = reactions(&mut world, b, "alice");
    seen.sort();
    assert_eq!(seen, pairs(&[("🎉", "alice"), ("👍", "bob")]));
    assert!(world.nodes[a].events.iter().any(|event| matches!(event, Event::MessageChanged(it) if it.id == message.id)));
    world.change(b, react(&message, "👍", true));
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        assert_eq!(reactions(&mut world, node, with), pairs(&[("🎉", "alice")]));
        assert_eq!(world.history(node, with).len(), 1, "a reaction is no message of its own");
    }
    assert_eq!(world.ask(b, react(&message, "👍", true)).unwrap_err().code, Code::MESSAGE_NOT_FOUND);
}

#[test]
fn a_reaction_of_one_device_is_taken_back_on_another() {
    let (mut world, a, _) = two();
    let second = world.device(0);
    world.settle();
    let message = world.send(a, "bob", "done!");
    world.settle();
    world.change(a, react(&message, "👍", false));
    world.settle();
    assert_eq!(reactions(&mut world, second, "bob"), pairs(&[("👍", "alice")]));
    world.change(second, react(&message, "👍", true));
    world.settle();
    for node in [a, second] {
        assert!(reactions(&mut world, node, "bob").is_empty());
    }
}

#[test]
fn an_edit_keeps_place_and_time_and_is_marked() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "at nien");
    world.send(a, "bob", "ok?");
    world.settle();
    let edited = world.change(a, Command::Edit { id: message.id, text: "at nine".to_owned() });
    assert!(edited.edited_ms.is_some());
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        let history = world.history(node, with);
        assert_eq!(history.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["at nine", "ok?"]);
        assert_eq!(history[0].sent_ms, message.sent_ms);
        assert!(history[0].edited_ms.is_some() && history[1].edited_ms.is_none());
    }
    assert_eq!(world.state(a, message.id), State::Delivered);
}

#[test]
fn a_deleted_message_leaves_only_that_there_was_one() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "a secret");
    world.settle();
    world.change(b, react(&message, "👀", false));
    world.settle();
    let deleted = world.change(a, Command::Delete(message.id));
    assert!(deleted.deleted && deleted.text.is_empty());
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        let history = world.history(node, with);
        assert_eq!(history.len(), 1);
        assert!(history[0].deleted && history[0].text.is_empty() && history[0].reactions.is_empty());
        assert!(world.search(node, "secret", None).is_empty());
        assert_eq!(world.ask(node, react(&message, "👀", false)).unwrap_err().code, Code::MESSAGE_NOT_FOUND);
    }
    let Ok(Reply::Messages(unshown)) = world.ask(b, Command::Unshown { from: None, limit: 10 }) else { panic!() };
    assert!(unshown.is_empty(), "nobody is asked to read what is gone");
}

#[test]
fn a_message_that_is_deleted_before_it_leaves_never_does() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "hello");
    world.settle();
    world.offline(a);
    let message = world.send(a, "bob", "too angry");
    // What is said about it holds its words, too.
    world.change(a, Command::Edit { id: message.id, text: "a little less angry".to_owned() });
    world.change(a, react(&message, "🎉", false));
    world.change(a, react(&message, "🎉", true));
    world.change(a, Command::Delete(message.id));
    let (_, pending) = world.counts(b);
    world.back(a);
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["hello"]);
    assert_eq!((world.counts(b).1, pending), (0, 0), "nothing waits for a message that never comes");
}

#[test]
fn nobody_changes_what_somebody_else_wrote() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "mine");
    world.settle();
    let edit = Command::Edit { id: message.id, text: "yours".to_owned() };
    assert_eq!(world.ask(b, edit).unwrap_err().code, Code::FORBIDDEN);
    assert_eq!(world.ask(b, Command::Delete(message.id)).unwrap_err().code, Code::FORBIDDEN);
    assert_eq!(world.texts(b, "alice"), ["mine"]);
}

#[test]
fn changes_are_not_reported_on() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "hello");
    world.settle();
    world.change(b, react(&message, "👍", false));
    world.change(a, Command::Edit { id: message.id, text: "hallo".to_owned() });
    world.settle();
    let before = (world.head(a), world.head(b));
    world.settle();
    assert_eq!((world.head(a), world.head(b)), before, "nothing goes on by itself");
    assert_eq!(before.0, before.1);
    // The commit that made the conversation, the message, its report, the reaction, the edit.
    assert_eq!(before.0, 5);
}

#[test]
fn a_change_is_encrypted_anew_with_the_rest_after_a_restart() {
    let (mut world, a, b) = two();
    let message = world.send(a, "bob", "helo");
    world.settle();
    world.offline(a);
    world.change(a, Command::Edit { id: message.id, text: "hello".to_owned() });
    world.crash(a);
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["hello"]);
}

#[test]
fn who_is_mentioned_knows() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "@bob, look");
    world.send(a, "bob", "mail bob@bob.example");
    world.settle();
    let mentions = |world: &mut World, node, with| world.history(node, with).iter().map(|it| it.mentions_me).collect::<Vec<_>>();
    assert_eq!(mentions(&mut world, b, "alice"), [true, false]);
    assert_eq!(mentions(&mut world, a, "bob"), [false, false]);
}

#[test]
fn a_group_resolves_mentions_to_its_members() {
    let mut world = World::new(8);
    let people: Vec<_> = ["alice", "bob", "carol"].iter().map(|name| world.person(name)).collect();
    let nodes: Vec<_> = people.into_iter().map(|person| world.device(person)).collect();
    world.settle();
    super::groups::change(&mut world, nodes[0], super::groups::create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.send(nodes[0], "#club", "ask @carol. Not @dave");
    world.settle();
    for (node, mentioned) in [(nodes[1], false), (nodes[2], true)] {
        let said = world.history(node, "#club").into_iter().find(|message| message.kind == MessageKind::Text).unwrap();
        assert_eq!(said.mentions_me, mentioned);
    }
    let said = world.history(nodes[1], "#club").into_iter().find(|message| message.kind == MessageKind::Text).unwrap();
    world.change(nodes[1], react(&said, "👍", false));
    world.settle();
    let reactions = reactions(&mut world, nodes[2], "#club");
    assert_eq!(reactions, pairs(&[("👍", "bob")]));
}

#[test]
fn a_message_is_found_by_the_beginning_of_its_id() {
    let (mut world, a, _) = two();
    let message = world.send(a, "bob", "hello");
    let id = message.id.to_string();
    let mut find = |prefix: &str| world.ask(a, Command::Find(prefix.to_owned()));
    assert_eq!(find(&id), Ok(Reply::Found(message.id)));
    assert_eq!(find(&id[..13]), Ok(Reply::Found(message.id)));
    for wrong in ["ffff", "xyz", "%", &format!("{id}0")] {
        assert_eq!(find(wrong).unwrap_err().code, Code::MESSAGE_NOT_FOUND, "{wrong}");
    }
    world.send(a, "bob", "again");
    assert_eq!(world.ask(a, Command::Find(id[..4].to_owned())).unwrap_err().code, Code::USAGE);
}

#[test]
fn of_edits_that_two_devices_make_at_once_all_keep_the_same_one() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::new(8);
        let (alice, bob) = (world.person("alice"), world.person("bob"));
        let (a, b) = (world.device(alice), world.device(bob));
        world.settle();
        let message = world.send(a, "bob", "first");
        world.settle();
        let second = world.sibling(alice);
        world.settle();
        let devices = [a, second];
        for (device, text) in devices.into_iter().zip(["of one", "of the other"]) {
            world.offline(device);
            world.command(device, Command::Edit { id: message.id, text: text.to_owned() });
            world.advance(Duration::from_millis(3));
        }
        for device in order {
            world.back(devices[device]);
            world.settle();
        }
        for (node, with) in [(a, "bob"), (second, "bob"), (b, "alice")] {
            assert_eq!(world.texts(node, with), ["of the other"], "{order:?}: node {node}");
        }
        // Whoever has seen it can change it again, whatever their clock says.
        world.change(a, Command::Edit { id: message.id, text: "of both".to_owned() });
        world.settle();
        assert_eq!(world.texts(b, "alice"), ["of both"]);
    }
}
