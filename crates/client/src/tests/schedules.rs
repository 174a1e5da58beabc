//! Random schedules: people write to each other while links are cut, programs die at every point, and the server restarts. At
//! rest nothing is lost, nothing is there twice, nothing is unreadable, and each sender's order is kept.

use std::{collections::BTreeMap, time::Duration};

use parlour_wire::MessageId;
use rand::Rng as _;

use super::harness::World;
use crate::{
    api::{MessageKind, State},
    core::{Command, Reply},
};

struct Sent {
    id: MessageId,
    from: usize,
    to: usize,
    device: usize,
    text: String,
}

struct Run {
    world: World,
    /// Devices of each person.
    devices: Vec<Vec<usize>>,
    sent: Vec<Sent>,
    unclaimed: Vec<(usize, crate::core::Ticket, usize, usize, usize, String)>,
}

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

impl Run {
    fn new(seed: u64, people: usize, devices: usize) -> Self {
        let mut world = World::new(seed);
        let people: Vec<_> = NAMES[..people].iter().map(|name| world.person(name)).collect();
        let devices = people.iter().map(|person| (0..devices).map(|_| world.device(*person)).collect()).collect();
        world.settle();
        Self { world, devices, sent: Vec::new(), unclaimed: Vec::new() }
    }

    /// Devices that came in the middle: they need not have what was written before.
    fn join(&mut self) -> (usize, usize) {
        let person = self.world.rng.gen_range(0..self.devices.len());
        (person, self.world.device(person))
    }

    fn check_late(&mut self, late: &[(usize, usize)]) {
        for (person, node) in late {
            let with = 1 - person;
            let after: Vec<_> = (0..2).map(|from| (from, self.devices[from][0])).collect();
            for (from, device) in after {
                let text = format!("for {node} from {from}");
                self.world.send(device, NAMES[1 - from], &text);
                self.world.settle();
                assert!(self.world.texts(*node, NAMES[with]).contains(&text), "node {node}: lost {text}");
            }
            self.world.send(*node, NAMES[with], "from a late one");
            self.world.settle();
            let history = self.world.history(*node, NAMES[with]);
            for message in history {
                let fine = message.kind == MessageKind::Text || message.text.contains("before this device");
                assert!(fine, "node {node}: {}", message.text);
            }
        }
    }

    fn pick(&mut self) -> usize {
        let count = self.world.nodes.len();
        self.world.rng.gen_range(0..count)
    }

    fn step(&mut self, faults: bool) {
        let node = self.pick();
        let dice = self.world.rng.gen_range(0..1000);
        match dice {
            0..40 => self.write(),
            40..480 => drop(self.world.receive(node)),
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
        // A reply that was not given is not a promise; but what is on disk goes out all the same.
        self.unclaimed.retain(|(at, ..)| *at != node);
        match input {
            Some(input) => self.world.crash_in(node, input),
            None => self.world.crash(node),
        }
    }

    fn write(&mut self) {
        let from = self.world.rng.gen_range(0..self.devices.len());
        let to = (from + self.world.rng.gen_range(1..self.devices.len())) % self.devices.len();
        let at = self.world.rng.gen_range(0..self.devices[from].len());
        let node = self.devices[from][at];
        let text = format!("{} from {} on {at}", self.sent.len() + self.unclaimed.len(), NAMES[from]);
        let command = Command::Send { to: NAMES[to].to_owned(), text: text.clone(), reply_to: None };
        let ticket = self.world.command(node, command);
        self.unclaimed.push((node, ticket, from, to, at, text));
    }

    /// A message counts from the moment when its writer was told that it is kept.
    fn collect(&mut self) {
        for (node, ticket, from, to, at, text) in std::mem::take(&mut self.unclaimed) {
            match self.world.nodes[node].replies.remove(&ticket) {
                Some(Ok(Reply::Message(message))) => {
                    self.sent.push(Sent { id: message.id, from, to, device: self.devices[from][at], text });
                }
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) => {}
                None => self.unclaimed.push((node, ticket, from, to, at, text)),
            }
        }
    }

    fn check(&mut self) {
        self.world.settle();
        self.collect();
        for from in 0..self.devices.len() {
            for to in 0..self.devices.len() {
                if from != to {
                    self.check_pair(from, to);
                }
            }
        }
    }

    fn check_pair(&mut self, from: usize, to: usize) {
        let readers = self.devices[from].iter().map(|node| (*node, to)).chain(self.devices[to].iter().map(|node| (*node, from)));
        for (node, with) in readers.collect::<Vec<_>>() {
            let history = self.world.history(node, NAMES[with]);
            let bad: Vec<_> = history.iter().filter(|message| message.kind == MessageKind::System).collect();
            assert!(bad.is_empty(), "node {node}: unreadable {bad:?}");
            let mut places = BTreeMap::new();
            for (place, message) in history.iter().enumerate() {
                assert!(places.insert(message.id, place).is_none(), "node {node}: {} twice", message.text);
            }
            let texts: BTreeMap<_, _> = history.iter().map(|message| (message.id, message.text.as_str())).collect();
            let mut last: BTreeMap<usize, usize> = BTreeMap::new();
            for sent in self.sent.iter().filter(|sent| sent.from == from && sent.to == to) {
                let place = places.get(&sent.id).copied();
                let place = place.unwrap_or_else(|| panic!("node {node}: lost {}", sent.text));
                assert_eq!(texts[&sent.id], sent.text);
                if let Some(last) = last.insert(sent.device, place) {
                    assert!(last < place, "node {node}: {} came too early", sent.text);
                }
            }
        }
        let ids: Vec<_> = self.sent.iter().filter(|s| s.from == from && s.to == to).map(|s| (s.device, s.id)).collect();
        for (device, id) in ids {
            assert_eq!(self.world.state(device, id), State::Delivered, "node {device}: {id}");
        }
    }
}

fn run(seed: u64, people: usize, devices: usize, steps: usize, faults: bool) {
    let mut run = Run::new(seed, people, devices);
    for _ in 0..steps {
        run.step(faults);
    }
    run.check();
    assert!(run.sent.len() > steps / 80, "only {} messages were sent", run.sent.len());
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("PARLOUR_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..std::env::var("PARLOUR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6),
    }
}

#[test]
fn without_faults_everything_arrives_once_and_in_order() {
    for seed in seeds() {
        println!("seed {seed}");
        run(seed, 2, 1, 800, false);
    }
}

#[test]
fn two_people_with_one_device_each_under_faults() {
    for seed in seeds() {
        println!("seed {seed}");
        run(seed, 2, 1, 1500, true);
    }
}

#[test]
fn devices_that_come_in_the_middle_of_faults_take_part() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut run = Run::new(seed, 2, 1);
        let mut late = Vec::new();
        for step in 0..1500 {
            if step % 500 == 250 {
                late.push(run.join());
            }
            run.step(true);
        }
        run.check();
        run.check_late(&late);
    }
}

#[test]
fn three_people_with_two_devices_each_under_faults() {
    for seed in seeds() {
        println!("seed {seed}");
        run(seed, 3, 2, 3000, true);
    }
}
