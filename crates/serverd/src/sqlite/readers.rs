//! Reader threads, each with a connection of its own: reads neither wait for writes nor hold up async threads.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use parlour_server::store::StoreError;
use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;

use super::{
    error::{stopped, store_error},
    schema::{Role, connect},
};

/// Reads that may wait. Beyond it the store is overloaded and says so.
const WAITING: usize = 16_384;

type Read = Box<dyn FnOnce(&mut Connection) + Send>;

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

/// A fixed number of reader threads.
pub(super) struct Readers {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Opens `count` connections and starts their threads.
    pub(super) fn start(path: &Path, count: usize) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::default());
        let readers = Self { queue, threads: Mutex::default() };
        for number in 0..count.max(1) {
            let connection = connect(path, Role::Reader, None).map_err(|error| store_error(&error))?;
            let queue = Arc::clone(&readers.queue);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&queue, connection))
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    /// Asks a question in one snapshot of the database.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, wait) = oneshot::channel();
        let accepted = self.push(Box::new(move |connection| {
            if !answer.is_closed() {
                let result = connection.transaction().and_then(|snapshot| question(&snapshot));
                // An asker that went away needs no answer.
                let _gone = answer.send(result.map_err(|error| store_error(&error)));
            }
        }));
        async move {
            accepted?;
            wait.await.map_err(|_| stopped())?
        }
    }

    /// Takes no more reads, answers those that wait, and closes the connections.
    pub(super) fn close(&self) {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queue.wake.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            if thread.join().is_err() {
                tracing::error!("a reader thread of the store panicked");
            }
        }
    }

    fn push(&self, read: Read) -> Result<(), StoreError> {
        let mut waiting = self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(stopped());
        }
        if waiting.reads.len() >= WAITING {
            return Err(StoreError::Overloaded);
        }
        waiting.reads.push_back(read);
        drop(waiting);
        self.queue.wake.notify_one();
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(queue: &Queue, mut connection: Connection) {
    loop {
        let read = {
            let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(read) = waiting.reads.pop_front() {
                    break read;
                }
                if waiting.closed {
                    return;
                }
                waiting = queue.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // One bad row must not take a reader away from everybody. The asker hears that the store has stopped.
        if catch_unwind(AssertUnwindSafe(|| read(&mut connection))).is_err() {
            tracing::error!("a read of the store panicked");
        }
    }
}
