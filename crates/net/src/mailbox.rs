//! Where a listener leaves what it has for a session: another connection, or the order to stop.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use parlour_wire::{Frame, LinkSessionId};

use crate::{carrier::Carrier, identity::PeerKey, port::Port};

/// A connection that wants to go on with a session, and its first frame.
pub(crate) struct Arrival {
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) frame: Frame,
}

#[derive(Default)]
struct Mail {
    closed: bool,
    arrival: Option<Box<Arrival>>,
    /// The server is stopping: finish until then.
    stop: Option<Instant>,
}

/// See the module's documentation.
pub(crate) struct Mailbox {
    pub(crate) session: LinkSessionId,
    pub(crate) token: [u8; 32],
    /// Who opened the session; nobody else comes back to it.
    pub(crate) peer_key: Option<PeerKey>,
    mail: Mutex<Mail>,
    pub(crate) port: Arc<Port>,
}

impl Mailbox {
    pub(crate) fn new(session: LinkSessionId, token: [u8; 32], peer_key: Option<PeerKey>) -> Self {
        Self { session, token, peer_key, mail: Mutex::default(), port: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing that runs under the lock can panic half-way.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a connection to the session; gives it back if the session is over.
    pub(crate) fn arrive(&self, arrival: Arrival) -> Result<(), Arrival> {
        let mut mail = self.lock();
        if mail.closed {
            return Err(arrival);
        }
        mail.arrival = Some(Box::new(arrival));
        drop(mail);
        self.port.wake();
        Ok(())
    }

    /// Whether the session is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn stop(&self, until: Instant) {
        self.lock().stop = Some(until);
        self.port.wake();
    }

    /// What has been left: a connection, and the time by which to finish.
    pub(crate) fn take(&self) -> (Option<Box<Arrival>>, Option<Instant>) {
        let mut mail = self.lock();
        (mail.arrival.take(), mail.stop)
    }

    /// The session is over. A client that comes back at the very end is sent away, and begins a fresh session.
    pub(crate) fn close(&self) {
        let mut mail = self.lock();
        mail.closed = true;
        let arrival = mail.arrival.take();
        drop(mail);
        drop(arrival);
    }
}
