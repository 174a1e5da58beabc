//! Sealing a file: the first pass, which gives what its message says, and the passes after it, which give what is sent.

use parlour_wire::id::BlobId;

use super::{AttachmentError, Chunks, FileKey, Layout, TAG};

/// The tags of all chunks of a file, by which a later pass knows them again. 1 MiB for the largest file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks(Vec<[u8; TAG]>);

/// What the first pass over a file gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// BLAKE3 of the ciphertext, which names the blob.
    pub blob: BlobId,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Sizes of both.
    pub layout: Layout,
    /// For the passes after it.
    pub marks: Marks,
}

/// The first pass: takes a file chunk by chunk. Its ciphertext is hashed and stays here.
#[derive(Debug)]
pub struct Sealer {
    chunks: Chunks,
    next: u32,
    plain: blake3::Hasher,
    blob: blake3::Hasher,
    marks: Vec<[u8; TAG]>,
}

impl Sealer {
    /// Begins with a file of `size` bytes, under a key that no other content has been sealed with.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`].
    pub fn new(key: &FileKey, size: u64) -> Result<Self, AttachmentError> {
        let chunks = Chunks::new(key, Layout::new(size)?);
        Ok(Self { chunks, next: 0, plain: blake3::Hasher::new(), blob: blake3::Hasher::new(), marks: Vec::new() })
    }

    /// How many bytes of the file the next chunk takes; `None` when all have been taken. It can be 0: padding alone fills a chunk,
    /// and an empty file has one.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        let layout = self.chunks.layout();
        (self.next < layout.chunks()).then(|| layout.content_len(self.next))
    }

    /// Takes the next chunk: exactly [`Self::wanted`] bytes of the file. The buffer is empty afterwards and keeps its memory.
    ///
    /// # Errors
    /// [`AttachmentError::WrongLength`], [`AttachmentError::PastEnd`].
    pub fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let content = self.chunks.layout().content_len(self.next).min(buffer.len());
        // Hashed while it is in the cache, before it is overwritten in place; a wrong length ends the pass anyway.
        self.plain.update(&buffer[..content]);
        self.chunks.seal(self.next, buffer)?;
        self.blob.update(buffer);
        self.marks.push(tag_of(buffer));
        self.next += 1;
        buffer.clear();
        Ok(())
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// [`AttachmentError::Unfinished`] if chunks are missing.
    pub fn finish(self) -> Result<Sealed, AttachmentError> {
        let layout = self.chunks.layout();
        if self.next != layout.chunks() {
            return Err(AttachmentError::Unfinished { chunks: self.next });
        }
        Ok(Sealed {
            blob: BlobId(*self.blob.finalize().as_bytes()),
            hash: *self.plain.finalize().as_bytes(),
            layout,
            marks: Marks(self.marks),
        })
    }
}

/// The passes after the first: gives the ciphertext of any chunk as often as it is needed, and only ever the same.
#[derive(Debug)]
pub struct Resealer {
    chunks: Chunks,
    marks: Marks,
}

impl Resealer {
    /// For a file that has been sealed under this key.
    #[must_use]
    pub fn new(key: &FileKey, sealed: &Sealed) -> Self {
        Self { chunks: Chunks::new(key, sealed.layout), marks: sealed.marks.clone() }
    }

    /// What the file's size comes to.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.chunks.layout()
    }

    /// Turns the content of a chunk into its ciphertext. After an error the buffer is empty: nothing may be sent.
    ///
    /// # Errors
    /// [`AttachmentError::SourceChanged`] if the chunk held something else in the first pass, also if the source has become shorter;
    /// [`AttachmentError::PastEnd`].
    pub fn seal(&self, chunk: u32, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let outcome = match self.chunks.seal(chunk, buffer) {
            Err(AttachmentError::WrongLength { .. }) => Err(AttachmentError::SourceChanged { chunk }),
            Ok(()) if self.marks.0.get(chunk as usize) != Some(&tag_of(buffer)) => Err(AttachmentError::SourceChanged { chunk }),
            outcome => outcome,
        };
        if outcome.is_err() {
            buffer.clear();
        }
        outcome
    }
}

fn tag_of(sealed: &[u8]) -> [u8; TAG] {
    *sealed.last_chunk().expect("a sealed chunk ends with its tag")
}
