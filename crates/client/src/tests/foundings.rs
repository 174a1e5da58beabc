//! Foundings anew that fail or are refused, and groups that a device comes into late. The bounds are low here.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, time::Duration};

use parlour_wire::{
    Code, ConversationId,
    api::{self, Call as _, Role, Suite},
    log::Entry,
};

use super::{
    groups::{add, change, create, members, role},
    harness::{World, bent::replies},
    size::{all_write, behind, group, have, suite, world},
};
use crate::{
    api::State,
    core::{Command, GroupCommand},
    error::Error,
};

/// What one member has put at the server makes nobody silent, and what the others have put there is not used up.
#[test]
fn what_a_member_publishes_in_place_of_key_packages_stops_no_admin() {
    let (mut world, nodes) = world(72, (5, 1000), &[("alice", 1), ("bob", 1), ("mallory", 2)]);
    let (a, b, m, lost) = (nodes[0][0], nodes[1][0], nodes[2][0], nodes[2][1]);
    change(&mut world, a, create("club", &["bob", "mallory"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    let garbage = vec![7; 200];
    let packages = api::KeyPackagesPublish {
        one_time: vec![garbage.clone().into(); 20],
        last_resort: Some(garbage),
        suite: Suite::CLASSICAL,
        replace: true,
    };
    let _ = world.forge(m, &packages);
    let claims = Rc::new(Cell::new(0));
    let counted = Rc::clone(&claims);
    world.refuses = Some(Box::new(move |name, _| {
        counted.set(counted.get() + usize::from(name == api::KeyPackagesClaim::NAME));
        None
    }));
    let more = [world.device(2), world.device(2), world.device(2)];
    for node in more.into_iter().chain([m, lost]) {
        world.offline(node);
    }
    world.revoke(2, lost);
    for turn in 0..3 {
        for node in [a, b] {
            let id = world.send(node, "#club", &format!("turn {turn}, from {node}")).id;
            world.go_on(node, 15);
            assert!(world.state(node, id) >= State::Stored, "turn {turn}: node {node} cannot write");
        }
    }
    assert!(claims.get() < 50, "{} claims", claims.get());
}

/// The last admin leaves a group that is too large for its suite. Its successor is alone, and an admin by the next commit only.
#[test]
fn the_successor_of_the_last_admin_founds_a_group_anew_that_is_too_large() {
    let (mut world, nodes) = world(73, (3, 1000), &[("alice", 1), ("bob", 1), ("carol", 1), ("dave", 1)]);
    let (a, mut left, mut right) = (nodes[0][0], (1, nodes[1][0]), (2, nodes[2][0]));
    if world.account(2) < world.account(1) {
        std::mem::swap(&mut left, &mut right);
    }
    let next = left.1;
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.offline(a);
    let more = [world.device(right.0), world.device(right.0)];
    world.settle();
    assert_eq!(suite(&mut world, next), "hybrid");
    for node in [next, right.1].into_iter().chain(more) {
        world.offline(node);
    }
    world.back(a);
    drop(change(&mut world, a, GroupCommand::Leave("club".to_owned())));
    world.run();
    world.offline(a);
    world.back(next);
    let id = world.send(next, "#club", "alone").id;
    world.go_on(next, 30);
    assert!(world.state(next, id) >= State::Stored, "the successor cannot write");
    assert_eq!(suite(&mut world, next), "classical");
    change(&mut world, next, add(&["dave"])).unwrap();
    for node in more.into_iter().chain([right.1]) {
        world.back(node);
    }
    world.settle();
    all_write(&mut world, &[next, right.1, more[0], more[1], nodes[3][0]], "after");
    assert_eq!(members(&mut world, next, "#club").len(), 3);
}

/// Entries of another log, that lead nowhere.
#[test]
fn a_server_that_gives_something_else_before_an_invitation_is_not_asked_for_ever() {
    let (mut world, [a, b, c], _) = behind(74);
    let (club, seq, _) = world.nodes[a].core.as_ref().unwrap().place_for_test("#club");
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    let after = all_write(&mut world, &[a, c], "after");
    let reads = Rc::new(Cell::new(0));
    let counted = Rc::clone(&reads);
    world.bend(
        b,
        replies(api::Read::NAME, move |asked, answer| {
            let read: api::Read = parlour_wire::decode(asked).unwrap();
            let mut page: api::ReadAnswer = parlour_wire::decode(&answer?).unwrap();
            if read.conversation == club && read.after <= seq {
                counted.set(counted.get() + 1);
                let foreign = |entry: Entry| Entry { conversation: ConversationId([9; 32]), ..entry };
                page.entries = page.entries.into_iter().map(foreign).collect();
            }
            Ok(parlour_wire::encode(&page))
        }),
    );
    world.back(b);
    world.go_on(b, 20);
    assert!(reads.get() < 30, "{} reads", reads.get());
    have(&mut world, b, &after);
    all_write(&mut world, &[a, b, c], "again");
}

/// The program dies between the commit by which it joins and its answer.
#[test]
fn a_device_that_finds_a_group_full_with_a_commit_of_before_comes_in_when_there_is_room() {
    let (mut world, nodes) = world(75, (2, 3), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let a = nodes[0][0];
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let (club, new) = (world.group(a), world.device(2));
    for code in [Code::TIMED_OUT, Code::QUOTA] {
        let error = Error::new(code, "the conversation has as many members or devices as it may");
        world.refuse::<api::Commit>(new, |commit| commit.conversation == club, &error);
        if code == Code::TIMED_OUT {
            world.crash(new);
        }
    }
    world.settle();
    world.advance(Duration::from_secs(700));
    world.settle();
    all_write(&mut world, &[a, new], "after");
}

/// A device that waits outside because a group was full is asked in.
#[test]
fn a_device_that_is_invited_into_a_group_that_was_full_waits_no_longer() {
    let (mut world, nodes) = world(76, (2, 3), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let (a, b) = (nodes[0][0], nodes[1][0]);
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    world.offline(a);
    world.offline(b);
    world.offline(nodes[2][0]);
    let (club, new) = (world.group(a), world.device(2));
    let error = Error::new(Code::QUOTA, "the conversation has as many members or devices as it may");
    world.refuse::<api::Commit>(new, |commit| commit.conversation == club, &error);
    world.settle();
    world.revoke(1, b);
    world.back(a);
    // Who writes asks whose devices are whose.
    world.send(a, "#club", "is anybody there");
    world.go_on(a, 60);
    assert_eq!(group(&mut world, new).name, "club");
    world.send(a, "#club", "welcome");
    world.settle();
    have(&mut world, new, &["welcome".to_owned()]);
    let id = world.send(new, "#club", "thanks").id;
    world.go_on(new, 5);
    assert!(world.state(new, id) >= State::Stored);
}

/// How long it takes until a group has been founded anew.
fn founded_after(world: &mut World, admin: usize) -> Duration {
    let begun = world.unix_ms();
    world.run();
    while suite(world, admin) == "hybrid" {
        world.advance(Duration::from_millis(50));
        world.run();
        assert!(world.unix_ms() - begun < 60_000, "nobody founds it");
    }
    Duration::from_millis(world.unix_ms() - begun)
}

/// Several admins would be in each other's way.
#[test]
fn an_admin_whose_group_others_have_made_too_large_founds_it_after_a_random_pause() {
    let mut pauses = BTreeSet::new();
    for seed in 0..12 {
        let (mut world, nodes) = world(400 + seed, (2, 1000), &[("alice", 1), ("bob", 1)]);
        let [a, b] = nodes.concat()[..] else { panic!() };
        change(&mut world, a, create("club", &["bob"])).unwrap();
        world.settle();
        let new = world.device(1);
        let pause = founded_after(&mut world, a);
        let most = Duration::from_secs(10) + Duration::from_millis(50);
        assert!(pause >= Duration::from_secs(2) && pause <= most, "seed {seed}: {pause:?}");
        pauses.insert(pause);
        world.settle();
        all_write(&mut world, &[a, b, new], "after");
    }
    let (first, last) = (pauses.first().unwrap(), pauses.last().unwrap());
    assert!(pauses.len() > 6 && *last - *first > Duration::from_secs(3), "{pauses:?}");
}

#[test]
fn an_admin_who_makes_a_group_too_large_founds_it_at_once() {
    let (mut world, nodes) = world(420, (2, 1000), &[("alice", 1), ("bob", 1), ("carol", 1)]);
    let a = nodes[0][0];
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.command(a, Command::Group(add(&["carol"])));
    assert_eq!(founded_after(&mut world, a), Duration::ZERO);
    world.settle();
    all_write(&mut world, &nodes.concat(), "after");
}
