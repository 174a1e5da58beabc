//! Groups that outgrow their suite, and groups that are full. The bounds are low here, so that a few devices reach them.

use std::{cell::Cell, rc::Rc, time::Duration};

use parlour_server::store::{Store as _, Write, suite::block_on};
use parlour_wire::{
    Code, ConversationId,
    api::{self, Call as _, Notice as _, Role},
};

use super::{
    groups::{add, change, create, members, role},
    harness::{
        World,
        bent::{entries, push, replies},
    },
};
use crate::{
    api::{Group, HistoryPolicy, MessageKind},
    core::{Command, GroupCommand, Input, Reply},
    error::Error,
};

/// People with so many devices each, in a world where groups of up to `hybrid` devices are hybrid and none has more than `most`.
pub(super) fn world(seed: u64, sizes: (usize, usize), people: &[(&str, usize)]) -> (World, Vec<Vec<usize>>) {
    let mut world = World::new(seed);
    world.sizes = Some(sizes);
    let people: Vec<_> = people.iter().map(|(name, devices)| (world.person(name), *devices)).collect();
    let nodes = people.into_iter().map(|(person, devices)| (0..devices).map(|_| world.device(person)).collect()).collect();
    world.settle();
    (world, nodes)
}

pub(super) fn group(world: &mut World, node: usize) -> Group {
    match world.ask(node, Command::Group(GroupCommand::List)) {
        Ok(Reply::Groups(groups)) => groups.into_iter().next().expect("a group"),
        other => panic!("{other:?}"),
    }
}

pub(super) fn suite(world: &mut World, node: usize) -> &'static str {
    group(world, node).suite.word()
}

/// The hybrid suite is the default where its cost allows: for two, for one's own devices, and for groups of up to 150.
#[test]
fn what_is_not_large_is_hybrid() {
    assert_eq!(parlour_e2ee::HYBRID_DEVICES, 150);
    let (mut world, nodes) = world(12, (150, 1000), &[("alice", 2), ("bob", 1)]);
    world.send(nodes[0][0], "bob", "hello");
    change(&mut world, nodes[0][0], create("club", &["bob"])).unwrap();
    world.settle();
    assert_eq!(suite(&mut world, nodes[0][0]), "hybrid");
    let core = world.nodes[nodes[0][0]].core.as_ref().unwrap();
    let (alice, (direct, ..)) = (core.account_for_test(), core.place_for_test("bob"));
    for conversation in [direct, ConversationId::own(&alice)] {
        assert_eq!(core.suite_for_test(&conversation), api::Suite::HYBRID);
    }
}

/// How often a group was founded anew, as its history says.
pub(super) fn foundings(world: &mut World, node: usize) -> Vec<String> {
    let system = world.history(node, "#club").into_iter().filter(|message| message.kind == MessageKind::System);
    system.map(|message| message.text).filter(|text| text.contains("founded the group anew")).collect()
}

/// Everybody writes, and everybody reads each of these once.
pub(super) fn all_write(world: &mut World, nodes: &[usize], when: &str) -> Vec<String> {
    let texts: Vec<_> = nodes.iter().map(|node| format!("{when}, from {node}")).collect();
    for (node, text) in nodes.iter().zip(&texts) {
        world.send(*node, "#club", text);
        world.settle();
    }
    for node in nodes {
        have(world, *node, &texts);
    }
    texts
}

pub(super) fn have(world: &mut World, node: usize, texts: &[String]) {
    let tally = world.tally(node, "#club");
    for text in texts {
        assert_eq!(tally.get(text), Some(&1), "node {node}: {tally:?}");
    }
    let unread = tally.keys().any(|text| text.contains("could not be read") || text.contains("set up again"));
    assert!(!unread, "node {node}: {tally:?}");
}

#[test]
fn a_group_that_an_add_makes_too_large_is_founded_anew_and_keeps_what_it_is() {
    let (mut world, nodes) = world(60, (5, 1000), &[("alice", 2), ("bob", 2), ("carol", 1), ("dave", 2)]);
    let a = nodes[0][0];
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    let history = GroupCommand::SetHistory { group: "#club".into(), history: HistoryPolicy::Last(3) };
    change(&mut world, a, history).unwrap();
    world.settle();
    let old: Vec<_> = nodes[..3].concat();
    let before = all_write(&mut world, &old, "before");
    assert_eq!(suite(&mut world, a), "hybrid");
    let id = world.group(a);
    // Something is on its way while the group ends and begins.
    let early = Command::Send { to: "#club".into(), text: "between".into(), reply_to: None };
    world.command(nodes[2][0], early);
    assert_eq!(change(&mut world, nodes[1][1], add(&["dave"])).unwrap().suite.word(), "classical");
    world.settle();
    let all = nodes.concat();
    let after = all_write(&mut world, &all, "after");
    let expected: Vec<_> = [("alice", Role::ADMIN), ("bob", Role::ADMIN), ("carol", Role::MEMBER), ("dave", Role::MEMBER)]
        .map(|(name, role)| (name.to_owned(), role))
        .into();
    for node in all {
        assert_eq!(members(&mut world, node, "#club"), expected, "node {node}");
        let group = group(&mut world, node);
        assert_eq!((group.name.as_str(), group.suite.word(), group.history), ("club", "classical", HistoryPolicy::Last(3)));
        assert_eq!(world.group(node), id);
        have(&mut world, node, &after);
    }
    for node in old {
        have(&mut world, node, &before);
        have(&mut world, node, &["between".to_owned()]);
        let who = if nodes[1].contains(&node) { "You" } else { "bob" };
        assert_eq!(foundings(&mut world, node), [format!("{who} founded the group anew with classical encryption.")]);
    }
    // Whoever was brought in is given what the policy allows, from before the founding too.
    have(&mut world, nodes[3][0], &before[3..]);
    assert!(!world.tally(nodes[3][0], "#club").contains_key(&before[0]));
}

#[test]
fn a_group_that_its_members_devices_make_too_large_is_founded_anew_by_one_of_its_admins() {
    let (mut world, nodes) = world(61, (4, 1000), &[("alice", 1), ("bob", 1), ("carol", 2)]);
    let (a, b, away) = (nodes[0][0], nodes[1][0], nodes[2][1]);
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    let old = nodes.concat();
    let before = all_write(&mut world, &old, "before");
    assert_eq!(suite(&mut world, a), "hybrid");
    // One device hears of nothing until all is over.
    world.offline(away);
    let new = [world.device(2), world.device(1)];
    world.settle();
    let there = [a, b, nodes[2][0], new[0], new[1]];
    let between = all_write(&mut world, &there, "between");
    for node in there {
        assert_eq!(suite(&mut world, node), "classical", "node {node}");
    }
    world.back(away);
    world.settle();
    let all = [&old[..], &new].concat();
    let after = all_write(&mut world, &all, "after");
    for node in &old {
        for texts in [&before, &between, &after] {
            have(&mut world, *node, texts);
        }
        assert_eq!(foundings(&mut world, *node).len(), 1, "node {node}: {:?}", world.texts(*node, "#club"));
    }
    for node in all {
        assert!(world.troubles(node).is_empty(), "node {node}: {:?}", world.troubles(node));
        let roles: Vec<_> = members(&mut world, node, "#club").into_iter().map(|(_, role)| role).collect();
        assert_eq!(roles, [Role::ADMIN, Role::ADMIN, Role::MEMBER]);
    }
}

#[test]
fn a_device_with_a_bad_key_package_keeps_no_group_from_being_founded_anew() {
    let (mut world, nodes) = world(68, (3, 1000), &[("alice", 1), ("bob", 2), ("carol", 1)]);
    let [a, b, other, c] = nodes.concat()[..] else { panic!() };
    world.offline(other);
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    assert_eq!(suite(&mut world, a), "hybrid");
    let device = world.nodes[b].core.as_ref().unwrap().device_for_test();
    let write = Write::PublishKeyPackages {
        device,
        suite: api::Suite::CLASSICAL,
        one_time: vec![vec![1, 2, 3]; 3],
        last_resort: Some(vec![1, 2, 3]),
        replace: true,
    };
    block_on(world.store.apply(write)).unwrap().unwrap();
    world.send(b, "#club", "from before");
    world.settle();
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    world.back(other);
    world.settle();
    for node in [a, b, other, c] {
        assert_eq!(suite(&mut world, node), "classical", "node {node}");
    }
    all_write(&mut world, &[a, b, other, c], "after");
    for node in [a, b, c] {
        assert!(world.troubles(node).is_empty(), "node {node}: {:?}", world.troubles(node));
    }
}

#[test]
fn a_device_that_reads_the_end_of_its_group_before_it_is_invited_into_the_next_comes_in() {
    let (mut world, nodes) = world(66, (2, 1000), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let [a, b, c] = nodes.concat()[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let (club, seq, _) = world.nodes[b].core.as_ref().unwrap().place_for_test("#club");
    world.bend(
        b,
        Box::new(|_, input| match input {
            Input::Push { name, .. } if name == api::Welcome::NAME => Vec::new(),
            input => vec![input],
        }),
    );
    change(&mut world, a, add(&["carol"])).unwrap();
    world.run();
    let end = world.log(a, club, seq);
    assert!(!end.is_empty());
    world.input(b, push(end));
    world.settle();
    all_write(&mut world, &[a, b, c], "after");
    assert_eq!(foundings(&mut world, b), ["alice founded the group anew with classical encryption."]);
    assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
}

/// Alice, bob and carol, in a hybrid group of the first two that carol makes too large; bob has something to read in it.
pub(super) fn behind(seed: u64) -> (World, [usize; 3], Vec<String>) {
    let (mut world, nodes) = world(seed, (2, 1000), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let [a, b, c] = nodes.concat()[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.send(b, "#club", "from before");
    world.settle();
    world.offline(b);
    let unread: Vec<_> = (0..3).map(|n| format!("unread {n}")).collect();
    for text in &unread {
        world.send(a, "#club", text);
        world.settle();
    }
    (world, [a, b, c], unread)
}

#[test]
fn a_device_that_was_away_when_its_group_was_founded_anew_reads_what_was_before() {
    let (mut world, [a, b, c], unread) = behind(67);
    world.command(b, Command::Send { to: "#club".into(), text: "from afar".into(), reply_to: None });
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    let after = all_write(&mut world, &[a, c], "after");
    world.back(b);
    world.settle();
    for texts in [&unread, &after, &vec!["from before".to_owned(), "from afar".to_owned()]] {
        have(&mut world, b, texts);
    }
    assert_eq!(foundings(&mut world, b), ["alice founded the group anew with classical encryption."]);
    let texts = world.texts(b, "#club");
    let place = |text: &str| texts.iter().position(|other| other == text).unwrap();
    assert!(place("unread 2") < place("alice founded the group anew with classical encryption."));
    all_write(&mut world, &[a, b, c], "again");
    assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
    let again = world.count::<api::Sync>(b);
    world.cut(b);
    world.settle();
    assert_eq!(again.get(), 1, "the invitation does not wait any more");
}

#[test]
fn a_device_that_lags_when_its_group_is_founded_anew_reads_what_was_before() {
    let (mut world, [a, b, c], mut texts) = behind(68);
    world.back(b);
    world.settle();
    world.bend(b, entries(|_| Vec::new()));
    for n in 0..3 {
        texts.push(format!("lost {n}"));
        world.send(a, "#club", &format!("lost {n}"));
        world.run();
    }
    world.bend(b, Box::new(|_, input| vec![input]));
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    have(&mut world, b, &texts);
    all_write(&mut world, &[a, b, c], "after");
    assert_eq!(foundings(&mut world, b).len(), 1);
    assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
}

/// Its message was encrypted for the old group, and comes to the server behind the founding; what the server says of it comes behind the
/// invitation. Whether the server tells then of what it has, or of a moment before.
#[test]
fn a_message_that_a_founding_overtakes_is_sent_once_and_breaks_nothing() {
    for late in [false, true] {
        let (mut world, nodes) = world(71, (3, 1000), &[("alice", 1), ("bob", 1), ("carol", 1)]);
        let [a, b, c] = nodes.concat()[..] else { panic!() };
        change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
        world.settle();
        all_write(&mut world, &[a, b, c], "before");
        let club = world.group(a);
        let new = world.device(2);
        world.run();
        world.command(b, Command::Send { to: "#club".into(), text: "overtaken".into(), reply_to: None });
        let held = world.hold::<api::Send>(b);
        let kept = world.keep_back(b);
        while suite(&mut world, a) == "hybrid" {
            world.advance(Duration::from_millis(500));
            world.run();
        }
        world.release(b, held);
        while world.transmit(b) || world.receive(b) {}
        let joins = Rc::new(Cell::new(0));
        let (counted, mut stale) = (Rc::clone(&joins), late);
        world.bend(
            b,
            Box::new(move |asked, input| {
                let Some(asked) = asked else { return vec![input] };
                counted.set(counted.get() + usize::from(asked.is::<api::GroupInfoGet>()));
                let Input::Answer(id, Ok(answer)) = input else { return vec![input] };
                let mut answer = Ok(answer);
                if asked.is::<api::Read>() && stale {
                    stale = false;
                    let read: api::Read = parlour_wire::decode(&asked.content).unwrap();
                    answer = Ok(parlour_wire::encode(&api::ReadAnswer { entries: Vec::new(), head: read.after }));
                }
                vec![Input::Answer(id, answer)]
            }),
        );
        let kept: Vec<_> = kept.take();
        let welcome = |input: &Input| matches!(input, Input::Push { name, .. } if name == api::Welcome::NAME);
        let stale_epoch = |input: &Input| matches!(input, Input::Answer(_, Err(error)) if error.code == Code::STALE_EPOCH);
        let at = kept.iter().position(welcome);
        assert!(at.is_some() && at < kept.iter().position(stale_epoch), "{kept:?}");
        for input in kept {
            world.input(b, input);
        }
        world.settle();
        world.send(c, "#club", "from carol");
        world.settle();
        for node in [a, b, c, new] {
            have(&mut world, node, &["overtaken".to_owned(), "from carol".to_owned()]);
        }
        let texts = world.texts(b, "#club");
        assert!(!texts.iter().any(|text| text.contains("older copy")), "{texts:?}");
        assert_eq!(joins.get(), 0, "it is in by its invitation");
        assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
        assert_eq!(world.group(b), club);
        all_write(&mut world, &[a, b, c, new], "again");
    }
}

/// Whether the server says that there is nothing, or that it gives nothing out.
#[test]
fn a_device_that_is_not_given_what_was_before_its_group_was_founded_anew_comes_in_all_the_same() {
    for refused in [false, true] {
        let (mut world, [a, b, c], _) = behind(69);
        let (club, seq, _) = world.nodes[a].core.as_ref().unwrap().place_for_test("#club");
        let founded = seq + 1;
        change(&mut world, a, add(&["carol"])).unwrap();
        world.settle();
        let after = all_write(&mut world, &[a, c], "after");
        world.bend(
            b,
            replies(api::Read::NAME, move |asked, answer| {
                let read: api::Read = parlour_wire::decode(asked).unwrap();
                let mut page: api::ReadAnswer = parlour_wire::decode(&answer?).unwrap();
                if read.conversation == club && read.after + 1 < founded {
                    if refused {
                        return Err(Error::new(Code::NOT_MEMBER, "not in the conversation"));
                    }
                    page.entries.retain(|entry| entry.seq >= founded);
                }
                Ok(parlour_wire::encode(&page))
            }),
        );
        world.back(b);
        world.settle();
        have(&mut world, b, &after);
        assert_eq!(foundings(&mut world, b).len(), 1);
        all_write(&mut world, &[a, b, c], "again");
    }
}

#[test]
fn a_founding_leaves_out_who_is_revoked_and_waits_for_nobody_without_a_device() {
    let (mut world, nodes) = world(62, (4, 1000), &[("alice", 1), ("bob", 1), ("carol", 2), ("dave", 1)]);
    let (a, b, lost) = (nodes[0][0], nodes[1][0], nodes[2][1]);
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.offline(a);
    // While the only admin is away, devices come and go. Bob ends his only one, and another stands in for it at once or never.
    let new = world.device(2);
    world.settle();
    assert_eq!(suite(&mut world, b), "hybrid", "a member founds nothing");
    world.revoke(2, lost);
    world.revoke(1, b);
    let more = [world.device(2), world.device(2)];
    world.back(a);
    world.settle();
    let inside = [a, nodes[2][0], new, more[0], more[1]];
    all_write(&mut world, &inside, "after");
    for node in inside {
        assert_eq!(suite(&mut world, node), "classical", "node {node}");
        assert_eq!(members(&mut world, node, "#club").len(), 3, "bob stays a member");
    }
    for gone in [lost, b] {
        assert!(world.texts(gone, "#club").iter().all(|text| !text.starts_with("after")), "node {gone}");
    }
    let back = world.device(1);
    world.settle();
    all_write(&mut world, &[a, back], "again");
}

#[test]
fn a_group_that_shrinks_stays_as_it_is() {
    let (mut world, nodes) = world(63, (2, 1000), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let a = nodes[0][0];
    assert_eq!(change(&mut world, a, create("club", &["bob", "carol"])).unwrap().suite.word(), "classical");
    world.settle();
    change(&mut world, a, super::groups::remove(&["carol"])).unwrap();
    world.settle();
    all_write(&mut world, &[a, nodes[1][0]], "after");
    assert_eq!((suite(&mut world, a), foundings(&mut world, a).len()), ("classical", 0));
}

#[test]
fn a_device_that_a_full_group_has_no_room_for_is_told_of_once() {
    let (mut world, nodes) = world(64, (2, 3), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let (a, b) = (nodes[0][0], nodes[1][0]);
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let out = world.device(2);
    world.offline(out);
    world.settle();
    let rename = |name: &str| GroupCommand::Rename { group: "#club".into(), name: name.into() };
    for turn in 0..2 {
        if turn == 1 {
            world.cut(a);
        }
        change(&mut world, a, GroupCommand::SetHistory { group: "#club".into(), history: HistoryPolicy::Last(turn + 1) })
            .unwrap();
        world.settle();
        let told = world.troubles(a);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].code, Code::QUOTA);
        assert!(told[0].message.starts_with("#club has 3 devices"), "{}", told[0].message);
    }
    assert!(world.troubles(b).is_empty(), "who can do nothing about it is not told");
    assert_eq!(world.troubles(nodes[2][0]).len(), 1, "whose device it is, is told");
    // Who would bring somebody in hears it as the answer.
    let dave = world.person("dave");
    world.device(dave);
    world.settle();
    assert_eq!(change(&mut world, a, add(&["dave"])).unwrap_err().code, Code::QUOTA);
    assert!(change(&mut world, a, rename("team")).is_ok(), "and everything else goes on");
}

#[test]
fn a_device_that_finds_a_group_full_tells_once_and_comes_in_when_there_is_room() {
    let (mut world, nodes) = world(65, (2, 3), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let a = nodes[0][0];
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let (club, new) = (world.group(a), world.device(2));
    for turn in 0..2 {
        if turn == 1 {
            world.cut(new);
        }
        let error = Error::new(Code::QUOTA, "the conversation has as many members or devices as it may");
        world.refuse::<api::Commit>(new, |commit| commit.conversation == club, &error);
        world.settle();
        let told = world.troubles(new);
        assert_eq!(told.iter().map(|error| error.code).collect::<Vec<_>>(), [Code::QUOTA], "{told:?}");
    }
    world.advance(Duration::from_secs(700));
    world.settle();
    all_write(&mut world, &[a, new], "after");
}
