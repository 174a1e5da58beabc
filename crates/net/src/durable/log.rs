//! A log file on disk, for one process at a time: opened, appended to, synchronised, rewritten.
//!
//! Everything here blocks; it runs on the thread of [`super::committer`]. A file gets its name only when it is whole and on
//! disk, so a crash leaves the one before or the one after. The lock is a file of its own, because the log itself is replaced.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    QUEUE_TAG,
    error::QueueError,
    record::{HEAD, HEADER, Head, Header, Kind, Purpose, Record},
    recovery,
};

/// Where a record stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// All of it, in bytes.
    pub(crate) size: u64,
}

/// An open log file.
#[derive(Debug)]
pub(crate) struct Log {
    purpose: Purpose,
    path: PathBuf,
    file: File,
    header: Header,
    /// Bytes in the file.
    length: u64,
    /// Bytes of them that are on disk.
    durable: u64,
    /// The lock goes with the file.
    _lock: File,
}

impl Log {
    /// Opens a log, or makes one, and reads what it holds. A torn end is cut.
    pub(crate) fn open(path: &Path, purpose: Purpose, mut visit: impl FnMut(Place, Record<'_>)) -> Result<Self, QueueError> {
        let lock = lock(path)?;
        let failed = |error: io::Error| QueueError::io(path, &error);
        if !path.try_exists().map_err(failed)? {
            let mut id: [u8; 16] = random()?;
            id[..QUEUE_TAG.len()].copy_from_slice(&QUEUE_TAG);
            let header = Header { id, key: random()?, next: 1, whole: HEADER as u64 };
            replace(path, |file| file.write_all(&header.encode(purpose))).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        private(&file).map_err(failed)?;
        let scan = recovery::scan(&mut BufReader::new(&file), purpose, |offset, record| {
            visit(Place { offset, size: record.size() as u64 }, record);
        })
        .map_err(|damage| QueueError::damage(path, damage))?;
        if scan.sound < scan.length {
            tracing::info!(path = %path.display(), bytes = scan.length - scan.sound, "cut off what a crash has torn");
            file.set_len(scan.sound).map_err(failed)?;
        }
        // What a process that was killed has written may not be on disk. It must be, before any of it is sent: a message that
        // is gone after a power cut, and whose number is used again, would be taken for a double.
        file.sync_data().map_err(failed)?;
        // The same goes for the name that a file has got: whoever gave it may have been killed right behind that.
        sync_folder(path).map_err(failed)?;
        Ok(Self {
            purpose,
            path: path.to_owned(),
            file,
            header: scan.header,
            length: scan.sound,
            durable: scan.sound,
            _lock: lock,
        })
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        self.header.id
    }

    /// No record of this file, and none that ever was in it, has this number or a larger one, except those after the header.
    pub(crate) fn next(&self) -> u64 {
        self.header.next
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Encodes a record that follows what is in the file and in `pending`. Says where it will stand.
    pub(crate) fn encode(&self, record: &Record<'_>, pending: &mut Vec<u8>) -> Place {
        let offset = self.length + pending.len() as u64;
        record.encode(&self.header.key, offset, self.durable, pending);
        Place { offset, size: record.size() as u64 }
    }

    /// Writes encoded records to the end, without waiting for the disk. After an error the file is as before.
    pub(crate) fn append(&mut self, pending: &[u8]) -> Result<(), QueueError> {
        let written = self.file.seek(SeekFrom::Start(self.length)).and_then(|_| self.file.write_all(pending));
        if let Err(error) = written {
            if self.file.set_len(self.length).is_err() {
                return Err(QueueError::Broken);
            }
            return Err(QueueError::io(&self.path, &error));
        }
        self.length += pending.len() as u64;
        Ok(())
    }

    /// Waits until everything that was written is on disk. After an error nothing is known of what was written since the last
    /// time: the operating system may have dropped it, and says so only once.
    pub(crate) fn sync(&mut self) -> Result<(), QueueError> {
        self.file.sync_data().map_err(|error| {
            tracing::error!(path = %self.path.display(), %error, "the disk failed");
            QueueError::Broken
        })?;
        self.durable = self.length;
        Ok(())
    }

    /// Notes in the file that all of it is on disk, so that damage to its end can be told from a torn write.
    pub(crate) fn seal(&mut self) -> Result<(), QueueError> {
        if self.length == HEADER as u64 {
            return Ok(());
        }
        self.sync()?;
        let mut pending = Vec::new();
        self.encode(&Record::bare(Kind::SYNCED, 0), &mut pending);
        self.append(&pending)
    }

    /// Reads a record back, with its body into `buffer`.
    pub(crate) fn read<'a>(&mut self, place: Place, buffer: &'a mut Vec<u8>) -> Result<Record<'a>, QueueError> {
        let size = usize::try_from(place.size).unwrap_or(usize::MAX);
        buffer.resize(size, 0);
        let read = self.file.seek(SeekFrom::Start(place.offset)).and_then(|_| self.file.read_exact(buffer));
        read.map_err(|error| QueueError::io(&self.path, &error))?;
        let damaged = || QueueError::Corrupt { path: self.path.clone(), offset: place.offset };
        let (head, rest) = buffer.split_first_chunk::<HEAD>().ok_or_else(damaged)?;
        let head = Head::decode(head, &self.header.key, place.offset).ok_or_else(damaged)?;
        head.record(rest, &self.header.key, place.offset).ok_or_else(damaged)
    }

    /// Replaces the file by one that holds these parts and nothing else. Gives their places in it.
    pub(crate) fn rewrite(&mut self, next: u64, parts: &[Part<'_>]) -> Result<Vec<Place>, QueueError> {
        let whole = HEADER as u64 + parts.iter().map(Part::size).sum::<u64>();
        let header = Header { id: self.header.id, key: random()?, next, whole };
        let (path, purpose) = (self.path.clone(), self.purpose);
        let (mut moved, mut refused) = (Vec::with_capacity(parts.len()), None);
        let replaced = replace(&path, |file| {
            let mut writer = BufWriter::new(file);
            writer.write_all(&header.encode(purpose))?;
            let (mut offset, mut buffer, mut bytes) = (HEADER as u64, Vec::new(), Vec::new());
            for part in parts {
                let record = match part {
                    Part::Fresh(record) => *record,
                    Part::Copy(place) => self.read(*place, &mut buffer).map_err(|error| {
                        let text = error.to_string();
                        refused = Some(error);
                        io::Error::other(text)
                    })?,
                };
                bytes.clear();
                record.encode(&header.key, offset, whole, &mut bytes);
                writer.write_all(&bytes)?;
                moved.push(Place { offset, size: part.size() });
                offset += part.size();
            }
            writer.flush()
        });
        let file = replaced.map_err(|error| refused.take().unwrap_or_else(|| QueueError::io(&path, &error)))?;
        self.file = file;
        self.header = header;
        self.length = whole;
        self.durable = whole;
        // The name may still lead to the file before; what is appended from here on would be lost with it.
        sync_folder(&path).map_err(|error| {
            tracing::error!(path = %path.display(), %error, "the disk failed");
            QueueError::Broken
        })?;
        Ok(moved)
    }
}

/// What goes into a rewritten file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// A record of the file before.
    Copy(Place),
    /// Another one.
    Fresh(Record<'a>),
}

impl Part<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Copy(place) => place.size,
            Self::Fresh(record) => record.size() as u64,
        }
    }
}

/// Takes the lock beside the file.
pub(crate) fn lock(path: &Path) -> Result<File, QueueError> {
    let beside = beside(path, ".lock");
    let failed = |error: io::Error| QueueError::io(&beside, &error);
    let lock = open_private(OpenOptions::new().create(true).truncate(false).write(true), &beside).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(QueueError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes a file under another name, and gives it the name when it is whole and on disk. The name itself is on disk after
/// [`sync_folder`].
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let draft = beside(path, ".draft");
    let made =
        open_private(OpenOptions::new().create(true).truncate(true).read(true).write(true), &draft).and_then(|mut file| {
            private(&file)?;
            fill(&mut file)?;
            file.sync_all()?;
            std::fs::rename(&draft, path)?;
            Ok(file)
        });
    if made.is_err() {
        // The first error is the one to tell; a draft that stays is overwritten by the next.
        drop(std::fs::remove_file(&draft));
    }
    made
}

/// The path with something added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(suffix);
    path.with_file_name(name)
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], QueueError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| QueueError::Io { path: PathBuf::from("random numbers"), reason: error.to_string() })?;
    Ok(bytes)
}

#[cfg(unix)]
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600).open(path)
}

#[cfg(not(unix))]
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

/// Takes away what others may do with a file that was there before.
#[cfg(unix)]
fn private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn private(_file: &File) -> io::Result<()> {
    Ok(())
}

/// A name is on disk when its folder is.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
