//! `parlour bench`: the figures of docs/performance.md, measured against a real server process on loopback.
//!
//! The server runs as a child process, so its memory and processor time are its own. The generator speaks the link protocol
//! with ciphertexts of random bytes: the server cannot tell, and the generator's own encryption does not blur the figures.
//! Rates and latencies stand beside a baseline of the same run, since absolute times on shared machines mean nothing.

mod attachment;
mod baseline;
mod chat;
mod client;
mod e2ee;
mod group;
mod idle;
mod link;
mod offline;
mod people;
mod process;
mod report;
mod server;

use std::{io::ErrorKind, path::PathBuf};

use parlour_client::{Code, Error};

use self::report::Target;
pub(crate) use self::{link::Amount, report::Figure};

/// What to measure, and how much of it.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    /// Stored-and-forwarded messages between pairs; then latency at a moderate rate.
    Chat {
        /// Pairs of people.
        pairs: usize,
        /// Messages in all.
        messages: usize,
        /// Unanswered messages of each sender.
        window: usize,
    },
    /// Deliveries in one group whose devices are all online.
    Group {
        /// Devices in the group.
        devices: usize,
        /// Devices that write.
        senders: usize,
        /// Messages in all.
        messages: usize,
        /// Unanswered messages of each sender.
        window: usize,
    },
    /// Memory of idle authenticated connections.
    Idle {
        /// How many.
        connections: usize,
    },
    /// A client with a large profile: opening it, and searching in it.
    Client {
        /// Conversations.
        conversations: usize,
        /// Messages in all.
        messages: usize,
    },
    /// Messages stored for somebody who is away, then drained.
    Offline {
        /// How many.
        messages: usize,
    },
    /// The link between two programs: requests, actions, files, the durable queue.
    Link(Amount),
    /// End-to-end encryption in groups of so many devices.
    E2ee {
        /// The sizes.
        devices: Vec<usize>,
    },
}

/// Runs one load. Answers its figures, baselines first.
///
/// # Errors
/// Whatever keeps the load from running to its end.
pub(crate) async fn run(load: &Load, data: Option<PathBuf>) -> anyhow::Result<Vec<Figure>> {
    let folder = Folder::new(data)?;
    match load {
        Load::Chat { pairs, messages, window } => chat::run(&folder.0, *pairs, *messages, *window).await,
        Load::Group { devices, senders, messages, window } => group::run(&folder.0, *devices, *senders, *messages, *window).await,
        Load::Idle { connections } => idle::run(&folder.0, *connections).await,
        Load::Client { conversations, messages } => client::run(&folder.0, *conversations, *messages).await,
        Load::Offline { messages } => offline::run(&folder.0, *messages).await,
        Load::Link(amount) => link::run(&folder.0, *amount).await,
        Load::E2ee { devices } => {
            let devices = devices.clone();
            tokio::task::spawn_blocking(move || {
                let mut figures = attachment::run()?;
                figures.extend(e2ee::run(&devices)?);
                Ok(figures)
            })
            .await?
        }
    }
}

/// A folder that goes when the load is over.
struct Folder(PathBuf);

impl Folder {
    fn new(base: Option<PathBuf>) -> anyhow::Result<Self> {
        let base = base.unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("parlour-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| {
            let code = if error.kind() == ErrorKind::StorageFull { Code::DISK_FULL } else { Code::READ_ONLY };
            Error::new(code, format!("cannot create {}: {error}", path.display())).hint("name another folder with --data")
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the bench folder");
        }
    }
}
