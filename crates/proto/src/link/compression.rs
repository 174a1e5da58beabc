//! Compression of contents: what both sides can do is told in the greeting; what is compressed is decided frame by frame when it
//! leaves, so a frame that is sent again over another connection is compressed as that one allows.

use bytes::Bytes;
use parlour_wire::{
    CompressError, Encoding, Frame, Kind, compress, decompress, frame::ENCODING_FLAGS, frame::PROTO_HEADER, limits,
};

use super::{Link, error::Violation};

impl Link {
    /// The capabilities to tell the peer. Encodings are told if they are decoded, and never by the application.
    pub(super) fn offer(&self) -> Vec<String> {
        let own = self.config.capabilities.iter().filter(|name| Encoding::from_capability(name).is_none()).cloned();
        own.chain(self.config.compression.iter().map(|encoding| encoding.capability().to_owned())).collect()
    }

    /// Chooses how to compress what leaves: the first of our encodings that the peer can decode.
    pub(super) fn agree(&mut self, capabilities: &[String]) {
        let told = |encoding: &&Encoding| capabilities.iter().any(|name| name == encoding.capability());
        self.encoding = self.config.compression.iter().find(told).copied();
    }

    /// The frame as it leaves: compressed, if that makes it smaller.
    pub(super) fn compressed(&self, mut frame: Frame) -> Frame {
        if let Some(encoding) = self.encoding
            && frame.content.len() >= limits::COMPRESS_MIN
            && frame.kind.may_be_compressed()
            && let Some(content) = compress(&frame.content, encoding)
        {
            frame.content = Bytes::from(content);
            frame.flags |= u16::from(encoding.number());
        }
        frame
    }

    /// The bytes that frames have come to beyond those that arrived, since this was last asked. A driver counts them to what it reads.
    #[must_use]
    pub fn take_unpacked(&mut self) -> usize {
        self.inbox.take_unpacked()
    }

    /// Undoes the peer's compression, within the bounds that hold for content that is not compressed.
    pub(super) fn decompress(&mut self, frame: &mut Frame) -> Result<(), Violation> {
        let number = frame.flags & ENCODING_FLAGS;
        if number == 0 {
            return Ok(());
        }
        let kind = frame.kind;
        let encoding = u8::try_from(number).ok().and_then(Encoding::from_number);
        let offered = encoding.filter(|encoding| kind.may_be_compressed() && self.config.compression.contains(encoding));
        let encoding = offered.ok_or(Violation::NotOffered(kind))?;
        let limit = match kind {
            Kind::STREAM_DATA => limits::STREAM_CHUNK,
            _ => limits::FRAME - PROTO_HEADER - frame.header.len(),
        };
        let arrived = frame.size();
        frame.content = decompress(&frame.content, encoding, limit).map_err(|error| Violation::Compressed(kind, error))?;
        let more = frame.size().saturating_sub(arrived);
        self.inbox.unpacked(more);
        // The sender keeps the frame as it was before compression, so that is what an acknowledgement relieves it of.
        if kind.is_sequenced() {
            self.inbox.weigh(more);
        }
        frame.flags &= !ENCODING_FLAGS;
        Ok(())
    }
}

impl Violation {
    /// Whether compressed content was larger than content may be.
    pub(super) fn is_bomb(self) -> bool {
        matches!(self, Self::Compressed(_, CompressError::TooLarge | CompressError::Memory))
    }
}
