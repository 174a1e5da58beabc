//! What a link promises: answers, order, and sessions that outlive connections.

use std::{collections::BTreeMap, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::{Ask, ConnectConfig, Link, LinkConfig, LinkEvent, ListenConfig, OpenRequests, Progress};
use parlour_wire::{Code, Encoding, frame::ContentType, limits};

use crate::{
    over_every_carrier,
    rig::{CLIENT, Rig, Way, watchful},
    support::{BOUND, Seen, bounded, next, up},
};

const CBOR: ContentType = ContentType::CBOR;

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

over_every_carrier! {
    a_request_comes_back_with_its_answer,
    actions_arrive_in_the_order_in_which_they_were_sent,
    a_thousand_requests_in_flight_are_answered_each_with_its_own,
    a_full_frame_passes_both_ways_and_no_larger_one,
    a_session_survives_cuts_from_both_sides_without_losing_or_doubling_anything,
    a_request_that_is_in_flight_during_a_cut_is_answered_after_it,
    a_server_that_stops_says_so_and_its_successor_gives_a_fresh_session,
    a_server_that_dies_without_a_word_is_noticed_and_its_successor_gives_a_fresh_session,
    a_session_is_closed_by_either_side_with_a_reason,
    nobody_at_the_address_is_told_and_the_link_comes_up_when_somebody_is,
    a_server_may_ask_its_client,
    progress_and_cancelling_arrive,
    compressed_contents_arrive,
    what_is_open_is_asked_again_in_the_next_session,
}

async fn progress_and_cancelling_arrive(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    rig.server.opened().await;
    let ask = |name: &str| {
        let content = number(1);
        link.ask(Ask { name: name.to_owned(), content_type: CBOR, content, timeout: Some(BOUND), origin: None })
    };
    let mut asked = ask("steps");
    bounded(std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut asked).poll(cx).is_pending());
        if asked.progress() == Some(Progress { done: 3, total: Some(3) }) { Poll::Ready(()) } else { Poll::Pending }
    }))
    .await;
    drop(asked);
    assert!(matches!(rig.server.next().await, Seen::Cancelled(_)));
}

async fn compressed_contents_arrive(way: Way) {
    for encoding in Encoding::ALL {
        let config = || LinkConfig { compression: vec![encoding], ..LinkConfig::default() };
        let mut rig = Rig::start(way, ListenConfig { link: config(), ..ListenConfig::default() }).await;
        let (link, mut events) = Link::connect(ConnectConfig { link: config(), ..rig.config(CLIENT).await });
        assert!(!up(&mut events).await);
        let (info, pusher) = rig.server.opened().await;
        assert!(info.capabilities.iter().any(|known| *known == encoding.capability()), "{encoding:?}");
        for size in [10, 1000, 200_000, limits::FRAME - 1024] {
            let content = Bytes::from(vec![7; size]);
            let answer = link.request_raw("echo", CBOR, content.clone(), BOUND).await.unwrap();
            assert!(answer.content == content, "{size} bytes in {encoding:?}");
            pusher.push("news", content.clone()).unwrap();
            assert!(matches!(next(&mut events).await, LinkEvent::Action { content: told, .. } if told == content));
        }
        bounded(link.close()).await;
    }
}

async fn what_is_open_is_asked_again_in_the_next_session(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let config = rig.config(CLIENT).await;
    let link = LinkConfig { open_requests: OpenRequests::Resend, ..LinkConfig::default() };
    let (link, mut events) = Link::connect(ConnectConfig { link, ..config });
    assert!(!up(&mut events).await);
    let asked = link.ask(Ask { name: "hold".into(), content_type: CBOR, content: number(1), timeout: Some(BOUND), origin: None });
    for _ in 0..2 {
        let (_, pusher) = rig.server.opened().await;
        bounded(rig.server.held.recv()).await.unwrap();
        pusher.close(parlour_wire::header::Fault::new(Code::OVERLOADED, "for now"));
        assert!(!up(&mut events).await);
    }
    bounded(rig.server.held.recv()).await.unwrap();
    rig.server.service.gate.add_permits(10);
    assert_eq!(bounded(asked).await.unwrap().content, number(1));
}

async fn a_request_comes_back_with_its_answer(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    let answer = link.request_raw("echo", ContentType::TEXT, Bytes::from_static(b"hello"), BOUND).await.unwrap();
    assert_eq!((answer.content_type, &answer.content[..]), (ContentType::TEXT, &b"hello"[..]));
    let fault = link.request_raw("nothing", CBOR, Bytes::new(), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_REQUEST);
    let (info, _) = rig.server.opened().await;
    match next(&mut events).await {
        LinkEvent::Up { session, resumed, challenge, fingerprint, trusted_by_system, .. } => {
            assert_eq!((session, challenge, fingerprint), (info.session, info.challenge, info.fingerprint));
            assert_eq!((fingerprint, resumed, trusted_by_system), (rig.server.fingerprint, false, false));
            assert!(info.peer.ip().is_loopback());
        }
        other => panic!("{other:?}"),
    }
    bounded(link.close()).await;
    assert!(matches!(rig.server.next().await, Seen::Closed));
    assert_eq!(bounded(events.next()).await, None);
}

async fn actions_arrive_in_the_order_in_which_they_were_sent(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    for n in 0..800 {
        link.action_raw("note", CBOR, number(n)).unwrap();
        pusher.push("news", number(n)).unwrap();
    }
    for n in 0..800 {
        assert!(matches!(rig.server.next().await, Seen::Action(action) if action.content == number(n)));
        assert!(matches!(next(&mut events).await, LinkEvent::Action { content, .. } if content == number(n)));
    }
}

async fn a_thousand_requests_in_flight_are_answered_each_with_its_own(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let (link, _events) = rig.connect().await;
    let mut answers: FuturesUnordered<_> = (0..3000)
        .map(|n| {
            let link = link.clone();
            async move { (n, link.request_raw("tally", CBOR, number(n), BOUND).await) }
        })
        .collect();
    while let Some((n, answer)) = answers.next().await {
        assert_eq!(answer.unwrap().content, number(n));
    }
    let tally = rig.server.service.tally.lock().unwrap();
    assert_eq!((tally.len(), tally.values().max()), (3000, Some(&1)));
}

async fn a_full_frame_passes_both_ways_and_no_larger_one(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let (link, _events) = rig.connect().await;
    let content = Bytes::from(vec![7; limits::FRAME - 1024]);
    for _ in 0..8 {
        let answer = link.request_raw("echo", CBOR, content.clone(), BOUND).await.unwrap();
        assert_eq!(answer.content, content);
    }
    let fault = link.request_raw("echo", CBOR, Bytes::from(vec![7; limits::FRAME]), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::TOO_LARGE);
}

async fn a_session_survives_cuts_from_both_sides_without_losing_or_doubling_anything(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    let received = tokio::spawn(async move {
        let (mut received, mut resumed) = (Vec::new(), 0);
        while received.len() < 600 {
            match next(&mut events).await {
                LinkEvent::Action { content, .. } => received.push(content),
                LinkEvent::Up { resumed: true, .. } => resumed += 1,
                LinkEvent::Down { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        (received, resumed, events)
    });
    for round in 0..6 {
        let mut answers = FuturesUnordered::new();
        for n in 0..100 {
            let (link, n) = (link.clone(), round * 100 + n);
            link.action_raw("note", CBOR, number(n)).unwrap();
            answers.push(async move { (n, link.request_raw("tally", CBOR, number(n), BOUND).await) });
            pusher.push("news", number(n)).unwrap();
        }
        let mut answered = 0;
        while let Some((n, answer)) = bounded(answers.next()).await {
            assert_eq!(answer.unwrap().content, number(n));
            answered += 1;
            if answered == 10 * (round + 1) {
                if round % 2 == 0 { pusher.link().reconnect() } else { link.reconnect() }
            }
        }
        assert_eq!(answered, 100);
    }
    let (received, resumed, _events) = bounded(received).await.unwrap();
    assert_eq!(received, (0..600).map(number).collect::<Vec<_>>());
    assert!(resumed >= 1);
    let mut noted = Vec::new();
    while noted.len() < 600 {
        if let Seen::Action(action) = rig.server.next().await {
            noted.push(action.content);
        }
    }
    assert_eq!(noted, received);
    let tally: BTreeMap<Bytes, u32> = rig.server.service.tally.lock().unwrap().clone();
    assert!(tally.len() == 600 && tally.values().all(|count| *count == 1));
}

async fn a_request_that_is_in_flight_during_a_cut_is_answered_after_it(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    for server_cuts in [false, true] {
        let asked = tokio::spawn({
            let link = link.clone();
            async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
        });
        bounded(rig.server.held.recv()).await.unwrap();
        if server_cuts {
            pusher.link().reconnect()
        } else {
            link.reconnect()
        }
        assert!(up(&mut events).await);
        rig.server.service.gate.add_permits(1);
        assert_eq!(bounded(asked).await.unwrap().unwrap().content, number(1));
    }
}

async fn a_server_that_stops_says_so_and_its_successor_gives_a_fresh_session(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
    });
    bounded(rig.server.held.recv()).await.unwrap();
    rig.server.stop.send_replace(true);
    rig.server.service.gate.add_permits(1);
    assert_eq!(bounded(asked).await.unwrap().unwrap().content, number(1));
    match next(&mut events).await {
        LinkEvent::Down { fault, .. } => assert_eq!(fault.code, Code::STOPPING),
        other => panic!("{other:?}"),
    }
    let place = rig.place();
    bounded(rig.server.task).await.unwrap();
    let successor = Rig::successor(place, ListenConfig::default()).await;
    assert!(!up(&mut events).await);
    assert_eq!(link.request_raw("echo", CBOR, number(2), BOUND).await.unwrap().content, number(2));
    drop(successor);
}

async fn a_server_that_dies_without_a_word_is_noticed_and_its_successor_gives_a_fresh_session(way: Way) {
    let life = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut rig = life.spawn(Rig::start(way, ListenConfig::default())).await.unwrap();
    let config = rig.config(CLIENT).await;
    let (link, mut events) = Link::connect(ConnectConfig { link: watchful(), ..config });
    assert!(!up(&mut events).await);
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
    });
    bounded(rig.server.held.recv()).await.unwrap();
    let place = rig.empty_place();
    drop(rig);
    tokio::task::spawn_blocking(move || life.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    let successor = Rig::successor(place, ListenConfig::default()).await;
    assert!(!up(&mut events).await);
    assert_eq!(bounded(asked).await.unwrap().unwrap_err().code, Code::LINK_LOST);
    assert_eq!(link.request_raw("echo", CBOR, number(2), BOUND).await.unwrap().content, number(2));
    drop(successor);
}

async fn a_session_is_closed_by_either_side_with_a_reason(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    let fault = parlour_wire::header::Fault { code: Code::DEVICE_REVOKED, message: "revoked".into(), retry_after_ms: None };
    pusher.push("last", number(1)).unwrap();
    pusher.close(fault.clone());
    assert!(matches!(next(&mut events).await, LinkEvent::Action { .. }), "what was sent before the end arrives");
    assert_eq!(next(&mut events).await, LinkEvent::Failed(parlour_net::ConnectError::Refused(fault)));
    assert!(matches!(rig.server.next().await, Seen::Closed));
    drop(link);

    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    link.action_raw("last", CBOR, number(2)).unwrap();
    bounded(link.close()).await;
    assert!(matches!(rig.server.next().await, Seen::Opened(..)));
    assert!(matches!(rig.server.next().await, Seen::Action(_)), "what was sent before the end arrives");
    assert!(matches!(rig.server.next().await, Seen::Closed));
}

async fn nobody_at_the_address_is_told_and_the_link_comes_up_when_somebody_is(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    rig.server.stop.send_replace(true);
    let mut config = rig.config(CLIENT).await;
    config.connect_timeout = Duration::from_millis(500);
    let place = rig.place();
    bounded(rig.server.task).await.unwrap();
    let (link, mut events) = Link::connect(config);
    match next(&mut events).await {
        LinkEvent::Down { fault, .. } => assert_eq!(fault.code, Code::UNREACHABLE),
        other => panic!("{other:?}"),
    }
    let fault = link.request_raw("echo", CBOR, Bytes::new(), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    let _rig = Rig::successor(place, ListenConfig::default()).await;
    assert!(!up(&mut events).await);
    assert_eq!(link.request_raw("echo", CBOR, number(2), BOUND).await.unwrap().content, number(2));
}

async fn a_server_may_ask_its_client(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    let asked = tokio::spawn(async move { pusher.link().request_raw("where", CBOR, number(1), BOUND).await });
    match next(&mut events).await {
        LinkEvent::Request { id, name, content, .. } => {
            assert_eq!((name.as_str(), content), ("where", number(1)));
            link.answer(id, Ok(parlour_net::Answer { content_type: CBOR, content: number(2) })).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bounded(asked).await.unwrap().unwrap().content, number(2));
}
