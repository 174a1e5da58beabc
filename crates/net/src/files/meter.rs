//! How far a transfer has come, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::asked::Progress;

/// What a transfer counts while it runs.
#[derive(Debug)]
pub(super) struct Meter {
    progress: watch::Sender<Progress>,
    moved: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { progress: watch::Sender::new(Progress { done: 0, total: None }), moved: AtomicU64::new(0) }
    }
}

impl Meter {
    pub(super) fn report(&self, done: u64, total: u64) {
        self.progress.send_replace(Progress { done, total: Some(total) });
    }

    /// Counts bytes of the file that went over the link, those that had to go again included.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
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
