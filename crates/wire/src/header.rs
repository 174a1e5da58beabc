//! The CBOR headers of the frame kinds. Maps with integer keys; fields that a version does not know are skipped.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::{
    code::Code,
    codec::{DecodeError, bounded},
    id::LinkSessionId,
    limits,
};

/// Header of [`crate::Kind::HELLO`]: a client that begins a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// What the client can do.
    #[n(0)]
    pub capabilities: Vec<String>,
    /// Program and version, for the server's log.
    #[n(1)]
    pub agent: String,
}

/// Header of [`crate::Kind::RESUME`]: a client that comes back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Resume {
    /// As in [`Hello`]; used when the session is gone and a fresh one begins.
    #[n(0)]
    pub capabilities: Vec<String>,
    /// As in [`Hello`].
    #[n(1)]
    pub agent: String,
    /// The session.
    #[n(2)]
    pub session: LinkSessionId,
    /// The secret from the welcome that began it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub token: [u8; 32],
    /// Last sequence number that the client has received.
    #[n(4)]
    pub received: u64,
}

/// Header of [`crate::Kind::WELCOME`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// What the server can do.
    #[n(0)]
    pub capabilities: Vec<String>,
    /// The session that is in force now.
    #[n(1)]
    pub session: LinkSessionId,
    /// The secret to come back with (256 random bits). Empty bytes of zero in the welcome that answers a resume.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub token: [u8; 32],
    /// Whether the session of a resume goes on. If not, this is a fresh one and everything open is lost.
    #[n(3)]
    pub resumed: bool,
    /// Last sequence number that the server has received in this session.
    #[n(4)]
    pub received: u64,
    /// How long the session survives without a connection, in milliseconds.
    #[n(5)]
    pub grace_ms: u64,
    /// 32 random bytes that a device signs to authenticate (see [`crate::api::DeviceAuth`]).
    #[cbor(n(6), with = "minicbor::bytes")]
    pub challenge: [u8; 32],
}

/// Header of [`crate::Kind::ACTION`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Action {
    /// Name of the handler.
    #[n(0)]
    pub name: String,
}

/// Header of [`crate::Kind::REQUEST`]. The frame's `id` is the request number, chosen by the asker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// Name of the handler.
    #[n(0)]
    pub name: String,
    /// How long the asker waits, in milliseconds; 0 for no deadline.
    #[n(1)]
    pub deadline_ms: u64,
    /// Where the request was sent first, if that was not here: two requests of one origin are the same one.
    #[n(2)]
    pub origin: Option<Origin>,
}

/// The name of a request that outlives its session, so that its effect is had once however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Origin {
    /// The session in which the request was sent first.
    #[n(0)]
    pub session: LinkSessionId,
    /// Its number there.
    #[n(1)]
    pub number: u64,
}

/// Header of [`crate::Kind::STREAM_CREDIT`]. The frame's `id` is the stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Credit {
    /// Credit to add, in bytes (see [`limits::STREAM_CHUNK_COST`]).
    #[n(0)]
    pub credit: u64,
    /// The receiver wants no more, and why. The stream is over then.
    #[n(1)]
    pub stop: Option<Fault>,
}

/// Header of [`crate::Kind::ERROR`] and of [`crate::Kind::CLOSE`], and of a [`crate::Kind::STREAM_END`] that gives up. The header of
/// an end that completes its stream is empty.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fault {
    /// What went wrong.
    #[n(0)]
    pub code: Code,
    /// The same for people.
    #[n(1)]
    pub message: String,
    /// When another try makes sense, in milliseconds from now.
    #[n(2)]
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// A fault with a text for people, and no word about when another try makes sense.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { self.code.fmt(f) } else { write!(f, "{} ({})", self.message, self.code) }
    }
}

impl std::error::Error for Fault {}

/// Header of [`crate::Kind::PROGRESS`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Progress {
    /// Done so far, in units that the handler defines.
    #[n(0)]
    pub done: u64,
    /// All there is to do, if known.
    #[n(1)]
    pub total: Option<u64>,
}

fn checked_offer(capabilities: &[String], agent: &str) -> Result<(), DecodeError> {
    bounded("capabilities", capabilities.len(), limits::CAPABILITIES)?;
    capabilities.iter().try_for_each(|c| bounded("capability", c.len(), limits::LABEL))?;
    bounded("agent", agent.len(), limits::LABEL)
}

impl Hello {
    /// Checks the bounds of a decoded hello.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] naming the field.
    pub fn checked(self) -> Result<Self, DecodeError> {
        checked_offer(&self.capabilities, &self.agent)?;
        Ok(self)
    }
}

impl Resume {
    /// Checks the bounds of a decoded resume.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] naming the field.
    pub fn checked(self) -> Result<Self, DecodeError> {
        checked_offer(&self.capabilities, &self.agent)?;
        Ok(self)
    }
}
