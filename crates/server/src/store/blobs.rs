//! Where the bytes of blobs are kept: a trait with few methods, and the place in memory. What keeps a blob, and who may read it, is the
//! [`super::Store`]'s to know.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use parlour_wire::{AccountId, BlobId};
use thiserror::Error;

use super::StoreError;

/// Why bytes could not be taken or given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlobError {
    /// There is no such upload or blob.
    #[error("no such blob")]
    Missing,
    /// More bytes than the size that was announced.
    #[error("the blob is longer than announced")]
    TooLong,
    /// The whole has another hash than its id. Nothing of it is kept.
    #[error("the blob has another hash")]
    Mismatch,
    /// The disk failed. What had been taken before is still there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob on its way from an account. Two accounts that store the same blob do not meet before it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upload {
    /// Who stores it.
    pub account: AccountId,
    /// Which.
    pub blob: BlobId,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes from the beginning that are there.
    pub bytes: u64,
    /// Bytes of the whole.
    pub size: u64,
    /// All bytes are there, have the hash that is the id, and are on disk.
    pub whole: bool,
}

/// Work that goes on elsewhere.
pub type Work<T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send>>;

/// A place for bytes. What is called for one upload is done in the order of the calls, whenever the answers are polled.
pub trait Blobs: Send + Sync + 'static {
    /// Begins an upload of `size` bytes, or goes on with one: also with one from before a restart. One of another size is begun anew.
    fn begin(&self, upload: Upload, size: u64) -> Work<Received>;

    /// Takes bytes that begin at `offset`. What is there already is skipped; after a gap nothing is taken, and the answer says where to
    /// go on. Refuses [`BlobError::Missing`] unless begun since the start, [`BlobError::TooLong`], [`BlobError::Mismatch`].
    fn put(&self, upload: Upload, offset: u64, data: Vec<u8>) -> Work<Received>;

    /// Makes an upload that is whole, and has this size, readable under its id; it is when this answers, whatever happens then.
    /// Refuses [`BlobError::Missing`] if it is not so any more: calls for the same upload may have come between.
    fn land(&self, upload: Upload, size: u64) -> Work<()>;

    /// Forgets an upload, if there is one.
    fn discard(&self, upload: Upload) -> Work<()>;

    /// At most `length` bytes of a blob from `offset`; none at its end.
    fn read(&self, blob: BlobId, offset: u64, length: usize) -> Work<Vec<u8>>;

    /// Deletes a blob, if it is there.
    fn remove(&self, blob: BlobId) -> Work<()>;
}

/// Bytes in memory. Nothing survives it.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    uploads: BTreeMap<Upload, (u64, Vec<u8>)>,
    blobs: BTreeMap<BlobId, Vec<u8>>,
}

impl MemoryBlobs {
    fn state(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many blobs are whole, and how many are on their way.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.blobs.len(), state.uploads.len())
    }
}

impl Memory {
    fn received(&mut self, upload: &Upload) -> Result<Received, BlobError> {
        let (size, bytes) = self.uploads.get(upload).ok_or(BlobError::Missing)?;
        let whole = bytes.len() as u64 == *size;
        if whole && blake3::hash(bytes).as_bytes() != upload.blob.as_bytes() {
            self.uploads.remove(upload);
            return Err(BlobError::Mismatch);
        }
        Ok(Received { bytes: bytes.len() as u64, size: *size, whole })
    }

    fn put(&mut self, upload: &Upload, offset: u64, data: &[u8]) -> Result<Received, BlobError> {
        let (size, bytes) = self.uploads.get_mut(upload).ok_or(BlobError::Missing)?;
        if offset.saturating_add(data.len() as u64) > *size {
            return Err(BlobError::TooLong);
        }
        if let Some(skip) = (bytes.len() as u64).checked_sub(offset).and_then(|skip| usize::try_from(skip).ok()) {
            bytes.extend_from_slice(data.get(skip..).unwrap_or_default());
        }
        self.received(upload)
    }
}

fn done<T: Send + 'static>(result: Result<T, BlobError>) -> Work<T> {
    Box::pin(ready(result))
}

impl Blobs for MemoryBlobs {
    fn begin(&self, upload: Upload, size: u64) -> Work<Received> {
        let mut state = self.state();
        let kept = state.uploads.entry(upload).or_insert((size, Vec::new()));
        if kept.0 != size {
            *kept = (size, Vec::new());
        }
        done(state.received(&upload))
    }

    fn put(&self, upload: Upload, offset: u64, data: Vec<u8>) -> Work<Received> {
        done(self.state().put(&upload, offset, &data))
    }

    fn land(&self, upload: Upload, size: u64) -> Work<()> {
        let mut state = self.state();
        // Whole ones that are not what they should be do not stay.
        if !matches!(state.received(&upload), Ok(received) if received.whole && received.size == size) {
            return done(Err(BlobError::Missing));
        }
        let landed = state.uploads.remove(&upload).map(|(_, bytes)| state.blobs.insert(upload.blob, bytes));
        done(landed.map(drop).ok_or(BlobError::Missing))
    }

    fn discard(&self, upload: Upload) -> Work<()> {
        self.state().uploads.remove(&upload);
        done(Ok(()))
    }

    fn read(&self, blob: BlobId, offset: u64, length: usize) -> Work<Vec<u8>> {
        let state = self.state();
        let read = state.blobs.get(&blob).map(|bytes| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes[from..bytes.len().min(from.saturating_add(length))].to_vec()
        });
        done(read.ok_or(BlobError::Missing))
    }

    fn remove(&self, blob: BlobId) -> Work<()> {
        self.state().blobs.remove(&blob);
        done(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite::block_on;

    #[test]
    fn nothing_lands_but_what_is_whole_then() {
        let blobs = MemoryBlobs::default();
        let bytes = vec![7; 10];
        let upload = Upload { account: AccountId([1; 32]), blob: BlobId(*blake3::hash(&bytes).as_bytes()) };
        block_on(blobs.begin(upload, 10)).expect("room");
        assert_eq!(block_on(blobs.land(upload, 10)), Err(BlobError::Missing));
        block_on(blobs.put(upload, 0, bytes.clone())).expect("its bytes");
        assert_eq!(block_on(blobs.land(upload, 9)), Err(BlobError::Missing));
        block_on(blobs.land(upload, 10)).expect("whole");
        assert_eq!(block_on(blobs.read(upload.blob, 0, 20)), Ok(bytes));
    }
}
