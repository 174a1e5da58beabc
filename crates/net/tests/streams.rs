//! Streams from handle to handle: whole and in order, bounded, ended from either side, and beside them everything else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::FutureExt;
use parlour_net::{Events, Link, LinkEvent, ListenConfig, Received, Sink, Source};
use parlour_wire::{Code, frame::ContentType, header::Fault, limits};
use support::{BOUND, Proxy, Server, bounded, next, up};

const MIB: u64 = 1024 * 1024;
const CREDIT: u32 = 1024 * 1024;

/// The handles of both ends of a link that is up.
async fn pair(server: &mut Server) -> (Link, Link, Events) {
    let (link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
    (link, pusher.link(), events)
}

async fn echo(link: &Link) {
    let content = Bytes::from_static(b"there?");
    let answer = bounded(link.request_raw("echo", ContentType::TEXT, content.clone(), BOUND)).await.unwrap();
    assert_eq!(answer.content, content);
}

/// A stream from `to`'s other end: the client's end makes sure by a request that its sink is known before anything is sent.
async fn stream(client: &Link, (from, to): (&Link, &Link), credit: u32) -> (Source, Sink) {
    let sink = to.sink(credit);
    echo(client).await;
    (from.source(sink.id(), u64::from(sink.credit())), sink)
}

/// Bytes that tell where in the stream they are.
fn piece(at: u64, length: usize) -> Bytes {
    (0..length as u64).map(|n| ((at + n) % 251) as u8).collect()
}

async fn fill(mut source: Source, bytes: u64, length: usize) {
    let mut at = 0;
    while at < bytes {
        let length = length.min((bytes - at) as usize);
        source.send(Bytes::copy_from_slice(&at.to_be_bytes()), piece(at, length)).await.unwrap();
        at += length as u64;
    }
    source.finish(Bytes::from_static(b"done")).await.unwrap();
}

/// Reads to the end; gives the number of bytes.
async fn drain(sink: &mut Sink) -> u64 {
    let mut at = 0_u64;
    loop {
        match bounded(sink.recv()).await.unwrap() {
            Received::Chunk { mark, content } => {
                assert_eq!((&mark[..], &content), (&at.to_be_bytes()[..], &piece(at, content.len())));
                at += content.len() as u64;
            }
            Received::Finished(last) => {
                assert_eq!(&last[..], b"done");
                return at;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_arrive_whole_and_in_order_in_both_directions_at_once() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let mut tasks = Vec::new();
    for (n, length) in [limits::STREAM_CHUNK, 40_000, 10_000, 700].into_iter().enumerate() {
        for (from, to) in [(&here, &there), (&there, &here)] {
            // The least credit lets little more than one chunk through at a time.
            let credit = if n == 0 { 0 } else { CREDIT };
            let (source, mut sink) = stream(&here, (from, to), credit).await;
            let bytes = length as u64 * 200 + 3;
            tasks.push(tokio::spawn(fill(source, bytes, length)));
            tasks.push(tokio::spawn(async move {
                assert_eq!(drain(&mut sink).await, bytes);
                assert_eq!(sink.recv().await, Ok(Received::Finished(Bytes::from_static(b"done"))));
            }));
        }
    }
    for task in tasks {
        bounded(task).await.unwrap();
    }
}

#[tokio::test]
async fn chunks_of_all_sizes_pass_with_the_least_credit() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    for small in [0, 1, 300, 10_000, 20_000, 40_000] {
        let (mut source, mut sink) = stream(&here, (&there, &here), 0).await;
        let flow = async {
            for n in 0..60 {
                let length = if n % 3 == 2 { limits::STREAM_CHUNK } else { small };
                source.send(Bytes::new(), piece(0, length)).await.unwrap();
            }
            source.finish(Bytes::new()).await.unwrap();
        };
        let read = async {
            let mut chunks = 0;
            while let Received::Chunk { .. } = sink.recv().await.unwrap() {
                chunks += 1;
            }
            assert_eq!(chunks, 60);
        };
        bounded(async { tokio::join!(flow, read) }).await;
    }
}

#[tokio::test]
async fn a_sink_that_was_made_early_works_as_soon_as_the_link_does() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let mut sink = link.sink(CREDIT);
    echo(&link).await;
    let (_, pusher) = server.opened().await;
    let source = pusher.link().source(sink.id(), u64::from(sink.credit()));
    tokio::join!(fill(source, 3 * MIB, limits::STREAM_CHUNK), async { assert_eq!(drain(&mut sink).await, 3 * MIB) });
}

#[tokio::test]
async fn a_source_that_is_dropped_or_gives_up_is_told_to_the_sink_after_what_it_takes() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let (mut source, mut sink) = stream(&here, (&there, &here), CREDIT).await;
    source.send(Bytes::new(), piece(0, 10)).await.unwrap();
    assert!(matches!(bounded(sink.recv()).await, Ok(Received::Chunk { .. })));
    drop(source);
    assert_eq!(bounded(sink.recv()).await.unwrap_err().code, Code::CANCELLED);
    let (source, mut sink) = stream(&here, (&here, &there), CREDIT).await;
    let fault = Fault { code: Code::DISK_FULL, message: "no room".into(), retry_after_ms: Some(5) };
    source.abort(fault.clone());
    assert_eq!(bounded(sink.recv()).await, Err(fault));
}

#[tokio::test]
async fn a_sink_that_is_dropped_or_stops_is_told_to_the_source() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let (mut source, sink) = stream(&here, (&there, &here), CREDIT).await;
    drop(sink);
    let fault = bounded(async {
        loop {
            if let Err(fault) = source.send(Bytes::new(), piece(0, 1000)).await {
                break fault;
            }
        }
    })
    .await;
    assert_eq!(fault.code, Code::CANCELLED);
    let (mut source, sink) = stream(&here, (&here, &there), CREDIT).await;
    let fault = Fault { code: Code::QUOTA, message: "enough".into(), retry_after_ms: None };
    sink.stop(fault.clone());
    assert_eq!(bounded(source.stopped()).await, fault);
    assert_eq!(source.finish(Bytes::new()).await, Err(fault));
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_at_both_ends_and_the_link_goes_on() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, mut events) = pair(&mut server).await;
    let (mut down, mut sink) = stream(&here, (&there, &here), CREDIT).await;
    let (mut up_, mut sink_there) = stream(&here, (&here, &there), CREDIT).await;
    down.send(Bytes::new(), piece(0, 10)).await.unwrap();
    up_.send(Bytes::new(), piece(0, 10)).await.unwrap();
    assert!(bounded(sink.recv()).await.is_ok() && bounded(sink_there.recv()).await.is_ok());
    here.reconnect();
    for code in [bounded(sink.recv()).await.unwrap_err().code, bounded(sink_there.recv()).await.unwrap_err().code] {
        assert_eq!(code, Code::LINK_LOST);
    }
    for code in [bounded(down.stopped()).await.code, bounded(up_.stopped()).await.code] {
        assert_eq!(code, Code::LINK_LOST);
    }
    assert!(up(&mut events).await);
    let (source, mut sink) = stream(&here, (&there, &here), CREDIT).await;
    tokio::join!(fill(source, MIB, 5000), async { assert_eq!(drain(&mut sink).await, MIB) });
}

#[tokio::test]
async fn a_stream_has_no_place_on_a_link_that_is_down() {
    let mut server = Server::start(ListenConfig::default()).await;
    let proxy = Proxy::start(server.address).await;
    let (link, mut events) = Link::connect(server.config(proxy.address));
    assert!(!up(&mut events).await);
    server.opened().await;
    proxy.set_open(false);
    proxy.cut();
    assert!(matches!(next(&mut events).await, LinkEvent::Down { .. }));
    let mut source = link.source(1, 1000);
    assert_eq!(bounded(source.stopped()).await.code, Code::LINK_LOST);
}

#[tokio::test]
async fn what_does_not_fit_a_stream_is_refused_at_its_source() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let (mut source, mut sink) = stream(&here, (&there, &here), CREDIT).await;
    let large = source.send(Bytes::new(), piece(0, limits::STREAM_CHUNK + 1)).await.unwrap_err();
    let marked = source.send(piece(0, limits::STREAM_MARK + 1), Bytes::new()).await.unwrap_err();
    assert_eq!((large.code, marked.code), (Code::TOO_LARGE, Code::TOO_LARGE));
    source.send(Bytes::from_static(&[0; 8]), piece(0, limits::STREAM_CHUNK)).await.unwrap();
    assert_eq!(source.finish(piece(0, limits::STREAM_FINISH + 1)).await.unwrap_err().code, Code::TOO_LARGE);
    assert!(matches!(bounded(sink.recv()).await, Ok(Received::Chunk { .. }) | Err(Fault { code: Code::CANCELLED, .. })));
    let (taken, _sink) = stream(&here, (&there, &here), CREDIT).await;
    let mut again = there.source(taken.id(), 1000);
    assert_eq!(bounded(again.stopped()).await.code, Code::BAD_REQUEST);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_by_name_and_the_others_go_on() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let mut sinks: Vec<_> = (0..limits::STREAMS).map(|_| here.sink(1000)).collect();
    let mut surplus = here.sink(1000);
    assert_eq!(bounded(surplus.recv()).await.unwrap_err().code, Code::OVERLOADED);
    let sink = &mut sinks[limits::STREAMS - 1];
    let source = there.source(sink.id(), u64::from(sink.credit()));
    tokio::join!(fill(source, 50_000, 300), async { assert_eq!(drain(sink).await, 50_000) });
    drop(sinks);
    let (_source, mut sink) = stream(&here, (&there, &here), 1000).await;
    assert!(sink.recv().now_or_never().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_not_read_holds_up_nothing_but_its_own_source() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    let (mut stuck, mut unread) = stream(&here, (&there, &here), 256 * 1024).await;
    let taken = tokio::spawn(async move {
        let mut taken = 0_u64;
        // It ends with its sink.
        while stuck.send(Bytes::new(), piece(0, limits::STREAM_CHUNK)).await.is_ok() {
            taken += limits::STREAM_CHUNK as u64;
        }
        taken
    });
    for _ in 0..3 {
        let (source, mut sink) = stream(&here, (&there, &here), CREDIT).await;
        let flow = tokio::spawn(fill(source, 8 * MIB, limits::STREAM_CHUNK));
        assert_eq!(drain(&mut sink).await, 8 * MIB);
        bounded(flow).await.unwrap();
        echo(&here).await;
    }
    assert!(matches!(bounded(unread.recv()).await, Ok(Received::Chunk { .. })));
    drop(unread);
    // The credit, one chunk granted again, and what waits at the source on both sides of its driver.
    let most = 256 * 1024 + limits::STREAM_CHUNK as u64 + 2 * limits::STREAM_QUEUE as u64;
    let taken = bounded(taken).await.unwrap();
    assert!(taken >= 256 * 1024 && taken <= most, "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_while_a_large_stream_runs() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (here, there, _events) = pair(&mut server).await;
    for (from, to) in [(&there, &here), (&here, &there)] {
        let (mut source, mut sink) = stream(&here, (from, to), 4 * CREDIT).await;
        let over = Arc::new(AtomicBool::new(false));
        let flow = tokio::spawn(async move {
            let chunk = piece(0, limits::STREAM_CHUNK);
            for _ in 0..256 * MIB / limits::STREAM_CHUNK as u64 {
                source.send(Bytes::new(), chunk.clone()).await.unwrap();
            }
            source.finish(Bytes::new()).await.unwrap();
        });
        let reader = tokio::spawn({
            let over = Arc::clone(&over);
            async move {
                let mut bytes = 0;
                while let Received::Chunk { content, .. } = bounded(sink.recv()).await.unwrap() {
                    bytes += content.len() as u64;
                }
                over.store(true, Ordering::SeqCst);
                bytes
            }
        });
        let mut before = 0;
        while !over.load(Ordering::SeqCst) {
            echo(&here).await;
            before += 1;
        }
        bounded(flow).await.unwrap();
        assert_eq!(bounded(reader).await.unwrap(), 256 * MIB);
        assert!(before > 10, "{before} requests were answered before the stream had ended");
    }
}

#[tokio::test]
async fn no_two_sessions_give_a_stream_the_same_name() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (_first, there, _events) = pair(&mut server).await;
    let names = |link: &Link| (0..100).map(|_| link.sink(CREDIT).id()).collect::<std::collections::BTreeSet<_>>();
    let given = names(&there);
    let (_second, other, _more_events) = pair(&mut server).await;
    let others = names(&other);
    assert_eq!((given.len(), others.len()), (100, 100));
    assert!(given.is_disjoint(&others), "{given:?} {others:?}");
    // Exact also where numbers are floating ones.
    assert!(given.iter().chain(&others).all(|name| *name < 1 << 53));
}
