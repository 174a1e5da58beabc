//! Folders that peers may reach into, and what they may do there.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use cap_std::{ambient_authority, fs::Dir};
use parlour_wire::files::{PathError, RemotePath};
use thiserror::Error;

use super::{
    error::FileError,
    quota::{Quota, Reservation, count},
};
use crate::{pump::now, toolkit::Access};

/// What peers may do in a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Pull files.
    Read,
    /// Push files.
    Write,
    /// Both.
    ReadWrite,
}

impl Rights {
    fn read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    fn write(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// A folder that peers may reach into, by a name of its own: `inbox/report.pdf` is the file `report.pdf` in the root `inbox`.
///
/// Nobody may, until [`Root::allow`] says who.
#[derive(Clone, Debug)]
pub struct Root {
    name: String,
    path: PathBuf,
    rights: Rights,
    access: Access,
    max_file: u64,
    quota: Option<u64>,
}

impl Root {
    /// The folder at `path` under a name. It must exist when the files are opened.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, rights: Rights) -> Self {
        let (name, path) = (name.into(), path.into());
        Self { name, path, rights, access: Access::Deny, max_file: u64::MAX, quota: None }
    }

    /// Who may reach into it.
    #[must_use]
    pub fn allow(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The largest file that peers may push, in bytes.
    #[must_use]
    pub fn max_file(mut self, bytes: u64) -> Self {
        self.max_file = bytes;
        self
    }

    /// What all files below it together may come to by pushes, in bytes; part files count, and so does what the application puts
    /// there itself. A file that takes the place of another must fit beside it.
    #[must_use]
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }

    /// Opens the folder, removes part files that are older than `stale`, and counts the others.
    pub(super) fn open(self, stale: SystemTime) -> Result<(String, Arc<OpenRoot>), FilesError> {
        let Self { name, path, rights, access, max_file, quota } = self;
        RemotePath::check_part(&name).map_err(|error| FilesError::Name { name: name.clone(), error })?;
        let failed = |source| FilesError::Folder { path: path.clone(), source };
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(failed)?;
        let used = count(&dir, Some(stale)).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let quota = quota.map(|limit| Arc::new(Quota::new(limit, used)));
        Ok((name, Arc::new(OpenRoot { dir, rights, access, max_file, quota, names: Arc::default() })))
    }
}

/// Why files cannot be served.
#[derive(Debug, Error)]
pub enum FilesError {
    /// The name of a root cannot be one.
    #[error("{name:?} cannot be the name of a root: {error}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// Two roots have the same name.
    #[error("there are two roots {0:?}")]
    Twice(String),
    /// The folder of a root cannot be opened or counted.
    #[error("cannot open {}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A root that is open: whatever is done in it goes through the handle of its folder.
#[derive(Debug)]
pub(super) struct OpenRoot {
    pub(super) dir: Dir,
    rights: Rights,
    pub(super) access: Access,
    max_file: u64,
    quota: Option<Arc<Quota>>,
    /// Held while a file gets its name.
    pub(super) names: Arc<Mutex<()>>,
}

impl OpenRoot {
    pub(super) fn check_read(&self) -> Result<(), FileError> {
        if self.rights.read() { Ok(()) } else { Err(FileError::NoRight) }
    }

    pub(super) fn check_write(&self, size: u64) -> Result<(), FileError> {
        if !self.rights.write() {
            return Err(FileError::NoRight);
        }
        if size > self.max_file {
            return Err(FileError::TooLarge { size, limit: self.max_file });
        }
        Ok(())
    }

    /// Sets space aside for a file of `size` bytes that has a part file of `part` bytes. A quota that seems to be used up is
    /// counted again.
    pub(super) fn reserve(&self, size: u64, part: u64) -> Result<Option<Reservation>, FileError> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let mut reserved = quota.reserve(size, part);
        if matches!(reserved, Err(FileError::Quota { .. })) && quota.is_recount_due(now()) {
            quota.recounted(count(&self.dir, None)?);
            reserved = quota.reserve(size, part);
        }
        reserved.map(Some)
    }

    /// What lies below it and what is set aside, if it has a quota.
    pub(super) fn used(&self) -> Option<(u64, u64)> {
        self.quota.as_ref().map(|quota| quota.used())
    }
}
