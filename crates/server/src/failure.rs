//! What can go wrong with a request: the client's mistakes and ours, and the one place that turns both into wire codes.

use parlour_wire::{Code, DecodeError, header};
use thiserror::Error;

use crate::store::{Refusal, StoreError};

/// The client asked for something that it cannot have. Never an ERROR in the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Rejection {
    /// The row of the table of errors.
    pub code: Code,
    /// The same for people.
    pub text: &'static str,
    /// When another try makes sense, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

impl Rejection {
    pub(crate) const fn new(code: Code, text: &'static str) -> Self {
        Self { code, text, retry_after_ms: None }
    }

    pub(crate) const fn rate_limited(retry_after_ms: u64) -> Self {
        Self { code: Code::RATE_LIMITED, text: "too many tries, wait", retry_after_ms: Some(retry_after_ms) }
    }

    pub(crate) const fn bad(text: &'static str) -> Self {
        Self::new(Code::BAD_REQUEST, text)
    }
}

/// The server could not do what it should have done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk for blobs failed.
    #[error("blobs: {0}")]
    Blobs(StoreError),
    /// Something that cannot be was.
    #[error("invariant broken: {0}")]
    Broken(&'static str),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// The client's fault.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Ours.
    #[error(transparent)]
    Failed(#[from] Fault),
}

impl Failure {
    /// The row of the table of errors.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(rejection) => rejection.code,
            Self::Failed(Fault::Blobs(StoreError::Full)) => Code::DISK_FULL,
            Self::Failed(Fault::Store(StoreError::Overloaded) | Fault::Blobs(StoreError::Overloaded)) => Code::OVERLOADED,
            Self::Failed(Fault::Blobs(StoreError::Unavailable(_))) => Code::STORE_UNAVAILABLE,
            Self::Failed(Fault::Store(StoreError::Unavailable(_) | StoreError::Full)) => Code::STORE_UNAVAILABLE,
            Self::Failed(Fault::Store(StoreError::Corrupt(_)) | Fault::Blobs(StoreError::Corrupt(_)) | Fault::Broken(_)) => {
                Code::INTERNAL
            }
        }
    }

    /// What the client is told. Of our faults it learns the code only.
    #[must_use]
    pub fn to_wire(&self) -> header::Fault {
        let (message, retry_after_ms) = match self {
            Self::Rejected(rejection) => (rejection.text, rejection.retry_after_ms),
            Self::Failed(Fault::Store(StoreError::Overloaded) | Fault::Blobs(StoreError::Overloaded)) => {
                ("the server has too much to do", None)
            }
            Self::Failed(_) if self.code().retry() => ("the server cannot store this at the moment", None),
            Self::Failed(_) => ("internal error", None),
        };
        header::Fault { code: self.code(), message: message.to_owned(), retry_after_ms }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(Fault::Store(error))
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLong(field) => Self::new(Code::TOO_LARGE, field),
            DecodeError::Invalid(field) => Self::bad(field),
            DecodeError::BadSignature(_) => Self::bad("a signature does not verify"),
            _ => Self::bad("the request cannot be decoded"),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Rejected(error.into())
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NameTaken => Self::new(Code::NAME_TAKEN, "the name is taken"),
            Refusal::AccountExists => Self::new(Code::ALREADY_EXISTS, "the account exists"),
            Refusal::InviteUnknown => Self::new(Code::INVITE_UNKNOWN, "the invitation is not known here"),
            Refusal::InviteUsedUp => Self::new(Code::INVITE_USED_UP, "the invitation is used up"),
            Refusal::InviteExpired => Self::new(Code::INVITE_EXPIRED, "the invitation has expired"),
            Refusal::NoAccount => Self::new(Code::USER_NOT_FOUND, "no such user"),
            Refusal::NoDevice => Self::new(Code::DEVICE_NOT_FOUND, "no such device"),
            Refusal::StaleList => Self::new(Code::STALE_LIST, "the device list does not follow the current one"),
            Refusal::NoConversation => Self::new(Code::CONVERSATION_NOT_FOUND, "no such conversation"),
            Refusal::ConversationExists => Self::new(Code::ALREADY_EXISTS, "the conversation exists"),
            Refusal::ConversationEnded => Self::new(Code::CONVERSATION_ENDED, "the conversation has ended"),
            Refusal::NotMember => Self::new(Code::NOT_MEMBER, "not in this conversation"),
            Refusal::AlreadyIn => Self::new(Code::ALREADY_EXISTS, "a device to be added is in the conversation"),
            Refusal::StaleEpoch => Self::new(Code::STALE_EPOCH, "the epoch is not current"),
            Refusal::Forbidden => Self::new(Code::FORBIDDEN, "a member may not do this"),
            Refusal::LastAdmin => Self::new(Code::FORBIDDEN, "a group keeps an admin"),
            Refusal::TooMany => Self::new(Code::QUOTA, "the conversation has as many members or devices as it may"),
            Refusal::NoBlob => Self::new(Code::FILE_NOT_FOUND, "no such file"),
            Refusal::OtherSize => Self::new(Code::SIZE_MISMATCH, "the blob was begun with another size"),
            Refusal::Quota => Self::new(Code::QUOTA, "the account may not keep more"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Rejected(refusal.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_faults_tell_the_client_nothing_but_a_code() {
        for (fault, code) in [
            (Fault::Store(StoreError::Full), Code::STORE_UNAVAILABLE),
            (Fault::Store(StoreError::Overloaded), Code::OVERLOADED),
            (Fault::Store(StoreError::Unavailable("path /secret".into())), Code::STORE_UNAVAILABLE),
            (Fault::Store(StoreError::Corrupt("path /secret".into())), Code::INTERNAL),
            (Fault::Blobs(StoreError::Full), Code::DISK_FULL),
            (Fault::Broken("secret"), Code::INTERNAL),
        ] {
            let wire = Failure::from(fault).to_wire();
            assert_eq!(wire.code, code);
            assert!(!wire.message.contains("secret"), "{wire:?}");
        }
    }
}
