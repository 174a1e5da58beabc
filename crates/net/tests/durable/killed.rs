//! A sender that is killed in the middle of pushing and delivering, again and again.
//!
//! The sender is this test program itself, started with [`CHILD`] set: [`a_sender_says_what_it_has_on_disk`] is its main function
//! then.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use parlour_net::DurableQueue;
use parlour_wire::frame::ContentType;
use tokio::sync::mpsc;

use crate::{
    bounded, open,
    receiver::{Effects, Receiver, tally},
    rig::Address,
    way::{Way, over_every_carrier},
};

over_every_carrier! {
    what_a_killed_sender_had_on_disk_is_delivered_exactly_once,
}

/// What the sender is told: the file, the address, the round.
const CHILD: &str = "PARLOUR_TEST_SENDER";
/// Pushes that the sender has under way at a time.
const AT_ONCE: u32 = 8;

fn content(round: &str, number: u32) -> Bytes {
    Bytes::from(format!("{round}.{number}"))
}

/// Pushes, and says which pushes are on disk, until nobody listens.
async fn send(queue: &DurableQueue, round: &str, rounds: u32, mut say: impl FnMut(&Bytes)) {
    for first in (0..rounds).map(|round| round * AT_ONCE) {
        let pushes: Vec<_> = (first..first + AT_ONCE)
            .map(|number| (number, queue.action_raw("tally", ContentType::TEXT, content(round, number))))
            .collect();
        for (number, push) in pushes {
            push.await.unwrap();
            say(&content(round, number));
        }
    }
}

#[tokio::test]
async fn a_sender_says_what_it_has_on_disk() {
    let Ok(told) = std::env::var(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(&folder.path().join("outbox")).await;
        let mut said = 0;
        send(&queue, "own", 2, |_| said += 1).await;
        assert_eq!((said, queue.waiting().records), (2 * AT_ONCE as usize, 2 * AT_ONCE as usize));
        return;
    };
    let [path, address, round] = &told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let queue = open(Path::new(path)).await;
    let (link, _events) = address.parse::<Address>().unwrap().connect().await;
    let _delivery = queue.attach(&link);
    let mut out = std::io::stdout();
    send(&queue, round, u32::MAX / AT_ONCE, |content| {
        writeln!(out, "on disk {}", String::from_utf8_lossy(content)).unwrap();
    })
    .await;
}

struct Sender {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Sender {
    fn start(path: &Path, address: &Address, round: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_sender_says_what_it_has_on_disk", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{} {address} {round}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next push that the sender knows to be on disk.
    async fn next(&mut self) -> Option<Bytes> {
        while let Some(line) = bounded(self.lines.recv()).await {
            if let Some(content) = line.strip_prefix("on disk ") {
                return Some(Bytes::copy_from_slice(content.as_bytes()));
            }
        }
        None
    }

    /// Kills it, and reads what it had said by then.
    async fn kill(mut self, promised: &mut BTreeSet<Bytes>) {
        self.child.kill().unwrap();
        let mut last = None;
        while let Some(content) = self.next().await {
            promised.extend(last.replace(content));
        }
        // The last line may be half a line.
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It may have been killed; then there is nothing left to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn what_a_killed_sender_had_on_disk_is_delivered_exactly_once(way: Way) {
    let (folder, effects) = (tempfile::tempdir().unwrap(), Effects::default());
    let path: PathBuf = folder.path().join("outbox");
    let receiver = Receiver::start(folder.path(), &Address::new(way), effects.clone()).await;
    let mut promised = BTreeSet::new();
    for round in 0..8 {
        let mut sender = Sender::start(&path, &receiver.address, round);
        for _ in 0..=round * 40 {
            promised.insert(sender.next().await.expect("the sender goes on until it is killed"));
        }
        sender.kill(&mut promised).await;
    }
    let queue = open(&path).await;
    let (link, _events) = receiver.address.connect().await;
    let _delivery = queue.attach(&link);
    bounded(queue.drained()).await.unwrap();
    let tally = tally(&effects, "tally");
    let doubled: Vec<_> = tally.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let lost: Vec<_> = promised.iter().filter(|content| !tally.contains_key(*content)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(promised.len() >= 8 * 7 / 2 * 40);
}
