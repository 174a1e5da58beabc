//! What TLS does by itself on this machine: messages there and back, one way, and bytes from memory or file to memory or file.

use std::{fs::File, io::Write as _, path::Path, sync::Arc, time::Instant};

use anyhow::Context;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{files::let_go_of_cache, times::Times};
use crate::bench::baseline::{configs, now};

/// Bytes that a copy moves in one go.
const PIECE: usize = 256 * 1024;

/// The two ends of a TLS connection over loopback.
struct Ends {
    client: client::TlsStream<TcpStream>,
    server: server::TlsStream<TcpStream>,
}

async fn connect() -> anyhow::Result<Ends> {
    let (server, client) = configs()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = async {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        TlsAcceptor::from(Arc::clone(&server)).accept(stream).await
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(client).connect(ServerName::try_from("localhost").map_err(std::io::Error::other)?, stream).await
    };
    let (server, client) = tokio::try_join!(accepting, connecting)?;
    Ok(Ends { client, server })
}

/// Round trips of messages of `size` bytes, one at a time.
pub(super) async fn round_trips(size: usize, count: usize) -> anyhow::Result<Times> {
    let Ends { mut client, mut server } = connect().await?;
    let echoing = tokio::spawn(async move {
        let mut buffer = vec![0; size];
        while server.read_exact(&mut buffer).await.is_ok() {
            server.write_all(&buffer).await?;
            server.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    });
    let (mut buffer, mut times) = (vec![7; size], Times::default());
    for _ in 0..count {
        let start = now();
        client.write_all(&buffer).await?;
        client.flush().await?;
        client.read_exact(&mut buffer).await?;
        times.push(start.elapsed());
    }
    drop(client);
    echoing.await??;
    Ok(times)
}

/// Bytes a second from memory to memory.
pub(super) async fn copy(bytes: u64) -> anyhow::Result<f64> {
    let Ends { client, server } = connect().await?;
    let start = now();
    let sending = tokio::spawn(send(client, Piece(vec![0x5a; PIECE]), bytes));
    receive(server, bytes, |_| Ok(())).await?;
    sending.await??;
    rate(bytes, start)
}

/// Bytes a second from one file into another, which is on disk at the end: under a name that is free, and then in place of the one
/// that is there, by a new file that takes its name.
pub(super) async fn copy_file_twice(from: &Path, to: &Path, bytes: u64) -> anyhow::Result<[f64; 2]> {
    let fresh = copy_file(from, to, bytes, |_| Ok(())).await?;
    let_go_of_cache(to)?;
    let again = copy_file(from, &to.with_extension("new"), bytes, |copy| std::fs::rename(copy, to)).await?;
    std::fs::remove_file(to)?;
    Ok([fresh, again])
}

async fn copy_file(from: &Path, to: &Path, bytes: u64, at_end: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<f64> {
    let Ends { client, server } = connect().await?;
    let start = now();
    let source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut target = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let sending = tokio::spawn(send(client, source, bytes));
    receive(server, bytes, |piece| target.write_all(piece)).await?;
    sending.await??;
    target.sync_all()?;
    at_end(to)?;
    rate(bytes, start)
}

/// A source of bytes in memory.
struct Piece(Vec<u8>);

impl std::io::Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = buffer.len().min(self.0.len());
        buffer[..size].copy_from_slice(&self.0[..size]);
        Ok(size)
    }
}

async fn send(mut stream: impl AsyncWrite + Unpin, mut source: impl std::io::Read, bytes: u64) -> std::io::Result<()> {
    let (mut buffer, mut left) = (vec![0; PIECE], bytes);
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        source.read_exact(&mut buffer[..size])?;
        stream.write_all(&buffer[..size]).await?;
        left -= size as u64;
    }
    stream.shutdown().await
}

async fn receive(
    mut stream: impl AsyncRead + Unpin,
    bytes: u64,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let (mut buffer, mut got) = (vec![0; PIECE], 0);
    loop {
        let size = stream.read(&mut buffer).await?;
        if size == 0 {
            break;
        }
        take(&buffer[..size])?;
        got += size as u64;
    }
    anyhow::ensure!(got == bytes, "{got} of {bytes} bytes arrived");
    Ok(())
}

fn rate(bytes: u64, start: Instant) -> anyhow::Result<f64> {
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}
