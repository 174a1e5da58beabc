//! What can go wrong with a durable queue, and with the marks of a receiver.

use std::{
    io,
    path::{Path, PathBuf},
};

use parlour_wire::{Code, header::Fault};
use thiserror::Error;

use super::recovery::Damage;

/// Why a queue did not do what it was asked. Except for [`QueueError::Broken`] it is as before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueueError {
    /// Another process, or another part of this one, has the file open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is something else, or its beginning is damaged. It is left as it is.
    #[error("{} is not a file of this kind, or its beginning is damaged", .0.display())]
    NotAQueue(PathBuf),
    /// Something in the middle of the file is damaged: it was on disk once, and no longer reads as what was written. The file is
    /// left as it is; [`super::DurableQueue::salvage`] takes out what can still be read.
    #[error("{} is damaged at byte {offset}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
    },
    /// As many messages wait as allowed, or as many bytes. Try again when some have been delivered.
    #[error("the queue is full: {records} messages of {bytes} bytes wait")]
    Full {
        /// Messages that wait.
        records: usize,
        /// What they take in the file.
        bytes: u64,
    },
    /// Name and content are larger than a frame of the link may be.
    #[error("the message is larger than a frame may be")]
    TooLarge,
    /// The name is longer than the wire allows.
    #[error("the name is longer than allowed")]
    NameTooLong,
    /// The arguments cannot be encoded.
    #[error("the arguments cannot be encoded: {0}")]
    Unencodable(String),
    /// The disk has no room for the message, or this user may use no more of it.
    #[error("the disk is full")]
    DiskFull,
    /// The operating system refuses something else.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The disk failed while something was being written, and what it holds is not known. Nothing more is taken until the queue
    /// is opened again.
    #[error("the disk failed; open the queue again")]
    Broken,
    /// The queue has been closed.
    #[error("the queue is closed")]
    Closed,
}

impl QueueError {
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::DiskFull,
            _ => Self::Io { path: path.to_owned(), reason: error.to_string() },
        }
    }

    pub(crate) fn damage(path: &Path, damage: Damage) -> Self {
        match damage {
            Damage::NotALog => Self::NotAQueue(path.to_owned()),
            Damage::At(offset) => Self::Corrupt { path: path.to_owned(), offset },
            Damage::Io(error) => Self::io(path, &error),
        }
    }

    /// The wire code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::InUse(_) => Code::PROFILE_IN_USE,
            Self::Full { .. } => Code::OVERLOADED,
            Self::TooLarge => Code::TOO_LARGE,
            Self::NameTooLong | Self::Unencodable(_) => Code::BAD_REQUEST,
            Self::DiskFull => Code::DISK_FULL,
            Self::NotAQueue(_) | Self::Corrupt { .. } | Self::Io { .. } | Self::Broken => Code::STORE_UNAVAILABLE,
            Self::Closed => Code::LINK_LOST,
        }
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self { code: error.code(), message: error.to_string(), retry_after_ms: None }
    }
}
