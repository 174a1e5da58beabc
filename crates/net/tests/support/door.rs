//! A server, and what reaches it without our client: for peers that do not behave.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use parlour_net::{ListenConfig, PemPair, ServerIdentity};
use parlour_wire::{
    Code, Frame, Kind, decode, encode,
    frame::ContentType,
    header::{Fault, Hello, Welcome},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{BOUND, Server, bounded, up};

/// A WebSocket as the client's end has it.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A server, and the means to reach it without our client.
pub struct Door {
    pub server: Server,
    tls: TlsConnector,
}

impl Door {
    pub async fn open(config: ListenConfig) -> Self {
        let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = Server::start_as(ServerIdentity::load(&cert_pem, &key_pem).unwrap(), config).await;
        Self { server, tls: TlsConnector::from(Arc::new(tls)) }
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    pub async fn tls(&self) -> TlsStream<TcpStream> {
        self.tls_over(self.tcp().await).await
    }

    pub async fn tls_over(&self, tcp: TcpStream) -> TlsStream<TcpStream> {
        self.tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    }

    pub async fn websocket(&self) -> Socket {
        websocket_over(self.tls().await).await
    }

    pub async fn assert_healthy(&self) {
        let (link, mut events) = self.server.connect();
        assert!(!up(&mut events).await);
        let answer = link.request_raw("echo", ContentType::CBOR, Bytes::from_static(b"well"), BOUND).await.unwrap();
        assert_eq!(&answer.content[..], b"well");
        bounded(link.close()).await;
    }
}

/// Reads to the end, whatever way the connection ends.
pub async fn rest<S: AsyncReadExt + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut bytes = Vec::new();
    drop(bounded(stream.read_to_end(&mut bytes)).await);
    bytes
}

/// The code of the close frame, after which the connection must end.
pub async fn closed_with(socket: &mut Socket) -> Option<Code> {
    let mut code = None;
    while let Some(message) = bounded(socket.next()).await {
        match message {
            Ok(Message::Binary(bytes)) => {
                let frame = Frame::decode(bytes).unwrap();
                assert_eq!(frame.kind, Kind::CLOSE);
                code = Some(decode::<Fault>(&frame.header).unwrap().code);
            }
            Ok(Message::Close(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    code
}

pub async fn websocket_over(tls: TlsStream<TcpStream>) -> Socket {
    client_async("wss://localhost/v1/link", tls).await.unwrap().0
}

/// A WebSocket after hello and welcome.
pub async fn greeted(door: &Door) -> Socket {
    greet(door.websocket().await).await
}

/// Says hello, and hears the welcome.
pub async fn greet(mut socket: Socket) -> Socket {
    let hello = Hello { capabilities: vec![], agent: "test".into() };
    let hello = Frame { header: Bytes::from(encode(&hello)), ..Frame::new(Kind::HELLO) };
    socket.send(Message::Binary(hello.to_bytes().unwrap())).await.unwrap();
    let Some(Ok(Message::Binary(bytes))) = bounded(socket.next()).await else { panic!("no welcome") };
    let welcome = Frame::decode(bytes).unwrap();
    assert_eq!(welcome.kind, Kind::WELCOME);
    assert!(!decode::<Welcome>(&welcome.header).unwrap().resumed);
    socket
}
