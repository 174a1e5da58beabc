//! How much may lie below a root, in bytes and in entries. Space is set aside when a transfer begins, so transfers side by side
//! cannot exceed it together.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use cap_std::fs::Dir;
use parlour_wire::files::RemotePath;

use super::error::FileError;

/// How often a tree is counted again at most, if it seems to be full.
const RECOUNT: Duration = Duration::from_secs(10);
/// Folders within folders that are looked into; what lies deeper is not ours.
const DEPTH: usize = 64;

/// An amount of files: bytes, and entries of folders. Empty files and folders take no bytes, but they fill a disk all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), entries: self.entries.saturating_add(other.entries) }
    }

    fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), entries: self.entries.saturating_sub(other.entries) }
    }

    /// One file of this size.
    pub(super) fn file(bytes: u64) -> Self {
        Self { bytes, entries: 1 }
    }

    /// A part file of this size. An empty one is none: it is made for a transfer, and not kept.
    fn part(bytes: u64) -> Self {
        if bytes == 0 { Self::default() } else { Self::file(bytes) }
    }
}

/// What lies below a root, and what it may come to. Files that the application itself adds or removes are noticed when the quota
/// seems to be used up.
#[derive(Debug)]
pub(super) struct Quota {
    limit: Amount,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: Amount,
    reserved: Amount,
    running: usize,
    counted: Option<Instant>,
}

impl State {
    fn check(&self, limit: Amount, wanted: Amount) -> Result<(), FileError> {
        let left = limit.minus(self.used.plus(self.reserved));
        if wanted.bytes > left.bytes {
            return Err(FileError::Quota { wanted: wanted.bytes, left: left.bytes });
        }
        if wanted.entries > left.entries {
            return Err(FileError::Entries { limit: limit.entries });
        }
        Ok(())
    }
}

impl Quota {
    pub(super) fn new(limit: Amount, used: Amount) -> Self {
        Self { limit, state: Mutex::new(State { used, ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies below the root, and what is set aside.
    pub(super) fn used(&self) -> (Amount, Amount) {
        let state = self.lock();
        (state.used, state.reserved)
    }

    /// Sets space aside for a file that will have `size` bytes and has a part file of `part` bytes already.
    pub(super) fn reserve(self: &Arc<Self>, size: u64, part: u64) -> Result<Reservation, FileError> {
        let wanted = Amount::file(size).minus(Amount::part(part));
        self.set_aside(wanted, part)
    }

    /// Sets space aside for so many folders, if the file of `size` bytes for which they are made would fit beside them.
    pub(super) fn reserve_folders(self: &Arc<Self>, folders: u64, size: u64) -> Result<Reservation, FileError> {
        let folders = Amount { bytes: 0, entries: folders };
        let mut state = self.lock();
        state.check(self.limit, folders.plus(Amount::file(size)))?;
        Ok(self.hold(&mut state, folders, 0))
    }

    fn set_aside(self: &Arc<Self>, wanted: Amount, part: u64) -> Result<Reservation, FileError> {
        let mut state = self.lock();
        state.check(self.limit, wanted)?;
        Ok(self.hold(&mut state, wanted, part))
    }

    fn hold(self: &Arc<Self>, state: &mut State, held: Amount, part: u64) -> Reservation {
        state.reserved = state.reserved.plus(held);
        state.running += 1;
        Reservation { quota: Arc::clone(self), held, part: Amount::part(part) }
    }

    /// Whether it is worth counting again what is there: not while it grows, and not too often.
    pub(super) fn is_recount_due(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let recent = state.counted.is_some_and(|at| now.saturating_duration_since(at) < RECOUNT);
        let due = state.running == 0 && !recent;
        if due {
            state.counted = Some(now);
        }
        due
    }

    /// Takes over what a count has found, unless a transfer has begun meanwhile.
    pub(super) fn recounted(&self, used: Amount) {
        let mut state = self.lock();
        if state.running == 0 {
            state.used = used;
        }
    }
}

/// Space that is set aside for a transfer. It is given back when this is dropped, apart from what was told to be used.
#[derive(Debug)]
pub(super) struct Reservation {
    quota: Arc<Quota>,
    held: Amount,
    /// The part file when it was set aside.
    part: Amount,
}

impl Reservation {
    /// The transfer has left a part file, or a file, of `left` bytes in the place of another one of `replaced` bytes; or nothing.
    pub(super) fn settle(self, left: Option<u64>, replaced: Option<u64>) {
        let [left, replaced] = [left, replaced].map(|file| file.map_or_else(Amount::default, Amount::file));
        self.take(left, replaced);
    }

    /// So many folders have been made.
    pub(super) fn made(self, folders: u64) {
        self.take(Amount { bytes: 0, entries: folders }, Amount::default());
    }

    fn take(self, left: Amount, replaced: Amount) {
        let mut state = self.quota.lock();
        state.used = state.used.plus(left).minus(self.part).minus(replaced);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.quota.lock();
        state.reserved = state.reserved.minus(self.held);
        state.running = state.running.saturating_sub(1);
    }
}

/// Counts what lies below a folder. Removes part files that nobody has touched since `stale`.
pub(super) fn count(root: &Dir, stale: Option<SystemTime>) -> Result<Amount, FileError> {
    let failed = |error: std::io::Error| FileError::io("count", &error);
    let mut total = Amount::default();
    let mut folders = vec![PathBuf::from(".")];
    while let Some(path) = folders.pop() {
        let folder = match root.open_dir(&path) {
            Ok(folder) => folder,
            // It was removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in folder.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(found) = entry.metadata() else { continue };
            if found.is_file() && is_removed(&folder, &entry, &found, stale) {
                continue;
            }
            if found.is_dir() && path.components().count() < DEPTH {
                folders.push(path.join(entry.file_name()));
            }
            total = total.plus(amount_of(&entry, &found));
        }
    }
    Ok(total)
}

fn amount_of(entry: &cap_std::fs::DirEntry, found: &cap_std::fs::Metadata) -> Amount {
    match found.is_file() {
        true if is_part(entry) => Amount::part(found.len()),
        true => Amount::file(found.len()),
        false => Amount::file(0),
    }
}

fn is_part(entry: &cap_std::fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(RemotePath::is_part_file)
}

/// Removes a part file that is stale and not in use.
fn is_removed(folder: &Dir, entry: &cap_std::fs::DirEntry, found: &cap_std::fs::Metadata, stale: Option<SystemTime>) -> bool {
    let name = entry.file_name();
    let old = stale.is_some_and(|stale| found.modified().is_ok_and(|modified| modified.into_std() < stale));
    if !is_part(entry) || !old {
        return false;
    }
    let Ok(file) = entry.open().map(cap_std::fs::File::into_std) else { return false };
    let unused = file.try_lock().is_ok();
    unused && folder.remove_file(&name).is_ok()
}
