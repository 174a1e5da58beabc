//! How much may lie below a root. Space is set aside when a transfer begins, so transfers side by side cannot exceed it together.

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

/// What lies below a root, and what it may come to. Files that the application itself adds or removes are noticed when the quota
/// seems to be used up.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    reserved: u64,
    running: usize,
    counted: Option<Instant>,
}

impl Quota {
    pub(super) fn new(limit: u64, used: u64) -> Self {
        Self { limit, state: Mutex::new(State { used, ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that lie below the root, and bytes that are set aside.
    pub(super) fn used(&self) -> (u64, u64) {
        let state = self.lock();
        (state.used, state.reserved)
    }

    /// Sets space aside for a file that will have `size` bytes and has a part file of `part` bytes already.
    pub(super) fn reserve(self: &Arc<Self>, size: u64, part: u64) -> Result<Reservation, FileError> {
        let wanted = size.saturating_sub(part);
        let mut state = self.lock();
        let left = self.limit.saturating_sub(state.used.saturating_add(state.reserved));
        if wanted > left {
            return Err(FileError::Quota { wanted, left });
        }
        state.reserved += wanted;
        state.running += 1;
        Ok(Reservation { quota: Arc::clone(self), bytes: wanted, part })
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
    pub(super) fn recounted(&self, used: u64) {
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
    bytes: u64,
    /// Size of the part file when it was set aside.
    part: u64,
}

impl Reservation {
    /// The transfer has left a part file, or a file, of `size` bytes in the place of `replaced` others.
    pub(super) fn settle(self, size: u64, replaced: u64) {
        let mut state = self.quota.lock();
        state.used = state.used.saturating_add(size).saturating_sub(self.part).saturating_sub(replaced);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.quota.lock();
        state.reserved = state.reserved.saturating_sub(self.bytes);
        state.running = state.running.saturating_sub(1);
    }
}

/// Counts the bytes of the files below a folder. Removes part files that nobody has touched since `stale`.
pub(super) fn count(root: &Dir, stale: Option<SystemTime>) -> Result<u64, FileError> {
    let failed = |error: std::io::Error| FileError::io("count", &error);
    let mut total = 0_u64;
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
            if found.is_dir() && path.components().count() < DEPTH {
                folders.push(path.join(entry.file_name()));
            } else if found.is_file() && !is_removed(&folder, &entry, &found, stale) {
                total = total.saturating_add(found.len());
            }
        }
    }
    Ok(total)
}

/// Removes a part file that is stale and not in use.
fn is_removed(folder: &Dir, entry: &cap_std::fs::DirEntry, found: &cap_std::fs::Metadata, stale: Option<SystemTime>) -> bool {
    let name = entry.file_name();
    let is_part = name.to_str().is_some_and(RemotePath::is_part_file);
    let old = stale.is_some_and(|stale| found.modified().is_ok_and(|modified| modified.into_std() < stale));
    if !is_part || !old {
        return false;
    }
    let Ok(file) = entry.open().map(cap_std::fs::File::into_std) else { return false };
    let unused = file.try_lock().is_ok();
    unused && folder.remove_file(&name).is_ok()
}
