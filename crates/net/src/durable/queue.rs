//! The handle of a durable queue.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{Arc, mpsc::Sender},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parlour_proto::link::Answer;
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault, limits};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use super::{
    committer,
    error::QueueError,
    index::{Index, Message, Room, Waiter},
    log::{Log, Place},
    record::{Kind, Purpose, Record, size_of},
    salvage::{self, Salvaged},
    writer::{Job, Shared, Writer},
};
use crate::toolkit::Codecs;

/// Longest name of a handler in bytes.
const NAME: usize = limits::LABEL;
/// What a frame needs beside name and content: its proto-header and the other fields of its header.
const FRAMING: usize = parlour_wire::frame::PROTO_HEADER + 64;

/// What became of a message of a queue: the answer of the receiver, or why there will never be one.
///
/// A message is refused when its fault says that trying again does not help: there is no such handler, this peer may not call
/// it, the arguments are wrong, the handler failed for good. It is out of the queue then, so that it does not hold up the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the queue.
    pub number: u64,
    /// Name of the handler.
    pub name: String,
    /// How its content is to be read.
    pub content_type: ContentType,
    /// Its content.
    pub content: Bytes,
    /// The answer, which is empty for an action; or the refusal.
    pub result: Result<Answer, Fault>,
}

/// Is told what became of messages.
pub type OnOutcome = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// Settings of a queue.
#[derive(Clone)]
pub struct DurableConfig {
    /// Most messages that wait at a time.
    pub max_records: usize,
    /// Most bytes that they take in the file. The file itself stays below twice this and a few MiB, unless the disk is too full to
    /// write it anew: then it grows on until there is room for that, which is looked for again and again.
    pub max_bytes: u64,
    /// Messages that are under way at a time, at most 64. With 1 a message is sent when the one before it is settled: that
    /// keeps the order even where the receiver puts a message off.
    pub window: usize,
    /// Waiting after a message could not be delivered, doubled up to `longest_wait`. The receiver may ask for more.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// The content types of [`DurableQueue::action`] and [`DurableQueue::request`]. Who reads the file later knows them too.
    pub codecs: Codecs,
    /// Is told what became of every message, before the message is out of the file: so at least once for each, over restarts
    /// too. Called by the delivering task; it must not block.
    pub on_outcome: Option<OnOutcome>,
}

impl Default for DurableConfig {
    fn default() -> Self {
        Self {
            max_records: 100_000,
            max_bytes: 64 * 1024 * 1024,
            window: super::WINDOW,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(30),
            codecs: Codecs::new(),
            on_outcome: None,
        }
    }
}

impl fmt::Debug for DurableConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableConfig")
            .field("max_records", &self.max_records)
            .field("max_bytes", &self.max_bytes)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Messages.
    pub records: usize,
    /// Bytes that they take in the file.
    pub bytes: u64,
}

/// An outbox on disk for actions and requests: what it has taken is delivered, over any number of lost links and restarts of the
/// program. The [module](crate::durable) says what is promised.
///
/// Clones share the queue. It is closed by [`DurableQueue::close`], or a little after the last clone is gone.
#[derive(Clone)]
pub struct DurableQueue {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for DurableQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableQueue").field("path", &self.inner.path).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    path: PathBuf,
    pub(super) id: LinkSessionId,
    pub(super) config: DurableConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Sender<Job>,
    /// Held by whoever delivers.
    pub(super) delivering: tokio::sync::Mutex<()>,
}

impl DurableQueue {
    /// Opens the queue in this file, and makes it if it is not there. The folder must be. A file `PATH.lock` beside it keeps
    /// other processes out.
    ///
    /// # Errors
    /// [`QueueError::InUse`], [`QueueError::NotAQueue`], [`QueueError::Corrupt`], or the disk.
    pub async fn open(path: impl Into<PathBuf>, config: DurableConfig) -> Result<Self, QueueError> {
        let path = path.into();
        let room = Room { records: config.max_records, bytes: config.max_bytes };
        let (made, found) = oneshot::channel();
        let make = {
            let path = path.clone();
            move || {
                let (log, index) = load(&path, room)?;
                let (id, shared) = (LinkSessionId(log.id()), Arc::new(Shared::new(index)));
                // Fails if nobody waits for the queue any more; then it is closed at once.
                drop(made.send((id, Arc::clone(&shared))));
                Ok(Writer::new(log, shared))
            }
        };
        let jobs = committer::start("parlour-queue", make).await.map_err(|error| QueueError::io(&path, &error))??;
        let (id, shared) = found.await.map_err(|_| QueueError::Closed)?;
        let inner = Inner { path, id, config, shared, jobs, delivering: tokio::sync::Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes what can be read out of a damaged file into a fresh one, and keeps the damaged one beside it. Blocks while it
    /// reads and writes.
    ///
    /// What cannot be read is lost. A message whose settlement cannot be read is sent once more; a receiver that remembers it
    /// does not take it twice.
    ///
    /// # Errors
    /// [`QueueError::NotAQueue`] if the beginning of the file is damaged: nothing can be read without it.
    pub fn salvage(path: impl AsRef<Path>) -> Result<Salvaged, QueueError> {
        salvage::salvage(path.as_ref())
    }

    /// The id of the queue: the session in the origin of its messages.
    #[must_use]
    pub fn id(&self) -> LinkSessionId {
        self.inner.id
    }

    /// What waits, messages under way included.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let Room { records, bytes } = self.inner.shared.lock().waiting();
        Waiting { records, bytes }
    }

    /// Waits until nothing waits.
    ///
    /// # Errors
    /// [`QueueError::Closed`] if the queue is closed before.
    pub async fn drained(&self) -> Result<(), QueueError> {
        loop {
            let mut changed = pin!(self.inner.shared.changed.notified());
            changed.as_mut().enable();
            if self.waiting().records == 0 {
                return Ok(());
            }
            if self.inner.shared.is_closed() {
                return Err(QueueError::Closed);
            }
            changed.await;
        }
    }

    /// Queues an action. When the future is done it is on disk, and will be delivered.
    ///
    /// Messages are queued in the order of the calls, not of the awaits; so are those whose future is dropped.
    pub fn action<A: Serialize + ?Sized>(&self, name: &str, args: &A) -> Queued {
        Queued(self.encode(args).and_then(|content| self.push(Kind::ACTION, name, content, None)))
    }

    /// As [`DurableQueue::action`], with content that is encoded already.
    pub fn action_raw(&self, name: &str, content_type: ContentType, content: Bytes) -> Queued {
        Queued(self.push(Kind::ACTION, name, (content_type, content), None))
    }

    /// Queues a request. When the future is done it is on disk, and will be delivered; the [`Ticket`]
    /// leads to its answer.
    pub fn request<A: Serialize + ?Sized>(&self, name: &str, args: &A) -> QueuedRequest {
        let (waiter, answer) = oneshot::channel();
        let pushed = self.encode(args).and_then(|content| self.push(Kind::REQUEST, name, content, Some(waiter)));
        QueuedRequest { queued: Queued(pushed), answer: Some((answer, self.inner.config.codecs.clone())) }
    }

    /// As [`DurableQueue::request`], with content that is encoded already.
    pub fn request_raw(&self, name: &str, content_type: ContentType, content: Bytes) -> QueuedRequest {
        let (waiter, answer) = oneshot::channel();
        let pushed = self.push(Kind::REQUEST, name, (content_type, content), Some(waiter));
        QueuedRequest { queued: Queued(pushed), answer: Some((answer, self.inner.config.codecs.clone())) }
    }

    /// Closes the queue: everything that was taken is on disk, and the file is free for the next one to open it. Whoever
    /// delivers stops.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.inner.jobs.send(Job::Close(closed)).is_ok() {
            // The sender is dropped with the file.
            drop(done.await);
        }
    }

    fn encode<A: Serialize + ?Sized>(&self, args: &A) -> Result<(ContentType, Bytes), QueueError> {
        let codecs = &self.inner.config.codecs;
        let content = codecs.encode(codecs.default_type(), args);
        content.map(|content| (codecs.default_type(), content)).map_err(|error| QueueError::Unencodable(error.to_string()))
    }

    fn push(&self, kind: Kind, name: &str, content: (ContentType, Bytes), waiter: Option<Waiter>) -> Push {
        let (content_type, content) = content;
        if name.len() > NAME {
            return Err(QueueError::NameTooLong);
        }
        if FRAMING + name.len() + content.len() > limits::FRAME {
            return Err(QueueError::TooLarge);
        }
        let size = size_of(name.len() + content.len()) as u64;
        let full = |Room { records, bytes }| QueueError::Full { records, bytes };
        let mut index = self.inner.shared.lock();
        index.reserve(size).map_err(full)?;
        let (pushed, receiver) = oneshot::channel();
        let message = Message { kind, name: name.to_owned(), content_type, content };
        if self.inner.jobs.send(Job::Push { message, waiter, pushed }).is_err() {
            index.release(size);
            return Err(QueueError::Closed);
        }
        Ok(receiver)
    }
}

type Push = Result<oneshot::Receiver<Result<u64, QueueError>>, QueueError>;

/// A message on its way to the disk. Resolves to its number in the queue when it is there.
#[derive(Debug)]
#[must_use = "only its result says that the message is on disk"]
pub struct Queued(Push);

impl Future for Queued {
    type Output = Result<u64, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(pushed) => Pin::new(pushed).poll(cx).map(|answer| answer.unwrap_or(Err(QueueError::Closed))),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

/// A request on its way to the disk. Resolves to its [`Ticket`] when it is there.
#[derive(Debug)]
#[must_use = "only its result says that the request is on disk"]
pub struct QueuedRequest {
    queued: Queued,
    answer: Option<(oneshot::Receiver<Result<Answer, Fault>>, Codecs)>,
}

impl Future for QueuedRequest {
    type Output = Result<Ticket, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(number) = Pin::new(&mut self.queued).poll(cx) else { return Poll::Pending };
        let answer = self.answer.take();
        let (answer, codecs) = answer.expect("a future is not polled after its end");
        Poll::Ready(number.map(|number| Ticket { number, answer, codecs }))
    }
}

/// The place of a request in a queue, and the way to its answer while this process lives.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    answer: oneshot::Receiver<Result<Answer, Fault>>,
    codecs: Codecs,
}

impl Ticket {
    /// The number of the request in the queue.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the answer, as long as it takes, and reads it.
    ///
    /// # Errors
    /// As [`Ticket::raw`]; `incompatible` if the answer is not a `T`.
    pub async fn answer<T: DeserializeOwned>(self) -> Result<T, Fault> {
        let codecs = self.codecs.clone();
        let Answer { content_type, content } = self.raw().await?;
        codecs.decode(content_type, &content).map_err(|error| Fault::new(Code::INCOMPATIBLE, error.to_string()))
    }

    /// Waits for the answer as it comes. The request is delivered whether anybody waits or not; after a restart of the
    /// process its answer goes to [`DurableConfig::on_outcome`] only.
    ///
    /// # Errors
    /// The refusal of the receiver; `link_lost` if the queue is closed before there is an answer.
    pub async fn raw(self) -> Result<Answer, Fault> {
        self.answer.await.unwrap_or_else(|_| Err(QueueError::Closed.into()))
    }
}

/// Takes note of a record of the file.
pub(super) fn take_in(index: &mut Index, place: Place, record: &Record<'_>) {
    match record.kind {
        Kind::ACTION | Kind::REQUEST => index.found(record.number, place),
        Kind::DONE => drop(index.settle(record.number)),
        _ => {}
    }
}

/// Reads a file into what waits.
fn load(path: &Path, room: Room) -> Result<(Log, Index), QueueError> {
    let mut index = Index::new(room);
    let log = Log::open(path, Purpose::Queue, |place, record| take_in(&mut index, place, &record))?;
    index.raise(log.next());
    Ok((log, index))
}
