//! What a handler is told about the call that it handles.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parlour_proto::link::RequestId;
use parlour_wire::header::Origin;
use tokio::sync::Notify;

use super::peer::Peer;
use crate::{link::Link, pump::now};

/// What a handler is told about the call that it handles. Cheap to clone.
///
/// ```
/// use parlour_net::{Access, Context, Fault, Handlers};
///
/// /// A function does as well as a closure.
/// async fn introduce(cx: Context, greeting: String) -> Result<String, Fault> {
///     // The caller has handlers too.
///     let name: String = cx.link().request("name", &()).await?;
///     Ok(format!("{greeting}, {name}"))
/// }
///
/// let mut handlers = Handlers::new();
/// handlers.on_request("introduce", introduce).allow(Access::Authenticated);
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    peer: Peer,
    /// Of a request.
    call: Option<Arc<CallState>>,
}

/// A request, as its handler and the dispatcher share it.
#[derive(Debug)]
pub(crate) struct CallState {
    id: RequestId,
    deadline: Option<Instant>,
    origin: Option<Origin>,
    pub(crate) interest: Interest,
}

impl CallState {
    pub(crate) fn new(id: RequestId, deadline: Option<Instant>, origin: Option<Origin>) -> Self {
        Self { id, deadline, origin, interest: Interest::new() }
    }
}

/// Whether anybody waits for what a request comes to.
#[derive(Debug)]
pub(crate) struct Interest {
    cancelled: AtomicBool,
    signal: Notify,
    /// Sessions that have asked for it, and have not given it up.
    askers: AtomicUsize,
}

impl Interest {
    fn new() -> Self {
        Self { cancelled: AtomicBool::new(false), signal: Notify::new(), askers: AtomicUsize::new(1) }
    }

    /// The request has come again, in another session.
    pub(crate) fn ask_again(&self) {
        self.askers.fetch_add(1, Ordering::AcqRel);
    }

    /// A session that has asked is over for so long that it does not count any more.
    pub(crate) fn give_up(&self) {
        if self.askers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.cancel();
        }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.signal.notify_waiters();
    }

    fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    async fn over(&self) {
        loop {
            let mut signal = std::pin::pin!(self.signal.notified());
            signal.as_mut().enable();
            if self.is_over() {
                return;
            }
            signal.await;
        }
    }
}

impl Context {
    pub(crate) fn new(peer: Peer, call: Option<Arc<CallState>>) -> Self {
        Self { peer, call }
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The link to the caller, to ask it back or to send it actions.
    #[must_use]
    pub fn link(&self) -> &Link {
        self.peer.link()
    }

    /// Tells the caller how far the request has come, in units of the handler. A report may be left out if there are many; of an
    /// action it goes nowhere.
    pub fn progress(&self, done: u64, total: Option<u64>) {
        if let Some(call) = &self.call {
            // A caller that takes no more reports, or has gone, will do without this one.
            let _ = self.link().progress(call.id, done, total);
        }
    }

    /// Comes back when the caller waits no longer: it has cancelled the request, its deadline has passed, or its session was
    /// closed. The handler decides what that means; it is not stopped. Never comes back for an action.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use parlour_net::{Code, Handlers, refuse};
    ///
    /// # async fn one_step() {}
    /// let mut handlers = Handlers::new();
    /// handlers.on_request("survey", |cx, points: u64| async move {
    ///     for point in 0..points {
    ///         tokio::select! {
    ///             () = one_step() => cx.progress(point + 1, Some(points)),
    ///             () = cx.cancelled() => return Err(refuse(Code::CANCELLED, "landed early")),
    ///         }
    ///     }
    ///     Ok(points)
    /// });
    /// ```
    pub async fn cancelled(&self) {
        let Some(call) = &self.call else { return std::future::pending().await };
        match call.deadline {
            Some(deadline) => drop(tokio::time::timeout_at(deadline.into(), call.interest.over()).await),
            None => call.interest.over().await,
        }
    }

    /// Whether the caller waits no longer.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let over = |call: &Arc<CallState>| call.interest.is_over() || call.deadline.is_some_and(|at| at <= now());
        self.call.as_ref().is_some_and(over)
    }

    /// When the caller no longer waits; `None` if it waits for ever, and of an action.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.call.as_ref().and_then(|call| call.deadline)
    }

    /// Where the request was sent first, if it has come again or comes out of a durable queue.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.call.as_ref().and_then(|call| call.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_over_when_the_last_session_that_asked_for_it_has_given_it_up() {
        let interest = Interest::new();
        interest.ask_again();
        interest.give_up();
        assert!(!interest.is_over(), "it has come again");
        interest.give_up();
        assert!(interest.is_over());
    }
}
