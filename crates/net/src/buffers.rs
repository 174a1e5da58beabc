//! Memory for chunks of streams on their way in.
//!
//! A chunk is filled by a driver, emptied by an application, and as large as what an allocator gets from the system and gives back
//! at once: every byte would come in through a page fault. So the last buffers are kept, few for the whole program.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parlour_wire::{frame::PROTO_HEADER, limits};

/// Size of a buffer: the largest frame of a stream.
pub(crate) const SIZE: usize = PROTO_HEADER + limits::STREAM_MARK + limits::STREAM_CHUNK;
/// Buffers kept: some megabytes, so that several streams have theirs under way.
const SPARES: usize = 64;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

fn spare() -> MutexGuard<'static, Vec<Box<[u8]>>> {
    // Nothing that runs under the lock can panic half-way.
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer of [`SIZE`] bytes, with what has been put into it.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = spare().pop();
        Self { memory: memory.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()), filled: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Adds bytes that are known to have room.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.memory[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// The place for what is still to come, up to this many bytes in all; [`Buffer::advance`] says how much has.
    #[cfg(feature = "iroh")]
    pub(crate) fn room(&mut self, whole: usize) -> &mut [u8] {
        &mut self.memory[self.filled..whole]
    }

    #[cfg(feature = "iroh")]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.filled += bytes;
        debug_assert!(self.filled <= self.memory.len());
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.filled]
    }

    /// What has been put in, shared. The buffer is kept for others when the last share is gone.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut spare = spare();
        if spare.len() < SPARES {
            spare.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_share_is_gone() {
        let mut buffer = Buffer::new();
        buffer.put(b"some");
        buffer.put(b"thing");
        buffer.filled_mut()[0] = b'S';
        let bytes = buffer.freeze();
        let share = bytes.slice(4..);
        drop(bytes);
        assert_eq!(&share[..], b"thing");
        let before = spare().len();
        drop(share);
        assert_eq!(spare().len(), before + 1);
    }
}
