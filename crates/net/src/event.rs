//! What a client's link tells its application.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parlour_proto::link::{Remains, RequestId};
use parlour_wire::{
    LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
};

use crate::{
    connect::ConnectError,
    identity::PeerKey,
    queue::{Taker, Weigh},
};

/// What a link tells its application.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// The link works.
    Up {
        /// The session.
        session: LinkSessionId,
        /// Whether the session was there before: then nothing was lost. If not, the peer knows nothing of this link.
        resumed: bool,
        /// What a device signs to authenticate in this session.
        challenge: [u8; 32],
        /// SHA-256 of the server's certificate; over iroh, of its bare public key (RFC 7250).
        fingerprint: [u8; 32],
        /// Authorities that the system trusts vouch for the certificate, and must for the next one. Otherwise the fingerprint is
        /// what counts; always so if it was given.
        trusted_by_system: bool,
        /// The server's key, if it has one: proven in the handshake of this connection.
        peer_key: Option<PeerKey>,
        /// What the server can do.
        capabilities: Vec<String>,
    },
    /// The link does not work at the moment: a connection was lost, or a try to connect failed. Of a row of these that nobody has
    /// taken, the first and the last are kept.
    Down {
        /// Why.
        fault: Fault,
        /// When the next try begins.
        retry_in: Duration,
    },
    /// The server sent an action.
    Action {
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
    },
    /// The server asks; [`crate::Link::answer`] is due.
    Request {
        /// The name of the request in the answer.
        id: RequestId,
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
        /// When the server no longer waits.
        deadline: Option<Instant>,
        /// Where it was sent first, if that was not in this session: it may have taken effect there.
        origin: Option<Origin>,
    },
    /// The server no longer waits for this answer.
    Cancelled {
        /// Which one.
        id: RequestId,
    },
    /// The session has been lost, and this is what the application must remember so that requests of it that come again take
    /// effect once. Only if the link is configured so ([`crate::LinkConfig::keep_remains`]).
    Remains(Box<Remains>),
    /// The link has ended for good. Nothing follows.
    Failed(ConnectError),
}

impl Weigh for LinkEvent {
    fn weight(&self) -> usize {
        match self {
            Self::Action { content, .. } | Self::Request { content, .. } => content.len(),
            Self::Up { .. } | Self::Down { .. } | Self::Cancelled { .. } | Self::Remains(_) | Self::Failed(_) => 0,
        }
    }

    fn is_news(&self) -> bool {
        matches!(self, Self::Up { .. } | Self::Down { .. } | Self::Remains(_) | Self::Failed(_))
    }
}

/// The events of a link, in order.
///
/// Take them steadily: after some thousands that nobody takes, or some megabytes, the driver stops reading from the server.
#[derive(Debug)]
pub struct Events {
    pub(crate) queue: Taker<LinkEvent>,
}

impl Events {
    /// The next event; `None` after the link has ended.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        std::future::poll_fn(|cx| self.queue.poll_next(cx)).await
    }
}
