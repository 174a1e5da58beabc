//! Agents that lie: they answer what their station asks of files as no honest one does.

use std::time::Duration;

use bytes::Bytes;
use parlour_net::{Answer, Code, CopyOptions, Events, Fault, FileError, Link, LinkEvent, Peer, Source, Station, StationConfig};
use parlour_wire::{
    api::Call,
    decode, encode,
    files::{Closing, Destination, Opening, Pull, Push, PushAnswer, Whole},
    limits,
};

use crate::{
    over_every_carrier,
    raw::{CBOR, NOTHING},
    world::{MIB, Placed, Way, anywhere, bounded, config_to, content, identity, names},
};

over_every_carrier! {
    what_a_lying_sender_sends_is_found_out_by_the_one_who_pulls,
    a_peer_that_loses_every_transfer_is_given_up,
    a_sender_that_breaks_off_every_pull_is_given_up,
    a_receiver_that_drops_every_push_is_given_up,
    a_push_that_the_receiver_claims_to_have_without_being_told_is_not_believed,
}

/// A station, and the link of an agent that takes its requests raw.
async fn raw_agent(way: Way) -> (Station, Link, Events) {
    let config = StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap());
    let placed = Placed::at(anywhere(way), config).await;
    let (link, events) = Link::connect(config_to(&placed.address, 3).await.connect);
    (placed.station, link, events)
}

/// A station whose agent answers pulls as the test wants it.
async fn liar(
    way: Way,
    pull: impl Fn(Link, Pull) -> futures_util::future::BoxFuture<'static, Result<(), Fault>> + Send + Sync + 'static,
) -> (Station, Link, tokio::task::JoinHandle<()>) {
    let (station, link, mut events) = raw_agent(way).await;
    let answering = tokio::spawn({
        let link = link.clone();
        async move {
            while let Some(event) = events.next().await {
                if let LinkEvent::Request { id, name, content, .. } = event {
                    assert_eq!(name, Pull::NAME);
                    let result = pull(link.clone(), decode(&content).unwrap()).await;
                    let _ = link.answer(id, result.map(|()| Answer { content_type: CBOR, content: Bytes::new() }));
                }
            }
        }
    });
    bounded(link.wait_up()).await.unwrap();
    (station, link, answering)
}

/// The one who lies, once it is there.
async fn peer_of(station: &Station) -> Peer {
    bounded(async {
        loop {
            if let Some(peer) = station.peer(&identity(3).key()) {
                return peer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn pulled_from(liar: &Station, options: CopyOptions) -> (FileError, Vec<String>) {
    let peer = peer_of(liar).await;
    let folder = tempfile::tempdir().unwrap();
    let error = bounded(peer.link().pull_with("box/x", folder.path().join("x"), options)).await.unwrap_err();
    (error, names(folder.path()))
}

async fn say(source: &mut Source, mark: Vec<u8>, content: &'static [u8]) {
    let _ = source.send(mark.into(), Bytes::from_static(content)).await;
}

async fn what_a_lying_sender_sends_is_found_out_by_the_one_who_pulls(way: Way) {
    let opening = |size| encode(&Opening { from: 0, size, modified_ms: None });
    let (station, _link, _task) = liar(way, move |link, pull| {
        Box::pin(async move {
            let mut source = link.source(pull.stream, pull.credit);
            say(&mut source, opening(5), &[]).await;
            say(&mut source, vec![], b"hello").await;
            let whole = Whole { size: 5, hash: [0; 32] };
            let _ = source.finish(encode(&Closing { whole: Some(whole) }).into()).await;
            Ok(())
        })
    })
    .await;
    let (error, left) = pulled_from(&station, CopyOptions::default()).await;
    assert_eq!((error, left), (FileError::HashMismatch { offset: 0 }, vec![]));

    let (station, _link, _task) = liar(way, move |link, pull| {
        Box::pin(async move {
            let mut source = link.source(pull.stream, pull.credit);
            say(&mut source, opening(1 << 50), &[]).await;
            say(&mut source, vec![], b"hello").await;
            let _ = source.stopped().await;
            Ok(())
        })
    })
    .await;
    let options = CopyOptions { max_file: 1 << 40, ..CopyOptions::default() };
    let (error, left) = pulled_from(&station, options).await;
    assert_eq!((error, left), (FileError::TooLarge { size: 1 << 50, limit: 1 << 40 }, vec![]));

    let (station, _link, _task) = liar(way, move |link, pull| {
        Box::pin(async move {
            let mut source = link.source(pull.stream, pull.credit);
            say(&mut source, opening(5), &[]).await;
            let _ = source.stopped().await;
            Ok(())
        })
    })
    .await;
    let idle = Duration::from_millis(200);
    let (error, left) = pulled_from(&station, CopyOptions { idle, ..CopyOptions::default() }).await;
    assert_eq!((error, left), (FileError::Stalled(idle), vec![]));
}

async fn a_peer_that_loses_every_transfer_is_given_up(way: Way) {
    let (station, _link, _task) = liar(way, |_, _| Box::pin(async { Err(Fault::new(Code::LINK_LOST, "so sorry")) })).await;
    let (error, left) = pulled_from(&station, CopyOptions::default()).await;
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
    assert!(left.is_empty());
}

async fn a_sender_that_breaks_off_every_pull_is_given_up(way: Way) {
    let (station, _link, _task) = liar(way, |link, pull| {
        Box::pin(async move {
            let mut source = link.source(pull.stream, pull.credit);
            say(&mut source, encode(&Opening { from: 0, size: 1 << 30, modified_ms: None }), &[]).await;
            // More than waits here, so that some of it arrives.
            for _ in 0..16 {
                say(&mut source, vec![], &[1; limits::STREAM_CHUNK]).await;
            }
            source.abort(Fault::new(Code::CANCELLED, "so sorry"));
            Ok(())
        })
    })
    .await;
    let (error, _) = pulled_from(&station, CopyOptions::default()).await;
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
}

async fn a_receiver_that_drops_every_push_is_given_up(way: Way) {
    let here = tempfile::tempdir().unwrap();
    let local = here.path().join("x");
    std::fs::write(&local, content(8 * MIB, 1)).unwrap();
    let (station, link, mut events) = raw_agent(way).await;
    let answering = tokio::spawn(async move {
        let mut sink = None;
        while let Some(event) = events.next().await {
            let LinkEvent::Request { id, name, .. } = event else { continue };
            // The settling is never answered: what becomes of the stream says enough.
            if name == Push::NAME {
                let taken = link.sink(1 << 20);
                let into = Some(Destination { stream: taken.id(), credit: taken.credit().into(), part: NOTHING });
                let _ = link.answer(id, Ok(Answer { content_type: CBOR, content: encode(&PushAnswer { into }).into() }));
                sink = Some(taken);
            } else if let Some(mut sink) = sink.take() {
                let _ = sink.recv().await;
                sink.stop(Fault::new(Code::CANCELLED, "so sorry"));
                let _ = link.answer(id, Err(Fault::new(Code::LINK_LOST, "so sorry")));
            }
        }
    });
    let peer = peer_of(&station).await;
    let error = bounded(peer.link().push(&local, "box/x")).await.unwrap_err();
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
    answering.abort();
}

async fn a_push_that_the_receiver_claims_to_have_without_being_told_is_not_believed(way: Way) {
    let here = tempfile::tempdir().unwrap();
    let local = here.path().join("x");
    std::fs::write(&local, b"hello").unwrap();
    let (station, link, mut events) = raw_agent(way).await;
    let answering = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let LinkEvent::Request { id, .. } = event {
                let content = encode(&PushAnswer { into: None }).into();
                let _ = link.answer(id, Ok(Answer { content_type: CBOR, content }));
            }
        }
    });
    let peer = peer_of(&station).await;
    let error = bounded(peer.link().push(&local, "box/x")).await.unwrap_err();
    assert!(matches!(error, FileError::Rules(_)), "{error:?}");
    answering.abort();
}
