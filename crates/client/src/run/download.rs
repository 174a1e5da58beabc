//! Bringing a file from the server: into a file beside its target, checked chunk by chunk, and renamed when all of it is what its message
//! says. What is there of it already is gone on with.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use parlour_e2ee::attachment::{AttachmentError, CHUNK, Opener};
use parlour_net::{Asked, Link};
use parlour_wire::{
    Code, MessageId,
    api::{BlobData, BlobGet},
    content::Attachment,
};

use super::transfer::{GROUP, STRIDE, Teller, WINDOW, answer, ask, blocking, file_error};
use crate::{
    api::Fetched,
    core::{Outcome, Transferred},
    error::Error,
};

/// A file that is being written, and how far it is.
struct Part {
    path: PathBuf,
    target: PathBuf,
    force: bool,
    file: File,
    opener: Opener,
    /// Some of it was here from before.
    resumed: bool,
}

/// Where a blob is.
pub(super) enum Source {
    /// At the server.
    Server(Link),
    /// In a file of the profile.
    Kept(PathBuf),
}

/// Where a file is wanted.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
    /// Replace what is there.
    pub(super) force: bool,
}

/// Brings a file here.
pub(super) async fn fetch(
    source: &Source,
    message: MessageId,
    attachment: Attachment,
    place: &Place,
    teller: &Teller,
) -> Outcome {
    let Place { folder, name, force } = place;
    // Named by the blob, so that whoever asks again finds it, and hidden, so that nobody takes it for the file.
    let path = folder.join(format!(".parlour-{}.part", hex::encode(&attachment.blob.0[..16])));
    let target = folder.join(name);
    let mut again = true;
    loop {
        let part = begin(attachment.clone(), path.clone(), target.clone(), *force).await?;
        let resumed = part.resumed;
        let part = match source {
            Source::Server(link) => receive(link, message, &attachment, part, teller).await?,
            Source::Kept(path) => copy(path, message, part, teller).await?,
        };
        match blocking(move || part.finish()).await {
            Ok(path) => {
                let (size, hash) = (attachment.size, attachment.hash);
                return Ok(Transferred::Fetched(Fetched { path, size, hash }));
            }
            // What was here from before was not what it should be, and is gone now.
            Err(error) if error.code == Code::HASH_MISMATCH && resumed && again => again = false,
            Err(error) => return Err(error),
        }
    }
}

/// Opens the part, and goes over what is there of it.
async fn begin(attachment: Attachment, path: PathBuf, target: PathBuf, force: bool) -> Result<Part, Error> {
    let mut part = blocking(move || Part::open(&attachment, path, target, force)).await?;
    loop {
        let more;
        (part, more) = blocking(move || {
            let more = part.go_over()?;
            Ok((part, more))
        })
        .await?;
        if !more {
            return Ok(part);
        }
    }
}

/// Receives what is missing.
async fn receive(
    link: &Link,
    message: MessageId,
    attachment: &Attachment,
    mut part: Part,
    teller: &Teller,
) -> Result<Part, Error> {
    let layout = part.opener.layout();
    let total = layout.blob_size();
    let mut next = part.opener.position();
    let mut waiting: VecDeque<(BlobGet, Asked)> = VecDeque::with_capacity(WINDOW);
    teller.tell(message, false, layout.sealed_range(next).start, total);
    while next < layout.chunks() || !waiting.is_empty() {
        while next < layout.chunks() && waiting.len() < WINDOW {
            let after = (next + GROUP).min(layout.chunks());
            let (start, end) = (layout.sealed_range(next).start, layout.sealed_range(after - 1).end);
            let length = u32::try_from(end - start).map_err(Error::internal)?;
            let get = BlobGet { blob: attachment.blob, offset: start, length };
            waiting.push_back((get, ask(link, &get)));
            next = after;
        }
        let Some((get, asked)) = waiting.pop_front() else { break };
        let data = all_of(link, get, asked, total).await?;
        let end = get.offset + u64::from(get.length);
        part = blocking(move || part.take(&data)).await?;
        teller.tell(message, false, end, total);
    }
    Ok(part)
}

/// Takes what is missing from a file of the profile.
async fn copy(path: &Path, message: MessageId, mut part: Part, teller: &Teller) -> Result<Part, Error> {
    let layout = part.opener.layout();
    let total = layout.blob_size();
    let from = path.to_owned();
    let mut blob = blocking(move || File::open(&from).map_err(|error| file_error("read", &from, &error))).await?;
    loop {
        let next = part.opener.position();
        let Range { start, .. } = layout.sealed_range(next);
        teller.tell(message, false, start, total);
        if next >= layout.chunks() {
            return Ok(part);
        }
        let end = layout.sealed_range((next + GROUP).min(layout.chunks()) - 1).end;
        let path = path.to_owned();
        (blob, part) = blocking(move || {
            let mut bytes = vec![0; usize::try_from(end - start).map_err(Error::internal)?];
            blob.read_exact_at(&mut bytes, start).map_err(|error| file_error("read", &path, &error))?;
            let part = part.take(&bytes)?;
            Ok((blob, part))
        })
        .await?;
    }
}

/// The bytes that were asked for. A server may give fewer at a time, but not none, and not more.
async fn all_of(link: &Link, get: BlobGet, asked: Asked, total: u64) -> Result<Vec<u8>, Error> {
    let mut asked = Some(asked);
    let mut bytes = Vec::new();
    while bytes.len() < get.length as usize {
        let there = bytes.len() as u32;
        let rest = BlobGet { offset: get.offset + u64::from(there), length: get.length - there, ..get };
        let asked = asked.take().unwrap_or_else(|| ask(link, &rest));
        let BlobData { size, mut data } = answer::<BlobGet>(asked).await?;
        if size != total || data.is_empty() || data.len() > rest.length as usize {
            return Err(Error::new(Code::SIZE_MISMATCH, "the server gives a file of another size than its message says")
                .hint("ask whoever sent it to send it again"));
        }
        bytes.append(&mut data);
    }
    Ok(bytes)
}

impl Part {
    fn open(attachment: &Attachment, path: PathBuf, target: PathBuf, force: bool) -> Result<Self, Error> {
        let opener = Opener::new(attachment).map_err(|error| refused(&error))?;
        match fs::symlink_metadata(&target) {
            Ok(there) if there.is_dir() => {
                return Err(Error::new(Code::PATH_REFUSED, format!("{} is a folder", target.display())).hint("name a file"));
            }
            Ok(_) if !force => return Err(exists(&target)),
            _ => {}
        }
        // Nothing is followed out of the folder, and nobody else may read what is not checked yet.
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_FOLLOW).to_owned();
        let file = options.open(&path).map_err(|error| file_error("write", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(Code::FILE_BUSY, "the same file is being downloaded to the same folder already")
                    .hint("wait for it to end"));
            }
            Err(TryLockError::Error(error)) => return Err(file_error("lock", &path, &error)),
        }
        let length = file.metadata().map_err(|error| file_error("read", &path, &error))?.len();
        Ok(Self { path, target, force, file, opener, resumed: length >= CHUNK as u64 })
    }

    /// Takes a few chunks that are there; whether there may be more.
    fn go_over(&mut self) -> Result<bool, Error> {
        let layout = self.opener.layout();
        let mut buffer = Vec::with_capacity(CHUNK + 16);
        for _ in 0..STRIDE {
            let chunk = self.opener.position();
            // The last chunk comes from the server in any case: what is behind it need not be looked at.
            let full = layout.content_len(chunk) == CHUNK && !layout.is_last(chunk);
            buffer.resize(CHUNK, 0);
            if !full || self.file.read_exact(&mut buffer).is_err() {
                let at = u64::from(chunk) * CHUNK as u64;
                let cut = self.file.set_len(at.min(layout.size())).and_then(|()| self.file.seek(SeekFrom::End(0)));
                cut.map_err(|error| file_error("write", &self.path, &error))?;
                return Ok(false);
            }
            self.opener.skip(&mut buffer).map_err(Error::internal)?;
        }
        Ok(true)
    }

    /// Takes a few chunks that the server gave.
    fn take(mut self, mut data: &[u8]) -> Result<Self, Error> {
        let mut buffer = Vec::with_capacity(CHUNK + 16);
        while let Some(wanted) = self.opener.wanted().filter(|_| !data.is_empty()) {
            let Some((chunk, rest)) = data.split_at_checked(wanted) else {
                return Err(Error::internal("a part of a chunk"));
            };
            buffer.clear();
            buffer.extend_from_slice(chunk);
            self.opener.take(&mut buffer).map_err(|error| refused(&error))?;
            self.file.write_all(&buffer).map_err(|error| file_error("write", &self.path, &error))?;
            data = rest;
        }
        Ok(self)
    }

    /// Checks the whole, and gives it its name. A file that is not what it should be goes.
    fn finish(self) -> Result<PathBuf, Error> {
        let Self { path, target, force, file, opener, .. } = self;
        if let Err(error) = opener.finish() {
            fs::remove_file(&path).map_err(|error| file_error("remove", &path, &error))?;
            return Err(refused(&error));
        }
        file.sync_all().map_err(|error| file_error("write", &path, &error))?;
        name(&path, &target, force)?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| file_error("write", folder, &error))?;
        Ok(target)
    }
}

/// `open` fails at a symbolic link instead of following it.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// Renames a part to its target, which without `force` must not be there at this very moment.
fn name(part: &Path, target: &Path, force: bool) -> Result<(), Error> {
    let failed = |error: &std::io::Error| file_error("write", target, error);
    if force {
        return fs::rename(part, target).map_err(|error| failed(&error));
    }
    match fs::hard_link(part, target) {
        Ok(()) => fs::remove_file(part).map_err(|error| file_error("remove", part, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(target)),
        // Some file systems have no links. There somebody else can be faster between the two steps.
        Err(_) if fs::symlink_metadata(target).is_ok() => Err(exists(target)),
        Err(_) => fs::rename(part, target).map_err(|error| failed(&error)),
    }
}

fn exists(target: &Path) -> Error {
    Error::new(Code::FILE_EXISTS, format!("{} is there already", target.display()))
        .hint("name another file, or replace it with --force")
}

fn refused(error: &AttachmentError) -> Error {
    Error::new(error.code(), format!("the file cannot be trusted: {error}"))
        .hint("the server or the sender gave other bytes than the message promises; ask for it to be sent again")
}
