//! An application that is behind has its peer keep its messages, and still gets its answers.

use std::time::Duration;

use parlour_proto::link::{Command, LinkConfig, LinkError, Refusal, Violation};
use parlour_wire::{Frame, Kind};

use crate::pair::{Pair, Side, actions, answers, number, requests};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_peer_that_is_held_keeps_its_messages_and_goes_on_answering() {
    let mut pair = Pair::up();
    pair.server.hold_peer(true);
    pair.drain();
    pair.run(SECOND);
    assert!(pair.client.is_held() && !pair.server.is_held());
    assert!(!pair.client.has_room() && pair.server.has_room());
    assert_eq!(pair.act(Side::Client, 1), Err(Refusal::Full.into()));
    assert_eq!(pair.ask(Side::Client, 1, None), Err(Refusal::Full.into()));

    // The one that holds may act and ask, and is answered.
    pair.act(Side::Server, 2).unwrap();
    pair.ask(Side::Server, 7, None).unwrap();
    pair.run(SECOND);
    let events = pair.events(Side::Client);
    assert_eq!(actions(&events), [2]);
    let asked = requests(&events);
    pair.command(Side::Client, Command::Progress { id: asked[0].0, done: 1, total: None }).unwrap();
    pair.answer(Side::Client, asked[0].0, number(3));
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Server)), [(7, Ok(number(3)))]);

    pair.server.hold_peer(false);
    pair.drain();
    pair.run(SECOND);
    assert!(!pair.client.is_held());
    pair.act(Side::Client, 4).unwrap();
    pair.run(SECOND);
    assert_eq!(actions(&pair.events(Side::Server)), [4]);
}

#[test]
fn a_hold_is_told_once_and_again_on_every_connection() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    for hold in [true, true, false, true] {
        pair.server.hold_peer(hold);
    }
    pair.drain();
    pair.run(SECOND);
    let told = |pair: &Pair| pair.trace.iter().filter(|(side, kind, _)| (*side, *kind) == (Side::Server, Kind::HOLD)).count();
    assert_eq!(told(&pair), 1);
    pair.cut(0, 0);
    pair.run(SECOND);
    assert!(!pair.client.is_held(), "nobody says so at the moment");
    pair.connect();
    pair.run(SECOND);
    assert!(pair.client.is_held());
    assert_eq!(told(&pair), 2);
    pair.cut(0, 0);
    pair.server.hold_peer(false);
    pair.connect();
    pair.run(SECOND);
    assert!(!pair.client.is_held());
    assert_eq!(told(&pair), 2, "a connection begins without a hold");
}

#[test]
fn a_numbered_hold_breaks_the_protocol() {
    let mut pair = Pair::up_with(LinkConfig::default(), LinkConfig::default());
    let frame = Frame { seq: 1, id: 1, ..Frame::new(Kind::HOLD) };
    let now = pair.now;
    let error = pair.client.handle(parlour_proto::link::Input::Frame(frame), now);
    assert_eq!(error, Err(LinkError::Violation(Violation::Numbering(Kind::HOLD))));
}
