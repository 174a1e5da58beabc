//! What the fuzz targets reach of the framing, the logs and the judging of peers. No part of the library's interface: it may change at any time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use parlour_wire::Frame;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub use crate::clock::fuzzing::{peer_clock, wait};
pub use crate::durable::fuzzing::{LogEntry, log_file, log_read, log_salvage};
#[cfg(feature = "iroh")]
pub use crate::iroh::fuzzing::quic;
pub use crate::tls::fuzzing::{certificate, key_in, server_passes};
pub use crate::toolkit::fuzzing::{FleetScene, agent_proof, station_answer, station_proves};
use crate::{carrier::Carrier, connect, http, websocket::WebSocket};

/// A stream that brings bytes in pieces, and keeps what is written.
struct Pieces<'b> {
    rest: &'b [u8],
    piece: usize,
    written: Vec<u8>,
}

impl Pieces<'_> {
    fn next(&self) -> &[u8] {
        &self.rest[..self.piece.min(self.rest.len())]
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let next = self.next();
        let size = next.len().min(into.remaining());
        into.put_slice(&next[..size]);
        self.rest = &self.rest[size..];
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Pieces<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(Ok(self.get_mut().next()))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.rest = &self.rest[amount..];
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn stream(bytes: &[u8], piece: usize) -> Pieces<'_> {
    Pieces { rest: bytes, piece: piece.max(1), written: Vec::new() }
}

fn socket(server: bool, stream: Pieces<'_>) -> WebSocket<Pieces<'_>> {
    if server { WebSocket::server(stream, BytesMut::new(), ()) } else { WebSocket::client(stream, ()) }
}

/// The frames that one side of a WebSocket reads when these bytes arrive in pieces of this size, and why it reads no more.
#[must_use]
pub fn websocket(server: bool, limit: usize, piece: usize, bytes: &[u8]) -> (Vec<Frame>, String) {
    let mut socket = socket(server, stream(bytes, piece));
    socket.set_limit(limit);
    let mut frames = Vec::new();
    loop {
        match socket.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(frame)) => frames.push(frame),
            Poll::Ready(Err(error)) => return (frames, error.to_string()),
            Poll::Pending => unreachable!("the stream is always ready"),
        }
    }
}

/// The bytes that one side of a WebSocket writes for these frames.
#[must_use]
pub fn websocket_bytes(server: bool, frames: &[Frame]) -> Vec<u8> {
    let mut socket = socket(server, stream(&[], 1));
    for frame in frames {
        socket.send(frame).expect("a frame that was read can be written");
    }
    let flushed = socket.poll_flush(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Ok(()))), "the stream takes everything");
    socket.stream.written
}

/// What a server makes of a request head that arrives in pieces of this size: what it answers, and what came behind an upgrade.
#[must_use]
pub fn upgrade(piece: usize, bytes: &[u8]) -> (Vec<u8>, Option<Bytes>) {
    let mut stream = stream(bytes, piece);
    let upgraded = {
        let mut upgrade = std::pin::pin!(http::upgrade(&mut stream));
        match upgrade.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.ok().flatten().map(BytesMut::freeze),
            Poll::Pending => unreachable!("the stream is always ready"),
        }
    };
    (stream.written, upgraded)
}

/// In an answer, the place of what proves that the server has read the request.
const PROOF: &[u8] = b"{accept}";

/// A server that gives one answer, whatever it is asked, with the right proof in it where there is a place for one.
struct Answering<'b> {
    answer: &'b [u8],
    piece: usize,
    asked: Vec<u8>,
    /// What it answers, and how much of that was read.
    begun: Option<(Vec<u8>, usize)>,
}

impl Answering<'_> {
    fn begin(&self) -> Vec<u8> {
        let asked = String::from_utf8_lossy(&self.asked);
        let key = asked.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a client sends a key");
        match self.answer.windows(PROOF.len()).position(|window| window == PROOF) {
            Some(at) => {
                [&self.answer[..at], derive_accept_key(key.as_bytes()).as_bytes(), &self.answer[at + PROOF.len()..]].concat()
            }
            None => self.answer.to_vec(),
        }
    }
}

impl AsyncRead for Answering<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.begun.is_none() {
            this.begun = Some((this.begin(), 0));
        }
        if let Some((answer, read)) = &mut this.begun {
            let rest = &answer[*read..];
            let size = this.piece.min(rest.len()).min(into.remaining());
            into.put_slice(&rest[..size]);
            *read += size;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answering<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a client makes of an answer to its upgrade that arrives in pieces of this size: why it is none, if so. The first `{accept}`
/// in it becomes the proof that the server has read the request.
///
/// # Errors
/// What the client says.
pub fn answered(piece: usize, answer: &[u8]) -> Result<(), String> {
    let server = Answering { answer, piece: piece.max(1), asked: Vec::new(), begun: None };
    let mut upgrade = std::pin::pin!(connect::upgrade("localhost", server));
    match upgrade.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(upgraded) => upgraded.map(drop).map_err(|error| error.to_string()),
        Poll::Pending => unreachable!("the stream is always ready"),
    }
}
