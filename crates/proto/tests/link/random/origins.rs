//! Requests that survive their sessions, against a model of a driver that carries each out once.
//!
//! The driver's table is here as small as it can be: what remains of lost sessions tells which requests have been here, and the
//! origin of a request says which one it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use parlour_proto::link::{Answer, Command, Event, LinkConfig, OpenRequests, Remains, RequestId, Tag, Unsent};
use parlour_wire::{
    Code, LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
};
use proptest::prelude::*;

use crate::pair::{Pair, Side, number, read};

#[derive(Clone, Debug)]
enum Op {
    Act,
    Ask(Option<u16>),
    /// A handler comes to its end.
    Answer(usize),
    Cancel(usize),
    Cut(usize, usize),
    Lose(Side),
    Connect,
    Pass(u16),
    /// Longer than the grace.
    Forget,
    /// The server ends the session, for now.
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Act),
        8 => proptest::option::weighted(0.2, 1_u16..2000).prop_map(Op::Ask),
        8 => any::<usize>().prop_map(Op::Answer),
        3 => any::<usize>().prop_map(Op::Cancel),
        4 => (0_usize..8, 0_usize..8).prop_map(|(client, server)| Op::Cut(client, server)),
        1 => (0..2).prop_map(|side| Op::Lose(Side::BOTH[side as usize])),
        6 => Just(Op::Connect),
        8 => (0_u16..200).prop_map(Op::Pass),
        3 => Just(Op::Forget),
        2 => Just(Op::Close),
    ]
}

/// What a driver knows of a request that came in a session which is lost.
#[derive(Debug)]
enum Entry {
    /// Its handler runs; this request of the session at hand, if any, waits for it.
    Running(Option<RequestId>),
    Answered(Result<Answer, Fault>),
}

/// The server's driver: carries out what it has not carried out, and answers the rest from its table.
#[derive(Default)]
struct Driver {
    session: Option<LinkSessionId>,
    /// Requests of this session that stand for one of an earlier session.
    again: BTreeMap<RequestId, Origin>,
    table: BTreeMap<Origin, Entry>,
    /// The highest number that was received in each lost session.
    received: BTreeMap<LinkSessionId, u64>,
    /// Handlers that run, by the first name of their request.
    handlers: BTreeMap<Origin, u32>,
    /// How often each request took effect.
    effects: BTreeMap<u32, u32>,
}

impl Driver {
    fn name(&self, id: RequestId) -> Origin {
        let session = self.session.expect("a request comes in a session");
        self.again.get(&id).copied().unwrap_or(Origin { session, number: id.number() })
    }

    /// Takes a request in. Gives the answer if it is known.
    fn on_request(&mut self, id: RequestId, origin: Option<Origin>, content: u32) -> Option<Result<Answer, Fault>> {
        if let Some(origin) = origin {
            self.again.insert(id, origin);
            match self.table.get_mut(&origin) {
                Some(Entry::Answered(result)) => return Some(result.clone()),
                Some(Entry::Running(waiting)) => {
                    assert!(waiting.replace(id).is_none(), "two requests of one session with one origin");
                    return None;
                }
                None => {
                    let received =
                        self.received.get(&origin.session).copied().expect("the remains come before what is sent again");
                    assert!(origin.number > received, "a request that was received and is not among the remains came again");
                }
            }
        }
        *self.effects.entry(content).or_default() += 1;
        self.handlers.insert(self.name(id), content);
        None
    }

    /// A handler has come to its end. Gives the request that is to be answered in the session at hand.
    fn on_done(&mut self, name: Origin, result: &Result<Answer, Fault>) -> Option<RequestId> {
        let content = self.handlers.remove(&name);
        assert!(content.is_some());
        if let Some(entry) = self.table.get_mut(&name) {
            let Entry::Running(waiting) = std::mem::replace(entry, Entry::Answered(result.clone())) else {
                panic!("answered twice")
            };
            return waiting;
        }
        None
    }

    fn on_cancelled(&mut self, name: Origin) {
        self.handlers.remove(&name);
        self.table.remove(&name);
    }

    fn on_remains(&mut self, remains: Remains) {
        let Remains { session, received, answers, running } = remains;
        assert_eq!(Some(session), self.session, "of the session at hand");
        assert!(answers.iter().all(|(number, _)| *number <= received));
        let again: BTreeMap<u64, Origin> = self.again.iter().map(|(id, origin)| (id.number(), *origin)).collect();
        for (number, result) in answers {
            let name = again.get(&number).copied().unwrap_or(Origin { session, number });
            self.table.insert(name, Entry::Answered(result));
        }
        for id in running {
            let name = self.name(id);
            assert!(self.handlers.contains_key(&name));
            self.table.insert(name, Entry::Running(None));
        }
        self.received.insert(session, received);
        self.again.clear();
        self.session = None;
    }
}

struct World {
    pair: Pair,
    driver: Driver,
    /// The request of the session at hand for each handler that began in it.
    ids: BTreeMap<Origin, RequestId>,
    asked: BTreeMap<Tag, Vec<Result<Bytes, Code>>>,
    may_fail: BTreeSet<Tag>,
    next: u32,
}

impl World {
    fn new(server: LinkConfig) -> Self {
        let client = LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Keep, ..LinkConfig::default() };
        let mut pair = Pair::new(client, LinkConfig { keep_remains: true, ..server });
        pair.connect();
        let (ids, asked, may_fail) = Default::default();
        Self { pair, driver: Driver::default(), ids, asked, may_fail, next: 0 }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Act => drop(self.pair.act(Side::Server, 0)),
            Op::Ask(timeout) => {
                self.next += 1;
                let tag = Tag::from(self.next);
                self.pair.ask(Side::Client, tag, timeout.map(|ms| Duration::from_millis(ms.into()))).unwrap();
                self.asked.insert(tag, Vec::new());
                if timeout.is_some() {
                    self.may_fail.insert(tag);
                }
            }
            Op::Answer(pick) => {
                let names: Vec<Origin> = self.driver.handlers.keys().copied().collect();
                if !names.is_empty() {
                    self.done(names[pick % names.len()]);
                }
            }
            Op::Cancel(pick) => {
                let open: Vec<Tag> = self.asked.iter().filter(|(_, got)| got.is_empty()).map(|(tag, _)| *tag).collect();
                if !open.is_empty() {
                    let tag = open[pick % open.len()];
                    self.may_fail.insert(tag);
                    self.pair.command(Side::Client, Command::Cancel { tag }).unwrap();
                }
            }
            Op::Cut(to_client, to_server) => self.pair.cut(to_client, to_server),
            Op::Lose(side) => self.pair.lose(side),
            Op::Connect => {
                if !self.pair.is_connected() {
                    self.pair.connect();
                }
            }
            Op::Pass(ms) => self.pair.run(Duration::from_millis(ms.into())),
            Op::Forget => {
                self.pair.cut(0, 0);
                self.pair.run(self.pair.grace + Duration::from_secs(1));
            }
            Op::Close => {
                let fault = Fault { code: Code::STOPPING, message: "for now".into(), retry_after_ms: None };
                self.pair.command(Side::Server, Command::Close(fault)).unwrap();
            }
        }
        self.listen();
    }

    fn done(&mut self, name: Origin) {
        // A driver keeps an answer until there is room for it, and there is none in a session that is being closed.
        if self.pair.server.is_closing() {
            return;
        }
        let content = self.driver.handlers[&name];
        let result = if content.is_multiple_of(5) {
            Err(Fault { code: Code::QUOTA, message: "five".into(), retry_after_ms: None })
        } else {
            Ok(Answer { content_type: ContentType::CBOR, content: number(content.wrapping_mul(3)) })
        };
        let waiting = self.driver.on_done(name, &result);
        if let Some(id) = waiting.or_else(|| self.ids.remove(&name)) {
            self.pair.command(Side::Server, Command::Answer { id, result }).unwrap();
        }
    }

    fn listen(&mut self) {
        // An answer from the table may cause more events.
        loop {
            let events = self.pair.events(Side::Server);
            if events.is_empty() {
                break;
            }
            for event in events {
                self.on_server_event(event);
            }
        }
        for event in self.pair.events(Side::Client) {
            if let Event::Answer { tag, result } = event {
                let result = result.map(|answer| answer.content).map_err(|fault| fault.code);
                self.asked.get_mut(&tag).expect("an answer to a request").push(result);
            }
        }
    }

    fn on_server_event(&mut self, event: Event) {
        match event {
            Event::Up(up) => self.driver.session = Some(up.session),
            Event::Request { id, content, origin, .. } => {
                if let Some(result) = self.driver.on_request(id, origin, read(&content)) {
                    self.pair.command(Side::Server, Command::Answer { id, result }).unwrap();
                } else {
                    let name = self.driver.name(id);
                    if !matches!(self.driver.table.get(&name), Some(Entry::Running(_))) {
                        self.ids.insert(name, id);
                    }
                }
            }
            Event::Cancelled { id } => {
                let name = self.driver.name(id);
                self.ids.remove(&name);
                self.driver.on_cancelled(name);
            }
            Event::Remains(remains) => {
                self.ids.clear();
                self.driver.on_remains(*remains);
            }
            Event::Down { .. } | Event::Ended(_) => {}
            event => panic!("{event:?}"),
        }
    }

    /// Connects, lets every handler come to its end, and waits until nothing moves.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.apply(&Op::Connect);
            self.apply(&Op::Pass(500));
            while !self.driver.handlers.is_empty() && !self.pair.server.is_closing() {
                self.apply(&Op::Answer(0));
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.pair.errors, []);
        for (tag, got) in &self.asked {
            assert_eq!(got.len(), 1, "request {tag}: {got:?}");
            let content = u32::try_from(*tag).unwrap();
            let effects = self.driver.effects.get(&content).copied().unwrap_or_default();
            match &got[0] {
                Ok(answer) => assert_eq!((answer, effects), (&number(content.wrapping_mul(3)), 1), "request {tag}"),
                Err(Code::QUOTA) if content.is_multiple_of(5) => assert_eq!(effects, 1, "request {tag}"),
                Err(code) => {
                    assert!(self.may_fail.contains(tag), "request {tag} failed with {code} for no reason");
                    assert!([Code::TIMED_OUT, Code::CANCELLED].contains(code), "{code}");
                    assert!(effects <= 1, "request {tag}");
                }
            }
        }
        for link in [&self.pair.client, &self.pair.server] {
            assert_eq!((link.unacknowledged(), link.in_flight()), ((0, 0), (0, 0)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(2000), ..ProptestConfig::default() })]

    #[test]
    fn a_request_takes_effect_once_however_often_its_session_is_lost_or_closed(
        ops in proptest::collection::vec(op(), 1..100),
        room in proptest::option::weighted(0.3, 1_usize..4),
        batch in super::batch(),
    ) {
        // With little room for answers, requests wait in the machine.
        let unacked_frames = room.unwrap_or(LinkConfig::default().unacked_frames);
        let mut world = World::new(LinkConfig { unacked_frames, ..LinkConfig::default() });
        world.pair.batch = batch;
        ops.iter().for_each(|op| world.apply(op));
        world.settle();
        world.check();
    }
}
