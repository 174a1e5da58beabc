//! The writing side of a queue, on its own thread: messages and settlements into the file, many in one wait for the disk.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Notify, oneshot};

use super::{
    committer::Work,
    error::QueueError,
    index::{Index, Message, Waiter},
    log::{Log, Part, Place},
    record::{Kind, Record},
};

/// Bytes that are written in one go, beyond which the rest of a batch goes into the next.
const WRITE: usize = 4 * 1024 * 1024;

/// Bytes that are read back in one go: beyond it the rest is left for the next.
const READ: u64 = 1024 * 1024;

/// What the writer, the callers and the delivery look at together.
#[derive(Debug)]
pub(crate) struct Shared {
    index: Mutex<Index>,
    /// Something was pushed or settled.
    pub(crate) changed: Notify,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(index: Index) -> Self {
        Self { index: Mutex::new(index), changed: Notify::new(), closed: AtomicBool::new(false) }
    }

    /// Whether the writer has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing that runs under the lock can panic half-way.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a push with the number of the message.
pub(crate) type Pushed = oneshot::Sender<Result<u64, QueueError>>;

/// What the writer is asked.
#[derive(Debug)]
pub(crate) enum Job {
    /// Put a message into the file; room has been reserved.
    Push { message: Message, waiter: Option<Waiter>, pushed: Pushed },
    /// A message is settled; the index knows.
    Done(u64),
    /// Read messages back from the file, as many of them as fit into memory well. Those that are settled are left out.
    Read { numbers: Vec<u64>, read: oneshot::Sender<Result<Vec<(u64, Message)>, QueueError>> },
    /// Put everything on disk and end.
    Close(oneshot::Sender<()>),
}

/// A message that is encoded, and not yet written.
struct Draft {
    number: u64,
    place: Place,
    message: Message,
    waiter: Option<Waiter>,
    pushed: Pushed,
}

/// The owner of a queue's file.
pub(crate) struct Writer {
    log: Log,
    shared: Arc<Shared>,
    pending: Vec<u8>,
    drafts: Vec<Draft>,
    /// Settlements that are not in the file because the disk was full.
    owed: Vec<u64>,
    /// The disk failed: what the file holds is not known.
    broken: bool,
    /// A rewrite failed; the next is tried when the file is so long.
    rewrite_at: u64,
    /// Whoever waits for the end. Told when this is dropped, after the file and its lock.
    closed: Vec<oneshot::Sender<()>>,
}

impl Writer {
    pub(crate) fn new(log: Log, shared: Arc<Shared>) -> Self {
        Self {
            log,
            shared,
            pending: Vec::new(),
            drafts: Vec::new(),
            owed: Vec::new(),
            broken: false,
            rewrite_at: 0,
            closed: Vec::new(),
        }
    }

    fn push(&mut self, message: Message, waiter: Option<Waiter>, pushed: Pushed) {
        let number = self.shared.lock().next_number() + self.drafts.len() as u64;
        let record = record(number, &message);
        let place = self.log.encode(&record, &mut self.pending);
        self.drafts.push(Draft { number, place, message, waiter, pushed });
        if self.pending.len() >= WRITE {
            self.commit();
        }
    }

    /// Writes what is pending, waits for the disk if a message is in it, and answers.
    fn commit(&mut self) {
        let drafts = std::mem::take(&mut self.drafts);
        let written = self.write(!drafts.is_empty());
        self.pending.clear();
        self.pending.shrink_to(WRITE);
        let mut index = self.shared.lock();
        let mut answers = Vec::with_capacity(drafts.len());
        for Draft { number, place, message, waiter, pushed } in drafts {
            match &written {
                Ok(()) => index.pushed(number, place, message, waiter),
                Err(_) => index.release(place.size),
            }
            answers.push((pushed, written.clone().map(|()| number)));
        }
        drop(index);
        self.shared.changed.notify_waiters();
        for (pushed, answer) in answers {
            // A caller that has gone is not told; its message stays.
            drop(pushed.send(answer));
        }
    }

    fn write(&mut self, sync: bool) -> Result<(), QueueError> {
        if self.broken {
            return Err(QueueError::Broken);
        }
        let written = self.log.append(&self.pending).and_then(|()| if sync { self.log.sync() } else { Ok(()) });
        self.broken = matches!(written, Err(QueueError::Broken));
        written
    }

    /// Notes settlements in the file. They need not wait for the disk: a message whose settlement is lost is sent again, and
    /// the receiver knows it.
    fn note(&mut self) {
        if self.owed.is_empty() || self.broken {
            return;
        }
        for number in &self.owed {
            self.log.encode(&Record::bare(Kind::DONE, *number), &mut self.pending);
        }
        match self.write(false) {
            Ok(()) => self.owed.clear(),
            Err(error) => tracing::warn!(%error, "settled messages stay in the file of the queue"),
        }
        self.pending.clear();
    }

    fn rewrite(&mut self) {
        let length = self.log.length();
        let index = self.shared.lock();
        if self.broken || length < self.rewrite_at || !index.wants_rewrite(length) {
            return;
        }
        let (next, places) = (index.next_number(), index.places());
        drop(index);
        let (numbers, parts): (Vec<u64>, Vec<Part<'_>>) =
            places.into_iter().map(|(number, place)| (number, Part::Copy(place))).unzip();
        match self.log.rewrite(next, &parts) {
            Ok(moved) => {
                self.shared.lock().moved(numbers.into_iter().zip(moved));
                self.rewrite_at = 0;
            }
            Err(error) => {
                self.broken = matches!(error, QueueError::Broken);
                self.rewrite_at = self.shared.lock().next_rewrite(length);
                tracing::warn!(%error, "the file of the queue cannot be made smaller");
            }
        }
    }

    fn read(&mut self, numbers: Vec<u64>) -> Result<Vec<(u64, Message)>, QueueError> {
        // After a rewrite that has failed at its end, what is known of places is of the file before.
        if self.broken {
            return Err(QueueError::Broken);
        }
        let mut buffer = Vec::new();
        let mut messages = Vec::with_capacity(numbers.len());
        let mut bytes = 0;
        for number in numbers {
            let Some(place) = self.shared.lock().place(number) else { continue };
            let record = self.log.read(place, &mut buffer)?;
            messages.push((number, message(&record).ok_or_else(|| corrupt(&self.log, place))?));
            bytes += place.size;
            if bytes >= READ {
                break;
            }
        }
        Ok(messages)
    }
}

impl Work for Writer {
    type Job = Job;

    fn run(&mut self, jobs: Vec<Job>) -> bool {
        let mut reads = Vec::new();
        for job in jobs {
            match job {
                Job::Push { message, waiter, pushed } => self.push(message, waiter, pushed),
                Job::Done(number) => self.owed.push(number),
                Job::Read { numbers, read } => reads.push((numbers, read)),
                Job::Close(closed) => self.closed.push(closed),
            }
        }
        if !self.drafts.is_empty() {
            self.commit();
        }
        self.note();
        self.rewrite();
        for (numbers, read) in reads {
            // A delivery that has been given up asks again when it begins again.
            drop(read.send(self.read(numbers)));
        }
        if self.closed.is_empty() {
            return true;
        }
        self.finish();
        false
    }

    fn finish(&mut self) {
        if self.broken {
            return;
        }
        if let Err(error) = self.log.seal() {
            tracing::warn!(%error, "the queue is not closed in good order");
        }
    }
}

/// The record of a message.
pub(crate) fn record(number: u64, message: &Message) -> Record<'_> {
    Record {
        kind: message.kind,
        number,
        content_type: message.content_type,
        name: message.name.as_bytes(),
        content: &message.content,
    }
}

/// The message of a record, if it is one.
fn message(record: &Record<'_>) -> Option<Message> {
    let name = std::str::from_utf8(record.name).ok()?.to_owned();
    let content = bytes::Bytes::copy_from_slice(record.content);
    Some(Message { kind: record.kind, name, content_type: record.content_type, content })
}

fn corrupt(log: &Log, place: Place) -> QueueError {
    QueueError::Corrupt { path: log.path().to_owned(), offset: place.offset }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.lock().dismiss();
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{index::Room, record::Purpose};

    #[test]
    fn a_queue_whose_disk_has_failed_neither_takes_nor_reads() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("outbox"), Purpose::Queue, |_, _| {}).unwrap();
        let shared = Arc::new(Shared::new(Index::new(Room { records: 10, bytes: 10_000 })));
        let mut writer = Writer::new(log, Arc::clone(&shared));
        let size = 40 + 4 + 4 + 16;
        let push = |writer: &mut Writer| {
            let message = Message {
                kind: Kind::ACTION,
                name: "tell".to_owned(),
                content_type: parlour_wire::frame::ContentType::TEXT,
                content: bytes::Bytes::from_static(b"news"),
            };
            shared.lock().reserve(size).unwrap();
            let (pushed, mut answer) = oneshot::channel();
            writer.run(vec![Job::Push { message, waiter: None, pushed }]);
            answer.try_recv().unwrap()
        };
        assert_eq!(push(&mut writer), Ok(1));
        assert_eq!(writer.read(vec![1]).unwrap().len(), 1);
        writer.broken = true;
        assert_eq!(push(&mut writer), Err(QueueError::Broken));
        assert_eq!(writer.read(vec![1]), Err(QueueError::Broken));
        assert_eq!(shared.lock().waiting().records, 1, "room that was reserved is given back");
        shared.lock().reserve(10_000 - size).unwrap();
    }
}
