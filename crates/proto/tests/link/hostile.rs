//! Frames that nobody should send: each gives a named error at the right side, and the memory stays within bounds.

use std::time::Duration;

use bytes::Bytes;
use parlour_proto::link::{Event, LinkConfig, LinkError, Refusal, Violation};
use parlour_wire::{Code, DecodeError, Frame, FrameDecoder, Kind, encode, frame::ContentType, header, limits};

use crate::pair::{Pair, Side, actions, answers, number, requests};

const SECOND: Duration = Duration::from_secs(1);

fn action(seq: u64) -> Frame {
    let header = Bytes::from(encode(&header::Action { name: "x".into() }));
    let content = number(u32::try_from(seq).unwrap());
    Frame { seq, header, content_type: ContentType::CBOR, content, ..Frame::new(Kind::ACTION) }
}

fn request(seq: u64, id: u64) -> Frame {
    let header = Bytes::from(encode(&header::Request { name: "x".into(), deadline_ms: 0, origin: None }));
    Frame { seq, id, header, content: number(0), ..Frame::new(Kind::REQUEST) }
}

/// A pair whose client says what the test forges.
fn puppet() -> Pair {
    let mut pair = Pair::up();
    pair.puppet = Some(Side::Client);
    pair
}

#[test]
fn reordered_frames_are_a_gap() {
    let mut pair = Pair::up();
    for seq in [1, 3, 2] {
        pair.forge(Side::Client, &action(seq));
    }
    pair.run(SECOND);
    assert_eq!(pair.errors, [(Side::Server, Violation::Gap { expected: 2, got: 3 }.into())]);
    assert_eq!(actions(&pair.events(Side::Server)), [1], "nothing after the gap takes effect");
}

#[test]
fn duplicated_and_replayed_frames_take_effect_once() {
    let mut pair = puppet();
    let recorded: Vec<Frame> = [action(1), request(2, 1), action(3), request(4, 2)].into();
    for frame in recorded.iter().flat_map(|frame| [frame, frame]) {
        pair.forge(Side::Client, frame);
    }
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!((actions(&events), requests(&events).len()), (vec![1, 3], 2));
    for (id, _) in requests(&events) {
        pair.answer(Side::Server, id, number(1));
    }
    // The whole recording again, after everything was answered.
    for frame in &recorded {
        pair.forge(Side::Client, frame);
    }
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Server), []);
    assert!(pair.errors.is_empty());
}

#[test]
fn a_recorded_connection_says_nothing_to_another_session() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    let recorded: Vec<Frame> =
        pair.frames.iter().filter(|(side, _)| *side == Side::Client).map(|(_, frame)| frame.clone()).collect();
    let mut other = Pair::up();
    other.act(Side::Client, 1).unwrap();
    other.run(SECOND);
    other.events = Default::default();
    // Numbers that have been here are dropped; a greeting in the middle ends the session.
    other.forge(Side::Client, &recorded[1]);
    other.run(SECOND);
    assert_eq!(other.events(Side::Server), []);
    other.forge(Side::Client, &recorded[0]);
    other.run(SECOND);
    assert_eq!(other.errors, [(Side::Server, Violation::OutOfState(Kind::HELLO).into())]);
}

#[test]
fn a_request_number_that_is_in_use_is_a_violation() {
    let mut pair = Pair::up();
    pair.forge(Side::Client, &request(1, 9));
    pair.forge(Side::Client, &request(2, 9));
    pair.run(SECOND);
    assert_eq!(pair.errors, [(Side::Server, Violation::DuplicateRequest(9).into())]);
    assert_eq!(requests(&pair.events(Side::Server)).len(), 1);
}

#[test]
fn a_truncated_frame_is_no_frame() {
    let bytes = request(1, 1).to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert_eq!(Frame::decode(bytes.slice(..length)), Err(DecodeError::Truncated), "{length} bytes");
        let mut decoder = FrameDecoder::default();
        decoder.push(&bytes[..length]);
        assert_eq!(decoder.next_frame(), Ok(None), "on a stream the rest may still come");
    }
}

#[test]
fn truncated_and_wrongly_typed_headers_have_a_name() {
    let name = encode(&header::Action { name: "name".into() });
    let headers = [
        Bytes::new(),
        Bytes::from(name[..name.len() - 1].to_vec()),
        Bytes::from(encode(&"text")),
        Bytes::from(encode(&5_u32)),
        // A map whose first field is a number, where a text or a number out of range should be.
        Bytes::from_static(&[0xa1, 0x00, 0x1b, 255, 255, 255, 255, 255, 255, 255, 255]),
        // A map without the field, and a text that is no UTF-8.
        Bytes::from_static(&[0xa0]),
        Bytes::from_static(&[0xa1, 0x00, 0x61, 0xff]),
        // A text that announces four gibibytes.
        Bytes::from_static(&[0xa1, 0x00, 0x7a, 255, 255, 255, 255]),
        Bytes::from(vec![0x9f; 1000]),
    ];
    for kind in [Kind::ACTION, Kind::REQUEST, Kind::ERROR, Kind::PROGRESS, Kind::CLOSE, Kind::STREAM_CREDIT] {
        for header in &headers {
            let seq = u64::from(kind.is_sequenced());
            // All fields of a progress but the first may be left out, and that one is a number.
            if kind == Kind::PROGRESS && header.len() == 11 {
                continue;
            }
            let mut pair = Pair::up();
            pair.forge(Side::Client, &Frame { seq, header: header.clone(), ..Frame::new(kind) });
            pair.run(SECOND);
            let named = pair.errors[..] == [(Side::Server, Violation::Header(DecodeError::Malformed).into())];
            let credit = kind == Kind::STREAM_CREDIT && header.len() == 11;
            assert!(named || credit, "{kind:?} {header:?}: {:?}", pair.errors);
        }
    }
}

#[test]
fn a_header_with_something_behind_it_is_refused() {
    let mut header = encode(&header::Action { name: "x".into() });
    header.push(0);
    let mut pair = Pair::up();
    pair.forge(Side::Client, &Frame { header: header.into(), ..action(1) });
    pair.run(SECOND);
    assert_eq!(pair.errors, [(Side::Server, Violation::Header(DecodeError::Trailing).into())]);
}

#[test]
fn a_name_that_is_too_long_is_refused_at_the_side_that_reads_it() {
    let name = "x".repeat(limits::LABEL + 1);
    let header = Bytes::from(encode(&header::Action { name }));
    let mut pair = Pair::up();
    pair.forge(Side::Server, &Frame { header, ..action(1) });
    pair.run(SECOND);
    assert_eq!(pair.errors, [(Side::Client, Violation::Header(DecodeError::TooLong("name")).into())]);
    assert!(matches!(pair.events(Side::Server).last(), Some(Event::Ended(fault)) if fault.code == Code::TOO_LARGE));
}

#[test]
fn unknown_fields_of_a_header_are_skipped() {
    // { 0: "x", 1: 5, 9: [1, 2], 70: h'00' }
    let header = Bytes::from_static(&[0xa4, 0x00, 0x61, b'x', 0x01, 0x05, 0x09, 0x82, 1, 2, 0x18, 70, 0x41, 0]);
    let mut pair = puppet();
    pair.forge(Side::Client, &Frame { header, ..request(1, 1) });
    pair.run(SECOND);
    assert_eq!(requests(&pair.events(Side::Server)).len(), 1);
    assert!(pair.errors.is_empty());
}

#[test]
fn every_kind_without_a_name_is_ignored() {
    let known = [Kind::HELLO, Kind::WELCOME, Kind::RESUME, Kind::ACK, Kind::PING, Kind::PONG, Kind::CLOSE, Kind::HOLD];
    let mut pair = Pair::up();
    for kind in (0..=255).map(Kind) {
        if !kind.is_sequenced() && !kind.is_of_stream() && !known.contains(&kind) {
            pair.forge(Side::Client, &Frame { id: 7, flags: 0xffff, header: Bytes::from_static(b"?"), ..Frame::new(kind) });
        }
    }
    pair.run(SECOND);
    assert_eq!((pair.events(Side::Client), pair.events(Side::Server)), (vec![], vec![]));
    assert!(pair.errors.is_empty() && pair.client.is_up() && pair.server.is_up());
}

#[test]
fn ten_thousand_open_requests_are_refused_by_name() {
    let config = LinkConfig { unacked_frames: 20_000, ..LinkConfig::default() };
    let mut pair = Pair::up_with(config.clone(), config);
    let mut refused = 0;
    for tag in 0..10_000 {
        match pair.ask(Side::Client, tag, None) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, LinkError::Refused(Refusal::TooManyRequests));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 10_000 - limits::REQUESTS_IN_FLIGHT);
    pair.run(SECOND);
    assert_eq!(pair.server.in_flight(), (0, limits::REQUESTS_IN_FLIGHT));
    assert!(pair.client.is_up(), "refusing changes nothing");
    // Answered, there is room again.
    for (id, n) in requests(&pair.events(Side::Server)) {
        pair.answer(Side::Server, id, number(n));
    }
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)).len(), limits::REQUESTS_IN_FLIGHT);
    pair.ask(Side::Client, 1, None).unwrap();
}

#[test]
fn a_peer_that_opens_ten_thousand_requests_is_told_by_name_and_ended() {
    let mut pair = puppet();
    for n in 1..=10_000 {
        pair.forge(Side::Client, &request(n, n));
    }
    pair.run(Duration::from_millis(12));
    assert_eq!(pair.errors, [(Side::Server, Violation::TooManyRequests.into())]);
    assert_eq!(requests(&pair.events(Side::Server)).len(), limits::REQUESTS_IN_FLIGHT);
    pair.run(SECOND);
    assert_eq!(pair.server.in_flight(), (0, 0));
    assert!(matches!(pair.events(Side::Client).last(), Some(Event::Ended(fault)) if fault.code == Code::OVERLOADED));
}

#[test]
fn answers_progress_and_cancels_of_requests_that_never_were_are_ignored() {
    let mut pair = puppet();
    let progress = Bytes::from(encode(&header::Progress { done: 1, total: None }));
    pair.forge(Side::Client, &Frame { seq: 1, id: 5, ..Frame::new(Kind::RESPONSE) });
    pair.forge(Side::Client, &Frame { seq: 2, id: 5, ..Frame::new(Kind::CANCEL) });
    pair.forge(Side::Client, &Frame { seq: 3, id: 5, header: progress, ..Frame::new(Kind::PROGRESS) });
    pair.forge(Side::Client, &Frame { id: 5, ..Frame::new(Kind::PONG) });
    pair.run(SECOND);
    assert_eq!(pair.events(Side::Server), []);
    assert!(pair.errors.is_empty());
}

#[test]
fn a_peer_that_reads_nothing_costs_a_bounded_amount_of_memory() {
    let mut pair = puppet();
    pair.congested[Side::Server as usize] = true;
    // It asks, pings and sends to streams that are not there, and never reads.
    for n in 1..=limits::REQUESTS_IN_FLIGHT as u64 {
        pair.forge(Side::Client, &request(n, n));
        pair.forge(Side::Client, &Frame { id: n, ..Frame::new(Kind::PING) });
        pair.forge(Side::Client, &Frame { id: n, content: number(1), ..Frame::new(Kind::STREAM_DATA) });
    }
    pair.run(Duration::from_millis(12));
    for (id, _) in requests(&pair.events(Side::Server)) {
        pair.answer(Side::Server, id, Bytes::from(vec![0; 1000]));
    }
    while pair.act(Side::Server, 1).is_ok() {}
    let (frames, bytes) = pair.server.unacknowledged();
    assert!(frames <= limits::UNACKED_FRAMES && bytes <= limits::UNACKED_BYTES, "{frames} frames, {bytes} bytes");
    pair.frames.clear();
    pair.congested[Side::Server as usize] = false;
    pair.drain();
    let kinds: Vec<Kind> = pair.frames.iter().map(|(_, frame)| frame.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::PONG).count(), 1, "the last ping is answered");
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::STREAM_CREDIT).count(), 2 * limits::STREAMS);
}
