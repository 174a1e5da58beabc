//! Somebody dies at every step of a change of a group, or while a device comes in: the author, who reads it, who comes, who goes. Death
//! comes before a step or after its transaction and before its outputs. In the end all agree and everything is read once.

use std::{collections::BTreeMap, time::Duration};

use parlour_wire::api::Role;

use super::{
    groups::{add, change, create, members, people, remove, role},
    harness::{SERVER, World},
};
use crate::{
    api::{Login, Register},
    core::{Command, GroupCommand, Reply},
};

/// Steps after which a change must be over.
const STEPS: usize = 150;

/// Lets everything happen while `victim` dies at its step `at`; whether it got so far.
fn dies(world: &mut World, victim: usize, at: usize, after: bool) -> bool {
    let (mut step, mut quiet) = (0, 0);
    while quiet < 40 {
        if let Some(input) = world.arriving(victim) {
            if step == at {
                if after {
                    world.crash_in(victim, input)
                } else {
                    world.crash(victim)
                }
                world.settle();
                return true;
            }
            (step, quiet) = (step + 1, 0);
            world.input(victim, input);
        } else if world.step_any() {
            quiet = 0;
        } else {
            quiet += 1;
            world.advance(Duration::from_millis(500));
        }
    }
    false
}

/// Everybody in it writes, and everybody in it reads it once and sees the same members.
fn all_well(world: &mut World, nodes: &[usize], group: &str, what: &str) {
    let inside = members(world, nodes[0], group);
    for node in nodes {
        world.send(*node, group, &format!("well {node}"));
        world.settle();
    }
    for node in nodes {
        assert_eq!(members(world, *node, group), inside, "{what}, node {node}");
        let tally: BTreeMap<_, _> = world.tally(*node, group);
        for other in nodes {
            assert_eq!(tally.get(&format!("well {other}")), Some(&1), "{what}, node {node}: {tally:?}");
        }
        let unread = tally.keys().any(|text| text.contains("could not be read") || text.contains("another log"));
        assert!(!unread, "{what}, node {node}: {tally:?}");
    }
}

/// A change of a group of alice, bob and carol, with dave beside it, while somebody dies.
fn survives(command: &GroupCommand, victim: usize, inside: &[usize], group: &str) {
    for after in [false, true] {
        let mut at = 0;
        loop {
            let (mut world, nodes) = people(50, &["alice", "bob", "carol", "dave"]);
            change(&mut world, nodes[0], create("club", &["bob", "carol"])).unwrap();
            world.settle();
            world.command(nodes[0], Command::Group(command.clone()));
            let died = dies(&mut world, nodes[victim], at, after);
            // It may have been lost with its author before it was on disk; then it is given again.
            drop(world.ask(nodes[0], Command::Group(command.clone())));
            world.settle();
            let what = format!("{command:?}: node {victim} dies at {at}, after: {after}");
            let inside: Vec<_> = inside.iter().map(|at| nodes[*at]).collect();
            assert_eq!(members(&mut world, inside[0], group).len(), inside.len(), "{what}");
            all_well(&mut world, &inside, group, &what);
            if !died {
                break;
            }
            at += 1;
            assert!(at < STEPS, "the change does not end");
        }
    }
}

fn rename() -> GroupCommand {
    GroupCommand::Rename { group: "#club".into(), name: "pub".into() }
}

#[test]
fn a_role_is_given_whoever_dies() {
    for victim in [0, 1] {
        survives(&role("bob", Role::ADMIN), victim, &[0, 1, 2], "#club");
    }
}

#[test]
fn a_name_is_changed_whoever_dies() {
    for victim in [0, 1] {
        survives(&rename(), victim, &[0, 1, 2], "#pub");
    }
}

#[test]
fn somebody_is_added_whoever_dies() {
    for victim in [0, 1, 3] {
        survives(&add(&["dave"]), victim, &[0, 1, 2, 3], "#club");
    }
}

#[test]
fn somebody_is_removed_whoever_dies() {
    for victim in [0, 1, 2] {
        survives(&remove(&["carol"]), victim, &[0, 1], "#club");
    }
}

/// A group from which the last admin goes, while somebody dies.
#[test]
fn the_last_admin_leaves_whoever_dies() {
    for victim in [0, 1] {
        for after in [false, true] {
            for at in 0..STEPS {
                let (mut world, nodes) = people(51, &["alice", "bob", "carol"]);
                change(&mut world, nodes[0], create("club", &["bob", "carol"])).unwrap();
                world.settle();
                world.command(nodes[0], Command::Group(GroupCommand::Leave("#club".into())));
                let died = dies(&mut world, nodes[victim], at, after);
                drop(world.ask(nodes[0], Command::Group(GroupCommand::Leave("#club".into()))));
                world.settle();
                let what = format!("node {victim} dies at {at}, after: {after}");
                all_well(&mut world, &nodes[1..], "#club", &what);
                let inside = members(&mut world, nodes[1], "#club");
                assert_eq!(inside.len(), 2, "{what}");
                assert!(inside.iter().any(|(_, role)| *role == Role::ADMIN), "{what}");
                if !died {
                    break;
                }
            }
        }
    }
}

/// A second device of alice comes in, while it, the first one or a correspondent dies.
#[test]
fn a_device_is_linked_whoever_dies() {
    for victim in 0..3 {
        for after in [false, true] {
            for at in 0..STEPS {
                let (mut world, nodes) = people(52, &["alice", "bob"]);
                change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
                world.send(nodes[0], "bob", "old");
                world.settle();
                let new = world.sibling(0);
                let nodes = [nodes[0], nodes[1], new];
                let died = dies(&mut world, nodes[victim], at, after);
                let what = format!("node {victim} dies at {at}, after: {after}");
                all_well(&mut world, &nodes, "#club", &what);
                for (node, to) in [(nodes[0], "bob"), (nodes[1], "alice"), (new, "bob")] {
                    world.send(node, to, &format!("direct {node}"));
                    world.settle();
                }
                for (node, with) in [(nodes[0], "bob"), (nodes[1], "alice"), (new, "bob")] {
                    let tally = world.tally(node, with);
                    let texts: Vec<_> = nodes.iter().map(|node| format!("direct {node}")).collect();
                    assert!(texts.iter().all(|text| tally.get(text) == Some(&1)), "{what}, node {node}: {tally:?}");
                    assert_eq!(tally.get("old"), Some(&1), "{what}, node {node}: {tally:?}");
                }
                if !died {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_login_that_dies_at_any_step_leaves_a_profile_that_can_log_in() {
    let password = || zeroize::Zeroizing::new("correct horse".to_owned());
    let login =
        || Login { server: SERVER.parse().unwrap(), name: "alice".to_owned(), password: password(), label: "second".to_owned() };
    for at in 0.. {
        let mut world = World::new(53);
        let (first, second) = (world.node(), world.node());
        let (server, name) = (SERVER.parse().unwrap(), "alice".to_owned());
        let register = Register { server, name, password: password(), invite: None, label: "first".to_owned() };
        world.ask(first, Command::Register(register)).unwrap();
        world.command(second, Command::Login(login()));
        let died = dies(&mut world, second, at, at % 2 == 0);
        if let Ok(Reply::WhoAmI(None)) = world.ask(second, Command::WhoAmI) {
            let again = world.ask(second, Command::Login(login()));
            assert!(matches!(again, Ok(Reply::SignedIn(_))), "dies at {at}: {again:?}");
        }
        world.settle();
        let Ok(Reply::Devices(devices)) = world.ask(first, Command::Devices) else { panic!() };
        // One more may be left by a login that ended before this device heard of it.
        assert!((2..=3).contains(&devices.len()), "dies at {at}: {devices:?}");
        if !died {
            return;
        }
        assert!(at < 60, "the login does not end");
    }
}
