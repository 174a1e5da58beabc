//! What a receiver remembers, over restarts, doubles and cancelled calls.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault};
use tokio::sync::Semaphore;

use crate::{
    Answer, Origin, PeerKey,
    durable::{Marks, MarksConfig, QUEUE_TAG, SPAN, WINDOW},
};

const PEER: Option<PeerKey> = Some(PeerKey([3; 32]));

fn origin(queue: u8, number: u64) -> Option<Origin> {
    let mut session = [queue; 16];
    session[..4].copy_from_slice(&QUEUE_TAG);
    Some(Origin { session: LinkSessionId(session), number })
}

async fn open(path: &Path) -> Marks {
    Marks::open(path, MarksConfig::default()).await.unwrap()
}

fn answer(text: &str) -> Result<Answer, Fault> {
    Ok(Answer { content_type: ContentType::TEXT, content: Bytes::copy_from_slice(text.as_bytes()) })
}

fn fault(code: Code) -> Fault {
    Fault { code, message: "why".to_owned(), retry_after_ms: None }
}

/// Runs a message through the marks; says whether it took effect, and its answer.
async fn offer(marks: &Marks, queue: u8, number: u64, result: Result<Answer, Fault>) -> (bool, Result<Answer, Fault>) {
    let ran = AtomicU32::new(0);
    let told = marks
        .once_raw(PEER, origin(queue, number), async {
            ran.fetch_add(1, Ordering::Relaxed);
            result
        })
        .await;
    (ran.into_inner() == 1, told)
}

#[tokio::test]
async fn a_message_takes_effect_once_and_is_answered_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks");
    let marks = open(&path).await;
    assert_eq!(offer(&marks, 1, 1, answer("first")).await, (true, answer("first")));
    assert_eq!(offer(&marks, 1, 1, answer("second")).await, (false, answer("first")));
    assert_eq!(offer(&marks, 1, 2, Err(fault(Code::FORBIDDEN))).await, (true, Err(fault(Code::FORBIDDEN))));
    assert_eq!(offer(&marks, 2, 1, answer("of another queue")).await, (true, answer("of another queue")));
    marks.close().await;
    let marks = open(&path).await;
    assert_eq!(offer(&marks, 1, 1, answer("third")).await, (false, answer("first")));
    assert_eq!(offer(&marks, 1, 2, answer("third")).await, (false, Err(fault(Code::FORBIDDEN))));
    assert_eq!(offer(&marks, 1, 3, answer("third")).await, (true, answer("third")));
}

#[tokio::test]
async fn a_fault_that_asks_for_another_try_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let marks = open(&folder.path().join("marks")).await;
    for code in [Code::OVERLOADED, Code::STORE_UNAVAILABLE, Code::NOT_AUTHENTICATED, Code::CANCELLED] {
        assert_eq!(offer(&marks, 1, 1, Err(fault(code))).await, (true, Err(fault(code))));
    }
    assert_eq!(offer(&marks, 1, 1, answer("at last")).await, (true, answer("at last")));
}

#[tokio::test]
async fn what_no_queue_has_sent_is_not_marked() {
    let folder = tempfile::tempdir().unwrap();
    let marks = open(&folder.path().join("marks")).await;
    let session = Some(Origin { session: LinkSessionId([1; 16]), number: 1 });
    for origin in [None, session, None, session] {
        let ran = AtomicU32::new(0);
        marks
            .once_raw(PEER, origin, async {
                ran.fetch_add(1, Ordering::Relaxed);
                answer("")
            })
            .await
            .unwrap();
        assert_eq!(ran.into_inner(), 1);
    }
}

#[tokio::test]
async fn a_double_waits_for_the_first_and_runs_if_that_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let marks = open(&folder.path().join("marks")).await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let spawn = |text: &'static str| {
        let (marks, gate, started) = (marks.clone(), Arc::clone(&gate), Arc::clone(&started));
        tokio::spawn(async move {
            let effect = async {
                started.add_permits(1);
                gate.acquire().await.unwrap().forget();
                answer(text)
            };
            marks.once_raw(PEER, origin(1, 1), effect).await
        })
    };
    let first = spawn("first");
    started.acquire().await.unwrap().forget();
    let (second, third) = (spawn("second"), spawn("third"));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    started.acquire().await.unwrap().forget();
    gate.add_permits(3);
    let (second, third) = (second.await.unwrap(), third.await.unwrap());
    assert_eq!(second, third);
    assert_eq!(gate.available_permits(), 2, "one of the two ran");
}

#[tokio::test]
async fn a_long_answer_and_an_old_message_are_refused_and_never_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = MarksConfig { max_answer: 10, ..MarksConfig::default() };
    let marks = Marks::open(folder.path().join("marks"), config).await.unwrap();
    let long = answer("longer than that");
    assert_eq!(offer(&marks, 1, 1, long.clone()).await, (true, long));
    let (ran, told) = offer(&marks, 1, 1, answer("")).await;
    assert_eq!((ran, told.unwrap_err().code), (false, Code::ALREADY_EXISTS));
    assert!(offer(&marks, 1, 1 + SPAN, answer("")).await.0);
    let (ran, told) = offer(&marks, 1, 1, answer("")).await;
    assert_eq!((ran, told.unwrap_err().code), (false, Code::ALREADY_EXISTS));
}

#[tokio::test]
async fn a_rewrite_that_fails_forgets_nothing_and_is_tried_again_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (path, draft) = (folder.path().join("marks"), folder.path().join("marks.draft"));
    let marks = open(&path).await;
    fs::create_dir(&draft).unwrap();
    let long = "x".repeat(8000);
    let (failing, last) = (140, 220);
    for number in 1..=last {
        if number == failing {
            assert!(fs::metadata(&path).unwrap().len() > 3_300_000, "it could not be made smaller");
            fs::remove_dir(&draft).unwrap();
        }
        for queue in 1..=3 {
            assert!(offer(&marks, queue, number, answer(&format!("{number} {long}"))).await.0);
        }
    }
    let length = fs::metadata(&path).unwrap().len();
    assert!(length < 3_500_000, "{length}");
    for number in 1..=last {
        assert!(!offer(&marks, 2, number, answer("again")).await.0);
    }
}

#[tokio::test]
async fn the_file_stays_small_and_a_rewrite_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks");
    let mut marks = open(&path).await;
    let long = "x".repeat(8000);
    let last = 400;
    for number in 1..=last {
        for queue in 1..=3 {
            assert!(offer(&marks, queue, number, answer(&format!("{number} {long}"))).await.0);
        }
    }
    for reopened in [false, true] {
        if reopened {
            marks.close().await;
            marks = open(&path).await;
        }
        let length = fs::metadata(&path).unwrap().len();
        assert!(length < 5_000_000, "{length} of {} bytes written", last * 3 * 8000);
        for number in 1..=last {
            let (ran, told) = offer(&marks, 2, number, answer("again")).await;
            assert!(!ran);
            if number > last - WINDOW as u64 {
                assert_eq!(told, answer(&format!("{number} {long}")));
            } else {
                assert_eq!(told.unwrap_err().code, Code::ALREADY_EXISTS);
            }
        }
    }
}

#[tokio::test]
async fn closed_marks_still_know_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let marks = open(&folder.path().join("marks")).await;
    marks.close().await;
    assert_eq!(offer(&marks, 1, 1, answer("only now")).await, (true, answer("only now")));
    let (ran, told) = offer(&marks, 1, 1, answer("")).await;
    assert_eq!((ran, told.unwrap_err().code), (false, Code::ALREADY_EXISTS));
}
