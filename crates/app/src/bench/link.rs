//! The link as programs use it: calls with types between a station and an agent of this process, over TLS on loopback, beside
//! what TLS does by itself in the same process.

mod calls;
mod ends;
mod files;
mod outbox;
mod raw;
mod times;

use std::path::Path;

use self::ends::{Ends, Way};
use super::{Figure, Target, baseline};

/// How much of everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Requests one at a time, and a tenth of those in flight together.
    pub(crate) requests: usize,
    /// Size of the large file, in bytes.
    pub(crate) file: u64,
}

/// Bytes of the file that is pulled beside the large one.
const SMALL_FILE: u64 = 16 * 1024 * 1024;
const MB: f64 = 1e6;
/// How often a file is copied in each way.
const ROUNDS: usize = 5;
/// The name of the large file.
const LARGE: &str = "large";

/// What the round trips of a request are called, on an idle link, beside a pull and beside a push: in the middle, and of the slowest.
type Pings = [[&'static str; 2]; 3];

const OVER_TLS: Pings = [
    ["ping on an idle link, p50", "ping on an idle link, p99"],
    ["ping beside a pull, p50", "ping beside a pull, p99"],
    ["ping beside a push, p50", "ping beside a push, p99"],
];
const OVER_IROH: Pings = [
    ["ping over iroh, idle, p50", "ping over iroh, idle, p99"],
    ["ping over iroh, beside a pull, p50", "ping over iroh, beside a pull, p99"],
    ["ping over iroh, beside a push, p50", "ping over iroh, beside a push, p99"],
];

pub(crate) async fn run(folder: &Path, amount: Amount) -> anyhow::Result<Vec<Figure>> {
    let ends = Ends::start(folder, Way::Tls).await?;
    let mut figures = round_trips(&ends, amount.requests).await?;
    figures.extend(pipelines(&ends, amount.requests).await?);
    figures.extend(transfers(&ends, folder, amount.file).await?);
    figures.extend(outbox(&ends, folder).await?);
    ends.stop().await;
    let ends = Ends::start(folder, Way::Iroh).await?;
    figures.extend(pings(&ends, &ends.shared().join(LARGE), &OVER_IROH).await?);
    ends.stop().await;
    Ok(figures)
}

async fn round_trips(ends: &Ends, count: usize) -> anyhow::Result<Vec<Figure>> {
    let raw = raw::round_trips(calls::SIZE, count).await?;
    let bare = calls::raw_round_trips(ends, count).await?;
    let typed = calls::round_trips(ends, count).await?;
    let (p50, p99) = (raw.percentile_us(50), raw.percentile_us(99));
    Ok(vec![
        Figure::new("raw TLS round trip, 64 B, p50", p50, "us"),
        Figure::new("raw TLS round trip, p99", p99, "us"),
        Figure::new("request without codec, p50", bare.percentile_us(50), "us").against("raw TLS", p50),
        Figure::new("request with types, p50", typed.percentile_us(50), "us")
            .against("raw TLS", p50)
            .target(Target::AtMost(60.0)),
        Figure::new("request with types, p99", typed.percentile_us(99), "us").against("raw TLS p99", p99),
    ])
}

async fn pipelines(ends: &Ends, round_trips: usize) -> anyhow::Result<Vec<Figure>> {
    let count = round_trips * 10;
    let echo = baseline::tls_echo(1, calls::WINDOW).await?;
    let bare = calls::raw_pipelined(ends, count).await?;
    let typed = calls::pipelined(ends, count).await?;
    let actions = calls::actions(ends, count * 3).await?;
    Ok(vec![
        Figure::new("raw TLS echo, 256 B, pipelined", echo, "1/s"),
        Figure::new("requests without codec, pipelined", bare, "1/s").against("raw TLS echo", echo),
        Figure::new("requests with types, pipelined", typed, "1/s")
            .against("raw TLS echo", echo)
            .target(Target::AtLeast(200_000.0)),
        Figure::new("actions with types", actions, "1/s").against("raw TLS echo", echo).target(Target::AtLeast(500_000.0)),
    ])
}

async fn transfers(ends: &Ends, folder: &Path, bytes: u64) -> anyhow::Result<Vec<Figure>> {
    let large = files::make(&ends.shared(), LARGE, bytes)?;
    let medians = rounds(ends, folder, &large, bytes).await?;
    let [copy, raw, raw_over, pulled, pushed, replaced] = medians.map(|bytes_a_second| bytes_a_second / MB);
    files::make(&ends.shared(), "small", SMALL_FILE)?;
    let small = files::pull(ends, "small").await?;
    let least = Target::AtLeast(0.6 * raw);
    let mut figures = vec![
        Figure::new("raw TLS copy, memory to memory", copy, "MB/s"),
        Figure::new("raw TLS copy, file to file, fsync", raw, "MB/s").against("memory to memory", copy),
        Figure::new("raw TLS copy, over another file", raw_over, "MB/s").against("memory to memory", copy),
        Figure::new("file pulled", pulled, "MB/s").against("raw TLS, file to file", raw).target(least),
        Figure::new("file pushed", pushed, "MB/s").against("raw TLS, file to file", raw).target(least),
        Figure::new("file pushed over another", replaced, "MB/s").against("raw TLS, file to file", raw).target(least),
        Figure::new("file pulled, against memory", pulled, "MB/s").against("raw TLS, memory to memory", copy),
        Figure::new("16 MiB pulled", small.seconds(), "s").target(Target::AtMost(0.5)),
    ];
    figures.extend(pings(ends, &large, &OVER_TLS).await?);
    Ok(figures)
}

/// Bytes a second, the median of several rounds: raw TLS from memory to memory, from file to file, and over another file; then a
/// pull, a push, and a push over another file.
///
/// What a machine does beside it hits some of the copies; so each is made several times, side by side with the others.
async fn rounds(ends: &Ends, folder: &Path, large: &Path, bytes: u64) -> anyhow::Result<[f64; 6]> {
    let mut rates = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        let memory = raw::copy(bytes).await?;
        let [raw, raw_over] = raw::copy_file_twice(large, &folder.join("raw-copy"), bytes).await?;
        let pulled = files::pull(ends, LARGE).await?.rate();
        let [pushed, replaced] = files::push(ends, large).await?.map(files::Took::rate);
        for (rates, rate) in rates.iter_mut().zip([memory, raw, raw_over, pulled, pushed, replaced]) {
            rates.push(rate);
        }
    }
    Ok(rates.map(median))
}

/// The one in the middle; 0 if there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Round trips on an idle link, and beside a large file each way.
async fn pings(ends: &Ends, large: &Path, names: &Pings) -> anyhow::Result<Vec<Figure>> {
    let idle = calls::pings(ends, files::idle()).await?;
    let pull = calls::pings(ends, async { files::pull(ends, LARGE).await.map(drop) }).await?;
    let push = calls::pings(ends, files::push_once(ends, large)).await?;
    let idle_p99 = idle.percentile_us(99) / 1e3;
    let beside = Target::AtMost(idle_p99 + 5.0);
    let mut figures = Vec::new();
    for ([p50, p99], times) in names.iter().zip([&idle, &pull, &push]) {
        let slowest = Figure::new(*p99, times.percentile_us(99) / 1e3, "ms");
        figures.push(Figure::new(*p50, times.percentile_us(50) / 1e3, "ms"));
        figures.push(if figures.len() == 1 { slowest } else { slowest.against("idle p99", idle_p99).target(beside) });
    }
    Ok(figures)
}

async fn outbox(ends: &Ends, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let fsync = baseline::fsync(folder)?;
    let outbox::Rates { pushed, delivered } = outbox::run(ends, &folder.join("outbox")).await?;
    Ok(vec![
        Figure::new("raw fsync", fsync.rate, "1/s"),
        Figure::new("durable actions, on disk", pushed, "1/s").against("raw fsync", fsync.rate),
        Figure::new("durable actions, delivered", delivered, "1/s"),
    ])
}
