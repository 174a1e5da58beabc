//! Contents that a malicious member sends.

use parlour_wire::{
    AccountId, MessageId,
    content::{Body, Content, Expiry},
};

use super::harness::World;
use crate::{
    api::{MessageKind, State},
    core::{Command, Reply},
};

fn two() -> (World, usize, usize) {
    let mut world = World::new(10);
    let (alice, mallory) = (world.person("alice"), world.person("mallory"));
    let (a, m) = (world.device(alice), world.device(mallory));
    world.settle();
    (world, a, m)
}

fn instead(target: MessageId, body: Body) -> Content {
    Content { replaces: Some(target), ..Content::new(1, body) }
}

fn about(target: MessageId, body: Body) -> Content {
    Content { in_reply_to: Some(target), ..Content::new(1, body) }
}

#[test]
fn an_edit_or_delete_of_somebody_elses_message_changes_nothing() {
    let (mut world, a, m) = two();
    let message = world.send(a, "mallory", "I owe you 10");
    world.settle();
    world.say(m, &instead(message.id, Body::Text("I owe you 1000".into())));
    world.say(m, &instead(message.id, Body::Deleted));
    let history = world.history(a, "mallory");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].text, "I owe you 10");
    assert!(history[0].edited_ms.is_none() && !history[0].deleted);
}

#[test]
fn an_edit_that_comes_before_its_message_waits_for_it_and_only_for_its_author() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    // The id of a message that mallory has not sent yet, and one that she expects alice to send.
    let target = MessageId([0x77; 16]);
    world.say(m, &instead(target, Body::Text("later".into())));
    world.say(m, &about(target, Body::Reaction("👍".into())));
    assert_eq!(world.texts(a, "mallory"), ["first"]);
    assert_eq!(world.counts(a).1, 2, "both wait");
    world.crash(a);
    assert_eq!(world.counts(a).1, 2, "on disk");
}

#[test]
fn what_waits_for_a_target_that_never_comes_is_bounded() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    for n in 0..1200u64 {
        let mut target = [0x77; 16];
        target[..8].copy_from_slice(&n.to_be_bytes());
        world.say_quietly(m, &about(MessageId(target), Body::Reaction("👍".into())));
    }
    world.settle();
    assert_eq!(world.counts(a).1, 1000);
}

#[test]
fn reactions_of_one_account_to_one_message_are_bounded() {
    let (mut world, a, m) = two();
    let message = world.send(a, "mallory", "hello");
    world.settle();
    for n in 0..300 {
        world.say_quietly(m, &about(message.id, Body::Reaction(format!("r{n}"))));
    }
    world.settle();
    assert_eq!(world.history(a, "mallory")[0].reactions.len(), 16);
}

#[test]
fn a_message_from_the_future_is_not_believed() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    world.say(m, &Content::new(u64::MAX, Body::Text("from the future".into())));
    let message = world.history(a, "mallory").pop().unwrap();
    assert!(message.sent_ms <= message.stored_ms.unwrap() + 5 * 60 * 1000);
}

#[test]
fn what_has_expired_long_ago_or_never_will_does_no_harm() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    for expires in [Expiry::At(0), Expiry::After(0), Expiry::At(u32::MAX), Expiry::After(u32::MAX)] {
        world.say(m, &Content { expires: Some(expires), ..Content::new(1, Body::Text(format!("{expires:?}"))) });
    }
    let texts = world.texts(a, "mallory");
    assert_eq!(texts, ["first".to_owned(), format!("{:?}", Expiry::At(u32::MAX)), format!("{:?}", Expiry::After(u32::MAX))]);
}

#[test]
fn unknown_content_is_kept_shown_as_such_and_counts_as_received() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    let bytes = b"\x85\x01\x60\x01\x6aaudio/opus\x43abc".to_vec();
    let unknown = Body::Unknown { content_type: "audio/opus".to_owned(), bytes };
    world.say(m, &Content::new(1, unknown));
    let message = world.history(a, "mallory").pop().unwrap();
    assert_eq!(message.kind, MessageKind::Unknown);
    assert!(message.text.contains("audio/opus"), "{}", message.text);
    assert_eq!(message.state, State::Delivered);
    assert_eq!(world.content(a, message.id).map(|bytes| bytes.ends_with(b"abc")), Some(true));
}

#[test]
fn text_with_terminal_escapes_and_deep_markdown_is_only_text() {
    let (mut world, a, m) = two();
    let bomb = format!("\u{1b}]0;owned\u{7}\u{1b}[2J{}{}", "[".repeat(20_000), "> ".repeat(10_000));
    world.send(m, "alice", &bomb);
    world.settle();
    assert_eq!(world.texts(a, "mallory"), [bomb]);
    assert_eq!(world.search(a, "owned", None).len(), 1);
}

#[test]
fn mentions_of_strangers_mention_nobody_here() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    world.say(m, &Content { mentions: vec![AccountId([9; 32]); 64], ..Content::new(1, Body::Text("hey".into())) });
    assert!(!world.history(a, "mallory").pop().unwrap().mentions_me);
}

#[test]
fn a_blocked_account_reacts_to_nothing() {
    let (mut world, a, m) = two();
    let message = world.send(a, "mallory", "hello");
    world.settle();
    world.ask(a, Command::Block { to: "mallory".to_owned(), blocked: true }).unwrap();
    world.say(m, &about(message.id, Body::Reaction("👎".into())));
    assert!(world.history(a, "mallory")[0].reactions.is_empty());
    let reaction = Command::React { id: message.id, emoji: "👋".to_owned(), remove: false };
    assert!(world.ask(a, reaction).is_err());
}

#[test]
fn content_of_own_devices_from_somebody_else_is_passed_over() {
    let (mut world, a, m) = two();
    world.send(m, "alice", "first");
    world.settle();
    world.say(m, &Content::new(1, Body::Sync(vec![1; 64])));
    assert_eq!(world.texts(a, "mallory"), ["first"]);
    let Ok(Reply::Messages(unshown)) = world.ask(a, Command::Unshown { from: None, limit: 10 }) else { panic!() };
    assert_eq!(unshown.len(), 1);
}
