//! What a peer may not do, and what becomes of it: a named end, bounded memory, and everybody else served.

use std::time::Duration;

#[cfg(feature = "iroh")]
use ::iroh::endpoint::ConnectionError;
use bytes::{Bytes, BytesMut};
use parlour_net::{KeepAlive, LinkConfig, ListenConfig};
use parlour_wire::{Code, Frame, Kind, encode, frame::ContentType, header::Hello, limits};

use crate::{
    over_every_carrier,
    raw::{Raw, resume},
    rig::{CLIENT, Rig, Way, watchful},
    support::{BOUND, Seen, bounded, up},
};

over_every_carrier! {
    a_first_message_that_is_no_hello_is_told_why_it_is_refused,
    a_stranger_that_says_nothing_is_told_why_it_is_closed,
    an_announced_gigabyte_is_refused_before_it_is_sent,
    a_frame_above_the_limit_ends_the_session_with_a_name,
    frames_that_break_the_rules_end_the_session_with_a_name,
    what_is_not_known_is_ignored,
    a_client_that_never_reads_is_bounded_and_others_are_served,
    a_client_that_drips_a_frame_is_given_up_with_a_name,
    a_client_that_falls_silent_may_come_back_and_its_server_is_told_why_it_is_away,
    a_stranger_that_drips_its_hello_is_told_why_it_is_closed,
    ten_thousand_open_requests_end_their_session_with_a_name_and_another_link_is_answered_meanwhile,
    more_connections_than_allowed_are_turned_away,
}

async fn assert_healthy(rig: &Rig) {
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let answer = link.request_raw("echo", ContentType::CBOR, Bytes::from_static(b"well"), BOUND).await.unwrap();
    assert_eq!(&answer.content[..], b"well");
    bounded(link.close()).await;
}

async fn a_first_message_that_is_no_hello_is_told_why_it_is_refused(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let mut announces = BytesMut::from(&Frame::new(Kind::HELLO).to_bytes().unwrap()[..]);
    announces[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    let bad_hello = Frame { header: Bytes::from_static(b"\xff\xff"), ..Frame::new(Kind::HELLO) };
    let many = Hello { capabilities: vec!["x".to_owned(); 100], agent: String::new() };
    let many = Frame { header: Bytes::from(encode(&many)), ..Frame::new(Kind::HELLO) };
    for (bytes, code) in [
        (Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), Code::BAD_FRAME),
        (Bytes::new(), Code::BAD_FRAME),
        (Bytes::from_static(b"P"), Code::BAD_FRAME),
        (announces.freeze(), Code::TOO_LARGE),
        (Frame::new(Kind::PING).to_bytes().unwrap(), Code::BAD_FRAME),
        (Frame::new(Kind::WELCOME).to_bytes().unwrap(), Code::BAD_FRAME),
        (bad_hello.to_bytes().unwrap(), Code::BAD_FRAME),
        (many.to_bytes().unwrap(), Code::TOO_LARGE),
        (Bytes::from(vec![b'P'; 40_000]), Code::TOO_LARGE),
    ] {
        let mut raw = Raw::connect(&rig, CLIENT).await;
        raw.send_message(bytes).await;
        assert_eq!(raw.closed_with().await, Some(code));
    }
    assert_healthy(&rig).await;
}

async fn a_stranger_that_says_nothing_is_told_why_it_is_closed(way: Way) {
    let rig = Rig::start(way, ListenConfig { handshake_timeout: Duration::from_secs(4), ..ListenConfig::default() }).await;
    let mut silent = Raw::connect(&rig, CLIENT).await;
    let mut half = Raw::connect(&rig, CLIENT).await;
    half.announce(100).await;
    assert_eq!(half.closed_with().await, Some(Code::TIMED_OUT));
    match &mut silent {
        Raw::WebSocket(_) => assert_eq!(silent.closed_with().await, Some(Code::TIMED_OUT)),
        // A QUIC stream on which nothing was sent is not there yet at the other end.
        #[cfg(feature = "iroh")]
        Raw::Iroh(raw) => match bounded(raw.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => assert_eq!(&close.reason[..], b"nothing was said"),
            other => panic!("{other:?}"),
        },
    }
    assert_healthy(&rig).await;
}

async fn an_announced_gigabyte_is_refused_before_it_is_sent(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let mut stranger = Raw::connect(&rig, CLIENT).await;
    stranger.announce(1 << 30).await;
    assert_eq!(stranger.closed_with().await, Some(Code::TOO_LARGE));
    let mut known = Raw::connect(&rig, CLIENT).await;
    known.greet().await;
    known.announce(1 << 30).await;
    assert_eq!(known.closed_with().await, Some(Code::TOO_LARGE));
    assert_healthy(&rig).await;
}

async fn a_frame_above_the_limit_ends_the_session_with_a_name(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.greet().await;
    let mut bytes = BytesMut::new();
    Raw::request(1, "echo", Bytes::new()).encode(&mut bytes).unwrap();
    bytes.resize(limits::FRAME + 1, 0);
    raw.send_message(bytes.freeze()).await;
    assert_eq!(raw.closed_with().await, Some(Code::TOO_LARGE));
    assert_healthy(&rig).await;
}

async fn frames_that_break_the_rules_end_the_session_with_a_name(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let gap = Frame { seq: 5, ..Raw::request(1, "echo", Bytes::new()) };
    for frame in [gap, Frame::new(Kind::HELLO), Frame::new(Kind::REQUEST), Frame { id: 9, ..Frame::new(Kind::ACK) }] {
        let mut raw = Raw::connect(&rig, CLIENT).await;
        raw.greet().await;
        raw.send(&frame).await;
        assert_eq!(raw.closed_with().await, Some(Code::BAD_FRAME));
    }
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.greet().await;
    raw.send_message(Raw::request(1, "echo", Bytes::new()).to_bytes().unwrap().slice(..20)).await;
    assert_eq!(raw.closed_with().await, Some(Code::BAD_FRAME), "a truncated frame");
    assert_healthy(&rig).await;
}

async fn what_is_not_known_is_ignored(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.greet().await;
    raw.send(&Frame { content: Bytes::from_static(b"?"), flags: 0xff00, ..Frame::new(Kind(99)) }).await;
    raw.send(&Frame { id: 3, ..Frame::new(Kind::PING) }).await;
    assert_eq!(raw.recv().await, Some(Frame { id: 3, ..Frame::new(Kind::PONG) }));
    // A header with a field more than this version knows: {0: "echo", 1: 0, 77: "new"}.
    let header = Bytes::from_static(b"\xa3\x00\x64echo\x01\x00\x18\x4d\x63new");
    raw.send(&Frame { header, ..Raw::request(1, "", Bytes::from_static(b"well")) }).await;
    let answer = loop {
        let frame = raw.recv().await.unwrap();
        if frame.kind != Kind::ACK {
            break frame;
        }
    };
    assert_eq!((answer.kind, &answer.content[..]), (Kind::RESPONSE, &b"well"[..]));
}

async fn a_client_that_never_reads_is_bounded_and_others_are_served(way: Way) {
    let link = LinkConfig { linger: Duration::from_millis(100), ..LinkConfig::default() };
    let mut rig = Rig::start(way, ListenConfig { link, ..ListenConfig::default() }).await;
    let mut deaf = Raw::connect(&rig, CLIENT).await;
    deaf.greet().await;
    rig.server.opened().await;
    let content = Bytes::from(vec![0; 100_000]);
    let mut sent = 0;
    // Every answer stays with the server, until it has enough of this.
    bounded(async {
        loop {
            sent += 1;
            if !deaf.send(&Raw::request(sent, "echo", content.clone())).await {
                break;
            }
        }
    })
    .await;
    assert!(sent < 1000, "{sent}");
    assert!(matches!(rig.server.next().await, Seen::Closed));
    assert_eq!(rig.server.service.reasons.lock().unwrap()[0].code, Code::OVERLOADED);
    assert_healthy(&rig).await;
}

async fn a_client_that_drips_a_frame_is_given_up_with_a_name(way: Way) {
    let keep_alive = KeepAlive { idle: Duration::from_millis(30), interval: Duration::from_millis(30), fails: 2 };
    let link = LinkConfig { keep_alive: Some(keep_alive), ..LinkConfig::default() };
    let mut rig = Rig::start(way, ListenConfig { link, ..ListenConfig::default() }).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.greet().await;
    rig.server.opened().await;
    raw.announce(64 * 1024).await;
    bounded(raw.drip()).await;
    assert!(matches!(rig.server.next().await, Seen::Closed));
    let reasons = rig.server.service.reasons.lock().unwrap().clone();
    assert!(reasons[0].code == Code::LINK_LOST && reasons[0].message == "the peer is silent", "{reasons:?}");
    assert_healthy(&rig).await;
}

async fn a_client_that_falls_silent_may_come_back_and_its_server_is_told_why_it_is_away(way: Way) {
    let mut rig = Rig::start(way, ListenConfig { link: watchful(), ..ListenConfig::default() }).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    let welcome = raw.greet().await;
    rig.server.opened().await;
    // Who has said something has a session to come back to.
    assert!(raw.send(&raw.action(1)).await);
    assert!(matches!(rig.server.next().await, Seen::Action(_)));
    assert!(matches!(rig.server.next().await, Seen::Connection(false)));
    let reasons = rig.server.service.reasons.lock().unwrap().clone();
    assert!(reasons.len() == 1 && reasons[0].message == "the peer is silent", "{reasons:?}");
    let mut raw = Raw::connect(&rig, CLIENT).await;
    assert!(raw.send(&resume(&welcome, 0)).await);
    assert!(raw.welcome().await.resumed);
    assert!(matches!(rig.server.next().await, Seen::Connection(true)));
}

async fn a_stranger_that_drips_its_hello_is_told_why_it_is_closed(way: Way) {
    let rig = Rig::start(way, ListenConfig { handshake_timeout: Duration::from_secs(4), ..ListenConfig::default() }).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.announce(64 * 64).await;
    assert_eq!(bounded(raw.drip_until_told()).await, Some(Code::TIMED_OUT));
    // Whoever drips on after that is not listened to for long.
    bounded(raw.drip()).await;
    assert_healthy(&rig).await;
}

async fn ten_thousand_open_requests_end_their_session_with_a_name_and_another_link_is_answered_meanwhile(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let session = link.session();
    let echo = || async {
        let answer = bounded(link.request_raw("echo", ContentType::CBOR, Bytes::from_static(b"well"), BOUND)).await;
        assert_eq!(&answer.unwrap().content[..], b"well");
    };
    let mut raw = Raw::connect(&rig, CLIENT + 1).await;
    raw.greet().await;
    let most = limits::REQUESTS_IN_FLIGHT as u64;
    for n in 1..=most {
        raw.send(&Raw::request(n, "hold", Bytes::new())).await;
        bounded(rig.server.held.recv()).await.unwrap();
    }
    // All that may be open are, and the other link has its turn.
    echo().await;
    let flood = async {
        for n in most + 1..=10_000 {
            if !raw.send(&Raw::request(n, "hold", Bytes::new())).await {
                break;
            }
        }
        raw.closed_at_last_with().await
    };
    let (told, ()) = tokio::join!(flood, echo());
    assert_eq!(told, Some(Code::OVERLOADED));
    assert!(rig.server.held.try_recv().is_err(), "more were open than may be");
    echo().await;
    assert!(link.is_up() && link.session() == session, "the other link is what it was");
}

async fn more_connections_than_allowed_are_turned_away(way: Way) {
    let rig = Rig::start(way, ListenConfig { max_connections: 2, ..ListenConfig::default() }).await;
    let (first, mut first_events) = rig.connect().await;
    let (_second, mut second_events) = rig.connect().await;
    assert!(!up(&mut first_events).await && !up(&mut second_events).await);
    let (_third, mut third_events) = rig.connect().await;
    match crate::support::next(&mut third_events).await {
        parlour_net::LinkEvent::Down { fault, .. } => assert_eq!(fault.code, Code::UNREACHABLE),
        other => panic!("{other:?}"),
    }
    bounded(first.close()).await;
    assert!(!up(&mut third_events).await);
}
