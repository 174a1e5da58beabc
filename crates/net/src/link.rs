//! The client's end of a link: a handle for the application and a stream of events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parlour_proto::link::{Answer, RequestId, Tag};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    connect::{ConnectConfig, ConnectError},
    driver::Driver,
    identity::PeerKey,
    queue::{Taker, queue},
};

/// Calls that may wait for the driver.
const CALLS: usize = 1024;

/// The handle of a link. Clones share it; when the last one is gone, the link closes.
#[derive(Clone, Debug)]
pub struct Link {
    calls: mpsc::Sender<Call>,
    /// What must not wait behind calls that find no room.
    control: mpsc::UnboundedSender<Control>,
    tags: Arc<AtomicU64>,
    done: watch::Receiver<bool>,
}

/// Why an action was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too much is under way; try again when something has been answered.
    #[error("too much is under way")]
    Full,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

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
        /// SHA-256 of the server's certificate.
        fingerprint: [u8; 32],
        /// Authorities that the system trusts vouch for the certificate, and must for the next one. Otherwise the fingerprint is
        /// what counts; always so if it was given.
        trusted_by_system: bool,
        /// The server's key, if it has one: proven in the handshake of this connection.
        peer_key: Option<PeerKey>,
        /// What the server can do.
        capabilities: Vec<String>,
    },
    /// The link does not work at the moment: a connection was lost, or a try to connect failed.
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
    /// The server asks; [`Link::answer`] is due.
    Request {
        /// The name of the request in the answer.
        id: RequestId,
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
    },
    /// The link has ended for good. Nothing follows.
    Failed(ConnectError),
}

/// The events of a link, in order.
///
/// Take them steadily: after some thousands that nobody takes, the driver stops reading from the server.
#[derive(Debug)]
pub struct Events {
    queue: Taker<LinkEvent>,
}

impl Events {
    /// The next event; `None` after the link has ended.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        std::future::poll_fn(|cx| self.queue.poll_next(cx)).await
    }
}

/// What the handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Call {
    Request(Box<RequestCall>),
    Action { name: String, content_type: ContentType, content: Bytes },
}

/// What the handle asks of the driver whether there is room for calls or not. As many as requests and clones of the handle.
#[derive(Debug)]
pub(crate) enum Control {
    Answer { id: RequestId, result: Result<Answer, Fault> },
    Cancel(Tag),
    Reconnect,
    Close,
}

#[derive(Debug)]
pub(crate) struct RequestCall {
    pub(crate) tag: Tag,
    pub(crate) name: String,
    pub(crate) content_type: ContentType,
    pub(crate) content: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) reply: oneshot::Sender<Result<Answer, Fault>>,
}

impl Link {
    /// Starts a link on the current Tokio runtime. It connects by itself, and again after every loss.
    #[must_use]
    pub fn connect(config: ConnectConfig) -> (Self, Events) {
        let (calls, receiver) = mpsc::channel(CALLS);
        let (control, control_receiver) = mpsc::unbounded_channel();
        let (filler, taker) = queue();
        let (done_sender, done) = watch::channel(false);
        tokio::spawn(Driver::new(config, (receiver, control_receiver), filler, done_sender));
        (Self { calls, control, tags: Arc::new(AtomicU64::new(1)), done }, Events { queue: taker })
    }

    /// Asks the server, and waits for the answer. A link that is down is waited for within `timeout`. Dropping the future
    /// cancels the request.
    ///
    /// # Errors
    /// The server's fault; `timed_out` after `timeout`; `link_lost` if the session ended before the answer: the request may
    /// have taken effect then.
    pub async fn request(
        &self,
        name: impl Into<String>,
        content_type: ContentType,
        content: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let call = RequestCall { tag, name: name.into(), content_type, content, timeout, reply };
        let mut guard = CancelOnDrop { control: &self.control, tag, armed: true };
        let result = tokio::time::timeout(timeout, async {
            self.calls.send(Call::Request(Box::new(call))).await.map_err(|_| closed())?;
            answer.await.unwrap_or_else(|_| Err(closed()))
        })
        .await;
        guard.armed = result.is_err();
        result.unwrap_or_else(|_| {
            Err(Fault { code: Code::TIMED_OUT, message: "no answer within the deadline".to_owned(), retry_after_ms: None })
        })
    }

    /// Sends an action. It leaves when the link is up; whether it arrives is not told.
    ///
    /// # Errors
    /// [`SendError`] if it was not taken.
    pub fn action(&self, name: impl Into<String>, content_type: ContentType, content: Bytes) -> Result<(), SendError> {
        self.calls.try_send(Call::Action { name: name.into(), content_type, content }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Answers a request of the server.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the link has ended.
    pub fn answer(&self, id: RequestId, result: Result<Answer, Fault>) -> Result<(), SendError> {
        self.control.send(Control::Answer { id, result }).map_err(|_| SendError::Closed)
    }

    /// Drops the connection at once, without a word to the server, and connects again: the session is resumed. Also cuts a wait
    /// between two tries short.
    pub fn reconnect(&self) {
        // A link that has ended has no connection to drop.
        drop(self.control.send(Control::Reconnect));
    }

    /// Ends the session and waits until the server has been told, within bounds. Requests without an answer fail.
    pub async fn close(&self) {
        drop(self.control.send(Control::Close));
        let mut done = self.done.clone();
        drop(done.wait_for(|done| *done).await);
    }
}

/// Cancels a request whose caller has gone.
struct CancelOnDrop<'a> {
    control: &'a mpsc::UnboundedSender<Control>,
    tag: Tag,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            // A driver that has gone has nothing left to cancel.
            drop(self.control.send(Control::Cancel(self.tag)));
        }
    }
}

pub(crate) fn closed() -> Fault {
    Fault { code: Code::LINK_LOST, message: "the link is closed".to_owned(), retry_after_ms: None }
}
