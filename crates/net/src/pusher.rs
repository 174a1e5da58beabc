//! What the rest of a server holds of a session: a place to put pushes, and the order to close.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parlour_proto::link::action_header;
use parlour_wire::{Frame, LinkSessionId, header::Fault, limits};
use thiserror::Error;

use crate::{carrier::Carrier, identity::PeerKey};

/// Pushes that may wait for their session, beside those that the link itself keeps for a resume.
const PUSHES: usize = 1024;
/// Bytes of such pushes.
const PUSH_BYTES: usize = limits::FRAME;

/// Why a push was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The client takes pushes too slowly, or is away. Every push is refused until the queue is empty again;
    /// [`crate::SessionService::drained`] is called then.
    #[error("the session's queue is full")]
    Full,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// Larger than a frame may be.
    #[error("the push is larger than a frame may be")]
    TooLarge,
}

/// Sends actions to one session. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Pusher {
    pub(crate) mailbox: Arc<Mailbox>,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").field("session", &self.mailbox.session).finish()
    }
}

impl Pusher {
    /// Queues an action for the client, with CBOR content. It arrives exactly once, in order, if the session lives.
    ///
    /// # Errors
    /// [`PushError`] if it was not taken.
    pub fn push(&self, name: &'static str, content: Bytes) -> Result<(), PushError> {
        let header = header_of(name);
        if header.len() + content.len() + parlour_wire::frame::PROTO_HEADER > limits::FRAME {
            return Err(PushError::TooLarge);
        }
        let mut mail = self.mailbox.lock();
        if mail.closed {
            return Err(PushError::Closed);
        }
        if mail.full || mail.pushes.len() >= PUSHES || mail.push_bytes + content.len() > PUSH_BYTES {
            mail.full = true;
            return Err(PushError::Full);
        }
        mail.push_bytes += content.len();
        mail.pushes.push_back(Push { header, content });
        // Whoever put the first one in has woken the session; it takes all.
        let first = mail.pushes.len() == 1;
        drop(mail);
        if first {
            self.mailbox.waker.wake();
        }
        Ok(())
    }

    /// Ends the session: the client is told why, after the pushes before it as far as it takes them.
    pub fn close(&self, fault: Fault) {
        self.mailbox.lock().close.get_or_insert(fault);
        self.mailbox.waker.wake();
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> LinkSessionId {
        self.mailbox.session
    }
}

/// A push with its header made: one header serves a whole fan-out.
pub(crate) struct Push {
    pub(crate) header: Bytes,
    pub(crate) content: Bytes,
}

/// A connection that wants to go on with a session, and its first frame.
pub(crate) struct Arrival {
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) frame: Frame,
}

#[derive(Default)]
pub(crate) struct Mail {
    pub(crate) pushes: VecDeque<Push>,
    pub(crate) push_bytes: usize,
    /// A push was refused, and the queue has not been empty since.
    pub(crate) full: bool,
    pub(crate) closed: bool,
    pub(crate) close: Option<Fault>,
    pub(crate) arrival: Option<Arrival>,
    /// The server is stopping: finish until then.
    pub(crate) stop: Option<Instant>,
}

/// Where others leave what they have for a session.
pub(crate) struct Mailbox {
    pub(crate) session: LinkSessionId,
    pub(crate) token: [u8; 32],
    /// Who opened the session; nobody else comes back to it.
    pub(crate) peer_key: Option<PeerKey>,
    mail: Mutex<Mail>,
    pub(crate) waker: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn new(session: LinkSessionId, token: [u8; 32], peer_key: Option<PeerKey>) -> Self {
        Self { session, token, peer_key, mail: Mutex::default(), waker: AtomicWaker::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing that runs under the lock can panic half-way.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a connection to the session; gives it back if the session is over.
    pub(crate) fn arrive(&self, arrival: Arrival) -> Result<(), Arrival> {
        let mut mail = self.lock();
        if mail.closed {
            return Err(arrival);
        }
        mail.arrival = Some(arrival);
        drop(mail);
        self.waker.wake();
        Ok(())
    }

    pub(crate) fn stop(&self, until: Instant) {
        self.lock().stop = Some(until);
        self.waker.wake();
    }
}

/// The header of an action, made once for a run of pushes of the same name.
fn header_of(name: &'static str) -> Bytes {
    thread_local! {
        static LAST: RefCell<Option<(&'static str, Bytes)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((known, header)) if *known == name => header.clone(),
        _ => {
            let header = action_header(name);
            *last = Some((name, header.clone()));
            header
        }
    })
}
