//! Real files: cut at every byte, damaged, salvaged, in use, and full.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use bytes::Bytes;
use parlour_wire::{Code, frame::ContentType, header::Fault, limits};

use crate::{
    Answer,
    durable::{
        DurableConfig, DurableQueue, QueueError, Waiting,
        index::Message,
        record::{HEADER, Kind},
        writer::Job,
    },
};

/// Everything that waits, as it stands in the file.
pub(super) async fn contents(queue: &DurableQueue) -> Vec<(u64, Message)> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |(number, _)| *number);
        let numbers = queue.inner.shared.lock().from(after + 1, 64);
        if numbers.is_empty() {
            return all;
        }
        let (read, answer) = tokio::sync::oneshot::channel();
        queue.inner.jobs.send(Job::Read { numbers, read }).unwrap();
        all.extend(answer.await.unwrap().unwrap());
    }
}

/// Settles a message as a delivery does.
pub(super) async fn settle(queue: &DurableQueue, number: u64) {
    let message = contents(queue).await.into_iter().find(|(found, _)| *found == number).unwrap().1;
    queue.settle(number, message, Ok(Answer { content_type: ContentType::BYTES, content: Bytes::new() }));
}

pub(super) async fn open(path: &Path) -> DurableQueue {
    DurableQueue::open(path, DurableConfig::default()).await.unwrap()
}

fn text(number: u64) -> Bytes {
    Bytes::from(format!("message {number}"))
}

async fn push(queue: &DurableQueue, number: u64) {
    assert_eq!(queue.action_raw("tell", ContentType::TEXT, text(number)).await, Ok(number));
}

async fn numbers(queue: &DurableQueue) -> Vec<u64> {
    contents(queue).await.into_iter().map(|(number, _)| number).collect()
}

#[tokio::test]
async fn a_queue_keeps_what_it_has_taken_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    let id = queue.id();
    for number in 1..=5 {
        push(&queue, number).await;
    }
    let ticket = queue.request("ask", &("arguments", 6)).await.unwrap();
    assert_eq!(ticket.number(), 6);
    settle(&queue, 2).await;
    let before = contents(&queue).await;
    queue.close().await;
    assert_eq!(ticket.raw().await.unwrap_err().code, Code::LINK_LOST);
    assert_eq!(queue.action("tell", &()).await, Err(QueueError::Closed));

    let queue = open(&path).await;
    assert_eq!((queue.id(), contents(&queue).await), (id, before.clone()));
    let Message { kind, name, content_type, content } = &before.last().unwrap().1;
    assert_eq!((*kind, name.as_str(), *content_type), (Kind::REQUEST, "ask", ContentType::CBOR));
    assert_eq!(content[..], minicbor_serde::to_vec(("arguments", 6)).unwrap());
    push(&queue, 7).await;
    for number in numbers(&queue).await {
        settle(&queue, number).await;
    }
    queue.drained().await.unwrap();
    queue.close().await;
    // The numbers of an empty queue go on where they were.
    push(&open(&path).await, 8).await;
}

#[tokio::test]
async fn a_file_that_is_cut_at_any_byte_holds_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    let mut lengths = vec![];
    for number in 1..=4 {
        push(&queue, number).await;
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    queue.close().await;
    let bytes = fs::read(&path).unwrap();
    for cut in HEADER..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let queue = open(&path).await;
        let whole = lengths.iter().filter(|length| **length <= cut as u64).count() as u64;
        assert_eq!(numbers(&queue).await, (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
        push(&queue, whole + 1).await;
        queue.close().await;
        let queue = open(&path).await;
        assert_eq!(numbers(&queue).await, (1..=whole + 1).collect::<Vec<_>>(), "cut at {cut}, then used");
        queue.close().await;
    }
    for cut in 0..HEADER {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert_eq!(DurableQueue::open(&path, DurableConfig::default()).await.unwrap_err(), QueueError::NotAQueue(path.clone()));
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_kept_and_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    let mut starts = vec![];
    for number in 1..=4 {
        starts.push(fs::metadata(&path).unwrap().len());
        push(&queue, number).await;
    }
    let id = queue.id();
    settle(&queue, 1).await;
    queue.close().await;
    let mut bytes = fs::read(&path).unwrap();
    let lost = starts[3] - starts[2];
    bytes[usize::try_from(starts[2]).unwrap() + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();

    for _ in 0..2 {
        let error = DurableQueue::open(&path, DurableConfig::default()).await.unwrap_err();
        assert_eq!(error, QueueError::Corrupt { path: path.clone(), offset: starts[2] });
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    let saved = DurableQueue::salvage(&path).unwrap();
    assert_eq!((saved.records, saved.lost_bytes), (2, lost));
    assert_eq!(fs::read(&saved.damaged).unwrap(), bytes);
    let queue = open(&path).await;
    assert_eq!((queue.id(), numbers(&queue).await), (id, vec![2, 4]));
    // No number that may have been in the lost part is given again.
    let number = queue.action_raw("tell", ContentType::TEXT, text(0)).await.unwrap();
    assert!(number >= 5 + lost / 40, "{number}");
}

#[tokio::test]
async fn one_process_at_a_time_has_the_file_and_nobody_else_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    let taken = DurableQueue::open(&path, DurableConfig::default()).await.unwrap_err();
    assert_eq!((&taken, taken.code()), (&QueueError::InUse(path.clone()), Code::PROFILE_IN_USE));
    assert_eq!(DurableQueue::salvage(&path).unwrap_err(), QueueError::InUse(path.clone()));
    for name in ["outbox", "outbox.lock"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    queue.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let _queue = open(&path).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diary");
    for text in ["", "dear diary, ".repeat(100).as_str()] {
        fs::write(&path, text).unwrap();
        let error = DurableQueue::open(&path, DurableConfig::default()).await.unwrap_err();
        assert_eq!((error.code(), error), (Code::STORE_UNAVAILABLE, QueueError::NotAQueue(path.clone())));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let missing = folder.path().join("no such folder").join("outbox");
    assert!(matches!(DurableQueue::open(&missing, DurableConfig::default()).await, Err(QueueError::Io { .. })));
}

#[tokio::test]
async fn a_full_queue_says_so_and_takes_more_when_something_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let config = DurableConfig { max_records: 3, ..DurableConfig::default() };
    let queue = DurableQueue::open(folder.path().join("records"), config).await.unwrap();
    for number in 1..=3 {
        push(&queue, number).await;
    }
    let Waiting { records, bytes } = queue.waiting();
    assert_eq!(queue.action("tell", &()).await, Err(QueueError::Full { records, bytes }));
    assert_eq!(records, 3);
    settle(&queue, 2).await;
    push(&queue, 4).await;
    assert_eq!(QueueError::Full { records, bytes }.code(), Code::OVERLOADED);

    let config = DurableConfig { max_bytes: 10_000, ..DurableConfig::default() };
    let queue = DurableQueue::open(folder.path().join("bytes"), config).await.unwrap();
    let content = Bytes::from(vec![1; 4000]);
    let pushed = [(); 3].map(|()| queue.action_raw("tell", ContentType::BYTES, content.clone()));
    let mut taken = 0;
    for result in pushed {
        match result.await {
            Ok(_) => taken += 1,
            Err(error) => assert!(matches!(error, QueueError::Full { .. }), "{error}"),
        }
    }
    assert_eq!(taken, 2);
}

#[tokio::test]
async fn what_no_frame_can_carry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(&folder.path().join("outbox")).await;
    let long = "n".repeat(limits::LABEL + 1);
    assert_eq!(queue.action(&long, &()).await, Err(QueueError::NameTooLong));
    let large = Bytes::from(vec![0; limits::FRAME]);
    assert_eq!(queue.action_raw("tell", ContentType::BYTES, large.clone()).await, Err(QueueError::TooLarge));
    assert!(matches!(queue.request_raw("ask", ContentType::BYTES, large.clone()).await, Err(QueueError::TooLarge)));
    let largest = large.slice(..limits::FRAME - 200);
    assert_eq!(queue.action_raw("tell", ContentType::BYTES, largest).await, Ok(1));
    let unencodable = std::collections::BTreeMap::from([((), f64::NAN)]);
    assert!(queue.action("tell", &unencodable).await.is_ok(), "CBOR has keys of any type");
}

#[tokio::test]
async fn messages_stand_in_the_order_of_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(&folder.path().join("outbox")).await;
    let mut pushes: Vec<_> = (1..=500).map(|number| queue.action_raw("tell", ContentType::TEXT, text(number))).collect();
    // A call whose future is dropped has been made.
    drop(pushes.swap_remove(250));
    while let Some(push) = pushes.pop() {
        push.await.unwrap();
    }
    let all = contents(&queue).await;
    assert_eq!(all.len(), 500);
    for (number, message) in all {
        assert_eq!(message.content, text(number));
    }
}

#[tokio::test]
async fn a_file_that_is_mostly_dead_is_made_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    let content = Bytes::from(vec![5; 200_000]);
    for number in 1..=20 {
        assert_eq!(queue.action_raw("tell", ContentType::BYTES, content.clone()).await, Ok(number));
    }
    for number in 1..=18 {
        settle(&queue, number).await;
    }
    let before = contents(&queue).await;
    let length = fs::metadata(&path).unwrap().len();
    assert!(length < 2_000_000, "{length}");
    assert_eq!(queue.action_raw("tell", ContentType::BYTES, content).await, Ok(21));
    queue.close().await;
    let queue = open(&path).await;
    assert_eq!(contents(&queue).await[..2], before);
    assert_eq!(numbers(&queue).await, [19, 20, 21]);
    assert!(!folder.path().join("outbox.draft").exists());
}

#[tokio::test]
async fn a_rewrite_that_fails_loses_nothing_and_is_tried_again_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (path, draft) = (folder.path().join("outbox"), folder.path().join("outbox.draft"));
    let queue = open(&path).await;
    fs::create_dir(&draft).unwrap();
    let content = Bytes::from(vec![5; 200_000]);
    let tell = async || queue.action_raw("tell", ContentType::BYTES, content.clone()).await.unwrap();
    for number in 1..=20 {
        assert_eq!(tell().await, number);
    }
    for number in 1..=18 {
        settle(&queue, number).await;
    }
    assert_eq!(numbers(&queue).await, [19, 20]);
    assert!(fs::metadata(&path).unwrap().len() > 4_000_000, "it could not be made smaller");
    fs::remove_dir(&draft).unwrap();
    // The next try is paid for by what is written after the last one, not by as much as there was.
    for _ in 0..12 {
        let number = tell().await;
        settle(&queue, number).await;
    }
    assert_eq!(numbers(&queue).await, [19, 20]);
    let length = fs::metadata(&path).unwrap().len();
    assert!(length < 3_000_000, "{length}");
    queue.close().await;
    assert_eq!(numbers(&open(&path).await).await, [19, 20]);
}

#[tokio::test]
async fn a_draft_that_a_crash_has_left_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    push(&queue, 1).await;
    queue.close().await;
    fs::write(folder.path().join("outbox.draft"), "half a file").unwrap();
    let queue = open(&path).await;
    for _ in 0..8 {
        let number = queue.action_raw("tell", ContentType::BYTES, Bytes::from(vec![0; 400_000])).await.unwrap();
        settle(&queue, number).await;
    }
    assert_eq!(numbers(&queue).await, [1]);
    assert!(!folder.path().join("outbox.draft").exists());
}

#[tokio::test]
async fn refusals_are_told_before_a_message_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let on_outcome = {
        let (told, path) = (std::sync::Arc::clone(&told), path.clone());
        move |outcome: &crate::durable::Outcome| {
            // Whoever dies here is told again: the message is still in the file, unsettled.
            told.lock().unwrap().push((outcome.clone(), fs::metadata(&path).unwrap().len()));
        }
    };
    let config = DurableConfig { on_outcome: Some(std::sync::Arc::new(on_outcome)), ..DurableConfig::default() };
    let queue = DurableQueue::open(&path, config).await.unwrap();
    push(&queue, 1).await;
    let length = fs::metadata(&path).unwrap().len();
    let (number, message) = contents(&queue).await.remove(0);
    let fault = Fault { code: Code::FORBIDDEN, message: "no".to_owned(), retry_after_ms: None };
    queue.settle(number, message, Err(fault.clone()));
    queue.close().await;
    let told = told.lock().unwrap();
    let (outcome, then) = &told[0];
    assert_eq!((outcome.number, outcome.name.as_str(), &outcome.content), (1, "tell", &text(1)));
    assert_eq!((&outcome.result, *then, told.len()), (&Err(fault), length, 1));
    assert!(fs::metadata(&path).unwrap().len() > length);
}

#[tokio::test]
async fn bytes_behind_the_end_are_cut_even_if_they_look_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let queue = open(&path).await;
    push(&queue, 1).await;
    queue.close().await;
    let bytes = fs::read(&path).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&bytes[HEADER..]).unwrap();
    let queue = open(&path).await;
    assert_eq!(numbers(&queue).await, [1]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
