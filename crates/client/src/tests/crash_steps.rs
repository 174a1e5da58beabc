//! Somebody dies at every step of a change of a group, or while a device comes in: the author, who reads it, who comes, who goes. Death
//! comes before a step or after its transaction and before its outputs. In the end all agree and everything is read once.

use std::{collections::BTreeMap, time::Duration};

use parlour_wire::api::Role;

use super::{
    groups::{add, change, create, members, people, remove, role},
    harness::{SERVER, World},
    recovery::{code, devices, login, recover, registered, secret},
    size::{self, foundings},
};
use crate::{
    api::{HistoryPolicy, Login, Register},
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
    survives_so_that(command, victim, (inside, group), |_, _| true);
}

/// The same, and something holds for everybody inside.
fn survives_so_that(
    command: &GroupCommand,
    victim: usize,
    (inside, group): (&[usize], &str),
    holds: impl Fn(&mut World, usize) -> bool,
) {
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
            assert!(inside.iter().all(|node| holds(&mut world, *node)), "{what}");
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
fn what_newcomers_get_is_decided_whoever_dies() {
    let history = HistoryPolicy::Last(5);
    let command = GroupCommand::SetHistory { group: "#club".into(), history };
    for victim in [0, 1] {
        survives_so_that(&command, victim, (&[0, 1, 2], "#club"), |world, node| size::group(world, node).history == history);
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

/// Who outgrows a group of three: a newcomer, or another device of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Add,
    Device,
}

/// A group of alice, bob and carol that is hybrid up to three devices is founded anew, while somebody dies.
fn outgrows(growth: Growth, victim: usize) {
    for after in [false, true] {
        for at in 0.. {
            let (mut world, nodes) = size::world(54, (3, 1000), &[("alice", 1), ("bob", 1), ("carol", 1), ("dave", 1)]);
            let mut nodes = nodes.concat();
            change(&mut world, nodes[0], create("club", &["bob", "carol"])).unwrap();
            world.settle();
            world.send(nodes[2], "#club", "before");
            world.settle();
            if growth == Growth::Device {
                nodes[3] = world.device(2);
            } else {
                world.command(nodes[0], Command::Group(add(&["dave"])));
            }
            let died = dies(&mut world, nodes[victim], at, after);
            if growth == Growth::Add {
                drop(world.ask(nodes[0], Command::Group(add(&["dave"]))));
            }
            world.settle();
            let what = format!("{growth:?}: node {victim} dies at {at}, after: {after}");
            all_well(&mut world, &nodes, "#club", &what);
            for (place, node) in nodes.iter().enumerate() {
                assert_eq!(size::group(&mut world, *node).suite.word(), "classical", "{what}, node {node}");
                if place < 3 {
                    assert_eq!(foundings(&mut world, *node).len(), 1, "{what}, node {node}");
                    assert_eq!(world.tally(*node, "#club").get("before"), Some(&1), "{what}, node {node}");
                }
            }
            if !died {
                break;
            }
            assert!(at < STEPS, "the founding does not end");
        }
    }
}

#[test]
fn a_group_is_founded_anew_for_a_newcomer_whoever_dies() {
    for victim in [0, 1, 3] {
        outgrows(Growth::Add, victim);
    }
}

#[test]
fn a_group_is_founded_anew_for_another_device_whoever_dies() {
    for victim in [0, 1, 3] {
        outgrows(Growth::Device, victim);
    }
}

/// Alice with two devices, the second of which is to go, and bob; all with passwords, and in a group.
fn with_passwords(seed: u64) -> (World, [usize; 3]) {
    let mut world = World::new(seed);
    let (first, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    let second = world.node();
    assert!(world.ask(second, login("alice", "correct horse")).is_ok());
    world.settle();
    change(&mut world, first, create("club", &["bob"])).unwrap();
    world.settle();
    (world, [first, second, bob])
}

#[test]
fn a_device_is_revoked_whoever_dies() {
    for victim in 0..3 {
        for at in 0.. {
            let (mut world, nodes) = with_passwords(55);
            let [first, second, bob] = nodes;
            let device = world.nodes[second].core.as_ref().unwrap().device_for_test();
            let revoke = || Command::RevokeDevice { device, password: secret("correct horse") };
            world.command(first, revoke());
            let died = dies(&mut world, nodes[victim], at, at % 2 == 0);
            drop(world.ask(first, revoke()));
            world.settle();
            let what = format!("node {victim} dies at {at}");
            assert_eq!(devices(&mut world, first), 1, "{what}");
            assert_eq!(world.ask(second, Command::WhoAmI), Ok(Reply::WhoAmI(None)), "{what}");
            all_well(&mut world, &[first, bob], "#club", &what);
            world.send(bob, "alice", "for the first only");
            world.settle();
            assert_eq!(world.tally(first, "bob").get("for the first only"), Some(&1), "{what}");
            for (with, text) in [("bob", "for the first only".to_owned()), ("#club", format!("well {bob}"))] {
                assert!(!world.tally(second, with).contains_key(&text), "{what}");
            }
            if !died {
                break;
            }
            assert!(at < STEPS, "the revocation does not end");
        }
    }
}

/// Which of these passwords lets a new device in.
fn good(world: &mut World, passwords: [&'static str; 2]) -> Vec<&'static str> {
    let mut logs_in = |password: &&'static str| {
        let node = world.node();
        let good = world.ask(node, login("alice", password)).is_ok();
        world.settle();
        good
    };
    passwords.into_iter().filter(&mut logs_in).collect()
}

#[test]
fn a_change_of_password_that_dies_at_any_step_leaves_one_that_is_good() {
    let mut seen = Vec::new();
    for at in 0.. {
        let (mut world, [first, _, bob]) = with_passwords(56);
        let to = |old: &str| Command::ChangePassword { old: secret(old), new: secret("battery") };
        let ticket = world.command(first, to("correct horse"));
        let died = dies(&mut world, first, at, at % 2 == 0);
        let good = good(&mut world, ["correct horse", "battery"]);
        let [password] = good[..] else { panic!("dies at {at}: {good:?}") };
        if world.nodes[first].replies.get(&ticket) == Some(&Ok(Reply::Done)) {
            assert_eq!(password, "battery", "dies at {at}, after it was said to be done");
        }
        seen.push(password);
        // Who does not know how far it came says it again, with the password that is good.
        assert_eq!(world.ask(first, to(password)), Ok(Reply::Done), "dies at {at}");
        assert_eq!(self::good(&mut world, ["correct horse", "battery"]), ["battery"], "dies at {at}");
        all_well(&mut world, &[first, bob], "#club", &format!("dies at {at}"));
        if !died {
            break;
        }
        assert!(at < STEPS, "the change does not end");
    }
    assert!(seen.contains(&"correct horse") && seen.contains(&"battery"), "it died on both sides of the change: {seen:?}");
}

#[test]
fn a_new_recovery_code_whose_making_dies_at_any_step_can_be_made_again() {
    for at in 0.. {
        let (mut world, [first, _, bob]) = with_passwords(57);
        let old = code(&mut world, first, "correct horse");
        let ticket = world.command(first, Command::MakeRecoveryCode { password: secret("correct horse") });
        let died = dies(&mut world, first, at, at % 2 == 0);
        let told = match world.nodes[first].replies.remove(&ticket) {
            Some(Ok(Reply::RecoveryCode(code))) => Some(code),
            _ => None,
        };
        // One that was told is good and ends the one before; of one that was not told nothing is left but to make another.
        if let Some(told) = &told {
            let node = world.node();
            assert!(world.ask(node, recover(&old, "battery", true)).is_err(), "dies at {at}");
            assert!(world.ask(node, recover(told, "correct horse", true)).is_ok(), "dies at {at}");
            world.settle();
        }
        let again = code(&mut world, first, "correct horse");
        for stale in [Some(old), told].into_iter().flatten() {
            let node = world.node();
            assert!(world.ask(node, recover(&stale, "battery", true)).is_err(), "dies at {at}");
        }
        let node = world.node();
        assert!(world.ask(node, recover(&again, "battery", true)).is_ok(), "dies at {at}");
        world.settle();
        assert!(devices(&mut world, first) >= 3, "dies at {at}: nobody is put out by it");
        all_well(&mut world, &[first, bob, node], "#club", &format!("dies at {at}"));
        if !died {
            break;
        }
        assert!(at < STEPS, "the making does not end");
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
