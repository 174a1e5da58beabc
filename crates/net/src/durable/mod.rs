//! A queue on disk for what must arrive: over lost links, lost sessions, and restarts of either program.
//!
//! The sender pushes actions and requests into a [`DurableQueue`], a file; the queue delivers them over a [`Link`](crate::Link)
//! whenever that is up. The receiver needs nothing: the messages reach its handlers like any others.
//!
//! ```no_run
//! use parlour_net::{DurableConfig, DurableQueue, Link};
//!
//! # async fn example(link: Link) -> Result<(), Box<dyn std::error::Error>> {
//! let queue = DurableQueue::open("/var/lib/rover/outbox", DurableConfig::default()).await?;
//! let _delivery = queue.attach(&link);
//!
//! // On disk when this returns, whether the link is up or not.
//! queue.action("odometer", &1207).await?;
//! // A request's answer can be waited for while this process lives.
//! let ticket = queue.request("claim", &"landing-pad-3").await?;
//! let granted: bool = ticket.answer().await?;
//! # let _ = granted;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! **A push that has returned is on disk** (`fdatasync`; many pushes at a time share one), and its message is sent until the
//! receiver has answered it. An action is answered, with nothing, when its handler has ended.
//!
//! **Order.** Messages are sent in the order of the pushes, up to [`DurableConfig::window`] at a time, and after a loss again in
//! that order. Handlers of requests may overlap, as always. A receiver that puts one message off ("overloaded, try again")
//! may have taken later ones of the window by then; a window of 1 excludes that.
//!
//! **Once.** Every message carries its origin: the id of the queue and its number. That gives
//!
//! - *exactly once* as long as the receiving program lives: a link that is lost in any moment, a session that is lost with its
//!   answers, a sender that is killed and started again do not make a handler run twice, since the receiver remembers the
//!   origins of what it has taken in;
//! - *exactly once, but for one window,* over restarts of the receiving program too, for handlers that run under
//!   [`Marks::once`]: their mark is on disk before the answer leaves. The window is between the effect of the handler and its
//!   mark on disk, about one fsync: a receiver that is killed there takes that message (at most as many as were under way)
//!   once more. A handler whose effect is a transaction of its own can close the window: it stores the origin with it, and
//!   looks there first;
//! - *at least once* otherwise: a receiver without marks that is killed before its answer has arrived runs the handler again
//!   when it is back.
//!
//! It is never *at most once*: nothing is given up because it might have been taken. A handler that outlives its session by eight
//! more lost sessions of the same peer is dropped where it stands, and runs again when its message comes again. A message is given up only when the receiver says
//! that trying again does not help; then [`DurableConfig::on_outcome`] is told, and the next message has its turn.
//!
//! # The file
//!
//! A log that is appended to, and rewritten when most of it is dead. Names are `PATH` (the log), `PATH.lock` (held while the
//! queue is open; one process at a time), `PATH.draft` (a rewrite under way). Others may not read them (0600).
//!
//! - A crash at any moment leaves a log whose end may be torn. The next start cuts it: what stood there was promised to nobody.
//! - Damage to what was promised is found by its checks and is a named error, [`QueueError::Corrupt`]. The file stays as it is.
//!   [`DurableQueue::salvage`] then makes a fresh file of everything that can be read, and keeps the damaged one as
//!   `PATH.damaged-1`. Only damage to the very last write of a queue that was not closed looks like a crash.
//! - Do not copy a queue, or put an old copy back: it would give its numbers a second time, and the receiver would take the
//!   messages for doubles.
//! - A full disk refuses pushes ([`QueueError::DiskFull`]) and keeps what waits. A disk that fails to synchronise breaks the
//!   queue ([`QueueError::Broken`]) until it is opened again, since nobody knows what is on it.

mod committer;
mod deliver;
mod error;
pub(crate) mod fuzzing;
mod index;
mod log;
mod marks;
mod queue;
mod record;
mod recovery;
mod salvage;
mod seen;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use parlour_wire::{Code, LinkSessionId, header::Fault};

pub use deliver::Attachment;
pub use error::QueueError;
pub use marks::{Marks, MarksConfig};
pub use queue::{DurableConfig, DurableQueue, OnOutcome, Outcome, Queued, QueuedRequest, Ticket, Waiting};
pub use salvage::Salvaged;

/// Most messages of a queue that are under way at a time. A receiver keeps as many answers.
const WINDOW: usize = 64;
/// Numbers of a queue that are under way at a time are less than this apart; what a receiver remembers follows from it.
const SPAN: u64 = 1024;
/// First bytes of the id of every queue, so that a receiver can tell the origins that follow these rules from those of requests
/// that a link has sent again in another session.
const QUEUE_TAG: [u8; 4] = *b"PLQ1";

/// Whether an origin names a durable queue.
pub(crate) fn is_queue(session: &LinkSessionId) -> bool {
    session.0.starts_with(&QUEUE_TAG)
}

/// Whether a fault says that the same message may be taken later. `not_authenticated` does: a link may prove later who it is.
/// `cancelled` does: it is the asking side that gave the wait up.
pub(crate) fn again(fault: &Fault) -> bool {
    fault.code.retry() || matches!(fault.code, Code::NOT_AUTHENTICATED | Code::CANCELLED)
}
