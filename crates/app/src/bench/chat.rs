//! Stored-and-forwarded direct messages: throughput with a window, then latency at a moderate rate.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::{Events, Link, LinkEvent};
use parlour_wire::{
    ConversationId,
    api::{self, Notice},
};
use tokio::task::JoinHandle;

use super::{
    Figure, Target, baseline,
    people::{self, Online, act, call},
    process,
    server::Server,
};

/// Size of a message body in bytes, as in the comparison of DESIGN section 9.
const BODY: usize = 256;
/// Messages a second in the latency part, over all pairs.
const RATE: usize = 200;
/// Messages in the latency part.
const TIMED: usize = 1000;
/// A reader acknowledges after so many entries, or when nothing more is waiting.
const ACKNOWLEDGE: usize = 64;

/// A sender's end of a conversation.
struct Pair {
    sender: Online,
    conversation: ConversationId,
    reader: JoinHandle<anyhow::Result<usize>>,
}

/// When messages were sent (by number) and how long they took.
#[derive(Default)]
struct Clockwork {
    sent: Vec<Option<Instant>>,
    latencies: Vec<Duration>,
    /// Messages that have reached their readers.
    delivered: usize,
}

type Shared = Arc<Mutex<Clockwork>>;

pub(crate) async fn run(folder: &Path, pairs: usize, messages: usize, window: usize) -> anyhow::Result<Vec<Figure>> {
    let fsync = baseline::fsync(folder)?;
    let echo = baseline::tls_echo(pairs, window).await?;
    let data = folder.join("server");
    let people = people::populate(&data, pairs * 2).await?;
    let server = Server::start(&data).await?;
    let each = messages / pairs;
    let timed = TIMED / pairs;
    let clockwork: Shared = Arc::default();
    let mut talking = Vec::with_capacity(pairs);
    for pair in people.chunks_exact(2) {
        let [sender, reader] = pair else { continue };
        let reader_online = reader.connect(&server.url).await?;
        let online = sender.connect(&server.url).await?;
        let conversation = sender.converse(&online.link, reader).await?;
        let reader = tokio::spawn(read(reader_online, each + timed, Arc::clone(&clockwork)));
        talking.push(Pair { sender: online, conversation, reader });
    }
    let rate = throughput(&talking, each, window, &server, &clockwork).await?;
    let latency = latency(&talking, timed, &clockwork).await?;
    for pair in talking {
        let delivered = pair.reader.await??;
        anyhow::ensure!(delivered == each + timed, "a reader got {delivered} of {} messages", each + timed);
    }
    Ok(vec![
        Figure::new("raw TLS echo, 256 B", echo, "msg/s"),
        Figure::new("raw fsync", fsync.rate, "1/s"),
        Figure::new("raw fsync p99", fsync.p99_ms, "ms"),
        Figure::new("stored and forwarded, 256 B", rate.messages, "msg/s")
            .against("raw TLS echo", echo)
            .target(Target::AtLeast(25_000.0)),
        Figure::new("the same against the disk", rate.messages, "msg/s").against("raw fsync", fsync.rate),
        Figure::new("server processor time per message", rate.cpu_us, "us"),
        Figure::new("latency at 200 msg/s, p50", latency.0, "ms"),
        Figure::new("latency at 200 msg/s, p99", latency.1, "ms")
            .against("raw fsync p99", fsync.p99_ms)
            .target(Target::AtMost(5.0 + fsync.p99_ms)),
    ])
}

struct Rate {
    messages: f64,
    cpu_us: f64,
}

/// All senders at once, each with `window` messages under way. Ends when every message is stored, answered and has reached its
/// reader.
async fn throughput(pairs: &[Pair], each: usize, window: usize, server: &Server, clockwork: &Shared) -> anyhow::Result<Rate> {
    let cpu = process::cpu_seconds(server.pid()?)?;
    let start = baseline::now();
    let senders: Vec<_> =
        pairs.iter().map(|pair| tokio::spawn(flood(pair.sender.link.clone(), pair.conversation, each, window))).collect();
    for sender in senders {
        sender.await??;
    }
    until(pairs, || lock(clockwork).delivered >= each * pairs.len()).await?;
    let seconds = start.elapsed().as_secs_f64();
    let sent = (each * pairs.len()) as f64;
    let cpu_us = (process::cpu_seconds(server.pid()?)? - cpu) * 1e6 / sent;
    Ok(Rate { messages: sent / seconds, cpu_us })
}

async fn flood(link: Link, conversation: ConversationId, each: usize, window: usize) -> anyhow::Result<()> {
    let mut open = FuturesUnordered::new();
    for _ in 0..each {
        if open.len() == window {
            open.next().await.context("the window is not empty")??;
        }
        open.push(store(&link, conversation, [0; BODY].to_vec()));
    }
    while let Some(stored) = open.next().await {
        stored?;
    }
    Ok(())
}

async fn store(link: &Link, conversation: ConversationId, payload: Vec<u8>) -> anyhow::Result<()> {
    call(link, &api::Send { conversation, id: people::random_id(), epoch: 1, payload, blobs: Vec::new() }).await.map(|_| ())
}

/// Open loop over all pairs in turn; the reader's event ends the measured time.
async fn latency(pairs: &[Pair], each: usize, clockwork: &Shared) -> anyhow::Result<(f64, f64)> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
    let open = FuturesUnordered::new();
    for number in 0..each * pairs.len() {
        ticks.tick().await;
        let pair = &pairs[number % pairs.len()];
        let mut body = vec![0xff; BODY];
        body[..8].copy_from_slice(&u64::try_from(number)?.to_be_bytes());
        lock(clockwork).sent.push(Some(baseline::now()));
        let (link, conversation) = (pair.sender.link.clone(), pair.conversation);
        open.push(tokio::spawn(async move { store(&link, conversation, body).await }));
    }
    for stored in open {
        stored.await??;
    }
    // The last push may still be on its way when its sender has the answer.
    until(pairs, || lock(clockwork).latencies.len() >= each * pairs.len()).await?;
    let mut times = std::mem::take(&mut lock(clockwork).latencies);
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    Ok((at(50), at(99)))
}

/// Waits for what readers do; gives up when one of them has failed.
async fn until(pairs: &[Pair], done: impl Fn() -> bool) -> anyhow::Result<()> {
    while !done() {
        let finished = pairs.iter().all(|pair| pair.reader.is_finished());
        anyhow::ensure!(!finished || done(), "the readers ended before the messages");
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Counts entries until `expected` messages have come, acknowledging as it goes.
async fn read(online: Online, expected: usize, clockwork: Shared) -> anyhow::Result<usize> {
    let Online { link, mut events } = online;
    let (mut got, mut unacknowledged) = (0, 0);
    while got < expected {
        let entries = next_entries(&mut events).await?;
        let Some(last) = entries.last() else { continue };
        let cursor = api::Cursor { conversation: last.conversation, seq: last.seq };
        got += entries.len();
        lock(&clockwork).delivered += entries.len();
        unacknowledged += entries.len();
        for entry in &entries {
            note(&clockwork, &entry.payload);
        }
        if unacknowledged >= ACKNOWLEDGE || got == expected {
            act(&link, &api::Cursors { cursors: vec![cursor] })?;
            unacknowledged = 0;
        }
    }
    Ok(got)
}

async fn next_entries(events: &mut Events) -> anyhow::Result<Vec<parlour_wire::log::Entry>> {
    loop {
        match events.next().await.context("a reader's link ended")? {
            LinkEvent::Action { name, content, .. } if name == api::Entries::NAME => {
                return Ok(parlour_wire::decode::<api::Entries>(&content)?.entries);
            }
            LinkEvent::Action { name, .. } if name == api::Lagging::NAME => anyhow::bail!("a reader was too slow"),
            LinkEvent::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}

/// Takes the time of a message of the latency part; those of the throughput part are zeros.
fn note(clockwork: &Shared, payload: &[u8]) {
    if payload.last() != Some(&0xff) {
        return;
    }
    let number = payload.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    let mut clockwork = lock(clockwork);
    let sent = number.and_then(|n| usize::try_from(n).ok()).and_then(|n| clockwork.sent.get_mut(n)?.take());
    if let Some(sent) = sent {
        clockwork.latencies.push(sent.elapsed());
    }
}

fn lock(clockwork: &Shared) -> std::sync::MutexGuard<'_, Clockwork> {
    clockwork.lock().unwrap_or_else(PoisonError::into_inner)
}
