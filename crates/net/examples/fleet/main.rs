//! A station and twelve drones, as they would run on machines of their own; here they share one process and loopback.
//!
//! The drones find their station on the network, know it by its key, and are known by theirs. They send telemetry ten times a
//! second; take their configuration; receive a file; start at the same moment by their station's clock. One of them loses its
//! connection in the middle, and comes back without having lost or doubled anything. The program counts, and ends with 0 only if
//! every count is right.
//!
//! `cargo run --release -p parlour-net --example fleet`
#![allow(clippy::print_stdout, reason = "an example: its transcript is its purpose")]

mod cable;
mod drone;
mod messages;
mod station;

use std::{collections::BTreeMap, error::Error, time::Duration};

use parlour_net::{Broadcast, Identity, KeySet, Peer, PeerKey, clock::Clock};
use tokio::task::JoinSet;

use cable::Cable;
use drone::Drone;
use messages::{Configuration, Report};
use station::Ground;

/// Drones in the fleet.
const DRONES: usize = 12;
/// The one whose connection is cut.
const UNLUCKY: usize = 7;
/// Size of the file that everybody gets, in bytes.
const MAP: usize = 4 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let identities: Vec<Identity> = (0..DRONES).map(|_| Identity::generate()).collect::<std::io::Result<_>>()?;
    // Who belongs to the fleet is a list of keys. A fleet can also share a secret: `StationConfig::fleet`.
    let keys: KeySet = identities.iter().map(Identity::key).collect();

    let ground = Ground::open(keys).await?;
    println!("the station {} listens on {}", short(&ground.station.key()), ground.station.local_addr());

    // One drone reaches its station through a cable that can be pulled out.
    let cable = Cable::to(ground.station.local_addr()).await?;
    let mut drones = Vec::new();
    for (number, identity) in identities.into_iter().enumerate() {
        let found = drone::find_station(ground.station.key(), ground.announced_at()?).await?;
        let way = if number == UNLUCKY { cable.url() } else { found };
        drones.push(Drone::launch(number, identity, way, ground.station.key(), folder.path()).await?);
    }
    ground.wait_for(DRONES).await;
    println!("{DRONES} drones have found it by its signed announcement, and are connected");

    configure(&ground).await?;
    fan_out(&ground, folder.path()).await?;

    println!("drone {UNLUCKY} is cut off");
    cable.pull();
    ground.wait_for_away().await;
    start_together(&ground).await?;
    cable.mend();
    ground.wait_for_back().await;
    println!("drone {UNLUCKY} is back in its session");

    let counts = ground.finish(DRONES).await?;
    for drone in &drones {
        drone.close().await;
    }
    ground.station.stop().await;
    summary(&counts)
}

/// Asks every drone to take a configuration, all at once, and waits for their answers.
async fn configure(ground: &Ground) -> Result<()> {
    let wanted = Configuration { version: 2, telemetry_hz: 10, altitude_m: 120.0 };
    let mut answers = JoinSet::new();
    for peer in ground.station.peers() {
        let wanted = wanted.clone();
        answers.spawn(async move { peer.request::<u32>("configure", &wanted).deadline(Duration::from_secs(10)).await });
    }
    let mut taken = 0;
    while let Some(answer) = answers.join_next().await {
        taken += usize::from(answer?? == wanted.version);
    }
    println!("{taken} drones have taken configuration {}", wanted.version);
    expect(taken == DRONES, "every drone takes the configuration")
}

/// Pushes one file to all drones side by side. Each transfer is hashed by both ends.
async fn fan_out(ground: &Ground, folder: &std::path::Path) -> Result<()> {
    let map = folder.join("map.bin");
    let content: Vec<u8> = (0..MAP).map(|at| u8::try_from(at % 251).expect("small")).collect();
    tokio::fs::write(&map, content).await?;
    let transfers: Vec<_> = ground.station.peers().iter().map(|peer| peer.link().push(&map, "inbox/map.bin")).collect();
    let (mut arrived, mut hashes) = (0, std::collections::BTreeSet::new());
    for transfer in transfers {
        let copied = transfer.await?;
        arrived += usize::from(copied.bytes == MAP as u64);
        hashes.insert(copied.hash);
    }
    println!("{arrived} drones have the map of {} MiB on their disks, all with the same BLAKE3 hash", MAP >> 20);
    expect(arrived == DRONES && hashes.len() == 1, "every drone has the same map")
}

/// Has everybody who can be reached start at the same moment by the station's clock.
async fn start_together(ground: &Ground) -> Result<()> {
    let reachable: Vec<Peer> = ground.station.peers().into_iter().filter(|peer| peer.link().is_up()).collect();
    let count = reachable.len();
    let start_us = Clock::system().now_us() + 500_000;
    let Broadcast { reached, missed } = ground.station.broadcast_to(reachable, "start", &start_us)?;
    expect(reached == count && missed.is_empty(), "the order reaches everybody who is there")?;
    let starts = ground.wait_for_starts(count).await;
    let late: Vec<u64> = starts.iter().map(|start| start.late_us).collect();
    let spread = late.iter().max().unwrap_or(&0) - late.iter().min().unwrap_or(&0);
    let error = starts.iter().map(|start| start.error_us).max().unwrap_or(0);
    println!("{count} drones have started together: {spread} us apart, by clocks that are known to {error} us");
    Ok(())
}

fn summary(counts: &BTreeMap<PeerKey, Report>) -> Result<()> {
    println!("\ndrone             sent  received  lost  doubled  resumed");
    for (key, report) in counts {
        let Report { sent, received, lost, doubled, resumed } = report;
        println!("{:<16} {sent:>5} {received:>9} {lost:>5} {doubled:>8} {resumed:>8}", short(key));
    }
    expect(counts.len() == DRONES, "every drone reports")?;
    let right = |report: &Report| report.sent > 0 && report.received == report.sent && report.lost + report.doubled == 0;
    expect(counts.values().all(right), "all telemetry arrives, once and in order")?;
    expect(counts.values().map(|report| report.resumed).sum::<u64>() >= 1, "a drone came back to its session")?;
    println!("\nnothing lost, nothing doubled");
    Ok(())
}

fn short(key: &PeerKey) -> String {
    key.to_string()[..16].to_owned()
}

fn expect(right: bool, what: &str) -> Result<()> {
    if right { Ok(()) } else { Err(format!("this should be so: {what}").into()) }
}
