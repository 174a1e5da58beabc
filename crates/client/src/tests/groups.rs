//! What people do in groups, story by story.

use std::time::Duration;

use parlour_wire::{
    Code,
    api::{AccountById, KeyPackagesClaim, Role},
};

use super::harness::World;
use crate::{
    api::{Group, GroupMember, HistoryPolicy, Message, MessageKind, State},
    core::{Command, GroupCommand, Reply, Ticket},
    error::Error,
    event::Event,
};

/// People with one device each, by name; the first has a group of all of them.
pub(super) fn people(seed: u64, names: &[&str]) -> (World, Vec<usize>) {
    let mut world = World::new(seed);
    let people: Vec<_> = names.iter().map(|name| world.person(name)).collect();
    let nodes: Vec<_> = people.into_iter().map(|person| world.device(person)).collect();
    world.settle();
    (world, nodes)
}

pub(super) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn create(name: &str, members: &[&str]) -> GroupCommand {
    GroupCommand::Create { name: name.to_owned(), members: strings(members), history: HistoryPolicy::None }
}

pub(super) fn add(members: &[&str]) -> GroupCommand {
    GroupCommand::Add { group: "#club".to_owned(), members: strings(members) }
}

pub(super) fn remove(members: &[&str]) -> GroupCommand {
    GroupCommand::Remove { group: "#club".to_owned(), members: strings(members) }
}

pub(super) fn role(member: &str, role: Role) -> GroupCommand {
    GroupCommand::SetRole { group: "#club".to_owned(), member: member.to_owned(), role }
}

fn leave() -> GroupCommand {
    GroupCommand::Leave("club".to_owned())
}

pub(super) fn change(world: &mut World, node: usize, command: GroupCommand) -> Result<Group, Error> {
    match world.ask(node, Command::Group(command)) {
        Ok(Reply::Group(group)) => Ok(group),
        Err(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

pub(super) fn refused(world: &mut World, node: usize, command: GroupCommand) -> Code {
    change(world, node, command).unwrap_err().code
}

pub(super) fn members(world: &mut World, node: usize, group: &str) -> Vec<(String, Role)> {
    match world.ask(node, Command::Group(GroupCommand::Members(group.to_owned()))) {
        Ok(Reply::Members(members)) => {
            let mut members: Vec<_> = members.into_iter().map(|GroupMember { user, role, .. }| (user, role)).collect();
            members.sort();
            members
        }
        other => panic!("{other:?}"),
    }
}

fn names(world: &mut World, node: usize) -> Vec<String> {
    members(world, node, "#club").into_iter().map(|(name, _)| name).collect()
}

pub(super) fn groups(world: &mut World, node: usize) -> Vec<String> {
    match world.ask(node, Command::Group(GroupCommand::List)) {
        Ok(Reply::Groups(groups)) => groups.into_iter().map(|group| group.name).collect(),
        other => panic!("{other:?}"),
    }
}

fn history(world: &mut World, node: usize) -> Vec<Message> {
    world.history(node, "#club")
}

/// What people wrote.
fn said(world: &mut World, node: usize) -> Vec<String> {
    let text = |message: Message| (message.kind == MessageKind::Text).then_some(message.text);
    history(world, node).into_iter().filter_map(text).collect()
}

/// What this program said happened.
fn told(world: &mut World, node: usize) -> Vec<String> {
    let text = |message: Message| (message.kind == MessageKind::System).then_some(message.text);
    history(world, node).into_iter().filter_map(text).collect()
}

#[test]
fn what_was_written_before_goes_out_before_its_writer_leaves() {
    let (mut world, nodes) = people(40, &["alice", "bob"]);
    change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
    world.settle();
    world.restart_offline(nodes[1]);
    let texts: Vec<_> = (0..40).map(|n| format!("so long {n}")).collect();
    let sent: Vec<_> = texts.iter().map(|text| world.send(nodes[1], "#club", text).id).collect();
    world.go_online(nodes[1]);
    change(&mut world, nodes[1], leave()).unwrap();
    world.settle();
    assert_eq!(said(&mut world, nodes[0]), texts);
    assert_eq!(names(&mut world, nodes[0]), ["alice"]);
    assert!(sent.into_iter().all(|id| world.state(nodes[1], id) >= State::Stored));
}

/// The server does not tell whose devices are whose, so nothing is encrypted.
#[test]
fn a_leave_does_not_wait_for_ever_for_what_was_written_before() {
    let (mut world, nodes) = people(41, &["alice", "bob"]);
    change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
    world.settle();
    world.restart_offline(nodes[1]);
    let sent = world.send(nodes[1], "#club", "so long").id;
    world.bend(
        nodes[1],
        Box::new(|asked, input| if asked.is_some_and(|asked| asked.is::<AccountById>()) { Vec::new() } else { vec![input] }),
    );
    world.go_online(nodes[1]);
    change(&mut world, nodes[1], leave()).unwrap();
    world.settle();
    assert_eq!(names(&mut world, nodes[0]), ["alice"]);
    assert_eq!(world.state(nodes[1], sent), State::Queued);
}

/// Alice, alone online, claims keys for a new device of bob's when carol's device is ended; nothing comes of the claim.
#[test]
fn a_removal_that_finds_a_group_busy_happens_later() {
    let (mut world, nodes) = people(42, &["alice", "bob", "carol"]);
    let (a, c) = (nodes[0], nodes[2]);
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let device = world.nodes[c].core.as_ref().unwrap().device_for_test();
    world.stop(nodes[1]);
    world.stop(c);
    let never = world.device(1);
    world.stop(never);
    world.run();
    while !world.is_to_ask::<KeyPackagesClaim>(a) {
        world.advance(Duration::from_millis(500));
    }
    let held = world.hold::<KeyPackagesClaim>(a);
    world.revoke_device(2, &device);
    world.run();
    world.advance(Duration::from_secs(2));
    world.run();
    world.release(a, held);
    world.settle();
    assert_eq!(world.stands_in(a, device), 0);
}

#[test]
fn a_group_is_made_and_everybody_reads_what_is_written_there() {
    let mut world = World::new(1);
    let (alice, bob, carol) = (world.person("alice"), world.person("bob"), world.person("carol"));
    let (a1, a2, b) = (world.device(alice), world.device(alice), world.device(bob));
    let (c1, c2) = (world.device(carol), world.device(carol));
    world.settle();
    let group = change(&mut world, a1, create("#Club", &["bob", "carol"])).unwrap();
    assert_eq!((group.name.as_str(), group.role, group.members), ("club", Role::ADMIN, 3));
    assert_eq!(group.suite.word(), "hybrid");
    world.settle();
    for (node, text) in [(a1, "from alice"), (c2, "from carol"), (b, "from bob"), (a2, "from the other alice")] {
        world.send(node, "#club", text);
        world.settle();
    }
    for node in [a1, a2, b, c1, c2] {
        assert_eq!(said(&mut world, node), ["from alice", "from carol", "from bob", "from the other alice"], "node {node}");
        assert_eq!(names(&mut world, node), ["alice", "bob", "carol"], "node {node}");
        assert_eq!(groups(&mut world, node), ["club"]);
    }
    assert_eq!(told(&mut world, a1), ["You created #club with bob, carol."]);
    assert_eq!(told(&mut world, b)[0], "You were added to #club.");
    let message = history(&mut world, b).into_iter().find(|message| message.text == "from alice").unwrap();
    assert_eq!((message.group.as_deref(), message.peer, message.sender_name.as_str()), (Some("#club"), None, "alice"));
}

#[test]
fn a_message_is_delivered_when_a_device_of_every_other_member_has_it() {
    let (mut world, nodes) = people(2, &["alice", "bob", "carol"]);
    change(&mut world, nodes[0], create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.ask(nodes[2], Command::Close).unwrap();
    let sent = world.send(nodes[0], "#club", "one");
    world.settle();
    assert_eq!(world.state(nodes[0], sent.id), State::Stored, "carol is away");
    let Ok(Reply::Status(status)) = world.ask(nodes[0], Command::Status(sent.id)) else { panic!() };
    assert_eq!(status.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["bob"]);
    world.go_online(nodes[2]);
    world.settle();
    assert_eq!(world.state(nodes[0], sent.id), State::Delivered);
    world.ask(nodes[1], Command::MarkShown(vec![sent.id])).unwrap();
    world.settle();
    assert_eq!(world.state(nodes[0], sent.id), State::Delivered, "carol has not read it");
    world.ask(nodes[2], Command::MarkShown(vec![sent.id])).unwrap();
    world.settle();
    assert_eq!(world.state(nodes[0], sent.id), State::Read);
    let gone = {
        world.ask(nodes[2], Command::Close).unwrap();
        world.send(nodes[0], "#club", "two")
    };
    world.settle();
    change(&mut world, nodes[0], remove(&["carol"])).unwrap();
    world.settle();
    assert_eq!(world.state(nodes[0], gone.id), State::Delivered, "who is out does not count");
}

#[test]
fn who_comes_in_reads_nothing_earlier_and_who_goes_nothing_later() {
    let (mut world, nodes) = people(3, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.send(a, "#club", "before");
    world.settle();
    assert_eq!(refused(&mut world, a, add(&["bob"])), Code::ALREADY_EXISTS);
    assert_eq!(refused(&mut world, a, add(&["nobody"])), Code::USER_NOT_FOUND);
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    world.send(b, "#club", "between");
    world.settle();
    assert_eq!(said(&mut world, c), ["between"]);
    assert!(told(&mut world, b).contains(&"alice added carol.".to_owned()));
    change(&mut world, a, remove(&["carol"])).unwrap();
    world.send(a, "#club", "after");
    world.settle();
    assert_eq!(said(&mut world, c), ["between"]);
    assert_eq!(said(&mut world, b), ["before", "between", "after"]);
    assert_eq!(told(&mut world, c).last().unwrap(), "alice removed you from #club.");
    assert_eq!(names(&mut world, b), ["alice", "bob"]);
    let send = Command::Send { to: "#club".into(), text: "x".into(), reply_to: None };
    assert_eq!(world.ask(c, send).unwrap_err().code, Code::NOT_MEMBER);
    assert_eq!(refused(&mut world, c, leave()), Code::NOT_MEMBER);
    assert!(groups(&mut world, c).is_empty());
    assert_eq!(refused(&mut world, a, remove(&["carol"])), Code::USER_NOT_FOUND);
    // Back again.
    change(&mut world, a, add(&["carol"])).unwrap();
    world.send(a, "#club", "again");
    world.settle();
    assert_eq!(said(&mut world, c), ["between", "again"]);
    world.send(c, "#club", "thanks");
    world.settle();
    assert_eq!(said(&mut world, b).last().unwrap(), "thanks");
}

#[test]
fn only_admins_change_a_group_and_there_is_always_one() {
    let (mut world, nodes) = people(4, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let rename = |name: &str| GroupCommand::Rename { group: "#club".into(), name: name.into() };
    for command in [add(&["alice"]), remove(&["carol"]), role("bob", Role::ADMIN), rename("other")] {
        assert_eq!(refused(&mut world, b, command), Code::FORBIDDEN);
    }
    assert_eq!(refused(&mut world, a, role("alice", Role::MEMBER)), Code::FORBIDDEN, "the last admin");
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    assert!(told(&mut world, c).contains(&"alice made bob an admin.".to_owned()));
    change(&mut world, b, role("alice", Role::MEMBER)).unwrap();
    world.settle();
    let expected = [("alice", Role::MEMBER), ("bob", Role::ADMIN), ("carol", Role::MEMBER)];
    for node in [a, b, c] {
        assert_eq!(members(&mut world, node, "#club"), expected.map(|(name, role)| (name.to_owned(), role)));
    }
    assert_eq!(refused(&mut world, a, remove(&["carol"])), Code::FORBIDDEN);
    let all = GroupCommand::SetHistory { group: "#club".into(), history: HistoryPolicy::Last(7) };
    assert_eq!(change(&mut world, b, all).unwrap().history, HistoryPolicy::Last(7));
    assert_eq!(change(&mut world, b, rename("#other")).unwrap().name, "other");
    world.settle();
    for node in [a, b, c] {
        assert_eq!(groups(&mut world, node), ["other"], "node {node}");
    }
    assert_eq!(refused(&mut world, b, leave()), Code::CONVERSATION_NOT_FOUND, "under its old name");
}

#[test]
fn users_and_groups_share_one_namespace() {
    let (mut world, nodes) = people(5, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    assert_eq!(refused(&mut world, a, create("bob", &[])), Code::NAME_TAKEN);
    assert_eq!(refused(&mut world, a, create("not a name", &[])), Code::USAGE);
    change(&mut world, a, create("club", &[])).unwrap();
    assert_eq!(refused(&mut world, a, create("CLUB", &["bob"])), Code::NAME_TAKEN);
    assert_eq!(refused(&mut world, b, create("club", &["alice"])), Code::NAME_TAKEN);
    assert!(groups(&mut world, b).is_empty(), "nothing is left of a group that never was");
    change(&mut world, b, create("team", &["alice"])).unwrap();
    let rename = GroupCommand::Rename { group: "#team".into(), name: "club".into() };
    assert_eq!(refused(&mut world, b, rename), Code::NAME_TAKEN);
    for (name, exists) in [("#club", true), ("team", true), ("bob", false), ("nothing", false)] {
        let Ok(Reply::Exists(is)) = world.ask(b, Command::Group(GroupCommand::Exists(name.into()))) else { panic!() };
        assert_eq!(is, exists, "{name}");
    }
    world.settle();
    world.send(b, "#team", "still there");
    world.settle();
    assert_eq!(world.texts(a, "#team").last().unwrap(), "still there");
}

#[test]
fn who_leaves_is_out_everywhere_and_the_last_admin_hands_over() {
    let mut world = World::new(6);
    let (alice, bob, carol) = (world.person("alice"), world.person("bob"), world.person("carol"));
    let (a1, a2, b, c) = (world.device(alice), world.device(alice), world.device(bob), world.device(carol));
    world.settle();
    change(&mut world, a1, create("club", &["bob"])).unwrap();
    world.settle();
    change(&mut world, a1, add(&["carol"])).unwrap();
    world.settle();
    world.send(b, "#club", "before");
    world.settle();
    assert!(change(&mut world, a1, leave()).unwrap().left);
    world.send(b, "#club", "after");
    world.settle();
    for node in [a1, a2] {
        assert_eq!(said(&mut world, node), ["before"], "node {node}");
        assert_eq!(told(&mut world, node).last().unwrap(), "You left #club.");
        assert!(groups(&mut world, node).is_empty());
    }
    assert_eq!(said(&mut world, c), ["before", "after"]);
    assert!(told(&mut world, c).contains(&"alice left.".to_owned()));
    let expected = [("bob".to_owned(), Role::ADMIN), ("carol".to_owned(), Role::MEMBER)];
    for node in [b, c] {
        assert_eq!(members(&mut world, node, "#club"), expected, "node {node}");
    }
    change(&mut world, b, role("carol", Role::ADMIN)).unwrap();
    world.settle();
    change(&mut world, b, leave()).unwrap();
    world.settle();
    change(&mut world, c, leave()).unwrap();
    world.settle();
    let Ok(Reply::Exists(false)) = world.ask(a1, Command::Group(GroupCommand::Exists("club".into()))) else { panic!() };
    change(&mut world, a1, create("club", &["bob"])).unwrap();
    world.settle();
    world.send(a1, "#club", "anew");
    world.settle();
    assert_eq!(said(&mut world, b).last().unwrap(), "anew");
}

/// Bob leaves, and the answer is lost with his program; before he is back, alice brings him in again.
#[test]
fn who_left_and_was_brought_back_before_hearing_of_it_stays() {
    let mut brought_back = 0;
    for steps in 0..12 {
        let (mut world, nodes) = people(17, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        change(&mut world, a, create("club", &["bob"])).unwrap();
        world.settle();
        world.command(b, Command::Group(leave()));
        for _ in 0..steps {
            world.step_any();
        }
        world.offline(b);
        world.settle();
        if members(&mut world, a, "#club").len() == 2 {
            continue;
        }
        change(&mut world, a, add(&["bob"])).unwrap();
        world.settle();
        world.back(b);
        world.settle();
        brought_back += 1;
        assert_eq!(groups(&mut world, b).len(), 1, "after {steps} steps");
        world.send(b, "#club", "here again");
        world.settle();
        assert_eq!(said(&mut world, a).last().unwrap(), "here again");
    }
    assert!(brought_back > 0);
}

#[test]
fn a_device_that_comes_in_later_knows_who_has_left_before() {
    let mut world = World::new(16);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b1) = (world.device(alice), world.device(bob));
    world.settle();
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.offline(b1);
    change(&mut world, a, leave()).unwrap();
    world.settle();
    // Nobody is there to let it in, nor to have taken alice out.
    let b2 = world.device(bob);
    world.settle();
    for node in [b2, b1] {
        assert_eq!(members(&mut world, node, "#club"), [("bob".to_owned(), Role::ADMIN)], "node {node}");
        assert_eq!(told(&mut world, node).iter().filter(|text| *text == "alice left.").count(), 1, "node {node}");
        world.back(b1);
        world.settle();
    }
}

#[test]
fn changes_made_at_the_same_time_all_happen() {
    let (mut world, nodes) = people(7, &["alice", "bob", "carol", "dave", "erin"]);
    change(&mut world, nodes[0], create("club", &["bob", "carol"])).unwrap();
    world.settle();
    change(&mut world, nodes[0], role("bob", Role::ADMIN)).unwrap();
    world.settle();
    for (node, name) in [(nodes[0], "dave"), (nodes[1], "dave"), (nodes[0], "erin"), (nodes[1], "erin")] {
        world.ask(node, Command::AddContact(name.to_owned())).unwrap();
    }
    let at_once = |world: &mut World, commands: [(usize, GroupCommand); 2]| {
        let tickets: Vec<(usize, Ticket)> =
            commands.into_iter().map(|(node, command)| (node, world.command(node, Command::Group(command)))).collect();
        world.settle();
        for (node, ticket) in tickets {
            assert!(matches!(world.nodes[node].replies.remove(&ticket), Some(Ok(Reply::Group(_)))), "node {node}");
        }
    };
    at_once(&mut world, [(nodes[0], add(&["dave"])), (nodes[1], add(&["erin"]))]);
    assert_eq!(names(&mut world, nodes[2]), ["alice", "bob", "carol", "dave", "erin"]);
    // The same twice is done once.
    at_once(&mut world, [(nodes[0], remove(&["dave"])), (nodes[1], remove(&["dave"]))]);
    assert_eq!(names(&mut world, nodes[4]), ["alice", "bob", "carol", "erin"]);
    world.send(nodes[4], "#club", "hello");
    world.settle();
    for node in [0, 1, 2, 4] {
        assert_eq!(said(&mut world, nodes[node]), ["hello"], "node {node}");
    }
    assert!(said(&mut world, nodes[3]).is_empty());
}

#[test]
fn somebody_removed_while_away_finds_out_and_tries_nothing_more() {
    let (mut world, nodes) = people(8, &["alice", "bob", "carol"]);
    let [a, b, _] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.ask(b, Command::Close).unwrap();
    let queued = world.send(b, "#club", "from afar");
    change(&mut world, a, remove(&["bob"])).unwrap();
    world.settle();
    let waiting = world.command(b, Command::WaitState { id: queued.id, state: State::Stored });
    world.go_online(b);
    world.settle();
    let reply = world.nodes[b].replies.remove(&waiting).unwrap();
    assert_eq!(reply.unwrap_err().code, Code::NOT_MEMBER);
    assert_eq!(told(&mut world, b).last().unwrap(), "You are not in #club any more.");
    assert_eq!(world.state(b, queued.id), State::Queued);
    assert!(said(&mut world, a).is_empty());
    world.nodes[b].events.clear();
    world.settle();
    assert!(world.nodes[b].events.is_empty(), "{:?}", world.nodes[b].events);
}

#[test]
fn a_new_device_comes_into_all_groups_of_its_account() {
    let (mut world, nodes) = people(9, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let b2 = world.device(1);
    world.settle();
    world.send(a, "#club", "hello");
    world.settle();
    assert_eq!(said(&mut world, b2), ["hello"]);
    world.send(b2, "#club", "from the new one");
    world.settle();
    assert_eq!(said(&mut world, a), ["hello", "from the new one"]);
    world.revoke(1, b2);
    world.settle();
    world.send(a, "#club", "not for it");
    world.settle();
    assert_eq!(said(&mut world, b2), ["hello", "from the new one"]);
    assert_eq!(said(&mut world, b), ["hello", "from the new one", "not for it"]);
}

#[test]
fn an_older_copy_of_a_profile_joins_its_groups_anew_before_it_says_anything() {
    let (mut world, nodes) = people(10, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.send(a, "#club", "one");
    world.settle();
    let copy = tempfile::tempdir().unwrap();
    let database = copy.path().join("parlour.db");
    world.with_files(a, |home| assert!(std::fs::copy(home.join("parlour.db"), &database).unwrap() > 0));
    world.settle();
    world.send(a, "#club", "two");
    world.settle();
    change(&mut world, a, remove(&["carol"])).unwrap();
    world.settle();
    world.with_files(a, |home| assert!(std::fs::copy(&database, home.join("parlour.db")).unwrap() > 0));
    world.send(a, "#club", "three");
    world.settle();
    world.send(b, "#club", "four");
    world.settle();
    assert_eq!(said(&mut world, b), ["one", "two", "three", "four"]);
    assert_eq!(said(&mut world, c), ["one", "two"]);
    assert!(said(&mut world, a).contains(&"four".to_owned()));
    assert_eq!(names(&mut world, a), ["alice", "bob"]);
    assert!(told(&mut world, a).iter().any(|text| text.contains("older copy")));
    let unread = |text: &String| text.contains("could not be read");
    assert!(!told(&mut world, b).iter().any(unread) && !told(&mut world, a).iter().any(unread));
}

#[test]
fn what_an_older_copy_still_had_to_send_and_the_server_has_already_holds_nothing_up() {
    let (mut world, nodes) = people(14, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    // The server has the message; the program dies before it hears so, and the copy is of that moment.
    world.command(a, Command::Send { to: "#club".into(), text: "one".into(), reply_to: None });
    while world.transmit(a) {}
    let copy = tempfile::tempdir().unwrap();
    let database = copy.path().join("parlour.db");
    world.with_files(a, |home| assert!(std::fs::copy(home.join("parlour.db"), &database).unwrap() > 0));
    world.settle();
    world.send(a, "#club", "two");
    world.settle();
    world.with_files(a, |home| assert!(std::fs::copy(&database, home.join("parlour.db")).unwrap() > 0));
    world.settle();
    // The epoch moves on.
    world.device(1);
    world.settle();
    let three = world.send(a, "#club", "three");
    world.settle();
    assert_eq!(world.state(a, three.id), State::Delivered);
    assert_eq!(said(&mut world, b), ["one", "two", "three"]);
}

#[test]
fn a_group_that_somebody_came_into_while_away_can_be_written_to_at_once() {
    let (mut world, nodes) = people(13, &["alice", "bob"]);
    world.ask(nodes[1], Command::Close).unwrap();
    change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
    world.settle();
    let send = |to: &str| Command::Send { to: to.into(), text: "here I am".into(), reply_to: None };
    assert_eq!(world.ask(nodes[1], send("#club")).unwrap_err().code, Code::CONVERSATION_NOT_FOUND, "offline");
    world.go_online(nodes[1]);
    let sent = world.command(nodes[1], send("#club"));
    let unknown = world.command(nodes[1], send("#nothing"));
    world.settle();
    assert!(matches!(world.nodes[nodes[1]].replies.remove(&sent), Some(Ok(Reply::Message(_)))));
    let unknown = world.nodes[nodes[1]].replies.remove(&unknown).unwrap();
    assert_eq!(unknown.unwrap_err().code, Code::CONVERSATION_NOT_FOUND);
    assert_eq!(said(&mut world, nodes[0]), ["here I am"]);
}

#[test]
fn listeners_hear_of_changes_of_a_group() {
    let (mut world, nodes) = people(11, &["alice", "bob", "carol"]);
    change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
    world.settle();
    world.nodes[nodes[1]].events.clear();
    change(&mut world, nodes[0], add(&["carol"])).unwrap();
    world.settle();
    let heard = |event: &Event| matches!(event, Event::GroupChanged { name: Some(name), .. } if name == "club");
    assert!(world.nodes[nodes[1]].events.iter().any(heard));
    assert!(world.nodes[nodes[2]].events.iter().any(heard));
}

#[test]
fn a_change_needs_the_server_and_queues_nothing_without_it() {
    let (mut world, nodes) = people(12, &["alice", "bob"]);
    change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
    world.settle();
    world.ask(nodes[0], Command::Close).unwrap();
    assert_eq!(refused(&mut world, nodes[0], remove(&["bob"])), Code::UNREACHABLE);
    assert_eq!(names(&mut world, nodes[0]), ["alice", "bob"], "members are listed offline");
    world.go_online(nodes[0]);
    world.settle();
    assert_eq!(names(&mut world, nodes[1]), ["alice", "bob"]);
}
