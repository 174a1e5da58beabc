//! What people do in conversations, story by story.

use std::time::Duration;

use parlour_wire::{Code, api::Send};

use super::harness::World;
use crate::{
    api::{MessageKind, Page, State},
    core::{Command, Reply},
    event::Event,
};

fn two() -> (World, usize, usize) {
    let mut world = World::new(1);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    (world, a, b)
}

#[test]
fn a_message_arrives_and_both_sides_know() {
    let (mut world, a, b) = two();
    let sent = world.send(a, "bob", "hello");
    assert_eq!(sent.state, State::Queued);
    world.settle();
    let received = world.history(b, "alice");
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].id, received[0].text.as_str(), received[0].sender_name.as_str()), (sent.id, "hello", "alice"));
    assert!(!received[0].outgoing && !received[0].shown);
    assert_eq!(world.state(a, sent.id), State::Delivered);
    let Ok(Reply::Messages(unshown)) = world.ask(b, Command::Unshown { from: None, limit: 10 }) else { panic!() };
    assert_eq!(unshown, received);
    world.ask(b, Command::MarkShown(vec![sent.id])).unwrap();
    world.settle();
    assert_eq!(world.state(a, sent.id), State::Read);
    let Ok(Reply::Status(status)) = world.ask(a, Command::Status(sent.id)) else { panic!() };
    assert_eq!(status.devices.len(), 1);
    assert_eq!(status.devices[0].state, State::Read);
    let Ok(Reply::Messages(unshown)) = world.ask(b, Command::Unshown { from: Some("alice".into()), limit: 10 }) else { panic!() };
    assert!(unshown.is_empty());
}

#[test]
fn an_answer_goes_back_in_the_same_conversation() {
    let (mut world, a, b) = two();
    let question = world.send(a, "bob", "how are you?");
    world.settle();
    let reply = Command::Send { to: "alice".into(), text: "well".into(), reply_to: Some(question.id) };
    let Ok(Reply::Message(reply)) = world.ask(b, reply) else { panic!() };
    assert_eq!(reply.conversation, question.conversation);
    world.settle();
    let history = world.history(a, "bob");
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].reply_to, Some(question.id));
    assert_eq!(world.state(b, reply.id), State::Delivered);
}

#[test]
fn two_who_write_at_once_meet_in_one_conversation() {
    for first in [0, 1] {
        let (mut world, a, b) = two();
        let command = |to: &str| Command::Send { to: to.into(), text: format!("to {to}"), reply_to: None };
        world.command(a, command("bob"));
        world.command(b, command("alice"));
        let (x, y) = if first == 0 { (a, b) } else { (b, a) };
        // Both get as far as having their commit on the way before either reaches the server.
        for _ in 0..200 {
            let _ = world.receive(x) || world.transmit(x);
            let _ = world.receive(y) || world.transmit(y);
        }
        world.settle();
        for (node, with) in [(a, "bob"), (b, "alice")] {
            let mut texts = world.texts(node, with);
            texts.sort();
            assert_eq!(texts, ["to alice", "to bob"], "node {node}");
        }
    }
}

#[test]
fn what_is_written_offline_goes_out_after_a_restart_in_order() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "0");
    world.settle();
    world.ask(a, Command::Close).unwrap();
    let ids: Vec<_> = (1..20).map(|n| world.send(a, "bob", &n.to_string()).id).collect();
    assert_eq!(world.state(a, ids[0]), State::Queued);
    world.crash(a);
    world.settle();
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(world.texts(b, "alice"), expected);
    assert_eq!(world.state(a, ids[18]), State::Delivered);
}

#[test]
fn a_proof_that_ran_out_of_time_without_a_connection_is_given_again() {
    let mut world = World::new(31);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(a, "bob", "one");
    world.settle();
    world.offline(b);
    world.back(b);
    world.stall(b);
    world.settle();
    world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one", "two"]);
}

#[test]
fn an_unknown_name_offline_queues_nothing() {
    let (mut world, a, _) = two();
    world.ask(a, Command::Close).unwrap();
    let send = Command::Send { to: "bob".into(), text: "x".into(), reply_to: None };
    assert_eq!(world.ask(a, send).unwrap_err().code, Code::UNREACHABLE);
    world.go_online(a);
    world.settle();
    let send = Command::Send { to: "nobody".into(), text: "x".into(), reply_to: None };
    assert_eq!(world.ask(a, send).unwrap_err().code, Code::USER_NOT_FOUND);
    assert!(world.texts(a, "bob").is_empty());
}

#[test]
fn all_devices_of_both_people_have_the_conversation() {
    let mut world = World::new(3);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a1, a2) = (world.device(alice), world.device(alice));
    let (b1, b2) = (world.device(bob), world.device(bob));
    world.settle();
    world.send(a1, "bob", "one");
    world.settle();
    world.send(b2, "alice", "two");
    world.settle();
    world.send(a2, "bob", "three");
    world.settle();
    for (node, with) in [(a1, "bob"), (a2, "bob"), (b1, "alice"), (b2, "alice")] {
        assert_eq!(world.texts(node, with), ["one", "two", "three"], "node {node}");
    }
    let history = world.history(a1, "bob");
    assert!(history[2].outgoing && history[2].state >= State::Stored, "own messages of another device are outgoing");
}

#[test]
fn a_new_device_joins_by_itself_and_reads_from_there() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "before");
    world.settle();
    let a2 = world.device(0);
    world.settle();
    world.send(b, "alice", "after");
    world.send(a, "bob", "also");
    world.settle();
    let mut texts = world.texts(a2, "bob");
    texts.sort();
    assert_eq!(texts, ["after", "also"]);
    world.send(a2, "bob", "from the new one");
    world.settle();
    assert_eq!(world.texts(b, "alice").last().unwrap(), "from the new one");
    assert_eq!(world.texts(a, "bob").last().unwrap(), "from the new one");
}

#[test]
fn a_revoked_device_is_removed_before_anything_is_sent() {
    let mut world = World::new(5);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a1, a2) = (world.device(alice), world.device(alice));
    let b = world.device(bob);
    world.settle();
    world.send(b, "alice", "one");
    world.settle();
    assert_eq!(world.texts(a2, "bob"), ["one"]);
    world.revoke(alice, a2);
    world.settle();
    world.send(b, "alice", "two");
    world.settle();
    assert_eq!(world.texts(a1, "bob"), ["one", "two"]);
    assert_eq!(world.texts(a2, "bob"), ["one"]);
    let out = |event: &Event| matches!(event, Event::SignedOut { reason } if reason.code == Code::DEVICE_REVOKED);
    world.crash(a2);
    world.settle();
    assert!(world.nodes[a2].events.iter().any(out));
    // It is told so as long as it is so.
    for _ in 0..2 {
        let write = Command::Send { to: "bob".into(), text: "three".into(), reply_to: None };
        assert_eq!(world.ask(a2, write).map_err(|error| error.code), Err(Code::DEVICE_REVOKED));
        world.crash(a2);
    }
}

#[test]
fn a_name_with_another_key_is_refused_before_anything_is_sent() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    // Somebody else gets the name: the server renames.
    let mut contact = world.nodes[a].core.as_ref().unwrap().contact_for_test("bob");
    contact.name = "carol".to_owned();
    let carol = world.person("carol");
    world.device(carol);
    world.nodes[a].core.as_ref().unwrap().update_contact_for_test(&contact);
    world.crash(a);
    world.settle();
    let send = Command::Send { to: "carol".into(), text: "secret".into(), reply_to: None };
    assert_eq!(world.ask(a, send.clone()).unwrap_err().code, Code::KEY_CHANGED);
    assert!(world.nodes[a].events.iter().any(|event| matches!(event, Event::KeyChanged { .. })));
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one"]);
    world.ask(a, Command::RemoveContact("carol".into())).unwrap();
    world.ask(a, Command::AddContact("carol".into())).unwrap();
    assert!(world.ask(a, send).is_ok());
}

#[test]
fn blocked_people_are_not_heard_and_not_written_to() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    world.ask(b, Command::Block { to: "alice".into(), blocked: true }).unwrap();
    let second = world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one"]);
    assert_eq!(world.state(a, second.id), State::Stored, "a blocked sender learns nothing");
    let send = Command::Send { to: "alice".into(), text: "x".into(), reply_to: None };
    assert_eq!(world.ask(b, send).unwrap_err().code, Code::BLOCKED);
    world.ask(b, Command::Block { to: "alice".into(), blocked: false }).unwrap();
    world.send(a, "bob", "three");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one", "three"]);
}

#[test]
fn contacts_have_petnames_safety_numbers_and_presence() {
    let (mut world, a, b) = two();
    world.ask(a, Command::AddContact("Bob".into())).unwrap();
    world.send(a, "bob", "one");
    world.settle();
    let Ok(Reply::Safety(one, false)) = world.ask(a, Command::SafetyNumber("bob".into())) else { panic!() };
    let Ok(Reply::Safety(other, false)) = world.ask(b, Command::SafetyNumber("alice".into())) else { panic!() };
    assert_eq!(one, other);
    world.ask(a, Command::RenameContact { to: "bob".into(), petname: "bobby".into() }).unwrap();
    world.ask(a, Command::SetVerified { to: "bobby".into(), verified: true }).unwrap();
    let Ok(Reply::Contacts(contacts)) = world.ask(a, Command::SearchContacts("OBB".into())) else { panic!() };
    assert_eq!((contacts.len(), contacts[0].shown_name(), contacts[0].verified), (1, "bobby", true));
    assert_eq!(contacts[0].presence.word(), "online");
    world.send(a, "bobby", "two");
    world.ask(b, Command::Close).unwrap();
    world.settle();
    let Ok(Reply::Contacts(contacts)) = world.ask(a, Command::Contacts) else { panic!() };
    assert_eq!(contacts[0].presence.word(), "offline");
    assert!(contacts[0].seen_ms > 0);
}

#[test]
fn a_stranger_by_the_name_that_a_contact_was_given_is_told_apart() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    let rename = |petname: &str| Command::RenameContact { to: "bob".into(), petname: petname.into() };
    assert_eq!(world.ask(a, rename("Alice")).unwrap_err().code, Code::ALREADY_EXISTS, "one's own name");
    world.ask(a, rename("Carol")).unwrap();
    let carol = world.person("carol");
    let c = world.device(carol);
    world.settle();
    world.send(c, "alice", "it is me");
    world.settle();
    let Ok(Reply::Messages(unshown)) = world.ask(a, Command::Unshown { from: None, limit: 10 }) else { panic!() };
    assert_eq!((unshown[0].sender_name.as_str(), unshown[0].peer_name.as_str()), ("carol@127.0.0.1:1", "carol@127.0.0.1:1"));
    let Ok(Reply::Contacts(contacts)) = world.ask(a, Command::Contacts) else { panic!() };
    let mut names: Vec<_> = contacts.iter().map(|contact| (contact.shown_name(), contact.name.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [("Carol", "bob"), ("carol@127.0.0.1:1", "carol")]);
    // What is read can be typed, and means the same.
    for (to, text) in [("carol", "to bob"), ("carol@127.0.0.1:1", "to carol")] {
        world.send(a, to, text);
        assert_eq!(world.texts(a, to).last().unwrap(), text);
    }
    world.settle();
    assert_eq!(
        (world.texts(b, "alice"), world.texts(c, "alice")),
        (vec!["one".into(), "to bob".into()], vec!["it is me".into(), "to carol".into()])
    );
    world.ask(a, Command::RenameContact { to: "Carol".into(), petname: String::new() }).unwrap();
    assert_eq!(world.history(a, "carol")[0].sender_name, "carol");
}

#[test]
fn presence_of_all_contacts_is_watched_however_late_they_come() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    let carol = world.person("carol");
    world.device(carol);
    world.settle();
    world.send(a, "carol", "two");
    world.settle();
    world.ask(b, Command::Close).unwrap();
    world.settle();
    let Ok(Reply::Contacts(contacts)) = world.ask(a, Command::Contacts) else { panic!() };
    let words: Vec<_> = contacts.iter().map(|contact| (contact.shown_name(), contact.presence.word())).collect();
    assert_eq!(words, [("bob", "offline"), ("carol", "online")]);
    world.crash(a);
    world.settle();
    let Ok(Reply::Contacts(contacts)) = world.ask(a, Command::Contacts) else { panic!() };
    assert_eq!(contacts[1].presence.word(), "online", "a program that starts again asks again");
}

#[test]
fn a_history_in_pages_is_stable_under_new_messages() {
    let (mut world, a, _) = two();
    let ids: Vec<_> = (0..25).map(|n| world.send(a, "bob", &n.to_string()).id).collect();
    world.settle();
    let page = |world: &mut World, page: Page| match world.ask(a, Command::History { to: "bob".into(), page }) {
        Ok(Reply::Messages(messages)) => messages.into_iter().map(|message| message.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let newest = page(&mut world, Page { limit: 10, ..Page::default() });
    assert_eq!(newest, ids[15..]);
    world.send(a, "bob", "new");
    let older = page(&mut world, Page { limit: 10, before: Some(newest[0]), after: None });
    assert_eq!(older, ids[5..15]);
    let newer = page(&mut world, Page { limit: 3, before: None, after: Some(ids[4]) });
    assert_eq!(newer, ids[5..8]);
    let history =
        Command::History { to: "bob".into(), page: Page { before: Some(parlour_wire::MessageId([0; 16])), ..Page::default() } };
    assert_eq!(world.ask(a, history).unwrap_err().code, Code::MESSAGE_NOT_FOUND);
}

#[test]
fn an_older_copy_of_a_profile_is_noticed_and_joins_anew() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    let copy = tempfile::tempdir().unwrap();
    let database = copy.path().join("parlour.db");
    world.with_files(a, |home| assert!(std::fs::copy(home.join("parlour.db"), &database).unwrap() > 0));
    world.settle();
    world.send(a, "bob", "two");
    world.send(b, "alice", "three");
    world.settle();
    world.with_files(a, |home| assert!(std::fs::copy(&database, home.join("parlour.db")).unwrap() > 0));
    world.settle();
    world.send(a, "bob", "four");
    world.send(b, "alice", "five");
    world.settle();
    let mut texts = world.texts(b, "alice");
    texts.sort();
    assert_eq!(texts, ["five", "four", "one", "three", "two"]);
    let history = world.history(a, "bob");
    let notes = history.iter().filter(|message| message.kind == MessageKind::System).count();
    assert_eq!(notes, 1, "{history:?}");
    assert!(history.iter().any(|message| message.text == "five"));
}

#[test]
fn a_log_that_does_not_hang_together_stops_the_conversation() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    world.send(a, "bob", "two");
    while world.transmit(a) {}
    let Some(crate::core::Input::Push { name, content }) = world.arriving(b) else { panic!() };
    let mut entries: parlour_wire::api::Entries = parlour_wire::decode(&content).unwrap();
    entries.entries[0].previous = [1; 32];
    world.input(b, crate::core::Input::Push { name, content: parlour_wire::encode(&entries) });
    let stopped = |event: &Event| matches!(event, Event::Trouble(error) if error.code == Code::SERVER_MISBEHAVED);
    assert!(world.nodes[b].events.iter().any(stopped));
    world.settle();
    let texts = world.texts(b, "alice");
    assert!(texts.len() == 2 && texts[0] == "one" && texts[1].contains("Nothing more is read or sent here"), "{texts:?}");
    let send = Command::Send { to: "alice".into(), text: "x".into(), reply_to: None };
    assert_eq!(world.ask(b, send).unwrap_err().code, Code::SERVER_MISBEHAVED);
}

#[test]
fn what_cannot_be_read_is_shown_and_the_rest_goes_on() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    let damaged = world.send(a, "bob", "two");
    world.damage_next_push(b);
    world.settle();
    let history = world.history(b, "alice");
    assert_eq!((history.len(), history[1].kind, history[1].id), (2, MessageKind::System, damaged.id));
    assert_eq!(world.state(a, damaged.id), State::Stored, "what was not read is not reported as delivered");
}

#[test]
fn a_text_that_is_refused_for_good_has_failed_and_its_writer_knows_why() {
    let mut world = World::new(117);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.send(a, "bob", "hello");
    world.settle();
    world.refuse_some::<Send>(1, Code::FORBIDDEN);
    world.send(a, "bob", "never");
    world.send(a, "bob", "but this");
    world.settle();
    let told: Vec<_> = world.history(b, "alice").into_iter().map(|message| message.text).collect();
    assert_eq!(told, ["hello", "but this"]);
    let shown = world.history(a, "bob").into_iter().find(|message| message.text == "never").unwrap();
    assert_eq!(shown.state, State::Failed);
    let wait = Command::WaitState { id: shown.id, state: State::Stored };
    assert_eq!(world.ask(a, wait).map_err(|error| error.code), Err(Code::FORBIDDEN));
    assert!(world.nodes[a].events.iter().any(|event| matches!(event, Event::MessageFailed { id, .. } if *id == shown.id)));
}

#[test]
fn a_text_too_long_is_refused_at_once() {
    let (mut world, a, _) = two();
    let text = "x".repeat(parlour_wire::limits::MESSAGE_INLINE + 1);
    let send = Command::Send { to: "bob".into(), text, reply_to: None };
    assert_eq!(world.ask(a, send).unwrap_err().code, Code::TOO_LARGE);
}

#[test]
fn nothing_is_reported_on_a_report() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    let head = |world: &World, node: usize| world.nodes[node].core.as_ref().unwrap().head_for_test();
    let before = head(&world, a);
    assert_eq!(before, head(&world, b));
    world.advance(Duration::from_secs(60));
    world.settle();
    assert_eq!(head(&world, a), before, "commit, message, one report, and no more");
    assert_eq!(before, 3);
}

#[test]
fn a_full_disk_keeps_what_was_there_and_says_so() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "one");
    world.settle();
    world.nodes[b].core.as_ref().unwrap().fill_disk_for_test(true);
    world.send(a, "bob", &"x".repeat(60_000));
    let full = |event: &Event| matches!(event, Event::Trouble(error) if error.code == Code::DISK_FULL);
    for _ in 0..200 {
        if !world.step_any() {
            world.advance(Duration::from_millis(100));
        }
    }
    assert!(world.nodes[b].events.iter().any(full));
    let send = Command::Send { to: "alice".into(), text: "y".repeat(60_000), reply_to: None };
    assert_eq!(world.ask(b, send).unwrap_err().code, Code::DISK_FULL);
    world.nodes[b].core.as_ref().unwrap().fill_disk_for_test(false);
    world.settle();
    let texts = world.history(b, "alice");
    assert_eq!(texts.len(), 2, "what did not fit is read again once there is room");
    assert!(texts.iter().all(|message| message.kind == MessageKind::Text));
}

#[test]
fn what_timed_out_while_nothing_got_through_is_asked_again_when_the_session_goes_on() {
    let mut world = World::new(31);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(a, "bob", "first");
    world.settle();
    world.crash(a);
    world.connect(a);
    // Authentication is through; the sync that follows it is not answered any more.
    assert!(world.transmit(a) && world.receive(a));
    world.stand_still(a, Duration::from_secs(40), crate::core::RequestId(2));
    world.send(b, "alice", "second");
    let third = world.send(a, "bob", "third");
    world.settle();
    let mut texts = world.texts(a, "bob");
    texts.sort_unstable();
    assert_eq!(texts, ["first", "second", "third"]);
    assert_eq!(world.state(a, third.id), State::Delivered);
}
