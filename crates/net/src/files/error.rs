//! Why a transfer fails, and whose fault that is.

use std::{io, time::Duration};

use parlour_wire::{Code, DecodeError, code::Blame, files::PathError, header::Fault};
use thiserror::Error;

/// Why a transfer fails. What the peer has found is in [`FileError::Peer`]; everything else was found at this end.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The name of the file at the peer cannot be one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A symbolic link on the way leads out of the root.
    #[error("the path leads out of its root")]
    Escape,
    /// Something else than a file has this name.
    #[error("the path names something else than a file")]
    NotAFile,
    /// No such file, folder or root.
    #[error("there is no such file")]
    NotFound,
    /// The root is not open for this.
    #[error("the root is not open for this")]
    NoRight,
    /// A file of this name is there, and was not to be replaced.
    #[error("a file of this name is there already")]
    Exists,
    /// Another transfer of the same file is under way.
    #[error("another transfer of this file is under way")]
    Busy,
    /// The peer has as many transfers as it may.
    #[error("too many transfers are under way")]
    TooMany,
    /// All places for transfers were taken, and a peer that had fewer, or one that would move more, has got the one of this. What has
    /// arrived is kept.
    #[error("the place of this transfer was given to another peer")]
    Displaced,
    /// The file is larger than it may be.
    #[error("the file has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The file does not fit into what is left of the quota.
    #[error("the quota has {left} bytes left, {wanted} are needed")]
    Quota {
        /// What is needed, in bytes.
        wanted: u64,
        /// What is left, in bytes.
        left: u64,
    },
    /// The folder holds as many files and folders as it may.
    #[error("as many files and folders as allowed are there, {limit}")]
    Entries {
        /// What is allowed.
        limit: u64,
    },
    /// The disk is full. What was received of the file is removed.
    #[error("the disk is full")]
    DiskFull,
    /// What arrived is not what the sender has read. What was received up to `offset` is kept.
    #[error("the hash of what arrived is another than the sender's; {offset} bytes are good")]
    HashMismatch {
        /// How much is known to be good, in bytes.
        offset: u64,
    },
    /// The sender sends another number of bytes than it announced.
    #[error("the sender announced {announced} bytes and sent {sent}")]
    SizeMismatch {
        /// What was announced.
        announced: u64,
        /// What was sent, or would have been with what was refused.
        sent: u64,
    },
    /// The file was changed while it was read.
    #[error("the file was changed while it was sent")]
    SourceChanged,
    /// The peer neither sends nor takes anything.
    #[error("the peer has not moved for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The transfer was cancelled.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// The peer does not keep to the rules of a transfer.
    #[error("the peer breaks the rules of a transfer: {0}")]
    Rules(&'static str),
    /// The operating system cannot read or write the file.
    #[error("cannot {action} the file: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the operating system says.
        reason: String,
    },
    /// The connection is gone. The transfer goes on when there is another one, unless the link has ended.
    #[error("the link is lost: {}", .0.message)]
    Lost(Fault),
    /// What the peer says.
    #[error("the peer says: {0}")]
    Peer(Fault),
}

impl FileError {
    /// The code in the one table of errors.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Path(_) | Self::Escape | Self::NotAFile => Code::PATH_REFUSED,
            Self::NotFound => Code::FILE_NOT_FOUND,
            Self::NoRight => Code::FORBIDDEN,
            Self::Exists => Code::FILE_EXISTS,
            Self::Busy => Code::FILE_BUSY,
            Self::TooMany | Self::Displaced => Code::RATE_LIMITED,
            Self::TooLarge { .. } => Code::TOO_LARGE,
            Self::Quota { .. } | Self::Entries { .. } => Code::QUOTA,
            Self::DiskFull => Code::DISK_FULL,
            Self::HashMismatch { .. } => Code::HASH_MISMATCH,
            Self::SizeMismatch { .. } => Code::SIZE_MISMATCH,
            Self::SourceChanged => Code::SOURCE_CHANGED,
            Self::Stalled(_) => Code::TIMED_OUT,
            Self::Cancelled => Code::CANCELLED,
            Self::Rules(_) => Code::BAD_REQUEST,
            Self::Io { .. } => Code::FILE_UNAVAILABLE,
            Self::Lost(_) => Code::LINK_LOST,
            Self::Peer(fault) => fault.code,
        }
    }

    /// Whose fault it is: of whoever asked, of the peer, of the end that found it ([`FileError::is_from_peer`] says which that is),
    /// or of what lies between.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rules(_) | Self::Stalled(_) => Blame::Peer,
            error => error.code().traits().map_or(Blame::Peer, |traits| traits.blame),
        }
    }

    /// Whether the same transfer may succeed later without anyone changing anything.
    #[must_use]
    pub fn retry(&self) -> bool {
        self.code().retry()
    }

    /// Whether the peer has found it; else this end has.
    #[must_use]
    pub fn is_from_peer(&self) -> bool {
        matches!(self, Self::Peer(_))
    }

    /// What the peer is told. It names no path of this end.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Peer(fault) | Self::Lost(fault) => fault.clone(),
            Self::TooMany | Self::Displaced => Fault { retry_after_ms: Some(1000), ..Fault::new(self.code(), self.to_string()) },
            error => Fault::new(error.code(), error.to_string()),
        }
    }

    /// What the operating system says, by name.
    pub(super) fn io(action: &'static str, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::AlreadyExists => Self::Exists,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::DiskFull,
            Kind::IsADirectory | Kind::NotADirectory => Self::NotAFile,
            // The folder library refuses what would leave the folder with an error that no system call has given.
            Kind::PermissionDenied if error.raw_os_error().is_none() => Self::Escape,
            _ if error.raw_os_error() == Some(TOO_MANY_LINKS) => Self::Escape,
            _ => Self::Io { action, reason: error.to_string() },
        }
    }
}

/// A chain of symbolic links that has no end, or was changed while it was followed.
#[cfg(target_os = "linux")]
const TOO_MANY_LINKS: i32 = rustix::io::Errno::LOOP.raw_os_error();
#[cfg(not(target_os = "linux"))]
const TOO_MANY_LINKS: i32 = i32::MIN;

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        error.fault()
    }
}

/// A message of the peer that cannot be read.
impl From<DecodeError> for FileError {
    fn from(error: DecodeError) -> Self {
        tracing::debug!(%error, "a message of a transfer cannot be read");
        Self::Rules("a message cannot be read")
    }
}

/// What a stream or a request came to.
impl From<Fault> for FileError {
    fn from(fault: Fault) -> Self {
        if fault.code == Code::LINK_LOST { Self::Lost(fault) } else { Self::Peer(fault) }
    }
}
