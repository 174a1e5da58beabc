//! All places for transfers are taken: who gets one, whose it was, and what becomes of that transfer.

use std::time::Duration;

use parlour_net::{Agent, Code, FilesBuilder};
use tempfile::TempDir;

use crate::{
    over_every_carrier,
    raw::{Raw, all_is_well, ask, offer},
    world::{MIB, Way, World, bounded, content, hash, open_box, parts, reached},
};

/// What a peer sends that is in no hurry.
const LITTLE: &[u8] = b"little";

over_every_carrier! {
    peers_that_hold_all_places_and_trickle_do_not_keep_others_out,
    many_peers_that_trickle_do_not_keep_out_one_that_moves,
    an_offer_that_nobody_takes_up_does_not_hold_its_place_against_others,
    a_push_that_had_to_make_room_goes_on_by_itself_when_there_is_some,
}

/// Pushes that are under way and hold their places without moving: as those of a peer that sends a byte now and then.
async fn loiter(world: &World, agent: &Agent, names: &[&str]) -> Vec<Raw> {
    let mut raws = Vec::new();
    for name in names {
        let mut raw = Raw::begin_over(agent.link(), offer(&format!("box/{name}"), MIB)).await;
        raw.open(0, MIB).await;
        raw.data(LITTLE).await;
        // Until its settling and its bytes have arrived, each by its own way, it is an offer that nobody has taken up.
        let begin = format!(".{name}.");
        let is_there = |part: &String| {
            part.starts_with(&begin) && std::fs::metadata(world.there(part)).is_ok_and(|file| file.len() == LITTLE.len() as u64)
        };
        bounded(async {
            while !parts(world.there.path()).iter().any(is_there) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        raws.push(raw);
    }
    raws
}

async fn peers_that_hold_all_places_and_trickle_do_not_keep_others_out(way: Way) {
    let world =
        World::over_with(way, |builder, there| builder.root(open_box(there)).max_transfers(2).max_transfers_in_all(4)).await;
    let others = [world.another_agent(2).await, world.another_agent(3).await];
    let first = loiter(&world, &others[0], &["a", "b"]).await;
    let second = loiter(&world, &others[1], &["c", "d"]).await;
    // Two have two places each; the third gets one of those, and the other three transfers go on.
    all_is_well(&world).await;
    let mut codes = Vec::new();
    for raw in first.into_iter().chain(second) {
        let mut raw = raw;
        raw.data(&vec![0; MIB as usize - LITTLE.len()]).await;
        let mut whole = vec![0; MIB as usize];
        whole[..LITTLE.len()].copy_from_slice(LITTLE);
        codes.push(raw.finish(MIB, hash(&whole)).await.err().map(|fault| (fault.code, fault.retry_after_ms)));
    }
    codes.sort();
    assert_eq!(codes, [None, None, None, Some((Code::RATE_LIMITED, Some(1000)))]);
}

async fn many_peers_that_trickle_do_not_keep_out_one_that_moves(way: Way) {
    // No time at all to be slow in.
    let slow = |builder: FilesBuilder, there: &TempDir| {
        builder.root(open_box(there)).max_transfers_in_all(2).pace(2 * MIB, Duration::ZERO)
    };
    let world = World::over_with(way, slow).await;
    let others = [world.another_agent(2).await, world.another_agent(3).await];
    let first = loiter(&world, &others[0], &["a"]).await;
    let _second = loiter(&world, &others[1], &["b"]).await;
    all_is_well(&world).await;
    let first = first.into_iter().next().unwrap();
    assert_eq!(first.refused().await, Code::RATE_LIMITED, "the one that was slow for longest");
    // What it had sent is kept for its next try.
    assert!(parts(world.there.path()).iter().any(|name| name.starts_with(".a.")));
}

async fn an_offer_that_nobody_takes_up_does_not_hold_its_place_against_others(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).max_transfers_in_all(2)).await;
    let other = world.another_agent(2).await;
    for name in ["box/a", "box/b"] {
        ask(other.link(), &offer(name, MIB)).await.unwrap().into.unwrap();
    }
    all_is_well(&world).await;
}

async fn a_push_that_had_to_make_room_goes_on_by_itself_when_there_is_some(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).max_transfers_in_all(2)).await;
    let (bytes, other) = (content(256 * MIB, 5), world.another_agent(2).await);
    let local = world.here("x", &bytes);
    let transfers = ["box/1", "box/2"].map(|name| world.agent.link().push(&local, name));
    for transfer in &transfers {
        reached(transfer, 8 * MIB).await;
    }
    let small = world.here("small", b"small");
    bounded(other.link().push(&small, "box/3")).await.unwrap();
    for transfer in transfers {
        let copied = bounded(transfer).await.unwrap();
        assert_eq!(copied.hash, hash(&bytes));
        assert!(copied.moved <= 256 * MIB + 8 * MIB, "{}", copied.moved);
    }
}
