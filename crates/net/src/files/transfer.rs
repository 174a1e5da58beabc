//! The end of a transfer that asks for it: calls on the link, and what the caller holds of a transfer.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parlour_wire::{
    Code, LinkSessionId,
    api::Call,
    decode, encode,
    files::{MARK_INTERVAL, RemotePath, Stat, Whole},
    frame::ContentType,
    header::Fault,
};
use tokio::sync::{oneshot, watch};

use super::{error::FileError, meter::Meter};
use crate::{
    asked::{Ask, Asked, Progress},
    link::Link,
    pump::{later, now},
};

/// Tries that may be lost, with the link up all the time, before the receiver has [`MARK_INTERVAL`] more of the file than it had.
const FRUITLESS: u32 = 8;
/// The wait after such a try, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Settings of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// Whether the file may take the place of another. If not (the default), the transfer is refused as `file_exists`.
    pub replace: bool,
    /// How long the peer may neither send nor take anything before the transfer ends as `timed_out`; 30 s.
    pub idle: Duration,
    /// The largest file to pull, in bytes; no bound unless it is set.
    pub max_file: u64,
    /// Whether a pulled file keeps the time of its last change; not unless it is set.
    pub keep_modified: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { replace: false, idle: Duration::from_secs(30), max_file: u64::MAX, keep_modified: false }
    }
}

/// A file that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its size in bytes.
    pub bytes: u64,
    /// BLAKE3 of its content, as both ends have computed it.
    pub hash: [u8; 32],
    /// Bytes that went over the link for it: less than its size if a part was there, more if some had to go again.
    pub moved: u64,
}

/// What a peer says about one of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, to the millisecond.
    pub modified: Option<SystemTime>,
}

/// A transfer that is under way: a future of its end. It runs whether this is polled or not; dropping it ends it.
///
/// When the connection is lost, the transfer waits for the link and goes on where it was. What has arrived of a transfer that
/// ended without success is kept in a part file beside the target, and the next transfer of the same file, by this process or
/// another, goes on behind it; unless it was [cancelled](Transfer::cancel).
#[must_use = "dropping it ends the transfer"]
pub struct Transfer {
    result: oneshot::Receiver<Result<Copied, FileError>>,
    progress: watch::Receiver<Progress>,
    meter: Arc<Meter>,
    wish: watch::Sender<Wish>,
}

/// What the holder of a transfer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    GoOn,
    Cancel,
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl Future for Transfer {
    type Output = Result<Copied, FileError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A runtime that shuts down takes its transfers with it.
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or(Err(FileError::Cancelled)))
    }
}

impl Transfer {
    /// How far it has come, in bytes: of a push, those that have been given to the link, part files of earlier tries included; of a
    /// pull, those that are written and hashed here. With all of them a push is not over: the end of the transfer says that the file
    /// is on the peer's disk. It goes back if a file has to be sent again. The end that serves is told by
    /// [`FileEvent`](crate::FileEvent)s.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Bytes of the file that were given to the link so far. Of those that a loss finds on their way, some go again.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.meter.total_moved()
    }

    /// Gives the file up: nothing of it is kept here, nor at a peer to which it is being sent and which hears of it. The transfer then
    /// comes to its end as [`FileError::Cancelled`], unless it was complete before; a peer that does not answer is given two seconds.
    /// One that hears nothing, because the link is down or it had not begun to take the file, keeps what it has of it as after any
    /// other loss.
    pub fn cancel(&self) {
        self.wish.send_replace(Wish::Cancel);
    }

    fn start(work: impl FnOnce(Arc<Meter>, Stop) -> Work) -> Self {
        let meter = Arc::new(Meter::default());
        let (sender, result) = oneshot::channel();
        let (wish, wishes) = watch::channel(Wish::GoOn);
        let work = work(Arc::clone(&meter), Stop(wishes.clone()));
        tokio::spawn(run(work, wishes, sender));
        Self { result, progress: meter.watch(), meter, wish }
    }

    /// A transfer that ends before it begins.
    fn refused(error: FileError) -> Self {
        Self::start(|_, _| Box::pin(std::future::ready(Err(error))))
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Copied, FileError>> + Send>>;

async fn run(work: Work, mut wishes: watch::Receiver<Wish>, result: oneshot::Sender<Result<Copied, FileError>>) {
    let dropped = async { while wishes.changed().await.is_ok() {} };
    tokio::select! {
        done = work => {
            // Whoever has gone wants no result.
            let _ = result.send(done);
        }
        () = dropped => {}
    }
}

/// Comes to its end when the transfer is cancelled.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Wish>);

impl Stop {
    pub(super) async fn cancelled(mut self) -> FileError {
        let cancelled = self.0.wait_for(|wish| *wish == Wish::Cancel).await.is_ok();
        // If not, the transfer was dropped, and this with it.
        if cancelled { FileError::Cancelled } else { std::future::pending().await }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.0.borrow() == Wish::Cancel
    }
}

/// One transfer, as its tries see it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) link: Link,
    pub(super) local: PathBuf,
    pub(super) remote: RemotePath,
    pub(super) options: CopyOptions,
    pub(super) meter: Arc<Meter>,
    pub(super) stop: Stop,
    /// See [`Job::has`].
    pub(super) furthest: AtomicU64,
}

impl Link {
    /// Sends a file of this machine to the peer, which must serve files ([`crate::Files`]). It begins at once, on the current Tokio
    /// runtime; it is done when the file is on the peer's disk under its name.
    ///
    /// ```no_run
    /// # async fn example(link: parlour_net::Link) -> Result<(), parlour_net::FileError> {
    /// let transfer = link.push("report.pdf", "inbox/2024/report.pdf");
    /// let copied = transfer.await?;
    /// println!("{} bytes", copied.bytes);
    /// # Ok(())
    /// # }
    /// ```
    pub fn push(&self, local: impl AsRef<Path>, remote: impl AsRef<str>) -> Transfer {
        self.push_with(local, remote, CopyOptions::default())
    }

    /// As [`Link::push`], with settings.
    pub fn push_with(&self, local: impl AsRef<Path>, remote: impl AsRef<str>, options: CopyOptions) -> Transfer {
        self.transfer(local.as_ref(), remote.as_ref(), options, |job| Box::pin(super::push::push(job)))
    }

    /// Gets a file of the peer, which must serve files ([`crate::Files`]). It begins at once, on the current Tokio runtime; it is
    /// done when the file is on disk under its name. The folder of the local file must exist.
    ///
    /// ```no_run
    /// # async fn example(link: parlour_net::Link) -> Result<(), parlour_net::FileError> {
    /// let transfer = link.pull("logs/today.txt", "today.txt");
    /// let mut progress = transfer.progress();
    /// tokio::spawn(async move {
    ///     while progress.changed().await.is_ok() {
    ///         println!("{:?}", *progress.borrow());
    ///     }
    /// });
    /// transfer.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pull(&self, remote: impl AsRef<str>, local: impl AsRef<Path>) -> Transfer {
        self.pull_with(remote, local, CopyOptions::default())
    }

    /// As [`Link::pull`], with settings.
    pub fn pull_with(&self, remote: impl AsRef<str>, local: impl AsRef<Path>, options: CopyOptions) -> Transfer {
        self.transfer(local.as_ref(), remote.as_ref(), options, |job| Box::pin(super::pull::pull(job)))
    }

    /// Asks the peer about one of its files.
    ///
    /// # Errors
    /// [`FileError`], also if there is no such file.
    pub async fn stat(&self, remote: impl AsRef<str>) -> Result<FileInfo, FileError> {
        let path: RemotePath = remote.as_ref().parse()?;
        let asked = self.ask(call(&Stat { path: path.as_str().to_owned() }));
        let found = answered::<Stat>(asked, self, CopyOptions::default().idle).await?;
        let modified = found.modified_ms.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        Ok(FileInfo { size: found.size, modified })
    }

    fn transfer(&self, local: &Path, remote: &str, options: CopyOptions, work: impl FnOnce(Job) -> Work) -> Transfer {
        match remote.parse() {
            Ok(remote) => Transfer::start(|meter, stop| {
                let (link, local, furthest) = (self.clone(), local.to_owned(), AtomicU64::new(0));
                work(Job { link, local, remote, options, meter, stop, furthest })
            }),
            Err(error) => Transfer::refused(FileError::Path(error)),
        }
    }
}

/// What a try knows of the tries before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// What there is at the receiver is to be forgotten.
    pub(super) afresh: bool,
}

/// The tries that were lost, and whether another one makes sense. What has left this side says nothing: the other one may throw it
/// away for ever. What the receiver has when the next try begins does.
#[derive(Debug, Default)]
struct Losses {
    fruitless: u32,
    /// What the receiver had when it last had enough more.
    had: u64,
}

impl Losses {
    /// Counts a loss. `None` if it was one too many.
    fn count(&mut self, has: u64, link_was_down: bool) -> Option<u32> {
        if has >= self.had.saturating_add(MARK_INTERVAL) {
            *self = Self { fruitless: 0, had: has };
        }
        // Who has to connect again has waited for that, and a bad network is no fault of the peer.
        if link_was_down {
            return Some(0);
        }
        self.fruitless += 1;
        (self.fruitless <= FRUITLESS).then_some(self.fruitless)
    }
}

impl Job {
    /// The receiver has so much of the file: a try begins with what is left.
    pub(super) fn has(&self, bytes: u64) {
        self.furthest.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Tries until the file has arrived, or an error says that another try is of no use: after a loss as often as the receiver gets
    /// further, and once if the file was changed while it was sent. One that has had to make room for others tries to get back in.
    pub(super) async fn persist<F>(&self, mut attempt: impl FnMut(Before) -> F) -> Result<Copied, FileError>
    where
        F: Future<Output = Result<Whole, FileError>>,
    {
        let (mut before, mut losses, mut lost, mut changed) = (Before::default(), Losses::default(), false, false);
        loop {
            self.up().await?;
            let (moved, connection) = (self.meter.total_moved(), self.link.port.connection());
            let error = match attempt(before).await {
                Ok(Whole { size, hash }) => return Ok(Copied { bytes: size, hash, moved: self.meter.total_moved() }),
                Err(error) => error,
            };
            before = Before::default();
            // It was under way, and had to make room for another peer.
            let displaced = self.meter.total_moved() > moved && error.is_from_peer() && error.code() == Code::RATE_LIMITED;
            lost |= displaced || matches!(error, FileError::Lost(_));
            // What the peer has not yet noticed to be over may still be in the way.
            let in_the_way = lost && matches!(error.code(), Code::RATE_LIMITED | Code::FILE_BUSY);
            if error.code() == Code::SOURCE_CHANGED && !changed {
                changed = true;
                before.afresh = true;
            } else if matches!(error, FileError::Lost(_)) || in_the_way {
                let link_was_down = self.link.port.connection() != connection || !self.link.is_up();
                let Some(fruitless) = losses.count(self.furthest.load(Ordering::Relaxed), link_was_down) else {
                    return Err(error);
                };
                self.pause(fruitless).await?;
            } else {
                return Err(error);
            }
        }
    }

    /// The session in which a try takes place.
    pub(super) fn session(&self) -> Result<LinkSessionId, FileError> {
        self.link.session().ok_or_else(|| FileError::Lost(Fault::new(Code::LINK_LOST, "there is no session")))
    }

    /// Waits for the link.
    async fn up(&self) -> Result<(), FileError> {
        tokio::select! {
            up = self.link.wait_up() => up.map_err(|error| FileError::Lost(Fault::new(Code::LINK_LOST, error.to_string()))),
            error = self.stop.clone().cancelled() => Err(error),
        }
    }

    async fn pause(&self, fruitless: u32) -> Result<(), FileError> {
        let Some(doublings) = fruitless.checked_sub(1) else { return Ok(()) };
        let pause = PAUSE.0.saturating_mul(1 << doublings.min(16)).min(PAUSE.1);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            error = self.stop.clone().cancelled() => Err(error),
        }
    }
}

/// Asks a request of the protocol of files in this session. It names a stream, or its answer does, and streams do not outlive their
/// sessions: in another one it would be about nothing.
pub(super) fn ask<T: Call>(link: &Link, session: LinkSessionId, request: &T) -> Asked {
    link.ask_within(session, call(request))
}

fn call<T: Call>(request: &T) -> Ask {
    let content = encode(request).into();
    Ask { name: T::NAME.to_owned(), content_type: ContentType::CBOR, content, timeout: None, origin: None }
}

/// Waits for an answer as long as the peer shows that it works on it.
pub(super) async fn answered<T: Call>(asked: Asked, link: &Link, idle: Duration) -> Result<T::Answer, FileError> {
    let answer = patiently(std::pin::pin!(asked), link, idle).await?;
    Ok(decode(&answer.content)?)
}

/// Waits for an answer as long as there are reports.
pub(super) async fn patiently(mut asked: Pin<&mut Asked>, link: &Link, idle: Duration) -> Result<crate::Answer, FileError> {
    let mut patience = std::pin::pin!(tokio::time::sleep(idle));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = asked.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(FileError::from));
        }
        if asked.is_alive() {
            patience.as_mut().reset(later(now(), idle).into());
        }
        match patience.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if link.is_up() => Poll::Ready(Err(FileError::Stalled(idle))),
            Poll::Ready(()) => Poll::Ready(Err(FileError::Lost(Fault::new(Code::LINK_LOST, "the link is down")))),
        }
    })
    .await
}
