//! Random operations on streams beside live frames, against a model that knows every byte that was handed over.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use parlour_proto::link::{Command, Event, LinkConfig, LinkError, Refusal, StreamId, chunk_cost};
use parlour_wire::{Code, Encoding, header::Fault, limits};
use proptest::prelude::*;

use super::side;
use crate::pair::{Pair, Side, actions};

#[derive(Clone, Debug)]
enum Op {
    Act(Side),
    /// Expects a stream with this credit; the other side hears of it.
    Sink(Side, u32),
    /// Begins to send one of the streams that the other side expects, or has expected.
    Source(Side, usize),
    /// Sends so many bytes, or is refused.
    Write(Side, usize, usize),
    Finish(Side, usize),
    Abort(Side, usize),
    Stop(Side, usize),
    /// Takes so many chunks out of a stream, and grants what they took.
    Take(Side, usize, usize),
    /// Grants more than was taken.
    Grant(Side, usize, u16),
    Congest(Side, bool),
    Cut(usize, usize),
    Lose(Side),
    Connect,
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<usize>;
    let length = prop_oneof![4 => 0_usize..2000, 1 => 0_usize..=limits::STREAM_CHUNK];
    prop_oneof![
        2 => side().prop_map(Op::Act),
        4 => (side(), prop_oneof![0_u32..100_000, Just(0)]).prop_map(|(side, credit)| Op::Sink(side, credit)),
        4 => (side(), pick()).prop_map(|(side, pick)| Op::Source(side, pick)),
        12 => (side(), pick(), length).prop_map(|(side, pick, length)| Op::Write(side, pick, length)),
        2 => (side(), pick()).prop_map(|(side, pick)| Op::Finish(side, pick)),
        1 => (side(), pick()).prop_map(|(side, pick)| Op::Abort(side, pick)),
        1 => (side(), pick()).prop_map(|(side, pick)| Op::Stop(side, pick)),
        6 => (side(), pick(), 0_usize..20).prop_map(|(side, pick, count)| Op::Take(side, pick, count)),
        2 => (side(), pick(), any::<u16>()).prop_map(|(side, pick, credit)| Op::Grant(side, pick, credit)),
        2 => (side(), any::<bool>()).prop_map(|(side, on)| Op::Congest(side, on)),
        1 => (0_usize..8, 0_usize..8).prop_map(|(client, server)| Op::Cut(client, server)),
        1 => side().prop_map(Op::Lose),
        3 => Just(Op::Connect),
        6 => (0_u16..50).prop_map(Op::Pass),
    ]
}

/// A stream, as somebody who sees both ends knows it.
#[derive(Debug, Default)]
struct Known {
    sent: Vec<u8>,
    finished: bool,
    /// The source may still send.
    sending: bool,
    /// The source had no more room than this when it was last looked at, and waits for more.
    hungry: Option<usize>,
    delivered: usize,
    /// Costs of the chunks that arrived and were not taken.
    held: Vec<u64>,
    /// The first credit, what the sink has given in all, and what has been used of it.
    first: u64,
    given: u64,
    used: u64,
    /// The sink is open.
    receiving: bool,
}

struct World {
    pair: Pair,
    /// By the side of the sink, and the name.
    streams: [BTreeMap<StreamId, Known>; 2],
    /// Streams that a side has been told to send.
    invited: [Vec<StreamId>; 2],
    acted: [Vec<u32>; 2],
    received: [Vec<u32>; 2],
    next: u32,
}

fn fault(code: Code) -> Fault {
    Fault { code, message: "model".into(), retry_after_ms: None }
}

/// The byte at a place in a stream, so that nothing can be mistaken for something else.
fn byte(stream: StreamId, at: usize) -> u8 {
    (stream as usize).wrapping_mul(31).wrapping_add(at.wrapping_mul(7)).wrapping_add(at >> 8).to_le_bytes()[0]
}

fn last_words(known: &Known) -> Bytes {
    Bytes::from(known.sent.len().to_be_bytes().to_vec())
}

impl World {
    fn new(config: &LinkConfig) -> Self {
        let mut pair = Pair::up_with(config.clone(), config.clone());
        // Something has been said, so the session has something to come back to.
        pair.act(Side::Client, 0).unwrap();
        pair.run(Duration::from_millis(100));
        pair.events = Default::default();
        Self {
            pair,
            streams: Default::default(),
            invited: Default::default(),
            acted: Default::default(),
            received: Default::default(),
            next: 1,
        }
    }

    /// One of the streams that a side sends or receives and has not ended itself.
    fn pick(&self, sink: Side, pick: usize, open: impl Fn(&Known) -> bool) -> Option<StreamId> {
        let ids: Vec<StreamId> =
            self.streams[sink as usize].iter().filter(|(_, known)| open(known)).map(|(stream, _)| *stream).collect();
        (!ids.is_empty()).then(|| ids[pick % ids.len()])
    }

    fn known(&mut self, sink: Side, stream: StreamId) -> &mut Known {
        self.streams[sink as usize].get_mut(&stream).expect("a stream that somebody opened")
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Act(side) => {
                self.next += 1;
                self.pair.act(side, self.next).unwrap();
                self.acted[side as usize].push(self.next);
            }
            Op::Sink(side, credit) => self.sink(side, credit.into()),
            Op::Source(side, pick) => self.source(side, pick),
            Op::Write(side, pick, length) => {
                if let Some(stream) = self.pick(side.other(), pick, |known| known.sending) {
                    self.write(side, stream, length);
                }
            }
            Op::Finish(side, pick) => {
                if let Some(stream) = self.pick(side.other(), pick, |known| known.sending) {
                    self.finish(side, stream);
                }
            }
            Op::Abort(side, pick) => {
                if let Some(stream) = self.pick(side.other(), pick, |known| known.sending) {
                    self.known(side.other(), stream).sending = false;
                    self.pair.command(side, Command::Abort { stream, fault: fault(Code::DISK_FULL) }).unwrap();
                }
            }
            Op::Stop(side, pick) => {
                if let Some(stream) = self.pick(side, pick, |known| known.receiving) {
                    self.known(side, stream).receiving = false;
                    self.pair.command(side, Command::Stop { stream, fault: fault(Code::QUOTA) }).unwrap();
                }
            }
            Op::Take(side, pick, count) => {
                if let Some(stream) = self.pick(side, pick, |known| !known.held.is_empty()) {
                    self.take(side, stream, count);
                }
            }
            Op::Grant(side, pick, credit) => {
                // Who was given too little to begin with must know of the stream before it can hear of more.
                let hears = |known: &Known| known.first >= limits::STREAM_CHUNK_COST as u64 || known.sending;
                if let Some(stream) = self.pick(side, pick, |known| known.receiving && hears(known)) {
                    self.known(side, stream).given += u64::from(credit);
                    self.pair.command(side, Command::Grant { stream, credit: credit.into() }).unwrap();
                }
            }
            Op::Congest(side, on) => {
                self.pair.congested[side as usize] = on;
                self.pair.drain();
            }
            Op::Cut(to_client, to_server) => self.pair.cut(to_client, to_server),
            Op::Lose(side) => self.pair.lose(side),
            Op::Connect => {
                if !self.pair.is_connected() {
                    self.pair.connect();
                }
            }
            Op::Pass(ms) => self.pair.run(Duration::from_millis(ms.into())),
        }
        self.listen();
    }

    fn sink(&mut self, side: Side, credit: u64) {
        self.next += 1;
        let stream = StreamId::from(self.next);
        let open = self.streams[side as usize].values().filter(|known| known.receiving).count();
        let expected = match (self.pair.link(side).is_up(), open < limits::STREAMS) {
            (false, _) => Err(Refusal::Disconnected.into()),
            (true, false) => Err(Refusal::TooManyStreams.into()),
            (true, true) => Ok(()),
        };
        assert_eq!(self.pair.command(side, Command::Sink { stream, credit }), expected);
        if expected.is_ok() {
            self.streams[side as usize]
                .insert(stream, Known { receiving: true, first: credit, given: credit, ..Known::default() });
            self.invited[side.other() as usize].push(stream);
        }
    }

    fn source(&mut self, side: Side, pick: usize) {
        let invited = &mut self.invited[side as usize];
        if invited.is_empty() {
            return;
        }
        let stream = invited.remove(pick % invited.len());
        let credit = self.known(side.other(), stream).first;
        match self.pair.command(side, Command::Source { stream, credit }) {
            Ok(()) => {
                let known = self.known(side.other(), stream);
                (known.sending, known.hungry) = (true, None);
            }
            Err(error) => {
                let places = self.pair.link(side).streams().0;
                let refused = [LinkError::Refused(Refusal::Disconnected), LinkError::Refused(Refusal::TooManyStreams)];
                assert!(refused.contains(&error) && (places == limits::STREAMS || !self.pair.link(side).is_up()));
            }
        }
    }

    fn write(&mut self, side: Side, stream: StreamId, length: usize) {
        let sink = side.other();
        let from = self.known(sink, stream).sent.len();
        let content: Vec<u8> = (from..from + length).map(|at| byte(stream, at)).collect();
        let mark = Bytes::from(from.to_be_bytes().to_vec());
        let room = self.pair.link(side).stream_room(stream);
        let command = Command::Data { stream, mark, content: content.clone().into() };
        if chunk_cost(length) <= room {
            // In the model before the command, which may carry it to the other side.
            self.known(sink, stream).sent.extend(content);
            self.pair.command(side, command).unwrap();
        } else {
            assert_eq!(self.pair.command(side, command), Err(Refusal::Full.into()));
            self.known(sink, stream).hungry = Some(room);
        }
    }

    fn finish(&mut self, side: Side, stream: StreamId) {
        let known = self.known(side.other(), stream);
        (known.sending, known.finished) = (false, true);
        let content = last_words(known);
        self.pair.command(side, Command::Finish { stream, content }).unwrap();
    }

    fn take(&mut self, side: Side, stream: StreamId, count: usize) {
        let known = self.known(side, stream);
        let count = count.min(known.held.len());
        let credit: u64 = known.held.drain(..count).sum();
        if known.receiving {
            known.given += credit;
        }
        self.pair.command(side, Command::Grant { stream, credit }).unwrap();
    }

    fn listen(&mut self) {
        for side in Side::BOTH {
            let events = self.pair.events(side);
            self.received[side as usize].extend(actions(&events));
            for event in events {
                self.on_event(side, event);
            }
            self.check_room(side);
        }
    }

    fn on_event(&mut self, side: Side, event: Event) {
        match event {
            Event::Data { stream, mark, content, cost } => {
                let known = self.known(side, stream);
                assert!(known.receiving, "data of a stream that is over");
                assert_eq!(mark, known.delivered.to_be_bytes().to_vec());
                let end = known.delivered + content.len();
                assert_eq!(known.sent.get(known.delivered..end), Some(&content[..]), "a prefix of what was sent");
                known.delivered = end;
                known.used += cost;
                assert!(known.used <= known.given, "credit is never exceeded");
                known.held.push(cost);
            }
            Event::StreamEnded { stream, result } => {
                let known = self.known(side, stream);
                assert!(std::mem::take(&mut known.receiving), "ended twice");
                match result {
                    Ok(content) => {
                        assert!(known.finished);
                        assert_eq!((known.delivered, content), (known.sent.len(), last_words(known)));
                    }
                    Err(fault) => assert!([Code::LINK_LOST, Code::DISK_FULL].contains(&fault.code), "{fault:?}"),
                }
            }
            Event::StreamStopped { stream, fault } => {
                let known = self.known(side.other(), stream);
                assert!(known.sending || known.finished, "stopped twice, or after it was given up");
                assert!([Code::LINK_LOST, Code::QUOTA, Code::CANCELLED].contains(&fault.code), "{fault:?}");
                known.sending = false;
            }
            Event::Credit { stream } => self.known(side.other(), stream).hungry = None,
            Event::Up(_) | Event::Down { .. } | Event::Action { .. } => {}
            event => panic!("{event:?}"),
        }
    }

    /// Whoever found too little room is told before there is more.
    fn check_room(&mut self, side: Side) {
        for (stream, known) in &mut self.streams[side.other() as usize] {
            let room = self.pair.link(side).stream_room(*stream);
            assert!(known.sending || room == 0);
            assert!(known.hungry.is_none_or(|had| room <= had), "room that nobody was told of");
            if known.sending && room == 0 {
                known.hungry = Some(0);
            }
        }
    }

    /// Connects, takes everything, and completes every stream.
    fn settle(&mut self) {
        self.pair.congested = [false; 2];
        self.pair.drain();
        self.apply(&Op::Connect);
        self.apply(&Op::Pass(500));
        for _ in 0..3 {
            self.apply(&Op::Connect);
            for side in Side::BOTH {
                while let Some(stream) = self.pick(side, 0, |known| !known.held.is_empty()) {
                    self.take(side, stream, usize::MAX);
                    self.listen();
                }
            }
            self.apply(&Op::Pass(500));
        }
        for side in Side::BOTH {
            while let Some(stream) = self.pick(side.other(), 0, |known| known.sending) {
                self.check_credit(side, stream);
                self.finish(side, stream);
                self.listen();
            }
        }
        self.apply(&Op::Pass(500));
    }

    /// Everything was taken and granted, so all the credit that was not used is back at the source.
    fn check_credit(&mut self, side: Side, stream: StreamId) {
        let known = self.known(side.other(), stream);
        if known.receiving {
            // Grants are held until the source has spoken.
            let held = known.used == 0 && known.first >= limits::STREAM_CHUNK_COST as u64;
            let credit = usize::try_from(if held { known.first } else { known.given - known.used }).unwrap();
            let room = if credit < limits::STREAM_CHUNK_COST { 0 } else { credit.min(limits::STREAM_QUEUE) };
            assert_eq!(self.pair.link(side).stream_room(stream), room);
        }
    }

    fn check(&mut self) {
        assert_eq!(self.pair.errors, []);
        for side in Side::BOTH {
            assert_eq!(self.received[side.other() as usize], self.acted[side as usize]);
            // Sinks that nobody sends to wait for ever: the application stops them.
            while let Some(stream) = self.pick(side, 0, |known| known.receiving) {
                let known = self.known(side, stream);
                assert!(!known.finished && known.sent.is_empty(), "a stream that was completed has ended: {known:?}");
                self.apply(&Op::Stop(side, 0));
            }
        }
        self.apply(&Op::Pass(500));
        for link in [&self.pair.client, &self.pair.server] {
            assert_eq!((link.streams(), link.stream_bytes(), link.unacknowledged()), ((0, 0), 0, (0, 0)));
        }
        assert!(!self.pair.client.has_transmit() && !self.pair.server.has_transmit());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(1000), ..ProptestConfig::default() })]

    #[test]
    fn a_stream_delivers_a_prefix_of_what_was_sent_and_all_of_it_when_it_is_complete(
        ops in proptest::collection::vec(op(), 1..120),
        compression in proptest::option::weighted(0.2, Just(Encoding::Zstd)),
    ) {
        let config = LinkConfig { compression: compression.into_iter().collect(), ..LinkConfig::default() };
        let mut world = World::new(&config);
        ops.iter().for_each(|op| world.apply(op));
        world.settle();
        world.check();
    }
}
