//! What can go wrong in a conversation, as far as the caller acts on it. Nothing here holds a secret or a peer's bytes.

use parlour_wire::{
    Code,
    id::{AccountId, DeviceId},
};
use thiserror::Error;

use crate::storage::RowsError;

/// Why a step failed. A step that fails changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum E2eeError {
    /// This device has no state of the conversation: it waits for a welcome, or joins by external commit.
    #[error("no such conversation on this device")]
    NoConversation,
    /// The commit that makes the conversation has no receipt yet: nothing can be sent.
    #[error("the conversation is not established yet")]
    AwaitingReceipt,
    /// A commit of this device is pending already: bring in its receipt, or abandon it.
    #[error("a commit is pending")]
    CommitPending,
    /// This device has been removed from the conversation. It can come back by external commit.
    #[error("this device has been removed from the conversation")]
    Removed,
    /// The pinned device list of the account does not agree with what is to be done: fetch the current list and try again.
    /// If the current list does not agree either, the other side breaks the rules.
    #[error("a device that is not in the pinned list of its account")]
    UnknownDevice {
        /// Whose list.
        account: AccountId,
    },
    /// A revoked device is in the conversation or would come in. Remove it before anything is sent.
    #[error("a revoked device")]
    RevokedDevice {
        /// Whose device.
        account: AccountId,
        /// Which one.
        device: DeviceId,
    },
    /// The account is not a member of the conversation.
    #[error("an account that is not a member")]
    NotMember {
        /// Which account.
        account: AccountId,
    },
    /// Only an admin of the group may do that.
    #[error("not an admin of the group")]
    NotAdmin,
    /// A group keeps an admin as long as it has members.
    #[error("the last admin of a group cannot cease to be one except by leaving")]
    LastAdmin,
    /// The conversation has no room for so many devices, in its suite or at all.
    #[error("the conversation has no room for so many devices")]
    GroupFull,
    /// The entry belongs to an epoch that this device has not reached: entries before it are missing.
    #[error("the entry is of epoch {entry}, this device is at {current}")]
    WrongEpoch {
        /// Where this device is.
        current: u64,
        /// Where the entry is.
        entry: u64,
    },
    /// The receipt is missing or is not of the conversation's server for this commit.
    #[error("no valid receipt for the commit")]
    BadReceipt,
    /// The server has signed two commits for one epoch: it shows different people different conversations. Stop, and tell the user.
    #[error("the server has signed two commits for one epoch")]
    Forked,
    /// The message has been decrypted before; its key is gone.
    #[error("the message has been read before")]
    AlreadyRead,
    /// The commit or welcome has been applied before.
    #[error("applied before")]
    Duplicate,
    /// The message cannot be decrypted: garbled, forged, or older than the keys kept.
    #[error("the message cannot be decrypted")]
    Undecryptable,
    /// The message was encrypted before this device joined, and stored after: it is not for this device. Nothing to do.
    #[error("the message is from before this device joined")]
    BeforeJoin,
    /// This device cannot follow the log any more: it must join again by external commit.
    #[error("this device has lost its place in the conversation")]
    Diverged,
    /// The log has a commit of this device that this device does not know: its state is older than itself. It must join again by
    /// external commit, before it encrypts anything.
    #[error("this device does not know a commit of its own")]
    Forgotten,
    /// The bytes are of another conversation, or of a conversation other than it claims to be.
    #[error("of another conversation")]
    WrongConversation,
    /// The welcome is for a key package whose secret this device does not have.
    #[error("no key package for this welcome")]
    NoKeyPackage,
    /// The certificate of a device is forged or is not for its key.
    #[error("a certificate that does not hold")]
    BadCertificate,
    /// The message or handshake is larger than the server takes.
    #[error("too large")]
    TooLarge,
    /// Something that its author may not do.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// Bytes that are not what they should be.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The caller's store failed.
    #[error("store: {0}")]
    Storage(#[from] RowsError),
    /// A bug, or a store that has been tampered with.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl E2eeError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoConversation => Code::CONVERSATION_NOT_FOUND,
            Self::AwaitingReceipt | Self::CommitPending => Code::STALE_EPOCH,
            Self::Removed => Code::NOT_MEMBER,
            Self::UnknownDevice { .. } => Code::STALE_LIST,
            Self::RevokedDevice { .. } => Code::DEVICE_REVOKED,
            Self::NotMember { .. } => Code::NOT_MEMBER,
            Self::WrongEpoch { .. } | Self::Diverged | Self::Forgotten => Code::STALE_EPOCH,
            Self::BadReceipt | Self::Forked => Code::SERVER_MISBEHAVED,
            Self::AlreadyRead | Self::Duplicate => Code::ALREADY_EXISTS,
            Self::BeforeJoin => Code::NOT_MEMBER,
            Self::Undecryptable | Self::WrongConversation | Self::NoKeyPackage | Self::Malformed(_) => Code::BAD_FRAME,
            Self::BadCertificate => Code::KEY_CHANGED,
            Self::TooLarge => Code::TOO_LARGE,
            Self::GroupFull => Code::QUOTA,
            Self::NotAdmin | Self::LastAdmin | Self::Forbidden(_) => Code::FORBIDDEN,
            Self::Storage(_) => Code::STORE_UNAVAILABLE,
            Self::Internal(_) => Code::INTERNAL,
        }
    }
}
