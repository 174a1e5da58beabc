//! QUIC streams as ways for frames: each frame with its length before it, four bytes, big endian.
//!
//! The chunks and the end of a stream of the link ride on a QUIC stream of their own, which begins with the number of that stream.
//! So what is lost on the way of one holds up neither the others nor the frames that matter, and QUIC sends those first.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::iroh::endpoint::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use bytes::{Buf, BufMut, BytesMut};
use futures_util::future::BoxFuture;
use parlour_wire::{DecodeError, Frame, Kind, decode, frame::PROTO_HEADER, header::Credit, limits};

use crate::{
    buffers::{self, Buffer},
    carrier::{CarrierError, with_scratch},
};

/// Size of a length before a frame.
const LENGTH: usize = 4;
/// Size of the number of a stream.
const NUMBER: usize = 8;
/// Largest frame on a stream of its own.
const CHUNK_FRAME: usize = PROTO_HEADER + limits::STREAM_MARK + limits::STREAM_CHUNK;
/// Frames that are shorter do not get a buffer of their own.
const LARGE: usize = 16 * 1024;
/// What must have arrived of a frame before it gets one: an announcement alone costs the peer nothing.
const LARGE_ARRIVED: usize = 4 * 1024;
/// Bytes of chunks that may wait here before no more are taken. What waits in QUIC beside them is bounded by its send window.
const CHUNKS_HIGH: usize = limits::STREAM_QUEUE;
/// Said of streams that are broken off; why is said on the link.
const BROKEN_OFF: VarInt = VarInt::from_u32(0);

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

/// A way in.
#[derive(Debug)]
pub(super) struct Inlet {
    recv: RecvStream,
    /// What has arrived and is not a whole frame yet.
    arrived: BytesMut,
    /// A large frame that is arriving in a buffer of its own, and its size.
    large: Option<(Buffer, usize)>,
}

impl Inlet {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self { recv, arrived: BytesMut::new(), large: None }
    }

    /// Reads what is there; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
        let Self { recv, arrived, .. } = self;
        with_scratch(|scratch| {
            let read = ready!(recv.poll_read(cx, scratch))?;
            arrived.extend_from_slice(&scratch[..read]);
            Poll::Ready(Ok(read))
        })
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<Option<Frame>, CarrierError>> {
        loop {
            if let Some((buffer, size)) = &mut self.large {
                while buffer.len() < *size {
                    match ready!(self.recv.poll_read(cx, buffer.room(*size)))? {
                        0 => return Poll::Ready(Err(DecodeError::Truncated.into())),
                        read => buffer.advance(read),
                    }
                }
            }
            if let Some((buffer, _)) = self.large.take() {
                return Poll::Ready(Ok(Some(Frame::decode(buffer.freeze())?)));
            }
            if let Some(frame) = self.cut(limit)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.large.is_some() {
                continue;
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let whole = self.arrived.is_empty();
                return Poll::Ready(if whole { Ok(None) } else { Err(DecodeError::Truncated.into()) });
            }
        }
    }

    fn cut(&mut self, limit: usize) -> Result<Option<Frame>, CarrierError> {
        let Some(length) = self.arrived.first_chunk::<LENGTH>() else {
            if self.arrived.is_empty() {
                self.arrived = BytesMut::new();
            }
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DecodeError::TooLong("frame"))?;
        if length > limit {
            return Err(DecodeError::TooLong("frame").into());
        }
        if self.arrived.len() < LENGTH + length {
            if (LARGE..=buffers::SIZE).contains(&length) && self.arrived.len() >= LARGE_ARRIVED {
                let mut buffer = Buffer::new();
                buffer.put(&self.arrived[LENGTH..]);
                self.arrived = BytesMut::new();
                self.large = Some((buffer, length));
            }
            return Ok(None);
        }
        self.arrived.advance(LENGTH);
        Ok(Some(Frame::decode(self.arrived.split_to(length).freeze())?))
    }

    /// Drops what has arrived.
    pub(super) fn discard(&mut self) {
        self.large = None;
        self.arrived = BytesMut::new();
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

fn put(out: &mut BytesMut, frame: &Frame) -> Result<(), CarrierError> {
    let length = u32::try_from(frame.size()).map_err(|_| DecodeError::TooLong("frame"))?;
    let before = out.len();
    out.put_u32(length);
    frame.encode(out).inspect_err(|_| out.truncate(before))?;
    Ok(())
}

/// Whether a frame ends the stream that it steers.
pub(super) fn is_stop(frame: &Frame) -> bool {
    frame.kind == Kind::STREAM_CREDIT && decode::<Credit>(&frame.header).is_ok_and(|credit| credit.stop.is_some())
}

/// The QUIC streams beside the main one.
#[derive(Default)]
pub(super) struct Streams {
    accepting: Option<BoxFuture<'static, Result<RecvStream, ConnectionError>>>,
    sinks: Vec<Sink>,
    /// Whose turn it is among the sinks.
    turn: usize,
    sources: BTreeMap<u64, Source>,
}

/// A stream that comes in. What the peer says of its number is not believed before it has arrived.
struct Sink {
    inlet: Inlet,
    number: Option<u64>,
    ended: bool,
}

/// A stream that goes out.
enum Source {
    Opening {
        stream: BoxFuture<'static, Result<SendStream, ConnectionError>>,
        outgoing: BytesMut,
        ended: bool,
    },
    Open {
        outlet: Outlet,
        ended: bool,
    },
    /// The peer wants no more; the link will hear of it.
    Stopped,
}

impl Sink {
    /// The next frame; `None` at the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, CarrierError>> {
        let number = match self.number {
            Some(number) => number,
            None => {
                let number = loop {
                    if let Some(number) = self.inlet.arrived.first_chunk::<NUMBER>() {
                        break u64::from_be_bytes(*number);
                    }
                    if ready!(self.inlet.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(DecodeError::Truncated.into()));
                    }
                };
                self.inlet.arrived.advance(NUMBER);
                *self.number.insert(number)
            }
        };
        let Some(frame) = ready!(self.inlet.poll_frame(cx, CHUNK_FRAME))? else {
            return Poll::Ready(if self.ended { Ok(None) } else { Err(DecodeError::Truncated.into()) });
        };
        let fits = matches!(frame.kind, Kind::STREAM_DATA | Kind::STREAM_END) && frame.id == number;
        if !fits || std::mem::replace(&mut self.ended, frame.kind == Kind::STREAM_END) {
            return Poll::Ready(Err(DecodeError::Invalid("frame on a stream of its own").into()));
        }
        Poll::Ready(Ok(Some(frame)))
    }
}

impl Source {
    fn open(connection: Connection, number: u64) -> Self {
        let mut outgoing = BytesMut::with_capacity(NUMBER);
        outgoing.put_u64(number);
        Self::Opening { stream: Box::pin(async move { connection.open_uni().await }), outgoing, ended: false }
    }

    fn waiting(&self) -> usize {
        match self {
            Self::Opening { outgoing, .. } => outgoing.len(),
            Self::Open { outlet, .. } => outlet.waiting(),
            Self::Stopped => 0,
        }
    }

    fn put(&mut self, frame: &Frame) -> Result<(), CarrierError> {
        let end = frame.kind == Kind::STREAM_END;
        match self {
            Self::Opening { outgoing, ended, .. } => {
                *ended = end;
                put(outgoing, frame)
            }
            Self::Open { outlet, ended } => {
                *ended = end;
                outlet.put(frame)
            }
            Self::Stopped => Ok(()),
        }
    }

    /// Writes what waits. `true` when the stream is over.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CarrierError>> {
        if let Self::Opening { stream, outgoing, ended } = self {
            let send = ready!(stream.as_mut().poll(cx))?;
            let outlet = Outlet::new(send, std::mem::take(outgoing));
            *self = Self::Open { outlet, ended: *ended };
        }
        let Self::Open { outlet, ended } = self else { return Poll::Ready(Ok(false)) };
        match ready!(outlet.poll_write_out(cx)) {
            Ok(()) if *ended => {
                // One that the peer has stopped is over, too.
                drop(outlet.send.finish());
                Poll::Ready(Ok(true))
            }
            Ok(()) => Poll::Ready(Ok(false)),
            Err(CarrierError::Closed) if *ended => Poll::Ready(Ok(true)),
            Err(CarrierError::Closed) => {
                *self = Self::Stopped;
                Poll::Ready(Ok(false))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Streams {
    /// Takes in what the peer opens. The number of them is bounded by what the connection allows it.
    fn poll_accept(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Result<(), CarrierError> {
        loop {
            let accepting = self.accepting.get_or_insert_with(|| {
                let connection = connection.clone();
                Box::pin(async move { connection.accept_uni().await })
            });
            let Poll::Ready(accepted) = accepting.as_mut().poll(cx) else { return Ok(()) };
            self.accepting = None;
            self.sinks.push(Sink { inlet: Inlet::new(accepted?), number: None, ended: false });
        }
    }

    /// The next frame of one of them, in turns.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<Result<Frame, CarrierError>> {
        self.poll_accept(cx, connection)?;
        let mut looked = 0;
        while looked < self.sinks.len() {
            let turn = self.turn % self.sinks.len();
            match self.sinks[turn].poll_frame(cx) {
                Poll::Pending => {
                    self.turn = turn + 1;
                    looked += 1;
                }
                Poll::Ready(Ok(Some(frame))) => {
                    self.turn = turn + 1;
                    return Poll::Ready(Ok(frame));
                }
                // Broken off; the link hears why on the main stream.
                Poll::Ready(Ok(None) | Err(CarrierError::Closed)) => drop(self.sinks.remove(turn)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// The sink wants no more of this stream, or has been told by other means that it is over.
    pub(super) fn drop_sink(&mut self, number: u64) {
        self.sinks.retain(|sink| sink.number != Some(number));
    }

    /// The peer wants no more of this stream.
    pub(super) fn drop_source(&mut self, number: u64) {
        if let Some(Source::Open { mut outlet, .. }) = self.sources.remove(&number) {
            // One that is finished already cannot be broken off.
            drop(outlet.send.reset(BROKEN_OFF));
        }
    }

    /// Takes a chunk or an end. Gives it back if it is not for a stream of its own: a source that gives up is not to wait for what
    /// it has sent.
    pub(super) fn put<'a>(&mut self, frame: &'a Frame, connection: &Connection) -> Result<Option<&'a Frame>, CarrierError> {
        if frame.kind == Kind::STREAM_END && !frame.header.is_empty() {
            self.drop_source(frame.id);
            return Ok(Some(frame));
        }
        let source = self.sources.entry(frame.id).or_insert_with(|| Source::open(connection.clone(), frame.id));
        source.put(frame)?;
        if matches!(source, Source::Stopped) && frame.kind == Kind::STREAM_END {
            self.sources.remove(&frame.id);
        }
        Ok(None)
    }

    /// Whether chunks wait for the connection in such numbers that no more are taken.
    pub(super) fn is_full(&self) -> bool {
        !self.sources.is_empty() && self.sources.values().map(Source::waiting).sum::<usize>() >= CHUNKS_HIGH
    }

    pub(super) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        let (mut pending, mut result) = (false, Ok(()));
        self.sources.retain(|_, source| match source.poll_write_out(cx) {
            Poll::Ready(Ok(over)) => !over,
            Poll::Ready(Err(error)) => {
                result = Err(error);
                true
            }
            Poll::Pending => {
                pending = true;
                true
            }
        });
        result?;
        if pending { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Gives everything up.
    pub(super) fn clear(&mut self) {
        self.sinks.clear();
        while let Some((number, _)) = self.sources.first_key_value() {
            self.drop_source(*number);
        }
    }
}
