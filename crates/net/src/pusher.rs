//! What a service holds of a session: a handle that never waits.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parlour_wire::{LinkSessionId, frame::ContentType, header::Fault};
use thiserror::Error;

use crate::{
    link::Link,
    mailbox::Mailbox,
    port::{Action, SendError},
};

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

impl From<SendError> for PushError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::Closed => Self::Closed,
            SendError::TooLarge => Self::TooLarge,
        }
    }
}

/// Sends actions to one session. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Pusher {
    mailbox: Arc<Mailbox>,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").field("session", &self.mailbox.session).finish()
    }
}

impl Pusher {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }

    /// Queues an action for the client, with CBOR content. It arrives exactly once, in order, if the session lives.
    ///
    /// # Errors
    /// [`PushError`] if it was not taken.
    pub fn push(&self, name: &'static str, content: Bytes) -> Result<(), PushError> {
        Ok(self.mailbox.port.push(Action::new(name, ContentType::CBOR, content)?)?)
    }

    /// Ends the session: the client is told why, after the pushes before it as far as it takes them.
    pub fn close(&self, fault: Fault) {
        self.mailbox.port.close(fault);
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> LinkSessionId {
        self.mailbox.session
    }

    /// The session's link: to ask the client, and whatever else the client's own handle can do.
    #[must_use]
    pub fn link(&self) -> Link {
        Link::new(Arc::clone(&self.mailbox.port))
    }
}
