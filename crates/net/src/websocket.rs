//! The WebSocket carrier (RFC 6455): one binary message per frame.
//!
//! The handshake and the frame headers are tungstenite's; the buffers are ours, because its own hold 4 KB and more for every
//! silent connection and keep the size of the largest burst. Here a connection that is silent holds nothing: it copies what has
//! arrived out of the TLS layer, and gives its write buffer back when that is empty. Chunks of streams go straight into buffers
//! of their own.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parlour_wire::{DecodeError, Frame, limits};
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::{
    buffers::{self, Buffer},
    carrier::{Carrier, CarrierError, alone},
};

/// Bytes that may wait for the connection before no more frames are taken.
const WRITE_HIGH: usize = 64 * 1024;
/// Messages that are shorter do not get a buffer of their own: a chunk takes as much credit as it has bytes, and such a buffer is as
/// large as the largest.
const LARGE: usize = limits::STREAM_CHUNK;
/// What must have arrived of a message before it gets one: an announcement alone costs the peer nothing.
const LARGE_ARRIVED: usize = 4 * 1024;
/// Largest control payload (RFC 6455, section 5.5).
const CONTROL_MAX: usize = 125;
/// Masks fetched from the operating system at a time.
const MASKS: usize = 64;

/// Which side of the connection this is; clients mask what they send.
#[derive(Debug)]
enum Side {
    Server,
    Client(Box<Masks>),
}

/// Random masks for a client's frames.
#[derive(Debug)]
struct Masks {
    random: [u8; 4 * MASKS],
    used: usize,
}

impl Masks {
    fn next(&mut self) -> Result<[u8; 4], CarrierError> {
        if self.used == self.random.len() {
            getrandom::fill(&mut self.random).map_err(|error| io::Error::other(error.to_string()))?;
            self.used = 0;
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.random[self.used..self.used + 4]);
        self.used += 4;
        Ok(mask)
    }
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Open,
    /// A close frame has been queued.
    Sent,
    /// The stream is being shut down.
    Shutdown,
}

/// A message that is arriving in a buffer of its own.
#[derive(Debug)]
struct Large {
    buffer: Buffer,
    length: usize,
    mask: Option<[u8; 4]>,
}

impl Large {
    /// Takes what belongs to the message; gives how much that is.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.length - self.buffer.len());
        self.buffer.put(&bytes[..taken]);
        taken
    }

    fn is_whole(&self) -> bool {
        self.buffer.len() == self.length
    }

    fn finish(mut self) -> Bytes {
        if let Some(mask) = self.mask {
            apply_mask(self.buffer.filled_mut(), mask);
        }
        self.buffer.freeze()
    }
}

/// A WebSocket connection after its handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S, G = ()> {
    pub(crate) stream: S,
    /// Lives as long as the connection.
    _guard: G,
    side: Side,
    /// What has arrived and is not a whole frame yet.
    arrived: BytesMut,
    /// A message whose fragments are arriving.
    fragments: Option<BytesMut>,
    /// A large message that is arriving.
    large: Option<Box<Large>>,
    outgoing: BytesMut,
    limit: usize,
    closing: Closing,
    /// The stream has bytes of its own that want a flush.
    dirty: bool,
}

impl<S, G> WebSocket<S, G>
where
    S: AsyncBufRead + AsyncWrite + Send + Unpin,
    G: Send + Unpin,
{
    /// The server's side of a stream on which the handshake is done. `arrived` is what came after it.
    pub(crate) fn server(stream: S, arrived: BytesMut, guard: G) -> Self {
        Self::new(stream, Side::Server, arrived, guard)
    }

    /// The client's side of a stream on which the handshake is done.
    pub(crate) fn client(stream: S, guard: G) -> Self {
        let masks = Masks { random: [0; 4 * MASKS], used: 4 * MASKS };
        Self::new(stream, Side::Client(Box::new(masks)), BytesMut::new(), guard)
    }

    fn new(stream: S, side: Side, arrived: BytesMut, guard: G) -> Self {
        let limit = limits::FRAME;
        Self {
            stream,
            _guard: guard,
            side,
            arrived,
            fragments: None,
            large: None,
            outgoing: BytesMut::new(),
            limit,
            closing: Closing::Open,
            dirty: false,
        }
    }

    /// Reads what is there; `Closed` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        let Self { stream, arrived, large, .. } = self;
        let bytes = ready!(Pin::new(&mut *stream).poll_fill_buf(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Err(CarrierError::Closed));
        }
        let taken = match large {
            Some(large) => large.put(bytes),
            None => {
                arrived.extend_from_slice(bytes);
                bytes.len()
            }
        };
        Pin::new(stream).consume(taken);
        Poll::Ready(Ok(()))
    }

    /// Cuts the next frame out of what has arrived.
    fn next_frame(&mut self) -> Result<Option<Frame>, CarrierError> {
        if let Some(large) = self.large.take() {
            if large.is_whole() {
                return Ok(Some(Frame::decode(large.finish())?));
            }
            self.large = Some(large);
            return Ok(None);
        }
        loop {
            let Some((header, payload)) = self.next_ws_frame()? else { return Ok(None) };
            match header.opcode {
                OpCode::Control(control) => self.on_control(control, &header, &payload)?,
                OpCode::Data(data) => {
                    if let Some(message) = self.on_data(data, &header, payload)? {
                        return Ok(Some(alone(Frame::decode(message)?)));
                    }
                }
            }
        }
    }

    /// The next WebSocket frame, unmasked.
    fn next_ws_frame(&mut self) -> Result<Option<(FrameHeader, BytesMut)>, CarrierError> {
        if self.arrived.is_empty() {
            self.arrived = BytesMut::new();
            return Ok(None);
        }
        let mut cursor = Cursor::new(&self.arrived[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CarrierError::WebSocket("not a WebSocket frame"))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let start = usize::try_from(cursor.position()).expect("a header is short");
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(CarrierError::WebSocket("reserved bits are set"));
        }
        let before = self.fragments.as_ref().map_or(0, BytesMut::len) as u64;
        if length > (self.limit as u64).saturating_sub(before) {
            return Err(DecodeError::TooLong("frame").into());
        }
        if header.mask.is_some() != matches!(self.side, Side::Server) {
            return Err(CarrierError::WebSocket("wrong masking"));
        }
        let length = usize::try_from(length).expect("bounded by the limit");
        if self.arrived.len() < start + length {
            self.enlarge(&header, start, length);
            return Ok(None);
        }
        self.arrived.advance(start);
        let mut payload = self.arrived.split_to(length);
        if let Some(mask) = header.mask {
            apply_mask(&mut payload, mask);
        }
        Ok(Some((header, payload)))
    }

    /// Gives the message that is arriving a buffer of its own, if it is one for which that pays.
    fn enlarge(&mut self, header: &FrameHeader, start: usize, length: usize) {
        let alone = header.is_final && header.opcode == OpCode::Data(Data::Binary) && self.fragments.is_none();
        if alone && (LARGE..=buffers::SIZE).contains(&length) && self.arrived.len() >= start + LARGE_ARRIVED {
            let mut large = Box::new(Large { buffer: Buffer::new(), length, mask: header.mask });
            large.put(&self.arrived[start..]);
            self.arrived = BytesMut::new();
            self.large = Some(large);
        }
    }

    fn on_control(&mut self, control: Control, header: &FrameHeader, payload: &[u8]) -> Result<(), CarrierError> {
        if !header.is_final || payload.len() > CONTROL_MAX {
            return Err(CarrierError::WebSocket("bad control frame"));
        }
        match control {
            // A peer that pings faster than it reads gets fewer pongs.
            Control::Ping if self.outgoing.len() < WRITE_HIGH => self.put(OpCode::Control(Control::Pong), payload),
            Control::Ping | Control::Pong => Ok(()),
            Control::Close => {
                if self.closing == Closing::Open {
                    self.closing = Closing::Sent;
                    self.put(OpCode::Control(Control::Close), payload.get(..2).unwrap_or_default())?;
                }
                Err(CarrierError::Closed)
            }
            Control::Reserved(_) => Err(CarrierError::WebSocket("unknown control frame")),
        }
    }

    fn on_data(&mut self, data: Data, header: &FrameHeader, payload: BytesMut) -> Result<Option<Bytes>, CarrierError> {
        match (data, &mut self.fragments) {
            (Data::Binary, None) if header.is_final => Ok(Some(payload.freeze())),
            (Data::Binary, fragments @ None) => {
                *fragments = Some(payload);
                Ok(None)
            }
            (Data::Continue, Some(message)) => {
                message.unsplit(payload);
                Ok(if header.is_final { self.fragments.take().map(BytesMut::freeze) } else { None })
            }
            (Data::Text, _) => Err(CarrierError::WebSocket("text where binary is expected")),
            _ => Err(CarrierError::WebSocket("fragments out of order")),
        }
    }

    /// Queues a WebSocket frame.
    fn put(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), CarrierError> {
        let start = self.put_header(opcode, payload.len())?;
        self.outgoing.put_slice(payload);
        self.mask_from(start);
        Ok(())
    }

    /// Queues the header of a WebSocket frame; gives the place where the payload begins, and its mask.
    fn put_header(&mut self, opcode: OpCode, length: usize) -> Result<(usize, Option<[u8; 4]>), CarrierError> {
        let mask = match &mut self.side {
            Side::Server => None,
            Side::Client(masks) => Some(masks.next()?),
        };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        self.outgoing.reserve(header.len(length as u64) + length);
        let failed = |_| CarrierError::WebSocket("a header cannot be written");
        header.format(length as u64, &mut (&mut self.outgoing).writer()).map_err(failed)?;
        Ok((self.outgoing.len(), mask))
    }

    fn mask_from(&mut self, (start, mask): (usize, Option<[u8; 4]>)) {
        if let Some(mask) = mask {
            apply_mask(&mut self.outgoing[start..], mask);
        }
    }

    /// Hands the queued bytes to the stream.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.outgoing.advance(written);
            self.dirty = true;
        }
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S, G> Carrier for WebSocket<S, G>
where
    S: AsyncBufRead + AsyncWrite + Send + Unpin,
    G: Send + Unpin,
{
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Poll::Ready(Ok(frame));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        if self.outgoing.len() < WRITE_HIGH { Poll::Ready(Ok(())) } else { self.poll_write_out(cx) }
    }

    fn send(&mut self, frame: &Frame) -> Result<(), CarrierError> {
        let payload = self.put_header(OpCode::Data(Data::Binary), frame.size())?;
        frame.encode(&mut self.outgoing)?;
        self.mask_from(payload);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        if !self.outgoing.is_empty() {
            ready!(self.poll_write_out(cx))?;
        }
        if self.dirty {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        if self.closing == Closing::Open {
            self.closing = Closing::Sent;
            // 1000: the purpose has been fulfilled (RFC 6455, section 7.4.1). Why is said in our own close frame before it.
            self.put(OpCode::Control(Control::Close), &1000_u16.to_be_bytes())?;
        }
        if self.closing == Closing::Sent {
            ready!(self.poll_flush(cx))?;
            self.closing = Closing::Shutdown;
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
        (self.arrived, self.large) = (BytesMut::new(), None);
        ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(self.arrived.len()))
    }

    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }
}

fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let mut chunks = bytes.chunks_exact_mut(4);
    let word = u32::from_ne_bytes(mask);
    for chunk in &mut chunks {
        let masked = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) ^ word;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use parlour_wire::Kind;
    use tokio::io::{AsyncWriteExt, BufReader, DuplexStream};

    use super::*;

    fn server_end() -> (DuplexStream, WebSocket<BufReader<DuplexStream>, ()>) {
        let (peer, own) = tokio::io::duplex(256 * 1024);
        (peer, WebSocket::server(BufReader::new(own), BytesMut::new(), ()))
    }

    /// A WebSocket message with an empty mask.
    fn message(frame: &Frame) -> Vec<u8> {
        let length = u64::try_from(frame.size()).unwrap();
        let mut bytes = BytesMut::from(&[0x82, 0xff][..]);
        bytes.put_u64(length);
        bytes.put_u32(0);
        frame.encode(&mut bytes).unwrap();
        bytes.to_vec()
    }

    #[tokio::test]
    async fn a_chunk_holds_no_more_memory_than_its_credit_covers() {
        for size in [5 * 1024, 20 * 1024, 60 * 1024] {
            let (mut peer, mut own) = server_end();
            let frame = Frame { content: vec![7; size].into(), ..Frame::new(Kind::STREAM_DATA) };
            let bytes = message(&frame);
            let (first, second) = bytes.split_at(LARGE_ARRIVED + 100);
            peer.write_all(first).await.unwrap();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(own.poll_recv(&mut cx).is_pending());
            peer.write_all(second).await.unwrap();
            let arrived = std::future::poll_fn(|cx| own.poll_recv(cx)).await.unwrap();
            let content = arrived.content.try_into_mut().expect("a place of its own");
            assert!(content.len() == size && content.capacity() <= 2 * size, "{size}: {}", content.capacity());
        }
    }
}
