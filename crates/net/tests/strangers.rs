//! What is not a client gets nothing: every kind of garbage before hello ends with a closed connection and a healthy listener.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use parlour_net::{LinkConfig, ListenConfig};
use parlour_wire::{
    Code, Frame, Kind, decode, encode,
    header::{Fault, Hello},
};
use support::{
    Seen, bounded,
    door::{Door, closed_with, greeted, rest},
};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn random_bytes_in_place_of_tls_end_the_connection() {
    let door = Door::open(ListenConfig::default()).await;
    for seed in 0..8_u32 {
        let mut stream = door.tcp().await;
        let noise: Vec<u8> =
            (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 13) as u8).collect();
        drop(stream.write_all(&noise).await);
        rest(&mut stream).await;
    }
    door.assert_healthy().await;
}

#[tokio::test]
async fn what_is_not_the_upgrade_gets_an_http_error() {
    let door = Door::open(ListenConfig::default()).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /v1/link HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (
            "GET /other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            "404",
        ),
        ("\x00\x01\x02 garbage\r\n\r\n", "400"),
    ] {
        let mut stream = door.tls().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
    }
    door.assert_healthy().await;
}

#[tokio::test]
async fn an_endless_request_head_ends_the_connection() {
    let door = Door::open(ListenConfig::default()).await;
    let mut stream = door.tls().await;
    stream.write_all(b"GET /v1/link HTTP/1.1\r\n").await.unwrap();
    for _ in 0..64 {
        if stream.write_all(format!("X-Long: {}\r\n", "x".repeat(1000)).as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(rest(&mut stream).await.is_empty());
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_closed_at_every_stage() {
    let door = Door::open(ListenConfig { handshake_timeout: Duration::from_secs(4), ..ListenConfig::default() }).await;
    let (mut tcp, mut tls, mut socket) = (door.tcp().await, door.tls().await, door.websocket().await);
    assert!(rest(&mut tcp).await.is_empty());
    assert!(rest(&mut tls).await.is_empty());
    // Here it can be told why, in words that it has asked for.
    assert_eq!(closed_with(&mut socket).await, Some(Code::TIMED_OUT));
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_first_message_that_is_no_hello_is_told_why_it_is_refused() {
    let door = Door::open(ListenConfig::default()).await;
    let mut announces = BytesMut::from(&Frame::new(Kind::HELLO).to_bytes().unwrap()[..]);
    announces[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    let bad_hello = Frame { header: Bytes::from_static(b"\xff\xff"), ..Frame::new(Kind::HELLO) };
    let many = Hello { capabilities: vec!["x".to_owned(); 100], agent: String::new() };
    let many = Frame { header: Bytes::from(encode(&many)), ..Frame::new(Kind::HELLO) };
    for (bytes, code) in [
        (Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), Code::BAD_FRAME),
        (Bytes::new(), Code::BAD_FRAME),
        (announces.freeze(), Code::TOO_LARGE),
        (Frame::new(Kind::PING).to_bytes().unwrap(), Code::BAD_FRAME),
        (Frame::new(Kind::WELCOME).to_bytes().unwrap(), Code::BAD_FRAME),
        (bad_hello.to_bytes().unwrap(), Code::BAD_FRAME),
        (many.to_bytes().unwrap(), Code::TOO_LARGE),
        (Bytes::from(vec![b'P'; 40_000]), Code::TOO_LARGE),
    ] {
        let mut socket = door.websocket().await;
        socket.send(Message::Binary(bytes)).await.unwrap();
        assert_eq!(closed_with(&mut socket).await, Some(code));
    }
    let mut socket = door.websocket().await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(closed_with(&mut socket).await, Some(Code::BAD_FRAME));
    door.assert_healthy().await;
}

#[tokio::test]
async fn an_announced_gigabyte_is_refused_before_it_is_sent() {
    let door = Door::open(ListenConfig::default()).await;
    let mut stream = door.websocket().await.into_inner();
    // A masked binary message of 1 GiB (RFC 6455, section 5.2), of which nothing follows.
    stream.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]).await.unwrap();
    let answer = rest(&mut stream).await;
    // An unmasked binary message of less than 126 bytes has a header of two.
    let length = usize::from(answer[1]);
    let close = Frame::decode(Bytes::from(answer).slice(2..2 + length)).unwrap();
    assert_eq!(decode::<Fault>(&close.header).unwrap().code, Code::TOO_LARGE);
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_fragment_that_announces_more_than_can_be_counted_is_refused() {
    let door = Door::open(ListenConfig::default()).await;
    let mut stream = door.websocket().await.into_inner();
    // A masked fragment of one byte, then one of 2^64 - 1 bytes that goes on with it (RFC 6455, section 5.2).
    stream.write_all(&[0x02, 0x81, 1, 2, 3, 4, b'P' ^ 1]).await.unwrap();
    stream.write_all(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]).await.unwrap();
    let answer = rest(&mut stream).await;
    let length = usize::from(*answer.get(1).expect("a word before the end"));
    let close = Frame::decode(Bytes::from(answer).slice(2..2 + length)).unwrap();
    assert_eq!(decode::<Fault>(&close.header).unwrap().code, Code::TOO_LARGE);
    door.assert_healthy().await;
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_session_with_a_name() {
    let door = Door::open(ListenConfig::default()).await;
    let gap = Frame {
        seq: 5,
        header: Bytes::from(encode(&Hello { capabilities: vec![], agent: String::new() })),
        ..Frame::new(Kind::ACTION)
    };
    for frame in [gap, Frame::new(Kind::HELLO), Frame::new(Kind::REQUEST), Frame { id: 9, ..Frame::new(Kind::ACK) }] {
        let mut socket = greeted(&door).await;
        socket.send(Message::Binary(frame.to_bytes().unwrap())).await.unwrap();
        assert_eq!(closed_with(&mut socket).await, Some(Code::BAD_FRAME));
    }
    let mut socket = greeted(&door).await;
    socket.send(Message::Binary(Frame::new(Kind(99)).to_bytes().unwrap())).await.unwrap();
    socket.send(Message::Ping(Bytes::from_static(b"ws"))).await.unwrap();
    assert!(matches!(bounded(socket.next()).await, Some(Ok(Message::Pong(_)))));
    socket.send(Message::Binary(Frame { id: 3, ..Frame::new(Kind::PING) }.to_bytes().unwrap())).await.unwrap();
    let Some(Ok(Message::Binary(pong))) = bounded(socket.next()).await else { panic!("no pong") };
    assert_eq!(Frame::decode(pong), Ok(Frame { id: 3, ..Frame::new(Kind::PONG) }));
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_bounded_and_others_are_served() {
    let link = LinkConfig { linger: Duration::from_millis(100), ..LinkConfig::default() };
    let door = Door::open(ListenConfig { link, ..ListenConfig::default() }).await;
    let (mut sink, _unread) = greeted(&door).await.split();
    let header = Bytes::from(encode(&parlour_wire::header::Request { name: "echo".into(), deadline_ms: 0, origin: None }));
    let content = Bytes::from(vec![0; 100_000]);
    let mut sent = 0_u64;
    // Every answer stays with the server, until it has enough of this.
    let refused = bounded(async {
        loop {
            sent += 1;
            let frame =
                Frame { seq: sent, id: sent, header: header.clone(), content: content.clone(), ..Frame::new(Kind::REQUEST) };
            if sink.send(Message::Binary(frame.to_bytes().unwrap())).await.is_err() {
                break sent;
            }
        }
    })
    .await;
    assert!(refused < 1000, "{refused}");
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_message_in_fragments_is_one_frame() {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame as Fragment,
        coding::{Data, OpCode},
    };
    let door = Door::open(ListenConfig::default()).await;
    let mut socket = greeted(&door).await;
    let header = Bytes::from(encode(&parlour_wire::header::Request { name: "echo".into(), deadline_ms: 0, origin: None }));
    let request = Frame { seq: 1, id: 1, header, content: Bytes::from_static(b"pieces"), ..Frame::new(Kind::REQUEST) };
    let bytes = request.to_bytes().unwrap();
    let parts = [
        Fragment::message(bytes.slice(..10), OpCode::Data(Data::Binary), false),
        Fragment::message(bytes.slice(10..30), OpCode::Data(Data::Continue), false),
        Fragment::message(bytes.slice(30..), OpCode::Data(Data::Continue), true),
    ];
    for part in parts {
        socket.send(Message::Frame(part)).await.unwrap();
    }
    let Some(Ok(Message::Binary(bytes))) = bounded(socket.next()).await else { panic!("no answer") };
    let answer = Frame::decode(bytes).unwrap();
    assert_eq!((answer.kind, &answer.content[..]), (Kind::RESPONSE, &b"pieces"[..]));
}

#[tokio::test]
async fn a_session_that_is_not_kept_ends_with_its_connection_once_it_is_answered() {
    let mut door = Door::open(ListenConfig::default()).await;
    door.server.service.keep.store(false, Ordering::SeqCst);
    let mut socket = greeted(&door).await;
    let header = Bytes::from(encode(&parlour_wire::header::Request { name: "hold".into(), deadline_ms: 0, origin: None }));
    let request = Frame { seq: 1, id: 1, header, ..Frame::new(Kind::REQUEST) };
    socket.send(Message::Binary(request.to_bytes().unwrap())).await.unwrap();
    bounded(door.server.held.recv()).await.unwrap();
    drop(socket);
    assert!(matches!(door.server.next().await, Seen::Opened(..)));
    assert!(matches!(door.server.next().await, Seen::Connection(false)));
    assert!(door.server.seen.try_recv().is_err(), "a request that is under way is not torn");
    door.server.service.gate.add_permits(1);
    assert!(matches!(door.server.next().await, Seen::Closed));

    door.server.service.keep.store(true, Ordering::SeqCst);
    let mut kept = greeted(&door).await;
    let header = Bytes::from(encode(&parlour_wire::header::Action { name: "here".into() }));
    kept.send(Message::Binary(Frame { seq: 1, header, ..Frame::new(Kind::ACTION) }.to_bytes().unwrap())).await.unwrap();
    drop(kept);
    assert!(matches!(door.server.next().await, Seen::Opened(..)));
    assert!(matches!(door.server.next().await, Seen::Action(_)));
    assert!(matches!(door.server.next().await, Seen::Connection(false)));
    door.assert_healthy().await;
    assert!(matches!(door.server.next().await, Seen::Opened(..)), "the kept session has not been closed");
}

#[tokio::test]
async fn a_session_that_is_not_kept_is_sent_away_after_its_time() {
    let config = ListenConfig { stranger_timeout: Duration::from_millis(20), ..ListenConfig::default() };
    let door = Door::open(config).await;
    let mut kept = greeted(&door).await;
    kept.send(Message::Binary(Frame { id: 1, ..Frame::new(Kind::PING) }.to_bytes().unwrap())).await.unwrap();
    assert!(matches!(bounded(kept.next()).await, Some(Ok(Message::Binary(_)))));
    door.server.service.keep.store(false, Ordering::SeqCst);
    assert_eq!(closed_with(&mut kept).await, Some(Code::LINK_LOST));
    let mut stranger = greeted(&door).await;
    assert_eq!(closed_with(&mut stranger).await, Some(Code::LINK_LOST));
}
