//! Stories about two machines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parlour_proto::link::{Command, Event, Input, KeepAlive, Link, LinkConfig, LinkError, Output, Refusal, Timer, Violation};
use parlour_wire::{
    Code, DecodeError, Frame, Kind, LinkSessionId, encode,
    header::{self, Fault},
};

use crate::pair::{Pair, Side, actions, answers, number, requests};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn fault(code: Code) -> Fault {
    Fault { code, message: "test".into(), retry_after_ms: None }
}

#[test]
fn lifecycle_of_a_session_from_hello_to_close() {
    let mut pair = Pair::new(LinkConfig::default(), LinkConfig::default());
    pair.connect();
    pair.run(SECOND);
    let (client, server) = (pair.events(Side::Client), pair.events(Side::Server));
    let (Event::Up(ours), Event::Up(theirs)) = (&client[0], &server[0]) else { panic!("{client:?} {server:?}") };
    assert_eq!((ours.session, ours.challenge, ours.resumed), (theirs.session, theirs.challenge, false));
    assert!(theirs.agent.starts_with("parlour/"));

    pair.ask(Side::Client, 1, None).unwrap();
    pair.act(Side::Server, 7).unwrap();
    pair.run(SECOND);
    assert_eq!(actions(&pair.events(Side::Client)), [7]);
    let asked = requests(&pair.events(Side::Server));
    assert_eq!((asked.len(), asked[0].1), (1, 1));
    pair.command(Side::Server, Command::Progress { id: asked[0].0, done: 3, total: Some(4) }).unwrap();
    pair.answer(Side::Server, asked[0].0, number(2));
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert_eq!(events[0], Event::Progress { tag: 1, done: 3, total: Some(4) });
    assert_eq!(answers(&events), [(1, Ok(number(2)))]);

    pair.act(Side::Client, 8).unwrap();
    pair.command(Side::Client, Command::Close(fault(Code::CANCELLED))).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!(actions(&events), [8], "what was sent before the close arrives before it");
    assert_eq!(events.last(), Some(&Event::Ended(fault(Code::CANCELLED))));
    for side in Side::BOTH {
        assert!(pair.link(side).is_ended());
        assert_eq!((pair.link(side).unacknowledged(), pair.link(side).in_flight()), ((0, 0), (0, 0)));
        assert_eq!(pair.link(side).deadline(), None);
    }
    assert_eq!(pair.act(Side::Client, 9), Err(Refusal::Closed.into()));
    assert!(pair.errors.is_empty());
}

/// A server closes a connection on which nothing has come in time. The session that was to come back on it is still there.
#[test]
fn a_session_whose_return_came_too_late_comes_back_on_the_next_connection() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 6).unwrap();
    pair.run(SECOND);
    assert_eq!(actions(&pair.events(Side::Server)), [6]);
    pair.ask(Side::Client, 1, None).unwrap();
    pair.act(Side::Client, 7).unwrap();
    pair.cut(0, 0);
    pair.events(Side::Client);
    let late = Fault { code: Code::TIMED_OUT, message: "no hello in time".into(), retry_after_ms: None };
    let close = Frame { header: Bytes::from(encode(&late)), ..Frame::new(Kind::CLOSE) };
    pair.take_in(Side::Client, Input::Connected).unwrap();
    pair.take_in(Side::Client, Input::Frame(close)).unwrap();
    assert!(matches!(pair.client.poll_disconnect(), Some(reason) if reason.code == Code::TIMED_OUT));
    assert_eq!(pair.events(Side::Client), []);
    pair.connect();
    pair.run(SECOND);
    let heard = pair.events(Side::Client);
    assert!(matches!(&heard[..], [Event::Up(up)] if up.resumed), "{heard:?}");
    let events = pair.events(Side::Server);
    assert_eq!((actions(&events), requests(&events).len()), (vec![7], 1), "once each");
}

#[test]
fn a_session_that_is_closed_before_its_welcome_has_left_says_it_first() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 0).unwrap();
    pair.run(SECOND);
    for n in 0..3 {
        pair.act(Side::Server, n).unwrap();
    }
    pair.cut(0, 0);
    pair.congested[Side::Server as usize] = true;
    pair.connect();
    pair.run(SECOND);
    assert!(pair.link(Side::Server).is_up() && !pair.link(Side::Client).is_up());
    pair.congested[Side::Server as usize] = false;
    pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    assert!(pair.errors.is_empty(), "{:?}", pair.errors);
    let events = pair.events(Side::Client);
    assert!(events.iter().any(|event| matches!(event, Event::Up(up) if up.resumed)));
    assert_eq!(actions(&events), [0, 1, 2]);
    assert_eq!(events.last(), Some(&Event::Ended(fault(Code::STOPPING))));
}

#[test]
fn a_cut_session_is_resumed_and_everything_arrives_once() {
    for delivered in 0..6 {
        let mut pair = Pair::up();
        pair.act(Side::Client, 100).unwrap();
        pair.run(SECOND);
        assert_eq!(actions(&pair.events(Side::Server)), [100]);
        for n in 0..5 {
            pair.act(Side::Client, n).unwrap();
            pair.act(Side::Server, n).unwrap();
        }
        pair.cut(delivered, 5 - delivered.min(5));
        pair.act(Side::Client, 5).unwrap();
        pair.connect();
        pair.run(SECOND);
        let client = pair.events(Side::Client);
        assert!(client.iter().any(|event| matches!(event, Event::Up(up) if up.resumed)));
        assert_eq!(actions(&client), [0, 1, 2, 3, 4]);
        assert_eq!(actions(&pair.events(Side::Server)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(pair.client.unacknowledged(), (0, 0));
        assert_eq!(pair.server.unacknowledged(), (0, 0));
    }
}

#[test]
fn a_request_that_is_sent_twice_takes_effect_once() {
    let mut pair = Pair::up();
    pair.ask(Side::Client, 1, None).unwrap();
    pair.cut(0, 1);
    pair.connect();
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    assert_eq!(asked.len(), 1);
    pair.answer(Side::Server, asked[0].0, number(1));
    pair.cut(1, 0);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Ok(number(1)))]);
    let resent = pair.trace.iter().filter(|(side, kind, _)| (*side, *kind) == (Side::Client, Kind::REQUEST)).count();
    assert_eq!(resent, 1, "the welcome told that it had arrived");
}

#[test]
fn a_server_learns_of_the_loss_from_the_client_that_comes_back() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    pair.lose(Side::Client);
    pair.act(Side::Server, 2).unwrap();
    pair.connect();
    pair.run(SECOND);
    let server = pair.events(Side::Server);
    assert!(server.iter().any(|event| matches!(event, Event::Down { .. })));
    assert!(pair.server.is_up());
    assert_eq!(actions(&pair.events(Side::Client)), [2]);
}

#[test]
fn after_the_grace_open_requests_fail_and_actions_are_dropped() {
    let mut pair = Pair::up();
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.cut(0, 0);
    pair.act(Side::Client, 5).unwrap();
    assert_eq!(pair.server.deadline().unwrap().1, Timer::Grace);
    pair.run(pair.grace);
    assert!(matches!(pair.events(Side::Server).last(), Some(Event::Ended(_))));
    pair.connect();
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert_eq!(answers(&events), [(1, Err(Code::LINK_LOST))]);
    assert!(events.iter().any(|event| matches!(event, Event::Up(up) if !up.resumed)));
}

#[test]
fn an_answer_to_a_request_of_a_lost_session_does_not_hit_one_of_the_next() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 0).unwrap();
    pair.ask(Side::Server, 1, None).unwrap();
    pair.run(SECOND);
    let old = requests(&pair.events(Side::Client));
    pair.cut(0, 0);
    pair.run(pair.grace);
    assert_eq!(answers(&pair.events(Side::Server)), [(1, Err(Code::LINK_LOST))]);
    pair.connect();
    pair.run(SECOND);
    // The next session counts its requests from 1 again.
    pair.ask(Side::Server, 2, None).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert!(events.contains(&Event::Cancelled { id: old[0].0 }));
    let new = requests(&events);
    pair.answer(Side::Client, old[0].0, number(1));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Server)), []);
    pair.answer(Side::Client, new[0].0, number(2));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Server)), [(2, Ok(number(2)))]);
}

#[test]
fn a_frame_that_has_been_here_before_is_dropped_and_acknowledged_again() {
    let mut pair = Pair::up();
    let header = Bytes::from(encode(&header::Action { name: "x".into() }));
    let frame = Frame { seq: 1, header, content: number(5), ..Frame::new(Kind::ACTION) };
    pair.forge(Side::Server, &frame);
    pair.forge(Side::Server, &frame);
    pair.run(Duration::from_millis(40));
    assert_eq!(actions(&pair.events(Side::Client)), [5]);
    assert_eq!(pair.errors, []);
    assert_eq!(pair.client.deadline().unwrap().1, Timer::Acknowledge);
}

#[test]
fn requests_before_the_first_connection_wait_for_it() {
    let mut pair = Pair::new(LinkConfig::default(), LinkConfig::default());
    pair.ask(Side::Client, 1, Some(10 * SECOND)).unwrap();
    pair.ask(Side::Client, 2, Some(SECOND)).unwrap();
    pair.run(2 * SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(2, Err(Code::TIMED_OUT))]);
    pair.connect();
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    pair.answer(Side::Server, asked[0].0, number(1));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Ok(number(1)))]);
}

#[test]
fn a_late_answer_finds_nobody_and_the_peer_is_told_to_stop() {
    let mut pair = Pair::up();
    pair.ask(Side::Client, 1, Some(SECOND)).unwrap();
    assert_eq!(pair.client.deadline().unwrap().1, Timer::Request);
    pair.run(2 * SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Err(Code::TIMED_OUT))]);
    let events = pair.events(Side::Server);
    let asked = requests(&events);
    assert_eq!(events.last(), Some(&Event::Cancelled { id: asked[0].0 }));
    pair.answer(Side::Server, asked[0].0, number(1));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), []);
    assert_eq!((pair.client.in_flight(), pair.server.in_flight()), ((0, 0), (0, 0)));
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    let keep_alive = Some(KeepAlive { idle: SECOND, interval: SECOND, fails: 2 });
    let mut pair =
        Pair::new(LinkConfig { keep_alive, ..LinkConfig::default() }, LinkConfig { keep_alive: None, ..LinkConfig::default() });
    pair.connect();
    pair.run(60 * SECOND);
    assert!(pair.client.is_up(), "a peer that answers pings lives");
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    pair.latency = Duration::from_secs(3600);
    pair.events(Side::Client);
    pair.run(5 * SECOND);
    assert!(!pair.client.is_up());
    assert!(matches!(&pair.events(Side::Client)[..], [Event::Down { fault, .. }] if fault.code == Code::LINK_LOST));
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn a_welcome_that_does_not_come_ends_the_connection() {
    let mut pair = Pair::new(LinkConfig::default(), LinkConfig::default());
    pair.latency = Duration::from_secs(3600);
    pair.connect();
    assert_eq!(pair.client.deadline().unwrap().1, Timer::Handshake);
    pair.run(11 * SECOND);
    assert!(!pair.is_connected());
    assert!(!pair.client.is_ended(), "another connection may do better");
}

#[test]
fn a_session_in_which_nothing_was_said_ends_with_its_connection() {
    let mut pair = Pair::up();
    pair.cut(0, 0);
    assert!(pair.server.is_ended());
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_up() && pair.server.is_up());
}

#[test]
fn acknowledgements_wait_for_company_but_not_for_long() {
    let mut pair = Pair::up();
    pair.trace.clear();
    for n in 0..40 {
        pair.act(Side::Client, n).unwrap();
    }
    pair.run(Duration::from_millis(20));
    let acks = |pair: &Pair| pair.trace.iter().filter(|(_, kind, _)| *kind == Kind::ACK).count();
    assert_eq!(acks(&pair), 1);
    assert_eq!(pair.client.unacknowledged().0, 8);
    assert_eq!(pair.server.deadline().unwrap().1, Timer::Acknowledge);
    pair.run(SECOND);
    assert_eq!((acks(&pair), pair.client.unacknowledged().0), (2, 0));
}

#[test]
fn frames_out_of_state_have_a_name() {
    let action = |seq| {
        let header = Bytes::from(encode(&header::Action { name: "x".into() }));
        Frame { seq, header, ..Frame::new(Kind::ACTION) }
    };
    let cases = [
        (Frame::new(Kind::HELLO), Violation::OutOfState(Kind::HELLO)),
        (Frame::new(Kind::WELCOME), Violation::OutOfState(Kind::WELCOME)),
        (action(0), Violation::Numbering(Kind::ACTION)),
        (action(2), Violation::Gap { expected: 1, got: 2 }),
        (Frame { seq: 1, ..Frame::new(Kind::PING) }, Violation::Numbering(Kind::PING)),
        (Frame { seq: 2, ..Frame::new(Kind(77)) }, Violation::Gap { expected: 1, got: 2 }),
        (Frame { id: 1, ..Frame::new(Kind::ACK) }, Violation::AckBeyond(1)),
        (Frame { seq: 1, ..Frame::new(Kind::REQUEST) }, Violation::Header(DecodeError::Malformed)),
        (Frame { seq: 1, ..Frame::new(Kind::ERROR) }, Violation::Header(DecodeError::Malformed)),
    ];
    for (frame, violation) in cases {
        for side in Side::BOTH {
            let mut pair = Pair::up();
            pair.forge(side, &frame);
            pair.run(SECOND);
            assert_eq!(pair.errors, [(side.other(), LinkError::Violation(violation))], "{frame:?}");
            assert!(pair.link(side.other()).is_ended());
            let told = pair.events(side);
            assert!(matches!(told.last(), Some(Event::Ended(fault)) if fault.code == Code::BAD_FRAME), "{told:?}");
        }
    }
}

#[test]
fn unknown_kinds_are_ignored_and_counted() {
    let mut pair = Pair::up();
    pair.forge(Side::Client, &Frame { seq: 1, header: Bytes::from_static(b"?"), ..Frame::new(Kind(77)) });
    pair.forge(Side::Client, &Frame { id: 4, ..Frame::new(Kind(78)) });
    let header = Bytes::from(encode(&header::Action { name: "x".into() }));
    pair.forge(Side::Client, &Frame { seq: 2, header, content: number(5), ..Frame::new(Kind::ACTION) });
    pair.run(Duration::from_millis(15));
    assert_eq!(actions(&pair.events(Side::Server)), [5]);
    assert!(pair.errors.is_empty());
}

#[test]
fn only_a_greeting_opens_a_connection() {
    let mut pair = Pair::up();
    let fresh = |role: Side| {
        let config = Arc::new(LinkConfig::default());
        match role {
            Side::Client => Link::client(config),
            Side::Server => {
                let grace = SECOND;
                let session = LinkSessionId([9; 16]);
                let identity = parlour_proto::link::ServerSession { session, token: [9; 32], challenge: [9; 32], grace };
                Link::server(config, identity, pair.now)
            }
        }
    };
    for (role, frame, violation) in [
        (Side::Server, Frame::new(Kind::PING), Violation::OutOfState(Kind::PING)),
        (Side::Server, Frame::new(Kind::WELCOME), Violation::OutOfState(Kind::WELCOME)),
        (Side::Server, Frame { seq: 1, ..Frame::new(Kind::ACTION) }, Violation::Numbering(Kind::ACTION)),
        (Side::Server, Frame::new(Kind::HELLO), Violation::Header(DecodeError::Malformed)),
        (Side::Client, Frame::new(Kind::HELLO), Violation::OutOfState(Kind::HELLO)),
        (Side::Client, welcome(true), Violation::WrongSession),
    ] {
        let mut link = fresh(role);
        link.handle(Input::Connected, pair.now).unwrap();
        assert_eq!(link.handle(Input::Frame(frame), pair.now), Err(LinkError::Violation(violation)));
        let mut outputs = std::iter::from_fn(|| link.poll()).collect::<Vec<_>>();
        outputs.retain(|output| !matches!(output, Output::Event(_)));
        assert!(matches!(&outputs[..], [Output::Send(close), Output::Disconnect(_)] if close.kind == Kind::CLOSE));
    }
    pair.run(SECOND);
}

fn welcome(resumed: bool) -> Frame {
    let header = header::Welcome {
        capabilities: vec![],
        session: LinkSessionId([3; 16]),
        token: [0; 32],
        resumed,
        received: 0,
        grace_ms: u64::MAX,
        challenge: [0; 32],
    };
    Frame { header: Bytes::from(encode(&header)), ..Frame::new(Kind::WELCOME) }
}

#[test]
fn a_resume_with_a_wrong_secret_or_a_wrong_count_is_refused() {
    for (token, received, expected) in [
        ([7; 32], 0, Violation::WrongSession),
        ([1; 32], 3, Violation::AckBeyond(3)),
        ([1; 32], u64::MAX, Violation::AckBeyond(u64::MAX)),
        ([1; 32], 0, Violation::AckedBefore(0)),
    ] {
        let mut pair = Pair::up();
        pair.act(Side::Client, 1).unwrap();
        pair.act(Side::Server, 1).unwrap();
        pair.act(Side::Server, 2).unwrap();
        pair.run(SECOND);
        pair.lose(Side::Server);
        let resume =
            header::Resume { capabilities: vec![], agent: String::new(), session: LinkSessionId([1; 16]), token, received };
        let frame = Frame { header: Bytes::from(encode(&resume)), ..Frame::new(Kind::RESUME) };
        pair.handle(Side::Server, Input::Connected);
        assert_eq!(pair.try_handle(Side::Server, Input::Frame(frame)), Err(LinkError::Violation(expected)));
    }
}

#[test]
fn a_peer_that_closes_lets_the_client_begin_again() {
    let mut pair = Pair::up();
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert_eq!(answers(&events), [(1, Err(Code::STOPPING))]);
    assert_eq!(events.last(), Some(&Event::Ended(fault(Code::STOPPING))));
    assert!(!pair.client.is_ended());
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_up());
    assert!(matches!(&pair.events(Side::Client)[..], [Event::Up(up)] if !up.resumed));
}
