//! Compression of a frame's content: four encodings, and a decoder for each that a hostile peer cannot make grow.
//!
//! [`decompress`] is bounded twice: what it produces stops at the caller's limit, and what the decoder itself allocates stops at
//! [`limits::DECODER_MEMORY`], which is more than anything that [`compress`] makes asks for. One stream fills the bytes: what
//! follows it is refused, so a content has one meaning.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;
use flate2::{bufread::GzDecoder, write::GzEncoder};
use thiserror::Error;
use zstd::zstd_safe::{CCtx, DCtx, DParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_ErrorCode};

use crate::limits;

/// zstd's fastest level that still looks for long matches. Its window is 512 KiB at most.
const ZSTD_LEVEL: i32 = 1;
/// The preset of xz with the smallest dictionary, 256 KiB.
const XZ_PRESET: u32 = 0;
/// bzip2 is told nothing about repetitive input: its default of 30.
const BZIP2_WORK_FACTOR: u32 = 0;
/// What a decoder reserves before anything has come out, in bytes: one page.
const FIRST_ROOM: usize = 4096;

/// How a content is compressed. The number is the one on the wire, in the low bits of a frame's flags; 0 is no compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Zstandard (RFC 8878).
    Zstd = 1,
    /// gzip (RFC 1952).
    Gzip = 2,
    /// bzip2.
    Bzip2 = 3,
    /// The .xz format, with LZMA2.
    Xz = 4,
}

impl Encoding {
    /// Every encoding, in order of its number.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Gzip, Self::Bzip2, Self::Xz];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The encoding of a number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Zstd),
            2 => Some(Self::Gzip),
            3 => Some(Self::Bzip2),
            4 => Some(Self::Xz),
            _ => None,
        }
    }

    /// The capability that a peer tells if it can decode this.
    #[must_use]
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// The encoding of a capability, if it is one of these.
    #[must_use]
    pub fn from_capability(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.capability() == name)
    }
}

/// Why a content cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompressError {
    /// More than the limit would come out.
    #[error("more comes out of the compressed content than is allowed")]
    TooLarge,
    /// The decoder would need more memory than [`limits::DECODER_MEMORY`].
    #[error("the compressed content asks for a decoder with more memory than is allowed")]
    Memory,
    /// The end is missing.
    #[error("truncated compressed content")]
    Truncated,
    /// Not this encoding, or damaged.
    #[error("malformed compressed content")]
    Malformed,
    /// Something follows the compressed content: another member, or garbage.
    #[error("bytes left over after the compressed content")]
    Trailing,
}

/// Compresses at a level made for live traffic; `None` if the result would not be smaller, which is given up as soon as it shows.
#[must_use]
pub fn compress(content: &[u8], encoding: Encoding) -> Option<Vec<u8>> {
    let room = content.len().checked_sub(1)?;
    match encoding {
        Encoding::Zstd => {
            let mut out = Vec::with_capacity(room);
            CCtx::create().compress(&mut out, content, ZSTD_LEVEL).ok()?;
            Some(out)
        }
        Encoding::Gzip => {
            let mut out = vec![0; room];
            let mut encoder = GzEncoder::new(&mut out[..], flate2::Compression::fast());
            encoder.write_all(content).ok()?;
            let left = encoder.finish().ok()?.len();
            out.truncate(room - left);
            Some(out)
        }
        Encoding::Bzip2 => {
            let mut out = Vec::with_capacity(room);
            let mut encoder = bzip2::Compress::new(bzip2::Compression::fast(), BZIP2_WORK_FACTOR);
            encode_all(content, &mut out, |rest, out| {
                let before = encoder.total_in();
                let status = encoder.compress_vec(rest, out, bzip2::Action::Finish).ok()?;
                Some(((encoder.total_in() - before) as usize, status == bzip2::Status::StreamEnd))
            })?;
            Some(out)
        }
        Encoding::Xz => {
            let mut out = Vec::with_capacity(room);
            let mut encoder = liblzma::stream::Stream::new_easy_encoder(XZ_PRESET, liblzma::stream::Check::Crc32).ok()?;
            encode_all(content, &mut out, |rest, out| {
                let before = encoder.total_in();
                let status = encoder.process_vec(rest, out, liblzma::stream::Action::Finish).ok()?;
                Some(((encoder.total_in() - before) as usize, status == liblzma::stream::Status::StreamEnd))
            })?;
            Some(out)
        }
    }
}

/// Drives an encoder until it says that its stream has ended; `None` if `out` is full before.
fn encode_all(
    content: &[u8],
    out: &mut Vec<u8>,
    mut step: impl FnMut(&[u8], &mut Vec<u8>) -> Option<(usize, bool)>,
) -> Option<()> {
    let mut rest = content;
    while out.len() < out.capacity() {
        let (taken, ended) = step(rest, out)?;
        if ended {
            return Some(());
        }
        rest = &rest[taken..];
    }
    None
}

/// Decompresses one stream that fills `bytes`.
///
/// # Errors
/// [`CompressError`]; nothing beyond `limit` bytes has been kept then, whatever the bytes announce.
pub fn decompress(bytes: &[u8], encoding: Encoding, limit: usize) -> Result<Bytes, CompressError> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Zstd => unzstd(bytes, limit, &mut out)?,
        Encoding::Gzip => ungzip(bytes, limit, &mut out)?,
        Encoding::Bzip2 => unbzip2(bytes, limit, &mut out)?,
        Encoding::Xz => unxz(bytes, limit, &mut out)?,
    }
    // Whoever keeps it pays for its bytes, and not for the guess how many there would be.
    out.shrink_to_fit();
    Ok(Bytes::from(out))
}

fn unzstd(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    // Half of the memory for the window; the decoder's buffers and tables fit the other half.
    let window_log = (limits::DECODER_MEMORY / 2).ilog2();
    let mut decoder = DCtx::try_create().ok_or(CompressError::Memory)?;
    decoder.set_parameter(DParameter::WindowLogMax(window_log)).map_err(|_| CompressError::Memory)?;
    decode_all(bytes, limit, out, |rest, out| {
        let mut input = InBuffer::around(rest);
        let written = out.len();
        let hint = decoder.decompress_stream(&mut OutBuffer::around_pos(out, written), &mut input).map_err(zstd_error)?;
        Ok((input.pos(), hint == 0))
    })
}

fn zstd_error(code: usize) -> CompressError {
    // The C library returns its error numbers negated.
    match code.wrapping_neg() {
        number if number == ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize => CompressError::Memory,
        number if number == ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize => CompressError::Memory,
        _ => CompressError::Malformed,
    }
}

fn ungzip(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let mut decoder = GzDecoder::new(bytes);
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.by_ref().take(one_more).read_to_end(out) {
        Ok(_) if out.len() > limit => Err(CompressError::TooLarge),
        Ok(_) if !decoder.into_inner().is_empty() => Err(CompressError::Trailing),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(CompressError::Truncated),
        Err(_) => Err(CompressError::Malformed),
    }
}

fn unbzip2(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    // Bounded by its format: 3.7 MB for the largest block size that a stream can name.
    let mut decoder = bzip2::Decompress::new(false);
    decode_all(bytes, limit, out, |rest, out| {
        let before = decoder.total_in();
        let status = decoder.decompress_vec(rest, out).map_err(|_| CompressError::Malformed)?;
        if status == bzip2::Status::MemNeeded {
            return Err(CompressError::Memory);
        }
        Ok(((decoder.total_in() - before) as usize, status == bzip2::Status::StreamEnd))
    })
}

fn unxz(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    use liblzma::stream::{Action, Error, Status, Stream};
    let mut decoder = Stream::new_stream_decoder(limits::DECODER_MEMORY as u64, 0).map_err(|_| CompressError::Memory)?;
    decode_all(bytes, limit, out, |rest, out| {
        let before = decoder.total_in();
        match decoder.process_vec(rest, out, Action::Run) {
            Ok(status) => Ok(((decoder.total_in() - before) as usize, status == Status::StreamEnd)),
            Err(Error::MemLimit | Error::Mem) => Err(CompressError::Memory),
            Err(_) => Err(CompressError::Malformed),
        }
    })
}

/// Drives a decoder until it says that its stream has ended. `step` takes what is left of the bytes, appends to the spare
/// capacity of the vector, and returns how many bytes it took and whether the stream has ended.
fn decode_all(
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
    mut step: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(usize, bool), CompressError>,
) -> Result<(), CompressError> {
    // One byte more than the limit tells what fits from what does not.
    let most = limit.saturating_add(1);
    let mut rest = bytes;
    loop {
        if out.len() == out.capacity() {
            let wanted = out.capacity().saturating_mul(2).max(FIRST_ROOM).max(bytes.len().saturating_mul(4)).min(most);
            out.reserve_exact(wanted - out.len());
        }
        let before = out.len();
        let (taken, ended) = step(rest, out)?;
        rest = &rest[taken..];
        if out.len() > limit {
            return Err(CompressError::TooLarge);
        }
        match (ended, rest.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err(CompressError::Trailing),
            (false, _) if taken > 0 || out.len() > before => {}
            (false, true) => return Err(CompressError::Truncated),
            (false, false) => return Err(CompressError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bomb(encoding: Encoding, size: usize) -> Vec<u8> {
        compress(&vec![0; size], encoding).expect("zeros shrink")
    }

    #[test]
    fn what_was_decompressed_takes_no_more_room_than_it_needs() {
        // Hardly smaller when it is compressed, so that a guess from its size is far too much.
        let mut content = Vec::new();
        for n in 0..3000_u32 {
            content.extend_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        }
        content.resize(content.len() + 2000, 0);
        for encoding in Encoding::ALL {
            let Some(compressed) = compress(&content, encoding) else { panic!("{encoding:?}") };
            let again = decompress(&compressed, encoding, 1 << 20).unwrap();
            assert_eq!(again.len(), content.len());
            let capacity = again.try_into_mut().unwrap().capacity();
            assert!(capacity <= content.len() + content.len() / 4, "{encoding:?}: {capacity}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        type Decoder = fn(&[u8], usize, &mut Vec<u8>) -> Result<(), CompressError>;
        let decoders: [(Encoding, Decoder); 4] =
            [(Encoding::Zstd, unzstd), (Encoding::Gzip, ungzip), (Encoding::Bzip2, unbzip2), (Encoding::Xz, unxz)];
        for (encoding, decoder) in decoders {
            let (bomb, limit) = (bomb(encoding, 64 * limits::FRAME), 100_000);
            let mut out = Vec::new();
            assert_eq!(decoder(&bomb, limit, &mut out), Err(CompressError::TooLarge), "{encoding:?}");
            assert!(out.len() <= limit + 1 && out.capacity() <= 2 * limit, "{encoding:?}: {} bytes", out.capacity());
        }
    }

    #[test]
    fn numbers_and_capabilities_name_the_same_encodings() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_number(encoding.number()), Some(encoding));
            assert_eq!(Encoding::from_capability(encoding.capability()), Some(encoding));
        }
        assert_eq!((Encoding::from_number(0), Encoding::from_number(5)), (None, None));
        assert_eq!(Encoding::from_capability("lz4"), None);
    }
}
