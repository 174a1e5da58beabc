//! What can go wrong in a link machine: refusals, which change nothing, and violations by the peer, which end the session.

use parlour_wire::{Code, CompressError, DecodeError, Kind, header::Fault};
use thiserror::Error;

use super::StreamId;

/// Why [`super::Link::handle`] did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// A command that cannot be carried out; the machine is as before.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer broke the protocol; it is told so and the session ends.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The peer takes answers so slowly that keeping them for it would take too much memory; the session ends.
    #[error("the peer does not take its answers")]
    Overrun,
}

/// A command that cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Too much waits for the peer already: frames for its acknowledgement, or chunks of a stream for its credit.
    #[error("too much waits for the peer")]
    Full,
    /// As many requests as allowed wait for an answer.
    #[error("too many requests wait for an answer")]
    TooManyRequests,
    /// The frame would be larger than the wire allows.
    #[error("the content is larger than a frame may be")]
    TooLarge,
    /// The name is longer than the wire allows.
    #[error("the name is longer than allowed")]
    NameTooLong,
    /// As many streams as allowed are open in this direction.
    #[error("too many streams are open")]
    TooManyStreams,
    /// A stream of that name is open.
    #[error("a stream of that name is open")]
    StreamInUse,
    /// No stream of that name is open. If there was one, an event has said how it ended.
    #[error("no stream of that name is open")]
    NoStream,
    /// A stream lives on a connection, and there is none.
    #[error("there is no connection")]
    Disconnected,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

impl Refusal {
    /// The wire code.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Full | Self::TooManyRequests | Self::TooManyStreams => Code::OVERLOADED,
            Self::TooLarge => Code::TOO_LARGE,
            Self::NameTooLong | Self::StreamInUse => Code::BAD_REQUEST,
            Self::NoStream => Code::CANCELLED,
            Self::Disconnected | Self::Closed => Code::LINK_LOST,
        }
    }
}

/// A rule of the link that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A header that cannot be read.
    #[error("{0}")]
    Header(#[from] DecodeError),
    /// A frame that is not allowed in this state.
    #[error("frame of kind {} out of state", .0.0)]
    OutOfState(Kind),
    /// A frame that must be numbered and is not, or the reverse.
    #[error("frame of kind {} with a wrong sequence number", .0.0)]
    Numbering(Kind),
    /// Frames are missing.
    #[error("frame {got} where {expected} is next")]
    Gap {
        /// The next number of this session.
        expected: u64,
        /// The number of the frame.
        got: u64,
    },
    /// An acknowledgement of something that was never sent.
    #[error("acknowledges frame {0}, which was never sent")]
    AckBeyond(u64),
    /// A resume that wants frames again which it had acknowledged.
    #[error("wants frames after {0} again, which it had acknowledged")]
    AckedBefore(u64),
    /// A welcome that says resumed where nothing was to be resumed, or of another session.
    #[error("welcome for a session that was not asked for")]
    WrongSession,
    /// A request number that is in use.
    #[error("request number {0} is in use")]
    DuplicateRequest(u64),
    /// More requests at a time than allowed, or more bytes in them.
    #[error("too many requests at a time")]
    TooManyRequests,
    /// A chunk that the stream's credit does not cover.
    #[error("more than the credit of stream {0}")]
    CreditExceeded(StreamId),
    /// Content that is compressed in a way that was not offered, or in a kind of frame whose content is not.
    #[error("frame of kind {} compressed in a way that was not offered", .0.0)]
    NotOffered(Kind),
    /// Content that cannot be decompressed within bounds.
    #[error("frame of kind {}: {}", .0.0, .1)]
    Compressed(Kind, CompressError),
}

impl Violation {
    /// What the peer is told.
    #[must_use]
    pub fn fault(self) -> Fault {
        let code = match self {
            Self::TooManyRequests => Code::OVERLOADED,
            Self::Header(DecodeError::TooLong(_)) => Code::TOO_LARGE,
            _ if self.is_bomb() => Code::TOO_LARGE,
            _ => Code::BAD_FRAME,
        };
        Fault { code, message: self.to_string(), retry_after_ms: None }
    }
}
