//! How far a transfer has come, for whoever watches it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::seats::Seat;
use crate::asked::Progress;

/// What a transfer counts while it runs.
#[derive(Debug)]
pub(super) struct Meter {
    progress: watch::Sender<Progress>,
    moved: AtomicU64,
    /// The place that is kept by moving. Whoever does the work has it: who only looks on, and tells how it ended, must not hold it.
    seat: Weak<Seat>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { progress: watch::Sender::new(Progress { done: 0, total: None }), moved: AtomicU64::new(0), seat: Weak::new() }
    }
}

impl Meter {
    /// That of a transfer that a peer has begun.
    pub(super) fn of(seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::downgrade(seat), ..Self::default() }
    }

    pub(super) fn report(&self, done: u64, total: u64) {
        self.progress.send_replace(Progress { done, total: Some(total) });
    }

    /// Counts bytes of the file that went over the link, those that had to go again included.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(seat) = self.seat.upgrade() {
            seat.moved(bytes as u64);
        }
    }

    pub(super) fn total_moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn latest(&self) -> Progress {
        *self.progress.borrow()
    }
}
