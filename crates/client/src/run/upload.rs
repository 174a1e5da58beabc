//! Bringing a file to the server: going over it for the name of its blob, and later sending it, from where the server has it.

use std::{
    collections::VecDeque,
    fs::File,
    io::{ErrorKind, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parlour_e2ee::attachment::{CHUNK, FileKey, Layout, Resealer, Sealed, Sealer};
use parlour_net::Link;
use parlour_wire::{
    BlobId, Code, MessageId,
    api::{BlobBegin, BlobProgress, BlobPut},
};

use super::transfer::{GROUP, STRIDE, Teller, WINDOW, answer, ask, blocking, file_error, modified_ns, open_at_once};
use crate::{
    core::{LocalFile, Outcome, Transferred},
    error::Error,
};

/// How often a server may lose what it has said it has.
const TRIES: u32 = 3;

/// Goes over a file.
pub(super) async fn seal(file: LocalFile, key: [u8; 32]) -> Outcome {
    first_pass(&file, key).await.map(|sealed| Transferred::Sealed(Arc::new(sealed)))
}

/// The outcome of going over a file, which must be what it was.
async fn same(file: &LocalFile, key: [u8; 32], blob: BlobId, sealed: Option<Arc<Sealed>>) -> Result<Arc<Sealed>, Error> {
    let sealed = match sealed {
        Some(sealed) => sealed,
        None => Arc::new(first_pass(file, key).await?),
    };
    if sealed.blob == blob { Ok(sealed) } else { Err(changed(&file.path)) }
}

pub(super) async fn first_pass(file: &LocalFile, key: [u8; 32]) -> Result<Sealed, Error> {
    let local = file.clone();
    let mut source = blocking(move || open(&local)).await?;
    let mut sealer =
        Sealer::new(&FileKey::from_bytes(key), file.size).map_err(|error| Error::new(error.code(), error.to_string()))?;
    let mut buffer = Vec::with_capacity(CHUNK + 16);
    while sealer.wanted().is_some() {
        let path = file.path.clone();
        (source, sealer, buffer) = blocking(move || {
            for _ in 0..STRIDE {
                let Some(wanted) = sealer.wanted() else { break };
                buffer.resize(wanted, 0);
                source.read_exact(&mut buffer).map_err(|error| read_error(&path, &error))?;
                sealer.take(&mut buffer).map_err(Error::internal)?;
            }
            Ok((source, sealer, buffer))
        })
        .await?;
    }
    let local = file.clone();
    blocking(move || unchanged(&source, &local)).await?;
    sealer.finish().map_err(Error::internal)
}

fn open(file: &LocalFile) -> Result<File, Error> {
    let source = open_at_once(&file.path).map_err(|error| open_error(&file.path, &error))?;
    unchanged(&source, file)?;
    Ok(source)
}

fn open_error(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => changed(path),
        _ => file_error("read", path, error),
    }
}

fn unchanged(source: &File, file: &LocalFile) -> Result<(), Error> {
    let metadata = source.metadata().map_err(|error| file_error("read", &file.path, &error))?;
    let same = metadata.is_file() && metadata.len() == file.size && modified_ns(&metadata) == file.modified_ns;
    if same { Ok(()) } else { Err(changed(&file.path)) }
}

fn changed(path: &Path) -> Error {
    Error::new(Code::SOURCE_CHANGED, format!("{} has changed or gone since it was sent", path.display())).hint("send it again")
}

fn read_error(path: &Path, error: &std::io::Error) -> Error {
    if error.kind() == ErrorKind::UnexpectedEof { changed(path) } else { file_error("read", path, error) }
}

/// A file whose chunks can be sealed again in any order, or a blob of the profile's, which is sealed.
pub(super) struct Source {
    file: File,
    layout: Layout,
    resealer: Option<Resealer>,
    path: PathBuf,
}

impl Source {
    /// Opens a file that has been gone over.
    pub(super) fn open(local: LocalFile, key: &FileKey, sealed: &Sealed) -> Result<Self, Error> {
        let resealer = Some(Resealer::new(key, sealed));
        Ok(Self { file: open(&local)?, layout: sealed.layout, resealer, path: local.path })
    }

    /// Opens a blob that is named as its content is hashed.
    fn kept(local: LocalFile) -> Result<Self, Error> {
        let layout = Layout::new(local.size).map_err(|error| Error::new(error.code(), error.to_string()))?;
        let file = open_at_once(&local.path).map_err(|error| open_error(&local.path, &error))?;
        Ok(Self { file, layout, resealer: None, path: local.path })
    }

    /// The ciphertext of a few chunks from `first` on, and the chunk after them.
    pub(super) fn group(&self, first: u32) -> Result<(Vec<u8>, u32), Error> {
        let after = self.layout.chunks().min(first + GROUP);
        let mut group = Vec::new();
        for chunk in first..after {
            let (at, length) = match self.resealer {
                Some(_) => (u64::from(chunk) * CHUNK as u64, self.layout.content_len(chunk)),
                None => (self.layout.sealed_range(chunk).start, self.layout.sealed_len(chunk)),
            };
            let mut buffer = vec![0; length];
            self.file.read_exact_at(&mut buffer, at).map_err(|error| read_error(&self.path, &error))?;
            if let Some(resealer) = &self.resealer {
                resealer.seal(chunk, &mut buffer).map_err(|_| changed(&self.path))?;
            }
            group.append(&mut buffer);
        }
        Ok((group, after))
    }
}

/// What an order to send a file comes to: where its ciphertext is from, and the hash of what is in it.
pub(super) async fn source(
    file: LocalFile,
    key: [u8; 32],
    blob: BlobId,
    sealed: Option<Arc<Sealed>>,
    kept: Option<[u8; 32]>,
) -> Result<(Source, [u8; 32]), Error> {
    if let Some(hash) = kept {
        return Ok((blocking(move || Source::kept(file)).await?, hash));
    }
    let sealed = same(&file, key, blob, sealed).await?;
    let hash = sealed.hash;
    Ok((blocking(move || Source::open(file, &FileKey::from_bytes(key), &sealed)).await?, hash))
}

/// Sends a file, from where the server has it, until the server has all of it.
pub(super) async fn send(
    link: &Link,
    message: MessageId,
    (source, hash): (Source, [u8; 32]),
    blob: BlobId,
    teller: &Teller,
) -> Outcome {
    let source = Arc::new(source);
    let mut failure = None;
    for _ in 0..TRIES {
        match send_once(link, message, &source, blob, teller).await {
            Ok(true) => return Ok(Transferred::Uploaded { hash }),
            Ok(false) => {}
            // The server has kept nothing of it; what it got may have been spoilt on its disk.
            Err(error) if error.code == Code::HASH_MISMATCH => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(failure
        .unwrap_or_else(|| Error::new(Code::SERVER_MISBEHAVED, "the server does not keep the bytes that it has acknowledged")))
}

/// One try; whether the server has it whole.
async fn send_once(link: &Link, message: MessageId, source: &Arc<Source>, blob: BlobId, teller: &Teller) -> Result<bool, Error> {
    let layout = source.layout;
    let total = layout.blob_size();
    let begun: BlobProgress = answer::<BlobBegin>(ask(link, &BlobBegin { blob, size: total })).await?;
    teller.tell(message, true, begun.received.min(total), total);
    if begun.complete {
        return Ok(true);
    }
    // The chunk in which the next byte lies is sent from its beginning; what is there of it is skipped.
    let mut next = layout.chunk_at(begun.received).min(layout.chunks() - 1);
    let mut waiting = VecDeque::with_capacity(WINDOW);
    while next < layout.chunks() || !waiting.is_empty() {
        while next < layout.chunks() && waiting.len() < WINDOW {
            let (from, first) = (Arc::clone(source), next);
            let (data, after) = blocking(move || from.group(first)).await?;
            let offset = layout.sealed_range(next).start;
            let end = offset + data.len() as u64;
            waiting.push_back((end, ask(link, &BlobPut { blob, offset, data })));
            next = after;
        }
        let Some((end, asked)) = waiting.pop_front() else { break };
        let progress: BlobProgress = answer::<BlobPut>(asked).await?;
        if progress.complete {
            teller.tell(message, true, total, total);
            return Ok(true);
        }
        if progress.received < end {
            return Ok(false);
        }
        teller.tell(message, true, end, total);
    }
    Ok(false)
}
