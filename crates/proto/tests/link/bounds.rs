//! What there may be of anything on a link, and what becomes of more.

use std::time::Duration;

use bytes::Bytes;
use parlour_proto::link::{Answer, Command, Event, Input, LinkConfig, LinkError, Output, Refusal, Violation};
use parlour_wire::{
    Code, Frame, Kind, encode,
    frame::ContentType,
    header::{self},
    limits,
};

use crate::{
    pair::{Pair, Side, actions, answers, requests},
    scenarios::{SECOND, fault},
};

#[test]
fn a_peer_that_does_not_acknowledge_is_full_at_a_bound() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 0).unwrap();
    pair.run(SECOND);
    pair.cut(0, 0);
    let mut taken = 0;
    while pair.act(Side::Server, taken).is_ok() {
        taken += 1;
    }
    assert_eq!(taken as usize, limits::UNACKED_FRAMES);
    assert_eq!(pair.act(Side::Server, 0), Err(Refusal::Full.into()));
    pair.connect();
    pair.run(60 * SECOND);
    assert_eq!(actions(&pair.events(Side::Client)), (0..taken).collect::<Vec<_>>());
    pair.act(Side::Server, taken).unwrap();
}

#[test]
fn requests_in_flight_are_bounded_and_the_bound_is_enforced() {
    let mut pair = Pair::up();
    for tag in 0..limits::REQUESTS_IN_FLIGHT as u64 {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    assert_eq!(pair.ask(Side::Client, 5000, None), Err(Refusal::TooManyRequests.into()));
    assert!(!pair.client.has_room());
    pair.run(SECOND);
    let header = Bytes::from(encode(&header::Request { name: "x".into(), deadline_ms: 0, origin: None }));
    let frame = Frame { seq: 1025, id: 9999, header, ..Frame::new(Kind::REQUEST) };
    pair.forge(Side::Client, &frame);
    pair.run(SECOND);
    assert_eq!(pair.errors, [(Side::Server, Violation::TooManyRequests.into())]);
    let answers = answers(&pair.events(Side::Client));
    assert_eq!(answers.len(), limits::REQUESTS_IN_FLIGHT);
    assert!(answers.iter().all(|(_, answer)| *answer == Err(Code::OVERLOADED)));
}

#[test]
fn no_setting_makes_a_side_ask_more_than_its_peer_lets_in() {
    let config = LinkConfig { unacked_bytes: 16 * limits::UNACKED_BYTES, ..LinkConfig::default() };
    let mut pair = Pair::up_with(config, LinkConfig::default());
    let ask = |tag| large(tag, limits::FRAME - 1024);
    let taken = (0..10).take_while(|tag| pair.command(Side::Client, ask(*tag)).is_ok()).count();
    assert_eq!(taken, limits::UNACKED_BYTES / limits::FRAME);
    assert_eq!(pair.command(Side::Client, ask(99)), Err(Refusal::TooManyRequests.into()));
    pair.run(SECOND);
    assert_eq!(pair.errors, []);
}

/// A request with so many bytes of content.
fn large(tag: u64, bytes: usize) -> Command {
    let content = Bytes::from(vec![0; bytes]);
    Command::Request {
        tag,
        name: "ask".into(),
        content_type: ContentType::BYTES,
        content,
        timeout: None,
        origin: None,
        bound: false,
    }
}

#[test]
fn a_large_request_finds_room_however_small_the_setting_is_and_one_that_never_will_is_told_so() {
    for unacked_bytes in [0, 1, 1000, limits::FRAME, limits::UNACKED_BYTES] {
        let config = LinkConfig { unacked_bytes, ..LinkConfig::default() };
        let mut pair = Pair::up_with(config, LinkConfig::default());
        for bytes in [limits::FRAME, limits::UNACKED_BYTES, 2 * limits::UNACKED_BYTES] {
            let refused = pair.command(Side::Client, large(1, bytes));
            assert_eq!(refused, Err(Refusal::TooLarge.into()), "{bytes} with {unacked_bytes}");
        }
        for tag in 1..=3 {
            assert!(pair.client.has_room());
            pair.command(Side::Client, large(tag, limits::FRAME - 1024)).unwrap();
            pair.run(SECOND);
            let asked: Vec<_> = pair.events(Side::Server);
            let [Event::Request { id, .. }] = &asked[..] else { panic!("{asked:?}") };
            pair.answer(Side::Server, *id, Bytes::new());
            pair.run(SECOND);
        }
        assert_eq!(pair.errors, []);
    }
}

#[test]
fn an_answer_that_is_too_large_becomes_an_error() {
    let mut pair = Pair::up();
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    pair.answer(Side::Server, asked[0].0, Bytes::from(vec![0; limits::FRAME]));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Err(Code::TOO_LARGE))]);
    let content = Bytes::from(vec![0; limits::FRAME]);
    let command = Command::Action { name: "x".into(), content_type: ContentType::BYTES, content };
    assert_eq!(pair.command(Side::Client, command), Err(Refusal::TooLarge.into()));
    let command = Command::Action { name: "x".repeat(200), content_type: ContentType::BYTES, content: Bytes::new() };
    assert_eq!(pair.command(Side::Client, command), Err(Refusal::NameTooLong.into()));
}

#[test]
fn answers_that_are_not_taken_have_a_bound() {
    let server = LinkConfig { unacked_bytes: limits::FRAME, ..LinkConfig::default() };
    let mut pair = Pair::new(LinkConfig { keep_alive: None, ..LinkConfig::default() }, server);
    pair.connect();
    pair.run(SECOND);
    for tag in 0..64 {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    pair.lose(Side::Server);
    let mut overrun = false;
    for (id, _) in asked {
        let content = Bytes::from(vec![0; limits::FRAME / 2]);
        let result = Ok(Answer { content_type: ContentType::BYTES, content });
        overrun |= pair.command(Side::Server, Command::Answer { id, result }) == Err(LinkError::Overrun);
        assert!(pair.server.unacknowledged().1 <= 5 * limits::FRAME);
    }
    assert!(overrun && pair.server.is_ended());
}

#[test]
fn a_client_whose_answers_are_not_taken_begins_another_session() {
    let client = LinkConfig { unacked_bytes: limits::FRAME, ..LinkConfig::default() };
    let mut pair = Pair::up_with(client, LinkConfig { keep_alive: None, ..LinkConfig::default() });
    pair.act(Side::Client, 0).unwrap();
    for tag in 0..9 {
        pair.ask(Side::Server, tag, None).unwrap();
    }
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Client));
    pair.congested[Side::Client as usize] = true;
    let content = Bytes::from(vec![0; limits::FRAME / 2]);
    let answer = |id| Command::Answer { id, result: Ok(Answer { content_type: ContentType::BYTES, content: content.clone() }) };
    let results: Vec<_> = asked.iter().map(|(id, _)| pair.command(Side::Client, answer(*id))).collect();
    assert!(results.contains(&Err(LinkError::Overrun)));
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    pair.run(SECOND);
    assert!(!pair.client.is_ended() && !pair.is_connected());
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_up());
}

#[test]
fn a_request_is_told_when_the_answers_before_it_have_left_room_for_its_own() {
    let mut pair = Pair::up();
    let header = Bytes::from(encode(&header::Request { name: "x".into(), deadline_ms: 0, origin: None }));
    let now = pair.now;
    for n in 1..=40 {
        let request = Frame { seq: n, id: n, header: header.clone(), ..Frame::new(Kind::REQUEST) };
        pair.server.handle(Input::Frame(request), now).unwrap();
    }
    let action = Frame { seq: 41, header: Bytes::from(encode(&header::Action { name: "x".into() })), ..Frame::new(Kind::ACTION) };
    pair.server.handle(Input::Frame(action), now).unwrap();
    let content = Bytes::from(vec![0; limits::FRAME - 1024]);
    let (mut told, mut acted, mut sent) = (Vec::new(), false, 0);
    while !acted {
        match pair.server.poll_event() {
            Some(Event::Request { id, .. }) => {
                told.push(id.number());
                let result = Ok(Answer { content_type: ContentType::BYTES, content: content.clone() });
                pair.server.handle(Input::Command(Command::Answer { id, result }), now).unwrap();
                assert!(pair.server.unacknowledged().1 <= limits::UNACKED_BYTES + limits::FRAME);
            }
            Some(Event::Action { .. }) => acted = true,
            Some(other) => panic!("{other:?}"),
            None => {
                while let Some(Output::Send(frame)) = pair.server.poll_transmit() {
                    sent = sent.max(frame.seq);
                }
                pair.server.handle(Input::Frame(Frame { id: sent, ..Frame::new(Kind::ACK) }), now).unwrap();
            }
        }
    }
    assert_eq!(told, (1..=40).collect::<Vec<_>>(), "all that came before the action");
}

/// A pair whose server has no room for another answer until it hears an acknowledgement, and from whose client a request and then so
/// many actions come.
fn behind_a_request(actions: u32) -> Pair {
    let mut pair = Pair::up_with(LinkConfig::default(), LinkConfig { unacked_frames: 2, ..LinkConfig::default() });
    pair.act(Side::Client, 0).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    // What it says does not arrive, so nothing of it is acknowledged.
    pair.congested[Side::Server as usize] = true;
    for n in 0..2 {
        pair.act(Side::Server, n).unwrap();
    }
    pair.ask(Side::Client, 1, None).unwrap();
    for n in 0..actions {
        pair.act(Side::Client, n).unwrap();
    }
    pair.run(Duration::from_millis(20));
    pair
}

#[test]
fn actions_wait_behind_a_request_that_waits_and_hold_their_sender() {
    let mut pair = behind_a_request(3);
    let events = pair.events(Side::Server);
    assert_eq!((requests(&events), actions(&events)), (vec![], vec![]));
    pair.congested[Side::Server as usize] = false;
    pair.drain();
    pair.run(Duration::from_millis(10));
    assert!(pair.client.is_held());
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert!(
        matches!(&events[..], [Event::Request { .. }, Event::Action { .. }, Event::Action { .. }, Event::Action { .. }]),
        "{events:?}"
    );
    assert_eq!(actions(&events), [0, 1, 2]);
    assert!(!pair.client.is_held(), "it may go on");
    assert_eq!(pair.errors, []);
}

#[test]
fn a_request_that_is_cancelled_while_it_waits_holds_up_no_action() {
    let mut pair = behind_a_request(3);
    pair.command(Side::Client, Command::Cancel { tag: 1 }).unwrap();
    pair.run(Duration::from_millis(20));
    let events = pair.events(Side::Server);
    assert_eq!((requests(&events), actions(&events)), (vec![], vec![0, 1, 2]));
}

#[test]
fn actions_that_wait_when_their_session_ends_are_carried_out() {
    for closed in [true, false] {
        let mut pair = behind_a_request(3);
        if closed {
            pair.command(Side::Client, Command::Close(fault(Code::CANCELLED))).unwrap();
        } else {
            pair.cut(0, 0);
        }
        pair.run(2 * pair.grace);
        let events = pair.events(Side::Server);
        assert_eq!((requests(&events), actions(&events)), (vec![], vec![0, 1, 2]), "{closed}");
        assert!(matches!(events.last(), Some(Event::Ended(_))), "{events:?}");
    }
}

#[test]
fn a_peer_that_does_not_keep_its_actions_when_asked_has_them_go_past_its_request_in_their_order() {
    let mut pair = behind_a_request(0);
    let header = Bytes::from(encode(&header::Action { name: "x".into() }));
    let now = pair.now;
    // One was there before the request.
    let action =
        |n: u32, content: Bytes| Frame { seq: u64::from(n) + 3, header: header.clone(), content, ..Frame::new(Kind::ACTION) };
    let mut come = 0;
    let mut told = Vec::new();
    for n in 0..20_000_u32 {
        pair.server.handle(Input::Frame(action(n, crate::pair::number(n))), now).unwrap();
        come += 1;
        let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).collect();
        assert_eq!(requests(&events), []);
        told.extend(actions(&events));
        assert!(come - told.len() <= 2 * limits::UNACKED_FRAMES);
    }
    assert!(told.len() > 10_000 && told.into_iter().eq(0..u32::try_from(come).unwrap() - 2 * limits::UNACKED_FRAMES as u32));
    // The same of their bytes.
    let mut pair = behind_a_request(0);
    for n in 0..20 {
        pair.server.handle(Input::Frame(action(n, Bytes::from(vec![0; limits::FRAME - 1000]))), now).unwrap();
    }
    let told = std::iter::from_fn(|| pair.server.poll_event()).count();
    assert!((12..14).contains(&told), "{told}");
}

#[test]
fn requests_wait_while_there_is_no_room_for_their_answers() {
    let server = LinkConfig { unacked_frames: 4, ..LinkConfig::default() };
    let mut pair = Pair::new(LinkConfig::default(), server);
    pair.connect();
    pair.run(SECOND);
    pair.ask(Side::Client, 0, None).unwrap();
    pair.run(SECOND);
    assert_eq!(requests(&pair.events(Side::Server)).len(), 1);
    for n in 0..4 {
        pair.act(Side::Server, n).unwrap();
    }
    for tag in 1..4 {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    pair.run(Duration::from_millis(12));
    assert_eq!(requests(&pair.events(Side::Server)), []);
    pair.command(Side::Client, Command::Cancel { tag: 2 }).unwrap();
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    assert_eq!(asked.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 3]);
}
