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

use crate::driver::{Driver, Turn};

/// See the module's documentation.
pub(crate) struct SharedDriver {
    /// Where the driver has its timers and tasks, whichever thread polls it.
    runtime: Handle,
    /// Empty once the link has ended.
    seat: Mutex<Option<Seat>>,
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
        let shared = Arc::new(Self { runtime, seat: Mutex::new(Some(Seat { driver, waker: None })) });
        shared.runtime.spawn(Task(Arc::clone(&shared)));
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seat>> {
        // After a panic in its task the driver is only dropped.
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
        // A driver that panics takes its link with it, and nothing of its caller's.
        let turn = catch_unwind(AssertUnwindSafe(|| driver.turn_once(&mut Context::from_waker(waker))));
        let (done, over) = (matches!(turn, Ok(Turn::Idle)), matches!(turn, Ok(Turn::Over) | Err(_)));
        leave(seat, over);
        done
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
        let polled = Pin::new(driver).poll(cx);
        leave(seat, polled.is_ready());
        polled
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        leave(self.0.lock(), true);
    }
}
