//! Files, encrypted in chunks: the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár ("Online Authenticated-Encryption
//! and its Nonce-Reuse Misuse-Resistance", 2015) over AES-256-GCM, in chunks of 64 KiB, under a random key per file.
//!
//! - [`Layout`]: what a size comes to: padding (Padmé), chunks, where each lies in the blob.
//! - [`Chunks`]: one chunk by its position, in any order.
//! - [`Sealer`] and [`Opener`]: a whole file from its beginning, with the hashes that a message names.
//! - [`Resealer`]: a chunk of a file that has been sealed before, again, and only if it is the same.
//!
//! A chunk's nonce is its position and whether it is the last, so chunks that are moved, left out, cut off or added do not open. The
//! key makes the construction's nonce prefix unnecessary: it is zero. Nothing here knows a file or a link, and nothing takes more
//! memory than a chunk, [`Marks`] excepted: 16 bytes for each chunk.
//!
//! **The same position is never encrypted twice with different content.** AES-GCM would lose its key for authentication by it. A sealer
//! passes over a file once and its output is hashed, not sent: only then is the blob's id known. What is sent comes from a
//! [`Resealer`], which gives out a chunk only if its tag is the one of the first pass.

mod layout;
mod opener;
mod sealer;

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use parlour_wire::Code;
use rand::{RngCore as _, rngs::OsRng};
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::{
    layout::{CHUNK, Layout, MAX_SIZE, SEALED_CHUNK, TAG, padme},
    opener::Opener,
    sealer::{Marks, Resealer, Sealed, Sealer},
};

/// Why a file could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttachmentError {
    /// Above [`MAX_SIZE`].
    #[error("a file of {size} bytes is too large")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// The blob's size is not what the file's size comes to.
    #[error("a blob of {got} bytes cannot hold the file: it would have {expected}")]
    WrongSize {
        /// What the size of the file comes to.
        expected: u64,
        /// What was said.
        got: u64,
    },
    /// A chunk of another length than it has at its position: the caller's mistake, or a source that ends early.
    #[error("chunk {chunk} has {got} bytes instead of {expected}")]
    WrongLength {
        /// Which chunk.
        chunk: u32,
        /// What it has at its position.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// There is no such chunk: the file ends before it.
    #[error("there is no chunk {chunk}")]
    PastEnd {
        /// Which chunk.
        chunk: u32,
    },
    /// The chunk does not open: garbled, of another file or position, or under another key.
    #[error("chunk {chunk} is forged or damaged")]
    Forged {
        /// Which chunk.
        chunk: u32,
    },
    /// The padding behind the file holds something.
    #[error("the padding in chunk {chunk} is not empty")]
    BadPadding {
        /// Which chunk.
        chunk: u32,
    },
    /// Chunks are missing.
    #[error("the file ends after {chunks} chunks")]
    Unfinished {
        /// How many there were.
        chunks: u32,
    },
    /// The ciphertext is not the blob that the message names.
    #[error("the blob is another one than the message names")]
    WrongBlob,
    /// The plaintext is not the file that the message names.
    #[error("the file is another one than the message names")]
    WrongContent,
    /// The source does not hold what it held when it was sealed first.
    #[error("the file has changed at chunk {chunk} since it was sealed")]
    SourceChanged {
        /// Which chunk.
        chunk: u32,
    },
}

impl AttachmentError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TOO_LARGE,
            Self::WrongSize { .. } | Self::Unfinished { .. } => Code::SIZE_MISMATCH,
            Self::WrongLength { .. } | Self::PastEnd { .. } => Code::INTERNAL,
            Self::Forged { .. } | Self::BadPadding { .. } | Self::WrongBlob | Self::WrongContent => Code::HASH_MISMATCH,
            Self::SourceChanged { .. } => Code::SOURCE_CHANGED,
        }
    }
}

/// The key of one file, wiped when dropped. It is never used for another file, nor for a file that has changed.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(…)")
    }
}

impl FileKey {
    /// A key nobody has had before.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *key);
        Self(key)
    }

    /// A key from a message, or from the row of a transfer.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, for the message and for the row of a transfer.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Seals and opens the chunks of one file by their position.
pub struct Chunks {
    cipher: LessSafeKey,
    layout: Layout,
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Chunks {
    /// The chunks of a file of this layout.
    #[must_use]
    pub fn new(key: &FileKey, layout: Layout) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &*key.0).expect("a key of 32 bytes");
        Self { cipher: LessSafeKey::new(key), layout }
    }

    /// What the file's size comes to.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Turns the content of a chunk, [`Layout::content_len`] bytes of the file, into its ciphertext. Private to this module: see
    /// its documentation on encrypting a position twice.
    fn seal(&self, chunk: u32, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.expect(chunk, self.layout.content_len(chunk), buffer.len())?;
        buffer.resize(self.layout.padded_len(chunk), 0);
        let sealed = self.cipher.seal_in_place_append_tag(self.nonce(chunk), Aad::empty(), buffer);
        sealed.expect("a chunk is far below the limit of the cipher, and a vector grows");
        Ok(())
    }

    /// Turns the ciphertext of a chunk, [`Layout::sealed_len`] bytes, into its content. After an error the buffer is empty.
    ///
    /// # Errors
    /// [`AttachmentError::Forged`], [`AttachmentError::BadPadding`]; [`AttachmentError::WrongLength`] and
    /// [`AttachmentError::PastEnd`] for what is no chunk of this file.
    pub fn open(&self, chunk: u32, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let outcome = self.try_open(chunk, buffer);
        if outcome.is_err() {
            buffer.clear();
        }
        outcome
    }

    fn try_open(&self, chunk: u32, buffer: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.expect(chunk, self.layout.sealed_len(chunk), buffer.len())?;
        let opened = self.cipher.open_in_place(self.nonce(chunk), Aad::empty(), buffer);
        let padded = opened.map_err(|_| AttachmentError::Forged { chunk })?.len();
        buffer.truncate(padded);
        let content = self.layout.content_len(chunk);
        if buffer[content..].iter().any(|byte| *byte != 0) {
            return Err(AttachmentError::BadPadding { chunk });
        }
        buffer.truncate(content);
        Ok(())
    }

    /// The nonce of STREAM (Hoang and others, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015), with a
    /// prefix of zeros: the position, and whether it is the last.
    fn nonce(&self, chunk: u32) -> Nonce {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&chunk.to_be_bytes());
        nonce[11] = u8::from(self.layout.is_last(chunk));
        Nonce::assume_unique_for_key(nonce)
    }

    fn expect(&self, chunk: u32, expected: usize, got: usize) -> Result<(), AttachmentError> {
        if chunk >= self.layout.chunks() {
            return Err(AttachmentError::PastEnd { chunk });
        }
        if got != expected {
            return Err(AttachmentError::WrongLength { chunk, expected, got });
        }
        Ok(())
    }
}
