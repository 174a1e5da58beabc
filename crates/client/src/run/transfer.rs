//! Transfers of files: each is a task beside the link, which works through the blobs of the server and the disk here, and reports to the
//! core. Disk work happens on the runtime's blocking threads, piece by piece, so that a transfer can be stopped at any of them.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::mpsc as std_mpsc,
    time::Duration,
};

use parlour_net::{Ask, Asked, Link};
use parlour_wire::{Code, MessageId, api::Call, frame::ContentType};
use rustix::fs::OFlags;
use tokio::{sync::broadcast, task::AbortHandle};

use super::{Job, download, link::error_of, upload};
use crate::{
    core::{Input, Order, Outcome, TransferId},
    error::Error,
    event::Event,
};

/// How long a request about a blob may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Sealed chunks in one request: as many as its limit has room for.
pub(super) const GROUP: u32 = 3;
/// Requests of one transfer that are under way. With [`GROUP`] this is 1.2 MiB, enough to keep a link busy over a long way, and little
/// enough that live messages get in between.
pub(super) const WINDOW: usize = 6;
/// Chunks that are worked on in one go on a blocking thread.
pub(super) const STRIDE: usize = 64;

/// The transfers that run.
pub(super) struct Workers {
    jobs: std_mpsc::Sender<Job>,
    events: broadcast::Sender<Event>,
    running: BTreeMap<TransferId, AbortHandle>,
}

impl Workers {
    pub(super) fn new(jobs: std_mpsc::Sender<Job>, events: broadcast::Sender<Event>) -> Self {
        Self { jobs, events, running: BTreeMap::new() }
    }

    pub(super) fn start(&mut self, order: Order, link: Option<Link>) {
        self.running.retain(|_, task| !task.is_finished());
        let (id, jobs) = (order.id(), self.jobs.clone());
        let teller = Teller(self.events.clone());
        let task = tokio::spawn(async move {
            let outcome = run(order, link, teller).await;
            // A core that has gone wants no report.
            drop(jobs.send(Job::Input(Input::Transferred(id, outcome))));
        });
        self.running.insert(id, task.abort_handle());
    }

    pub(super) fn stop(&mut self, id: TransferId) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }

    pub(super) fn stop_all(&mut self) {
        std::mem::take(&mut self.running).into_values().for_each(|task| task.abort());
    }
}

async fn run(order: Order, link: Option<Link>, teller: Teller) -> Outcome {
    match order {
        Order::Seal { file, key, .. } => upload::seal(file, key).await,
        Order::Upload { message, file, key, blob, sealed, kept } => {
            let source = upload::source(file, key, blob, sealed, kept).await?;
            upload::send(&wanted(link)?, message, source, blob, &teller).await
        }
        Order::Download { message, attachment, folder, name, force, kept, .. } => {
            let source = match kept {
                Some(path) => download::Source::Kept(path),
                None => download::Source::Server(wanted(link)?),
            };
            let place = download::Place { folder, name, force };
            download::fetch(&source, message, *attachment, &place, &teller).await
        }
    }
}

fn wanted(link: Option<Link>) -> Result<Link, Error> {
    link.ok_or_else(|| Error::new(Code::LINK_LOST, "not connected"))
}

/// Tells listeners how far a transfer is. It passes by the core: nothing is decided by it and nothing is kept.
pub(super) struct Teller(broadcast::Sender<Event>);

impl Teller {
    pub(super) fn tell(&self, message: MessageId, up: bool, done: u64, total: u64) {
        // Nobody may be listening.
        drop(self.0.send(Event::FileProgress { message, up, done, total }));
    }
}

/// A request whose place in the order is taken when this returns.
pub(super) fn ask<C: Call>(link: &Link, call: &C) -> Asked {
    link.ask(Ask {
        name: C::NAME.to_owned(),
        content_type: ContentType::CBOR,
        content: parlour_wire::encode(call).into(),
        timeout: Some(REQUEST),
        origin: None,
    })
}

/// Its answer.
pub(super) async fn answer<C: Call>(asked: Asked) -> Result<C::Answer, Error> {
    let answer = asked.await.map_err(|fault| error_of(&fault))?;
    Ok(parlour_wire::decode(&answer.content)?)
}

/// Does disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_cancelled() => Err(Error::new(Code::CANCELLED, "the program is ending")),
        Err(error) => Err(Error::internal(format!("a transfer panicked: {error}"))),
    }
}

/// When a file was last changed, nanoseconds of Unix time.
pub(crate) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Opens a file to be read. What is no file any more, such as a pipe that nobody writes to, is not waited for.
pub(crate) fn open_at_once(path: &Path) -> std::io::Result<File> {
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).map_err(std::io::Error::other)?;
    File::options().read(true).custom_flags(at_once).open(path)
}

/// Says what went wrong with a file of the owner's.
pub(crate) fn file_error(what: &str, path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Code::DISK_FULL,
        ErrorKind::NotFound | ErrorKind::NotADirectory => Code::FILE_NOT_FOUND,
        ErrorKind::AlreadyExists => Code::FILE_EXISTS,
        ErrorKind::IsADirectory | ErrorKind::InvalidFilename => Code::PATH_REFUSED,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Code::READ_ONLY,
        _ => Code::FILE_UNAVAILABLE,
    };
    Error::new(code, format!("cannot {what} {}: {error}", path.display())).hint("check the path, and whether you may use it")
}
