//! What a message says once it is decrypted: the MIMI content model (draft-ietf-mimi-content-07, section 4) in CBOR.
//!
//! A message is the array `[salt, replaces, topic, expires, in reply to, extensions, part]`. We write salt and topic empty, because
//! ids are made by senders and bound by MLS authenticated data, and two extensions: 1 = when the sender wrote it, Unix milliseconds;
//! 2 = the accounts that it mentions. Parts are `[disposition, language, cardinality, …]`.
//!
//! | What | How |
//! |---|---|
//! | text | a single part to be rendered, CommonMark |
//! | edit | a text that `replaces` another |
//! | reaction | a single part of disposition reaction, `in reply to` its target |
//! | delete, taking a reaction back | the null part, `replaces` its target |
//! | attachment | an external part; with a thumbnail, a multi-part of that and a preview |
//! | report, profile, changes between own devices, offer of a history | single parts of content types of their own |
//!
//! What is not known here is kept as it came ([`Body::Unknown`]) and shown as such.

mod attachment;
mod codec;
mod history;
mod part;
mod profile;
mod report;

pub use self::{
    attachment::{Attachment, safe_name},
    history::{HistoryOffer, SealedKey},
    part::{MARKDOWN, REACTION},
    profile::{PROFILE, Profile},
    report::{Report, STATUS, Status},
};
use crate::id::{AccountId, MessageId};

/// A decrypted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// When the sender wrote it, Unix time in milliseconds. The sender's claim.
    pub sent_ms: u64,
    /// The message that this one answers or reacts to.
    pub in_reply_to: Option<MessageId>,
    /// The message that this one stands in place of: an edit, or with [`Body::Deleted`] a deletion. Only its author may do so.
    pub replaces: Option<MessageId>,
    /// When it is to be forgotten.
    pub expires: Option<Expiry>,
    /// Accounts that it mentions; at most [`crate::limits::MENTIONS`].
    pub mentions: Vec<AccountId>,
    /// What it says.
    pub body: Body,
}

impl Content {
    /// A message that refers to no other and does not expire.
    #[must_use]
    pub const fn new(sent_ms: u64, body: Body) -> Self {
        Self { sent_ms, in_reply_to: None, replaces: None, expires: None, mentions: Vec::new(), body }
    }
}

/// When a message is to be forgotten, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this Unix time in seconds.
    At(u32),
    /// So many seconds after its home has stored it.
    After(u32),
}

impl Expiry {
    /// The time in Unix milliseconds, for a message stored (or, before it is, sent) at `from_ms`.
    #[must_use]
    pub fn at_ms(self, from_ms: u64) -> u64 {
        match self {
            Self::At(seconds) => u64::from(seconds) * 1000,
            Self::After(seconds) => from_ms.saturating_add(u64::from(seconds) * 1000),
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Text in CommonMark. With [`Content::replaces`], an edit.
    Text(String),
    /// An emoji for the message that [`Content::in_reply_to`] names.
    Reaction(String),
    /// The message or reaction that [`Content::replaces`] names is no more.
    Deleted,
    /// A file.
    Attachment(Attachment),
    /// What became of other messages at the sender's device.
    Report(Vec<Report>),
    /// Who the sender says they are.
    Profile(Profile),
    /// Changes that own devices tell each other; opaque here. Only in the conversation of an account with itself.
    Sync(Vec<u8>),
    /// Earlier messages for an account that came in later.
    History(HistoryOffer),
    /// Something that this version does not know.
    Unknown {
        /// Its content type, or the shape of its part.
        content_type: String,
        /// Its part, as it came.
        bytes: Vec<u8>,
    },
}
