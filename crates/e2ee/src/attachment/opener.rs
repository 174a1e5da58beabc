//! Opening a file: chunk by chunk while it arrives, and the hashes at its end.

use parlour_wire::{content::Attachment, id::BlobId};

use super::{AttachmentError, Chunks, FileKey, Layout};

/// Takes a blob chunk by chunk and gives the file. Each chunk has been checked when it is given out; that the blob and the file are
/// those of the message is known at [`Self::finish`], and the file may not be shown before.
///
/// To go on with a file of which the first chunks are on disk, give those to [`Self::skip`].
#[derive(Debug)]
pub struct Opener {
    chunks: Chunks,
    next: u32,
    plain: blake3::Hasher,
    blob: blake3::Hasher,
    expected: (BlobId, [u8; 32]),
}

impl Opener {
    /// Begins with the file that a message names.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`]; [`AttachmentError::WrongSize`] if its two sizes contradict each other.
    pub fn new(attachment: &Attachment) -> Result<Self, AttachmentError> {
        let layout = Layout::checked(attachment.size, attachment.blob_size)?;
        let chunks = Chunks::new(&FileKey::from_bytes(attachment.key), layout);
        let expected = (attachment.blob, attachment.hash);
        Ok(Self { chunks, next: 0, plain: blake3::Hasher::new(), blob: blake3::Hasher::new(), expected })
    }

    /// What the file's size comes to.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.chunks.layout()
    }

    /// The next chunk; the number of chunks when all are there.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.next
    }

    /// How many bytes of the blob the next chunk takes; `None` when all are there.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        let layout = self.layout();
        (self.next < layout.chunks()).then(|| layout.sealed_len(self.next))
    }

    /// Takes the next chunk of the blob, exactly [`Self::wanted`] bytes, and leaves the file's bytes in the buffer. After an error the
    /// buffer is empty and the chunk can be fetched again.
    ///
    /// # Errors
    /// As [`Chunks::open`].
    pub fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let before = self.blob.clone();
        self.blob.update(buffer);
        if let Err(error) = self.chunks.open(self.next, buffer) {
            self.blob = before;
            return Err(error);
        }
        self.plain.update(buffer);
        self.next += 1;
        Ok(())
    }

    /// Takes the next chunk as it lies on disk already, exactly its [`Layout::content_len`] bytes, and seals it again for the blob's
    /// hash. It is not checked now: if it is not what it was, [`Self::finish`] says so. The buffer is empty afterwards.
    ///
    /// # Errors
    /// [`AttachmentError::WrongLength`], [`AttachmentError::PastEnd`].
    pub fn skip(&mut self, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let plain = blake3_of(&self.plain, buffer);
        // What comes out is hashed and never leaves, so it does no harm if the content has changed.
        self.chunks.seal(self.next, buffer)?;
        self.plain = plain;
        self.blob.update(buffer);
        self.next += 1;
        buffer.clear();
        Ok(())
    }

    /// Whether the blob and the file are those of the message.
    ///
    /// # Errors
    /// [`AttachmentError::Unfinished`], [`AttachmentError::WrongContent`], [`AttachmentError::WrongBlob`].
    pub fn finish(self) -> Result<(), AttachmentError> {
        if self.next != self.layout().chunks() {
            return Err(AttachmentError::Unfinished { chunks: self.next });
        }
        if self.plain.finalize() != self.expected.1 {
            return Err(AttachmentError::WrongContent);
        }
        if self.blob.finalize() != self.expected.0.0 {
            return Err(AttachmentError::WrongBlob);
        }
        Ok(())
    }
}

fn blake3_of(hasher: &blake3::Hasher, bytes: &[u8]) -> blake3::Hasher {
    let mut next = hasher.clone();
    next.update(bytes);
    next
}
