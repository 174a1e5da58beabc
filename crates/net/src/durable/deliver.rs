//! Sending what waits in a queue over a link: in order, a window at a time, again after every loss, until it is settled.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_proto::link::Answer;
use parlour_wire::{
    Code, LinkSessionId,
    header::{Fault, Origin},
    limits,
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    SPAN, WINDOW, again,
    error::QueueError,
    index::Message,
    queue::{DurableQueue, Outcome},
    writer::Job,
};
use crate::{Ask, Link, toolkit::text_of};

/// Content that is under way at a time, in bytes, before the next message waits: what a session keeps for a resume.
const BYTES: usize = limits::UNACKED_BYTES;

/// A queue that is being delivered in the background; dropping this stops it, and what was not settled waits for the next time.
#[derive(Debug)]
#[must_use = "the delivery stops when this is dropped"]
pub struct Attachment {
    task: JoinHandle<()>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DurableQueue {
    /// Delivers over this link until the link or the queue is closed. A second delivery of the same queue waits for the first to
    /// end: two would break the order.
    ///
    /// Dropping the future stops it; messages under way are sent again by the next delivery, under their numbers.
    ///
    /// # Errors
    /// [`QueueError::Closed`] if the queue was closed; the disk, if what waits cannot be read.
    pub async fn run(&self, link: &Link) -> Result<(), QueueError> {
        let _turn = self.inner.delivering.lock().await;
        let mut failures = 0;
        let rounds = async {
            loop {
                if link.wait_up().await.is_err() {
                    return Ok(());
                }
                let Some(session) = link.session() else { continue };
                let Ended { settled, fault } = Round::run(self, link, session).await?;
                failures = if settled > 0 { 0 } else { failures + 1 };
                let wait = self.wait(&fault, failures);
                tracing::debug!(reason = %fault.message, ?wait, "the queue is to be delivered again");
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            ended = rounds => ended,
            () = link.ended() => Ok(()),
            () = self.closed() => Err(QueueError::Closed),
        }
    }

    /// As [`DurableQueue::run`], in a task of its own. It counts as a handle of the link.
    pub fn attach(&self, link: &Link) -> Attachment {
        let (queue, link) = (self.clone(), link.clone());
        let task = tokio::spawn(async move {
            match queue.run(&link).await {
                Ok(()) | Err(QueueError::Closed) => {}
                Err(error) => tracing::warn!(%error, "the queue is delivered no further"),
            }
        });
        Attachment { task }
    }

    /// Waits until the queue is closed.
    async fn closed(&self) {
        loop {
            let mut changed = pin!(self.inner.shared.changed.notified());
            changed.as_mut().enable();
            if self.inner.shared.is_closed() {
                return;
            }
            changed.await;
        }
    }

    /// How long to wait after a fault, with `failures` tries in a row that settled nothing. A session that was lost is no reason
    /// to wait, once: the link itself waits before it connects.
    fn wait(&self, fault: &Fault, failures: u32) -> Duration {
        let config = &self.inner.config;
        if fault.code == Code::LINK_LOST && failures < 2 {
            return Duration::ZERO;
        }
        let doubled = config.first_wait.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let asked = fault.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis);
        doubled.max(asked).min(config.longest_wait)
    }

    /// A message has its answer.
    pub(super) fn settle(&self, number: u64, message: Message, result: Result<Answer, Fault>) {
        if !self.inner.shared.lock().holds(number) {
            return;
        }
        let Message { name, content_type, content, .. } = message;
        let outcome = Outcome { number, name, content_type, content, result };
        if let Err(fault) = &outcome.result {
            tracing::info!(number, name = %outcome.name, reason = %fault.message, "a message of the queue is refused for good");
        }
        if let Some(told) = &self.inner.config.on_outcome
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| told(&outcome)))
        {
            tracing::error!(number, reason = text_of(&*panic), "the application panicked that was told of an outcome");
        }
        let waiter = self.inner.shared.lock().settle(number);
        if let Some(waiter) = waiter {
            // Nobody has to wait for an answer.
            drop(waiter.send(outcome.result));
        }
        // A queue that has been closed meanwhile sends the message once more; the receiver knows it.
        drop(self.inner.jobs.send(Job::Done(number)));
        self.inner.shared.changed.notify_waiters();
    }
}

/// Sending in order until something has to be sent again. Then nothing more is sent until everything under way has an answer or
/// a fault, and the next round begins at the first message that is not settled: so a loss keeps the order.
///
/// A round lives in one session: what is still to be sent when that is lost is not sent in the next one before what was lost.
struct Round<'a> {
    queue: &'a DurableQueue,
    session: LinkSessionId,
    /// The last message that was sent.
    cursor: u64,
    /// Messages that were read back from the file and are next.
    read: VecDeque<(u64, Message)>,
    /// Content under way, in bytes.
    bytes: usize,
}

/// How a round ended.
struct Ended {
    settled: usize,
    fault: Fault,
}

type Sent = (u64, Message, Result<Answer, Fault>);

impl Round<'_> {
    async fn run(queue: &DurableQueue, link: &Link, session: LinkSessionId) -> Result<Ended, QueueError> {
        let mut round = Round { queue, session, cursor: 0, read: VecDeque::new(), bytes: 0 };
        let shared = &queue.inner.shared;
        let window = queue.inner.config.window.clamp(1, WINDOW);
        let mut under_way = FuturesUnordered::new();
        let (mut settled, mut failed) = (0, None);
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            while failed.is_none()
                && under_way.len() < window
                && round.bytes < BYTES
                && let Some((number, message)) = round.next().await?
            {
                round.bytes += message.content.len();
                under_way.push(round.send(link, number, message));
            }
            if under_way.is_empty()
                && let Some(fault) = failed
            {
                return Ok(Ended { settled, fault });
            }
            tokio::select! {
                Some((number, message, result)) = under_way.next() => {
                    round.bytes -= message.content.len();
                    match result {
                        Err(fault) if again(&fault) => drop(failed.get_or_insert(fault)),
                        result => {
                            queue.settle(number, message, result);
                            settled += 1;
                        }
                    }
                }
                () = changed => {}
            }
        }
    }

    fn send(&self, link: &Link, number: u64, message: Message) -> impl Future<Output = Sent> + use<> {
        let origin = Some(Origin { session: self.queue.inner.id, number });
        let ask = Ask {
            name: message.name.clone(),
            content_type: message.content_type,
            content: message.content.clone(),
            timeout: None,
            origin,
        };
        let asked = link.ask_within(self.session, ask);
        async move { (number, message, asked.await) }
    }

    /// The next message that may be sent, if any.
    async fn next(&mut self) -> Result<Option<(u64, Message)>, QueueError> {
        while let Some((number, cached)) = self.look() {
            if let Some(message) = cached.or_else(|| self.take_read(number)) {
                self.cursor = number;
                return Ok(Some((number, message)));
            }
            self.read_from(number).await?;
        }
        Ok(None)
    }

    /// The next number that may be sent, and its message if that is in memory.
    fn look(&self) -> Option<(u64, Option<Message>)> {
        let index = self.queue.inner.shared.lock();
        let (number, lowest) = (index.after(self.cursor)?, index.lowest()?);
        // What the receiver relies on to forget what is settled.
        (number - lowest < SPAN).then(|| (number, index.cached(number)))
    }

    /// The message, if it has been read back. What was read before it has been settled meanwhile.
    fn take_read(&mut self, wanted: u64) -> Option<Message> {
        while let Some((number, message)) = self.read.pop_front() {
            if number == wanted {
                return Some(message);
            }
        }
        None
    }

    /// Reads messages back from the file, from this one on.
    async fn read_from(&mut self, number: u64) -> Result<(), QueueError> {
        let numbers = self.queue.inner.shared.lock().from(number, WINDOW);
        let (read, answer) = oneshot::channel();
        self.queue.inner.jobs.send(Job::Read { numbers, read }).map_err(|_| QueueError::Closed)?;
        self.read = answer.await.map_err(|_| QueueError::Closed)??.into();
        Ok(())
    }
}
