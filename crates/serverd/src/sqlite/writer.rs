//! The writer thread: takes the writes that wait, applies them in one transaction, and tells everybody when it is on disk.
//!
//! Group commit: one fsync serves all writes that arrived while the one before it ran. So the cost of durability falls as load
//! rises, and a single write waits for nobody.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Instant,
};

use parlour_server::store::{Committed, Observer, Refusal, StoreError, Write, Written};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    apply::{Apply, Cache},
    error::{is_of_one_write, stopped, store_error},
};
use crate::metrics::StoreMeter;

/// Writes of one transaction. Bounds how long the first of them waits for the last.
const BATCH_WRITES: usize = 4096;
/// Bytes of one transaction: a quarter of the write-ahead log between two checkpoints.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Writes that may wait. Beyond it the store is overloaded and says so.
const WAITING_WRITES: usize = 65_536;
/// Bytes that may wait.
const WAITING_BYTES: usize = 128 * 1024 * 1024;

pub(super) type Outcome = Result<Written, Refusal>;

/// What the writer can be asked to do.
pub(super) enum Task {
    /// One change.
    Write(Box<Write>),
    /// A write of its own, to see whether the disk takes it.
    Probe,
}

impl Task {
    /// Whether it adds rows. The others change or delete what is there.
    fn needs_room(&self) -> bool {
        let Self::Write(write) = self else { return true };
        match **write {
            Write::Append(_)
            | Write::Commit(_)
            | Write::CreateAccount { .. }
            | Write::CreateInvite { .. }
            | Write::PublishKeyPackages { .. }
            | Write::ReplaceDeviceList { .. }
            | Write::BeginBlob { .. }
            | Write::FinishBlob { .. }
            | Write::SetBackup { .. }
            | Write::InitSetting { .. } => true,
            Write::ReplacePassword { .. }
            | Write::RemoveDevice { .. }
            | Write::ClaimKeyPackages { .. }
            | Write::MoveCursors { .. }
            | Write::Seen { .. }
            | Write::Leave(_)
            | Write::AbandonOldBlobs { .. }
            | Write::ReleaseBlobs { .. }
            | Write::DropBlob { .. }
            | Write::DeleteBackup { .. }
            | Write::Retain { .. } => false,
        }
    }
}

/// A task and who waits for it.
struct Job {
    task: Task,
    bytes: usize,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

/// The writes that wait, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    /// Adds a write. It has its place in the order when this returns.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] if too much waits, [`StoreError::Unavailable`] if the store has stopped.
    pub(super) fn push(&self, task: Task) -> Result<oneshot::Receiver<Result<Outcome, StoreError>>, StoreError> {
        let bytes = size(&task);
        let (answer, wait) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(stopped());
        }
        if waiting.jobs.len() >= WAITING_WRITES || waiting.bytes >= WAITING_BYTES {
            return Err(StoreError::Overloaded);
        }
        let idle = waiting.jobs.is_empty();
        waiting.bytes += bytes;
        waiting.jobs.push_back(Job { task, bytes, answer });
        drop(waiting);
        if idle {
            self.wake.notify_one();
        }
        Ok(wait)
    }

    /// No more writes are taken; those that wait are still carried out.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.wake.notify_one();
    }

    /// The next batch; `None` when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::with_capacity(waiting.jobs.len().min(BATCH_WRITES));
        let mut bytes = 0;
        while batch.len() < BATCH_WRITES && bytes < BATCH_BYTES {
            let Some(job) = waiting.jobs.pop_front() else { break };
            bytes += job.bytes;
            batch.push(job);
        }
        waiting.bytes -= bytes;
        Some(batch)
    }

    /// Closes the queue and lets go of what waits; for a writer that cannot go on.
    fn abandon(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.bytes = 0;
        waiting.jobs.clear();
    }
}

/// About how many bytes a write brings.
fn size(task: &Task) -> usize {
    const ROW: usize = 128;
    let Task::Write(write) = task else { return ROW };
    ROW + match &**write {
        Write::Append(append) => append.payload.len() + append.blobs.len() * 64,
        Write::Leave(leave) => leave.statement.len(),
        Write::SetBackup { index, blobs, .. } => index.len() + blobs.len() * 64,
        Write::AbandonOldBlobs { limit, .. } | Write::ReleaseBlobs { limit, .. } => usize::try_from(*limit).unwrap_or(0) * ROW,
        Write::Commit(commit) => {
            commit.commit.len() + commit.group_info.len() + commit.welcome.as_ref().map_or(0, Vec::len) + ROW * commit.added.len()
        }
        Write::PublishKeyPackages { one_time, last_resort, .. } => {
            one_time.iter().map(Vec::len).sum::<usize>() + last_resort.as_ref().map_or(0, Vec::len)
        }
        Write::CreateAccount { account, .. } => account.device_list.len() + account.record.len(),
        Write::ReplaceDeviceList { device_list, .. } => device_list.len(),
        Write::MoveCursors { cursors, .. } => cursors.len() * 48,
        Write::InitSetting { value, .. } => value.len(),
        Write::Retain { limit, .. } => usize::try_from(*limit).unwrap_or(usize::MAX).saturating_mul(ROW).min(BATCH_BYTES),
        Write::ReplacePassword { .. }
        | Write::RemoveDevice { .. }
        | Write::ClaimKeyPackages { .. }
        | Write::CreateInvite { .. }
        | Write::BeginBlob { .. }
        | Write::FinishBlob { .. }
        | Write::DropBlob { .. }
        | Write::DeleteBackup { .. }
        | Write::Seen { .. } => 0,
    }
}

/// What a batch did, before anyone is told.
struct Done {
    outcomes: Vec<Outcome>,
    changes: Vec<Committed>,
    /// Whether there was anything to write to the disk.
    wrote: bool,
}

/// The state of the writer thread.
pub(super) struct Writer {
    connection: Connection,
    cache: Cache,
    observer: Arc<dyn Observer>,
    meter: StoreMeter,
    /// The last batch failed on the disk. Kept so that a broken disk is told of once and not for every write.
    failing: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection, observer: Arc<dyn Observer>, meter: StoreMeter) -> Self {
        Self { connection, cache: Cache::default(), observer, meter, failing: false }
    }

    /// Works until the queue is closed and empty. The connection is given back so that it can be the last to be closed.
    pub(super) fn run(mut self, queue: &Queue) -> Connection {
        struct Guard<'a>(&'a Queue);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.abandon();
            }
        }
        let _guard = Guard(queue);
        while let Some(batch) = queue.take() {
            self.carry_out(batch);
        }
        self.connection
    }

    fn carry_out(&mut self, jobs: Vec<Job>) {
        match self.transact(&jobs) {
            Ok(done) => self.succeed(jobs, done),
            Err(error) if jobs.len() > 1 && is_of_one_write(&error) => {
                tracing::error!(%error, writes = jobs.len(), "a write broke its batch; each is tried alone");
                for job in jobs {
                    self.carry_out(vec![job]);
                }
            }
            Err(error) if store_error(&error) == StoreError::Full && jobs.iter().any(|job| !job.task.needs_room()) => {
                // What makes room must not fail with what needs it, or a full disk would stay full under load.
                let (growing, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.task.needs_room());
                if growing.is_empty() {
                    self.fail(others, &error);
                } else {
                    self.fail(growing, &error);
                    self.carry_out(others);
                }
            }
            Err(error) => self.fail(jobs, &error),
        }
    }

    /// Applies the writes and commits. Nothing of them is kept if this fails.
    fn transact(&mut self, jobs: &[Job]) -> rusqlite::Result<Done> {
        let result = self.try_transact(jobs);
        if result.is_err() {
            self.cache.clear();
            // SQLite has rolled back by itself after some errors, and then this is one more.
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "cannot roll back");
            }
        }
        result
    }

    fn try_transact(&mut self, jobs: &[Job]) -> rusqlite::Result<Done> {
        let before = self.connection.total_changes();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let mut apply = Apply::new(&self.connection, &mut self.cache);
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match &job.task {
                Task::Write(write) => apply.apply(write)?,
                Task::Probe => apply.probe()?,
            });
        }
        let changes = apply.into_changes();
        #[expect(clippy::disallowed_methods, reason = "driver: measures the disk")]
        let start = Instant::now();
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        let wrote = self.connection.total_changes() != before;
        if wrote {
            self.meter.committed(jobs.len(), start.elapsed());
        }
        Ok(Done { outcomes, changes, wrote })
    }

    /// Observers hear of a change before its author does, so that nobody acts on an answer that others cannot see yet.
    fn succeed(&mut self, jobs: Vec<Job>, done: Done) {
        if done.wrote && std::mem::take(&mut self.failing) {
            tracing::info!("the store takes writes again");
        }
        if !done.changes.is_empty() {
            self.observer.committed(done.changes);
        }
        for (job, outcome) in jobs.into_iter().zip(done.outcomes) {
            // The asker may have gone; the write stands.
            let _gone = job.answer.send(Ok(outcome));
        }
    }

    fn fail(&mut self, jobs: Vec<Job>, error: &rusqlite::Error) {
        self.meter.failed(jobs.len());
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, writes = jobs.len(), "the store cannot take writes");
        }
        for job in jobs {
            let _gone = job.answer.send(Err(store_error(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use parlour_wire::DeviceId;

    use super::*;

    #[test]
    fn what_waits_is_bounded_and_said_to_be_too_much() {
        let queue = Queue::default();
        let seen = || Task::Write(Box::new(Write::Seen { device: DeviceId([1; 16]), now_ms: 1 }));
        for _ in 0..WAITING_WRITES {
            assert!(queue.push(seen()).is_ok());
        }
        assert!(matches!(queue.push(seen()), Err(StoreError::Overloaded)), "a client's doing, not a broken store");
        assert_eq!(queue.take().map(|batch| batch.len()), Some(BATCH_WRITES));
        assert!(queue.push(seen()).is_ok());
        queue.close();
        assert!(matches!(queue.push(seen()), Err(StoreError::Unavailable(_))));
    }
}
