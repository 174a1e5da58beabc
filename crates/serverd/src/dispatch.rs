//! Hands what the store has committed to the fan-out, on a thread of its own: pushing to many devices does not hold up the disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use parlour_server::{
    Fanout,
    store::{Committed, Observer},
};

use crate::metrics::Metrics;

/// Batches that may wait for the fan-out. When more come, the store's writer waits for the fan-out: memory stays bounded, and
/// the fan-out itself waits for nobody.
const WAITING: usize = 64;
/// Changes that the fan-out takes at once, at least a batch. Entries of one conversation share a push.
const TOGETHER: usize = 4096;

/// The store's observer.
pub(crate) struct Dispatcher {
    batches: SyncSender<Vec<Committed>>,
    metrics: Arc<Metrics>,
}

impl Dispatcher {
    /// Starts the thread. It ends when the dispatcher is dropped.
    pub(crate) fn start(fanout: Arc<Fanout>, metrics: Arc<Metrics>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (batches, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("fan-out".to_owned()).spawn(move || dispatch(&waiting, &fanout))?;
        Ok((Self { batches, metrics }, thread))
    }
}

impl Observer for Dispatcher {
    fn committed(&self, changes: Vec<Committed>) {
        self.metrics.accepted(changes.iter().filter(|change| matches!(change, Committed::Entry { .. })).count());
        if self.batches.send(changes).is_err() {
            tracing::error!("the fan-out has ended; devices read from their cursors");
        }
    }
}

fn dispatch(waiting: &Receiver<Vec<Committed>>, fanout: &Fanout) {
    while let Ok(mut changes) = waiting.recv() {
        while changes.len() < TOGETHER
            && let Ok(more) = waiting.try_recv()
        {
            changes.extend(more);
        }
        // A bug in one push must not end all pushing; devices find what they missed when they come next.
        if catch_unwind(AssertUnwindSafe(|| fanout.committed(changes))).is_err() {
            tracing::error!("the fan-out panicked");
        }
    }
}
