//! The whole way on loopback, with real TLS: requests, pushes, sessions that are cut and resumed, and the ends of links.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::{ConnectConfig, ConnectError, KeepAlive, Link, LinkConfig, LinkEvent, ListenConfig, PushError, Trust};
use parlour_wire::{Code, frame::ContentType, header::Fault, limits};
use support::{BOUND, Proxy, Seen, Server, bounded, next, up};

const CBOR: ContentType = ContentType::CBOR;

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_may_be_set_to_for_ever() {
    let keep_alive = Some(KeepAlive { idle: Duration::MAX, interval: Duration::MAX, fails: u32::MAX });
    let link = LinkConfig { keep_alive, handshake_timeout: Duration::MAX, linger: Duration::MAX, ..LinkConfig::default() };
    let config = ListenConfig {
        link: link.clone(),
        grace: Duration::MAX,
        stranger_timeout: Duration::MAX,
        stop_timeout: Duration::MAX,
        ..ListenConfig::default()
    };
    let mut server = Server::start(config).await;
    let proxy = Proxy::start(server.address).await;
    let (link, mut events) = Link::connect(ConnectConfig { link, ..server.config(proxy.address) });
    for resumed in [false, true] {
        assert_eq!(up(&mut events).await, resumed);
        link.request_raw("echo", CBOR, Bytes::new(), Duration::MAX).await.unwrap();
        proxy.cut();
    }
    assert!(up(&mut events).await);
    bounded(link.close()).await;
    while !matches!(server.next().await, Seen::Closed) {}
    server.stop.send_replace(true);
    bounded(server.task).await.unwrap();
}

#[tokio::test]
async fn a_request_comes_back_with_its_answer() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events) = server.connect();
    let answer = link.request_raw("echo", ContentType::TEXT, Bytes::from_static(b"hello"), BOUND).await.unwrap();
    assert_eq!((answer.content_type, &answer.content[..]), (ContentType::TEXT, &b"hello"[..]));
    let fault = link.request_raw("nothing", CBOR, Bytes::new(), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_REQUEST);

    let (info, pusher) = server.opened().await;
    match next(&mut events).await {
        LinkEvent::Up { session, resumed, challenge, fingerprint, .. } => {
            assert_eq!((session, challenge, fingerprint, resumed), (info.session, info.challenge, server.fingerprint, false));
        }
        other => panic!("{other:?}"),
    }
    pusher.push("news", Bytes::from_static(b"1")).unwrap();
    let expected = LinkEvent::Action { name: "news".into(), content_type: CBOR, content: Bytes::from_static(b"1") };
    assert_eq!(next(&mut events).await, expected);
    link.action_raw("note", CBOR, Bytes::from_static(b"2")).unwrap();
    assert!(matches!(server.next().await, Seen::Action(action) if action.name == "note" && &action.content[..] == b"2"));

    bounded(link.close()).await;
    assert!(matches!(server.next().await, Seen::Closed));
    assert_eq!(bounded(events.next()).await, None);
    assert_eq!(pusher.push("news", Bytes::new()), Err(PushError::Closed));
    let fault = link.request_raw("echo", CBOR, Bytes::new(), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::LINK_LOST);
}

#[tokio::test]
async fn a_full_frame_passes_both_ways() {
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let content = Bytes::from(vec![7; limits::FRAME - 1024]);
    for _ in 0..8 {
        let answer = link.request_raw("echo", CBOR, content.clone(), BOUND).await.unwrap();
        assert_eq!(answer.content, content);
    }
    let fault = link.request_raw("echo", CBOR, Bytes::from(vec![7; limits::FRAME]), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_in_flight_are_answered_each_with_its_own() {
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let mut answers: FuturesUnordered<_> = (0..3000)
        .map(|n| {
            let link = link.clone();
            async move { (n, link.request_raw("tally", CBOR, number(n), BOUND).await) }
        })
        .collect();
    while let Some((n, answer)) = answers.next().await {
        assert_eq!(answer.unwrap().content, number(n));
    }
    let tally = server.service.tally.lock().unwrap();
    assert_eq!((tally.len(), tally.values().max()), (3000, Some(&1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_cuts_without_losing_or_doubling_anything() {
    let mut server = Server::start(ListenConfig::default()).await;
    let proxy = Proxy::start(server.address).await;
    let (link, mut events) = Link::connect(server.config(proxy.address));
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
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
            answers.push(async move { (n, link.request_raw("tally", CBOR, number(n), BOUND).await) });
            pusher.push("news", number(n)).unwrap();
        }
        let mut answered = 0;
        while let Some((n, answer)) = bounded(answers.next()).await {
            assert_eq!(answer.unwrap().content, number(n));
            answered += 1;
            if answered == 10 * (round + 1) {
                if round % 2 == 0 { proxy.cut() } else { link.reconnect() }
            }
        }
        assert_eq!(answered, 100);
    }
    let (received, resumed, _events) = bounded(received).await.unwrap();
    assert_eq!(received, (0..600).map(number).collect::<Vec<_>>());
    assert!(resumed >= 1);
    assert!(server.service.tally.lock().unwrap().values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_request_that_is_in_flight_during_a_cut_is_answered_after_it() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
    });
    bounded(server.held.recv()).await.unwrap();
    link.reconnect();
    assert!(up(&mut events).await);
    server.service.gate.add_permits(1);
    assert_eq!(bounded(asked).await.unwrap().unwrap().content, number(1));
}

#[tokio::test]
async fn after_the_grace_a_client_gets_a_fresh_session_and_knows_it() {
    let config = ListenConfig { grace: Duration::from_millis(50), ..ListenConfig::default() };
    let mut server = Server::start(config).await;
    let proxy = Proxy::start(server.address).await;
    let (link, mut events) = Link::connect(server.config(proxy.address));
    assert!(!up(&mut events).await);
    let (first, _) = server.opened().await;
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
    });
    bounded(server.held.recv()).await.unwrap();
    proxy.set_open(false);
    proxy.cut();
    assert!(matches!(server.next().await, Seen::Connection(false)));
    assert!(matches!(server.next().await, Seen::Cancelled(_)));
    assert!(matches!(server.next().await, Seen::Closed));
    proxy.set_open(true);
    assert!(!up(&mut events).await);
    let (second, _) = server.opened().await;
    assert_ne!((first.session, first.challenge), (second.session, second.challenge));
    assert_eq!(bounded(asked).await.unwrap().unwrap_err().code, Code::LINK_LOST);
    assert_eq!(link.request_raw("echo", CBOR, number(2), BOUND).await.unwrap().content, number(2));
}

#[tokio::test]
async fn a_cancelled_or_late_request_frees_its_place() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let fault = link.request_raw("hold", CBOR, number(1), Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    for _ in 0..3 {
        let asked = tokio::spawn({
            let link = link.clone();
            async move { link.request_raw("hold", CBOR, number(2), BOUND).await }
        });
        bounded(server.held.recv()).await.unwrap();
        asked.abort();
        assert!(bounded(asked).await.unwrap_err().is_cancelled());
    }
    assert_eq!(link.request_raw("echo", CBOR, number(3), BOUND).await.unwrap().content, number(3));
}

#[tokio::test]
async fn pushes_to_a_client_that_is_away_are_bounded_and_then_taken_again() {
    let mut server = Server::start(ListenConfig::default()).await;
    let proxy = Proxy::start(server.address).await;
    let (link, mut events) = Link::connect(server.config(proxy.address));
    link.request_raw("echo", CBOR, Bytes::new(), BOUND).await.unwrap();
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
    proxy.set_open(false);
    proxy.cut();
    assert!(matches!(server.next().await, Seen::Connection(false)));
    let mut taken = 0;
    loop {
        match pusher.push("news", number(taken)) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert_eq!(error, PushError::Full);
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(taken as usize <= limits::UNACKED_FRAMES + 1024, "{taken}");
    proxy.set_open(true);
    let mut received = 0;
    while received < taken {
        if let LinkEvent::Action { content, .. } = next(&mut events).await {
            assert_eq!(content, number(received));
            received += 1;
        }
    }
    while !matches!(server.next().await, Seen::Drained) {}
    pusher.push("news", number(taken)).unwrap();
    assert!(matches!(next(&mut events).await, LinkEvent::Action { content, .. } if content == number(taken)));
}

#[tokio::test]
async fn a_wrong_fingerprint_ends_the_link_and_names_both() {
    let server = Server::start(ListenConfig::default()).await;
    let config = ConnectConfig { trust: Trust::Fingerprint([1; 32]), ..server.config(server.address) };
    let (link, mut events) = Link::connect(config);
    let expected = ConnectError::CertificateChanged { expected: [1; 32], seen: server.fingerprint };
    assert_eq!(next(&mut events).await, LinkEvent::Failed(expected));
    assert_eq!(bounded(events.next()).await, None);
    assert_eq!(link.request_raw("echo", CBOR, Bytes::new(), BOUND).await.unwrap_err().code, Code::LINK_LOST);
}

#[tokio::test]
async fn the_first_certificate_is_believed_and_no_other_after_it() {
    let first = Server::start(ListenConfig::default()).await;
    let second = Server::start(ListenConfig::default()).await;
    let relay = Proxy::start(first.address).await;
    let config = ConnectConfig { trust: Trust::FirstUse, ..first.config(relay.address) };
    let (_link, mut events) = Link::connect(config);
    match next(&mut events).await {
        LinkEvent::Up { fingerprint, .. } => assert_eq!(fingerprint, first.fingerprint),
        other => panic!("{other:?}"),
    }
    relay.lead_to(second.address);
    relay.cut();
    let failed = loop {
        match next(&mut events).await {
            LinkEvent::Down { .. } => {}
            other => break other,
        }
    };
    let changed = ConnectError::CertificateChanged { expected: first.fingerprint, seen: second.fingerprint };
    assert_eq!(failed, LinkEvent::Failed(changed));
}

#[tokio::test]
async fn a_certificate_that_no_authority_signed_is_not_trusted_by_the_system() {
    let server = Server::start(ListenConfig::default()).await;
    let config = ConnectConfig { trust: Trust::System, ..server.config(server.address) };
    let (_link, mut events) = Link::connect(config);
    match next(&mut events).await {
        // Without any trusted certificate on the machine there is nothing to ask.
        LinkEvent::Failed(ConnectError::Untrusted(_) | ConnectError::Setup(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_told_with_the_time_of_the_next_try() {
    // Bound, so that nobody else gets the port, and not listening.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("wss://{}", silent.local_addr().unwrap()).parse().unwrap();
    let (link, mut events) = Link::connect(ConnectConfig::new(url, Trust::FirstUse));
    match next(&mut events).await {
        LinkEvent::Down { fault, retry_in } => {
            assert_eq!(fault.code, Code::UNREACHABLE);
            assert!(retry_in <= Duration::from_millis(200));
        }
        other => panic!("{other:?}"),
    }
    let fault = link.request_raw("echo", CBOR, Bytes::new(), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    bounded(link.close()).await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_is_in_flight_and_says_so() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    let asked = tokio::spawn({
        let link = link.clone();
        async move { link.request_raw("hold", CBOR, number(1), BOUND).await }
    });
    bounded(server.held.recv()).await.unwrap();
    server.stop.send_replace(true);
    server.service.gate.add_permits(1);
    assert_eq!(bounded(asked).await.unwrap().unwrap().content, number(1));
    match next(&mut events).await {
        LinkEvent::Down { fault, .. } => assert_eq!(fault.code, Code::STOPPING),
        other => panic!("{other:?}"),
    }
    bounded(server.task).await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_session_that_is_closed_for_good_is_not_tried_again() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (_link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
    let fault = Fault { code: Code::DEVICE_REVOKED, message: "revoked".into(), retry_after_ms: None };
    pusher.push("last", number(1)).unwrap();
    pusher.close(fault.clone());
    assert!(matches!(next(&mut events).await, LinkEvent::Action { .. }));
    assert_eq!(next(&mut events).await, LinkEvent::Failed(ConnectError::Refused(fault)));
    assert!(matches!(server.next().await, Seen::Closed));
}

#[tokio::test]
async fn more_sessions_than_allowed_are_sent_away_and_let_in_later() {
    let server = Server::start(ListenConfig { max_sessions: 1, ..ListenConfig::default() }).await;
    let (first, mut first_events) = server.connect();
    assert!(!up(&mut first_events).await);
    let (second, mut second_events) = server.connect();
    match next(&mut second_events).await {
        LinkEvent::Down { fault, .. } => assert_eq!(fault.code, Code::OVERLOADED),
        other => panic!("{other:?}"),
    }
    bounded(first.close()).await;
    assert!(!up(&mut second_events).await);
    assert_eq!(second.request_raw("echo", CBOR, number(1), BOUND).await.unwrap().content, number(1));
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_session() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    drop(link);
    assert!(matches!(server.next().await, Seen::Opened(..)));
    assert!(matches!(server.next().await, Seen::Closed));
}

#[tokio::test]
async fn a_handle_can_be_shared_among_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    shared(&link);
    let config = LinkConfig::default();
    shared(&Arc::new(config));
}
