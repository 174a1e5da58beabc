//! The one error of the SDK: a code from the wire's table, what happened and what was kept, and what to do about it.

use parlour_wire::{Code, DecodeError};

/// Why something could not be done. `code` is stable and decides the exit status; `message` says what happened and, where it
/// matters, what was kept; `hint` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// A row of the table of codes.
    pub code: Code,
    /// What happened, for people; one line without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Code::INTERNAL, message.to_string())
    }

    /// Whether the network is the reason, so that the same request should be made again later.
    pub(crate) fn is_transient(&self) -> bool {
        const TRANSIENT: &[Code] = &[
            Code::UNREACHABLE,
            Code::TIMED_OUT,
            Code::LINK_LOST,
            Code::STOPPING,
            Code::OVERLOADED,
            Code::STORE_UNAVAILABLE,
            Code::CANCELLED,
            Code::RATE_LIMITED,
            Code::NOT_AUTHENTICATED,
        ];
        TRANSIENT.contains(&self.code)
    }

    /// Whether the server, which refused a part of a blob, is the reason, so that it may take the same part later.
    pub(crate) fn passes(&self) -> bool {
        self.is_transient() || matches!(self.code, Code::DISK_FULL | Code::FILE_BUSY)
    }

    /// Whether this side's disk or program is the reason, so that nothing of a step may stay.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.code, Code::DISK_FULL | Code::READ_ONLY | Code::INTERNAL)
    }

    /// Maps an I/O error on a path of the profile.
    pub(crate) fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let code = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DISK_FULL,
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => Code::READ_ONLY,
            ErrorKind::NotFound => Code::PROFILE_NOT_FOUND,
            _ => Code::INTERNAL,
        };
        Self::new(code, format!("cannot {what} {}: {error}", path.display()))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::new(Code::DISK_FULL, "the disk is full; nothing of this step was kept")
                .hint("make room and try again; earlier messages are safe"),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::new(Code::READ_ONLY, "the profile's database cannot be written")
                    .hint("check the permissions of the profile's folder")
            }
            Some(ErrorCode::NotADatabase) => Self::new(
                Code::PROFILE_DAMAGED,
                "the profile's database does not open with its key: one of the two is damaged, or not of this profile",
            )
            .hint("put both back from one copy of the profile's folder, or log in anew with another --home"),
            Some(ErrorCode::DatabaseCorrupt) => {
                Self::new(Code::PROFILE_DAMAGED, format!("the profile's database is damaged: {error}"))
                    .hint("put a copy of the profile's folder back, or log in anew with another --home")
            }
            Some(ErrorCode::SystemIoFailure) => Self::new(Code::DISK_FULL, format!("the disk failed: {error}")),
            _ => Self::new(Code::INTERNAL, format!("the profile's database failed: {error}")),
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::new(Code::SERVER_MISBEHAVED, format!("the server sent something that cannot be right: {error}"))
    }
}
