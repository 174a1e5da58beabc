//! Stories about requests that outlive their session.

use std::time::Duration;

use bytes::Bytes;
use parlour_proto::link::{Answer, Command, Event, Input, LinkConfig, OpenRequests, Refusal, Remains, Unsent};
use parlour_wire::{
    Code, LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
    limits,
};

use crate::pair::{Pair, Side, answers, number, read, requests};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: LinkSessionId = LinkSessionId([1; 16]);
const SECOND_SESSION: LinkSessionId = LinkSessionId([2; 16]);

fn resending() -> LinkConfig {
    LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Keep, ..LinkConfig::default() }
}

fn remembering() -> LinkConfig {
    LinkConfig { keep_remains: true, ..LinkConfig::default() }
}

fn origin(session: LinkSessionId, number: u64) -> Option<Origin> {
    Some(Origin { session, number })
}

/// Requests among events: number, content, origin.
fn asked(events: &[Event]) -> Vec<(u64, u32, Option<Origin>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Request { id, content, origin, .. } => Some((id.number(), read(content), *origin)),
            _ => None,
        })
        .collect()
}

fn remains(events: &[Event]) -> Vec<Remains> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Remains(remains) => Some((**remains).clone()),
            _ => None,
        })
        .collect()
}

impl Pair {
    /// The session is lost, and another one begins.
    fn lose_session(&mut self) {
        self.cut(0, 0);
        self.run(self.grace);
        self.connect();
        self.run(SECOND);
    }
}

#[test]
fn a_request_that_goes_into_another_session_says_where_it_was_sent_first() {
    let mut pair = Pair::up_with(resending(), LinkConfig::default());
    pair.ask(Side::Client, 7, None).unwrap();
    pair.run(SECOND);
    assert_eq!(asked(&pair.events(Side::Server)), [(1, 7, None)]);
    pair.cut(0, 0);
    pair.ask(Side::Client, 8, None).unwrap();
    pair.run(pair.grace);
    pair.events(Side::Server);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(asked(&pair.events(Side::Server)), [(1, 7, origin(FIRST, 1)), (2, 8, None)], "what was never sent has no origin");
    pair.lose_session();
    let asked = asked(&pair.events(Side::Server));
    assert_eq!(asked, [(1, 7, origin(FIRST, 1)), (2, 8, origin(SECOND_SESSION, 2))], "the first session counts");
}

#[test]
fn a_request_whose_origin_the_application_names_is_left_to_the_application() {
    for open_requests in [OpenRequests::Resend, OpenRequests::Fail] {
        let mut pair = Pair::up_with(LinkConfig { open_requests, ..resending() }, LinkConfig::default());
        let own = origin(LinkSessionId([9; 16]), 77);
        let named = |tag: u32| Command::Request {
            tag: tag.into(),
            name: "ask".into(),
            content_type: ContentType::CBOR,
            content: number(tag),
            timeout: None,
            origin: own,
            bound: false,
        };
        pair.command(Side::Client, named(1)).unwrap();
        pair.act(Side::Client, 0).unwrap();
        pair.run(SECOND);
        assert_eq!(asked(&pair.events(Side::Server)), [(1, 1, own)]);
        pair.cut(0, 0);
        pair.command(Side::Client, named(2)).unwrap();
        pair.ask(Side::Client, 3, None).unwrap();
        pair.run(pair.grace);
        pair.events(Side::Server);
        pair.connect();
        pair.run(SECOND);
        assert_eq!(asked(&pair.events(Side::Server)), [(3, 3, None)]);
        let lost = Err(Code::LINK_LOST);
        assert_eq!(answers(&pair.events(Side::Client)), [(1, lost.clone()), (2, lost)], "whoever named them sends them again");
        pair.command(Side::Client, named(4)).unwrap();
        pair.run(SECOND);
        assert_eq!(asked(&pair.events(Side::Server)), [(4, 4, own)]);
    }
}

#[test]
fn a_request_that_is_bound_to_its_session_ends_with_it_whatever_ends_that() {
    for sent in [true, false] {
        for code in [None, Some(Code::OVERLOADED)] {
            let mut pair = Pair::up_with(resending(), remembering());
            pair.act(Side::Client, 0).unwrap();
            pair.run(SECOND);
            let ask = |tag: u32, bound| Command::Request {
                tag: tag.into(),
                name: "ask".into(),
                content_type: ContentType::CBOR,
                content: number(tag),
                timeout: None,
                origin: None,
                bound,
            };
            pair.congested[Side::Client as usize] = !sent;
            pair.command(Side::Client, ask(1, true)).unwrap();
            pair.command(Side::Client, ask(2, false)).unwrap();
            pair.run(SECOND);
            pair.congested[Side::Client as usize] = false;
            pair.events(Side::Server);
            match code {
                None => pair.cut(0, 0),
                Some(code) => {
                    let fault = Fault { code, message: "test".into(), retry_after_ms: None };
                    pair.command(Side::Server, Command::Close(fault)).unwrap();
                }
            }
            pair.run(pair.grace);
            pair.connect();
            pair.run(SECOND);
            assert_eq!(answers(&pair.events(Side::Client)), [(1, Err(Code::LINK_LOST))], "{sent} {code:?}");
            let again: Vec<_> = asked(&pair.events(Side::Server)).into_iter().map(|(_, tag, _)| tag).collect();
            assert_eq!(again, [2], "{sent} {code:?}");
        }
    }
}

#[test]
fn within_a_session_a_request_has_no_origin_however_often_the_connection_breaks() {
    let mut pair = Pair::up_with(resending(), LinkConfig::default());
    pair.act(Side::Client, 0).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.ask(Side::Client, 1, None).unwrap();
    pair.cut(0, 0);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(asked(&pair.events(Side::Server)), [(1, 1, None)]);
}

#[test]
fn a_lost_session_leaves_what_is_needed_to_answer_once() {
    let mut pair = Pair::up_with(resending(), remembering());
    for tag in 1..=4 {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    pair.run(SECOND);
    let given = requests(&pair.events(Side::Server));
    pair.answer(Side::Server, given[0].0, number(10));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Ok(number(10)))], "acknowledged: nobody asks for it again");
    // One answer is under way, another one never leaves, one request runs, one never arrives.
    pair.answer(Side::Server, given[1].0, number(20));
    pair.cut(0, 0);
    let fault = Fault { code: Code::QUOTA, message: "test".into(), retry_after_ms: Some(5) };
    pair.command(Side::Server, Command::Answer { id: given[2].0, result: Err(fault.clone()) }).unwrap();
    pair.ask(Side::Client, 5, None).unwrap();
    pair.run(pair.grace);
    let events = pair.events(Side::Server);
    let answer = Answer { content_type: ContentType::CBOR, content: number(20) };
    let expected =
        Remains { session: FIRST, received: 4, answers: vec![(2, Ok(answer)), (3, Err(fault))], running: vec![given[3].0] };
    assert_eq!(remains(&events), [expected]);
    assert!(matches!(&events[..], [Event::Down { .. }, Event::Remains(_), Event::Ended(_)]), "{events:?}");
    assert_eq!(given[3].0.number(), 4);

    pair.connect();
    pair.run(SECOND);
    let again: Vec<_> = asked(&pair.events(Side::Server)).into_iter().map(|(_, _, origin)| origin).collect();
    assert_eq!(again, [origin(FIRST, 2), origin(FIRST, 3), origin(FIRST, 4), None]);
}

#[test]
fn a_request_that_waited_for_room_has_not_been_received() {
    let server = LinkConfig { unacked_frames: 2, ..remembering() };
    let mut pair = Pair::up_with(resending(), server);
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    for n in 0..2 {
        pair.act(Side::Server, n).unwrap();
    }
    pair.ask(Side::Client, 2, None).unwrap();
    // It arrives while the pushes are unacknowledged, and the connection breaks then.
    pair.cut(0, 1);
    pair.run(pair.grace);
    let events = pair.events(Side::Server);
    assert_eq!(asked(&events), [(1, 1, None)]);
    let remains = remains(&events);
    assert_eq!((remains[0].received, remains[0].running.len()), (1, 1));
    pair.connect();
    pair.run(SECOND);
    assert_eq!(asked(&pair.events(Side::Server)).len(), 2);
}

/// A pair in which the first request runs, and the server has no room for another answer until its client acknowledges.
fn without_room() -> Pair {
    let mut pair = Pair::up_with(resending(), LinkConfig { unacked_frames: 2, ..remembering() });
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    for n in 0..2 {
        pair.act(Side::Server, n).unwrap();
    }
    pair
}

#[test]
fn a_request_that_is_cancelled_does_not_overtake_those_that_wait_for_room() {
    for batch in [1, 2, 64] {
        let mut pair = without_room();
        pair.batch = batch;
        pair.ask(Side::Client, 2, None).unwrap();
        pair.ask(Side::Client, 3, None).unwrap();
        pair.command(Side::Client, Command::Cancel { tag: 3 }).unwrap();
        // All three frames arrive, and the connection breaks.
        pair.cut(0, 3);
        pair.run(pair.grace);
        let events = pair.events(Side::Server);
        assert_eq!(asked(&events), [(1, 1, None)], "{batch}");
        assert!(!events.iter().any(|event| matches!(event, Event::Cancelled { .. })), "{events:?}");
        let remains = remains(&events);
        assert_eq!((remains[0].received, remains[0].running.len()), (1, 1), "{batch}");
        pair.connect();
        pair.run(SECOND);
        let again = asked(&pair.events(Side::Server));
        assert_eq!(again, [(1, 1, origin(FIRST, 1)), (2, 2, origin(FIRST, 2))], "{batch}");
    }
}

#[test]
fn what_came_behind_a_request_that_waits_has_not_been_received_when_the_session_ends() {
    let mut pair = without_room();
    pair.ask(Side::Client, 2, None).unwrap();
    pair.run(Duration::from_millis(10));
    assert_eq!(asked(&pair.events(Side::Server)), [(1, 1, None)]);
    pair.ask(Side::Client, 3, None).unwrap();
    let (_, frame) = pair.frames.pop().unwrap();
    pair.take_in(Side::Server, Input::Frame(frame)).unwrap();
    let fault = Fault { code: Code::STOPPING, message: "test".into(), retry_after_ms: None };
    pair.take_in(Side::Server, Input::Command(Command::Close(fault))).unwrap();
    pair.take_in(Side::Server, Input::Lost).unwrap();
    pair.cut(0, 0);
    let events = pair.events(Side::Server);
    assert_eq!(asked(&events), []);
    assert_eq!(remains(&events)[0].received, 1);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(asked(&pair.events(Side::Server)).len(), 3);
}

#[test]
fn remains_count_from_the_beginning_in_every_session() {
    let mut pair = Pair::up_with(resending(), remembering());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.lose_session();
    assert_eq!(remains(&pair.events(Side::Server))[0].session, FIRST);
    pair.lose_session();
    let second = &remains(&pair.events(Side::Server))[0];
    assert_eq!((second.session, second.received), (SECOND_SESSION, 1));
    // A session in which nothing was asked has nothing to tell but its name.
    let mut pair = Pair::up_with(LinkConfig::default(), remembering());
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    pair.lose_session();
    let empty = Remains { session: FIRST, received: 0, answers: vec![], running: vec![] };
    assert_eq!(remains(&pair.events(Side::Server)), [empty]);
}

#[test]
fn a_client_keeps_remains_of_what_its_server_asked() {
    let mut pair = Pair::up_with(remembering(), LinkConfig::default());
    pair.act(Side::Client, 0).unwrap();
    pair.ask(Side::Server, 1, None).unwrap();
    pair.run(SECOND);
    let running = requests(&pair.events(Side::Client))[0].0;
    pair.lose_session();
    let events = pair.events(Side::Client);
    let expected = Remains { session: FIRST, received: 1, answers: vec![], running: vec![running] };
    assert_eq!(remains(&events), [expected]);
    assert!(matches!(&events[..], [Event::Down { .. }, Event::Remains(_), Event::Up(up)] if !up.resumed), "{events:?}");
    pair.ask(Side::Server, 2, None).unwrap();
    pair.run(SECOND);
    pair.answer(Side::Client, running, number(1));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Server)), [(1, Err(Code::LINK_LOST))], "a late answer is for the driver to carry over");
}

#[test]
fn a_session_that_its_server_closes_for_now_leaves_what_is_needed_to_answer_once() {
    for connected in [true, false] {
        let mut pair = Pair::up_with(resending(), remembering());
        for tag in 1..=2 {
            pair.ask(Side::Client, tag, None).unwrap();
        }
        pair.run(SECOND);
        let given = requests(&pair.events(Side::Server));
        pair.answer(Side::Server, given[0].0, number(10));
        if !connected {
            pair.cut(0, 0);
        }
        // Nobody hears why, so the client may come back whatever it was.
        let code = if connected { Code::OVERLOADED } else { Code::FORBIDDEN };
        let fault = Fault { code, message: "test".into(), retry_after_ms: None };
        pair.command(Side::Server, Command::Close(fault)).unwrap();
        pair.run(SECOND);
        let events = pair.events(Side::Server);
        let answer = Answer { content_type: ContentType::CBOR, content: number(10) };
        let expected = Remains { session: FIRST, received: 2, answers: vec![(1, Ok(answer))], running: vec![given[1].0] };
        assert_eq!(remains(&events), [expected]);
        assert!(!events.iter().any(|event| matches!(event, Event::Cancelled { .. })), "{events:?}");
        pair.connect();
        pair.run(SECOND);
        let again = asked(&pair.events(Side::Server));
        assert_eq!(again.last(), Some(&(2, 2, origin(FIRST, 2))));
    }
}

#[test]
fn an_answer_that_comes_while_a_session_is_being_closed_is_kept_by_the_driver() {
    let mut pair = Pair::up_with(resending(), remembering());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.congested[Side::Server as usize] = true;
    assert!(pair.server.has_answer_room());
    let fault = Fault { code: Code::STOPPING, message: "test".into(), retry_after_ms: None };
    pair.command(Side::Server, Command::Close(fault)).unwrap();
    assert!(pair.server.is_closing() && !pair.server.has_answer_room());
}

#[test]
fn a_session_that_is_closed_for_good_cancels_what_runs() {
    for closing in Side::BOTH {
        let mut pair = Pair::up_with(resending(), remembering());
        pair.ask(Side::Client, 1, None).unwrap();
        pair.run(SECOND);
        let given = requests(&pair.events(Side::Server));
        let fault = Fault { code: Code::FORBIDDEN, message: "test".into(), retry_after_ms: None };
        pair.command(closing, Command::Close(fault)).unwrap();
        pair.run(SECOND);
        let events = pair.events(Side::Server);
        let [rest @ .., Event::Cancelled { id }, Event::Ended(_)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(*id, given[0].0);
        // Whoever closes is through with it, or was told not to come back and may not have heard that.
        let left = usize::from(closing == Side::Server);
        assert_eq!((rest.len(), remains(&events).len()), (left, left), "{events:?}");
    }
}

#[test]
fn a_session_that_is_closed_for_good_leaves_what_is_needed_if_its_client_never_hears_of_it() {
    let mut pair = Pair::up_with(resending(), remembering());
    for tag in 1..=2 {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    pair.run(SECOND);
    let given = requests(&pair.events(Side::Server));
    pair.answer(Side::Server, given[0].0, number(10));
    let fault = Fault { code: Code::ALREADY_EXISTS, message: "test".into(), retry_after_ms: None };
    pair.command(Side::Server, Command::Close(fault)).unwrap();
    pair.cut(0, 0);
    let events = pair.events(Side::Server);
    let answer = Answer { content_type: ContentType::CBOR, content: number(10) };
    let expected = Remains { session: FIRST, received: 2, answers: vec![(1, Ok(answer))], running: vec![given[1].0] };
    assert_eq!(remains(&events), [expected]);
    pair.connect();
    pair.run(SECOND);
    let again = asked(&pair.events(Side::Server));
    assert_eq!(again, [(1, 1, origin(FIRST, 1)), (2, 2, origin(FIRST, 2))]);
}

#[test]
fn without_the_setting_running_requests_are_cancelled() {
    let mut pair = Pair::up_with(resending(), LinkConfig::default());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    let given = requests(&pair.events(Side::Server));
    pair.lose_session();
    let events = pair.events(Side::Server);
    assert!(events.contains(&Event::Cancelled { id: given[0].0 }));
    assert_eq!(remains(&events), []);
}

#[test]
fn whatever_is_taken_fits_a_frame_in_every_session_that_follows() {
    for guarded in [false, true] {
        let mut taken = 0;
        for spare in 0..128 {
            let mut pair = Pair::new(resending(), remembering());
            if guarded {
                pair.client.guard();
            }
            pair.connect();
            pair.run(SECOND);
            let open = |pair: &mut Pair| {
                let (session, now) = (pair.client.session().unwrap(), pair.now);
                pair.client.trust(session, now);
                pair.drain();
                pair.run(SECOND);
            };
            open(&mut pair);
            let content = Bytes::from(vec![0; limits::FRAME - spare]);
            let command = Command::Request {
                tag: 1,
                name: "put".into(),
                content_type: ContentType::BYTES,
                content: content.clone(),
                timeout: None,
                origin: None,
                bound: false,
            };
            match pair.command(Side::Client, command) {
                Err(refused) => assert_eq!(refused, Refusal::TooLarge.into()),
                Ok(()) => {
                    taken += 1;
                    pair.run(SECOND);
                    pair.events(Side::Server);
                    // The pair fails when a frame does not encode.
                    pair.lose_session();
                    open(&mut pair);
                    let events = pair.events(Side::Server);
                    let again = |event: &Event| matches!(event, Event::Request { content: again, .. } if *again == content);
                    assert!(events.iter().any(again), "{spare}");
                }
            }
        }
        assert!(taken > 0);
    }
}

#[test]
fn content_survives_the_change_of_session() {
    let mut pair = Pair::up_with(resending(), LinkConfig::default());
    let content = Bytes::from(vec![3; 100_000]);
    let command = Command::Request {
        tag: 1,
        name: "a name of its own".into(),
        content_type: ContentType(200),
        content: content.clone(),
        timeout: Some(1000 * SECOND),
        origin: None,
        bound: false,
    };
    pair.command(Side::Client, command).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.lose_session();
    let events = pair.events(Side::Server);
    let Some(Event::Request { name, content_type, content: again, deadline: Some(_), .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!((name.as_str(), *content_type, again), ("a name of its own", ContentType(200), &content));
}
