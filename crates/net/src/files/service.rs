//! What a program lets its peers do with its files: roots, bounds, and the handlers that keep them.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use parlour_wire::{
    Code, LinkSessionId,
    api::Call,
    decode, encode,
    files::{Pull, Push, RemotePath, Settle, Stat},
    frame::ContentType,
    header::Fault,
};
use tokio::sync::{oneshot, watch};

use super::{
    error::FileError,
    events::{FileEvent, Listener, Story},
    intake::Intake,
    meter::Meter,
    root::{FilesError, OpenRoot, Root},
    seats::{Bounds, Seats},
};
use crate::{
    streams::Sink,
    toolkit::{Access, Context, Handlers, Raw},
};

/// Settings of [`Files`].
#[derive(Debug)]
pub struct FilesBuilder {
    roots: Vec<Root>,
    seats: Bounds,
    idle: Duration,
    part_age: Duration,
    keep_modified: bool,
    listener: Listener,
}

impl FilesBuilder {
    /// Opens a folder to peers.
    #[must_use]
    pub fn root(mut self, root: Root) -> Self {
        self.roots.push(root);
        self
    }

    /// How many transfers a peer may have under way, 16 unless it is set. One more is refused as `rate_limited`.
    #[must_use]
    pub fn max_transfers(mut self, per_peer: usize) -> Self {
        self.seats.per_peer = per_peer;
        self
    }

    /// How many transfers all peers together may have under way, 64 unless it is set: each takes a thread and up to 4 MiB. Beyond it
    /// the place of a slow transfer ([`FilesBuilder::pace`]) goes to the peer that asks, or one of the peer that has most places, if
    /// whoever asks has fewer. What has arrived of the transfer that ends is kept; its peer is told `rate_limited`, and goes on later.
    #[must_use]
    pub fn max_transfers_in_all(mut self, in_all: usize) -> Self {
        self.seats.in_all = in_all;
        self
    }

    /// What a transfer must move so that it is not slow: `least` bytes in each `within`, 64 KiB in a minute unless it is set. A slow
    /// one goes on as long as nobody else wants its place.
    #[must_use]
    pub fn pace(mut self, least: u64, within: Duration) -> Self {
        (self.seats.least, self.seats.within) = (least, within);
        self
    }

    /// How long a peer may neither send nor take anything before its transfer ends as `timed_out`; 30 s unless it is set.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// How old part files of transfers that never went on must be to be removed when the roots are opened; 7 days unless it is set.
    #[must_use]
    pub fn part_age(mut self, age: Duration) -> Self {
        self.part_age = age;
        self
    }

    /// Whether pushed files keep the time of their last change; not unless it is set.
    #[must_use]
    pub fn keep_modified(mut self, keep: bool) -> Self {
        self.keep_modified = keep;
        self
    }

    /// Tells of the transfers that peers begin. Called on the tasks of their links: it must not block.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&FileEvent) + Send + Sync + 'static) -> Self {
        self.listener = Listener(Some(Arc::new(listener)));
        self
    }

    /// Opens the roots: removes stale part files, and counts what is there. Reads whole folders; call it before there is traffic.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn open(self) -> Result<Files, FilesError> {
        let stale = system_time().checked_sub(self.part_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut roots = BTreeMap::new();
        for root in self.roots {
            let (name, root) = root.open(stale)?;
            if roots.insert(name.clone(), root).is_some() {
                return Err(FilesError::Twice(name));
            }
        }
        let shared = Shared {
            roots,
            seats: Arc::new(Seats::new(self.seats)),
            idle: self.idle,
            keep_modified: self.keep_modified,
            listener: self.listener,
            offers: Mutex::default(),
            incoming: Mutex::default(),
        };
        Ok(Files { shared: Arc::new(shared) })
    }
}

#[expect(clippy::disallowed_methods, reason = "files on disk have the time of the system")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Folders that peers may reach into, at either end of a link. Clones share them.
///
/// ```
/// use parlour_net::{Access, Files, Handlers, Rights, Root};
///
/// # let folder = tempfile::tempdir()?;
/// let inbox = Root::new("inbox", folder.path(), Rights::Write).allow(Access::Authenticated);
/// let files = Files::builder().root(inbox.max_file(1 << 30).quota(10 << 30)).open()?;
/// let mut handlers = Handlers::new();
/// files.serve(&mut handlers);
/// // A peer with these handlers takes `link.push("report.pdf", "inbox/report.pdf")`.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Files {
    shared: Arc<Shared>,
}

/// See [`Files`].
pub(super) struct Shared {
    pub(super) roots: BTreeMap<String, Arc<OpenRoot>>,
    pub(super) seats: Arc<Seats>,
    pub(super) idle: Duration,
    pub(super) keep_modified: bool,
    pub(super) listener: Listener,
    /// Pushes that were answered and wait for their settling.
    pub(super) offers: Mutex<BTreeMap<(LinkSessionId, u64), Offer>>,
    /// For every file on its way in, who else wants its place: told to end.
    pub(super) incoming: Mutex<BTreeMap<Mark, watch::Sender<bool>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("roots", &self.roots).field("seats", &self.seats).finish_non_exhaustive()
    }
}

/// What a file on its way in is told by: its name, and the tag of its part file.
pub(super) type Mark = (RemotePath, u64);

/// A push that was answered: the sender may send.
pub(super) struct Offer {
    pub(super) mark: Mark,
    pub(super) sink: Sink,
    pub(super) intake: Intake,
    pub(super) meter: Arc<Meter>,
    pub(super) replaced: watch::Receiver<bool>,
    pub(super) story: Story,
    /// Comes to its end when its place is wanted back.
    pub(super) displaced: BoxFuture<'static, FileError>,
    /// Dropped with the offer, so that nobody waits for its expiry any more.
    pub(super) _settled: oneshot::Sender<()>,
}

impl Files {
    /// No roots yet.
    #[must_use]
    pub fn builder() -> FilesBuilder {
        FilesBuilder {
            roots: Vec::new(),
            seats: Bounds { per_peer: 16, in_all: 64, least: 64 * 1024, within: Duration::from_secs(60) },
            idle: Duration::from_secs(30),
            part_age: Duration::from_secs(7 * 24 * 3600),
            keep_modified: false,
            listener: Listener::default(),
        }
    }

    /// Adds the handlers of files. Who may do what is said by the roots.
    pub fn serve(&self, handlers: &mut Handlers) {
        self.add(handlers, |shared, cx, push: Push| async move { shared.push(cx, push).await });
        self.add(handlers, |shared, cx, settle: Settle| async move { shared.settle(cx, settle).await });
        self.add(handlers, |shared, cx, pull: Pull| async move { shared.pull(cx, pull).await });
        self.add(handlers, |shared, cx, stat: Stat| async move { shared.stat(cx, stat).await });
    }

    fn add<T, F, Fut>(&self, handlers: &mut Handlers, run: F)
    where
        T: Call + Send + 'static,
        F: Fn(Arc<Shared>, Context, T) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<T::Answer, Fault>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let handler = move |cx: Context, raw: Raw| {
            let shared = Arc::clone(&shared);
            async move {
                if raw.content_type != ContentType::CBOR {
                    return Err(Fault::new(Code::BAD_REQUEST, "files are asked for in CBOR"));
                }
                let request: T = read_request(&raw.content)?;
                let answer = run(shared, cx, request).await?;
                Ok(Raw { content_type: ContentType::CBOR, content: encode(&answer).into() })
            }
        };
        handlers.on_own_request_raw(T::NAME, handler).allow(Access::Anyone);
    }

    /// Bytes below the root of this name, and bytes that are set aside for transfers under way; `None` if there is no such root or
    /// it has neither a quota nor a bound of its entries.
    #[must_use]
    pub fn used(&self, root: &str) -> Option<(u64, u64)> {
        self.shared.roots.get(root)?.used().map(|(used, reserved)| (used.bytes, reserved.bytes))
    }

    /// The same in files and folders.
    #[must_use]
    pub fn entries(&self, root: &str) -> Option<(u64, u64)> {
        self.shared.roots.get(root)?.used().map(|(used, reserved)| (used.entries, reserved.entries))
    }
}

fn read_request<T: Call>(content: &[u8]) -> Result<T, Fault> {
    let request: Result<T, _> = decode(content);
    let checked = request.and_then(|request| request.check().map(|()| request));
    checked.map_err(|error| Fault::new(Code::BAD_REQUEST, error.to_string()))
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under the locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
