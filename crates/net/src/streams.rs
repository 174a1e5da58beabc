//! Streams: bulk data beside the calls of a link. The end that wants the data opens a [`Sink`] and tells the other its name and
//! credit in a request; the other answers with a [`Source`].
//!
//! Between a handle and the driver lies a short queue. Whoever finds it empty wakes the other side, so a stream that flows costs
//! few wakes; what a peer may send is bounded by the credit that its sink gives, and what a source may queue by a constant.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parlour_proto::link::{StreamId, chunk_cost};
use parlour_wire::{Code, header::Fault, limits};

use crate::{
    allowance::Allowance,
    link::Link,
    port::{Control, StreamControl, closed},
};

/// Cost of the chunks of a source that may wait for the driver: what it moves while the next ones are made.
const QUEUE: usize = limits::STREAM_QUEUE;

/// Wakes whoever waits, if somebody does.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What a sink receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The next piece of the stream.
    Chunk {
        /// What the sender says about it.
        mark: Bytes,
        /// The data.
        content: Bytes,
    },
    /// The stream is complete; these are the sender's last words. Nothing follows.
    Finished(Bytes),
}

/// The receiving end of a stream. Dropping it stops the stream.
///
/// A stream lives on one connection: it ends with it, and the application begins another one where this one stopped.
pub struct Sink {
    link: Link,
    stream: StreamId,
    allowance: Allowance,
    cell: Arc<SinkCell>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("stream", &self.stream).field("allowance", &self.allowance).finish_non_exhaustive()
    }
}

impl Sink {
    pub(crate) fn new(link: &Link, credit: u32) -> Self {
        let allowance = Allowance::new(credit, link.port.is_near());
        let stream = link.port.next_stream();
        let cell = Arc::new(SinkCell::default());
        let open = StreamControl::Sink { stream, credit: allowance.begun().into(), cell: Arc::clone(&cell) };
        if link.port.control(Control::Stream(open)).is_err() {
            cell.end(Err(closed()));
        }
        Self { link: link.clone(), stream, allowance, cell }
    }

    /// The name of the stream, which the peer is to be told.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.stream
    }

    /// The credit that it begins with, which the peer is to be told: with another number the two ends would miscount.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.allowance.begun()
    }

    /// Waits for the next piece. The sender may send as much more as has been taken.
    ///
    /// # Errors
    /// The sender's fault if it gave up; `link_lost` if the connection is gone.
    pub async fn recv(&mut self) -> Result<Received, Fault> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`Sink::recv`] for futures that are written by hand.
    ///
    /// # Errors
    /// As [`Sink::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Fault>> {
        let mut state = self.cell.lock();
        let Some(chunk) = state.chunks.pop_front() else {
            return match &state.result {
                Some(result) => Poll::Ready(result.clone().map(Received::Finished)),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let goes_on = state.result.is_none();
        drop(state);
        if let Some(credit) = self.allowance.take(chunk.cost, self.link.port.is_near())
            && goes_on
        {
            // A link that has ended has told the sink so.
            let _ = self.link.port.control(Control::Stream(StreamControl::Grant { stream: self.stream, credit }));
        }
        Poll::Ready(Ok(Received::Chunk { mark: chunk.mark, content: chunk.content }))
    }

    /// Wants no more of the stream, for a reason that the sender is told.
    pub fn stop(self, fault: Fault) {
        self.give_up(fault);
    }

    fn give_up(&self, fault: Fault) {
        let mut state = self.cell.lock();
        state.chunks = VecDeque::new();
        let over = state.result.replace(Err(fault.clone())).is_some();
        drop(state);
        if !over {
            let _ = self.link.port.control(Control::Stream(StreamControl::Stop { stream: self.stream, fault }));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.give_up(dropped());
    }
}

fn dropped() -> Fault {
    Fault { code: Code::CANCELLED, message: "the stream was given up".to_owned(), retry_after_ms: None }
}

/// A chunk on its way to the reader.
struct Arrived {
    mark: Bytes,
    content: Bytes,
    cost: u64,
}

#[derive(Default)]
struct SinkState {
    chunks: VecDeque<Arrived>,
    result: Option<Result<Bytes, Fault>>,
    waker: Option<Waker>,
}

/// What a sink shares with the driver.
#[derive(Default)]
pub(crate) struct SinkCell(Mutex<SinkState>);

impl SinkCell {
    fn lock(&self) -> MutexGuard<'_, SinkState> {
        // Nothing that runs under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, mark: Bytes, content: Bytes, cost: u64) {
        let mut state = self.lock();
        if state.result.is_none() {
            state.chunks.push_back(Arrived { mark, content, cost });
            let waker = state.waker.take();
            drop(state);
            wake(waker);
        }
    }

    pub(crate) fn end(&self, result: Result<Bytes, Fault>) {
        let mut state = self.lock();
        state.result.get_or_insert(result);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }
}

/// The sending end of a stream. Dropping it gives the stream up, unless it was finished.
pub struct Source {
    link: Link,
    stream: StreamId,
    cell: Arc<SourceCell>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Source {
    pub(crate) fn new(link: &Link, stream: StreamId, credit: u64) -> Self {
        let cell = Arc::new(SourceCell::default());
        let open = StreamControl::Source { stream, credit, cell: Arc::clone(&cell) };
        if link.port.control(Control::Stream(open)).is_err() {
            cell.end(closed());
        }
        Self { link: link.clone(), stream, cell }
    }

    /// The name of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.stream
    }

    /// Queues a chunk, once there is room for it.
    ///
    /// # Errors
    /// `too_large` for more than [`limits::STREAM_CHUNK`] bytes, or a mark of more than [`limits::STREAM_MARK`]; the fault of a
    /// receiver that wants no more; `link_lost` if the connection is gone.
    pub async fn send(&mut self, mark: Bytes, content: Bytes) -> Result<(), Fault> {
        let mut chunk = Some((mark, content));
        std::future::poll_fn(|cx| self.poll_send(cx, &mut chunk)).await
    }

    /// [`Source::send`] for futures that are written by hand: takes the mark and content out of `chunk` when there is room.
    ///
    /// # Errors
    /// As [`Source::send`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>, chunk: &mut Option<(Bytes, Bytes)>) -> Poll<Result<(), Fault>> {
        let mut state = self.cell.lock();
        if let Some(fault) = &state.over {
            return Poll::Ready(Err(fault.clone()));
        }
        let Some((mark, content)) = chunk else { return Poll::Ready(Ok(())) };
        if mark.len() > limits::STREAM_MARK || content.len() > limits::STREAM_CHUNK {
            return Poll::Ready(Err(too_large("the chunk is larger than allowed")));
        }
        let cost = chunk_cost(content.len());
        if state.queued + cost > QUEUE {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (mark, content) = (std::mem::take(mark), std::mem::take(content));
        *chunk = None;
        state.queued += cost;
        state.chunks.push_back((mark, content));
        let first = !std::mem::replace(&mut state.announced, true);
        drop(state);
        if first {
            self.announce();
        }
        Poll::Ready(Ok(()))
    }

    /// Completes the stream with last words for the receiver, after the chunks before. Returns when they are on their way; that they
    /// have arrived is for the receiver to say.
    ///
    /// # Errors
    /// `too_large` for more than [`limits::STREAM_FINISH`] bytes; otherwise as [`Source::send`].
    pub async fn finish(self, content: Bytes) -> Result<(), Fault> {
        if content.len() > limits::STREAM_FINISH {
            return Err(too_large("the end of the stream is larger than allowed"));
        }
        self.cell.lock().end.get_or_insert(End::Finish(content));
        self.announce();
        std::future::poll_fn(|cx| {
            let mut state = self.cell.lock();
            match (&state.over, state.finished) {
                (_, true) => Poll::Ready(Ok(())),
                (Some(fault), false) => Poll::Ready(Err(fault.clone())),
                (None, false) => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits until the stream is over from the other side: the receiver wants no more, or the connection is gone. For who makes
    /// chunks slowly.
    pub async fn stopped(&mut self) -> Fault {
        std::future::poll_fn(|cx| {
            let mut state = self.cell.lock();
            if let Some(fault) = &state.over {
                return Poll::Ready(fault.clone());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Gives the stream up, for a reason that the receiver is told. Chunks that wait are dropped.
    pub fn abort(self, fault: Fault) {
        self.give_up(fault);
    }

    fn give_up(&self, fault: Fault) {
        let mut state = self.cell.lock();
        if state.over.is_some() || state.finished || matches!(state.end, Some(End::Abort(_))) {
            return;
        }
        state.chunks = VecDeque::new();
        state.end = Some(End::Abort(fault));
        drop(state);
        self.announce();
    }

    fn announce(&self) {
        // A link that has ended has told the source so.
        let _ = self.link.port.control(Control::Stream(StreamControl::Ready { stream: self.stream }));
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.give_up(dropped());
    }
}

fn too_large(message: &str) -> Fault {
    Fault { code: Code::TOO_LARGE, message: message.to_owned(), retry_after_ms: None }
}

/// How a source ends its stream.
pub(crate) enum End {
    Finish(Bytes),
    Abort(Fault),
}

/// What the driver finds in the queue of a source.
pub(crate) enum Next {
    /// A chunk for which there is room.
    Chunk(Bytes, Bytes),
    /// A chunk for which there is no room.
    Blocked(Bytes, Bytes),
    /// The end.
    End(End),
    /// Nothing at the moment; the source says when there is.
    Nothing,
}

#[derive(Default)]
struct SourceState {
    chunks: VecDeque<(Bytes, Bytes)>,
    /// Cost of the chunks.
    queued: usize,
    /// The driver has been told that there are chunks, and has not found none since.
    announced: bool,
    end: Option<End>,
    /// The machine has taken the end.
    finished: bool,
    /// The stream has been ended from the other side.
    over: Option<Fault>,
    waker: Option<Waker>,
}

/// What a source shares with the driver.
#[derive(Default)]
pub(crate) struct SourceCell(Mutex<SourceState>);

impl SourceCell {
    fn lock(&self) -> MutexGuard<'_, SourceState> {
        // Nothing that runs under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do for the stream, given the room that the machine has for it.
    pub(crate) fn next(&self, room: usize) -> Next {
        let mut state = self.lock();
        let Some((mark, content)) = state.chunks.front() else {
            return match state.end.take() {
                Some(end) => Next::End(end),
                None => {
                    state.announced = false;
                    Next::Nothing
                }
            };
        };
        if chunk_cost(content.len()) > room {
            return Next::Blocked(mark.clone(), content.clone());
        }
        let Some((mark, content)) = state.chunks.pop_front() else { return Next::Nothing };
        state.queued -= chunk_cost(content.len());
        // The other side is woken when there is something to do, and not for every chunk.
        let waker = if state.queued <= QUEUE / 2 { state.waker.take() } else { None };
        drop(state);
        wake(waker);
        Next::Chunk(mark, content)
    }

    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    pub(crate) fn end(&self, fault: Fault) {
        let mut state = self.lock();
        state.chunks = VecDeque::new();
        state.over.get_or_insert(fault);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }
}
