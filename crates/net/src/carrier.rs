//! What carries frames between two machines: anything that takes and gives whole frames.

#[cfg(feature = "iroh")]
use std::cell::RefCell;
use std::{
    io,
    task::{Context, Poll},
};

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

/// What one read takes at most.
#[cfg(feature = "iroh")]
const SCRATCH: usize = 64 * 1024;

#[cfg(feature = "iroh")]
thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Lends the buffer that all connections of a thread read into, so that a silent one needs none. Not to be asked for again inside.
#[cfg(feature = "iroh")]
pub(crate) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|scratch| read(scratch))
}
