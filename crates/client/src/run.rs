//! The driver around a core: the thread that it lives on, the link, the clocks, the listeners. It decides nothing.

mod download;
mod keep;
mod link;
mod thumbnail;
mod transfer;
mod upload;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use parlour_wire::Code;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub(crate) use self::{
    keep::{erase, keep, keep_text, named, sweep},
    link::server_info,
    thumbnail::thumbnail,
    transfer::{blocking, file_error, modified_ns, open_at_once},
};
use crate::{
    core::{Command, Core, Input, Now, Output, Reply, Ticket},
    error::Error,
    event::{Event, Events},
    key,
};

/// Events that may wait for a listener before it misses some: a page of entries, several times over.
const EVENTS: usize = 8192;

/// What reaches the core's thread.
pub(crate) enum Job {
    Input(Input),
    Stop,
}

type Replies = Arc<Mutex<BTreeMap<Ticket, oneshot::Sender<Result<Reply, Error>>>>>;

/// A running core.
pub(crate) struct Driver {
    jobs: std_mpsc::Sender<Job>,
    replies: Replies,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
    /// Closed when the core has gone and its database with it.
    core_gone: watch::Receiver<()>,
    /// Closed when the link has said goodbye.
    link_gone: watch::Receiver<()>,
    /// The folder for files that only this profile has.
    pub(crate) files: PathBuf,
}

/// A seed from the operating system.
pub(crate) fn seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    key::random(&mut seed)?;
    Ok(seed)
}

impl Driver {
    /// Puts a core on its thread, and its link on the current runtime.
    pub(crate) fn start(core: Core, files: PathBuf) -> Result<Self, Error> {
        let (jobs, inbox) = std_mpsc::channel();
        let (to_link, from_core) = mpsc::unbounded_channel();
        let (core_alive, core_gone) = watch::channel(());
        let (link_alive, link_gone) = watch::channel(());
        let events = broadcast::Sender::new(EVENTS);
        let replies = Replies::default();
        let home = CoreThread {
            core,
            inbox,
            to_link,
            events: events.clone(),
            replies: Arc::clone(&replies),
            start: instant(),
            _alive: core_alive,
        };
        thread::Builder::new()
            .name("parlour-core".to_owned())
            .spawn(move || home.run())
            .map_err(|error| Error::internal(format!("no thread: {error}")))?;
        let workers = transfer::Workers::new(jobs.clone(), events.clone());
        tokio::spawn(link::run(from_core, jobs.clone(), workers, link_alive));
        Ok(Self { jobs, replies, next: AtomicU64::new(1), events, core_gone, link_gone, files })
    }

    pub(crate) fn events(&self) -> Events {
        Events::new(self.events.subscribe())
    }

    /// Gives the core a command and waits for its reply. Dropping the future gives up the wait.
    pub(crate) async fn ask(&self, command: Command) -> Result<Reply, Error> {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        lock(&self.replies).insert(ticket, sender);
        let _waiting = Waiting { driver: self, ticket };
        self.jobs.send(Job::Input(Input::Command(ticket, command))).map_err(|_| closed())?;
        receiver.await.map_err(|_| closed())?
    }

    /// Ends the core and its link; the database is closed and the lock released when this returns.
    pub(crate) async fn stop(&self) {
        // A core that has gone needs no order to go.
        drop(self.jobs.send(Job::Stop));
        let (mut core, mut link) = (self.core_gone.clone(), self.link_gone.clone());
        while core.changed().await.is_ok() {}
        while link.changed().await.is_ok() {}
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.jobs.send(Job::Stop));
    }
}

/// A caller that waits for a reply.
struct Waiting<'a> {
    driver: &'a Driver,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if lock(&self.driver.replies).remove(&self.ticket).is_some() {
            // A core that has gone has nothing to forget.
            drop(self.driver.jobs.send(Job::Input(Input::Abandon(self.ticket))));
        }
    }
}

/// The core's thread.
struct CoreThread {
    core: Core,
    inbox: std_mpsc::Receiver<Job>,
    to_link: mpsc::UnboundedSender<Output>,
    events: broadcast::Sender<Event>,
    replies: Replies,
    start: Instant,
    _alive: watch::Sender<()>,
}

impl CoreThread {
    fn run(mut self) {
        while let Some(input) = self.next_input() {
            let now = self.now();
            for output in self.core.handle(input, now) {
                self.deliver(output);
            }
        }
        lock(&self.replies).clear();
    }

    fn next_input(&self) -> Option<Input> {
        let job = match self.core.deadline() {
            None => self.inbox.recv().ok()?,
            Some(deadline) => {
                let wait = deadline.saturating_sub(self.now().steady);
                match self.inbox.recv_timeout(wait) {
                    Ok(job) => job,
                    Err(std_mpsc::RecvTimeoutError::Timeout) => return Some(Input::Tick),
                    Err(std_mpsc::RecvTimeoutError::Disconnected) => return None,
                }
            }
        };
        match job {
            Job::Input(input) => Some(input),
            Job::Stop => None,
        }
    }

    fn deliver(&self, output: Output) {
        match output {
            Output::Reply(ticket, result) => {
                if let Some(sender) = lock(&self.replies).remove(&ticket) {
                    // A caller that has gone wants no reply.
                    drop(sender.send(result));
                }
            }
            // Nobody may be listening.
            Output::Event(event) => drop(self.events.send(event)),
            output => drop(self.to_link.send(output)),
        }
    }

    fn now(&self) -> Now {
        let unix = unix_time();
        Now {
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            steady: instant().saturating_duration_since(self.start),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver gives the core its time")]
fn instant() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the driver gives the core its time")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn lock(replies: &Replies) -> std::sync::MutexGuard<'_, BTreeMap<Ticket, oneshot::Sender<Result<Reply, Error>>>> {
    replies.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::new(Code::CANCELLED, "the profile has been closed")
}
