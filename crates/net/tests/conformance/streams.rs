//! Bulk data beside the frames that matter.

use bytes::Bytes;
use futures_util::future::join_all;
use parlour_net::{Events, Link, ListenConfig, Received, Sink, Source};
use parlour_wire::{Code, frame::ContentType, header::Fault, limits};

use crate::{
    over_every_carrier,
    rig::{Rig, Way},
    support::{BOUND, Seen, bounded, up},
};

over_every_carrier! {
    streams_arrive_whole_and_in_order_both_ways_at_once,
    a_receiver_that_stops_a_stream_is_heard_by_its_sender,
    a_sender_that_gives_a_stream_up_is_heard_by_its_receiver,
    streams_end_with_their_connection_and_the_session_does_not,
    a_stream_that_nobody_takes_holds_up_nothing_else,
    a_link_carries_many_streams_one_after_another,
}

const CHUNK: usize = limits::STREAM_CHUNK;

/// A server and a client that are up, with the server's end of the link.
async fn pair(way: Way) -> (Rig, Link, Events, Link) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    // A session in which nothing was said is not kept.
    link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
    let (_, pusher) = rig.server.opened().await;
    let peer = pusher.link();
    (rig, link, events, peer)
}

fn stopped(message: &str) -> Fault {
    Fault { code: Code::CANCELLED, message: message.to_owned(), retry_after_ms: None }
}

/// A chunk that knows its place.
fn chunk(stream: u8, n: u32) -> (Bytes, Bytes) {
    let mut content = vec![stream; CHUNK - n as usize % 7];
    content[..4].copy_from_slice(&n.to_be_bytes());
    (Bytes::copy_from_slice(&n.to_le_bytes()), content.into())
}

/// A stream between two ends of the link of `client`. Its sender hears of it by way of that link, as applications do.
async fn open(client: &Link, to: &Link, from: &Link, credit: u32) -> (Sink, Source) {
    let sink = to.sink(credit);
    client.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
    let source = from.source(sink.id(), sink.credit().into());
    (sink, source)
}

async fn send(mut source: Source, stream: u8, chunks: u32) {
    for n in 0..chunks {
        let (mark, content) = chunk(stream, n);
        bounded(source.send(mark, content)).await.unwrap();
    }
    bounded(source.finish(Bytes::copy_from_slice(&[stream]))).await.unwrap();
}

async fn receive(mut sink: Sink, stream: u8, chunks: u32) {
    for n in 0..chunks {
        let (mark, content) = chunk(stream, n);
        let received = bounded(sink.recv()).await.unwrap();
        assert!(received == Received::Chunk { mark, content }, "chunk {n} of {stream}");
    }
    assert_eq!(bounded(sink.recv()).await, Ok(Received::Finished(Bytes::copy_from_slice(&[stream]))));
}

async fn streams_arrive_whole_and_in_order_both_ways_at_once(way: Way) {
    let (_rig, link, _events, peer) = pair(way).await;
    let mut ways = Vec::new();
    for stream in 0..8 {
        let (to, from) = if stream % 2 == 0 { (link.clone(), peer.clone()) } else { (peer.clone(), link.clone()) };
        let (sink, source) = open(&link, &to, &from, 512 * 1024).await;
        ways.push(tokio::spawn(async move {
            tokio::join!(send(source, stream, 100), receive(sink, stream, 100));
        }));
    }
    for done in join_all(ways).await {
        done.unwrap();
    }
}

async fn a_receiver_that_stops_a_stream_is_heard_by_its_sender(way: Way) {
    let (_rig, link, _events, peer) = pair(way).await;
    for (to, from) in [(&link, &peer), (&peer, &link)] {
        let (mut sink, mut source) = open(&link, to, from, 512 * 1024).await;
        let sending = tokio::spawn(async move {
            let mut n = 0;
            loop {
                let (mark, content) = chunk(1, n);
                match source.send(mark, content).await {
                    Ok(()) => n += 1,
                    Err(fault) => break fault,
                }
            }
        });
        for _ in 0..50 {
            bounded(sink.recv()).await.unwrap();
        }
        sink.stop(stopped("enough"));
        assert_eq!(bounded(sending).await.unwrap(), stopped("enough"));
        link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
    }
}

async fn a_sender_that_gives_a_stream_up_is_heard_by_its_receiver(way: Way) {
    let (_rig, link, _events, peer) = pair(way).await;
    for (to, from) in [(&link, &peer), (&peer, &link)] {
        let (mut sink, mut source) = open(&link, to, from, 512 * 1024).await;
        for n in 0..4 {
            let (mark, content) = chunk(1, n);
            bounded(source.send(mark, content)).await.unwrap();
        }
        bounded(sink.recv()).await.unwrap();
        source.abort(stopped("the file has vanished"));
        let fault = loop {
            match bounded(sink.recv()).await {
                Ok(Received::Chunk { .. }) => {}
                Ok(Received::Finished(_)) => panic!("nothing was finished"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, stopped("the file has vanished"));
    }
}

async fn streams_end_with_their_connection_and_the_session_does_not(way: Way) {
    let (_rig, link, mut events, peer) = pair(way).await;
    for (to, from) in [(&link, &peer), (&peer, &link)] {
        let (mut sink, mut source) = open(&link, to, from, 512 * 1024).await;
        let (mark, content) = chunk(1, 0);
        bounded(source.send(mark, content)).await.unwrap();
        bounded(sink.recv()).await.unwrap();
        from.reconnect();
        assert_eq!(bounded(sink.recv()).await.unwrap_err().code, Code::LINK_LOST);
        assert_eq!(bounded(source.stopped()).await.code, Code::LINK_LOST);
        assert!(up(&mut events).await, "the session goes on");
        let (sink, source) = open(&link, to, from, 512 * 1024).await;
        tokio::join!(send(source, 2, 10), receive(sink, 2, 10));
    }
}

async fn a_stream_that_nobody_takes_holds_up_nothing_else(way: Way) {
    let (mut rig, link, _events, peer) = pair(way).await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (sink, mut source) = open(&link, &link, &peer, 4 * 1024 * 1024).await;
        let sending = tokio::spawn(async move {
            let mut n = 0;
            while let Ok(()) = {
                let (mark, content) = chunk(1, n);
                source.send(mark, content).await
            } {
                n += 1;
            }
        });
        stuck.push((sink, sending));
    }
    for n in 0_u32..50 {
        let content = Bytes::copy_from_slice(&n.to_be_bytes());
        link.request_raw("echo", ContentType::CBOR, content.clone(), BOUND).await.unwrap();
        link.action_raw("note", ContentType::CBOR, content.clone()).unwrap();
        assert!(matches!(rig.server.next().await, Seen::Action(action) if action.content == content));
    }
    let (sink, source) = open(&link, &link, &peer, 512 * 1024).await;
    tokio::join!(send(source, 2, 100), receive(sink, 2, 100));
    for (sink, sending) in stuck {
        assert!(!sending.is_finished());
        drop(sink);
        bounded(sending).await.unwrap();
    }
}

async fn a_link_carries_many_streams_one_after_another(way: Way) {
    let (_rig, link, _events, peer) = pair(way).await;
    for n in 0..4 * limits::STREAMS {
        let (sink, source) = open(&link, &link, &peer, 256 * 1024).await;
        match n % 3 {
            0 => drop(source),
            1 => drop(sink),
            _ => {
                tokio::join!(send(source, 3, 2), receive(sink, 3, 2));
            }
        }
    }
}
