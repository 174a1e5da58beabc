//! How many messages of 400 bytes a store takes a second, each acknowledged after it is on disk: `cargo bench -p parlour-serverd`.
//!
//! Windows of writes are on the way at once, as with that many senders. A raw loop of write and fsync beside it says what the
//! disk can do.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    collections::VecDeque,
    io::Write as _,
    time::{Duration, Instant},
};

use parlour_server::store::{Store as _, suite::block_on};
use parlour_serverd::sqlite::{FILE, SqliteStore};

use common::{append, deaf, furnish, seq};

const CONVERSATIONS: u16 = 50;
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let fsyncs = raw_fsyncs();
    println!("raw write+fsync: {fsyncs:.0}/s");
    for window in [1, 16, 100, 800] {
        let rate = appends(window);
        println!("window {window:4}: {rate:.0} appends/s ({:.1} per raw fsync)", rate / fsyncs);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn raw_fsyncs() -> f64 {
    let mut file = tempfile::NamedTempFile::new_in(".").expect("a file");
    let start = now();
    let mut count = 0;
    while start.elapsed() < TIME {
        file.write_all(&[7; 4096]).expect("a write");
        file.as_file().sync_data().expect("a sync");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

fn appends(window: usize) -> f64 {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let store = SqliteStore::open(&dir.path().join(FILE), deaf()).expect("a store");
    furnish(&store, CONVERSATIONS);
    let start = now();
    let mut waiting = VecDeque::new();
    let (mut id, mut done) = (1_u64, 0_u32);
    while start.elapsed() < TIME {
        while waiting.len() < window {
            let number = u16::try_from(id % u64::from(CONVERSATIONS)).expect("small");
            waiting.push_back(Box::pin(store.apply(append(number, id, 400))));
            id += 1;
        }
        let future = waiting.pop_front().expect("just filled");
        seq(block_on(future)).expect("the disk works");
        done += 1;
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}
