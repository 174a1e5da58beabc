//! A client's driver, where its task polls it and its callers may.
//!
//! Waking the task of a driver means waiting for another thread, if the caller is on none of the runtime's; that takes longer than
//! all that becomes of a small request. So who waits for the answer of one, on a link that does nothing else, polls the driver in
//! the place of its task and with the waker of that. For the driver it is a poll like any other: a task may be polled at any time.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

use crate::{
    driver::{Driver, Turn},
    spin::Spin,
    toolkit::text_of,
};

/// See the module's documentation.
pub(crate) struct SharedDriver {
    /// Where the driver has its timers and tasks, whichever thread polls it.
    runtime: Handle,
    /// Empty once the link has ended.
    seat: Mutex<Option<Seat>>,
    /// Whether callers who have polled it look for what comes of that.
    pub(crate) spin: Spin,
}

struct Seat {
    driver: Driver,
    /// The waker of the task, once that has been polled.
    waker: Option<Waker>,
}

impl SharedDriver {
    /// Starts the task of a driver on the current runtime.
    pub(crate) fn spawn(driver: Driver) -> Arc<Self> {
        let runtime = Handle::current();
        let spin = Spin::new(driver.spin());
        let shared = Arc::new(Self { runtime, spin, seat: Mutex::new(Some(Seat { driver, waker: None })) });
        shared.runtime.spawn(Task(Arc::clone(&shared)));
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seat>> {
        // A panic of the driver is caught under the lock; what else runs there cannot panic.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the calling thread take one turn of the driver, if its link is at rest. If not, or if there is more to do than one turn
    /// does (`false`), the task must be woken.
    pub(crate) fn turn_here(&self) -> bool {
        // Somebody else has it, who may have looked for calls already.
        let Ok(mut seat) = self.seat.try_lock() else { return false };
        let Some(Seat { driver, waker: Some(waker) }) = &mut *seat else { return false };
        if !driver.is_at_rest() {
            return false;
        }
        let _context = self.runtime.enter();
        let turn = caught(driver, |driver| driver.turn_once(&mut Context::from_waker(waker)));
        let (done, over) = (matches!(turn, Some(Turn::Idle)), matches!(turn, Some(Turn::Over) | None));
        leave(seat, over);
        done
    }
}

/// A driver that panics takes its link with it, and nothing of whoever polls it.
fn caught<T>(driver: &mut Driver, poll: impl FnOnce(&mut Driver) -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(|| poll(driver))) {
        Ok(polled) => Some(polled),
        Err(panic) => {
            tracing::error!(reason = text_of(&*panic), "the driver of a link panicked");
            driver.on_panic();
            None
        }
    }
}

/// Lets others poll the driver, and then tells who waits for an answer that has come.
fn leave(mut seat: MutexGuard<'_, Option<Seat>>, over: bool) {
    let answered = seat.as_mut().and_then(|seat| seat.driver.take_answered());
    let gone = if over { seat.take() } else { None };
    drop(seat);
    if let Some(waker) = answered {
        waker.wake();
    }
    // Not under the lock: callers are told, who may do anything.
    drop(gone);
}

/// The task of a driver, for as long as its link lives.
struct Task(Arc<SharedDriver>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut seat = self.0.lock();
        let Some(Seat { driver, waker }) = &mut *seat else { return Poll::Ready(()) };
        match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let polled = caught(driver, |driver| Pin::new(driver).poll(cx)).unwrap_or(Poll::Ready(()));
        leave(seat, polled.is_ready());
        polled
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        leave(self.0.lock(), true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{FutureExt, future::join_all};
    use parlour_wire::{Code, Frame, frame::ContentType, header::Fault};

    use super::*;
    use crate::{
        Answer, Ask, ConnectError, Events, Link, LinkEvent,
        carrier::{Carrier, CarrierError},
        port::Port,
        pump::PANIC,
        queue::queue,
    };

    /// Takes everything and brings nothing.
    struct Mute;

    impl Carrier for Mute {
        fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>> {
            Poll::Pending
        }

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn send(&mut self, _frame: &Frame) -> Result<(), CarrierError> {
            Ok(())
        }

        fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_discard(&mut self, _cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
            Poll::Ready(Err(CarrierError::Closed))
        }

        fn set_limit(&mut self, _bytes: usize) {}
    }

    /// A link at rest: its task has polled the driver, so that callers may.
    async fn link() -> (Link, Events) {
        let port = Arc::new(Port::default());
        let link = Link::new(Arc::clone(&port));
        let (filler, taker) = queue();
        port.share(SharedDriver::spawn(Driver::over(Box::new(Mute), Arc::clone(&port), filler)));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        (link, Events { queue: taker })
    }

    fn ask(name: &str) -> Ask {
        Ask { name: name.to_owned(), content_type: ContentType::CBOR, content: Bytes::new(), timeout: None, origin: None }
    }

    fn assert_lost(result: Result<Answer, Fault>) {
        assert_eq!(result.unwrap_err().code, Code::LINK_LOST);
    }

    async fn bounded<F: Future>(future: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(30), future).await.expect("within the bound")
    }

    async fn assert_told(mut events: Events) {
        match bounded(events.next()).await {
            Some(LinkEvent::Failed(ConnectError::Refused(fault))) => assert_eq!(fault.code, Code::INTERNAL),
            other => panic!("{other:?}"),
        }
        assert_eq!(bounded(events.next()).await, None);
    }

    #[tokio::test]
    async fn a_driver_that_panics_in_a_callers_poll_ends_its_link_and_not_its_caller() {
        let (link, events) = link().await;
        // No task has run in between: it was the caller's poll.
        assert_lost(link.ask_awaited(ask(PANIC)).now_or_never().expect("it is known at once"));
        assert_lost(bounded(link.ask(ask("more"))).await);
        assert_told(events).await;
    }

    #[tokio::test]
    async fn a_driver_that_panics_in_its_task_ends_its_link() {
        let (link, events) = link().await;
        assert_lost(bounded(link.ask(ask(PANIC))).await);
        assert_lost(bounded(link.ask(ask("more"))).await);
        assert_told(events).await;
    }

    #[tokio::test]
    async fn every_call_ends_that_a_panicking_driver_has_taken_or_not() {
        let (link, events) = link().await;
        let calls = (0..100).map(|n| link.ask(ask(if n == 5 { PANIC } else { "echo" })));
        for result in bounded(join_all(calls)).await {
            assert_lost(result);
        }
        assert_told(events).await;
    }
}
