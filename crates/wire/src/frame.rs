//! The unit of the link: a fixed proto-header of 28 bytes, a CBOR header, content.
//!
//! ```text
//!  0      1        2     3             4      6            8             12       20       28
//!  magic  version  kind  content type  flags  header size  content size  seq      id       header, content
//!  u8     u8       u8    u8            u16    u16          u32           u64      u64      (big endian)
//! ```
//!
//! `seq` numbers the frames that matter, from 1 in each direction of a session; 0 means unsequenced. `id` is the number of a
//! request or stream, the acknowledged sequence number of an ack, the nonce of a ping. Unknown kinds, flags, content types
//! and header fields survive: a decoded frame encodes to the bytes it came from.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{codec::DecodeError, limits};

/// First byte of every frame.
pub const MAGIC: u8 = b'P';
/// Version of the framing. What a peer can do is said in capabilities, not here.
pub const VERSION: u8 = 1;
/// Size of the proto-header in bytes.
pub const PROTO_HEADER: usize = 28;
/// The bits of a frame's flags that say how its content is compressed: 0, or the number of a [`crate::Encoding`].
pub const ENCODING_FLAGS: u16 = 0b111;

/// What a frame is. Values without a name are carried, and ignored by the link machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// First frame of a client: capabilities.
    pub const HELLO: Self = Self(1);
    /// First frame of a server: capabilities, session, challenge.
    pub const WELCOME: Self = Self(2);
    /// First frame of a client that comes back to its session.
    pub const RESUME: Self = Self(3);
    /// A named message without an answer.
    pub const ACTION: Self = Self(4);
    /// A named message that is always answered.
    pub const REQUEST: Self = Self(5);
    /// The value that answers a request.
    pub const RESPONSE: Self = Self(6);
    /// The error that answers a request.
    pub const ERROR: Self = Self(7);
    /// How far a request has come.
    pub const PROGRESS: Self = Self(8);
    /// The asker has lost interest.
    pub const CANCEL: Self = Self(9);
    /// A chunk of a stream. Its header is the chunk's mark: bytes of the application, not CBOR.
    pub const STREAM_DATA: Self = Self(11);
    /// What the receiver of a stream lets its sender send, or that it wants no more.
    pub const STREAM_CREDIT: Self = Self(12);
    /// The last of a stream: complete, or given up.
    pub const STREAM_END: Self = Self(13);
    /// Cumulative acknowledgement of sequenced frames.
    pub const ACK: Self = Self(14);
    /// Are you there?
    pub const PING: Self = Self(15);
    /// I am.
    pub const PONG: Self = Self(16);
    /// The session ends here.
    pub const CLOSE: Self = Self(17);
    /// Send no further actions and requests for now (id 1), or go on (id 0).
    pub const HOLD: Self = Self(18);

    /// Whether frames of this kind are numbered, acknowledged and sent again after a loss.
    #[must_use]
    pub const fn is_sequenced(self) -> bool {
        matches!(self, Self::ACTION | Self::REQUEST | Self::RESPONSE | Self::ERROR | Self::PROGRESS | Self::CANCEL)
    }

    /// Whether frames of this kind live and die with their connection, as all of a stream's do.
    #[must_use]
    pub const fn is_of_stream(self) -> bool {
        matches!(self, Self::STREAM_DATA | Self::STREAM_CREDIT | Self::STREAM_END)
    }

    /// Whether the content of this kind may be compressed.
    #[must_use]
    pub const fn may_be_compressed(self) -> bool {
        matches!(self, Self::ACTION | Self::REQUEST | Self::RESPONSE | Self::STREAM_DATA)
    }
}

/// How the content is to be read. Values without a name are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentType(pub u8);

impl ContentType {
    /// No content, or bytes without a type.
    pub const BYTES: Self = Self(0);
    /// CBOR (RFC 8949).
    pub const CBOR: Self = Self(1);
    /// JSON (RFC 8259).
    pub const JSON: Self = Self(2);
    /// UTF-8 text.
    pub const TEXT: Self = Self(3);
}

/// One frame. `header` and `content` are shared slices: decoding copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is.
    pub kind: Kind,
    /// How to read the content.
    pub content_type: ContentType,
    /// How the content is compressed ([`ENCODING_FLAGS`]), and bits that no version has given a meaning yet; kept.
    pub flags: u16,
    /// Sequence number, or 0.
    pub seq: u64,
    /// Number of a request or stream, acknowledged number or nonce, by kind.
    pub id: u64,
    /// The CBOR header (see [`crate::header`]); may be empty.
    pub header: Bytes,
    /// The content.
    pub content: Bytes,
}

impl Frame {
    /// A frame of this kind with nothing in it.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, content_type: ContentType::BYTES, flags: 0, seq: 0, id: 0, header: Bytes::new(), content: Bytes::new() }
    }

    /// Size on the wire in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        PROTO_HEADER + self.header.len() + self.content.len()
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if header or frame exceed [`limits`]; `out` is untouched then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), DecodeError> {
        let (header_len, content_len) = self.checked_sizes()?;
        out.reserve(self.size());
        out.put_u8(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.kind.0);
        out.put_u8(self.content_type.0);
        out.put_u16(self.flags);
        out.put_u16(header_len);
        out.put_u32(content_len);
        out.put_u64(self.seq);
        out.put_u64(self.id);
        out.put_slice(&self.header);
        out.put_slice(&self.content);
        Ok(())
    }

    /// The frame as bytes of its own.
    ///
    /// # Errors
    /// As [`Frame::encode`].
    pub fn to_bytes(&self) -> Result<Bytes, DecodeError> {
        let mut out = BytesMut::with_capacity(self.size());
        self.encode(&mut out)?;
        Ok(out.freeze())
    }

    fn checked_sizes(&self) -> Result<(u16, u32), DecodeError> {
        if self.header.len() > limits::FRAME_HEADER {
            return Err(DecodeError::TooLong("frame header"));
        }
        if self.size() > limits::FRAME {
            return Err(DecodeError::TooLong("frame"));
        }
        let header_len = u16::try_from(self.header.len()).map_err(|_| DecodeError::TooLong("frame header"))?;
        let content_len = u32::try_from(self.content.len()).map_err(|_| DecodeError::TooLong("frame"))?;
        Ok((header_len, content_len))
    }

    /// Reads a message that holds exactly one frame, as WebSocket messages do.
    ///
    /// # Errors
    /// Any [`DecodeError`] of [`Sizes::read`]; [`DecodeError::Truncated`] or [`DecodeError::Trailing`] if the sizes do not add up.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let Some(sizes) = Sizes::read(&bytes)? else { return Err(DecodeError::Truncated) };
        match bytes.len() {
            len if len < sizes.total() => Err(DecodeError::Truncated),
            len if len > sizes.total() => Err(DecodeError::Trailing),
            _ => Ok(Self::take(&mut bytes, sizes)),
        }
    }

    /// Takes a frame whose bytes are known to be there.
    fn take(bytes: &mut Bytes, sizes: Sizes) -> Self {
        let mut proto = bytes.split_to(PROTO_HEADER);
        proto.advance(2);
        Self {
            kind: Kind(proto.get_u8()),
            content_type: ContentType(proto.get_u8()),
            flags: proto.get_u16(),
            seq: {
                proto.advance(6);
                proto.get_u64()
            },
            id: proto.get_u64(),
            header: bytes.split_to(sizes.header),
            content: bytes.split_to(sizes.content),
        }
    }
}

/// The sizes that a proto-header announces, checked against the limits before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// CBOR header, in bytes.
    pub header: usize,
    /// Content, in bytes.
    pub content: usize,
}

impl Sizes {
    /// Reads the sizes, or `None` if the proto-header is not complete yet. Wrong magic is noticed at the first byte.
    ///
    /// # Errors
    /// [`DecodeError::BadMagic`], [`DecodeError::TooLong`].
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        if bytes.first().is_some_and(|magic| *magic != MAGIC) || bytes.get(1).is_some_and(|version| *version != VERSION) {
            return Err(DecodeError::BadMagic);
        }
        let Some(mut sizes) = bytes.get(6..12) else { return Ok(None) };
        let header = usize::from(sizes.get_u16());
        let content = usize::try_from(sizes.get_u32()).map_err(|_| DecodeError::TooLong("frame"))?;
        if header > limits::FRAME_HEADER {
            return Err(DecodeError::TooLong("frame header"));
        }
        if content > limits::FRAME - PROTO_HEADER - header {
            return Err(DecodeError::TooLong("frame"));
        }
        Ok(Some(Self { header, content }))
    }

    /// Size of the whole frame in bytes.
    #[must_use]
    pub const fn total(self) -> usize {
        PROTO_HEADER + self.header + self.content
    }
}

/// Cuts a stream of bytes into frames, however the bytes arrive. For carriers without message boundaries.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// Any [`DecodeError`] of [`Sizes::read`]. The stream cannot be followed after an error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        match Sizes::read(&self.buffer)? {
            Some(sizes) if self.buffer.len() >= sizes.total() => {
                let mut bytes = self.buffer.split_to(sizes.total()).freeze();
                Ok(Some(Frame::take(&mut bytes, sizes)))
            }
            _ => Ok(None),
        }
    }

    /// Bytes held for a frame that is not complete.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Frame {
        Frame {
            kind: Kind(200),
            content_type: ContentType(9),
            flags: 0x8001,
            seq: 7,
            id: u64::MAX,
            header: Bytes::from_static(&[0xa0]),
            content: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn unknown_kinds_types_and_flags_survive() {
        let frame = sample();
        let bytes = frame.to_bytes().expect("small");
        assert_eq!(Frame::decode(bytes), Ok(frame));
    }

    #[test]
    fn frames_are_cut_from_single_bytes() {
        let bytes = [sample().to_bytes().expect("small"), sample().to_bytes().expect("small")].concat();
        let mut decoder = FrameDecoder::default();
        let mut frames = 0;
        for byte in bytes {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next_frame().expect("valid") {
                assert_eq!(frame, sample());
                frames += 1;
            }
        }
        assert_eq!((frames, decoder.buffered()), (2, 0));
    }

    #[test]
    fn sizes_are_refused_before_the_bytes_are_there() {
        let mut bytes = BytesMut::from(&sample().to_bytes().expect("small")[..]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Sizes::read(&bytes[..12]), Err(DecodeError::TooLong("frame")));
        bytes[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(Sizes::read(&bytes[..12]), Err(DecodeError::TooLong("frame header")));
        assert_eq!(Sizes::read(b"G"), Err(DecodeError::BadMagic));
        assert_eq!(Sizes::read(b"P\x02"), Err(DecodeError::BadMagic));
    }

    #[test]
    fn an_oversized_frame_is_not_encoded() {
        let frame = Frame { content: Bytes::from(vec![0; limits::FRAME]), ..Frame::new(Kind::ACTION) };
        let mut out = BytesMut::new();
        assert_eq!(frame.encode(&mut out), Err(DecodeError::TooLong("frame")));
        assert!(out.is_empty());
    }
}
