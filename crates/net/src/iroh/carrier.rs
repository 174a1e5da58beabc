//! A QUIC connection as a carrier: a stream in both directions for the frames that matter, one for each stream of the link.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use ::iroh::endpoint::{Connection, Path, PathId, RecvStream, SendStream, VarInt};
use bytes::BytesMut;
use parlour_wire::{Frame, Kind, limits};

use super::{
    WINDOW,
    distance::Distance,
    streams::{Streams, is_stop},
    ways::{Inlet, Outlet},
};
use crate::carrier::{Carrier, CarrierError};

/// Bytes that may wait for the main stream before no more frames are taken.
const WRITE_HIGH: usize = 64 * 1024;
/// Frames of the main stream after which the others get their turn, however many there are.
const MAIN_BATCH: u32 = 64;

/// A connection to a peer, with the stream that the client opened.
pub(crate) struct IrohCarrier<G = ()> {
    connection: Connection,
    /// Lives as long as the connection.
    _guard: G,
    inlet: Inlet,
    outlet: Outlet,
    streams: Streams,
    distance: Distance<PathId>,
    limit: usize,
    /// Frames of the main stream since the others had their turn.
    since: u32,
    closing: bool,
}

impl<G: Send + Unpin> IrohCarrier<G> {
    /// Takes no frames at all before it is told their limit.
    pub(crate) fn new(connection: Connection, send: SendStream, recv: RecvStream, guard: G) -> Self {
        // Fails on a stream that is over, which will be noticed.
        drop(send.set_priority(1));
        Self {
            connection,
            _guard: guard,
            inlet: Inlet::new(recv),
            outlet: Outlet::new(send, BytesMut::new()),
            streams: Streams::default(),
            distance: Distance::default(),
            limit: 0,
            since: 0,
            closing: false,
        }
    }

    fn poll_main(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>> {
        let Some(frame) = ready!(self.inlet.poll_frame(cx, self.limit))? else { return Poll::Ready(Err(CarrierError::Closed)) };
        if frame.kind == Kind::STREAM_END {
            self.streams.drop_sink(frame.id);
        } else if is_stop(&frame) {
            self.streams.drop_source(frame.id);
        }
        Poll::Ready(Ok(frame))
    }
}

impl<G: Send + Unpin> Carrier for IrohCarrier<G> {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>> {
        if self.since >= MAIN_BATCH {
            self.since = 0;
            if let ready @ Poll::Ready(_) = self.streams.poll_recv(cx, &self.connection) {
                return ready;
            }
        }
        if let ready @ Poll::Ready(_) = self.poll_main(cx) {
            self.since += 1;
            return ready;
        }
        self.since = 0;
        self.streams.poll_recv(cx, &self.connection)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        if self.streams.is_full() {
            // Chunks that cannot leave hold up nothing else.
            let _: Poll<()> = self.streams.poll_write_out(cx)?;
        }
        if self.outlet.waiting() < WRITE_HIGH { Poll::Ready(Ok(())) } else { self.outlet.poll_write_out(cx) }
    }

    fn round_trip(&mut self) -> Option<Duration> {
        let paths = self.connection.paths();
        Some(self.distance.note(paths.iter().find(Path::is_selected).map(|path| (path.id(), path.rtt()))))
    }

    fn takes_chunks(&self) -> bool {
        !self.streams.is_full()
    }

    fn send(&mut self, frame: &Frame) -> Result<(), CarrierError> {
        match frame.kind {
            Kind::STREAM_DATA | Kind::STREAM_END => match self.streams.put(frame, &self.connection)? {
                Some(frame) => self.outlet.put(frame),
                None => Ok(()),
            },
            _ => {
                if is_stop(frame) {
                    self.streams.drop_sink(frame.id);
                }
                self.outlet.put(frame)
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        let main = self.outlet.poll_write_out(cx)?;
        let streams = self.streams.poll_write_out(cx)?;
        if main.is_ready() && streams.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        self.streams.clear();
        ready!(self.outlet.poll_write_out(cx))?;
        if !std::mem::replace(&mut self.closing, true) {
            // Fails if the peer has stopped listening, and then it is over, too.
            drop(self.outlet.send.finish());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
        self.inlet.discard();
        match ready!(self.inlet.poll_fill(cx))? {
            // The peer has heard everything and has nothing to add.
            0 => Poll::Ready(Err(CarrierError::Closed)),
            discarded => Poll::Ready(Ok(discarded)),
        }
    }

    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        if bytes == limits::FRAME {
            // No stranger any more.
            self.connection.set_receive_window(VarInt::from_u32(WINDOW));
            let streams = u32::try_from(limits::STREAMS).expect("streams are few");
            self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams));
        }
    }
}

impl<G> Drop for IrohCarrier<G> {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}
