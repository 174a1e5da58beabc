//! A profile on disk: one folder with mode 0700, a lock file, the key file and the database.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use parlour_wire::Code;
use zeroize::Zeroizing;

use crate::{api, error::Error, key};

/// How long to wait for another process to leave the profile: enough for a command that is about to end.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A locked profile and the key of its database.
pub struct Profile {
    pub(crate) database: PathBuf,
    /// Sealed files that only this profile has.
    pub(crate) files: PathBuf,
    pub(crate) key: Zeroizing<[u8; 32]>,
    /// Held as long as the profile is open; the system releases it when the process dies.
    _lock: File,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Profile {
    /// Opens or makes the folder, takes the lock, opens the key.
    ///
    /// # Errors
    /// `profile_not_found`, `profile_damaged`, `profile_in_use`, `wrong_passphrase`, `read_only`, `disk_full`.
    pub fn open(options: &api::OpenOptions) -> Result<Self, Error> {
        let home = &options.home;
        if options.create {
            make_folder(home)?;
        } else if !home.is_dir() {
            return Err(Error::new(Code::PROFILE_NOT_FOUND, format!("there is no profile in {}", home.display()))
                .hint("make one with `register` or `login`, or name another folder with --home"));
        }
        let lock = lock(home)?;
        let key = key::open(home, &options.key, options.create)?;
        Ok(Self { database: home.join(key::DATABASE), files: home.join("files"), key, _lock: lock })
    }
}

fn make_folder(home: &Path) -> Result<(), Error> {
    if home.is_dir() {
        return Ok(());
    }
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io("make", parent, &error))?;
    }
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("make", home, &error)),
        _ => Ok(()),
    }
}

/// Takes the exclusive lock. A thread waits for it, because the system has no lock with a deadline; given up, it lets go of the
/// lock as soon as it gets it.
fn lock(home: &Path) -> Result<File, Error> {
    let path = home.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Error::io("open", &path, &error))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    let (sender, receiver) = mpsc::sync_channel(0);
    let wait = move || {
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).is_ok() {
            // Refused when nobody waits any longer; the file, and with it the lock, is dropped here.
            let _ = sender.send(file);
        }
    };
    thread::Builder::new()
        .name("parlour-lock".to_owned())
        .spawn(wait)
        .map_err(|error| Error::internal(format!("no thread: {error}")))?;
    receiver.recv_timeout(LOCK_WAIT).map_err(|_| {
        Error::new(Code::PROFILE_IN_USE, format!("another program uses the profile in {}", home.display()))
            .hint("end the other program, or use another profile with --home")
    })
}
