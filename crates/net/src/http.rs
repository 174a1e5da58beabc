//! The HTTP upgrade to WebSocket at the server: `/v1/link`, and 404 for everything else.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::{
    machine::TryParse,
    server::{Request, create_response, write_response},
};

/// The path of the link.
pub(crate) const PATH: &str = "/v1/link";
/// Largest request head, in bytes: browsers send cookies along.
const HEAD: usize = 8 * 1024;
/// What one read takes at most.
const CHUNK: usize = 1024;

/// Reads an HTTP request head and answers it. `Some` if it was the upgrade: what came after the head.
pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Option<BytesMut>> {
    let mut head = BytesMut::new();
    let request = loop {
        head.reserve(CHUNK);
        if head.len() >= HEAD || stream.read_buf(&mut (&mut head).limit(CHUNK)).await? == 0 {
            return Ok(None);
        }
        match Request::try_parse(&head) {
            Ok(None) => {}
            Ok(Some((size, request))) => {
                head.advance(size);
                break request;
            }
            Err(_) => return refuse(stream, "400 Bad Request").await,
        }
    };
    let response = (request.uri().path() == PATH).then(|| create_response(&request).ok()).flatten();
    let Some(response) = response else { return refuse(stream, "404 Not Found").await };
    let mut answer = Vec::with_capacity(256);
    write_response(&mut answer, &response).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok(Some(head))
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, status: &str) -> io::Result<Option<BytesMut>> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(None)
}
