//! Peers that speak the raw protocol and mean harm: sizes, hashes, orders and silences that nobody should send.

use std::time::Duration;

use bytes::Bytes;
use parlour_net::{Code, FileError, FileStage, Received};
use parlour_wire::{
    api::Call,
    encode,
    files::{MARK_INTERVAL, Mark, Pull, Push, Settle, Whole},
    frame::ContentType,
};

use crate::{
    over_every_carrier,
    raw::{CBOR, NOTHING, Raw, all_is_well, ask, offer},
    world::{MIB, Way, World, bounded, content, hash, names, open_box, parts},
};

/// After so much silence a transfer is given up; an honest one is never silent for so long, on a loaded machine either.
const IDLE: Duration = Duration::from_secs(1);

over_every_carrier! {
    paths_that_only_a_hostile_peer_sends_are_refused_by_name,
    a_petabyte_is_announced_and_nothing_happens,
    more_than_was_announced_is_refused,
    less_than_was_announced_is_no_file,
    a_wrong_hash_at_the_end_gives_no_file,
    a_wrong_hash_on_the_way_costs_what_came_since_the_last_good_one,
    a_stream_that_does_not_keep_to_the_rules_is_ended,
    data_after_the_end_is_ignored,
    a_sender_that_stalls_is_given_up_and_its_part_kept,
    an_offer_that_is_never_taken_up_is_forgotten,
    a_receiver_that_stops_reading_is_given_up,
    a_settling_of_a_stream_that_is_not_ours_is_refused,
}

async fn paths_that_only_a_hostile_peer_sends_are_refused_by_name(way: Way) {
    let world = World::over(way).await;
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

async fn a_petabyte_is_announced_and_nothing_happens(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).quota(1 << 30))).await;
    let refused = ask(world.agent.link(), &offer("box/x", 1 << 50)).await.unwrap_err();
    assert_eq!(refused.code, Code::QUOTA);
    let refused = ask(world.agent.link(), &offer("box/x", u64::MAX)).await.unwrap_err();
    assert_eq!(refused.code, Code::BAD_REQUEST);
    assert_eq!(world.files.used("box"), Some((0, 0)));
    assert!(names(world.there.path()).is_empty());
    all_is_well(&world).await;

    // Without a quota it may be announced, and takes no room for that.
    let world = World::over(way).await;
    let mut raw = Raw::begin(&world, offer("box/x", 1 << 50)).await;
    raw.open(0, 1 << 50).await;
    raw.data(b"little").await;
    assert_eq!(raw.finish(6, hash(b"little")).await.unwrap_err().code, Code::SIZE_MISMATCH);
    assert!(!world.there("x").exists());
    all_is_well(&world).await;
}

async fn more_than_was_announced_is_refused(way: Way) {
    let world = World::over(way).await;
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

async fn less_than_was_announced_is_no_file(way: Way) {
    let world = World::over(way).await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 99]).await;
    assert_eq!(raw.finish(99, hash(&[1; 99])).await.unwrap_err().code, Code::SIZE_MISMATCH);
    let raw = Raw::begin(&world, offer("box/y", 100)).await;
    assert_eq!(raw.finish(0, hash(&[])).await.unwrap_err().code, Code::BAD_REQUEST);
    assert!(!world.there("x").exists() && !world.there("y").exists());
    all_is_well(&world).await;
}

async fn a_wrong_hash_at_the_end_gives_no_file(way: Way) {
    let world = World::over(way).await;
    let other = world.another_agent(2).await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 100]).await;
    assert_eq!(raw.finish(100, [7; 32]).await.unwrap_err().code, Code::HASH_MISMATCH);
    assert!(names(world.there.path()).is_empty());
    all_is_well(&world).await;
    let asked = bounded(other.request::<u64>("echo", &7).into_future()).await;
    assert_eq!(asked.unwrap(), 7, "another link goes on");
}

async fn a_wrong_hash_on_the_way_costs_what_came_since_the_last_good_one(way: Way) {
    let world = World::over(way).await;
    let bytes = content(3 * MARK_INTERVAL, 1);
    let (mark, size) = (usize::try_from(MARK_INTERVAL).unwrap(), 3 * MARK_INTERVAL);
    let mut raw = Raw::begin(&world, offer("box/x", size)).await;
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

async fn a_stream_that_does_not_keep_to_the_rules_is_ended(way: Way) {
    let world = World::over(way).await;
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

async fn data_after_the_end_is_ignored(way: Way) {
    let world = World::over(way).await;
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

async fn a_sender_that_stalls_is_given_up_and_its_part_kept(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).idle(IDLE)).await;
    let mut raw = Raw::begin(&world, offer("box/x", 100)).await;
    raw.open(0, 100).await;
    raw.data(&[1; 50]).await;
    assert_eq!(raw.refused().await, Code::TIMED_OUT);
    assert_eq!(parts(world.there.path()).len(), 1);
    all_is_well(&world).await;
}

/// Waits until the end that serves is told that a transfer has stalled.
async fn told_of_stalling(world: &mut World) {
    while bounded(world.events.recv()).await.unwrap().stage != FileStage::Failed(FileError::Stalled(IDLE)) {}
}

async fn an_offer_that_is_never_taken_up_is_forgotten(way: Way) {
    let mut world =
        World::over_with(way, |builder, there| builder.root(open_box(there).quota(1000)).idle(IDLE).max_transfers(1)).await;
    let into = ask(world.agent.link(), &offer("box/x", 600)).await.unwrap().into.unwrap();
    assert_eq!(world.files.used("box"), Some((0, 600)));
    told_of_stalling(&mut world).await;
    assert_eq!(world.files.used("box"), Some((0, 0)), "there is room again by the time that somebody is told");
    let again = ask(world.agent.link(), &offer("box/z", 600)).await.unwrap().into.unwrap();
    assert_ne!(again.stream, into.stream, "and the place");
    told_of_stalling(&mut world).await;
    let late = ask(world.agent.link(), &Settle { stream: into.stream }).await.unwrap_err();
    assert_eq!(late.code, Code::LINK_LOST);
    let local = world.here("y", &content(1000, 1));
    world.push(&local, "box/y").await.unwrap();
}

async fn a_receiver_that_stops_reading_is_given_up(way: Way) {
    let mut world = World::over_with(way, |builder, there| builder.root(open_box(there)).idle(IDLE)).await;
    std::fs::write(world.there("x"), content(32 * MIB, 1)).unwrap();
    let link = world.agent.link();
    let mut sink = link.sink(1 << 20);
    let pull = Pull { path: "box/x".into(), stream: sink.id(), credit: sink.credit().into(), part: NOTHING };
    let refused = ask(link, &pull).await.unwrap_err();
    assert_eq!(refused.code, Code::TIMED_OUT);
    while let Ok(Received::Chunk { .. }) = bounded(sink.recv()).await {}
    told_of_stalling(&mut world).await;
    all_is_well(&world).await;
}

async fn a_settling_of_a_stream_that_is_not_ours_is_refused(way: Way) {
    let world = World::over(way).await;
    let other = world.another_agent(2).await;
    let mut raw = Raw::begin(&world, offer("box/x", 5)).await;
    raw.open(0, 5).await;
    let refused = ask(other.link(), &Settle { stream: raw.into.stream }).await.unwrap_err();
    assert_eq!(refused.code, Code::LINK_LOST);
    raw.data(b"hello").await;
    assert!(raw.finish(5, hash(b"hello")).await.is_ok());
}
