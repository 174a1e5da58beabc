//! What transfers take of memory, whatever their size: at the end that serves and at the end that asks, over either carrier. The end
//! that is looked at is a process of its own.

use std::{
    future::Future,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use parlour_net::Agent;

use crate::{
    kill::Child,
    world::{MIB, World, bounded},
};

/// How many transfers go side by side: many, and one that has everything for itself.
const SIDE_BY_SIDE: [u64; 2] = [8, 1];
/// Size of a file: many times what a transfer may take, and little enough for a slow disk.
const SIZE: u64 = 40 * MIB;
/// What a transfer may take.
const EACH: u64 = 4 * MIB;
/// What was measured: for each of [`SIDE_BY_SIDE`], by how much the heap has grown at most with pushes, and with pulls.
pub type Grown = [[u64; 2]; 2];

/// A file of zeros that takes no room on the disk.
fn sparse(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    path
}

/// Pushes files and pulls them back. `heap` says what the end that is looked at holds, and the most it has held since it was asked
/// last.
pub async fn grown<F: Future<Output = (usize, usize)>>(agent: &Agent, here: &Path, heap: impl Fn() -> F) -> Grown {
    std::fs::write(here.join("first"), b"first").unwrap();
    bounded(agent.link().push(here.join("first"), "box/first")).await.unwrap();
    let mut grown = Grown::default();
    for (count, grown) in SIDE_BY_SIDE.into_iter().zip(&mut grown) {
        let names: Vec<_> = (0..count).map(|n| format!("{n} of {count}")).collect();
        let (before, _) = heap().await;
        let pushes = names.iter().map(|name| agent.link().push(sparse(here, name), format!("box/{name}")));
        for copied in bounded(join_all(pushes)).await {
            copied.unwrap();
        }
        let (_, pushed) = heap().await;
        let pulls = names.iter().map(|name| agent.link().pull(format!("box/{name}"), here.join(format!("{name}, back"))));
        for copied in bounded(join_all(pulls)).await {
            copied.unwrap();
        }
        let (_, pulled) = heap().await;
        *grown = [pushed, pulled].map(|most| most.saturating_sub(before) as u64);
    }
    grown
}

/// `beside` is what a connection may take, however many transfers it carries.
fn assert_bounded(what: &str, grown: Grown, beside: u64) {
    for (count, grown) in SIDE_BY_SIDE.into_iter().zip(grown) {
        eprintln!("{what}, {count}: {} KiB pushed and {} KiB pulled", grown[0] / 1024, grown[1] / 1024);
        for grown in grown {
            assert!(grown <= count * EACH + beside, "{what}: {} KiB for {count} transfers", grown / 1024);
        }
    }
}

/// What the station of another process takes that serves at this address.
async fn serving(address: &str) -> Grown {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = Child::serving(there.path(), address, None);
    let agent = child.agent(1).await;
    bounded(agent.ready()).await.unwrap();
    let heap = || async { bounded(agent.link().request::<(usize, usize)>("heap", &()).into_future()).await.unwrap() };
    grown(&agent, here.path(), heap).await
}

/// What an agent of another process takes that asks at this address.
async fn asking(address: String) -> Grown {
    let here = tempfile::tempdir().unwrap();
    let child = Child::asking(here.path(), &address);
    let told = bounded(tokio::task::spawn_blocking(move || child.says("grown "))).await.unwrap();
    serde_json::from_str(&told).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_takes_four_mebibytes_at_most_whatever_its_size() {
    assert_bounded("serving", serving("127.0.0.1:0").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_takes_four_mebibytes_at_most_where_it_is_asked_for() {
    let world = World::new().await;
    assert_bounded("asking", asking(world.address.clone()).await, 0);
}

/// What QUIC holds of a connection beside what its transfers take: what it has sent and is not acknowledged, and what has arrived and
/// is not read, up to [`parlour_wire::limits::UNACKED_BYTES`] of each.
#[cfg(feature = "iroh")]
const WINDOWS: u64 = 2 * parlour_wire::limits::UNACKED_BYTES as u64;

#[cfg(feature = "iroh")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_transfer_takes_four_mebibytes_at_most_beside_the_windows_of_its_connection() {
    assert_bounded("serving over QUIC", serving(crate::world::QUIC).await, WINDOWS);
    let world = World::over(crate::world::Way::Iroh).await;
    assert_bounded("asking over QUIC", asking(world.address.clone()).await, WINDOWS);
}
