//! Why a server does not start, with a hint for the person who started it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use parlour_wire::Code;
use thiserror::Error;

use crate::sqlite::OpenError;

/// Why a server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another server uses the data directory.
    #[error("another server runs on {path}")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory or a file in it cannot be written.
    #[error("cannot write to {path}: {reason}")]
    ReadOnly {
        /// The data directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// No room left.
    #[error("no space left on the device of {path}")]
    DiskFull {
        /// The data directory or the database.
        path: PathBuf,
    },
    /// The data directory cannot be used for another reason.
    #[error("cannot use {path}: {reason}")]
    Data {
        /// The data directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The database is damaged, not a database, or of a later version.
    #[error("the database is not usable: {path}: {reason}")]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate or its key is missing, unreadable or not fit.
    #[error("certificate: {path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another program listens there.
    #[error("{address} is in use")]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// What the server keeps about itself cannot be read or written.
    #[error("{0}")]
    Secrets(String),
}

impl StartError {
    /// An error of the file system in the data directory.
    pub(crate) fn data(path: &Path, error: &io::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, reason },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Data { path, reason },
        }
    }

    /// An error of listening.
    pub(crate) fn listen(address: SocketAddr, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { address },
            _ => Self::Listen { address, reason: error.to_string() },
        }
    }

    /// What the person who started the server can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop the other server, or give this one a directory of its own with --data",
            Self::ReadOnly { .. } => "choose a directory that you may write to with --data, or change its permissions",
            Self::DiskFull { .. } => "make room and start again; nothing that was stored is lost",
            Self::Data { .. } => "check the path given with --data",
            Self::Corrupt { .. } => "restore a backup, or start the program version that wrote it",
            Self::Certificate { .. } => "--cert and --key name PEM files: the chain, leaf first, and its private key",
            Self::PortInUse { .. } => "stop the program that listens there, or choose another port with --listen",
            Self::Listen { .. } => "check the address given with --listen; ports below 1024 need a privilege",
            Self::Secrets(_) => "restore a backup: without its secrets a server cannot open its accounts",
        }
    }

    /// The row of the table of errors.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::InUse { .. } => Code::PROFILE_IN_USE,
            Self::ReadOnly { .. } => Code::READ_ONLY,
            Self::DiskFull { .. } => Code::DISK_FULL,
            Self::Data { .. } | Self::Certificate { .. } | Self::Listen { .. } => Code::USAGE,
            Self::PortInUse { .. } => Code::ALREADY_EXISTS,
            Self::Corrupt { .. } | Self::Secrets(_) => Code::STORE_UNAVAILABLE,
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Corrupt { path, reason } => Self::Corrupt { path, reason },
            OpenError::Full { path } => Self::DiskFull { path },
            OpenError::ReadOnly { path, reason } => Self::ReadOnly { path, reason },
            OpenError::Unavailable { path, reason } => Self::Data { path, reason },
        }
    }
}
