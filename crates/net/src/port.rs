//! What the handles of a link share with its driver: a place to leave calls, and the state of the link. One for each end.
//!
//! It holds nothing until it is used, because a server has one for every silent client. Whoever puts the first thing in wakes
//! the driver, which takes all.

mod driven;
mod orders;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use parlour_proto::link::StreamId;
use parlour_wire::{LinkSessionId, header::Fault, limits};
use tokio::sync::Notify;

pub use orders::SendError;
pub(crate) use orders::{Action, Call, Control, Reply, StreamControl, closed, late, lost, weight};

use crate::{asked::AskCell, shared::SharedDriver, spin::Spin, toolkit::Codecs};

/// Actions that may wait for the driver, beside those that the link itself keeps for a resume.
const ACTIONS: usize = 1024;
/// Bytes of such actions.
const ACTION_BYTES: usize = limits::FRAME;
/// Reports of progress that may wait for the driver; more are dropped.
const REPORTS: usize = 1024;
/// Bytes of answers that may wait for room in the link before handlers wait with theirs.
const ANSWER_BYTES: usize = limits::FRAME;
/// Bits of the first name of a stream, at most.
const NAME_BITS: u32 = 52;
/// Cancelled requests that may lie among the waiting ones before they are cleared out, beside as many as wait.
const GONE: usize = 64;

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    /// Among the calls.
    actions: usize,
    action_bytes: usize,
    /// Size of the largest action that found no room, until one of that size does, or nothing waits any more.
    refused: usize,
    /// Requests among the calls whose callers have gone.
    gone: usize,
    /// No request among the calls has its deadline earlier.
    earliest: Option<Instant>,
    /// A push was refused, and the queue has not been empty since.
    full: bool,
    /// Somebody waits for room.
    room_wanted: bool,
    controls: VecDeque<Control>,
    answers: Answers,
    close: Option<Fault>,
    closed: bool,
    up: bool,
    /// Why the last try to connect has failed, or the last connection has ended.
    trouble: Option<Box<Fault>>,
    /// Counts connections.
    connection: u64,
    session: Option<LinkSessionId>,
}

/// Answers to the peer that wait until the link has room for them.
#[derive(Default)]
struct Answers {
    waiting: VecDeque<Reply>,
    /// Of those, and of those that the driver has taken and the link has not.
    bytes: usize,
    /// Who has more of them.
    answerer: Option<Waker>,
}

impl State {
    fn is_full(&self, bytes: usize) -> bool {
        self.actions >= ACTIONS || self.action_bytes + bytes > ACTION_BYTES
    }

    /// Whether there is room for actions of a usual size, and for what was refused: whoever is told that there is some and then
    /// finds none would ask for ever.
    fn has_room(&self) -> bool {
        !self.is_full(self.refused.max(ACTION_BYTES / 2))
    }
}

/// Where the names of the streams of one link begin. There is room behind it for names that every content type holds exactly, those
/// included that know no numbers but floating ones.
fn somewhere() -> StreamId {
    let mut random = [0; 8];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::warn!(%error, "no random numbers: streams of different sessions share their names");
    }
    u64::from_ne_bytes(random) >> (u64::BITS - NAME_BITS)
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Port {
    state: Mutex<State>,
    driver: AtomicWaker,
    /// The driver itself, at a client's end.
    shared: OnceLock<Arc<SharedDriver>>,
    handles: AtomicUsize,
    /// Reports of progress among the controls.
    reports: AtomicUsize,
    /// The last name that was given to a stream, once there is one.
    streams: OnceLock<AtomicU64>,
    /// The peer is known to be far, or streams are in nobody's way.
    far: AtomicBool,
    /// The link came up, went down, ended, or has room.
    pub(crate) changed: Notify,
    /// The user's content types, if there are any.
    pub(crate) codecs: OnceLock<Codecs>,
}

impl Port {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. It keeps its place in the order of the calls; it is refused if the link has ended. If it is to be written
    /// `here`, the calling thread does that if it can, and wakes nobody; whether it did so is returned.
    pub(crate) fn ask(&self, cell: &Arc<AskCell>, deadline: Option<Instant>, here: bool) -> Result<bool, SendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        let first = state.calls.is_empty();
        state.calls.push_back(Call::Ask(Arc::clone(cell)));
        let sooner = deadline.is_some_and(|at| state.earliest.is_none_or(|earliest| at < earliest));
        if sooner {
            state.earliest = deadline;
        }
        drop(state);
        // If there are calls before this one, somebody else sees to them all.
        let done = here && first && self.shared.get().is_some_and(|driver| driver.turn_here());
        if !done && (first || sooner) {
            self.wake();
        }
        Ok(done)
    }

    /// Whether callers who have written a request themselves look for the answer, at a client's end.
    pub(crate) fn spin(&self) -> Option<&Spin> {
        self.shared.get().map(|driver| &driver.spin)
    }

    /// Queues an action.
    pub(crate) fn act(&self, action: Action) -> Result<(), SendError> {
        self.append(self.lock(), action)
    }

    /// Queues an action of somebody who, once refused, is told when to begin again: until then all of its actions are refused.
    pub(crate) fn push(&self, action: Action) -> Result<(), SendError> {
        let mut state = self.lock();
        state.full |= !state.closed && state.is_full(action.content.len());
        if state.full && !state.closed {
            return Err(SendError::Full);
        }
        self.append(state, action)
    }

    fn append(&self, mut state: MutexGuard<'_, State>, action: Action) -> Result<(), SendError> {
        if state.closed {
            return Err(SendError::Closed);
        }
        let size = action.content.len();
        if state.is_full(size) {
            state.refused = state.refused.max(size);
            return Err(SendError::Full);
        }
        let first = state.calls.is_empty();
        if first || size >= state.refused {
            state.refused = 0;
        }
        state.actions += 1;
        state.action_bytes += action.content.len();
        state.calls.push_back(Call::Action(action));
        drop(state);
        if first {
            self.wake();
        }
        Ok(())
    }

    /// Whether an action of a usual size would be taken, and the largest that was refused. If not, [`Port::changed`] tells when it
    /// is time to look again.
    pub(crate) fn has_room(&self) -> Result<bool, SendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        let room = state.has_room();
        state.room_wanted |= !room;
        Ok(room)
    }

    pub(crate) fn control(&self, control: Control) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        if let Control::Progress { id, done, total } = control {
            // Only the last report of a run counts.
            if let Some(Control::Progress { id: last, done: last_done, total: last_total }) = state.controls.back_mut()
                && *last == id
            {
                (*last_done, *last_total) = (done, total);
                return Ok(());
            }
            if self.reports.load(Ordering::Acquire) >= REPORTS {
                return Err(SendError::Full);
            }
            self.reports.fetch_add(1, Ordering::Release);
        }
        let first = state.controls.is_empty();
        state.controls.push_back(control);
        drop(state);
        if first {
            self.wake();
        }
        Ok(())
    }

    /// Answers a request of the peer. The answer waits until the link has room for it.
    pub(crate) fn answer(&self, reply: Reply) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        let first = state.answers.waiting.is_empty();
        state.answers.bytes += weight(&reply.1);
        state.answers.waiting.push_back(reply);
        drop(state);
        if first {
            self.wake();
        }
        Ok(())
    }

    /// Whether few answers wait. If not, the waker is woken when that has changed.
    pub(crate) fn poll_answers(&self, cx: &Context<'_>) -> bool {
        let answers = &mut self.lock().answers;
        let room = answers.bytes < ANSWER_BYTES;
        if !room {
            answers.answerer = Some(cx.waker().clone());
        }
        room
    }

    /// Asks for the end of the session, after the calls before it as far as there is room for them. The first reason counts.
    pub(crate) fn close(&self, fault: Fault) {
        self.lock().close.get_or_insert(fault);
        self.wake();
    }

    /// The caller of a request that has not been taken has gone.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.gone += 1;
        if state.gone > GONE.max(state.calls.len() / 2) {
            state.calls.retain(|call| !matches!(call, Call::Ask(cell) if cell.is_gone()));
            state.gone = 0;
        }
    }

    pub(crate) fn wake(&self) {
        self.driver.wake();
    }

    /// A name for a stream that no other of this link has had, nor of another session with the same peer: who still holds the name of a
    /// stream that ended with its session must not take another one for it.
    pub(crate) fn next_stream(&self) -> StreamId {
        self.streams.get_or_init(|| AtomicU64::new(somewhere())).fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_up(&self) -> bool {
        self.lock().up
    }

    pub(crate) fn trouble(&self) -> Option<Fault> {
        self.lock().trouble.as_deref().cloned()
    }

    /// The number of the connection at hand, or of the last one.
    pub(crate) fn connection(&self) -> u64 {
        self.lock().connection
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn session(&self) -> Option<LinkSessionId> {
        self.lock().session
    }

    /// One more handle keeps the link.
    pub(crate) fn hold(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// One handle less keeps the link.
    pub(crate) fn release(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use parlour_wire::frame::ContentType;

    use super::*;

    fn act(port: &Port, size: usize) -> Result<(), SendError> {
        port.act(Action::new("act", ContentType::BYTES, vec![0; size].into())?)
    }

    #[test]
    fn there_is_room_when_what_was_refused_would_be_taken() {
        let (port, mut batch) = (Port::default(), VecDeque::new());
        act(&port, 300_000).unwrap();
        assert_eq!(port.has_room(), Ok(true));
        assert_eq!(act(&port, 900_000), Err(SendError::Full));
        assert_eq!((port.has_room(), act(&port, 100_000)), (Ok(false), Ok(())), "smaller ones are taken");
        port.take_calls(&mut batch, 1);
        assert_eq!((port.has_room(), act(&port, 900_000)), (Ok(true), Ok(())));
        port.take_calls(&mut batch, 2);
        // Whoever has given up is not waited for.
        act(&port, 300_000).unwrap();
        assert_eq!((act(&port, 900_000), port.has_room()), (Err(SendError::Full), Ok(false)));
        port.take_calls(&mut batch, 1);
        act(&port, 300_000).unwrap();
        assert_eq!(port.has_room(), Ok(true));
    }
}
