//! The data directory: who may use it, what lies in it.
//!
//! ```text
//! parlour.db, -wal, -shm   the store
//! blobs/                   encrypted files
//! certificate.pem, key.pem made at the first start, unless the configuration names others
//! server.json              how the server can be reached, for commands beside it
//! lock                     held while a server runs
//! ```

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::StartError;

/// What a running server tells commands beside it. Stays after the server has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where clients connect, with the certificate's fingerprint.
    pub url: String,
    /// Where health and metrics are served.
    pub admin: String,
    /// The port that was listened on, for the next start.
    pub port: u16,
}

/// A data directory that this process has for itself.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The lock goes with the file.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it.
    pub(crate) fn claim(path: &Path) -> Result<Self, StartError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| StartError::data(path, &error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| StartError::data(path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StartError::data(path, &error)),
        }
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that others may not read, whole or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StartError> {
        write_private(&self.file(name), bytes).map_err(|error| StartError::data(&self.path, &error))
    }

    /// Records how the server can be reached.
    pub(crate) fn record(&self, record: &Record) -> Result<(), StartError> {
        let text = serde_json::to_vec_pretty(record).expect("strings and a number are JSON");
        self.write(RECORD, &text)
    }

    /// What the last server recorded, if it can be read.
    pub(crate) fn recorded(&self) -> Option<Record> {
        recorded(&self.path).ok()
    }
}

const RECORD: &str = "server.json";

/// What the server of a data directory recorded.
pub(crate) fn recorded(path: &Path) -> io::Result<Record> {
    let text = std::fs::read(path.join(RECORD))?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
