//! Peers that speak the raw protocol and mean harm: sizes, hashes, orders and silences that nobody should send.

use std::time::Duration;

use bytes::Bytes;
use parlour_net::{Answer, Code, CopyOptions, Fault, FileError, Link, LinkEvent, Peer, Received, Source, Station, StationConfig};
use parlour_wire::{
    api::Call,
    decode, encode,
    files::{Closing, Destination, MARK_INTERVAL, Mark, Opening, Part, Pull, Push, PushAnswer, Settle, Whole},
    frame::ContentType,
    limits,
};

use crate::world::{MIB, World, agent_config, bounded, content, hash, identity, names, open_box, parts};

const CBOR: ContentType = ContentType::CBOR;
const NOTHING: Part = Part { size: 0, hash: [0; 32] };

pub async fn ask<T: Call>(link: &Link, request: &T) -> Result<T::Answer, Fault> {
    let answer = bounded(link.request_raw(T::NAME, CBOR, encode(request).into(), Duration::from_secs(20))).await?;
    Ok(decode(&answer.content).unwrap())
}

pub fn offer(path: &str, size: u64) -> Push {
    Push { path: path.into(), size, replace: false, afresh: false, hash: None }
}

/// A push whose sender is the test itself.
pub struct Raw {
    source: Source,
    into: Destination,
    settled: tokio::task::JoinHandle<Result<Whole, Fault>>,
}

impl Raw {
    async fn begin(world: &World, push: Push) -> Self {
        Self::begin_over(world.agent.link(), push).await
    }

    pub async fn begin_over(link: &Link, push: Push) -> Self {
        let link = link.clone();
        let into = ask(&link, &push).await.unwrap().into.unwrap();
        let source = link.source(into.stream, into.credit);
        let settle = Settle { stream: into.stream };
        let settled = tokio::spawn(async move { ask(&link, &settle).await });
        Self { source, into, settled }
    }

    pub async fn open(&mut self, from: u64, size: u64) {
        let opening = Opening { from, size, modified_ms: None };
        self.send(&encode(&opening), &[]).await;
    }

    /// The receiver may have stopped the stream.
    async fn send(&mut self, mark: &[u8], content: &[u8]) {
        let _ = bounded(self.source.send(Bytes::copy_from_slice(mark), Bytes::copy_from_slice(content))).await;
    }

    pub async fn data(&mut self, content: &[u8]) {
        for chunk in content.chunks(limits::STREAM_CHUNK) {
            self.send(&[], chunk).await;
        }
    }

    pub async fn finish(self, size: u64, hash: [u8; 32]) -> Result<Whole, Fault> {
        let words = encode(&Closing { whole: Some(Whole { size, hash }) });
        let _ = bounded(self.source.finish(words.into())).await;
        bounded(self.settled).await.unwrap()
    }

    pub async fn refused(self) -> Code {
        let _source = self.source;
        bounded(self.settled).await.unwrap().unwrap_err().code
    }
}

/// The other links and transfers do not notice.
pub async fn all_is_well(world: &World) {
    let bytes = content(3 * MIB, 77);
    let local = world.here("well", &bytes);
    world.push(&local, "box/well").await.unwrap();
    assert_eq!(hash(&std::fs::read(world.there("well")).unwrap()), hash(&bytes));
    std::fs::remove_file(world.there("well")).unwrap();
}

#[tokio::test]
async fn paths_that_only_a_hostile_peer_sends_are_refused_by_name() {
    let world = World::new().await;
    let link = world.agent.link();
    for path in ["box/../x", "/etc/passwd", "box/..", "..", "", "box/a\0b", "box\\x", "box/C:/x", "box/.x.0123456789abcdef.part"]
    {
        let pull = Pull { path: path.into(), stream: 9, credit: 1 << 20, part: NOTHING };
        assert_eq!(ask(link, &pull).await.unwrap_err().code, Code::PATH_REFUSED, "{path:?}");
        assert_eq!(ask(link, &offer(path, 10)).await.unwrap_err().code, Code::PATH_REFUSED, "{path:?}");
    }
    let long = ask(link, &offer(&"x".repeat(5000), 10)).await.unwrap_err();
    assert_eq!(long.code, Code::BAD_REQUEST);
    for content in [&b"\xff\xff"[..], b"", &[0; 100]] {
        for name in [Pull::NAME, Push::NAME, Settle::NAME, "parlour.files.stat"] {
            let refused = bounded(link.request_raw(name, CBOR, Bytes::copy_from_slice(content), Duration::from_secs(9))).await;
            assert_eq!(refused.unwrap_err().code, Code::BAD_REQUEST);
        }
    }
    let json = bounded(link.request_raw(Push::NAME, ContentType::JSON, Bytes::from_static(b"{}"), Duration::from_secs(9))).await;
    assert_eq!(json.unwrap_err().code, Code::BAD_REQUEST);
    all_is_well(&world).await;
}

#[tokio::test]
async fn a_petabyte_is_announced_and_nothing_happens() {
    let world = World::with(|builder, there| builder.root(open_box(there).quota(1 << 30))).await;
    let refused = ask(world.agent.link(), &offer("box/x", 1 << 50)).await.unwrap_err();
    assert_eq!(refused.code, Code::QUOTA);
    let refused = ask(world.agent.link(), &offer("box/x", u64::MAX)).await.unwrap_err();
    assert_eq!(refused.code, Code::BAD_REQUEST);
    assert_eq!(world.files.used("box"), Some((0, 0)));
    assert!(names(world.there.path()).is_empty());
    all_is_well(&world).await;

    // Without a quota it may be announced, and takes no room for that.
    let world = World::new().await;
    let mut raw = Raw::begin(&world, offer("box/x", 1 << 50)).await;
    raw.open(0, 1 << 50).await;
    raw.data(b"little").await;
    assert_eq!(raw.finish(6, hash(b"little")).await.unwrap_err().code, Code::SIZE_MISMATCH);
    assert!(!world.there("x").exists());
    all_is_well(&world).await;
}

#[tokio::test]
async fn more_than_was_announced_is_refused() {
    let world = World::new().await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 60]).await;
    raw.data(&[1; 41]).await;
    assert_eq!(raw.refused().await, Code::SIZE_MISMATCH);
    // Another size in the opening than in the offer.
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 101).await;
    assert_eq!(raw.refused().await, Code::SIZE_MISMATCH);
    assert!(names(world.there.path()).is_empty());
    all_is_well(&world).await;
}

#[tokio::test]
async fn less_than_was_announced_is_no_file() {
    let world = World::new().await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 99]).await;
    assert_eq!(raw.finish(99, hash(&[1; 99])).await.unwrap_err().code, Code::SIZE_MISMATCH);
    let raw = Raw::begin(&world, offer("box/y", 100)).await;
    assert_eq!(raw.finish(0, hash(&[])).await.unwrap_err().code, Code::BAD_REQUEST);
    assert!(!world.there("x").exists() && !world.there("y").exists());
    all_is_well(&world).await;
}

#[tokio::test]
async fn a_wrong_hash_at_the_end_gives_no_file() {
    ends_with_a_wrong_hash(&World::new().await).await;
}

pub async fn ends_with_a_wrong_hash(world: &World) {
    let mut raw = Raw::begin(world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 100]).await;
    assert_eq!(raw.finish(100, [7; 32]).await.unwrap_err().code, Code::HASH_MISMATCH);
    assert!(names(world.there.path()).is_empty());
    all_is_well(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_hash_on_the_way_costs_what_came_since_the_last_good_one() {
    has_a_wrong_hash_on_the_way(&World::new().await).await;
}

pub async fn has_a_wrong_hash_on_the_way(world: &World) {
    let bytes = content(3 * MARK_INTERVAL, 1);
    let (mark, size) = (usize::try_from(MARK_INTERVAL).unwrap(), 3 * MARK_INTERVAL);
    let mut raw = Raw::begin(world, offer("box/x", size)).await;
    raw.open(0, size).await;
    raw.data(&bytes[..mark]).await;
    raw.send(&encode(&Mark { hash: hash(&bytes[..mark]) }), &bytes[mark..mark + 1000]).await;
    let mut second = bytes[mark + 1000..2 * mark].to_vec();
    second[5000] ^= 1;
    // Chunks of other sizes than ours, too.
    for chunk in second.chunks(60_000) {
        raw.send(&[], chunk).await;
    }
    raw.send(&encode(&Mark { hash: hash(&bytes[..2 * mark]) }), &bytes[2 * mark..2 * mark + 10]).await;
    assert_eq!(raw.refused().await, Code::HASH_MISMATCH);
    let part = parts(world.there.path());
    assert_eq!(std::fs::metadata(world.there(&part[0])).unwrap().len(), MARK_INTERVAL);

    // An honest sender goes on from there.
    let local = world.here("x", &bytes);
    let copied = world.push(&local, "box/x").await.unwrap();
    assert_eq!((copied.hash, copied.moved), (hash(&bytes), 2 * MARK_INTERVAL));
    assert!(std::fs::read(world.there("x")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_keep_to_the_rules_is_ended() {
    let world = World::new().await;
    let interval = usize::try_from(MARK_INTERVAL).unwrap();
    let refused = async |n: u32, size: u64, act: &dyn Fn(Raw) -> futures_util::future::BoxFuture<'static, Raw>| {
        let raw = Raw::begin(&world, offer(&format!("box/{n}"), size)).await;
        act(raw).await.refused().await
    };
    // Data before the opening.
    let code = refused(1, 10, &|mut raw| {
        Box::pin(async move {
            raw.data(b"x").await;
            raw
        })
    })
    .await;
    assert_eq!(code, Code::BAD_REQUEST);
    // A beginning in the middle of what is not there.
    let code = refused(2, 10, &|mut raw| {
        Box::pin(async move {
            raw.open(5, 10).await;
            raw
        })
    })
    .await;
    assert_eq!(code, Code::BAD_REQUEST);
    // A mark where none belongs.
    let act = |mut raw: Raw| -> futures_util::future::BoxFuture<'static, Raw> {
        Box::pin(async move {
            raw.open(0, 10).await;
            raw.data(b"12345").await;
            raw.send(&encode(&Mark { hash: hash(b"12345") }), b"6").await;
            raw
        })
    };
    assert_eq!(refused(3, 10, &act).await, Code::BAD_REQUEST);
    // A mark that is missing.
    let act = move |mut raw: Raw| -> futures_util::future::BoxFuture<'static, Raw> {
        Box::pin(async move {
            raw.open(0, 2 * MARK_INTERVAL).await;
            raw.data(&vec![0; interval + 1]).await;
            raw
        })
    };
    assert_eq!(refused(4, 2 * MARK_INTERVAL, &act).await, Code::BAD_REQUEST);
    // A chunk that reaches over a mark.
    let act = move |mut raw: Raw| -> futures_util::future::BoxFuture<'static, Raw> {
        Box::pin(async move {
            raw.open(0, 2 * MARK_INTERVAL).await;
            raw.data(&vec![0; interval - 10]).await;
            raw.send(&[], &[0; 11]).await;
            raw
        })
    };
    assert_eq!(refused(5, 2 * MARK_INTERVAL, &act).await, Code::BAD_REQUEST);
    // Marks and last words that cannot be read.
    let act = |mut raw: Raw| -> futures_util::future::BoxFuture<'static, Raw> {
        Box::pin(async move {
            raw.send(b"\xff\xfe", &[]).await;
            raw
        })
    };
    assert_eq!(refused(6, 10, &act).await, Code::BAD_REQUEST);
    let raw = Raw::begin(&world, offer("box/7", 0)).await;
    bounded(raw.source.finish(Bytes::from_static(b"good bye"))).await.unwrap();
    assert_eq!(bounded(raw.settled).await.unwrap().unwrap_err().code, Code::BAD_REQUEST);
    assert!(names(world.there.path()).iter().all(|name| name.starts_with('.')));
    all_is_well(&world).await;
}

#[tokio::test]
async fn data_after_the_end_is_ignored() {
    let world = World::new().await;
    let mut raw = Raw::begin(&world, offer("box/x", 5)).await;
    raw.open(0, 5).await;
    raw.data(b"hello").await;
    let into = raw.into;
    let settled = raw.finish(5, hash(b"hello")).await.unwrap();
    assert_eq!(settled, Whole { size: 5, hash: hash(b"hello") });
    let mut more = world.agent.link().source(into.stream, into.credit);
    let _ = bounded(more.send(Bytes::new(), Bytes::from_static(b" world"))).await;
    assert_eq!(bounded(more.stopped()).await.code, Code::CANCELLED);
    assert_eq!(std::fs::read(world.there("x")).unwrap(), b"hello");
    all_is_well(&world).await;
}

#[tokio::test]
async fn a_sender_that_stalls_is_given_up_and_its_part_kept() {
    let idle = Duration::from_millis(200);
    let world = World::with(|builder, there| builder.root(open_box(there)).idle(idle)).await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 50]).await;
    assert_eq!(raw.refused().await, Code::TIMED_OUT);
    assert_eq!(parts(world.there.path()).len(), 1);
    all_is_well(&world).await;
}

#[tokio::test]
async fn an_offer_that_is_never_taken_up_is_forgotten() {
    let idle = Duration::from_millis(100);
    let mut world = World::with(|builder, there| builder.root(open_box(there).quota(1000)).idle(idle)).await;
    let into = ask(world.agent.link(), &offer("box/x", 600)).await.unwrap().into.unwrap();
    assert_eq!(world.files.used("box"), Some((0, 600)));
    loop {
        let event = bounded(world.events.recv()).await.unwrap();
        if event.stage == parlour_net::FileStage::Failed(FileError::Stalled(idle)) {
            break;
        }
    }
    let late = ask(world.agent.link(), &Settle { stream: into.stream }).await.unwrap_err();
    assert_eq!(late.code, Code::LINK_LOST);
    let local = world.here("y", &content(1000, 1));
    world.push(&local, "box/y").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stops_reading_is_given_up() {
    let idle = Duration::from_millis(300);
    let mut world = World::with(|builder, there| builder.root(open_box(there)).idle(idle)).await;
    std::fs::write(world.there("x"), content(32 * MIB, 1)).unwrap();
    let link = world.agent.link();
    let mut sink = link.sink(1 << 20);
    let pull = Pull { path: "box/x".into(), stream: sink.id(), credit: 1 << 20, part: NOTHING };
    let refused = ask(link, &pull).await.unwrap_err();
    assert_eq!(refused.code, Code::TIMED_OUT);
    while let Ok(Received::Chunk { .. }) = bounded(sink.recv()).await {}
    loop {
        let event = bounded(world.events.recv()).await.unwrap();
        if event.stage == parlour_net::FileStage::Failed(FileError::Stalled(idle)) {
            break;
        }
    }
    all_is_well(&world).await;
}

#[tokio::test]
async fn a_settling_of_a_stream_that_is_not_ours_is_refused() {
    let world = World::new().await;
    let other = world.another_agent(2).await;
    let mut raw = Raw::begin(&world, offer("box/x", 5)).await;
    raw.open(0, 5).await;
    let refused = ask(other.link(), &Settle { stream: raw.into.stream }).await.unwrap_err();
    assert_eq!(refused.code, Code::LINK_LOST);
    raw.data(b"hello").await;
    assert!(raw.finish(5, hash(b"hello")).await.is_ok());
}

/// A station that answers requests of files as the test wants it.
async fn liar(
    pull: impl Fn(Link, Pull) -> futures_util::future::BoxFuture<'static, Result<(), Fault>> + Send + Sync + 'static,
) -> (Station, Link, tokio::task::JoinHandle<()>) {
    let station = Station::bind(StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap())).await.unwrap();
    // The agent is the one that lies: it takes the station's requests raw.
    let (link, mut events) = Link::connect(agent_config(&station, 3).connect);
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

#[tokio::test]
async fn what_a_lying_sender_sends_is_found_out_by_the_one_who_pulls() {
    let opening = |size| encode(&Opening { from: 0, size, modified_ms: None });
    let (station, _link, _task) = liar(move |link, pull| {
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

    let (station, _link, _task) = liar(move |link, pull| {
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

    let (station, _link, _task) = liar(move |link, pull| {
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

#[tokio::test]
async fn a_peer_that_loses_every_transfer_is_given_up() {
    let (station, _link, _task) = liar(|_, _| Box::pin(async { Err(Fault::new(Code::LINK_LOST, "so sorry")) })).await;
    let (error, left) = pulled_from(&station, CopyOptions::default()).await;
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_sender_that_breaks_off_every_pull_is_given_up() {
    let (station, _link, _task) = liar(|link, pull| {
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

#[tokio::test]
async fn a_receiver_that_drops_every_push_is_given_up() {
    let here = tempfile::tempdir().unwrap();
    let local = here.path().join("x");
    std::fs::write(&local, content(8 * MIB, 1)).unwrap();
    let station = Station::bind(StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (link, mut events) = Link::connect(agent_config(&station, 3).connect);
    let answering = tokio::spawn(async move {
        let mut sink = None;
        while let Some(event) = events.next().await {
            let LinkEvent::Request { id, name, .. } = event else { continue };
            // The settling is never answered: what becomes of the stream says enough.
            if name == Push::NAME {
                let taken = link.sink(1 << 20);
                let into = Some(Destination { stream: taken.id(), credit: 1 << 20, part: NOTHING });
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

#[tokio::test]
async fn a_push_that_the_receiver_claims_to_have_without_being_told_is_not_believed() {
    let here = tempfile::tempdir().unwrap();
    let local = here.path().join("x");
    std::fs::write(&local, b"hello").unwrap();
    let station = Station::bind(StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (link, mut events) = Link::connect(agent_config(&station, 3).connect);
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
