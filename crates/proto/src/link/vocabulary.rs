//! What goes into a link machine and what comes out of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parlour_wire::{
    Frame, LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
};

use super::{Answer, Remains};

/// The application's name for a request of its own. It must not be in use twice at a time.
pub type Tag = u64;

/// The name of a stream. Its receiver chooses it and tells the sender; it should not be used twice on one link, for what is
/// under way of a stream that was stopped would be taken for another one of the same name.
pub type StreamId = u64;

/// A request of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) generation: u32,
    pub(super) number: u64,
}

impl RequestId {
    /// The number of the request in its session.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }
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
        /// Where it was sent first, if the application sends it again.
        /// A request that names one is not carried into another session, whatever the settings: it fails.
        origin: Option<Origin>,
        /// It means something in this session only: it is not carried into another one, and fails with `link_lost` when this one is over,
        /// whatever the reason.
        bound: bool,
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
    /// Expects a stream. To be given before the peer is told of it.
    Sink {
        /// The application's name for it.
        stream: StreamId,
        /// What the peer may send at first. The application tells the peer this very number.
        credit: u64,
    },
    /// Lets the sender of a stream send more. Without effect on a stream that is over. A grant before the first frame of the
    /// stream has arrived is held until then, because its sender may not have heard of it.
    Grant {
        /// The stream.
        stream: StreamId,
        /// Credit to add: the `cost` of each chunk that was taken.
        credit: u64,
    },
    /// Wants no more of a stream; what arrives of it is dropped. No event follows. Without effect on a stream that is over.
    Stop {
        /// The stream.
        stream: StreamId,
        /// Why; the peer is told.
        fault: Fault,
    },
    /// Will send a stream that the peer has asked for.
    Source {
        /// The peer's name for it.
        stream: StreamId,
        /// What the peer lets it send at first.
        credit: u64,
    },
    /// Sends a chunk. Refused beyond [`super::Link::stream_room`]; [`Event::Credit`] says then when there is more room, and so it
    /// does after a chunk that left none.
    Data {
        /// The stream.
        stream: StreamId,
        /// Bytes that the application says about the chunk; at most [`parlour_wire::limits::STREAM_MARK`].
        mark: Bytes,
        /// At most [`parlour_wire::limits::STREAM_CHUNK`] bytes.
        content: Bytes,
    },
    /// Completes a stream, after the chunks before it.
    Finish {
        /// The stream.
        stream: StreamId,
        /// Last words; at most [`parlour_wire::limits::STREAM_FINISH`] bytes.
        content: Bytes,
    },
    /// Gives a stream up; chunks that wait are dropped. No event follows. Without effect on a stream that is over.
    Abort {
        /// The stream.
        stream: StreamId,
        /// Why; the peer is told.
        fault: Fault,
    },
    /// Ends the session, after what is queued has left. Streams end at once.
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
        /// Where it was sent first, if that was not in this session: it may have taken effect there.
        origin: Option<Origin>,
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
    /// What a lost session leaves behind ([`super::LinkConfig::keep_remains`]).
    Remains(Box<Remains>),
    /// A chunk of a stream.
    Data {
        /// The stream.
        stream: StreamId,
        /// What the sender says about the chunk.
        mark: Bytes,
        /// The content.
        content: Bytes,
        /// The credit that it took, to be granted again when it has been taken.
        cost: u64,
    },
    /// A stream of the peer is over.
    StreamEnded {
        /// The stream.
        stream: StreamId,
        /// The sender's last words if the stream is complete.
        result: Result<Bytes, Fault>,
    },
    /// A stream takes data that it would not have taken before.
    Credit {
        /// The stream.
        stream: StreamId,
    },
    /// The peer takes no more of a stream. What waited is dropped.
    StreamStopped {
        /// The stream.
        stream: StreamId,
        /// Why.
        fault: Fault,
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
