//! What goes into a link machine and what comes out of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parlour_wire::{Frame, LinkSessionId, frame::ContentType, header::Fault};

use super::Answer;

/// The application's name for a request of its own. It must not be in use twice at a time.
pub type Tag = u64;

/// A request of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) generation: u32,
    pub(super) number: u64,
}

/// What happens to a link.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection to the peer is there.
    Connected,
    /// A frame arrived.
    Frame(Frame),
    /// The connection is gone.
    Lost,
    /// The deadline has passed.
    Tick,
    /// The application wants something.
    Command(Command),
}

/// What an application can want.
#[derive(Clone, Debug)]
pub enum Command {
    /// A named message without an answer.
    Action {
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
    },
    /// A named message that is always answered, by [`Event::Answer`] with the same tag.
    Request {
        /// The application's name for it.
        tag: Tag,
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
        /// After this time the answer is `timed_out`.
        timeout: Option<Duration>,
    },
    /// Answers a request of the peer. Without effect on a request that is no longer open.
    Answer {
        /// The request.
        id: RequestId,
        /// The answer.
        result: Result<Answer, Fault>,
    },
    /// Tells the peer how far its request has come.
    Progress {
        /// The request.
        id: RequestId,
        /// Done so far, in units of the handler.
        done: u64,
        /// All there is to do, if known.
        total: Option<u64>,
    },
    /// The application has lost interest in a request of its own; it is answered `cancelled` if it was open.
    Cancel {
        /// The request.
        tag: Tag,
    },
    /// Ends the session, after what is queued has left.
    Close(Fault),
}

/// What a driver must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write a frame to the connection.
    Send(Frame),
    /// Tell the application.
    Event(Event),
    /// Close the connection, once what was sent has left. The machine expects nothing more of it.
    Disconnect(Fault),
}

/// What an application is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The link works.
    Up(Up),
    /// The connection is gone, the session is not.
    Down {
        /// Why.
        fault: Fault,
        /// When the peer forgets the session.
        until: Instant,
    },
    /// The session is over. A client's machine begins another one at its next connection, unless it was told to close.
    Ended(Fault),
    /// The peer sent an action.
    Action {
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
    },
    /// The peer asks; [`Command::Answer`] is due.
    Request {
        /// The name of the request in the answer.
        id: RequestId,
        /// Name of the handler.
        name: String,
        /// How to read the content.
        content_type: ContentType,
        /// The content.
        content: Bytes,
        /// When the peer no longer waits.
        deadline: Option<Instant>,
    },
    /// A request of ours has its answer.
    Answer {
        /// Which one.
        tag: Tag,
        /// The answer.
        result: Result<Answer, Fault>,
    },
    /// How far a request of ours has come.
    Progress {
        /// Which one.
        tag: Tag,
        /// Done so far, in units of the handler.
        done: u64,
        /// All there is to do, if known.
        total: Option<u64>,
    },
    /// The peer no longer waits for this answer.
    Cancelled {
        /// Which one.
        id: RequestId,
    },
}

/// What is known when a link comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// The session.
    pub session: LinkSessionId,
    /// Whether the session was there before: then nothing was lost.
    pub resumed: bool,
    /// What a device signs to authenticate in this session.
    pub challenge: [u8; 32],
    /// What the peer can do.
    pub capabilities: Vec<String>,
    /// The peer's program, as it calls itself. Empty at a client.
    pub agent: String,
    /// How long the session survives without a connection.
    pub grace: Duration,
}

/// Why a machine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Hello or welcome is late.
    Handshake,
    /// An acknowledgement has waited for company long enough.
    Acknowledge,
    /// The peer is silent.
    KeepAlive,
    /// A request is unanswered at its deadline.
    Request,
    /// Nobody came back to the session.
    Grace,
    /// A close cannot leave.
    Linger,
}
