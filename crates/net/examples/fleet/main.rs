//! A station and twelve drones, as they would run on machines of their own; here they share one process and loopback.
//!
//! The drones find their station on the network, know it by its key, and are known by theirs. They send telemetry ten times a
//! second; take their configuration; receive a file; and start at the same moment by their station's clock, though no two of their
//! own clocks agree. One of them loses its connection in the middle, writes that into its logbook, which is on disk, and comes back
//! without having lost or doubled anything; the start it makes late, and says how late. The program counts, and ends with 0 only if every count is right.
//!
//! `cargo run --release -p parlour-net --example fleet`
#![allow(clippy::print_stdout, reason = "an example: its transcript is its purpose")]

mod cable;
mod drone;
mod logbook;
mod messages;
mod station;
mod telemetry;

use std::{collections::BTreeSet, error::Error, fmt::Display, path::Path, sync::OnceLock, time::Duration};

use parlour_net::{Broadcast, Identity, KeySet, clock::Clock};
use tokio::{task::JoinSet, time::Instant};

use cable::Cable;
use drone::{Drone, Plan};
use messages::{Configuration, Started};
use station::{Ground, Report};

/// Drones in the fleet.
const DRONES: usize = 12;
/// The one whose connection is cut.
const UNLUCKY: usize = 7;
/// Telemetry of each, a second.
const TELEMETRY_HZ: u32 = 10;
/// Size of the file that everybody gets, in bytes.
const MAP: usize = 4 << 20;
/// From the order to start to the start.
const NOTICE: Duration = Duration::from_millis(500);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let identities: Vec<Identity> = (0..DRONES).map(|_| Identity::generate()).collect::<std::io::Result<_>>()?;
    // Who belongs to the fleet is a list of keys. A fleet can also share a secret: `StationConfig::fleet`.
    let keys: KeySet = identities.iter().map(Identity::key).collect();

    let ground = Ground::open(keys).await?;
    let station = ground.station.key();
    say(format!("the station {:.16} listens on {}", station.to_string(), ground.station.local_addr()));

    // One drone reaches its station through a cable that can be pulled out.
    let cable = Cable::to(ground.station.local_addr()).await?;
    let mut drones = Vec::new();
    for (number, identity) in identities.into_iter().enumerate() {
        let found = drone::find_station(station, ground.announced_at()?).await?;
        let way = if number == UNLUCKY { cable.url() } else { found };
        let folder = folder.path().join(format!("drone-{number}"));
        drones.push(Drone::launch(Plan { number, identity, way, station, folder }).await?);
    }
    ground.wait_for(DRONES).await;
    say(format!("{DRONES} drones have found it by its signed announcement, and are connected"));

    configure(&ground, 1).await?;
    fan_out(&ground, folder.path()).await?;
    ground.wait_for_telemetry(5).await;

    say(format!("drone {UNLUCKY} is cut off"));
    cable.pull();
    ground.wait_for_loss().await;
    let start_us = start_together(&ground).await?;
    // The drone that is away is asked too: its request waits for it.
    let (configured, ()) = tokio::join!(configure(&ground, 2), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cable.mend();
        ground.wait_for_return().await;
    });
    configured?;
    start_late(&ground, start_us).await?;

    let reports = ground.finish(DRONES).await?;
    for drone in &drones {
        drone.close().await?;
    }
    ground.station.stop().await;
    summary(&reports)
}

/// Asks every drone to take a configuration, all at once, and waits for their answers.
async fn configure(ground: &Ground, version: u32) -> Result<()> {
    let wanted = Configuration { version, telemetry_hz: TELEMETRY_HZ, altitude_m: 120.0 };
    let mut answers = JoinSet::new();
    for peer in ground.station.peers() {
        let wanted = wanted.clone();
        answers.spawn(async move { peer.request::<u32>("configure", &wanted).deadline(Duration::from_secs(10)).await });
    }
    let mut taken = 0;
    while let Some(answer) = answers.join_next().await {
        taken += usize::from(answer?? == version);
    }
    say(format!("{taken} drones have taken configuration {version}"));
    expect(taken == DRONES, "every drone takes the configuration")
}

/// Pushes one file to all drones side by side. Each transfer is hashed by both ends.
async fn fan_out(ground: &Ground, folder: &Path) -> Result<()> {
    let map = folder.join("map.bin");
    let content: Vec<u8> = (0..MAP).map(|at| u8::try_from(at % 251).expect("small")).collect();
    tokio::fs::write(&map, content).await?;
    let start = Instant::now();
    let transfers: Vec<_> = ground.station.peers().iter().map(|peer| peer.link().push(&map, "inbox/map.bin")).collect();
    let mut hashes = BTreeSet::new();
    for transfer in transfers {
        hashes.insert(transfer.await?.hash);
    }
    for number in 0..DRONES {
        let arrived = tokio::fs::read(folder.join(format!("drone-{number}/inbox/map.bin"))).await?;
        expect(arrived == tokio::fs::read(&map).await?, "every drone has the map on its disk")?;
    }
    say(format!("{DRONES} drones have the map of {} MiB, with one BLAKE3 hash, after {:.1?}", MAP >> 20, start.elapsed()));
    expect(hashes.len() == 1, "every drone has the same map")
}

/// Has everybody start at the same moment by the station's clock: who can be reached, and the others when they are back. Says when that
/// is.
async fn start_together(ground: &Ground) -> Result<u64> {
    let peers = ground.station.peers();
    let count = peers.iter().filter(|peer| peer.link().is_up()).count();
    let start_us = Clock::system().now_us() + u64::try_from(NOTICE.as_micros())?;
    let Broadcast { reached, missed } = ground.station.broadcast_to(peers, "start", &start_us)?;
    expect(reached == DRONES && missed.is_empty(), "the order reaches everybody, or waits")?;
    let starts: Vec<Started> = ground.wait_for_starts(count).await.into_iter().map(|(_, start)| start).collect();
    let spread = |of: &dyn Fn(&Started) -> i128| {
        let all = || starts.iter().map(of);
        all().max().unwrap_or(0) - all().min().unwrap_or(0)
    };
    let (apart, clocks) = (spread(&|start| start.at_us.into()), spread(&|start| start.offset_us.into()));
    let error = starts.iter().map(|start| start.error_us).max().unwrap_or(0);
    let late = starts.iter().map(|start| start.late_us).max().unwrap_or(0);
    say(format!("{count} drones whose clocks are up to {} ms apart have started within {apart} us", clocks / 1000));
    // A busy machine may bring the order, or wake its reader, when the time is over.
    let behind = starts.iter().filter(|start| start.missed).count();
    if behind > 0 {
        say(format!("{behind} of them learned of it too late, and have started at once"));
    }
    say(format!("their idea of the station's clock was good to {error} us, and by it the last of them was {late} us late"));
    let early = starts.iter().map(|start| start_us.saturating_sub(start.at_us)).max().unwrap_or(0);
    expect(early <= error, "nobody starts before the time by more than the error that it knows of")?;
    Ok(start_us)
}

/// Waits for the start of the drone that was away when the others started, and looks whether it knows how late that was.
async fn start_late(ground: &Ground, start_us: u64) -> Result<()> {
    let (late, others): (Vec<_>, Vec<_>) =
        ground.wait_for_starts(DRONES).await.into_iter().partition(|(name, _)| *name == format!("drone {UNLUCKY}"));
    let [(name, Started { at_us, late_us, error_us, missed, .. })] = &late[..] else { return Err("no such drone".into()) };
    say(format!("{name} was away when it was time, and has started {} ms late", late_us / 1000));
    expect(*missed, "who learns of the start when the others have started says that it is late")?;
    // It was let back in after the last of the others had started.
    let last_us = others.iter().map(|(_, start)| start.at_us).max().unwrap_or(0);
    let said_us = start_us + late_us;
    expect(last_us <= said_us + error_us && said_us <= at_us + error_us, "it knows how late it is")
}

fn summary(reports: &[Report]) -> Result<()> {
    if let Some(unlucky) = reports.iter().find(|report| report.name == format!("drone {UNLUCKY}")) {
        let entries: Vec<&str> = unlucky.logbook.iter().map(|entry| &*entry.text).collect();
        say(format!("the logbook of {}: {}", unlucky.name, entries.join("; ")));
        expect(unlucky.resumed >= 1, "the drone that was cut off came back to its session")?;
        expect(entries.contains(&"the station is out of reach"), "what was written without a link has arrived")?;
    }
    println!("\ndrone      telemetry  skipped  lost  doubled  logbook  resumed");
    for report in reports {
        let Report { name, received, beat, lost, doubled, resumed, logbook, .. } = report;
        // Of telemetry that comes twice there is more than was due.
        let skipped = beat.saturating_sub(*received);
        println!("{name:<10} {received:>9} {skipped:>8} {lost:>5} {doubled:>8} {:>8} {resumed:>8}", logbook.len());
    }
    expect(reports.len() == DRONES, "every drone reports")?;
    expect(reports.iter().all(is_right), "everything has arrived, once and in order")?;
    println!("\nnothing lost, nothing doubled");
    Ok(())
}

/// Whether everything is there that the drone says it has sent, once and in order.
fn is_right(report: &Report) -> bool {
    let Some(landed) = report.landed else { return false };
    let telemetry = report.received == landed.telemetry && report.lost + report.doubled == 0 && landed.telemetry > 0;
    // What did not come was not due.
    let beats = report.beat == landed.telemetry + landed.skipped;
    telemetry && beats && report.logbook.iter().map(|entry| entry.number).eq(1..=landed.entries)
}

/// A line of the transcript, with the seconds since the beginning.
fn say(line: impl Display) {
    static START: OnceLock<Instant> = OnceLock::new();
    println!("{:7.3}  {line}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}

fn expect(right: bool, what: &str) -> Result<()> {
    if right { Ok(()) } else { Err(format!("this should be so: {what}").into()) }
}
