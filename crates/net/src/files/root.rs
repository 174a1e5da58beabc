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
    quota::{Amount, Quota, Reservation, count},
};
use crate::{pump::now, toolkit::Access};

/// Bytes of a quota for which it has one file or folder, unless it is told how many: small files are about as large.
const BYTES_PER_ENTRY: u64 = 4 * 1024;
/// Files and folders that a quota has room for however few bytes it has.
const ENTRIES: u64 = 1024;

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
    max_entries: Option<u64>,
}

impl Root {
    /// The folder at `path` under a name. It must exist when the files are opened.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, rights: Rights) -> Self {
        let (name, path) = (name.into(), path.into());
        Self { name, path, rights, access: Access::Deny, max_file: u64::MAX, quota: None, max_entries: None }
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

    /// What all files below it together may come to by pushes, in bytes; part files count. So does what the application puts there
    /// itself, from the next count on: the folder is counted when it is opened, and again when pushes seem to have used the quota up,
    /// none is under way there and the last count is ten seconds old, since to count a large one at every push would take longer than
    /// the push. A file that takes the place of another must fit
    /// beside it. It bounds their number, too: see [`Root::max_entries`].
    #[must_use]
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }

    /// How many files and folders there may come to be below it by pushes, those counted that are there already. A root with a
    /// [quota](Root::quota) has room for one in 4 KiB of it, and for 1,024 at least, unless this says otherwise; one without has no
    /// such bound.
    #[must_use]
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// What peers may make it come to, if that is bounded.
    fn limit(&self) -> Option<Amount> {
        let of_quota = self.quota.map_or(u64::MAX, |bytes| (bytes / BYTES_PER_ENTRY).max(ENTRIES));
        let bounded = self.quota.is_some() || self.max_entries.is_some();
        bounded.then(|| Amount { bytes: self.quota.unwrap_or(u64::MAX), entries: self.max_entries.unwrap_or(of_quota) })
    }

    /// Opens the folder, removes part files that are older than `stale`, and counts the others.
    pub(super) fn open(self, stale: SystemTime) -> Result<(String, Arc<OpenRoot>), FilesError> {
        let limit = self.limit();
        let Self { name, path, rights, access, max_file, .. } = self;
        RemotePath::check_part(&name).map_err(|error| FilesError::Name { name: name.clone(), error })?;
        let failed = |source| FilesError::Folder { path: path.clone(), source };
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(failed)?;
        let used = count(&dir, Some(stale)).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let quota = limit.map(|limit| Arc::new(Quota::new(limit, used)));
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

    /// Sets space aside for a file of `size` bytes that has a part file of `part` bytes.
    pub(super) fn reserve(&self, size: u64, part: u64) -> Result<Option<Reservation>, FileError> {
        self.reserved(|quota| quota.reserve(size, part))
    }

    /// Sets space aside for folders that are to be made for a file of `size` bytes.
    pub(super) fn reserve_folders(&self, folders: u64, size: u64) -> Result<Option<Reservation>, FileError> {
        self.reserved(|quota| quota.reserve_folders(folders, size))
    }

    /// A quota that seems to be used up is counted again.
    fn reserved(
        &self,
        reserve: impl Fn(&Arc<Quota>) -> Result<Reservation, FileError>,
    ) -> Result<Option<Reservation>, FileError> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let mut reserved = reserve(quota);
        if matches!(reserved, Err(FileError::Quota { .. } | FileError::Entries { .. })) && quota.is_recount_due(now()) {
            quota.recounted(count(&self.dir, None)?);
            reserved = reserve(quota);
        }
        reserved.map(Some)
    }

    /// What lies below it and what is set aside, if that is bounded.
    pub(super) fn used(&self) -> Option<(Amount, Amount)> {
        self.quota.as_ref().map(|quota| quota.used())
    }
}
