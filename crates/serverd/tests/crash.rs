//! A process that appends is killed at random points, again and again. What it had acknowledged is there afterwards, in order,
//! with the chain of hashes intact.
//!
//! The test has no harness, because it starts itself as the process that is killed.

#![expect(clippy::print_stdout, reason = "there is no harness to say how the test went")]

mod common;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use parlour_server::store::{Store as _, suite::block_on};
use parlour_serverd::sqlite::{FILE, SqliteStore};

use common::{append, deaf, furnish, message, read_log, seq};

const CONVERSATIONS: u16 = 4;
const ROUNDS: u64 = 30;
const CHILD: &str = "PARLOUR_CRASH_CHILD";

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(FILE);
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        acknowledged.extend(run_and_kill(&path, points(round)));
        check(&path, &acknowledged);
    }
    println!("test every_acknowledged_entry_survives_a_kill ... ok ({} entries, {ROUNDS} kills)", acknowledged.len());
}

/// After how many acknowledgements the process is killed: anything between at once and after several checkpoints.
fn points(round: u64) -> usize {
    let mixed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    usize::try_from(mixed % 4_000).expect("small") / if round.is_multiple_of(3) { 40 } else { 1 }
}

/// Which message stands where: (conversation, number in the log) to message.
type Acknowledged = BTreeMap<(u16, u64), u64>;

fn run_and_kill(path: &Path, after: usize) -> Acknowledged {
    let program = std::env::current_exe().expect("the test knows itself");
    let mut child = Command::new(program).env(CHILD, path).stdout(Stdio::piped()).spawn().expect("the test starts itself");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged: Acknowledged =
        lines.by_ref().take(after).map(|line| parse(&line.expect("a line")).expect("whole")).collect();
    child.kill().expect("SIGKILL");
    // What was in the pipe counts too; only the last line may be cut.
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    let status = child.wait().expect("it ends");
    assert!(status.code().is_none(), "the child ended by itself: {status}");
    acknowledged
}

/// `conversation seq id .`; the dot shows that the line is whole.
fn parse(line: &str) -> Option<((u16, u64), u64)> {
    let mut words = line.split(' ');
    let (conversation, seq, id) = (words.next()?, words.next()?, words.next()?);
    (words.next() == Some(".")).then_some(())?;
    Some(((conversation.parse().ok()?, seq.parse().ok()?), id.parse().ok()?))
}

fn check(path: &Path, acknowledged: &Acknowledged) {
    let store = SqliteStore::open(path, deaf()).expect("the database opens after a kill");
    furnish(&store, CONVERSATIONS);
    for number in 0..CONVERSATIONS {
        let log = read_log(&store, number);
        let by_seq: BTreeMap<u64, _> = log.iter().map(|entry| (entry.seq, entry.id)).collect();
        for ((_, seq), id) in acknowledged.range((number, 0)..=(number, u64::MAX)) {
            assert_eq!(by_seq.get(seq), Some(&message(*id)), "entry {seq} of conversation {number} was acknowledged");
        }
    }
}

/// Appends with many writes on the way at once, and prints each acknowledgement.
fn write_until_killed(path: &Path) -> ! {
    let store = SqliteStore::open(path, deaf()).expect("the database opens after a kill");
    furnish(&store, CONVERSATIONS);
    let mut id: u64 = (0..CONVERSATIONS).map(|number| read_log(&store, number).len() as u64).sum::<u64>() + 1;
    let mut waiting = VecDeque::new();
    let mut out = std::io::stdout();
    loop {
        while waiting.len() < 100 {
            let number = u16::try_from(id % u64::from(CONVERSATIONS)).expect("small");
            waiting.push_back((number, id, Box::pin(store.apply(append(number, id, 400)))));
            id += 1;
        }
        let (number, id, future) = waiting.pop_front().expect("just filled");
        let seq = seq(block_on(future)).expect("the disk works");
        writeln!(out, "{number} {seq} {id} .").expect("the parent listens until it kills");
    }
}
