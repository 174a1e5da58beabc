//! What a file's size comes to: its padding, its chunks, and where each lies in the blob.

use std::ops::Range;

use parlour_wire::limits;

use super::AttachmentError;

/// Plaintext of a full chunk, in bytes: small enough to be checked while it arrives, large enough that tags cost little.
pub const CHUNK: usize = 64 * 1024;
/// What the cipher adds to a chunk, in bytes.
pub const TAG: usize = 16;
/// Ciphertext of a full chunk, in bytes.
pub const SEALED_CHUNK: usize = CHUNK + TAG;
/// Largest file, in bytes.
pub const MAX_SIZE: u64 = 4 << 30;

const _: () = assert!(MAX_SIZE + (MAX_SIZE / CHUNK as u64 + 1) * TAG as u64 <= limits::BLOB, "a sealed file fits a blob");
const _: () = assert!(MAX_SIZE.is_power_of_two(), "padding leads to no size above the limit");

/// The size that a server sees for a size: Padmé (Nikitin and others, "Reducing Metadata Leakage from Encrypted Files and
/// Communication with PURBs", 2019). At most 12 % more; of a size only the first few bits remain visible.
#[must_use]
pub const fn padme(size: u64) -> u64 {
    if size < 2 {
        return size;
    }
    let exponent = size.ilog2();
    let kept = if exponent == 0 { 0 } else { exponent.ilog2() } + 1;
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    (size + mask) & !mask
}

/// What a file's size comes to. The file is padded with zeros to [`padme`] of its size and cut into chunks of [`CHUNK`] bytes; each
/// gets a tag of [`TAG`] bytes. An empty file has one chunk with nothing but a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
    padded: u64,
}

impl Layout {
    /// The layout of a file of `size` bytes.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`] above [`MAX_SIZE`].
    pub const fn new(size: u64) -> Result<Self, AttachmentError> {
        if size > MAX_SIZE {
            return Err(AttachmentError::TooLarge { size });
        }
        Ok(Self { size, padded: padme(size) })
    }

    /// The layout of a file that a message names, whose two sizes must agree.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`], [`AttachmentError::WrongSize`].
    pub fn checked(size: u64, blob_size: u64) -> Result<Self, AttachmentError> {
        let layout = Self::new(size)?;
        let expected = layout.blob_size();
        if blob_size == expected { Ok(layout) } else { Err(AttachmentError::WrongSize { expected, got: blob_size }) }
    }

    /// Size of the file in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Size of the blob in bytes.
    #[must_use]
    pub const fn blob_size(self) -> u64 {
        self.padded + self.chunks() as u64 * TAG as u64
    }

    /// How many chunks there are; at least one.
    #[must_use]
    pub const fn chunks(self) -> u32 {
        let chunks = self.padded.div_ceil(CHUNK as u64);
        // At most 2^16, by the limit on the size.
        if chunks == 0 { 1 } else { chunks as u32 }
    }

    /// Whether a chunk is the last.
    #[must_use]
    pub const fn is_last(self, chunk: u32) -> bool {
        chunk + 1 == self.chunks()
    }

    /// Bytes of the file in a chunk; 0 for one that is not there or only padding.
    #[must_use]
    pub fn content_len(self, chunk: u32) -> usize {
        within(self.size, chunk)
    }

    /// Bytes of file and padding in a chunk; 0 for one that is not there.
    #[must_use]
    pub fn padded_len(self, chunk: u32) -> usize {
        within(self.padded, chunk)
    }

    /// Bytes of a chunk in the blob; 0 for one that is not there.
    #[must_use]
    pub fn sealed_len(self, chunk: u32) -> usize {
        if chunk < self.chunks() { self.padded_len(chunk) + TAG } else { 0 }
    }

    /// Where a chunk lies in the blob; empty, at its end, for one that is not there.
    #[must_use]
    pub fn sealed_range(self, chunk: u32) -> Range<u64> {
        let start = (u64::from(chunk) * SEALED_CHUNK as u64).min(self.blob_size());
        start..start + self.sealed_len(chunk) as u64
    }

    /// The chunk that holds a byte of the blob; the number of chunks for its end and beyond.
    #[must_use]
    pub fn chunk_at(self, offset: u64) -> u32 {
        if offset >= self.blob_size() {
            return self.chunks();
        }
        u32::try_from(offset / SEALED_CHUNK as u64).unwrap_or(u32::MAX)
    }
}

/// How much of `total` bytes lies in a chunk.
fn within(total: u64, chunk: u32) -> usize {
    let left = total.saturating_sub(u64::from(chunk) * CHUNK as u64);
    usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_padded_as_the_paper_says() {
        for (size, padded) in
            [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (15, 16), (100, 104), (1000, 1024), (65_537, 67_584), (1 << 32, 1 << 32)]
        {
            assert_eq!(padme(size), padded, "{size}");
        }
    }

    #[test]
    fn a_size_above_the_limit_is_refused() {
        assert_eq!(Layout::new(MAX_SIZE).map(Layout::chunks), Ok(65_536));
        assert_eq!(Layout::new(MAX_SIZE + 1), Err(AttachmentError::TooLarge { size: MAX_SIZE + 1 }));
        assert_eq!(Layout::new(u64::MAX), Err(AttachmentError::TooLarge { size: u64::MAX }));
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        assert!(Layout::checked(100, 120).is_ok());
        assert_eq!(Layout::checked(100, 121), Err(AttachmentError::WrongSize { expected: 120, got: 121 }));
    }

    proptest! {
        #[test]
        fn chunks_cover_the_blob_without_a_gap(size in prop_oneof![0..300_000u64, 0..=MAX_SIZE]) {
            let layout = Layout::new(size).expect("in bounds");
            let last = layout.chunks() - 1;
            prop_assert!(layout.padded >= size && layout.padded <= MAX_SIZE);
            prop_assert!(layout.padded - size <= size / 8, "at most 12 % more");
            prop_assert!(layout.is_last(last) && layout.sealed_range(last).end == layout.blob_size());
            prop_assert_eq!(layout.sealed_len(last + 1), 0);
            for chunk in [0, last / 2, last] {
                let range = layout.sealed_range(chunk);
                prop_assert_eq!(range.start, if chunk == 0 { 0 } else { layout.sealed_range(chunk - 1).end });
                prop_assert_eq!(layout.chunk_at(range.start), chunk);
                prop_assert_eq!(layout.chunk_at(range.end - 1), chunk);
            }
        }
    }
}
