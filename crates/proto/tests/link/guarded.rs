//! A client that says nothing in a session before its server has proven who it is.

use std::time::Duration;

use parlour_proto::link::{Answer, Command, Event, Input, LinkConfig, OpenRequests, Refusal, Unsent};
use parlour_wire::{Code, Frame, Kind, LinkSessionId, encode, frame::ContentType, limits};

use crate::{
    pair::{Pair, Side, actions, answers, number, requests},
    scenarios::{SECOND, fault},
};

/// The number of the proof that is asked for, where the others have theirs.
const PROOF: u32 = 1_000_000;

fn guarded() -> Pair {
    let config = LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Keep, ..LinkConfig::default() };
    let mut pair = Pair::new(config, LinkConfig { keep_remains: true, ..LinkConfig::default() });
    pair.client.guard();
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_up());
    pair
}

fn prove(pair: &mut Pair, tag: u64) -> Result<(), parlour_proto::link::LinkError> {
    let asked = pair.client.ask_first(tag, "proof", ContentType::CBOR, number(PROOF));
    pair.drain();
    asked
}

fn session(pair: &Pair) -> LinkSessionId {
    pair.client.session().unwrap()
}

/// The server answers the proof, and the client is content with it.
fn trust(pair: &mut Pair) {
    let asked = requests(&pair.events(Side::Server));
    let [(proof, PROOF)] = asked[..] else { panic!("{asked:?}") };
    pair.answer(Side::Server, proof, number(PROOF));
    pair.run(SECOND);
    let (session, now) = (session(pair), pair.now);
    pair.client.trust(session, now);
    pair.drain();
    pair.run(SECOND);
}

fn said(pair: &Pair) -> usize {
    pair.trace.iter().filter(|(side, kind, _)| *side == Side::Client && kind.is_sequenced()).count()
}

#[test]
fn nothing_is_said_before_the_proof_and_everything_in_its_order_after_it() {
    let mut pair = guarded();
    pair.act(Side::Client, 1).unwrap();
    pair.ask(Side::Client, 2, None).unwrap();
    pair.run(SECOND);
    assert_eq!(said(&pair), 0);
    prove(&mut pair, 100).unwrap();
    pair.act(Side::Client, 3).unwrap();
    pair.run(SECOND);
    assert_eq!(said(&pair), 1);
    trust(&mut pair);
    let events = pair.events(Side::Server);
    assert_eq!((actions(&events), requests(&events).len()), (vec![1, 3], 1));
    assert_eq!(prove(&mut pair, 101), Err(Refusal::Closed.into()), "there is nothing to prove any more");
    assert_eq!(pair.errors, []);
}

#[test]
fn a_link_that_closes_before_the_proof_has_said_nothing() {
    let mut pair = guarded();
    pair.act(Side::Client, 1).unwrap();
    pair.ask(Side::Client, 2, None).unwrap();
    pair.command(Side::Client, Command::Close(fault(Code::NOT_AUTHENTICATED))).unwrap();
    pair.run(SECOND);
    assert!(pair.client.is_ended() && pair.server.is_ended());
    assert_eq!(answers(&pair.events(Side::Client)), [(2, Err(Code::LINK_LOST))], "it was not refused");
    assert_eq!((said(&pair), actions(&pair.events(Side::Server))), (0, vec![]));
}

#[test]
fn what_a_server_says_that_has_proven_nothing_is_no_answer_to_what_was_kept_back() {
    for greeted in [true, false] {
        let mut pair = guarded();
        // A session with the right one was here before.
        prove(&mut pair, 100).unwrap();
        pair.run(SECOND);
        trust(&mut pair);
        pair.cut(0, 0);
        pair.run(pair.grace);
        pair.ask(Side::Client, 2, None).unwrap();
        pair.events(Side::Client);
        if greeted {
            pair.connect();
            pair.run(SECOND);
            pair.command(Side::Server, Command::Close(fault(Code::FORBIDDEN))).unwrap();
        } else {
            let refusal = Frame { header: encode(&fault(Code::FORBIDDEN)).into(), ..Frame::new(Kind::CLOSE) };
            pair.take_in(Side::Client, Input::Connected).unwrap();
            pair.take_in(Side::Client, Input::Frame(refusal)).unwrap();
        }
        pair.run(SECOND);
        // A driver does that with a reason after which another try makes no sense.
        pair.command(Side::Client, Command::Close(fault(Code::FORBIDDEN))).unwrap();
        pair.run(SECOND);
        assert!(pair.client.is_ended());
        assert_eq!(answers(&pair.events(Side::Client)), [(2, Err(Code::LINK_LOST))], "{greeted}");
    }
}

#[test]
fn what_the_right_server_says_is_the_answer_to_what_it_was_asked() {
    let mut pair = guarded();
    prove(&mut pair, 100).unwrap();
    pair.run(SECOND);
    trust(&mut pair);
    pair.ask(Side::Client, 2, None).unwrap();
    pair.run(SECOND);
    pair.events(Side::Client);
    for side in [Side::Server, Side::Client] {
        pair.command(side, Command::Close(fault(Code::FORBIDDEN))).unwrap();
        pair.run(SECOND);
    }
    assert_eq!(answers(&pair.events(Side::Client)), [(2, Err(Code::FORBIDDEN))]);
}

#[test]
fn the_proof_goes_before_as_many_requests_as_a_lost_session_can_leave() {
    let mut pair = guarded();
    prove(&mut pair, 5000).unwrap();
    pair.run(SECOND);
    trust(&mut pair);
    let most = u64::try_from(limits::REQUESTS_IN_FLIGHT).unwrap();
    for tag in 1..=most {
        pair.ask(Side::Client, tag, None).unwrap();
    }
    assert!(!pair.client.has_room());
    pair.run(SECOND);
    assert_eq!(requests(&pair.events(Side::Server)).len(), limits::REQUESTS_IN_FLIGHT);
    pair.cut(0, 0);
    pair.run(pair.grace);
    pair.events(Side::Server);
    pair.connect();
    let before = said(&pair);
    pair.run(SECOND);
    assert!(pair.client.is_up() && !pair.client.has_room());
    assert_eq!(said(&pair), before);
    prove(&mut pair, 5001).unwrap();
    pair.run(SECOND);
    assert_eq!(said(&pair), before + 1);
    trust(&mut pair);
    let asked = requests(&pair.events(Side::Server));
    assert!(asked.iter().map(|(_, n)| u64::from(*n)).eq(1..=most));
    assert_eq!(pair.errors, []);
}

#[test]
fn what_never_came_counts_as_new_to_a_server_that_was_given_the_proof_before_it() {
    let mut pair = guarded();
    // Never sent in a session: the number that it gets there is its name from then on.
    pair.ask(Side::Client, 1, None).unwrap();
    prove(&mut pair, 100).unwrap();
    pair.run(SECOND);
    let asked = requests(&pair.events(Side::Server));
    pair.answer(Side::Server, asked[0].0, number(PROOF));
    pair.run(SECOND);
    let (session, now) = (session(&pair), pair.now);
    pair.client.trust(session, now);
    pair.drain();
    // It leaves, and does not arrive.
    pair.cut(0, 0);
    pair.run(pair.grace);
    let remains = pair.events(Side::Server).into_iter().find_map(|event| match event {
        Event::Remains(remains) => Some(remains),
        _ => None,
    });
    let received = remains.expect("the session was lost").received;
    pair.connect();
    pair.run(SECOND);
    prove(&mut pair, 101).unwrap();
    pair.run(SECOND);
    trust(&mut pair);
    let events = pair.events(Side::Server);
    let origin = events.iter().find_map(|event| match event {
        Event::Request { origin, .. } => *origin,
        _ => None,
    });
    let origin = origin.expect("it says where it was sent first");
    assert!((origin.session, origin.number > received) == (session, true), "{origin:?} {received}");
}

#[test]
fn a_proof_is_asked_again_in_a_session_that_goes_on_and_not_carried_into_another() {
    let mut pair = guarded();
    pair.act(Side::Client, 1).unwrap();
    // One that is given up, so that the session is worth keeping.
    prove(&mut pair, 99).unwrap();
    pair.run(SECOND);
    pair.command(Side::Client, Command::Cancel { tag: 99 }).unwrap();
    pair.events(Side::Server);
    pair.cut(0, 0);
    // Of those that never left the last one counts.
    for tag in 100..200 {
        prove(&mut pair, tag).unwrap();
        pair.command(Side::Client, Command::Cancel { tag }).unwrap();
    }
    prove(&mut pair, 200).unwrap();
    assert_eq!(pair.client.unacknowledged().0, 2, "the last proof and the action");
    pair.events(Side::Client);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(requests(&pair.events(Side::Server)).len(), 1);
    // The session is lost before the answer.
    pair.cut(0, 0);
    pair.run(pair.grace);
    pair.events(Side::Server);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(200, Err(Code::LINK_LOST))]);
    assert_eq!((requests(&pair.events(Side::Server)).len(), pair.client.unacknowledged().0), (0, 1));
    let old = LinkSessionId([1; 16]);
    let now = pair.now;
    pair.client.trust(old, now);
    pair.drain();
    pair.run(SECOND);
    assert!(actions(&pair.events(Side::Server)).is_empty(), "another session was meant");
    prove(&mut pair, 201).unwrap();
    pair.run(SECOND);
    trust(&mut pair);
    assert_eq!(actions(&pair.events(Side::Server)), [1]);
}

#[test]
fn a_server_that_answers_no_proof_does_not_pile_them_up() {
    let mut pair = guarded();
    pair.puppet = Some(Side::Client);
    let mut taken = 0;
    for tag in 0..1000 {
        taken += u32::from(prove(&mut pair, tag).is_ok());
        pair.run(SECOND);
        pair.command(Side::Client, Command::Cancel { tag }).unwrap();
    }
    assert_eq!((taken, pair.client.unacknowledged().0), (64, 64));
    assert_eq!(pair.client.in_flight().0, 0);
}

#[test]
fn streams_wait_for_the_proof() {
    let mut pair = guarded();
    let credit = u64::try_from(4 * limits::STREAM_CHUNK).unwrap();
    pair.command(Side::Client, Command::Source { stream: 1, credit }).unwrap();
    let chunk = Command::Data { stream: 1, mark: number(1), content: number(2) };
    pair.command(Side::Client, chunk).unwrap();
    let bulk = |pair: &Pair| pair.trace.iter().any(|(_, kind, _)| *kind == Kind::STREAM_DATA);
    pair.run(SECOND);
    assert!(!bulk(&pair) && !pair.client.has_transmit());
    prove(&mut pair, 1).unwrap();
    pair.run(Duration::from_secs(1));
    assert!(!bulk(&pair));
    let asked = requests(&pair.events(Side::Server));
    let result = Ok(Answer { content_type: ContentType::CBOR, content: number(PROOF) });
    pair.command(Side::Server, Command::Answer { id: asked[0].0, result }).unwrap();
    pair.run(SECOND);
    let (session, now) = (session(&pair), pair.now);
    pair.client.trust(session, now);
    pair.drain();
    assert!(bulk(&pair));
}
