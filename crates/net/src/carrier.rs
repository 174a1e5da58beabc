//! What carries frames between two machines: anything that takes and gives whole frames.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parlour_wire::{Code, DecodeError, Frame, header::Fault};
use thiserror::Error;

/// Why a carrier is of no more use.
#[derive(Debug, Error)]
pub(crate) enum CarrierError {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Not our protocol.
    #[error("{0}")]
    Frame(#[from] DecodeError),
    /// Not WebSocket.
    #[error("{0}")]
    WebSocket(&'static str),
}

impl CarrierError {
    /// What the peer is told, if it can be told anything.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let code = match self {
            Self::Closed | Self::Io(_) => return None,
            Self::Frame(DecodeError::TooLong(_)) => Code::TOO_LARGE,
            Self::Frame(_) | Self::WebSocket(_) => Code::BAD_FRAME,
        };
        Some(Fault { code, message: self.to_string(), retry_after_ms: None })
    }
}

/// Gives what a stream brings a place of its own. It waits for its reader as long as that likes, and takes as much credit as it has
/// bytes; so it must not keep a larger buffer with it, in which it came together with other things.
pub(crate) fn alone(mut frame: Frame) -> Frame {
    if frame.kind.is_of_stream() {
        frame.header = Bytes::copy_from_slice(&frame.header);
        frame.content = Bytes::copy_from_slice(&frame.content);
    }
    frame
}

/// A connection that carries frames. Every method is called from one task.
pub(crate) trait Carrier: Send + Unpin {
    /// The next frame.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>>;

    /// Ready when there is room for another frame.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>>;

    /// Whether chunks of streams are taken, too. They may be held up where other frames are not.
    fn takes_chunks(&self) -> bool {
        true
    }

    /// The round trip of the way when little is under way, if what is under way of a stream stands before what the peer says next.
    fn round_trip(&mut self) -> Option<Duration> {
        None
    }

    /// Takes a frame, which leaves with the next flush, or earlier.
    fn send(&mut self, frame: &Frame) -> Result<(), CarrierError>;

    /// Writes what was taken to the connection.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>>;

    /// Flushes, says goodbye, closes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>>;

    /// Reads and drops what is there; the number of bytes.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>>;

    /// The largest frame to accept from here on.
    fn set_limit(&mut self, bytes: usize);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use parlour_wire::Kind;

    use super::*;

    #[test]
    fn what_a_stream_brings_keeps_nothing_of_the_buffer_in_which_it_came() {
        for (kind, keeps) in [(Kind::STREAM_DATA, false), (Kind::STREAM_END, false), (Kind::ACTION, true)] {
            let mut bytes = BytesMut::new();
            Frame { header: Bytes::from_static(b"mark"), content: Bytes::from_static(b"little"), ..Frame::new(kind) }
                .encode(&mut bytes)
                .unwrap();
            let size = bytes.len();
            bytes.resize(16 * 1024, 0);
            let mut buffer = bytes.freeze();
            let frame = alone(Frame::decode(buffer.split_to(size)).unwrap());
            assert_eq!((&frame.header[..], &frame.content[..]), (&b"mark"[..], &b"little"[..]));
            assert_eq!(buffer.try_into_mut().is_err(), keeps, "{kind:?}");
        }
    }
}
