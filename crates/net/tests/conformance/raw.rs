//! A peer that speaks the protocol by hand, so that it can break it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use parlour_wire::{
    Code, Frame, Kind, decode, encode,
    header::{Action, Fault, Hello, Request, Resume, Welcome},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    rig::{Address, Rig},
    support::bounded,
};

/// A connection that nobody watches over.
pub(crate) enum Raw {
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
    #[cfg(feature = "iroh")]
    Iroh(Box<RawIroh>),
}

#[cfg(feature = "iroh")]
pub(crate) struct RawIroh {
    pub(crate) connection: iroh::endpoint::Connection,
    pub(crate) send: iroh::endpoint::SendStream,
    pub(crate) recv: iroh::endpoint::RecvStream,
    pub(crate) _endpoint: iroh::Endpoint,
}

/// What both sides name in the handshake.
#[cfg(feature = "iroh")]
const PROTOCOL: &[u8] = b"parlour/link/1";

/// Believes every certificate.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// TLS settings of a client that shows a certificate made by other means than ours, if any.
pub(crate) fn tls(shown: Option<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)>) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    TlsConnector::from(Arc::new(match shown {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key.into()).unwrap(),
        None => config.with_no_client_auth(),
    }))
}

/// A certificate for the identity of this seed, made by other means than ours.
pub(crate) fn certificate(seed: u8) -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&[seed; 32]);
    let key = PrivatePkcs8KeyDer::from(der);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).unwrap();
    // Names and dates say nothing.
    let mut params = rcgen::CertificateParams::new(["somebody.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1999, 1, 1);
    (params.self_signed(&pair).unwrap().der().clone(), key)
}

impl Raw {
    /// A connection of the client with the identity of this seed.
    pub(crate) async fn connect(rig: &Rig, seed: u8) -> Self {
        match &rig.address {
            Address::WebSocket(_) => Self::websocket(rig, tls(Some(certificate(seed)))).await,
            #[cfg(feature = "iroh")]
            Address::Iroh(addr) => {
                let endpoint = raw_endpoint(seed).await;
                let connection = bounded(endpoint.connect(endpoint_addr(addr), PROTOCOL)).await.unwrap();
                let (send, recv) = connection.open_bi().await.unwrap();
                Self::Iroh(Box::new(RawIroh { connection, send, recv, _endpoint: endpoint }))
            }
        }
    }

    /// A connection of somebody who shows no key.
    pub(crate) async fn anonymous(rig: &Rig) -> Self {
        Self::websocket(rig, tls(None)).await
    }

    #[cfg_attr(not(feature = "iroh"), expect(clippy::infallible_destructuring_match, reason = "there may be other addresses"))]
    async fn websocket(rig: &Rig, tls: TlsConnector) -> Self {
        let address = match &rig.address {
            Address::WebSocket(address) => address,
            #[cfg(feature = "iroh")]
            Address::Iroh(_) => panic!("no WebSocket here"),
        };
        let tcp = TcpStream::connect(address).await.unwrap();
        let stream = TlsStream::from(bounded(tls.connect(ServerName::try_from("localhost").unwrap(), tcp)).await.unwrap());
        Self::WebSocket(Box::new(bounded(client_async("wss://localhost/v1/link", stream)).await.unwrap().0))
    }

    /// Sends bytes as one message. Whether they arrive is another question.
    pub(crate) async fn send_message(&mut self, bytes: Bytes) -> bool {
        match self {
            Self::WebSocket(socket) => bounded(socket.send(Message::Binary(bytes))).await.is_ok(),
            #[cfg(feature = "iroh")]
            Self::Iroh(raw) => {
                let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
                bounded(raw.send.write_all(&[&length, &bytes[..]].concat())).await.is_ok()
            }
        }
    }

    /// Begins a message of this size and never ends it.
    pub(crate) async fn announce(&mut self, size: u32) {
        match self {
            Self::WebSocket(socket) => {
                // A binary message, which a client masks (RFC 6455, section 5.2).
                let masks = matches!(socket.get_ref(), TlsStream::Client(_));
                let mut head = vec![0x82, if masks { 0xff } else { 0x7f }, 0, 0, 0, 0];
                head.extend_from_slice(&size.to_be_bytes());
                head.extend_from_slice(if masks { &[1, 2, 3, 4] } else { &[] });
                bounded(socket.get_mut().write_all(&head)).await.unwrap();
            }
            #[cfg(feature = "iroh")]
            Self::Iroh(raw) => bounded(raw.send.write_all(&size.to_be_bytes())).await.unwrap(),
        }
    }

    /// Sends byte after byte of what was announced, each after a pause, until nobody takes them any more.
    pub(crate) async fn drip(&mut self) {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            pause.tick().await;
            let taken = match self {
                Self::WebSocket(socket) => {
                    let stream = socket.get_mut();
                    stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok()
                }
                #[cfg(feature = "iroh")]
                Self::Iroh(raw) => raw.send.write_all(b"x").await.is_ok(),
            };
            if !taken {
                return;
            }
        }
    }

    /// Drips as [`Raw::drip`] does, and listens meanwhile: the code with which it is sent away, if it is told one.
    pub(crate) async fn drip_until_told(&mut self) -> Option<Code> {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(5));
        let frame = match self {
            Self::WebSocket(socket) => loop {
                tokio::select! {
                    message = socket.next() => match message {
                        Some(Ok(Message::Binary(bytes))) => break Frame::decode(bytes).unwrap(),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return None,
                    },
                    _ = pause.tick() => {
                        let stream = socket.get_mut();
                        // Whether anybody takes it will be heard.
                        let _ = stream.write_all(b"x").await;
                        let _ = stream.flush().await;
                    }
                }
            },
            #[cfg(feature = "iroh")]
            Self::Iroh(raw) => {
                let RawIroh { send, recv, .. } = &mut **raw;
                let drip = async {
                    loop {
                        pause.tick().await;
                        let _ = send.write_all(b"x").await;
                    }
                };
                tokio::select! {
                    frame = next_on(recv) => frame?,
                    () = drip => return None,
                }
            }
        };
        assert_eq!(frame.kind, Kind::CLOSE);
        Some(decode::<Fault>(&frame.header).unwrap().code)
    }

    pub(crate) async fn send(&mut self, frame: &Frame) -> bool {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes).unwrap();
        self.send_message(bytes.freeze()).await
    }

    /// The next frame; `None` when the connection has ended, whatever way.
    pub(crate) async fn recv(&mut self) -> Option<Frame> {
        match self {
            Self::WebSocket(socket) => loop {
                match bounded(socket.next()).await {
                    Some(Ok(Message::Binary(bytes))) => break Some(Frame::decode(bytes).unwrap()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break None,
                }
            },
            #[cfg(feature = "iroh")]
            Self::Iroh(raw) => bounded(next_on(&mut raw.recv)).await,
        }
    }

    /// The code of the close frame, after which the connection must end.
    pub(crate) async fn closed_with(&mut self) -> Option<Code> {
        let mut code = None;
        while let Some(frame) = self.recv().await {
            assert_eq!((frame.kind, code), (Kind::CLOSE, None));
            code = Some(decode::<Fault>(&frame.header).unwrap().code);
        }
        code
    }

    /// The same, whatever frames come before.
    pub(crate) async fn closed_at_last_with(&mut self) -> Option<Code> {
        while let Some(frame) = self.recv().await {
            if frame.kind == Kind::CLOSE {
                return Some(decode::<Fault>(&frame.header).unwrap().code);
            }
        }
        None
    }

    /// Says hello; what it is given.
    pub(crate) async fn greet(&mut self) -> Welcome {
        let hello = Hello { capabilities: vec![], agent: "raw".into() };
        assert!(self.send(&Frame { header: Bytes::from(encode(&hello)), ..Frame::new(Kind::HELLO) }).await);
        self.welcome().await
    }

    pub(crate) async fn welcome(&mut self) -> Welcome {
        let frame = self.recv().await.expect("a welcome");
        assert_eq!(frame.kind, Kind::WELCOME);
        decode(&frame.header).unwrap()
    }

    pub(crate) fn action(&self, seq: u64) -> Frame {
        let header = Bytes::from(encode(&Action { name: "note".into() }));
        Frame { seq, header, ..Frame::new(Kind::ACTION) }
    }

    pub(crate) fn request(seq: u64, name: &str, content: Bytes) -> Frame {
        let header = Bytes::from(encode(&Request { name: name.into(), deadline_ms: 0, origin: None }));
        Frame { seq, id: seq, header, content, ..Frame::new(Kind::REQUEST) }
    }
}

/// The next frame on a QUIC stream.
#[cfg(feature = "iroh")]
async fn next_on(recv: &mut iroh::endpoint::RecvStream) -> Option<Frame> {
    let mut length = [0; 4];
    recv.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    recv.read_exact(&mut bytes).await.ok()?;
    Some(Frame::decode(bytes.into()).unwrap())
}

/// The first frame of a client that comes back.
pub(crate) fn resume(welcome: &Welcome, received: u64) -> Frame {
    let Welcome { session, token, .. } = *welcome;
    let header = Resume { capabilities: vec![], agent: "raw".into(), session, token, received };
    Frame { header: Bytes::from(encode(&header)), ..Frame::new(Kind::RESUME) }
}

/// An iroh endpoint that is not ours.
#[cfg(feature = "iroh")]
pub(crate) async fn raw_endpoint(seed: u8) -> iroh::Endpoint {
    use iroh::endpoint::{BindOpts, NetReportConfig, PortmapperConfig, presets};
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[seed; 32]))
        .alpns(vec![PROTOCOL.to_vec()])
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .clear_ip_transports()
        .bind_addr_with_opts("127.0.0.1:0", BindOpts::default().set_prefix_len(8).set_is_default_route(false))
        .unwrap()
        .bind()
        .await
        .unwrap()
}

#[cfg(feature = "iroh")]
pub(crate) fn endpoint_addr(addr: &parlour_net::IrohAddr) -> iroh::EndpointAddr {
    let id = iroh::EndpointId::from_bytes(&addr.key.0).unwrap();
    iroh::EndpointAddr::new(id).with_addrs(addr.direct.iter().copied().map(iroh::TransportAddr::Ip))
}
