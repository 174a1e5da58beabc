//! The servers that are measured.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_net::{
    Incoming, IncomingAction, Link, ListenConfig, Listener, PemPair, Pusher, Received, ServerIdentity, SessionInfo,
    SessionService,
};
use parlour_wire::{frame::ContentType, header::Fault, limits};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// Answers `echo`, `send` and `receive`.
struct Service;

impl SessionService for Service {
    type Session = Pusher;

    fn open(&self, _info: SessionInfo, pusher: Pusher) -> Pusher {
        pusher
    }

    fn request(&self, session: &mut Pusher, request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        match request.name.as_str() {
            "send" => {
                let link = session.link();
                let number = |at: usize| u64::from_be_bytes(request.content[at * 8..][..8].try_into().unwrap());
                tokio::spawn(send(link, number(0), number(1), number(2)));
                Box::pin(async { Ok((ContentType::BYTES, Bytes::new())) })
            }
            "receive" => {
                let credit = u32::from_be_bytes(request.content[..].try_into().unwrap());
                let mut sink = session.link().sink(credit);
                let told = [sink.id(), sink.credit().into()].map(u64::to_be_bytes).concat().into();
                tokio::spawn(async move { while let Ok(Received::Chunk { .. }) = sink.recv().await {} });
                Box::pin(async { Ok((ContentType::BYTES, told)) })
            }
            _ => Box::pin(async move { Ok((request.content_type, request.content)) }),
        }
    }

    fn action(&self, _session: &mut Pusher, _action: IncomingAction) {}

    fn close(&self, _session: Pusher) {}
}

/// Sends so many bytes.
pub(crate) async fn send(link: Link, stream: u64, credit: u64, bytes: u64) {
    let mut source = link.source(stream, credit);
    let chunk = Bytes::from(vec![7; limits::STREAM_CHUNK]);
    for _ in 0..bytes / limits::STREAM_CHUNK as u64 {
        if source.send(Bytes::new(), chunk.clone()).await.is_err() {
            return;
        }
    }
    drop(source.finish(Bytes::new()).await);
}

pub(crate) async fn serve() {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
    let identity = ServerIdentity::load(&cert_pem, &key_pem).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), identity).await.unwrap();
    println!("wss://{}", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    listener.serve(Arc::new(Service), ListenConfig::default(), stopped).await;
}

/// Sends or takes bytes over TLS and nothing else: what a stream is compared with.
pub(crate) async fn copy() {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{} {}", listener.local_addr().unwrap(), hex(cert_pem.as_bytes()));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        tokio::spawn(async move {
            let mut bytes = stream.read_u64().await.unwrap();
            let mut buffer = vec![7; limits::STREAM_CHUNK];
            while bytes > 0 {
                stream.write_all(&buffer).await.unwrap();
                bytes -= buffer.len() as u64;
            }
            stream.flush().await.unwrap();
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
