//! Groups under faults: many devices change a group at once while links are cut, programs die and the server restarts. At rest
//! all agree, and nothing is lost, nothing is there twice, nothing is unreadable.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parlour_wire::{
    Code, MessageId,
    api::{self, Role},
};
use rand::Rng as _;

use super::{
    groups::{add, change, create, members, people, remove, role, strings},
    harness::World,
};
use crate::{
    api::{MessageKind, State},
    core::{Command, GroupCommand, Reply, Ticket},
};

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// What this program says when something went wrong that should not.
const WRONG: [&str; 5] = ["could not be read", "set up again", "older copy", "has been lost", "was refused"];

struct Run {
    world: World,
    /// Devices of each person.
    devices: Vec<Vec<usize>>,
    sent: Vec<(usize, MessageId, String)>,
    unclaimed: Vec<(usize, Ticket, String)>,
    count: usize,
}

impl Run {
    /// alice, bob and carol in a group that alice and bob look after, and dave beside it.
    fn new(seed: u64, devices: usize) -> Self {
        let mut world = World::new(seed);
        let people: Vec<_> = NAMES.iter().map(|name| world.person(name)).collect();
        let devices: Vec<Vec<_>> = people.iter().map(|person| (0..devices).map(|_| world.device(*person)).collect()).collect();
        world.settle();
        change(&mut world, devices[0][0], create("club", &["bob", "carol"])).unwrap();
        world.settle();
        change(&mut world, devices[0][0], role("bob", Role::ADMIN)).unwrap();
        world.settle();
        Self { world, devices, sent: Vec::new(), unclaimed: Vec::new(), count: 0 }
    }

    fn step(&mut self, faults: bool) {
        let count = self.world.nodes.len();
        let node = self.world.rng.gen_range(0..count);
        match self.world.rng.gen_range(0..1000) {
            0..30 => self.write(node),
            30..45 => self.change(node),
            45..480 => drop(self.world.receive(node)),
            480..900 => drop(self.world.transmit(node)),
            900..930 => drop(self.world.connect(node)),
            930..950 => {
                let ms = self.world.rng.gen_range(1..1500);
                self.world.advance(Duration::from_millis(ms));
            }
            950..960 if faults => self.world.cut(node),
            960..970 if faults => self.world.blink(node),
            970..978 if faults => self.crash(node, None),
            978..995 if faults => {
                if let Some(input) = self.world.arriving(node) {
                    self.crash(node, Some(input));
                }
            }
            995..997 if faults => self.world.restart_server(),
            _ => drop(self.world.connect(node)),
        }
        self.collect();
    }

    fn crash(&mut self, node: usize, input: Option<crate::core::Input>) {
        // What was not acknowledged is no promise, but what is on disk goes out all the same.
        self.unclaimed.retain(|(at, ..)| *at != node);
        match input {
            Some(input) => self.world.crash_in(node, input),
            None => self.world.crash(node),
        }
    }

    fn write(&mut self, node: usize) {
        let text = format!("{} from {node}", self.count);
        self.count += 1;
        let command = Command::Send { to: "#club".to_owned(), text: text.clone(), reply_to: None };
        let ticket = self.world.command(node, command);
        self.unclaimed.push((node, ticket, text));
    }

    /// Anybody tries anything; alice stays, so that one person sees everything.
    fn change(&mut self, node: usize) {
        let who = NAMES[self.world.rng.gen_range(1..NAMES.len())];
        let command = match self.world.rng.gen_range(0..12) {
            0..4 => add(&[who]),
            4..8 => remove(&[who]),
            8 => role(who, Role::ADMIN),
            9 => role(who, Role::MEMBER),
            10 => GroupCommand::Add { group: "#club".into(), members: strings(&NAMES[1..]) },
            _ if self.devices[0].contains(&node) => role(who, Role::ADMIN),
            _ => GroupCommand::Leave("#club".into()),
        };
        self.world.command(node, Command::Group(command));
    }

    fn collect(&mut self) {
        for (node, ticket, text) in std::mem::take(&mut self.unclaimed) {
            match self.world.nodes[node].replies.remove(&ticket) {
                Some(Ok(Reply::Message(message))) => self.sent.push((node, message.id, text)),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) => {}
                None => self.unclaimed.push((node, ticket, text)),
            }
        }
    }

    fn check(&mut self) {
        self.world.settle();
        self.collect();
        let inside = members(&mut self.world, self.devices[0][0], "#club");
        let is_in = |person: usize| inside.iter().any(|(name, _)| name == NAMES[person]);
        // Everybody who is in can write, and everybody who is in reads it.
        let last: Vec<String> =
            (0..NAMES.len()).filter(|person| is_in(*person)).map(|person| format!("last of {person}")).collect();
        for person in (0..NAMES.len()).filter(|person| is_in(*person)) {
            let node = self.devices[person][0];
            assert_eq!(members(&mut self.world, node, "#club"), inside, "node {node}");
            self.world.send(node, "#club", &format!("last of {person}"));
            self.world.settle();
        }
        let all = self.check_history(self.devices[0][0]);
        for person in 0..NAMES.len() {
            for node in self.devices[person].clone() {
                let texts = self.check_history(node);
                let unknown: Vec<_> = texts.iter().filter(|(id, (_, stored))| *stored && !all.contains_key(*id)).collect();
                assert!(unknown.is_empty(), "node {node} knows what alice does not: {unknown:?}");
                if is_in(person) {
                    assert_eq!(members(&mut self.world, node, "#club"), inside, "node {node}");
                    let has: BTreeSet<_> = texts.values().map(|(text, _)| text.clone()).collect();
                    assert!(last.iter().all(|text| has.contains(text)), "node {node} misses one of {last:?}");
                }
            }
        }
        self.check_sent(&all, &is_in);
    }

    /// Nothing twice, nothing unreadable; what is in a history, and whether the server has it.
    fn check_history(&mut self, node: usize) -> BTreeMap<MessageId, (String, bool)> {
        let mut found = BTreeMap::new();
        let mut place = 0;
        for message in self.world.history(node, "#club") {
            if message.kind == MessageKind::System {
                let wrong = WRONG.iter().any(|wrong| message.text.contains(wrong));
                assert!(!wrong, "node {node}: {}", message.text);
                continue;
            }
            if let Some(seq) = message.seq.filter(|_| !message.outgoing) {
                assert!(seq > place, "node {node}: {} is out of order", message.text);
                place = seq;
            }
            let stored = message.seq.is_some();
            assert!(found.insert(message.id, (message.text.clone(), stored)).is_none(), "node {node}: {} twice", message.text);
        }
        found
    }

    fn check_sent(&mut self, all: &BTreeMap<MessageId, (String, bool)>, is_in: &impl Fn(usize) -> bool) {
        for (node, id, text) in std::mem::take(&mut self.sent) {
            let person = self.devices.iter().position(|devices| devices.contains(&node)).unwrap();
            let state = self.world.state(node, id);
            if state == State::Queued {
                assert!(!is_in(person), "node {node}: {text} was never sent");
            } else {
                assert_eq!(all.get(&id).map(|(text, _)| text), Some(&text), "node {node}: lost");
            }
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("PARLOUR_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..std::env::var("PARLOUR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4),
    }
}

fn run(devices: usize, steps: usize, faults: bool) {
    for seed in seeds() {
        println!("seed {seed}");
        let mut run = Run::new(seed, devices);
        for _ in 0..steps {
            run.step(faults);
        }
        run.check();
    }
}

#[test]
fn four_people_change_a_group_at_once_without_faults() {
    run(1, 2000, false);
}

#[test]
fn four_people_change_a_group_at_once_under_faults() {
    run(1, 2500, true);
}

#[test]
fn many_devices_change_a_group_at_once_under_faults() {
    run(3, 4000, true);
}

#[test]
fn a_commit_that_makes_no_sense_is_passed_over_and_its_damage_mended() {
    let (mut world, nodes) = people(30, &["alice", "bob", "mallory"]);
    change(&mut world, nodes[0], create("club", &["bob", "mallory"])).unwrap();
    world.settle();
    let (conversation, parent_epoch) = world.nodes[nodes[2]].core.as_mut().unwrap().group_for_test();
    let garbage = api::Commit {
        conversation,
        id: MessageId([9; 16]),
        parent_epoch,
        create: None,
        commit: vec![7; 300],
        welcome: None,
        added: Vec::new(),
        removed: Vec::new(),
        group_info: vec![8; 300],
        external: false,
        change: None,
    };
    assert_eq!(world.forge(nodes[2], &garbage), Ok(()));
    world.send(nodes[0], "#club", "still here");
    world.settle();
    // A device that comes in now needs a group info that somebody has mended.
    let late = world.device(1);
    world.settle();
    world.send(nodes[1], "#club", "so am I");
    world.settle();
    for node in [nodes[0], nodes[1], nodes[2]] {
        let texts = world.texts(node, "#club");
        assert!(texts.contains(&"still here".to_owned()) && texts.contains(&"so am I".to_owned()), "node {node}: {texts:?}");
        let refused = texts.iter().filter(|text| text.contains("was refused")).count();
        assert_eq!(refused, 1, "node {node}: {texts:?}");
    }
    assert_eq!(world.texts(late, "#club"), ["so am I"]);
}

#[test]
fn the_server_refuses_a_member_that_sends_what_only_an_admin_may() {
    let (mut world, nodes) = people(31, &["alice", "bob", "mallory"]);
    change(&mut world, nodes[0], create("club", &["bob", "mallory"])).unwrap();
    world.settle();
    let (conversation, parent_epoch) = world.nodes[nodes[2]].core.as_mut().unwrap().group_for_test();
    let change = api::Change { name: Some(parlour_wire::name::Name::parse("mine").unwrap()), ..api::Change::default() };
    let commit = api::Commit {
        conversation,
        id: MessageId([9; 16]),
        parent_epoch,
        create: None,
        commit: vec![7; 300],
        welcome: None,
        added: Vec::new(),
        removed: Vec::new(),
        group_info: vec![8; 300],
        external: false,
        change: Some(change),
    };
    assert_eq!(world.forge(nodes[2], &commit), Err(Code::FORBIDDEN));
}

/// Lets a change happen while its author dies at the step `at`; whether it got so far.
fn dies_at(at: usize, members: &[&str], command: &GroupCommand) -> (World, Vec<usize>, bool) {
    let (mut world, nodes) = people(20, &["alice", "bob", "carol"]);
    if !members.is_empty() {
        change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
        world.settle();
    }
    world.command(nodes[0], Command::Group(command.clone()));
    let mut step = 0;
    for _ in 0..5000 {
        let arriving = world.arriving(nodes[0]);
        match arriving {
            Some(input) if step == at => {
                world.crash_in(nodes[0], input);
                world.settle();
                return (world, nodes, true);
            }
            Some(input) => {
                step += 1;
                world.input(nodes[0], input);
            }
            None => {
                if !world.step_any() {
                    world.advance(Duration::from_millis(500));
                }
            }
        }
    }
    world.settle();
    (world, nodes, false)
}

/// Whatever step a change dies at, the group works after it, and the change can be made.
fn survives(members: &[&str], command: &GroupCommand, expected: &[&str], reader: usize) {
    for at in 0..100 {
        let (mut world, nodes, died) = dies_at(at, members, command);
        let again = change(&mut world, nodes[0], command.clone());
        world.settle();
        if !matches!(command, GroupCommand::Leave(_)) {
            world.send(nodes[0], "#club", "after");
        } else {
            world.send(nodes[1], "#club", "after");
        }
        world.settle();
        assert!(world.texts(nodes[reader], "#club").contains(&"after".to_owned()), "step {at}, then {again:?}");
        let names: Vec<_> =
            super::groups::members(&mut world, nodes[reader], "#club").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected, "step {at}, then {again:?}");
        if !died {
            assert!(at > 0);
            return;
        }
    }
    panic!("the change does not end");
}

#[test]
fn making_a_group_survives_a_crash_at_every_step() {
    survives(&[], &create("club", &["bob", "carol"]), &["alice", "bob", "carol"], 2);
}

#[test]
fn adding_somebody_survives_a_crash_at_every_step() {
    survives(&["bob"], &add(&["carol"]), &["alice", "bob", "carol"], 2);
}

#[test]
fn removing_somebody_survives_a_crash_at_every_step() {
    survives(&["bob"], &remove(&["bob"]), &["alice"], 0);
}

#[test]
fn leaving_survives_a_crash_at_every_step() {
    survives(&["bob"], &GroupCommand::Leave("#club".into()), &["bob"], 1);
}
