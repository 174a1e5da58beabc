//! From the disk to a stream: takes blocks from the thread that reads and hashes them, and sends them in chunks.

use std::{future::Future, pin::Pin, time::Duration};

use parlour_wire::{
    encode,
    files::{Closing, Part, Whole},
    header::Fault,
    limits,
};
use tokio::sync::mpsc;

use super::{
    error::FileError,
    meter::Meter,
    reader::{Block, READ_AHEAD, Reader},
    receive::{ended, finished},
};
use crate::streams::Source;

/// How long the last words of a transfer that is given up may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Sends a file to a receiver that has a part of it. Comes back when all is on its way, or with the error of `stop` when that comes
/// to its end: [`FileError::Cancelled`] makes the receiver forget what it has.
///
/// Dropping the future gives the stream up, and the receiver keeps what it has.
pub(super) async fn send(
    mut source: Source,
    reader: Reader,
    part: Part,
    idle: Duration,
    meter: &Meter,
    stop: impl Future<Output = FileError>,
) -> Result<Whole, FileError> {
    let (blocks, mut queue) = mpsc::channel(READ_AHEAD);
    let total = reader.size();
    let thread = tokio::task::spawn_blocking(move || reader.run(&part, &blocks));
    let mut stop = std::pin::pin!(stop);
    let passed = tokio::select! {
        passed = pass_on(&mut source, &mut queue, idle, total, meter) => passed,
        error = stop.as_mut() => Err(error),
    };
    drop(queue);
    let read = finished(thread).await;
    match passed.and(read) {
        Ok(whole) => {
            finish(source, whole, idle, stop).await?;
            Ok(whole)
        }
        Err(FileError::Cancelled) => {
            // A receiver that takes nothing keeps its part file until that is stale.
            let words = encode(&Closing { whole: None });
            let _ = within(FAREWELL, source.finish(words.into())).await;
            Err(FileError::Cancelled)
        }
        Err(error) => {
            source.abort(error.fault());
            Err(error)
        }
    }
}

async fn finish(
    source: Source,
    whole: Whole,
    idle: Duration,
    stop: Pin<&mut impl Future<Output = FileError>>,
) -> Result<(), FileError> {
    let words = encode(&Closing { whole: Some(whole) });
    tokio::select! {
        finished = within(idle, source.finish(words.into())) => finished,
        error = stop => Err(error),
    }
}

async fn pass_on(
    source: &mut Source,
    queue: &mut mpsc::Receiver<Block>,
    idle: Duration,
    total: u64,
    meter: &Meter,
) -> Result<(), FileError> {
    loop {
        // A file that is read slowly must not hide that the receiver has gone.
        let block = tokio::select! {
            block = queue.recv() => block,
            fault = source.stopped() => return Err(ended(fault)),
        };
        let Some(Block { mut mark, mut data, end }) = block else { return Ok(()) };
        loop {
            let chunk = data.split_to(data.len().min(limits::STREAM_CHUNK));
            let size = chunk.len();
            within(idle, source.send(std::mem::take(&mut mark), chunk)).await?;
            meter.moved(size);
            if data.is_empty() {
                break;
            }
        }
        meter.report(end, total);
    }
}

/// A step that the receiver must let happen.
async fn within(idle: Duration, step: impl Future<Output = Result<(), Fault>>) -> Result<(), FileError> {
    match tokio::time::timeout(idle, step).await {
        Ok(result) => result.map_err(ended),
        Err(_) => Err(FileError::Stalled(idle)),
    }
}
