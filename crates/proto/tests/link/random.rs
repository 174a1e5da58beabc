//! Random operations against a reference model. The model of delivery is a list per direction and a table of requests.

mod disorder;
mod origins;
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use parlour_proto::link::{Command, Event, LinkConfig, OpenRequests, RequestId, Tag, Unsent};
use parlour_wire::{Code, Frame, Kind};
use proptest::prelude::*;

use crate::pair::{Pair, Side, actions, answers, number, read, requests};

#[derive(Clone, Debug)]
enum Op {
    Act(Side),
    Ask(Side, Option<u16>),
    /// Answers one of the requests that wait, picked by the number.
    Answer(Side, usize),
    Cancel(Side, usize),
    Cut(usize, usize),
    /// Only one side notices.
    Lose(Side),
    Connect,
    /// Milliseconds.
    Pass(u16),
    /// Longer than the grace.
    Forget,
}

/// How many cases to run: more, if the environment says so.
fn cases(usual: u32) -> u32 {
    std::env::var_os("PROPTEST_CASES").map_or(usual, |_| ProptestConfig::default().cases)
}

pub(crate) fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

/// How many frames are taken in between two looks at the events: one, or up to what a driver reads.
fn batch() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize), 2_usize..=64]
}

/// With little room for answers, requests wait in the machine.
fn room() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(LinkConfig::default().unacked_frames), 1 => 1_usize..8]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => side().prop_map(Op::Act),
        8 => (side(), proptest::option::weighted(0.3, 1_u16..2000)).prop_map(|(side, timeout)| Op::Ask(side, timeout)),
        8 => (side(), any::<usize>()).prop_map(|(side, pick)| Op::Answer(side, pick)),
        2 => (side(), any::<usize>()).prop_map(|(side, pick)| Op::Cancel(side, pick)),
        3 => (0_usize..8, 0_usize..8).prop_map(|(client, server)| Op::Cut(client, server)),
        1 => side().prop_map(Op::Lose),
        4 => Just(Op::Connect),
        8 => (0_u16..200).prop_map(Op::Pass),
    ]
}

/// What the application at one side knows.
#[derive(Default)]
struct App {
    acted: Vec<u32>,
    received: Vec<u32>,
    /// Actions and requests of the peer in this session.
    told: Vec<u32>,
    /// Answers that each request got.
    asked: BTreeMap<Tag, Vec<Result<Bytes, Code>>>,
    /// Requests that had not left when they were given up.
    never_left: BTreeSet<u32>,
    /// Requests without a reason to fail.
    must_succeed: BTreeMap<Tag, bool>,
    waiting: Vec<(RequestId, u32)>,
    /// How often each request of the peer was seen.
    seen: BTreeMap<u32, u32>,
}

struct World {
    pair: Pair,
    apps: [App; 2],
    next: u32,
    forgotten: u32,
}

impl World {
    fn new(config: LinkConfig, batch: usize) -> Self {
        let mut pair = Pair::new(config.clone(), config);
        pair.batch = batch;
        pair.connect();
        pair.run(Duration::from_millis(100));
        // Something has been said, so the session has something to come back to.
        pair.act(Side::Client, 0).unwrap();
        pair.run(Duration::from_millis(100));
        pair.events = Default::default();
        Self { pair, apps: Default::default(), next: 1, forgotten: 0 }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Act(side) => {
                self.next += 1;
                // A server's session that is over takes nothing.
                if self.pair.act(side, self.next).is_ok() {
                    self.apps[side as usize].acted.push(self.next);
                }
            }
            Op::Ask(side, timeout) => {
                self.next += 1;
                let tag = Tag::from(self.next);
                let timeout = timeout.map(|ms| Duration::from_millis(u64::from(ms)));
                if self.pair.ask(side, tag, timeout).is_ok() {
                    self.apps[side as usize].asked.insert(tag, Vec::new());
                    self.apps[side as usize].must_succeed.insert(tag, timeout.is_none());
                }
            }
            Op::Answer(side, pick) => {
                let waiting = &mut self.apps[side as usize].waiting;
                if !waiting.is_empty() {
                    let (id, n) = waiting.remove(pick % waiting.len());
                    self.pair.answer(side, id, number(n.wrapping_mul(3)));
                }
            }
            Op::Cancel(side, pick) => {
                let app = &mut self.apps[side as usize];
                let open: Vec<Tag> = app.asked.iter().filter(|(_, got)| got.is_empty()).map(|(tag, _)| *tag).collect();
                if let Some(tag) = open.get(pick % open.len().max(1)) {
                    app.must_succeed.insert(*tag, false);
                    self.pair.command(side, Command::Cancel { tag: *tag }).unwrap();
                }
            }
            Op::Cut(to_client, to_server) => self.pair.cut(to_client, to_server),
            Op::Lose(side) => self.pair.lose(side),
            Op::Connect => {
                if !self.pair.is_connected() {
                    self.pair.connect();
                }
            }
            Op::Pass(ms) => self.pair.run(Duration::from_millis(u64::from(ms))),
            Op::Forget => {
                self.pair.cut(0, 0);
                self.pair.run(self.pair.grace + Duration::from_secs(1));
                self.forgotten += 1;
            }
        }
        self.listen();
    }

    fn listen(&mut self) {
        for side in Side::BOTH {
            let events = self.pair.events(side);
            let app = &mut self.apps[side as usize];
            app.received.extend(actions(&events));
            for event in &events {
                match event {
                    Event::Up(up) if !up.resumed => app.told.clear(),
                    Event::Action { content, .. } | Event::Request { content, .. } => app.told.push(read(content)),
                    _ => {}
                }
                let told = &app.told;
                assert!(told.is_sorted_by(|a, b| a < b), "in the order of the calls: {told:?}");
            }
            for (id, n) in requests(&events) {
                app.waiting.push((id, n));
                *app.seen.entry(n).or_default() += 1;
            }
            for event in &events {
                if let Event::Cancelled { id } = event {
                    app.waiting.retain(|(waiting, _)| waiting != id);
                }
            }
            for (tag, answer) in answers(&events) {
                let asked = number(u32::try_from(tag).unwrap());
                let is_it = |frame: &Frame| frame.kind == Kind::REQUEST && frame.content == asked;
                if answer.is_err() && !self.pair.frames.iter().any(|(from, frame)| *from == side && is_it(frame)) {
                    app.never_left.insert(read(&asked));
                }
                app.asked.get_mut(&tag).expect("an answer to a request").push(answer);
            }
        }
    }

    /// Connects, answers everything, and waits until nothing moves.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.apply(&Op::Connect);
            self.apply(&Op::Pass(500));
            for side in Side::BOTH {
                while !self.apps[side as usize].waiting.is_empty() {
                    self.apply(&Op::Answer(side, 0));
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.pair.errors, []);
        for side in Side::BOTH {
            let (app, peer) = (&self.apps[side as usize], &self.apps[side.other() as usize]);
            if self.forgotten == 0 {
                assert_eq!(peer.received, app.acted, "actions of the {side:?}");
            } else {
                assert!(peer.received.is_sorted_by(|a, b| a < b), "each once, in order: {:?}", peer.received);
                assert!(peer.received.iter().all(|n| app.acted.contains(n)));
            }
            for (tag, got) in &app.asked {
                assert_eq!(got.len(), 1, "request {tag} of the {side:?}: {got:?}");
                self.check_answer(side, *tag, &got[0]);
            }
            assert!(app.never_left.iter().all(|n| !peer.seen.contains_key(n)), "what never left takes no effect");
            assert!(peer.seen.values().all(|count| *count <= 1 + self.forgotten));
        }
        if self.forgotten == 0 {
            for link in [&self.pair.client, &self.pair.server] {
                assert_eq!((link.unacknowledged(), link.in_flight()), ((0, 0), (0, 0)));
            }
        }
    }

    fn check_answer(&self, side: Side, tag: Tag, got: &Result<Bytes, Code>) {
        let expected = number(u32::try_from(tag).unwrap().wrapping_mul(3));
        match got {
            Ok(content) => assert_eq!(*content, expected),
            Err(code) if self.apps[side as usize].must_succeed[&tag] => {
                assert!(self.forgotten > 0, "request {tag} failed with {code} for no reason");
                assert_eq!(*code, Code::LINK_LOST);
            }
            Err(code) => assert!([Code::TIMED_OUT, Code::CANCELLED, Code::LINK_LOST].contains(code), "{code}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1000), ..ProptestConfig::default() })]

    #[test]
    fn within_a_session_everything_arrives_once_in_order_and_every_request_is_answered_once(
        ops in proptest::collection::vec(op(), 1..80),
        batch in batch(),
        unacked_frames in room(),
    ) {
        let mut world = World::new(LinkConfig { unacked_frames, ..LinkConfig::default() }, batch);
        ops.iter().for_each(|op| world.apply(op));
        world.settle();
        world.check();
    }

    #[test]
    fn across_lost_sessions_nothing_is_doubled_and_every_request_is_answered_once(
        ops in proptest::collection::vec(prop_oneof![12 => op(), 1 => Just(Op::Forget)], 1..80),
        resend in any::<bool>(),
        keep in any::<bool>(),
        batch in batch(),
        unacked_frames in room(),
    ) {
        let config = LinkConfig {
            open_requests: if resend { OpenRequests::Resend } else { OpenRequests::Fail },
            unsent: if keep { Unsent::Keep } else { Unsent::Drop },
            unacked_frames,
            ..LinkConfig::default()
        };
        let mut world = World::new(config, batch);
        ops.iter().for_each(|op| world.apply(op));
        world.settle();
        world.check();
    }
}
