//! From a stream to the disk: takes chunks as they come, and hands them in batches to the thread that hashes and writes them.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use parlour_wire::{Code, files::Whole, header::Fault};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    error::FileError,
    intake::{Chunk, Delivery, Intake},
};
use crate::streams::{Received, Sink};

/// What the sender may have under way: enough for 50 ms at 40 MB/s.
pub(super) const WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes that are handed over at once.
const BATCH: usize = 256 * 1024;
/// Chunks that are handed over at once, if they are small.
const BATCH_CHUNKS: usize = 256;
/// Batches that wait for the disk.
const WAITING: usize = 1;

/// Receives a file. It is on disk under its name when this comes back without an error. It ends early with the error of `stop` when
/// that comes to its end; [`FileError::Cancelled`] makes it forget what it has.
///
/// Dropping the future stops the stream; the thread that writes then keeps the part file on its own time.
pub(super) async fn receive(
    mut sink: Sink,
    intake: Intake,
    idle: Duration,
    stop: impl Future<Output = FileError>,
) -> Result<Whole, FileError> {
    let (deliveries, queue) = mpsc::channel(WAITING);
    let writer = tokio::task::spawn_blocking(move || intake.run(queue));
    let lost = tokio::select! {
        lost = pass_on(&mut sink, &deliveries, idle) => lost,
        error = stop => Some(error),
    };
    if lost == Some(FileError::Cancelled) {
        // A writer that has ended has nothing to forget.
        let _ = deliveries.send(Delivery::Discard).await;
    }
    drop(deliveries);
    // Without more deliveries the writer comes to its end.
    let result = match (finished(writer).await, lost) {
        // What ended the stream is the reason why nothing more came.
        (Err(FileError::Cancelled), Some(lost)) => Err(lost),
        (result, _) => result,
    };
    if let Err(error) = &result {
        sink.stop(error.fault());
    }
    result
}

/// Waits for a thread.
pub(super) async fn finished<T>(thread: JoinHandle<Result<T, FileError>>) -> Result<T, FileError> {
    thread.await.unwrap_or_else(|error| {
        // A runtime that shuts down runs no more threads; anything else is a bug.
        if error.is_panic() {
            tracing::error!(%error, "a thread of a transfer has panicked");
        }
        Err(FileError::Io { action: "work on", reason: "the thread was lost".to_owned() })
    })
}

/// Passes on what comes until the stream ends; then the error that ended it. `None` if it was completed, or the writer wants no more.
async fn pass_on(sink: &mut Sink, deliveries: &mpsc::Sender<Delivery>, idle: Duration) -> Option<FileError> {
    loop {
        let first = tokio::select! {
            first = tokio::time::timeout(idle, sink.recv()) => first,
            () = deliveries.closed() => return None,
        };
        let first = match first {
            Ok(Ok(first)) => first,
            Ok(Err(fault)) => return Some(ended(fault)),
            Err(_) => return Some(FileError::Stalled(idle)),
        };
        let (chunks, end) = gather(sink, first);
        let batch = (!chunks.is_empty()).then_some(Delivery::Chunks(chunks));
        let (last, fault) = match end {
            Some(Ok(words)) => (Some(Delivery::End(words)), None),
            Some(Err(fault)) => (None, Some(ended(fault))),
            None => (None, None),
        };
        let over = last.is_some() || fault.is_some();
        for delivery in batch.into_iter().chain(last) {
            if deliveries.send(delivery).await.is_err() {
                return None;
            }
        }
        if over {
            return fault;
        }
    }
}

/// Takes what is there already, up to a batch.
fn gather(sink: &mut Sink, first: Received) -> (Vec<Chunk>, Option<Result<Bytes, Fault>>) {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    let mut next = first;
    loop {
        match next {
            Received::Chunk { mark, content } => {
                bytes += content.len();
                chunks.push((mark, content));
            }
            Received::Finished(words) => return (chunks, Some(Ok(words))),
        }
        if bytes >= BATCH || chunks.len() >= BATCH_CHUNKS {
            return (chunks, None);
        }
        match sink.recv().now_or_never() {
            Some(Ok(more)) => next = more,
            Some(Err(fault)) => return (chunks, Some(Err(fault))),
            None => return (chunks, None),
        }
    }
}

/// The sender has given the stream up, or the connection is gone.
pub(super) fn ended(fault: Fault) -> FileError {
    match fault.code {
        // Dropped without a word: whoever sent it may come again.
        Code::CANCELLED => FileError::Lost(Fault::new(Code::LINK_LOST, fault.message)),
        _ => fault.into(),
    }
}
