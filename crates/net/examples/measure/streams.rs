//! Streams in both directions, the plain copy they are compared with, and round trips while a stream runs.

use std::sync::Arc;

use bytes::Bytes;
use parlour_net::{Link, Received, Sink};
use parlour_wire::{frame::ContentType, limits};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{Server, TIMEOUT, echo, now, print_times, serve::send};

const BYTES: u64 = 4 << 30;
const CREDIT: u32 = 4 << 20;

pub(crate) async fn measure(server: &Server) {
    let plain = copy().await;
    println!("plain copy over TLS: {plain:.2} GB/s");
    let (link, _events) = server.connect().await;
    let start = now();
    receive(&link, BYTES).await;
    report("stream from the server", start.elapsed().as_secs_f64(), plain);
    let start = now();
    send_all(&link, BYTES).await;
    report("stream to the server", start.elapsed().as_secs_f64(), plain);
    let start = now();
    tokio::join!(receive(&link, BYTES / 2), send_all(&link, BYTES / 2));
    report("streams both ways at once", start.elapsed().as_secs_f64(), plain);
    let start = now();
    futures_util::future::join_all((0..8).map(|_| receive(&link, BYTES / 8))).await;
    report("eight streams from the server", start.elapsed().as_secs_f64(), plain);
    beside(&link, "round trip while a stream comes", receive(&link, BYTES)).await;
    beside(&link, "round trip while a stream goes", send_all(&link, BYTES)).await;
}

fn report(what: &str, seconds: f64, plain: f64) {
    let rate = BYTES as f64 / seconds / 1e9;
    println!("{what}: {rate:.2} GB/s, {:.0} % of the plain copy", 100.0 * rate / plain);
}

/// Round trips until `stream` is done.
async fn beside(link: &Link, what: &str, stream: impl Future<Output = ()>) {
    let mut times = Vec::new();
    let mut stream = std::pin::pin!(stream);
    loop {
        let start = now();
        tokio::select! {
            () = &mut stream => break,
            () = echo(link) => times.push(start.elapsed()),
        }
    }
    print_times(what, times);
}

async fn receive(link: &Link, bytes: u64) {
    let mut sink = link.sink(CREDIT);
    let asked = [sink.id(), sink.credit().into(), bytes].map(u64::to_be_bytes).concat();
    link.request_raw("send", ContentType::BYTES, Bytes::from(asked), TIMEOUT).await.unwrap();
    assert_eq!(drain(&mut sink).await, bytes);
}

async fn drain(sink: &mut Sink) -> u64 {
    let mut bytes = 0;
    loop {
        match sink.recv().await.unwrap() {
            Received::Chunk { content, .. } => bytes += content.len() as u64,
            Received::Finished(_) => return bytes,
        }
    }
}

async fn send_all(link: &Link, bytes: u64) {
    let credit = Bytes::copy_from_slice(&CREDIT.to_be_bytes());
    let answer = link.request_raw("receive", ContentType::BYTES, credit, TIMEOUT).await.unwrap();
    let [id, credit] = [0, 8].map(|at| u64::from_be_bytes(answer.content[at..][..8].try_into().unwrap()));
    send(link.clone(), id, credit, bytes).await;
}

/// Bytes over TLS with the same ciphers and nothing else, in GB/s.
async fn copy() -> f64 {
    let server = Server::start_as("copy");
    let (address, certificate) = server.url.split_once(' ').unwrap();
    let digits: Vec<u8> = certificate.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    let pem: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let mut buffer = vec![0; limits::STREAM_CHUNK];
    let start = now();
    stream.write_u64(BYTES).await.unwrap();
    stream.flush().await.unwrap();
    let mut left = BYTES;
    while left > 0 {
        left -= stream.read(&mut buffer).await.unwrap() as u64;
    }
    BYTES as f64 / start.elapsed().as_secs_f64() / 1e9
}
