//! What the devices of one account tell each other, and what others cannot make them believe.

use parlour_wire::{
    ConversationId, DeviceId,
    api::{AccountById, Call as _},
    content::Body,
    log::EntryKind,
};

use super::harness::World;
use crate::{
    api::{Contact, Message, Settings},
    core::{Command, Reply},
};

/// Alice with two devices, and bob; all online.
pub(super) fn two_devices(seed: u64) -> (World, [usize; 3]) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let nodes = [world.device(alice), world.device(alice), world.device(bob)];
    world.settle();
    (world, nodes)
}

fn contacts(world: &mut World, node: usize) -> Vec<Contact> {
    match world.ask(node, Command::Contacts) {
        Ok(Reply::Contacts(contacts)) => contacts,
        other => panic!("{other:?}"),
    }
}

fn contact(world: &mut World, node: usize, name: &str) -> Contact {
    contacts(world, node).into_iter().find(|contact| contact.name == name).unwrap()
}

fn unshown(world: &mut World, node: usize) -> Vec<Message> {
    match world.ask(node, Command::Unshown { from: None, limit: 1000 }) {
        Ok(Reply::Messages(messages)) => messages,
        other => panic!("{other:?}"),
    }
}

fn draft(world: &mut World, node: usize) -> String {
    match world.ask(node, Command::Draft("bob".to_owned())) {
        Ok(Reply::Draft(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn rename(to: &str, petname: &str) -> Command {
    Command::RenameContact { to: to.to_owned(), petname: petname.to_owned() }
}

#[test]
fn contacts_petnames_blocks_marks_settings_and_drafts_are_the_same_on_all_devices() {
    let (mut world, [first, second, _]) = two_devices(1);
    world.ask(first, Command::AddContact("bob".to_owned())).unwrap();
    world.ask(first, rename("bob", "Bobby")).unwrap();
    world.ask(first, Command::SetVerified { to: "bob".to_owned(), verified: true }).unwrap();
    world.ask(first, Command::SetReadReceipts(false)).unwrap();
    world.ask(first, Command::SetDraft { to: "bob".to_owned(), text: "half a sent".to_owned() }).unwrap();
    world.settle();
    let seen = contact(&mut world, second, "bob");
    assert_eq!((seen.petname.as_deref(), seen.verified, seen.added, seen.blocked), (Some("Bobby"), true, true, false));
    assert_eq!(
        world.ask(second, Command::Settings),
        Ok(Reply::Settings(Settings { read_receipts: false, delivery_receipts: true }))
    );
    assert_eq!(draft(&mut world, second), "half a sent");

    world.ask(second, Command::Block { to: "Bobby".to_owned(), blocked: true }).unwrap();
    world.ask(second, rename("bob", "")).unwrap();
    world.ask(second, Command::SetDraft { to: "bob".to_owned(), text: String::new() }).unwrap();
    world.settle();
    let seen = contact(&mut world, first, "bob");
    assert_eq!((seen.petname.as_deref(), seen.blocked, seen.verified), (None, true, true));
    assert_eq!(draft(&mut world, first), "");

    world.ask(first, Command::RemoveContact("bob".to_owned())).unwrap();
    world.settle();
    assert!(contacts(&mut world, second).is_empty());
    world.ask(second, Command::AddContact("bob".to_owned())).unwrap();
    world.settle();
    let seen = contact(&mut world, first, "bob");
    assert_eq!((seen.added, seen.blocked, seen.verified), (true, false, false), "who was removed comes back as new");
}

#[test]
fn what_was_agreed_before_there_was_a_second_device_reaches_it() {
    let mut world = World::new(2);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let first = world.device(alice);
    world.device(bob);
    world.settle();
    world.ask(first, rename("bob", "Bobby")).unwrap();
    world.ask(first, Command::Block { to: "bob".to_owned(), blocked: true }).unwrap();
    world.settle();
    let second = world.device(alice);
    world.settle();
    let seen = contact(&mut world, second, "bob");
    assert_eq!((seen.petname.as_deref(), seen.blocked), (Some("Bobby"), true));
    // A third one hears it from the others, too.
    let third = world.sibling(alice);
    world.settle();
    assert_eq!(contact(&mut world, third, "bob").petname.as_deref(), Some("Bobby"));
}

#[test]
fn two_devices_that_change_the_same_thing_at_once_agree_afterwards() {
    for seed in 0..10 {
        let (mut world, [first, second, _]) = two_devices(10 + seed);
        for node in [first, second] {
            world.ask(node, Command::AddContact("bob".to_owned())).unwrap();
        }
        world.settle();
        world.cut(first);
        world.cut(second);
        let one = world.command(first, rename("bob", "One"));
        let two = world.command(second, rename("bob", "Two"));
        world.command(first, Command::Block { to: "bob".to_owned(), blocked: true });
        world.settle();
        assert!(world.nodes[first].replies[&one].is_ok() && world.nodes[second].replies[&two].is_ok());
        let (a, b) = (contact(&mut world, first, "bob"), contact(&mut world, second, "bob"));
        assert_eq!((&a.petname, a.blocked), (&b.petname, b.blocked), "seed {seed}");
        assert!(a.petname.is_some() && a.blocked);
    }
}

#[test]
fn one_petname_given_to_two_people_at_once_goes_to_the_same_one_everywhere() {
    let (mut world, [first, second, _]) = two_devices(3);
    let carol = world.person("carol");
    world.device(carol);
    world.settle();
    for node in [first, second] {
        for name in ["bob", "carol"] {
            world.ask(node, Command::AddContact(name.to_owned())).unwrap();
        }
    }
    world.settle();
    world.cut(first);
    world.cut(second);
    world.command(first, rename("bob", "Pal"));
    world.command(second, rename("carol", "Pal"));
    world.settle();
    let of = |world: &mut World, node| {
        let named = contacts(world, node).into_iter().filter(|contact| contact.petname.is_some());
        named.map(|contact| contact.name).collect::<Vec<_>>()
    };
    let on_first = of(&mut world, first);
    assert_eq!(on_first.len(), 1);
    assert_eq!(on_first, of(&mut world, second));
}

#[test]
fn what_was_shown_on_one_device_is_nothing_new_on_the_other() {
    let (mut world, [first, second, bob]) = two_devices(4);
    let ids: Vec<_> = (0..3).map(|n| world.send(bob, "alice", &n.to_string()).id).collect();
    world.settle();
    assert_eq!(unshown(&mut world, second).len(), 3);
    world.ask(first, Command::MarkShown(ids[..2].to_vec())).unwrap();
    world.settle();
    assert_eq!(unshown(&mut world, second).into_iter().map(|message| message.id).collect::<Vec<_>>(), ids[2..]);
    // The mark may come before its message.
    world.cut(second);
    let late = world.send(bob, "alice", "late").id;
    while world.history(first, "bob").iter().all(|message| message.id != late) {
        assert!(world.connect(bob) || world.transmit(bob) || world.receive(bob) || world.receive(first) || world.transmit(first));
    }
    world.ask(first, Command::MarkShown(vec![late])).unwrap();
    world.settle();
    assert_eq!(unshown(&mut world, second).into_iter().map(|message| message.id).collect::<Vec<_>>(), ids[2..]);
}

#[test]
fn what_is_written_on_one_device_shows_on_the_other() {
    let (mut world, [first, second, bob]) = two_devices(5);
    world.send(first, "bob", "from the first");
    world.settle();
    world.send(second, "bob", "from the second");
    world.settle();
    for (node, with) in [(first, "bob"), (second, "bob"), (bob, "alice")] {
        assert_eq!(world.texts(node, with), ["from the first", "from the second"]);
    }
    assert!(unshown(&mut world, second).is_empty());
}

#[test]
fn words_between_own_devices_mean_nothing_elsewhere_and_garbage_is_harmless() {
    let (mut world, [first, second, bob]) = two_devices(6);
    world.send(bob, "alice", "hello");
    world.settle();
    world.ask(first, rename("bob", "Bobby")).unwrap();
    world.settle();
    let account = |world: &mut World, node| match world.ask(node, Command::WhoAmI) {
        Ok(Reply::WhoAmI(Some(who))) => who.account,
        other => panic!("{other:?}"),
    };
    let (alice_id, bob_id) = (account(&mut world, first), account(&mut world, bob));
    // Bob forges a change in the direct conversation, as good as his own devices would make it.
    let direct = ConversationId::direct(&alice_id, &bob_id);
    let stamp = crate::core::own::Stamp { at_ms: (1 << 48) - 1, device: DeviceId([255; 16]) };
    let (kind, subject, value) = crate::core::own::Meaning::Petname(bob_id, Some("Boss".to_owned())).parts();
    let register = crate::core::own::Register { kind, subject, value, stamp };
    let forged = crate::core::own::Sync { registers: vec![register], ..Default::default() }.to_bytes();
    world.nodes[bob].core.as_mut().unwrap().say_in_for_test(&direct, Body::Sync(forged));
    // An own device of ours says nonsense.
    let own = ConversationId::own(&alice_id);
    for nonsense in [vec![], vec![0xff; 1000], vec![0xa1, 0x00, 0x9f], b"{}".to_vec()] {
        world.nodes[first].core.as_mut().unwrap().say_in_for_test(&own, Body::Sync(nonsense));
    }
    world.nodes[first].core.as_mut().unwrap().say_in_for_test(&own, Body::Text("a text in the wrong place".to_owned()));
    world.send(bob, "alice", "still here");
    world.settle();
    for node in [first, second] {
        assert_eq!(contact(&mut world, node, "bob").petname.as_deref(), Some("Bobby"));
        assert_eq!(world.texts(node, "bob"), ["hello", "still here"]);
        assert_eq!(unshown(&mut world, node).len(), 2, "nothing else is there to be read");
    }
    world.ask(second, rename("bob", "Bob2")).unwrap();
    world.settle();
    assert_eq!(contact(&mut world, first, "bob").petname.as_deref(), Some("Bob2"), "the devices still talk");
}

#[test]
fn a_change_stamped_in_the_far_future_is_followed_by_others_all_the_same() {
    let (mut world, [first, second, bob]) = two_devices(11);
    let third = world.device(0);
    world.settle();
    let (alice_id, bob_id) = (world.account(0), world.account(1));
    world.ask(bob, Command::AddContact("alice".to_owned())).unwrap();
    world.ask(first, Command::AddContact("bob".to_owned())).unwrap();
    world.settle();
    // One of alice's devices is in other hands and wants to have the last word.
    let stamp = crate::core::own::Stamp { at_ms: (1 << 48) - 1, device: DeviceId([255; 16]) };
    let (kind, subject, value) = crate::core::own::Meaning::Petname(bob_id, Some("Boss".to_owned())).parts();
    let register = crate::core::own::Register { kind, subject, value, stamp };
    let told = crate::core::own::Sync { registers: vec![register], ..Default::default() }.to_bytes();
    world.nodes[second].core.as_mut().unwrap().say_in_for_test(&ConversationId::own(&alice_id), Body::Sync(told));
    contacts(&mut world, second);
    world.settle();
    for node in [first, third] {
        assert_eq!(contact(&mut world, node, "bob").petname.as_deref(), Some("Boss"), "it is a change like any other");
    }
    world.ask(first, rename("bob", "Bobby")).unwrap();
    world.settle();
    for node in [first, second, third] {
        assert_eq!(contact(&mut world, node, "bob").petname.as_deref(), Some("Bobby"));
    }
}

#[test]
fn a_device_whose_clock_is_far_ahead_hears_the_others_like_before() {
    let (mut world, [first, second, _]) = two_devices(12);
    world.ask(first, Command::AddContact("bob".to_owned())).unwrap();
    world.settle();
    world.command_at(first, 24 * 3600 * 1000, rename("bob", "Tomorrow"));
    world.settle();
    assert_eq!(contact(&mut world, second, "bob").petname.as_deref(), Some("Tomorrow"));
    for (writer, name) in [(second, "Today"), (first, "Now")] {
        world.ask(writer, rename("bob", name)).unwrap();
        world.settle();
        for node in [first, second] {
            assert_eq!(contact(&mut world, node, "bob").petname.as_deref(), Some(name));
        }
    }
}

/// Alice with a device that is lost and one that is away, bob, and others, in a group; all but bob are away, and the device is ended.
fn ended_while_away(seed: u64, others: &[&str]) -> (World, usize, DeviceId) {
    let mut world = World::new(seed);
    let alice = world.person("alice");
    let (first, lost) = (world.device(alice), world.device(alice));
    let bob = world.person("bob");
    let b = world.device(bob);
    for name in others {
        let person = world.person(name);
        world.device(person);
    }
    world.settle();
    let members: Vec<_> = ["bob"].iter().chain(others).copied().collect();
    super::groups::change(&mut world, first, super::groups::create("club", &members)).unwrap();
    world.settle();
    let device = world.nodes[lost].core.as_ref().unwrap().device_for_test();
    for node in 0..world.nodes.len() {
        world.stop(node);
    }
    world.revoke_device(alice, &device);
    world.open(b);
    assert_eq!(world.stands_in(b, device), 1);
    (world, b, device)
}

/// The kinds of the last entries of the only group.
fn last_kinds<const N: usize>(world: &mut World, node: usize) -> [EntryKind; N] {
    let group = world.group(node);
    let kinds: Vec<_> = world.log(node, group, 0).into_iter().map(|entry| entry.kind).collect();
    kinds[kinds.len() - N..].try_into().unwrap()
}

#[test]
fn who_was_away_when_a_device_was_ended_asks_before_writing_to_a_group() {
    let (mut world, b, lost) = ended_while_away(8, &["carol"]);
    let requests = world.count::<AccountById>(b);
    world.go_online(b);
    world.settle();
    assert_eq!(requests.get(), 0, "coming back costs nothing");
    world.send(b, "#club", "not for the lost one");
    world.settle();
    assert_eq!(last_kinds(&mut world, b), [EntryKind::COMMIT, EntryKind::MESSAGE]);
    assert_eq!((requests.get(), world.stands_in(b, lost)), (2, 0));
    world.send(b, "#club", "again");
    world.settle();
    assert_eq!(requests.get(), 2, "once in a session");
    // Who closes right after writing waits for what the message waits for.
    world.cut(b);
    world.settle();
    let last = world.send(b, "#club", "and gone").id;
    world.ask(b, Command::Close).unwrap();
    assert_eq!(world.state(b, last), crate::api::State::Stored);
}

#[test]
fn in_a_larger_group_the_first_message_does_not_wait_and_the_device_goes_nevertheless() {
    let (mut world, b, lost) = ended_while_away(9, &["carol", "dave", "eve"]);
    world.go_online(b);
    world.settle();
    world.send(b, "#club", "hello");
    world.settle();
    assert_eq!(last_kinds(&mut world, b), [EntryKind::MESSAGE, EntryKind::COMMIT]);
    assert_eq!(world.stands_in(b, lost), 0);
}

#[test]
fn a_server_that_tells_nothing_of_devices_does_not_hold_up_what_is_written() {
    let (mut world, b, _) = ended_while_away(10, &["carol"]);
    let nothing = |_: &[u8], _| Err(crate::Error::new(parlour_wire::Code::RATE_LIMITED, "later"));
    world.bend(b, super::harness::bent::replies(AccountById::NAME, nothing));
    world.go_online(b);
    world.settle();
    let requests = world.nodes[b].asked();
    let id = world.send(b, "#club", "hello").id;
    world.settle();
    assert_eq!(world.state(b, id), crate::api::State::Stored);
    assert!(world.nodes[b].asked() - requests < 10);
}

#[test]
fn a_revoked_device_hears_nothing_more_from_its_siblings() {
    let mut world = World::new(7);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (first, second) = (world.device(alice), world.device(alice));
    let b = world.device(bob);
    world.settle();
    super::groups::change(&mut world, first, super::groups::create("club", &["bob"])).unwrap();
    world.settle();
    world.revoke(alice, second);
    world.settle();
    world.ask(first, rename("bob", "Secret")).unwrap();
    world.send(first, "bob", "only for the others");
    world.send(b, "#club", "the group too");
    world.settle();
    assert!(world.texts(first, "#club").contains(&"the group too".to_owned()));
    assert!(world.nodes[second].events.iter().any(|event| matches!(event, crate::Event::SignedOut { .. })));
    assert!(contacts(&mut world, second).iter().all(|contact| contact.petname.is_none()));
    let heard: Vec<_> = world.nodes[second].events.iter().map(|event| format!("{event:?}")).collect();
    assert!(!heard.iter().any(|event| event.contains("only for the others") || event.contains("the group too")));
}
