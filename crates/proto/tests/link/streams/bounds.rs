//! Streams that somebody misuses, or that nobody reads.

use super::*;

fn credit(stream: StreamId, credit: u64, stop: Option<Fault>) -> Frame {
    let header = Bytes::from(encode(&header::Credit { credit, stop }));
    Frame { id: stream, header, ..Frame::new(Kind::STREAM_CREDIT) }
}

fn data(stream: StreamId, content: usize) -> Frame {
    Frame { id: stream, content: bytes(content), ..Frame::new(Kind::STREAM_DATA) }
}

#[test]
fn more_than_the_credit_is_a_violation() {
    // Too much at once, too many crumbs, and credit that the peer has not been told.
    for (frames, length) in [(1, 1001), (4, 1), (2, 600)] {
        let mut pair = Pair::up();
        pair.sink(Side::Server, 9, 1000).unwrap();
        pair.congested[Side::Server as usize] = true;
        for _ in 0..frames {
            pair.grant(9, 5000);
            pair.forge(Side::Client, &data(9, length));
        }
        pair.run(Duration::from_millis(20));
        pair.congested[Side::Server as usize] = false;
        pair.drain();
        pair.run(SECOND);
        assert_eq!(pair.errors, [(Side::Server, Violation::CreditExceeded(9).into())]);
        let events = pair.events(Side::Server);
        assert!(events.contains(&Event::StreamEnded { stream: 9, result: Err(Violation::CreditExceeded(9).fault()) }));
        assert!(matches!(pair.events(Side::Client).last(), Some(Event::Ended(fault)) if fault.code == Code::BAD_FRAME));
    }
}

#[test]
fn frames_of_streams_that_are_not_open_are_ignored() {
    for side in Side::BOTH {
        let mut pair = Pair::up();
        pair.forge(side, &data(77, 100));
        pair.forge(side, &Frame { id: 77, ..Frame::new(Kind::STREAM_END) });
        pair.forge(side, &credit(77, 100, None));
        pair.forge(side, &credit(77, 0, Some(fault(Code::CANCELLED))));
        pair.run(SECOND);
        assert!(pair.errors.is_empty());
        assert_eq!((pair.events(Side::Client), pair.events(Side::Server)), (vec![], vec![]));
        assert_eq!(pair.link(side.other()).streams(), (0, 0));
    }
}

#[test]
fn a_source_whose_sink_is_not_there_is_stopped() {
    let mut pair = Pair::up();
    pair.source(Side::Client, 3, CHUNK).unwrap();
    pair.send(3, bytes(100)).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert!(matches!(&events[..], [Event::StreamStopped { stream: 3, fault }] if fault.code == Code::CANCELLED), "{events:?}");
    assert_eq!(pair.send(3, bytes(1)), Err(Refusal::NoStream.into()));
}

#[test]
fn stops_for_a_peer_that_reads_nothing_have_a_bound() {
    let mut pair = Pair::up();
    pair.congested[Side::Server as usize] = true;
    for stream in 0..1000 {
        pair.forge(Side::Client, &data(stream, 1));
    }
    pair.run(Duration::from_millis(20));
    pair.trace.clear();
    pair.congested[Side::Server as usize] = false;
    pair.drain();
    assert_eq!(pair.kinds(Side::Server).len(), 2 * limits::STREAMS);
}

#[test]
fn what_waits_for_a_slow_connection_has_a_bound() {
    let mut pair = Pair::up();
    pair.open(1, 100 * CHUNK);
    pair.congested[Side::Client as usize] = true;
    let mut taken = 0;
    while pair.send(1, bytes(CHUNK)).is_ok() {
        taken += CHUNK;
    }
    assert_eq!((taken, pair.client.stream_bytes(), pair.client.stream_room(1)), (limits::STREAM_QUEUE, limits::STREAM_QUEUE, 0));
    assert!(pair.client.has_transmit());
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    assert_eq!(pair.events(Side::Client), [Event::Credit { stream: 1 }]);
    assert_eq!(pair.client.stream_room(1), limits::STREAM_QUEUE);
    assert!(!pair.client.has_transmit());
}

#[test]
fn the_65th_stream_is_refused_in_each_direction() {
    let mut pair = Pair::up();
    for stream in 0..limits::STREAMS as StreamId {
        pair.open(stream, CHUNK);
    }
    assert_eq!(pair.sink(Side::Server, 100, CHUNK), Err(Refusal::TooManyStreams.into()));
    assert_eq!(pair.source(Side::Client, 100, CHUNK), Err(Refusal::TooManyStreams.into()));
    pair.sink(Side::Client, 100, CHUNK).unwrap();
    assert_eq!(pair.sink(Side::Server, 0, CHUNK), Err(Refusal::StreamInUse.into()));
    assert_eq!(pair.source(Side::Client, 0, CHUNK), Err(Refusal::StreamInUse.into()));
    pair.finish(7).unwrap();
    pair.run(SECOND);
    pair.open(100, CHUNK);
}

#[test]
fn oversized_marks_chunks_and_ends_are_refused_here_and_violations_there() {
    let mut pair = Pair::up();
    pair.open(1, 10 * CHUNK);
    let oversized = [
        Command::Data { stream: 1, mark: bytes(limits::STREAM_MARK + 1), content: Bytes::new() },
        Command::Data { stream: 1, mark: Bytes::new(), content: bytes(CHUNK + 1) },
        Command::Finish { stream: 1, content: bytes(limits::STREAM_FINISH + 1) },
    ];
    for command in oversized {
        assert_eq!(pair.command(Side::Client, command), Err(Refusal::TooLarge.into()));
    }
    pair.command(Side::Client, Command::Data { stream: 1, mark: bytes(limits::STREAM_MARK), content: bytes(CHUNK) }).unwrap();
    pair.command(Side::Client, Command::Finish { stream: 1, content: bytes(limits::STREAM_FINISH) }).unwrap();
    pair.run(SECOND);
    assert!(pair.errors.is_empty());

    let mark = Frame { header: bytes(limits::STREAM_MARK + 1), ..data(1, 1) };
    let end = Frame { id: 1, content: bytes(limits::STREAM_FINISH + 1), ..Frame::new(Kind::STREAM_END) };
    for (frame, named) in [(mark, "mark of a chunk"), (data(1, CHUNK + 1), "chunk"), (end, "end of a stream")] {
        let mut pair = Pair::up();
        pair.sink(Side::Server, 1, 10 * CHUNK).unwrap();
        pair.forge(Side::Client, &frame);
        pair.run(SECOND);
        assert_eq!(pair.errors, [(Side::Server, Violation::Header(DecodeError::TooLong(named)).into())]);
        assert!(matches!(pair.events(Side::Client).last(), Some(Event::Ended(fault)) if fault.code == Code::TOO_LARGE));
    }
}

#[test]
fn huge_credit_neither_overflows_nor_lets_more_be_queued() {
    let mut pair = Pair::up();
    pair.sink(Side::Server, 1, usize::MAX).unwrap();
    pair.grant(1, u64::MAX);
    pair.source(Side::Client, 1, usize::MAX).unwrap();
    for _ in 0..3 {
        pair.forge(Side::Server, &credit(1, u64::MAX, None));
    }
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.run(SECOND);
    pair.grant(1, u64::MAX);
    pair.send(1, bytes(CHUNK)).unwrap();
    pair.run(SECOND);
    assert_eq!(pair.client.stream_room(1), limits::STREAM_QUEUE);
    assert_eq!(chunks(&pair.events(Side::Server), 1), [CHUNK, CHUNK]);
    assert!(pair.errors.is_empty());
}

#[test]
fn stream_frames_with_numbers_or_unreadable_headers_have_a_name() {
    let cases = [
        (Frame { seq: 1, ..data(1, 1) }, Violation::Numbering(Kind::STREAM_DATA)),
        (Frame { seq: 1, ..credit(1, 1, None) }, Violation::Numbering(Kind::STREAM_CREDIT)),
        (Frame { seq: 1, ..Frame::new(Kind::STREAM_END) }, Violation::Numbering(Kind::STREAM_END)),
        (Frame::new(Kind::STREAM_CREDIT), Violation::Header(DecodeError::Malformed)),
        (
            Frame { header: Bytes::from(encode(&"text")), ..Frame::new(Kind::STREAM_CREDIT) },
            Violation::Header(DecodeError::Malformed),
        ),
        (
            Frame { header: Bytes::from_static(&[0xa1, 0x00]), ..Frame::new(Kind::STREAM_END) },
            Violation::Header(DecodeError::Malformed),
        ),
    ];
    for (frame, violation) in cases {
        for side in Side::BOTH {
            let mut pair = Pair::up();
            pair.forge(side, &frame);
            pair.run(SECOND);
            assert_eq!(pair.errors, [(side.other(), LinkError::Violation(violation))], "{frame:?}");
        }
    }
}

#[test]
fn long_faults_of_streams_are_shortened() {
    let mut pair = Pair::up();
    pair.open(1, CHUNK);
    pair.open(2, CHUNK);
    let long = Fault { code: Code::QUOTA, message: "é".repeat(1000), retry_after_ms: None };
    pair.forge(Side::Server, &credit(1, 0, Some(long.clone())));
    let header = Bytes::from(encode(&long));
    pair.forge(Side::Client, &Frame { id: 2, header, ..Frame::new(Kind::STREAM_END) });
    pair.run(SECOND);
    let message = "é".repeat(limits::ERROR_TEXT / 2);
    let short = Fault { message, ..long };
    assert_eq!(pair.events(Side::Client), [Event::StreamStopped { stream: 1, fault: short.clone() }]);
    assert_eq!(pair.events(Side::Server), [Event::StreamEnded { stream: 2, result: Err(short) }]);
}
