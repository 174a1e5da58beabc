//! Stories about streams.

mod bounds;

use std::time::Duration;

use bytes::Bytes;
use parlour_proto::link::{Command, Event, LinkConfig, LinkError, Refusal, StreamId, Violation, chunk_cost};
use parlour_wire::{
    Code, DecodeError, Frame, Kind, encode,
    header::{self, Fault},
    limits,
};

use crate::pair::{Pair, Side, actions};

const SECOND: Duration = Duration::from_secs(1);
const CHUNK: usize = limits::STREAM_CHUNK;

fn fault(code: Code) -> Fault {
    Fault { code, message: "test".into(), retry_after_ms: None }
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

impl Pair {
    fn sink(&mut self, side: Side, stream: StreamId, credit: usize) -> Result<(), LinkError> {
        self.command(side, Command::Sink { stream, credit: credit as u64 })
    }

    fn source(&mut self, side: Side, stream: StreamId, credit: usize) -> Result<(), LinkError> {
        self.command(side, Command::Source { stream, credit: credit as u64 })
    }

    /// A stream from the client to the server, known to both.
    fn open(&mut self, stream: StreamId, credit: usize) {
        self.sink(Side::Server, stream, credit).unwrap();
        self.source(Side::Client, stream, credit).unwrap();
    }

    fn send(&mut self, stream: StreamId, content: Bytes) -> Result<(), LinkError> {
        self.command(Side::Client, Command::Data { stream, mark: Bytes::new(), content })
    }

    fn finish(&mut self, stream: StreamId) -> Result<(), LinkError> {
        self.command(Side::Client, Command::Finish { stream, content: Bytes::from_static(b"sum") })
    }

    fn grant(&mut self, stream: StreamId, credit: u64) {
        self.command(Side::Server, Command::Grant { stream, credit }).unwrap();
    }

    fn kinds(&self, side: Side) -> Vec<Kind> {
        self.trace.iter().filter(|(sender, ..)| *sender == side).map(|(_, kind, _)| *kind).collect()
    }
}

/// Length of each chunk of a stream among events.
fn chunks(events: &[Event], wanted: StreamId) -> Vec<usize> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Data { stream, content, .. } if *stream == wanted => Some(content.len()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stream_arrives_in_order_with_its_marks_and_its_last_words() {
    for (sink, source) in [(Side::Server, Side::Client), (Side::Client, Side::Server)] {
        let mut pair = Pair::up();
        pair.sink(sink, 5, 4 * CHUNK).unwrap();
        pair.source(source, 5, 4 * CHUNK).unwrap();
        for n in 0..3_u8 {
            let (mark, content) = (Bytes::from(vec![n]), Bytes::from(vec![n; 1000]));
            pair.command(source, Command::Data { stream: 5, mark, content }).unwrap();
        }
        pair.command(source, Command::Finish { stream: 5, content: Bytes::from_static(b"sum") }).unwrap();
        pair.run(SECOND);
        let mut expected: Vec<Event> = (0..3_u8)
            .map(|n| Event::Data { stream: 5, mark: vec![n].into(), content: vec![n; 1000].into(), cost: 1000 })
            .collect();
        expected.push(Event::StreamEnded { stream: 5, result: Ok(Bytes::from_static(b"sum")) });
        assert_eq!(pair.events(sink), expected);
        assert_eq!(pair.events(source), []);
        assert_eq!((pair.client.streams(), pair.server.streams()), ((0, 0), (0, 0)));
        assert!(pair.errors.is_empty());
    }
}

#[test]
fn a_source_sends_what_its_credit_covers_and_goes_on_when_more_is_granted() {
    let mut pair = Pair::up();
    pair.open(1, 1000);
    assert_eq!(pair.client.stream_room(1), 1000);
    assert_eq!(pair.send(1, bytes(1001)), Err(Refusal::Full.into()));
    pair.send(1, bytes(600)).unwrap();
    assert_eq!(pair.client.stream_room(1), 400);
    pair.send(1, bytes(400)).unwrap();
    assert_eq!((pair.client.stream_room(1), pair.send(1, bytes(1))), (0, Err(Refusal::Full.into())));
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Client), []);
    assert_eq!(chunks(&pair.events(Side::Server), 1), [600, 400]);
    pair.grant(1, 600);
    pair.grant(1, 100);
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Client), [Event::Credit { stream: 1 }], "told once, where there was no room");
    assert_eq!(pair.client.stream_room(1), 700);
}

#[test]
fn grants_that_wait_for_the_connection_travel_together() {
    let mut pair = Pair::up();
    pair.open(1, 1000);
    pair.send(1, bytes(1000)).unwrap();
    pair.run(SECOND);
    pair.congested[Side::Server as usize] = true;
    for _ in 0..5 {
        pair.grant(1, 200);
    }
    pair.congested[Side::Server as usize] = false;
    pair.trace.clear();
    pair.drain();
    pair.run(SECOND);
    assert_eq!(pair.kinds(Side::Server), [Kind::STREAM_CREDIT]);
    assert_eq!(pair.client.stream_room(1), 1000);
}

#[test]
fn a_grant_that_the_source_has_not_heard_of_waits_until_it_speaks() {
    let mut pair = Pair::up();
    pair.sink(Side::Server, 1, 1000).unwrap();
    pair.grant(1, 500);
    pair.run(SECOND);
    pair.source(Side::Client, 1, 1000).unwrap();
    pair.run(SECOND);
    assert_eq!(pair.client.stream_room(1), 1000);
    pair.send(1, bytes(1000)).unwrap();
    pair.run(SECOND);
    assert_eq!(pair.client.stream_room(1), 500);
    assert!(pair.errors.is_empty());
}

#[test]
fn a_stream_that_begins_without_credit_is_granted_at_once() {
    let mut pair = Pair::up();
    pair.open(1, 0);
    pair.grant(1, 300);
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Client), [Event::Credit { stream: 1 }]);
    assert_eq!(pair.client.stream_room(1), 300);
}

#[test]
fn a_crumb_costs_as_much_as_what_is_kept_of_it() {
    let mut pair = Pair::up();
    pair.open(1, 1000);
    assert_eq!((chunk_cost(0), chunk_cost(1), chunk_cost(CHUNK)), (256, 256, CHUNK));
    for _ in 0..3 {
        pair.send(1, bytes(1)).unwrap();
    }
    assert_eq!((pair.client.stream_room(1), pair.send(1, bytes(1))), (0, Err(Refusal::Full.into())), "232 are too little");
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert!(events.iter().all(|event| matches!(event, Event::Data { cost: 256, .. })) && events.len() == 3);
    pair.grant(1, 768);
    pair.run(SECOND);
    assert_eq!(pair.client.stream_room(1), 1000);
}

#[test]
fn a_stopped_stream_ends_at_both_sides_and_data_under_way_is_dropped() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.command(Side::Server, Command::Stop { stream: 1, fault: fault(Code::QUOTA) }).unwrap();
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.finish(1).unwrap();
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Server), []);
    assert_eq!(pair.events(Side::Client), [], "the end had left before the stop came");

    pair.open(2, 10 * CHUNK);
    pair.command(Side::Server, Command::Stop { stream: 2, fault: fault(Code::QUOTA) }).unwrap();
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Client), [Event::StreamStopped { stream: 2, fault: fault(Code::QUOTA) }]);
    assert_eq!(pair.send(2, bytes(1)), Err(Refusal::NoStream.into()));
    assert_eq!(pair.finish(2), Err(Refusal::NoStream.into()));
    assert_eq!((pair.client.streams(), pair.server.streams()), ((0, 0), (0, 0)));
    assert!(pair.errors.is_empty());
}

#[test]
fn an_aborted_stream_drops_what_waits_and_ends_with_its_fault() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    pair.send(1, bytes(10)).unwrap();
    pair.congested[Side::Client as usize] = true;
    pair.send(1, bytes(20)).unwrap();
    pair.finish(1).unwrap();
    assert_eq!(pair.send(1, bytes(1)), Err(Refusal::NoStream.into()), "it is complete");
    pair.command(Side::Client, Command::Abort { stream: 1, fault: fault(Code::DISK_FULL) }).unwrap();
    assert_eq!(pair.client.stream_bytes(), 0);
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!(chunks(&events, 1), [10]);
    assert_eq!(events.last(), Some(&Event::StreamEnded { stream: 1, result: Err(fault(Code::DISK_FULL)) }));
    assert_eq!(pair.events(Side::Client), []);
    assert_eq!(pair.client.streams(), (0, 0));
}

#[test]
fn streams_die_with_the_connection_while_the_session_goes_on() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 1).unwrap();
    pair.open(1, 10 * CHUNK);
    pair.sink(Side::Client, 2, CHUNK).unwrap();
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.run(SECOND);
    pair.events = Default::default();
    pair.congested[Side::Client as usize] = true;
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.cut(0, 0);
    pair.congested[Side::Client as usize] = false;
    let lost = |event: &Event, wanted| match event {
        Event::StreamEnded { stream, result: Err(fault) } | Event::StreamStopped { stream, fault } => {
            (*stream, fault.code) == (wanted, Code::LINK_LOST)
        }
        _ => false,
    };
    let client = pair.events(Side::Client);
    assert!(matches!(&client[..], [a, b, Event::Down { .. }] if lost(a, 2) && lost(b, 1)), "{client:?}");
    let server = pair.events(Side::Server);
    assert!(matches!(&server[..], [a, Event::Down { .. }] if lost(a, 1)), "{server:?}");
    assert_eq!(pair.sink(Side::Client, 3, 1), Err(Refusal::Disconnected.into()));
    assert_eq!(pair.source(Side::Client, 3, 1), Err(Refusal::Disconnected.into()));
    assert_eq!(pair.send(1, bytes(1)), Err(Refusal::NoStream.into()));
    pair.trace.clear();
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_up() && pair.server.is_up());
    assert!(!pair.kinds(Side::Client).contains(&Kind::STREAM_DATA), "nothing of a stream is sent again");
    pair.open(4, CHUNK);
    pair.send(4, bytes(5)).unwrap();
    pair.run(SECOND);
    assert_eq!(chunks(&pair.events(Side::Server), 4), [5]);
}

#[test]
fn a_close_ends_streams_with_its_reason() {
    let mut pair = Pair::up();
    pair.open(1, CHUNK);
    pair.command(Side::Client, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    assert!(pair.events(Side::Client).contains(&Event::StreamStopped { stream: 1, fault: fault(Code::STOPPING) }));
    assert!(pair.events(Side::Server).contains(&Event::StreamEnded { stream: 1, result: Err(fault(Code::STOPPING)) }));
    for command in [
        Command::Sink { stream: 1, credit: 1 },
        Command::Source { stream: 1, credit: 1 },
        Command::Data { stream: 1, mark: Bytes::new(), content: Bytes::new() },
        Command::Finish { stream: 1, content: Bytes::new() },
    ] {
        assert_eq!(pair.command(Side::Client, command), Err(Refusal::Closed.into()));
    }
    for command in [
        Command::Grant { stream: 1, credit: 1 },
        Command::Stop { stream: 1, fault: fault(Code::QUOTA) },
        Command::Abort { stream: 1, fault: fault(Code::QUOTA) },
    ] {
        assert_eq!(pair.command(Side::Client, command), Ok(()));
    }
}

#[test]
fn a_close_waits_for_live_frames_and_not_for_chunks() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    pair.congested[Side::Client as usize] = true;
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.act(Side::Client, 3).unwrap();
    pair.command(Side::Client, Command::Close(fault(Code::STOPPING))).unwrap();
    assert_eq!(pair.events(Side::Client), [Event::StreamStopped { stream: 1, fault: fault(Code::STOPPING) }], "at once");
    pair.trace.clear();
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    assert_eq!(pair.kinds(Side::Client), [Kind::ACTION, Kind::CLOSE]);
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!((actions(&events), chunks(&events, 1)), (vec![3], vec![]));
}

#[test]
fn a_chunk_gets_its_turn_among_ten_thousand_live_frames() {
    let config = LinkConfig { unacked_frames: 20_000, ..LinkConfig::default() };
    let mut pair = Pair::new(config, LinkConfig::default());
    pair.connect();
    pair.run(SECOND);
    pair.open(1, 10 * CHUNK);
    pair.congested[Side::Client as usize] = true;
    for n in 0..10_000 {
        pair.act(Side::Client, n).unwrap();
    }
    for _ in 0..4 {
        pair.send(1, bytes(CHUNK)).unwrap();
    }
    pair.trace.clear();
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    let kinds = pair.kinds(Side::Client);
    let turns: Vec<usize> = (0..kinds.len()).filter(|at| kinds[*at] == Kind::STREAM_DATA).collect();
    assert_eq!(turns, [64, 129, 194, 259]);
    pair.run(SECOND);
    assert_eq!(actions(&pair.events(Side::Server)), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn a_live_frame_and_a_ping_wait_for_one_chunk_at_most() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    pair.congested[Side::Client as usize] = true;
    for _ in 0..4 {
        pair.send(1, bytes(CHUNK)).unwrap();
    }
    pair.trace.clear();
    let mut sent = Vec::new();
    for n in 0..3 {
        pair.act(Side::Client, n).unwrap();
        let ping = Frame { id: 1, ..Frame::new(Kind::PING) };
        pair.client.handle(parlour_proto::link::Input::Frame(ping), pair.now).unwrap();
        sent.extend((0..3).map(|_| match pair.client.poll_transmit().unwrap() {
            parlour_proto::link::Output::Send(frame) => frame.kind,
            output => panic!("{output:?}"),
        }));
    }
    assert_eq!(sent, [Kind::PONG, Kind::ACTION, Kind::STREAM_DATA].repeat(3));
}

#[test]
fn chunks_that_are_held_back_hold_up_nothing_else() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    pair.client.hold_chunks(true);
    assert!(!pair.client.holds_chunks(), "there are none");
    pair.send(1, bytes(100)).unwrap();
    assert!(!pair.client.has_transmit() && pair.client.holds_chunks());
    pair.act(Side::Client, 7).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!((actions(&events), chunks(&events, 1)), (vec![7], vec![]));
    pair.client.hold_chunks(false);
    assert!(pair.client.has_transmit() && !pair.client.holds_chunks());
    pair.drain();
    pair.run(SECOND);
    assert_eq!(chunks(&pair.events(Side::Server), 1), [100]);

    pair.client.hold_chunks(true);
    pair.cut(0, 0);
    pair.connect();
    pair.run(SECOND);
    pair.open(2, CHUNK);
    pair.send(2, bytes(5)).unwrap();
    pair.run(SECOND);
    assert_eq!(chunks(&pair.events(Side::Server), 2), [5], "another connection takes them");
}

#[test]
fn sources_take_turns_chunk_by_chunk() {
    let mut pair = Pair::up();
    for stream in 1..=3 {
        pair.open(stream, 10 * CHUNK);
    }
    pair.congested[Side::Client as usize] = true;
    for stream in [1, 1, 1, 1, 2, 2, 3] {
        pair.send(stream, bytes(CHUNK)).unwrap();
    }
    pair.finish(2).unwrap();
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    pair.run(SECOND);
    let order: Vec<StreamId> = pair
        .events(Side::Server)
        .iter()
        .map(|event| match event {
            Event::Data { stream, .. } | Event::StreamEnded { stream, .. } => *stream,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 1, 2, 1]);
}
