//! A file on its way in: a hidden part file beside the place where the file is to appear. It is locked while a transfer writes it,
//! hashed as it grows, and gets its name only when it is complete and on disk.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use blake3::Hasher;
use cap_std::fs::{Dir, OpenOptions};
use parlour_wire::files::{Hash, RemotePath};

use super::error::FileError;

/// Bytes that are read at once where a file is hashed.
const READ: usize = 256 * 1024;
/// Bytes after which the disk is to begin with what was written, so that little is left to wait for at the end.
const WRITE_BACK: u64 = 8 * 1024 * 1024;
/// How often a part file that somebody removes meanwhile is opened again.
const TRIES: usize = 8;

/// Where a file is to appear.
#[derive(Debug)]
pub(super) struct Place {
    folder: Dir,
    name: OsString,
    part: String,
}

impl Place {
    /// A file in a folder. Transfers with different tags do not get into each other's way.
    pub(super) fn new(folder: Dir, name: OsString, tag: u64) -> Self {
        let part = RemotePath::part_file(&name.to_string_lossy(), tag);
        Self { folder, name, part }
    }

    /// The size of the file that is there, if there is one.
    pub(super) fn existing(&self) -> Result<Option<u64>, FileError> {
        match self.folder.symlink_metadata(&self.name) {
            Ok(found) if found.is_dir() => Err(FileError::NotAFile),
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::io("look at", &error)),
        }
    }

    /// Whether the very file that is to come is there. `beat` is called as by [`Part::hash_prefix`].
    pub(super) fn holds(
        &self,
        size: u64,
        hash: &Hash,
        beat: &mut dyn FnMut(u64) -> Result<(), FileError>,
    ) -> Result<bool, FileError> {
        if self.existing()? != Some(size) {
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        let file = self.folder.open_with(&self.name, super::path::patiently(options.read(true)));
        let mut file = file.map_err(|error| FileError::io("read", &error))?.into_std();
        let mut hasher = Hasher::new();
        hash_up_to(&mut file, size, &mut hasher, beat)?;
        Ok(hasher.finalize().as_bytes() == hash)
    }

    /// Opens the part file, or begins one, for this transfer alone.
    pub(super) fn open(self) -> Result<Part, FileError> {
        let failed = |error: io::Error| FileError::io("write", &error);
        for _ in 0..TRIES {
            match self.folder.symlink_metadata(&self.part) {
                // Nobody but us has business with that name.
                Ok(found) if !found.is_file() => self.folder.remove_file(&self.part).map_err(failed)?,
                Ok(found) if names(&found) > 1 => self.folder.remove_file(&self.part).map_err(failed)?,
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true);
            let file = self.folder.open_with(&self.part, super::path::patiently(&mut options)).map_err(failed)?.into_std();
            match file.try_lock() {
                // A file system without locks has to do without.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => return Err(FileError::Busy),
            }
            let opened = file.metadata().map_err(failed)?;
            if !opened.is_file() {
                return Err(FileError::NotAFile);
            }
            // Whoever had the lock before may have given the file its name, or removed it.
            if self.folder.symlink_metadata(&self.part).is_ok_and(|there| is_same(&there, &opened)) {
                let size = opened.len();
                return Ok(Part { place: self, file, hasher: Hasher::new(), size, hashed: 0, good: 0 });
            }
        }
        Err(FileError::Busy)
    }
}

/// How a file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Naming {
    /// It may take the place of another.
    pub(super) replace: bool,
    /// When it was changed, if it is to keep that.
    pub(super) modified_ms: Option<u64>,
}

/// A part file, locked.
#[derive(Debug)]
pub(super) struct Part {
    place: Place,
    file: File,
    hasher: Hasher,
    size: u64,
    /// How much of it the hasher has seen; all, once the prefix has been hashed.
    hashed: u64,
    /// How much is known to be what the sender has.
    good: u64,
}

impl Part {
    /// Bytes in the part file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Hash of all that is there.
    pub(super) fn hash(&self) -> Hash {
        debug_assert_eq!(self.hashed, self.size);
        *self.hasher.finalize().as_bytes()
    }

    /// Hashes what is there from an earlier try. `beat` is called now and then with the bytes that are done; its error ends it.
    pub(super) fn hash_prefix(&mut self, beat: &mut dyn FnMut(u64) -> Result<(), FileError>) -> Result<(), FileError> {
        self.file.seek(SeekFrom::Start(0)).map_err(|error| FileError::io("read", &error))?;
        self.hasher.reset();
        hash_up_to(&mut self.file, self.size, &mut self.hasher, beat)?;
        self.hashed = self.size;
        Ok(())
    }

    /// Forgets all that is there.
    pub(super) fn clear(&mut self) -> Result<(), FileError> {
        self.cut(0)?;
        self.hasher.reset();
        self.hashed = 0;
        Ok(())
    }

    /// All that is there is what the sender has.
    pub(super) fn confirm(&mut self) {
        self.good = self.size;
    }

    /// Goes back to what is known to be good, and says how much that is. The hash is lost: nothing can be appended after it.
    pub(super) fn cut_back(&mut self) -> Result<u64, FileError> {
        self.cut(self.good)?;
        Ok(self.good)
    }

    fn cut(&mut self, size: u64) -> Result<(), FileError> {
        self.file.set_len(size).map_err(|error| FileError::io("write", &error))?;
        self.file.seek(SeekFrom::Start(size)).map_err(|error| FileError::io("write", &error))?;
        self.size = size;
        self.good = self.good.min(size);
        Ok(())
    }

    /// Appends.
    pub(super) fn append(&mut self, content: &[u8]) -> Result<(), FileError> {
        self.hasher.update(content);
        self.hashed += content.len() as u64;
        if let Err(error) = self.file.write_all(content) {
            // Some of it may be there; the next try must not take it for more than it is.
            drop(self.cut(self.size));
            return Err(FileError::io("write", &error));
        }
        let before = self.size;
        self.size += content.len() as u64;
        if before / WRITE_BACK != self.size / WRITE_BACK {
            write_back(&self.file, self.size - WRITE_BACK.min(self.size));
        }
        Ok(())
    }

    /// Gives the file its name, and returns when that is on disk. Gives the size of the file whose place it has taken, as it was at
    /// that moment, if there was one: others may have taken the place since the transfer began. `names` is held while the name changes
    /// hands.
    pub(super) fn commit(&self, naming: Naming, names: &Mutex<()>) -> Result<Option<u64>, FileError> {
        let failed = |error: io::Error| FileError::io("write", &error);
        if let Some(modified) = naming.modified_ms.and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))) {
            self.file.set_modified(modified).map_err(failed)?;
        }
        self.file.sync_all().map_err(failed)?;
        let Place { folder, name, part } = &self.place;
        let held = names.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.place.existing()?;
        let before = replaced.and_then(|_| Before::hold(folder, name));
        let named = if naming.replace { folder.rename(part, folder, name) } else { rename_to_free(folder, part, name) };
        named.map_err(failed)?;
        drop(held);
        sync_folder(folder)?;
        if let Some(before) = before {
            before.let_go();
        }
        Ok(replaced)
    }

    /// Removes the part file.
    pub(super) fn remove(self) {
        if let Err(error) = self.place.folder.remove_file(&self.place.part)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a part file cannot be removed");
        }
    }

    /// Keeps what is there for a later try. An empty part file is of no use to it.
    pub(super) fn keep(self) {
        if self.size == 0 {
            self.remove();
        }
    }
}

/// A file whose name another one takes. As long as it is held, the system does not take it apart, which takes it a while for a large
/// one: that is for nobody to wait for who only wants to know that the new one is there.
#[cfg(target_os = "linux")]
struct Before(#[expect(dead_code, reason = "it is closed when this is dropped")] rustix::fd::OwnedFd);
#[cfg(not(target_os = "linux"))]
struct Before;

impl Before {
    #[cfg(target_os = "linux")]
    fn hold(folder: &Dir, name: &OsString) -> Option<Self> {
        use rustix::fs::{Mode, OFlags};
        // Only its place in memory is held; neither is it opened, nor is a link followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, flags, Mode::empty()).ok().map(Self)
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(_: &Dir, _: &OsString) -> Option<Self> {
        None
    }

    fn let_go(self) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(self))),
            // Outside of a runtime there is nobody else to do it.
            Err(_) => drop(self),
        }
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Dir) -> Result<(), FileError> {
    // Systems that cannot open a folder as a file need not: their file systems order these writes themselves.
    #[cfg(unix)]
    folder.open(".").and_then(|opened| opened.sync_all()).map_err(|error| FileError::io("write", &error))?;
    Ok(())
}

/// Has the system begin to write the last of the file to disk, without waiting for it.
fn write_back(file: &File, from: u64) {
    #[cfg(target_os = "linux")]
    // Said of pages that are not on disk yet, this is what starts their way there. It is advice: that it is not taken is no error.
    let _ = rustix::fs::fadvise(file, from, std::num::NonZeroU64::new(WRITE_BACK), rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from);
}

/// Gives the part file a name that nobody has.
fn rename_to_free(folder: &Dir, part: &str, name: &OsString) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs::RenameFlags, io::Errno};
        match rustix::fs::renameat_with(folder, part, folder, name, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            result => return Ok(result?),
        }
    }
    // Whoever takes the name between these two calls is replaced.
    match folder.symlink_metadata(name) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.rename(part, folder, name),
        Err(error) => Err(error),
    }
}

/// Reads exactly `size` bytes into the hasher; fewer in the file are an error.
pub(super) fn hash_up_to(
    file: &mut File,
    size: u64,
    hasher: &mut Hasher,
    beat: &mut dyn FnMut(u64) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(READ)];
    let mut done = 0;
    while done < size {
        let wanted = usize::try_from(size - done).unwrap_or(usize::MAX).min(buffer.len());
        let read = match file.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(FileError::SourceChanged),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileError::io("read", &error)),
        };
        hasher.update(&buffer[..read]);
        done += read as u64;
        beat(done)?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_same(there: &cap_std::fs::Metadata, opened: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (cap_std::fs::MetadataExt::dev(there), cap_std::fs::MetadataExt::ino(there)) == (opened.dev(), opened.ino())
}

#[cfg(not(unix))]
fn is_same(there: &cap_std::fs::Metadata, opened: &std::fs::Metadata) -> bool {
    there.is_file() && there.len() == opened.len()
}

/// In how many places of the file system the file appears.
#[cfg(unix)]
fn names(found: &cap_std::fs::Metadata) -> u64 {
    cap_std::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn names(_: &cap_std::fs::Metadata) -> u64 {
    1
}
