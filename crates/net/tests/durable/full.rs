//! A disk that takes no more: what was taken stays, what was not is refused, and room makes it go on.
//!
//! The process that meets the full disk is this test program itself, started with a limit on the size of its files, as the
//! operating system knows it.

use std::{path::Path, process::Command};

use bytes::Bytes;
use parlour_net::{DurableQueue, QueueError};
use parlour_wire::{Code, frame::ContentType};

use crate::{
    bounded, open,
    receiver::{Effects, Receiver, order},
    rig::Address,
    way::Way,
};

/// The file, for the process with the limit.
const CHILD: &str = "PARLOUR_TEST_FULL";
/// The limit in the units of `ulimit -f`: half a KiB in some shells, one in others.
const BLOCKS: usize = 200;
const SIZE: usize = 1000;

fn content(number: u64) -> Bytes {
    let mut content = vec![0; SIZE];
    content[..8].copy_from_slice(&number.to_be_bytes());
    content.into()
}

/// Pushes until the queue is refused, or 1000 are in it; says how many were taken.
async fn fill(queue: &DurableQueue) -> (u64, Option<QueueError>) {
    for number in 1..=1000 {
        match queue.action_raw("tally", ContentType::BYTES, content(number)).await {
            Ok(taken) => assert_eq!(taken, number, "a refused message takes no number"),
            Err(error) => return (number - 1, Some(error)),
        }
    }
    (1000, None)
}

#[tokio::test]
async fn a_process_that_may_write_no_more_is_told_so() {
    let Ok(path) = std::env::var(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(&folder.path().join("outbox")).await;
        assert_eq!(fill(&queue).await, (1000, None));
        return;
    };
    let queue = open(Path::new(&path)).await;
    let (taken, error) = fill(&queue).await;
    assert_eq!((error.clone(), error.unwrap().code()), (Some(QueueError::DiskFull), Code::DISK_FULL));
    // A smaller one fits still, and a larger one does not break what is there.
    let large = Bytes::from(vec![0; 100_000]);
    assert_eq!(queue.action_raw("tally", ContentType::BYTES, large).await, Err(QueueError::DiskFull));
    assert_eq!(queue.waiting().records, usize::try_from(taken).unwrap());
    println!("taken {taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_before_the_disk_was_full_is_delivered() {
    let (folder, effects) = (tempfile::tempdir().unwrap(), Effects::default());
    let path = folder.path().join("outbox");
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -f {BLOCKS}; trap '' XFSZ; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full::a_process_that_may_write_no_more_is_told_so", "--nocapture", "--test-threads=1"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let taken: u64 =
        said.lines().find_map(|line| line.split_once("taken ")).unwrap_or_else(|| panic!("{said}")).1.parse().unwrap();
    assert!(output.status.success() && taken > 0 && taken < 1000, "{said}");

    let receiver = Receiver::start(folder.path(), &Address::new(Way::WebSocket), effects.clone()).await;
    let (link, _events) = receiver.address.connect().await;
    let queue = open(&path).await;
    let _delivery = queue.attach(&link);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(order(&effects, "tally"), (1..=taken).map(content).collect::<Vec<_>>());
    // There is room again, and the numbers go on.
    assert_eq!(queue.action_raw("tally", ContentType::BYTES, content(0)).await, Ok(taken + 1));
    bounded(queue.drained()).await.unwrap();
}
