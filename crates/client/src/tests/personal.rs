//! What people say about themselves, what they tell of their reading and typing, and imports.

use std::{collections::BTreeMap, time::Duration};

use parlour_wire::{AccountId, Code, MessageId, limits};

use super::harness::World;
use crate::{
    api::{Avatar, Imported, ImportedPlace, MessageKind, PersonalProfile, ProfileChange, State},
    core::{Command, Reply},
    event::Event,
};

fn two() -> (World, usize, usize) {
    let mut world = World::new(11);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    (world, a, b)
}

fn profile(world: &mut World, node: usize, of: Option<&str>) -> PersonalProfile {
    match world.ask(node, Command::Profile(of.map(str::to_owned))) {
        Ok(Reply::Profile(profile)) => profile,
        other => panic!("{other:?}"),
    }
}

fn call_me(name: &str) -> Command {
    Command::SetProfile(ProfileChange { display_name: Some(name.to_owned()), ..ProfileChange::default() })
}

#[test]
fn a_profile_reaches_old_and_new_contacts_and_own_devices() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "hello");
    world.settle();
    let change = ProfileChange {
        display_name: Some("Alice A.".to_owned()),
        status: Some("at sea".to_owned()),
        avatar: Some(Avatar::Set(vec![0x89, b'P', b'N', b'G'])),
    };
    world.ask(a, Command::SetProfile(change)).unwrap();
    world.settle();
    let seen = profile(&mut world, b, Some("alice"));
    assert_eq!((seen.display_name.as_str(), seen.status.as_str()), ("Alice A.", "at sea"));
    assert_eq!(seen.avatar.as_deref(), Some(&[0x89, b'P', b'N', b'G'][..]));
    assert!(world.nodes[b].events.iter().any(|event| matches!(event, Event::ProfileChanged { .. })));
    assert_eq!(world.texts(b, "alice"), ["hello"], "a profile is no message");

    let carol = world.person("carol");
    let c = world.device(carol);
    world.send(a, "carol", "hello");
    world.settle();
    assert_eq!(profile(&mut world, c, Some("alice")).display_name, "Alice A.");

    // A device that comes later knows it, and what is changed there leaves the rest as it was.
    let second = world.sibling(0);
    world.settle();
    assert_eq!(profile(&mut world, second, None).display_name, "Alice A.");
    let status = ProfileChange { status: Some(String::new()), avatar: Some(Avatar::Remove), ..ProfileChange::default() };
    world.ask(second, Command::SetProfile(status)).unwrap();
    world.settle();
    let own = profile(&mut world, a, None);
    assert_eq!((own.display_name.as_str(), own.status.as_str(), own.avatar), ("Alice A.", "", None));
    let seen = profile(&mut world, b, Some("alice"));
    assert_eq!((seen.display_name.as_str(), seen.status.as_str(), seen.avatar), ("Alice A.", "", None));
    let Ok(Reply::Contacts(contacts)) = world.ask(b, Command::Contacts) else { panic!() };
    assert_eq!(contacts[0].display_name, "Alice A.");
}

#[test]
fn a_group_hears_a_profile_with_the_next_message() {
    let mut world = World::new(12);
    let people: Vec<_> = ["alice", "bob", "carol"].iter().map(|name| world.person(name)).collect();
    let nodes: Vec<_> = people.into_iter().map(|person| world.device(person)).collect();
    world.settle();
    world.ask(nodes[0], call_me("Alice A.")).unwrap();
    super::groups::change(&mut world, nodes[0], super::groups::create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.send(nodes[0], "#club", "hello");
    world.settle();
    let member = world.history(nodes[1], "#club").pop().unwrap();
    assert_eq!(member.text, "hello");
    assert_eq!(world.profile_of(nodes[1], member.sender).display_name, "Alice A.");
}

#[test]
fn a_profile_out_of_bounds_is_refused() {
    let (mut world, a, _) = two();
    let avatar = ProfileChange { avatar: Some(Avatar::Set(vec![0; limits::AVATAR + 1])), ..ProfileChange::default() };
    assert_eq!(world.ask(a, Command::SetProfile(avatar)).unwrap_err().code, Code::TOO_LARGE);
    assert_eq!(world.ask(a, call_me(&"x".repeat(limits::LABEL + 1))).unwrap_err().code, Code::TOO_LARGE);
    assert_eq!(world.ask(a, call_me("\u{1b}[2J")).unwrap_err().code, Code::USAGE);
    assert_eq!(profile(&mut world, a, None), PersonalProfile::default());
}

#[test]
fn reading_and_arrival_are_told_only_by_those_who_want_to() {
    let (mut world, a, b) = two();
    world.ask(b, Command::SetReadReceipts(false)).unwrap();
    let message = world.send(a, "bob", "hello");
    world.settle();
    world.ask(b, Command::MarkShown(vec![message.id])).unwrap();
    world.settle();
    assert_eq!(world.state(a, message.id), State::Delivered);
    world.crash(b);
    let Ok(Reply::Settings(settings)) = world.ask(b, Command::Settings) else { panic!() };
    assert!(!settings.read_receipts && settings.delivery_receipts);
    world.ask(b, Command::SetDeliveryReceipts(false)).unwrap();
    let message = world.send(a, "bob", "in silence");
    world.settle();
    assert_eq!((world.state(a, message.id), world.texts(b, "alice").len()), (State::Stored, 2));
    world.ask(b, Command::SetDeliveryReceipts(true)).unwrap();
    world.ask(b, Command::SetReadReceipts(true)).unwrap();
    let message = world.send(a, "bob", "again");
    world.settle();
    world.ask(b, Command::MarkRead { to: "alice".to_owned(), up_to: Some(message.id) }).unwrap();
    world.settle();
    assert_eq!(world.state(a, message.id), State::Read);
    let Ok(Reply::Conversations(all)) = world.ask(b, Command::Conversations) else { panic!() };
    assert_eq!((all.len(), all[0].name.as_str(), all[0].unread), (1, "alice", 0));
    assert_eq!(all[0].last.as_ref().map(|last| last.id), Some(message.id));
}

#[test]
fn typing_is_told_to_who_is_there_and_never_kept() {
    let (mut world, a, b) = two();
    world.send(a, "bob", "hello");
    world.settle();
    let head = world.head(b);
    let typing = |world: &World| world.nodes[b].events.iter().filter(|event| matches!(event, Event::Typing { .. })).count();
    for _ in 0..5 {
        world.ask(a, Command::Typing("bob".to_owned())).unwrap();
    }
    world.run();
    assert_eq!(typing(&world), 1, "several keys are one signal");
    world.advance(Duration::from_secs(4));
    world.ask(a, Command::Typing("bob".to_owned())).unwrap();
    world.run();
    assert_eq!(typing(&world), 2);
    world.ask(b, Command::Block { to: "alice".to_owned(), blocked: true }).unwrap();
    world.advance(Duration::from_secs(4));
    world.ask(a, Command::Typing("bob".to_owned())).unwrap();
    world.run();
    assert_eq!(typing(&world), 2, "not from somebody blocked");
    assert_eq!((world.head(b), world.texts(b, "alice").len()), (head, 1));
}

fn imported(n: u8, peer: AccountId, text: &str) -> Imported {
    Imported {
        id: MessageId([n; 16]),
        place: ImportedPlace::Direct { peer, name: "bob".to_owned() },
        sender: peer,
        sender_name: "bob".to_owned(),
        outgoing: n.is_multiple_of(2),
        kind: MessageKind::Text,
        text: text.to_owned(),
        file: None,
        reply_to: None,
        sent_ms: 1_600_000_000_000 + u64::from(n),
        stored_ms: Some(1_600_000_000_000 + u64::from(n)),
        edited_ms: None,
        deleted: false,
        expires_ms: None,
        state: State::Queued,
        reactions: vec![(peer, "👍".to_owned())],
        shared_by: n.is_multiple_of(3).then(|| (AccountId([9; 32]), "carol".to_owned())),
    }
}

#[test]
fn what_nobody_could_have_sent_is_not_imported() {
    let (mut world, a, b) = two();
    let Ok(Reply::WhoAmI(Some(bob))) = world.ask(b, Command::WhoAmI) else { panic!() };
    let long = imported(2, bob.account, &"x".repeat(limits::MESSAGE_INLINE + 1));
    let emoji = "x".repeat(limits::REACTION + 1);
    let shouting = Imported { reactions: vec![(bob.account, emoji)], ..imported(4, bob.account, "old") };
    for wrong in [long, shouting] {
        let id = wrong.id.to_string();
        let error = world.ask(a, Command::Import(vec![imported(3, bob.account, "fine"), wrong], BTreeMap::new())).unwrap_err();
        assert!(error.code == Code::USAGE && error.message.contains(&id), "{error:?}");
    }
    assert!(world.texts(a, "bob").is_empty(), "all of it or nothing");
}

/// An import into a conversation that goes on stands before what is newer, in order of time.
#[test]
fn an_import_finds_its_place_among_what_is_there() {
    let (mut world, a, b) = two();
    world.send(b, "alice", "now");
    world.settle();
    let Ok(Reply::WhoAmI(Some(bob))) = world.ask(b, Command::WhoAmI) else { panic!() };
    for batch in [[5, 9], [3, 7]] {
        let messages = batch.iter().map(|n| imported(*n, bob.account, &format!("old {n}"))).collect();
        assert_eq!(world.ask(a, Command::Import(messages, BTreeMap::new())), Ok(Reply::Count(2)));
    }
    assert_eq!(world.texts(a, "bob"), ["old 3", "old 5", "old 7", "old 9", "now"]);
}

#[test]
fn an_import_is_history_and_tells_nobody() {
    let (mut world, a, b) = two();
    let Ok(Reply::WhoAmI(Some(bob))) = world.ask(b, Command::WhoAmI) else { panic!() };
    let messages = vec![imported(2, bob.account, "old one"), imported(3, bob.account, "old answer")];
    assert_eq!(world.ask(a, Command::Import(messages.clone(), BTreeMap::new())), Ok(Reply::Count(2)));
    assert_eq!(world.ask(a, Command::Import(messages, BTreeMap::new())), Ok(Reply::Count(0)), "twice is once");
    world.settle();
    assert_eq!(world.texts(a, "bob"), ["old one", "old answer"]);
    assert!(world.texts(b, "alice").is_empty());
    assert_eq!(world.history(a, "bob")[0].reactions.len(), 1);
    let shared: Vec<_> = world.history(a, "bob").into_iter().map(|message| message.shared_by_name).collect();
    assert_eq!(shared, [None, Some("carol".to_owned())]);
    let Ok(Reply::Messages(unshown)) = world.ask(a, Command::Unshown { from: None, limit: 10 }) else { panic!() };
    assert!(unshown.is_empty());
    world.send(a, "bob", "new");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["new"]);
}
