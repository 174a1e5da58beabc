//! What goes from a lost session into the next one, in which order, and what does not.

use parlour_proto::link::{Command, Event, LinkConfig, OpenRequests, Unsent};
use parlour_wire::Code;

use crate::{
    pair::{Pair, Side, actions, answers, number, read, requests},
    scenarios::{SECOND, fault},
};

/// A session with a request and an action that were sent and, when its connection is gone, others that were not; and the next one.
fn after_a_lost_session(config: LinkConfig) -> Pair {
    let mut pair = Pair::up_with(config, LinkConfig::default());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    pair.cut(0, 0);
    pair.act(Side::Client, 2).unwrap();
    pair.ask(Side::Client, 2, None).unwrap();
    pair.act(Side::Client, 3).unwrap();
    pair.ask(Side::Client, 3, None).unwrap();
    pair.command(Side::Client, Command::Cancel { tag: 3 }).unwrap();
    pair.run(pair.grace);
    pair.events(Side::Server);
    pair.connect();
    pair.run(SECOND);
    pair
}

/// What a side was told to do, in order.
fn told(events: &[Event]) -> Vec<(&'static str, u32)> {
    let told = events.iter().filter_map(|event| match event {
        Event::Action { content, .. } => Some(("act", read(content))),
        Event::Request { content, .. } => Some(("ask", read(content))),
        _ => None,
    });
    told.collect()
}

#[test]
fn of_a_lost_session_each_policy_carries_over_what_it_says_in_the_order_of_the_calls() {
    use {OpenRequests::*, Unsent::*};
    let resent: &[_] = &[("ask", 1)];
    let unsent: &[_] = &[("act", 2), ("ask", 2), ("act", 3)];
    for (open_requests, policy, expected) in [
        (Resend, Keep, [resent, unsent].concat()),
        (Resend, Drop, resent.to_vec()),
        (Fail, Keep, unsent.to_vec()),
        (Fail, Drop, vec![]),
    ] {
        let mut pair = after_a_lost_session(LinkConfig { open_requests, unsent: policy, ..LinkConfig::default() });
        assert_eq!(told(&pair.events(Side::Server)), expected, "{open_requests:?} {policy:?}");
        let mut failed = vec![(3, Err(Code::CANCELLED))];
        failed.extend((1..=2).filter(|n| !expected.contains(&("ask", *n))).map(|n| (n.into(), Err(Code::LINK_LOST))));
        assert_eq!(answers(&pair.events(Side::Client)), failed, "{open_requests:?} {policy:?}");
    }
}

#[test]
fn a_request_that_one_session_has_sent_is_sent_again_in_every_next_one_also_if_it_never_got_so_far() {
    let config = LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Drop, ..LinkConfig::default() };
    let mut pair = Pair::up_with(config, LinkConfig::default());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    // The next session breaks off before anything leaves in it.
    pair.connect();
    pair.congested[Side::Client as usize] = true;
    pair.run(SECOND);
    assert!(pair.client.is_up());
    pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    pair.congested[Side::Client as usize] = false;
    pair.lose(Side::Client);
    pair.events(Side::Server);
    pair.connect();
    pair.run(SECOND);
    assert_eq!(told(&pair.events(Side::Server)), [("ask", 1)]);
    assert_eq!(answers(&pair.events(Side::Client)), []);
}

#[test]
fn a_request_that_waited_has_less_time_left_at_the_peer() {
    let config = LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Keep, ..LinkConfig::default() };
    let mut pair = Pair::new(config, LinkConfig::default());
    let timeout = 1000 * SECOND;
    let due = pair.now + timeout;
    pair.ask(Side::Client, 1, Some(timeout)).unwrap();
    for _ in 0..3 {
        pair.run(100 * SECOND);
        pair.connect();
        pair.run(SECOND);
        let events = pair.events(Side::Server);
        let Some(Event::Request { deadline: Some(deadline), .. }) = events.last() else { panic!("{events:?}") };
        // What it took on the way is not known to the peer.
        assert!((due..=due + SECOND).contains(deadline));
        pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
        pair.run(SECOND);
        pair.events(Side::Server);
    }
}

#[test]
fn under_the_other_policy_requests_and_unsent_frames_go_into_the_next_session() {
    let config = LinkConfig { open_requests: OpenRequests::Resend, unsent: Unsent::Keep, ..LinkConfig::default() };
    let mut pair = after_a_lost_session(config);
    let events = pair.events(Side::Server);
    assert_eq!(actions(&events), [2, 3], "what had been sent is not repeated");
    let asked = requests(&events);
    assert_eq!(asked.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2]);
    for (id, n) in asked {
        pair.answer(Side::Server, id, number(n));
    }
    pair.run(SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(3, Err(Code::CANCELLED)), (1, Ok(number(1))), (2, Ok(number(2)))]);
}

#[test]
fn a_request_that_is_given_up_before_it_has_left_takes_no_effect() {
    let mut pair = Pair::up();
    pair.act(Side::Client, 0).unwrap();
    pair.run(SECOND);
    pair.cut(0, 0);
    pair.events = Default::default();
    let nothing = pair.client.unacknowledged();
    pair.ask(Side::Client, 1, None).unwrap();
    pair.ask(Side::Client, 2, Some(SECOND)).unwrap();
    pair.command(Side::Client, Command::Cancel { tag: 1 }).unwrap();
    pair.run(2 * SECOND);
    assert_eq!(answers(&pair.events(Side::Client)), [(1, Err(Code::CANCELLED)), (2, Err(Code::TIMED_OUT))]);
    assert_eq!(pair.client.unacknowledged(), nothing, "calls that fail while nobody is there take no room");

    pair.act(Side::Client, 1).unwrap();
    pair.ask(Side::Client, 3, None).unwrap();
    pair.ask(Side::Client, 4, None).unwrap();
    pair.act(Side::Client, 2).unwrap();
    pair.ask(Side::Client, 5, None).unwrap();
    pair.command(Side::Client, Command::Cancel { tag: 4 }).unwrap();
    pair.connect();
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert_eq!(told(&events), [("act", 1), ("ask", 3), ("act", 2), ("ask", 5)]);
    for (id, n) in requests(&events) {
        pair.answer(Side::Server, id, number(n));
    }
    pair.run(SECOND);
    let got = [(4, Err(Code::CANCELLED)), (3, Ok(number(3))), (5, Ok(number(5)))];
    assert_eq!(answers(&pair.events(Side::Client)), got);
    assert_eq!((pair.client.unacknowledged(), &pair.errors[..]), ((0, 0), &[][..]));
}

#[test]
fn a_request_that_an_earlier_session_has_sent_is_cancelled_at_the_peer_though_it_has_not_left_again() {
    let config = LinkConfig { open_requests: OpenRequests::Resend, ..LinkConfig::default() };
    let mut pair = Pair::up_with(config, LinkConfig::default());
    pair.ask(Side::Client, 1, None).unwrap();
    pair.run(SECOND);
    pair.command(Side::Server, Command::Close(fault(Code::STOPPING))).unwrap();
    pair.run(SECOND);
    pair.events(Side::Server);
    pair.connect();
    pair.congested[Side::Client as usize] = true;
    pair.run(SECOND);
    assert!(pair.client.is_up());
    pair.command(Side::Client, Command::Cancel { tag: 1 }).unwrap();
    pair.congested[Side::Client as usize] = false;
    pair.drain();
    pair.run(SECOND);
    let events = pair.events(Side::Server);
    assert!(
        matches!(&events[..], [Event::Up(_), Event::Request { id, .. }, Event::Cancelled { id: gone }] if id == gone),
        "its peer may be carrying it out: {events:?}"
    );
}
