//! QUIC streams as ways for frames: each frame with its length before it, four bytes, big endian.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};
use bytes::{Buf, BufMut, BytesMut};
use parlour_wire::{DecodeError, Frame, limits};

use crate::{
    buffers::{self, Buffer},
    carrier::{CarrierError, alone},
};

/// Size of a length before a frame.
const LENGTH: usize = 4;
/// What one read takes at most.
const READ: usize = 64 * 1024;
/// Frames that are shorter do not get a buffer of their own: a chunk takes as much credit as it has bytes, and such a buffer is as
/// large as the largest.
const LARGE: usize = limits::STREAM_CHUNK;
/// What must have arrived of a frame before it gets one: an announcement alone costs the peer nothing.
const LARGE_ARRIVED: usize = 4 * 1024;

thread_local! {
    /// What all connections of a thread read into, so that a silent one needs nothing.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

impl From<ReadError> for CarrierError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Reset(_) | ReadError::ClosedStream => Self::Closed,
            error @ ReadError::ZeroRttRejected => Self::Io(error.into()),
        }
    }
}

impl From<WriteError> for CarrierError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(_) | WriteError::ClosedStream => Self::Closed,
            error @ WriteError::ZeroRttRejected => Self::Io(error.into()),
        }
    }
}

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
struct Cutter {
    /// What has arrived and is not a whole frame yet.
    arrived: BytesMut,
    /// A large frame that is arriving in a buffer of its own, and its size.
    large: Option<(Buffer, usize)>,
}

impl Cutter {
    /// The place for the rest of a large frame; [`Cutter::advance`] says how much of it has arrived.
    fn room(&mut self) -> Option<&mut [u8]> {
        self.large.as_mut().map(|(buffer, size)| buffer.room(*size))
    }

    fn advance(&mut self, bytes: usize) {
        if let Some((buffer, _)) = &mut self.large {
            buffer.advance(bytes);
        }
    }

    /// Adds what has arrived where there is no room for the rest of a large frame.
    fn push(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.large.is_none()
    }

    /// The next whole frame.
    fn next(&mut self, limit: usize) -> Result<Option<Frame>, CarrierError> {
        if let Some((buffer, size)) = self.large.take() {
            if buffer.len() < size {
                self.large = Some((buffer, size));
                return Ok(None);
            }
            return Ok(Some(Frame::decode(buffer.freeze())?));
        }
        let Some(size) = self.arrived.first_chunk::<LENGTH>() else {
            if self.arrived.is_empty() {
                self.arrived = BytesMut::new();
            }
            return Ok(None);
        };
        let size = usize::try_from(u32::from_be_bytes(*size)).map_err(|_| DecodeError::TooLong("frame"))?;
        if size > limit {
            return Err(DecodeError::TooLong("frame").into());
        }
        if self.arrived.len() >= LENGTH + size {
            self.arrived.advance(LENGTH);
            return Ok(Some(alone(Frame::decode(self.arrived.split_to(size).freeze())?)));
        }
        if (LARGE..=buffers::SIZE).contains(&size) && self.arrived.len() >= LARGE_ARRIVED {
            let mut buffer = Buffer::new();
            buffer.put(&self.arrived[LENGTH..]);
            self.arrived = BytesMut::new();
            self.large = Some((buffer, size));
        }
        Ok(None)
    }
}

/// A way in.
#[derive(Debug)]
pub(super) struct Inlet {
    recv: RecvStream,
    cutter: Cutter,
}

impl Inlet {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self { recv, cutter: Cutter::default() }
    }

    /// Reads what is there; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
        let Self { recv, cutter } = self;
        if let Some(room) = cutter.room() {
            let read = ready!(recv.poll_read(cx, room))?;
            cutter.advance(read);
            return Poll::Ready(Ok(read));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let read = ready!(recv.poll_read(cx, scratch))?;
            cutter.push(&scratch[..read]);
            Poll::Ready(Ok(read))
        })
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<Option<Frame>, CarrierError>> {
        loop {
            if let Some(frame) = self.cutter.next(limit)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(if self.cutter.is_empty() { Ok(None) } else { Err(DecodeError::Truncated.into()) });
            }
        }
    }

    /// The first bytes, which stand before all frames.
    pub(super) fn poll_head<const SIZE: usize>(&mut self, cx: &mut Context<'_>) -> Poll<Result<[u8; SIZE], CarrierError>> {
        loop {
            let arrived = &mut self.cutter.arrived;
            if let Some(head) = arrived.first_chunk::<SIZE>().copied() {
                arrived.advance(SIZE);
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(DecodeError::Truncated.into()));
            }
        }
    }

    /// Drops what has arrived.
    pub(super) fn discard(&mut self) {
        self.cutter = Cutter::default();
    }
}

/// A way out.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) send: SendStream,
    outgoing: BytesMut,
}

impl Outlet {
    pub(super) fn new(send: SendStream, outgoing: BytesMut) -> Self {
        Self { send, outgoing }
    }

    pub(super) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    pub(super) fn put(&mut self, frame: &Frame) -> Result<(), CarrierError> {
        put(&mut self.outgoing, frame)
    }

    pub(super) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.send).poll_write(cx, &self.outgoing))?;
            self.outgoing.advance(written);
        }
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

pub(super) fn put(out: &mut BytesMut, frame: &Frame) -> Result<(), CarrierError> {
    let length = u32::try_from(frame.size()).map_err(|_| DecodeError::TooLong("frame"))?;
    let before = out.len();
    out.put_u32(length);
    frame.encode(out).inspect_err(|_| out.truncate(before))?;
    Ok(())
}

/// For the fuzz target `quic`: what comes out of bytes that arrive in pieces of this size.
pub(super) fn cut(limit: usize, piece: usize, mut bytes: &[u8]) -> Result<(Vec<Frame>, bool), CarrierError> {
    let (mut cutter, mut frames) = (Cutter::default(), Vec::new());
    while !bytes.is_empty() {
        let mut read = piece.clamp(1, bytes.len());
        if let Some(room) = cutter.room() {
            read = read.min(room.len());
            room[..read].copy_from_slice(&bytes[..read]);
            cutter.advance(read);
        } else {
            cutter.push(&bytes[..read]);
        }
        bytes = &bytes[read..];
        while let Some(frame) = cutter.next(limit)? {
            frames.push(frame);
        }
        assert!(cutter.arrived.len() <= LENGTH + limit + piece, "more is kept than a frame");
    }
    Ok((frames, cutter.is_empty()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parlour_wire::Kind;
    use proptest::prelude::*;

    use super::*;

    /// Lets bytes arrive as a stream would bring them, in pieces of these sizes.
    fn arrive(cutter: &mut Cutter, mut bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, CarrierError> {
        let (mut frames, mut pieces) = (Vec::new(), pieces.iter().cycle());
        while !bytes.is_empty() {
            let piece = (*pieces.next().unwrap()).min(bytes.len());
            let read = match cutter.room() {
                Some(room) => {
                    let read = piece.min(room.len());
                    room[..read].copy_from_slice(&bytes[..read]);
                    cutter.advance(read);
                    read
                }
                None => {
                    cutter.push(&bytes[..piece]);
                    piece
                }
            };
            bytes = &bytes[read..];
            while let Some(frame) = cutter.next(limits::FRAME)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_are_cut_the_same_however_they_arrive(
            sizes in prop::collection::vec(prop_oneof![0_usize..300, LARGE - 200..LARGE + 200, 0..200_000_usize], 1..6),
            pieces in prop::collection::vec(prop_oneof![1_usize..64, 1..READ], 1..8),
        ) {
            let frame = |(n, size): (usize, &usize)| Frame { id: n as u64, content: vec![n as u8; *size].into(), ..Frame::new(Kind::ACTION) };
            let frames: Vec<Frame> = sizes.iter().enumerate().map(frame).collect();
            let mut bytes = BytesMut::new();
            frames.iter().for_each(|frame| put(&mut bytes, frame).unwrap());
            let mut cutter = Cutter::default();
            prop_assert!(arrive(&mut cutter, &bytes, &pieces).unwrap() == frames);
            prop_assert!(cutter.is_empty());
        }

        #[test]
        fn no_bytes_make_the_cutter_panic_or_hold_more_than_a_frame(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            size in prop_oneof![0_u32..100, any::<u32>()],
            pieces in prop::collection::vec(1_usize..64, 1..8),
        ) {
            let bytes = [&size.to_be_bytes()[..], &bytes[..]].concat();
            let mut cutter = Cutter::default();
            if arrive(&mut cutter, &bytes, &pieces).is_ok() {
                prop_assert!(size as usize <= limits::FRAME);
            }
            prop_assert!(cutter.arrived.len() <= LENGTH + limits::FRAME);
        }
    }

    #[test]
    fn a_chunk_holds_no_more_memory_than_its_credit_covers() {
        for size in [LARGE_ARRIVED, 20 * 1024, 60 * 1024] {
            let frame = Frame { content: vec![7; size].into(), ..Frame::new(Kind::STREAM_DATA) };
            let mut bytes = BytesMut::new();
            put(&mut bytes, &frame).unwrap();
            let mut frames = arrive(&mut Cutter::default(), &bytes, &[LARGE_ARRIVED + 100, READ]).unwrap();
            let content = frames.remove(0).content.try_into_mut().expect("a place of its own");
            assert!(content.capacity() <= 2 * size, "{size}: {}", content.capacity());
        }
    }

    #[test]
    fn a_frame_that_cannot_be_sent_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let frame = Frame { content: Bytes::from(vec![0; limits::FRAME]), ..Frame::new(Kind::ACTION) };
        assert!(put(&mut out, &frame).is_err());
        assert_eq!(&out[..], b"before");
    }
}
