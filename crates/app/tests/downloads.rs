//! Downloads that lose their link, and their server: they go on with what is on the disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::{fs, path::Path};

use parlour_client::{Client, Event, FetchOptions, Fetched, KeySource, MessageId, OpenOptions};
use tokio::runtime::{Builder, Runtime};

use self::support::{Person, World};

const SIZE: usize = 60 << 20;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 % 251) as u8).collect()
}

/// Alice sends a large file to bob, who knows of it and has nothing of it yet.
fn sent(world: &World, alice: &Person, bob: &Person) -> MessageId {
    let path = world.path("large.bin");
    fs::write(&path, content()).unwrap();
    let row = alice.run(&["send", "bob", "--file", path.to_str().unwrap(), "--timeout", "40s"]).ok().row();
    bob.run(&["recv", "--count", "1"]).ok();
    row["id"].as_str().unwrap().parse().unwrap()
}

/// One thread, on which transfer and listener take turns: the file cannot be whole before the listener has heard of its half.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Where a download began again and how far it was at most before, for each time that it did.
#[derive(Default)]
struct Progress {
    most: u64,
    total: u64,
    restarts: Vec<(u64, u64)>,
}

impl Progress {
    /// Waits until so many hundredths are there.
    async fn reaches(&mut self, events: &mut parlour_client::Events, hundredths: u64) {
        while self.total == 0 || self.most * 100 < self.total * hundredths {
            match events.next().await.unwrap() {
                Event::FileProgress { up: false, done, total, .. } => self.comes(done, total),
                Event::Missed(_) => panic!("too slow to see where it goes on"),
                _ => {}
            }
        }
    }

    fn comes(&mut self, done: u64, total: u64) {
        if done <= self.most && self.most > 0 {
            self.restarts.push((done, self.most));
        }
        (self.most, self.total) = (self.most.max(done), total);
    }
}

fn open(who: &Person) -> Client {
    Client::open(OpenOptions { home: who.home.clone(), key: KeySource::File, create: false }).unwrap()
}

fn is_whole(folder: &Path, fetched: &Fetched) {
    assert_eq!(fetched.hash, *blake3::hash(&content()).as_bytes());
    assert!(fs::read(folder.join("large.bin")).unwrap() == content());
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_download_goes_on_after_cuts_of_the_connection_and_after_a_kill_of_the_server_without_starting_over() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let (id, listen) = (sent(&world, &alice, &bob), server.authority().to_owned());
    let folder = world.path("downloads");
    fs::create_dir(&folder).unwrap();
    runtime().block_on(async {
        let client = open(&bob);
        client.go_online().await.unwrap();
        let mut events = client.events();
        let options = FetchOptions { output: Some(folder.clone()), force: false, limit: None };
        let faults = async {
            let mut progress = Progress::default();
            for hundredths in [10, 25, 40] {
                progress.reaches(&mut events, hundredths).await;
                client.cut().await.unwrap();
            }
            // The session outlives a cut, and with it the requests that are under way.
            progress.reaches(&mut events, 50).await;
            assert_eq!(progress.restarts, []);
            server.kill();
            assert!(!folder.join("large.bin").exists(), "nothing goes by the name before it is whole");
            let again = world.server("server", &["--registration", "open", "--listen", &listen]);
            progress.reaches(&mut events, 100).await;
            (again, progress.restarts)
        };
        let (fetched, (_server, restarts)) = tokio::join!(client.fetch_file(id, options), faults);
        is_whole(&folder, &fetched.unwrap());
        assert!(
            !restarts.is_empty() && restarts.iter().all(|(from, most)| from == most),
            "it went on where it was: {restarts:?}"
        );
        client.close().await.unwrap();
    });
}
