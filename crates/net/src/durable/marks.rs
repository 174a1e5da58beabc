//! The receiver's memory on disk of what has taken effect, so that a message of a queue takes effect once over restarts of the
//! receiver too.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
};

use bytes::Bytes;
use parlour_proto::link::Answer;
use parlour_wire::{
    Code, decode, encode,
    frame::ContentType,
    header::{Fault, Origin},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, oneshot};

use super::{
    again, committer,
    committer::Work,
    error::QueueError,
    is_queue,
    log::{Log, Part, Place},
    record::{Kind, Purpose, Record},
    table::{Begin, Bounds, Source, Table},
};
use crate::{PeerKey, toolkit::Context};

/// Settings of [`Marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarksConfig {
    /// Queues that are remembered at a time; about 2 KiB of memory each. Beyond it the one that was used longest ago is
    /// forgotten: its messages could take effect once more.
    pub max_queues: usize,
    /// Queues of one peer among them, so that no peer makes those of others be forgotten.
    pub max_queues_per_peer: usize,
    /// Longest answer that is kept, in bytes. A message that comes again and whose answer was longer is refused
    /// (`already_exists`) instead of answered.
    pub max_answer: usize,
}

impl Default for MarksConfig {
    fn default() -> Self {
        Self { max_queues: 4096, max_queues_per_peer: 16, max_answer: 16 * 1024 }
    }
}

/// What has taken effect here, on disk. The [module](crate::durable) says what that promises.
///
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Marks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MarksConfig,
    shared: Arc<Shared>,
    jobs: Sender<Job>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// An effect has ended.
    ended: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that runs under the lock can panic half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// Opens the marks in this file, and makes it if it is not there. The folder must be. A file `PATH.lock` beside it keeps
    /// other processes out.
    ///
    /// # Errors
    /// [`QueueError::InUse`], [`QueueError::NotAQueue`], [`QueueError::Corrupt`], or the disk.
    pub async fn open(path: impl Into<PathBuf>, config: MarksConfig) -> Result<Self, QueueError> {
        let path = path.into();
        let bounds = Bounds { queues: config.max_queues.max(1), queues_per_peer: config.max_queues_per_peer.max(1) };
        let (made, found) = oneshot::channel();
        let make = {
            let path = path.clone();
            move || {
                let (log, table) = load(&path, bounds)?;
                let shared = Arc::new(Shared { table: Mutex::new(table), ended: Notify::new() });
                drop(made.send(Arc::clone(&shared)));
                Ok(Marker { log, shared, pending: Vec::new(), rewrite_at: 0, broken: false, closed: Vec::new() })
            }
        };
        let jobs = committer::start("parlour-marks", make).await.map_err(|error| QueueError::io(&path, &error))??;
        let shared = found.await.map_err(|_| QueueError::Closed)?;
        Ok(Self { inner: Arc::new(Inner { config, shared, jobs }) })
    }

    /// Runs `effect`, unless the message that `cx` is about has taken effect before: then gives the answer of that time.
    ///
    /// ```
    /// use parlour_net::{Access, Fault, Handlers, Marks};
    ///
    /// # async fn book(amount: i64) -> Result<i64, Fault> { Ok(amount) }
    /// fn handlers(marks: Marks) -> Handlers {
    ///     let mut handlers = Handlers::new();
    ///     let once = handlers.on_request("book", move |cx, amount: i64| {
    ///         let marks = marks.clone();
    ///         async move { marks.once(&cx, book(amount)).await }
    ///     });
    ///     once.allow(Access::Authenticated);
    ///     handlers
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Marks::once_raw`].
    pub async fn once<T, F>(&self, cx: &Context, effect: F) -> Result<T, Fault>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, Fault>>,
    {
        let codecs = cx.link().codecs();
        let content_type = codecs.default_type();
        let taken = async {
            let content = codecs.encode(content_type, &effect.await?)?;
            Ok(Answer { content_type, content })
        };
        let answer = self.once_raw(cx.peer().key(), cx.origin(), taken).await?;
        Ok(codecs.decode(answer.content_type, &answer.content)?)
    }

    /// Runs `effect`, unless the message has taken effect before: then gives the answer of that time. A message that comes
    /// again while it is under way waits for its end. When this returns, the mark is on disk.
    ///
    /// A message without an origin, or with one that no durable queue has made, is not marked: `effect` runs. So is one whose
    /// effect ends in a fault that asks for another try.
    ///
    /// If the mark cannot be written the answer is given all the same, since the effect has taken place, and the mark is kept
    /// in memory; a restart would forget it.
    ///
    /// # Errors
    /// What `effect` says; `already_exists` for a message that has taken effect and whose answer is not kept.
    pub async fn once_raw<F>(&self, peer: Option<PeerKey>, origin: Option<Origin>, effect: F) -> Result<Answer, Fault>
    where
        F: Future<Output = Result<Answer, Fault>>,
    {
        let Some(Origin { session: queue, number }) = origin.filter(|origin| is_queue(&origin.session)) else {
            return effect.await;
        };
        let running = match self.begin(Source { peer, queue }, number).await {
            Ok(running) => running,
            Err(Begin::Past) => return Err(unknown("the message is older than what is remembered")),
            Err(_) => return self.answer(Source { peer, queue }, number).await,
        };
        let result = effect.await;
        if !result.as_ref().is_err_and(again) {
            self.mark(running, &result).await;
        }
        result
    }

    /// Closes the file. What takes effect later is marked in memory only.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.inner.jobs.send(Job::Close(closed)).is_ok() {
            // The sender is dropped with the file.
            drop(done.await);
        }
    }

    async fn begin(&self, source: Source, number: u64) -> Result<Running, Begin> {
        let shared = &self.inner.shared;
        loop {
            let mut ended = pin!(shared.ended.notified());
            ended.as_mut().enable();
            let begin = shared.lock().begin(source, number);
            match begin {
                Begin::Run => {
                    let shared = Arc::clone(shared);
                    return Ok(Running { shared, source, number, over: false, answer: None });
                }
                Begin::Wait => ended.await,
                known => return Err(known),
            }
        }
    }

    /// Once the job is left, the mark is made whether anybody waits for it or not; until then a double waits.
    async fn mark(&self, mut running: Running, result: &Result<Answer, Fault>) {
        running.over = true;
        let (content_type, content) = kept(result, self.inner.config.max_answer);
        let (marked, done) = oneshot::channel();
        let left = self.inner.jobs.send(Job::Mark { running, content_type, content, marked }).is_ok();
        let written = if left { done.await.unwrap_or(Err(QueueError::Closed)) } else { Err(QueueError::Closed) };
        if let Err(error) = written {
            tracing::warn!(%error, "what has taken effect is not marked on disk: a restart would let it happen again");
        }
    }

    async fn answer(&self, source: Source, number: u64) -> Result<Answer, Fault> {
        let (read, answer) = oneshot::channel();
        let job = Job::Read { source, number, read };
        let kept = match self.inner.jobs.send(job) {
            Ok(()) => answer.await.unwrap_or(None),
            Err(_) => None,
        };
        kept.unwrap_or_else(|| Err(unknown("the message has taken effect, and its answer is not kept")))
    }
}

fn unknown(message: &str) -> Fault {
    Fault { code: Code::ALREADY_EXISTS, message: message.to_owned(), retry_after_ms: None }
}

/// An effect under way. When this is dropped, it is not: it has taken place, or it was given up.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    source: Source,
    number: u64,
    /// It has taken place.
    over: bool,
    /// Where its answer stands in the file.
    answer: Option<Place>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        if self.over {
            table.settle(self.source, self.number, self.answer);
        }
        table.end(self.source, self.number);
        drop(table);
        self.shared.ended.notify_waiters();
    }
}

/// First byte of a mark: what follows.
const ANSWER: u8 = 0;
const FAULT: u8 = 1;
const NOTHING: u8 = 2;

/// An answer as it is kept.
fn kept(result: &Result<Answer, Fault>, limit: usize) -> (ContentType, Vec<u8>) {
    match result {
        Ok(answer) if answer.content.len() <= limit => (answer.content_type, [&[ANSWER], &answer.content[..]].concat()),
        Ok(_) => (ContentType::BYTES, vec![NOTHING]),
        Err(fault) => (ContentType::CBOR, [&[FAULT], &encode(fault)[..]].concat()),
    }
}

/// What [`kept`] has made.
pub(super) fn told(record: &Record<'_>) -> Option<Result<Answer, Fault>> {
    match record.content.split_first()? {
        (&ANSWER, content) => Some(Ok(Answer { content_type: record.content_type, content: Bytes::copy_from_slice(content) })),
        (&FAULT, content) => decode(content).ok().map(Err),
        _ => None,
    }
}

/// Takes note of a record of the file.
pub(super) fn take_in(table: &mut Table, place: Place, record: &Record<'_>) {
    let Some(source) = Source::from_name(record.name) else { return };
    match record.kind {
        Kind::MARK => table.settle(source, record.number, Some(place)),
        Kind::SEEN => {
            if let Ok(map) = record.content.try_into() {
                table.restore(source, record.number, map);
            }
        }
        _ => {}
    }
}

fn load(path: &Path, bounds: Bounds) -> Result<(Log, Table), QueueError> {
    let mut table = Table::new(bounds);
    let log = Log::open(path, Purpose::Marks, |place, record| take_in(&mut table, place, &record))?;
    Ok((log, table))
}

#[derive(Debug)]
enum Job {
    Mark { running: Running, content_type: ContentType, content: Vec<u8>, marked: oneshot::Sender<Result<(), QueueError>> },
    Read { source: Source, number: u64, read: oneshot::Sender<Option<Result<Answer, Fault>>> },
    Close(oneshot::Sender<()>),
}

/// The owner of the file.
struct Marker {
    log: Log,
    shared: Arc<Shared>,
    pending: Vec<u8>,
    rewrite_at: u64,
    broken: bool,
    /// Whoever waits for the end. Told when this is dropped, after the file and its lock.
    closed: Vec<oneshot::Sender<()>>,
}

impl Marker {
    fn write(&mut self) -> Result<(), QueueError> {
        if self.broken {
            return Err(QueueError::Broken);
        }
        let written = self.log.append(&self.pending).and_then(|()| self.log.sync());
        self.broken = matches!(written, Err(QueueError::Broken));
        written
    }

    fn read(&mut self, source: Source, number: u64) -> Option<Result<Answer, Fault>> {
        let place = self.shared.lock().answer(source, number)?;
        let mut buffer = Vec::new();
        match self.log.read(place, &mut buffer) {
            Ok(record) => told(&record),
            Err(error) => {
                tracing::error!(%error, "a kept answer cannot be read");
                None
            }
        }
    }

    fn rewrite(&mut self) {
        let length = self.log.length();
        let table = self.shared.lock();
        if self.broken || length < self.rewrite_at || !table.wants_rewrite(length) {
            return;
        }
        let queues: Vec<_> = table.queues().map(|(source, seen)| (*source, source.name(), seen.clone())).collect();
        drop(table);
        let mut parts = Vec::new();
        for (_, name, seen) in &queues {
            let (kind, number, content_type) = (Kind::SEEN, seen.highest(), ContentType::BYTES);
            parts.push(Part::Fresh(Record { kind, number, content_type, name, content: seen.map() }));
            parts.extend(seen.answers().map(|(_, place)| Part::Copy(place)));
        }
        match self.log.rewrite(1, &parts) {
            Ok(places) => {
                self.rewrite_at = 0;
                let mut places = places.into_iter();
                for (source, _, seen) in &queues {
                    let kept = places.by_ref().skip(1).take(seen.answers().count());
                    let moved: Vec<(u64, Place)> = seen.answers().map(|(number, _)| number).zip(kept).collect();
                    self.shared.lock().moved(*source, &moved);
                }
            }
            Err(error) => {
                self.broken = matches!(error, QueueError::Broken);
                self.rewrite_at = self.shared.lock().next_rewrite(length);
                tracing::warn!(%error, "the file of the marks cannot be made smaller");
            }
        }
    }
}

impl Work for Marker {
    type Job = Job;

    fn run(&mut self, jobs: Vec<Job>) -> bool {
        let (mut marks, mut reads) = (Vec::new(), Vec::new());
        self.pending.clear();
        for job in jobs {
            match job {
                Job::Mark { running, content_type, content, marked } => {
                    let (kind, number, name) = (Kind::MARK, running.number, running.source.name());
                    let record = Record { kind, number, content_type, name: &name, content: &content };
                    let place = self.log.encode(&record, &mut self.pending);
                    marks.push((running, place, marked));
                }
                Job::Read { source, number, read } => reads.push((source, number, read)),
                Job::Close(closed) => self.closed.push(closed),
            }
        }
        if !marks.is_empty() {
            let written = self.write();
            for (mut running, place, marked) in marks {
                running.answer = written.is_ok().then_some(place);
                drop(running);
                // Whoever waited may be gone; the mark stays.
                drop(marked.send(written.clone()));
            }
        }
        self.rewrite();
        for (source, number, read) in reads {
            drop(read.send(self.read(source, number)));
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
            tracing::warn!(%error, "the marks are not closed in good order");
        }
    }
}
