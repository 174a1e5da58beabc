//! A request on its way: what the caller holds of it, and the place where the driver puts the answer.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parlour_proto::link::{Answer, Tag};
use parlour_wire::{
    LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
};

use crate::{
    link::Link,
    port::{Control, closed, lost},
    pump::now,
    spin,
};

/// Content that a caller encrypts and writes itself, at most: one TLS record, which takes some microseconds.
const SMALL: usize = 16 * 1024;

/// A request as it is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Name of the handler.
    pub name: String,
    /// How to read the content.
    pub content_type: ContentType,
    /// The content.
    pub content: Bytes,
    /// How long to wait for the answer, from the call on; `None` to wait as long as the session lives.
    pub timeout: Option<Duration>,
    /// Where it was sent first, if it is sent again: a peer that remembers lets it take effect once.
    pub origin: Option<Origin>,
}

/// How far a request has come, as its handler tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Done so far, in units of the handler.
    pub done: u64,
    /// All there is to do, if known.
    pub total: Option<u64>,
}

/// A request that has been asked: a future of its answer. Dropping it cancels the request.
///
/// The request has its place in the order of the link's calls from [`Link::ask`] on, whether this is polled or not. It keeps the
/// link as a handle does.
#[must_use = "dropping it cancels the request"]
pub struct Asked {
    link: Link,
    cell: Arc<AskCell>,
    look: Option<Look>,
}

/// Of a request that its caller has written itself.
struct Look {
    made: Instant,
    /// The caller looks for the answer before it sleeps.
    looks: bool,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Asked {
    /// With a session in `within`, the request fails with `link_lost` unless it is sent and answered in that one. The caller may write
    /// an `awaited` one itself.
    pub(crate) fn new(link: &Link, ask: Ask, within: Option<LinkSessionId>, awaited: bool) -> Self {
        let made = now();
        let small = ask.content.len() <= SMALL;
        let deadline = ask.timeout.and_then(|timeout| made.checked_add(timeout));
        let stage = Stage::Queued { ask, within, made, deadline };
        let state = State { stage, progress: None, reported: false, waker: None };
        let cell = Arc::new(AskCell(Mutex::new(state)));
        let written = link.port.ask(&cell, deadline, awaited && small).unwrap_or_else(|_| {
            cell.complete(Err(closed()));
            false
        });
        let spin = if written { link.port.spin() } else { None };
        let look = spin.map(|spin| Look { made, looks: spin.looks() });
        Self { link: link.clone(), cell, look }
    }

    /// A request that goes before all that this session has not sent yet, also while that is kept back.
    pub(crate) fn first(link: &Link, ask: Ask, session: LinkSessionId) -> Self {
        let stage = Stage::Queued { ask, within: Some(session), made: now(), deadline: None };
        let state = State { stage, progress: None, reported: false, waker: None };
        let cell = Arc::new(AskCell(Mutex::new(state)));
        if link.port.control(Control::First(Arc::clone(&cell))).is_err() {
            cell.complete(Err(closed()));
        }
        Self { link: link.clone(), cell, look: None }
    }

    /// The latest report of the handler on how far it has come. The task that waits for the answer is woken for every report.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.cell.lock().progress
    }

    /// Tells the link's account that the answer is there.
    fn note_answer(&mut self) {
        match (self.look.take(), self.link.port.spin()) {
            (Some(Look { looks: true, .. }), Some(spin)) => spin.found(),
            (Some(Look { made, looks: false }), Some(spin)) => spin.answered(now().saturating_duration_since(made)),
            _ => {}
        }
    }

    /// Whether this is polled again soon rather than when the answer wakes its task.
    fn looks_again(&mut self) -> bool {
        let (Some(Look { made, looks: true }), Some(spin)) = (&self.look, self.link.port.spin()) else { return false };
        let goes_on = spin.goes_on(*made, now());
        if !goes_on {
            self.look = None;
        }
        goes_on
    }

    /// Whether the handler has reported since the last call of this.
    pub(crate) fn is_alive(&self) -> bool {
        std::mem::take(&mut self.cell.lock().reported)
    }
}

impl Future for Asked {
    type Output = Result<Answer, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.cell.lock();
        if let Stage::Done(_) = state.stage
            && let Stage::Done(result) = std::mem::replace(&mut state.stage, Stage::Gone)
        {
            drop(state);
            self.note_answer();
            return Poll::Ready(result);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(state);
        if self.looks_again() {
            spin::again(cx);
        }
        Poll::Pending
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.cell.lock().stage, Stage::Gone);
        match stage {
            Stage::Queued { .. } => self.link.port.abandon(),
            // A driver that has gone has nothing left to cancel.
            Stage::Taken(tag) => {
                let _ = self.link.port.control(Control::Cancel(tag));
            }
            Stage::Done(_) | Stage::Gone => {}
        }
    }
}

/// Where a request is.
enum Stage {
    /// It waits for room in the link.
    Queued { ask: Ask, within: Option<LinkSessionId>, made: Instant, deadline: Option<Instant> },
    /// It is under way.
    Taken(Tag),
    /// It is answered, and nobody has looked yet.
    Done(Result<Answer, Fault>),
    /// Nobody waits for it.
    Gone,
}

struct State {
    stage: Stage,
    progress: Option<Progress>,
    /// There was a report that [`Asked::is_alive`] has not told of.
    reported: bool,
    waker: Option<Waker>,
}

/// What the caller of a request and the driver share.
pub(crate) struct AskCell(Mutex<State>);

impl AskCell {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the request for this session of the link, and says whether it is for no other; `None` if nobody waits for it any more, or
    /// it was for another session. The timeout is what is left of it.
    pub(crate) fn take(&self, tag: Tag, session: Option<LinkSessionId>, now: Instant) -> Option<(Ask, bool)> {
        let mut state = self.lock();
        let Stage::Queued { within, .. } = &state.stage else { return None };
        let bound = within.is_some();
        if bound && *within != session {
            drop(state);
            self.complete(Err(lost()));
            return None;
        }
        let Stage::Queued { mut ask, made, .. } = std::mem::replace(&mut state.stage, Stage::Taken(tag)) else { return None };
        drop(state);
        let waited = now.saturating_duration_since(made);
        ask.timeout = ask.timeout.map(|timeout| {
            // A short wait does not count, so that requests of a kind have the same header on the wire, which is made once.
            if waited < timeout / 16 { timeout } else { timeout.saturating_sub(waited) }
        });
        Some((ask, bound))
    }

    /// Name and content, while it waits for room.
    pub(crate) fn bytes(&self) -> usize {
        match &self.lock().stage {
            Stage::Queued { ask, .. } => ask.name.len() + ask.content.len(),
            _ => 0,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.lock().stage, Stage::Gone)
    }

    /// When the wait for room is over.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        match self.lock().stage {
            Stage::Queued { deadline, .. } => deadline,
            _ => None,
        }
    }

    pub(crate) fn complete(&self, result: Result<Answer, Fault>) {
        if let Some(waker) = self.settle(result) {
            waker.wake();
        }
    }

    /// As [`AskCell::complete`], but leaves it to the caller to wake who waits for the answer.
    #[must_use]
    pub(crate) fn settle(&self, result: Result<Answer, Fault>) -> Option<Waker> {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Gone) {
            return None;
        }
        let before = std::mem::replace(&mut state.stage, Stage::Done(result));
        let waker = state.waker.take();
        drop(state);
        drop(before);
        waker
    }

    pub(crate) fn report(&self, progress: Progress) {
        let mut state = self.lock();
        state.progress = Some(progress);
        state.reported = true;
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
