//! Peers that have been let in and do not behave: each gets its own link closed or held up, and no other notices.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use parlour_net::{KeepAlive, LinkConfig, ListenConfig, Pusher};
use parlour_wire::{Code, Frame, Kind, encode, header::Credit, limits};
use support::{
    Seen, bounded,
    door::{Door, Socket, closed_with, greet, greeted, websocket_over},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// A raw client of a fresh server, with the server's handle of its session.
async fn raw(config: ListenConfig) -> (Door, Socket, Pusher) {
    let mut door = Door::open(config).await;
    let socket = greeted(&door).await;
    let (_, pusher) = door.server.opened().await;
    (door, socket, pusher)
}

fn data(stream: u64, mark: usize, content: usize) -> Frame {
    Frame { id: stream, header: vec![0; mark].into(), content: vec![0; content].into(), ..Frame::new(Kind::STREAM_DATA) }
}

async fn send(socket: &mut Socket, frame: &Frame) {
    socket.send(Message::Binary(frame.to_bytes().unwrap())).await.unwrap();
}

/// Makes sure that the session has taken in what came before.
async fn settle(socket: &mut Socket) {
    send(socket, &Frame { id: 1, ..Frame::new(Kind::PING) }).await;
    loop {
        let Some(Ok(Message::Binary(bytes))) = bounded(socket.next()).await else { panic!("no pong") };
        if Frame::decode(bytes).unwrap().kind == Kind::PONG {
            return;
        }
    }
}

#[tokio::test]
async fn stream_data_against_the_rules_ends_the_session_with_a_name() {
    let least = 2 * limits::STREAM_CHUNK;
    for (frame, code) in [
        (data(1, 0, limits::STREAM_CHUNK), Code::BAD_FRAME),
        (data(1, 0, limits::STREAM_CHUNK + 1), Code::TOO_LARGE),
        (data(1, limits::STREAM_MARK + 1, 10), Code::TOO_LARGE),
        (Frame { seq: 1, ..data(1, 0, 10) }, Code::BAD_FRAME),
        (Frame { id: 1, content: vec![0; limits::STREAM_FINISH + 1].into(), ..Frame::new(Kind::STREAM_END) }, Code::TOO_LARGE),
    ] {
        let (door, mut socket, pusher) = raw(ListenConfig::default()).await;
        let mut sink = pusher.link().sink(1000);
        assert_eq!(sink.credit() as usize, least);
        settle(&mut socket).await;
        for _ in 0..2 {
            send(&mut socket, &data(sink.id(), 0, limits::STREAM_CHUNK)).await;
        }
        let frame = Frame { id: sink.id(), ..frame };
        send(&mut socket, &frame).await;
        assert_eq!(closed_with(&mut socket).await, Some(code), "{frame:?}");
        while bounded(sink.recv()).await.is_ok() {}
        door.assert_healthy().await;
    }
}

#[tokio::test]
async fn data_of_a_stream_that_nobody_opened_is_answered_with_a_stop_and_nothing_worse() {
    let (door, mut socket, _pusher) = raw(ListenConfig::default()).await;
    for stream in 0..1000 {
        send(&mut socket, &data(stream, 0, 10)).await;
    }
    let Some(Ok(Message::Binary(bytes))) = bounded(socket.next()).await else { panic!("no word") };
    let frame = Frame::decode(bytes).unwrap();
    assert_eq!((frame.kind, frame.id), (Kind::STREAM_CREDIT, 0));
    settle(&mut socket).await;
    door.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_its_stream_costs_a_bounded_amount() {
    let (door, mut socket, pusher) = raw(ListenConfig::default()).await;
    let mut source = pusher.link().source(1, u64::MAX);
    let taken = Arc::new(AtomicU64::new(0));
    let chunk = Bytes::from(vec![0; limits::STREAM_CHUNK]);
    let flow = tokio::spawn({
        let taken = Arc::clone(&taken);
        async move {
            loop {
                if let Err(fault) = source.send(Bytes::new(), chunk.clone()).await {
                    return fault;
                }
                taken.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
        }
    });
    // Until it stands still for as long as it takes to serve others.
    let (mut before, mut rounds) = (u64::MAX, 0);
    while before != taken.load(Ordering::SeqCst) {
        before = taken.load(Ordering::SeqCst);
        door.assert_healthy().await;
        rounds += 1;
    }
    // The buffers of the two sockets are the kernel's, and several megabytes on loopback.
    assert!(before < 64 << 20, "{before} bytes were taken in {rounds} rounds");
    let stop = Credit {
        credit: 0,
        stop: Some(parlour_wire::header::Fault { code: Code::QUOTA, message: String::new(), retry_after_ms: None }),
    };
    send(&mut socket, &Frame { id: 1, header: encode(&stop).into(), ..Frame::new(Kind::STREAM_CREDIT) }).await;
    assert_eq!(bounded(flow).await.unwrap().code, Code::QUOTA, "a stuck connection still hears its peer");
}

/// What matters goes before chunks, but not before bytes that the kernel has taken: so that takes few of a stream.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matters_waits_for_little_of_a_stream_that_is_under_way() {
    let mut door = Door::open(ListenConfig::default()).await;
    let tcp = tokio::net::TcpSocket::new_v4().unwrap();
    // What has come and is not read counts, too; how much that is, is said here.
    tcp.set_recv_buffer_size(64 * 1024).unwrap();
    let tls = door.tls_over(tcp.connect(door.server.address).await.unwrap()).await;
    let mut socket = greet(websocket_over(tls).await).await;
    let (_, pusher) = door.server.opened().await;
    let mut source = pusher.link().source(1, u64::MAX);
    let taken = Arc::new(AtomicU64::new(0));
    let flow = tokio::spawn({
        let taken = Arc::clone(&taken);
        async move {
            while source.send(Bytes::new(), vec![0; limits::STREAM_CHUNK].into()).await.is_ok() {
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    // Until it stands still for as long as it takes to serve others.
    let mut before = u64::MAX;
    while before != taken.load(Ordering::SeqCst) {
        before = taken.load(Ordering::SeqCst);
        door.assert_healthy().await;
    }
    pusher.push("news", Bytes::from_static(b"now")).unwrap();
    door.assert_healthy().await;
    let mut ahead = 0;
    loop {
        let Some(Ok(Message::Binary(bytes))) = bounded(socket.next()).await else { panic!("no news") };
        let frame = Frame::decode(bytes).unwrap();
        match frame.kind {
            Kind::ACTION => break,
            Kind::STREAM_DATA => ahead += frame.content.len(),
            _ => {}
        }
    }
    assert!(ahead > 0 && ahead < 512 * 1024, "{ahead} bytes were before it");
    flow.abort();
}

#[tokio::test]
async fn a_flood_of_credit_costs_nothing() {
    let (door, mut socket, pusher) = raw(ListenConfig::default()).await;
    let mut source = pusher.link().source(1, 0);
    settle(&mut socket).await;
    let credit = Bytes::from(encode(&Credit { credit: u64::MAX, stop: None }));
    for stream in 0..2000 {
        let frame = Frame { id: stream % 3, header: credit.clone(), ..Frame::new(Kind::STREAM_CREDIT) };
        send(&mut socket, &frame).await;
    }
    bounded(source.send(Bytes::new(), Bytes::from_static(b"still here"))).await.unwrap();
    settle(&mut socket).await;
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_peer_that_drips_is_no_stranger_for_longer_than_the_handshake_may_take() {
    let door = Door::open(ListenConfig { handshake_timeout: Duration::from_millis(300), ..ListenConfig::default() }).await;
    let mut stream = door.tls().await;
    let mut drip = tokio::time::interval(Duration::from_millis(10));
    let request = b"GET /v1/link HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut bytes = request.iter().copied().chain(std::iter::repeat(b'x'));
    let hung_up = bounded(async {
        loop {
            drip.tick().await;
            let byte = [bytes.next().unwrap()];
            if stream.write_all(&byte).await.is_err() || stream.flush().await.is_err() {
                break true;
            }
            let mut answer = [0; 64];
            if let Ok(read) = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut answer)).await {
                break !read.is_ok_and(|count| count > 0);
            }
        }
    })
    .await;
    assert!(hung_up);
    door.assert_healthy().await;
}

#[tokio::test]
async fn a_peer_that_drips_a_frame_is_given_up_by_the_keep_alive() {
    let keep_alive = KeepAlive { idle: Duration::from_millis(30), interval: Duration::from_millis(30), fails: 2 };
    let link = LinkConfig { keep_alive: Some(keep_alive), ..LinkConfig::default() };
    let (mut door, socket, _pusher) = raw(ListenConfig { link, ..ListenConfig::default() }).await;
    // A masked message of 64 KiB, of which a byte comes now and then (RFC 6455, section 5.2).
    let mut stream = socket.into_inner();
    stream.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]).await.unwrap();
    let mut drip = tokio::time::interval(Duration::from_millis(5));
    bounded(async {
        loop {
            drip.tick().await;
            if stream.write_all(b"x").await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
    })
    .await;
    // It had said nothing that would be worth a session.
    assert!(matches!(door.server.next().await, Seen::Closed));
    door.assert_healthy().await;
}
