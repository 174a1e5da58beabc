//! Power failures: servers and clients killed with SIGKILL in the middle of their work. What was acknowledged is there, once, in
//! order, and can be read.
//!
//! The moments are random; the seed is printed and can be given in `SEED`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use parlour_client::{Client, Event, KeySource, OpenOptions, State};
use serde_json::Value;
use tokio::{
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use self::support::{Person, Server, World, finish, texts};

/// People who write at the same time, and how much each of them writes.
const SENDERS: usize = 3;
const MESSAGES: usize = 80;
/// How often the server is killed during that.
const SERVER_KILLS: usize = 6;
/// How many commands of a client are killed.
const CLIENT_KILLS: usize = 30;
/// How long anything may take that should happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// A small generator (SplitMix64): good enough to choose moments, and the same on every machine.
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let random = || {
            let mut bytes = [0; 8];
            std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes)).unwrap();
            u64::from_le_bytes(bytes)
        };
        let seed = std::env::var("SEED").ok().map_or_else(random, |seed| seed.parse().unwrap());
        eprintln!("SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn open(home: &Path) -> Client {
    Client::open(OpenOptions { home: home.to_owned(), key: KeySource::File, create: false }).unwrap()
}

/// Keeps writing to bob; tells each message that the server has acknowledged.
fn writer(person: &Person, stored: UnboundedSender<String>) -> JoinHandle<()> {
    let (home, name) = (person.home.clone(), person.name.clone());
    tokio::spawn(async move {
        let client = open(&home);
        client.go_online().await.unwrap();
        for number in 0..MESSAGES {
            let text = format!("{name} {number}");
            let message = client.send("bob", &text, None).await.unwrap();
            client.wait_state(message.id, State::Stored, PATIENCE).await.unwrap();
            // The listener leaves when it has heard enough.
            let _ = stored.send(text);
        }
        client.close().await.unwrap();
    })
}

/// Reads until everything has come; gives the texts in the order of their coming.
async fn reader(home: Arc<Path>, read: Arc<Mutex<Vec<String>>>) {
    let client = open(&home);
    let mut events = client.events();
    client.go_online().await.unwrap();
    loop {
        let unshown = client.unshown(None, 1000).await.unwrap();
        let ids: Vec<_> = unshown.iter().map(|message| message.id).collect();
        client.mark_shown(&ids).await.unwrap();
        read.lock().unwrap().extend(unshown.into_iter().map(|message| message.text));
        if read.lock().unwrap().len() >= SENDERS * MESSAGES {
            client.wait_synced(PATIENCE).await.unwrap();
            let more = client.unshown(None, 1000).await.unwrap();
            read.lock().unwrap().extend(more.into_iter().map(|message| message.text));
            return client.close().await.unwrap();
        }
        while !matches!(events.next().await.unwrap(), Event::Message(_) | Event::Missed(_)) {}
    }
}

/// Kills the server after random numbers of acknowledgements and starts it again on the same folder and port.
async fn killer(mut server: Server, data: &Path, random: &mut Random, stored: &mut UnboundedReceiver<String>) -> Server {
    let listen = server.authority().to_owned();
    for _ in 0..SERVER_KILLS {
        let most = (SENDERS * MESSAGES / SERVER_KILLS) as u64;
        for _ in 0..=random.below(most) {
            if stored.recv().await.is_none() {
                return server;
            }
        }
        server.kill();
        server = Server::start(data, &["--listen", &listen]);
    }
    server
}

#[test]
fn a_server_killed_under_load_loses_and_doubles_nothing_that_it_acknowledged() {
    // RUST_LOG tells what the clients of this process do.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut random = Random::from_environment();
    let world = World::new();
    let server = world.server("server", &[]);
    let bob = world.registered("bob", &server);
    let senders: Vec<Person> = (0..SENDERS).map(|number| world.registered(&format!("sender{number}"), &server)).collect();

    let runtime = Runtime::new().unwrap();
    let read = Arc::new(Mutex::new(Vec::new()));
    let _server = runtime.block_on(async {
        let (sender, mut stored) = unbounded_channel();
        let home: Arc<Path> = bob.home.as_path().into();
        let reading = tokio::spawn(reader(home, Arc::clone(&read)));
        let writing: Vec<_> = senders.iter().map(|person| writer(person, sender.clone())).collect();
        drop(sender);
        let server = killer(server, &world.path("server"), &mut random, &mut stored).await;
        for writer in writing {
            tokio::time::timeout(2 * PATIENCE, writer).await.unwrap().unwrap();
        }
        if let Ok(ended) = tokio::time::timeout(PATIENCE, reading).await {
            ended.unwrap();
        }
        server
    });
    let read = read.lock().unwrap();

    for person in &senders {
        let expected: Vec<String> = (0..MESSAGES).map(|number| format!("{} {number}", person.name)).collect();
        let prefix = format!("{} ", person.name);
        let found: Vec<String> = read.iter().filter(|text| text.starts_with(&prefix)).cloned().collect();
        assert_eq!(found, expected);
    }
    assert_eq!(read.len(), SENDERS * MESSAGES, "nothing beyond what was written: {read:?}");
}

/// Messages of a history that say that something could not be read.
fn unreadable(rows: &[Value]) -> Vec<&Value> {
    rows.iter().filter(|row| row["kind"] != "text").collect()
}

#[test]
fn clients_killed_at_any_moment_lose_double_and_spoil_nothing() {
    let mut random = Random::from_environment();
    let world = World::new();
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));

    let mut acknowledged = Vec::new();
    let mut printed: BTreeMap<String, String> = BTreeMap::new();
    let mut note = |stdout: &str| {
        // The last line may be cut off by the kill.
        for row in stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let text = row["text"].as_str().unwrap().to_owned();
            printed.insert(row["id"].as_str().unwrap().to_owned(), text);
        }
    };
    for round in 0..CLIENT_KILLS {
        let text = format!("round {round}");
        let sending = alice.command(&["send", "bob", &text]).spawn().unwrap();
        let reading = bob.command(&["recv", "--count", "1", "--timeout", "5s"]).spawn().unwrap();
        let moment = Duration::from_millis(random.below(250));
        let sent = finish(sending, moment);
        // Its object was printed before the kill, so the promise stands.
        if sent.stdout.contains("\"stored\"") {
            acknowledged.push(text);
        }
        note(&finish(reading, Duration::from_millis(random.below(250))).stdout);
    }

    alice.send("bob", "the end");
    note(&bob.run(&["recv"]).ok().stdout);
    let (written, read) = (alice.history("bob"), bob.history("alice"));
    assert_eq!(texts(&read), texts(&written), "both sides keep one history");
    assert!(unreadable(&read).is_empty() && unreadable(&written).is_empty(), "{read:?}");
    let mut once = texts(&read);
    once.dedup();
    assert_eq!(once, texts(&read), "nothing twice");
    for text in &acknowledged {
        assert!(once.contains(text), "{text} was acknowledged and is gone");
    }
    let of_history: BTreeMap<String, String> =
        read.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row["text"].as_str().unwrap().to_owned())).collect();
    assert_eq!(printed, of_history, "every message was printed, under its one id");
}
