//! What the machine can do at the moment: a raw TLS echo and a raw fsync loop, in the same run as the load.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use parlour_net::{PemPair, ServerIdentity};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long each baseline runs.
const DURATION: Duration = Duration::from_secs(2);
/// Size of an echoed message in bytes; that of the load.
const MESSAGE: usize = 256;

/// Times of a raw loop of "write 4 KiB, fdatasync" on one file.
pub(crate) struct Fsync {
    /// Syncs a second.
    pub(crate) rate: f64,
    /// 99th percentile of one, in milliseconds.
    pub(crate) p99_ms: f64,
}

/// Runs the fsync loop in `folder`.
pub(crate) fn fsync(folder: &Path) -> anyhow::Result<Fsync> {
    let path = folder.join("fsync-baseline");
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let page = [0x5a; 4096];
    let (start, mut times) = (now(), Vec::new());
    while start.elapsed() < DURATION {
        let before = now();
        file.seek(SeekFrom::Start(u64::try_from(times.len() % 256)? * 4096))?;
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    std::fs::remove_file(&path)?;
    Ok(Fsync { rate: times.len() as f64 / start.elapsed().as_secs_f64(), p99_ms: p99.as_secs_f64() * 1000.0 })
}

/// Echoes messages of 256 bytes over `connections` TLS 1.3 connections, each with `window` messages under way. Answers messages
/// a second, there and back counted once.
pub(crate) async fn tls_echo(connections: usize, window: usize) -> anyhow::Result<f64> {
    let (server, client) = configs()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(server);
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(acceptor.clone(), stream));
        }
    });
    let connector = TlsConnector::from(client);
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        clients.push(connector.connect(ServerName::try_from("localhost")?, stream).await?);
    }
    let start = now();
    let running: Vec<_> = clients.into_iter().map(|stream| tokio::spawn(ask(stream, window, start))).collect();
    let mut messages = 0;
    for client in running {
        messages += client.await??;
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    accepting.abort();
    Ok(rate)
}

/// TLS for both ends, with a certificate of its own.
pub(crate) fn configs() -> anyhow::Result<(Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>)> {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()])?;
    let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    // A client that only writes would leave the tickets unread, and its socket would then be reset when it closes.
    server.send_tls13_tickets = 0;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}

/// Keeps `window` messages under way until the time is over; answers how many came back.
async fn ask(stream: tokio_rustls::client::TlsStream<TcpStream>, window: usize, start: Instant) -> std::io::Result<usize> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    writing.write_all(&vec![7; MESSAGE * window]).await?;
    writing.flush().await?;
    let (mut buffer, mut bytes) = (vec![0; 16 * 1024], 0);
    while start.elapsed() < DURATION {
        let read = reading.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let whole = (bytes + read) / MESSAGE - bytes / MESSAGE;
        bytes += read;
        for _ in 0..whole {
            writing.write_all(&buffer[..MESSAGE]).await?;
        }
        writing.flush().await?;
    }
    Ok(bytes / MESSAGE)
}

/// The time now.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "driver")]
    Instant::now()
}
