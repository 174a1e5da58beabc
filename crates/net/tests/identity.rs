//! Identities in TLS: who shows a key must have it, and what is written around the key says nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use parlour_net::{ConnectConfig, ConnectError, Identity, Link, LinkEvent, ListenConfig, PemPair, ServerIdentity, Target, Trust};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureAlgorithm, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};
use support::{Server, bounded, next, up};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn identity(seed: u8) -> Identity {
    Identity::from_secret(&[seed; 32])
}

fn shown(seed: u8) -> ServerIdentity {
    ServerIdentity::from_identity(&identity(seed)).unwrap()
}

fn p256() -> ServerIdentity {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
    ServerIdentity::load(&cert_pem, &key_pem).unwrap()
}

/// The secret of this seed as any program would store it (RFC 8410, section 7).
fn ed25519(seed: u8) -> PrivateKeyDer<'static> {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&[seed; 32]);
    PrivatePkcs8KeyDer::from(der).into()
}

/// A certificate for this key, as any program would make one.
fn certificate(key: &PrivateKeyDer<'static>) -> CertificateDer<'static> {
    let pair = rcgen::KeyPair::try_from(key).unwrap();
    rcgen::CertificateParams::new(["anybody.example".to_owned()]).unwrap().self_signed(&pair).unwrap().der().clone()
}

/// Shows a certificate, and signs with whatever key it has, by whatever scheme.
#[derive(Debug)]
struct Impostor {
    certificate: CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
}

impl Impostor {
    fn new(certificate: CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> Arc<Self> {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).unwrap();
        Arc::new(Self { certificate, key })
    }
}

#[derive(Debug)]
struct AnyScheme(Arc<dyn SigningKey>);

impl SigningKey for AnyScheme {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256])
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl ResolvesClientCert for Impostor {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(vec![self.certificate.clone()], Arc::new(AnyScheme(Arc::clone(&self.key))))))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(vec![self.certificate.clone()], Arc::clone(&self.key))))
    }
}

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

/// What an HTTP request over TLS brings from somebody who shows this: nothing, if TLS fails.
async fn answer(server: &Server, shown: Option<Arc<Impostor>>) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let config = match shown {
        Some(shown) => config.with_client_cert_resolver(shown),
        None => config.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    // A client has done its part before the server has looked at its certificate.
    let mut stream = bounded(connector.connect(ServerName::try_from("localhost").unwrap(), tcp)).await.unwrap();
    drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await);
    let mut bytes = Vec::new();
    drop(bounded(stream.read_to_end(&mut bytes)).await);
    bytes
}

#[tokio::test]
async fn a_client_must_have_the_key_that_it_shows() {
    let server = Server::start_as(shown(1), ListenConfig::default()).await;
    let (own, other) = (ed25519(2), ed25519(3));
    assert!(answer(&server, None).await.starts_with(b"HTTP/1.1 404"));
    assert!(answer(&server, Some(Impostor::new(certificate(&own), &own))).await.starts_with(b"HTTP/1.1 404"));
    assert!(answer(&server, Some(Impostor::new(certificate(&other), &own))).await.is_empty());
}

#[tokio::test]
async fn a_client_with_another_kind_of_key_is_no_peer() {
    let server = Server::start_as(shown(1), ListenConfig::default()).await;
    let key = PrivateKeyDer::try_from(rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
    assert!(answer(&server, Some(Impostor::new(certificate(&key), &key))).await.is_empty());
    assert!(answer(&server, Some(Impostor::new(CertificateDer::from(vec![0x30, 0]), &key))).await.is_empty());
}

#[tokio::test]
async fn a_server_must_have_the_key_that_it_shows() {
    let (own, other) = (ed25519(2), ed25519(3));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Impostor::new(certificate(&other), &own));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        }
    });
    let url = || format!("wss://{address}").parse().unwrap();
    for trust in [Trust::Key(identity(3).key()), Trust::Keys([identity(3).key()].into()), Trust::FirstUse] {
        let (_link, mut events) = Link::connect(ConnectConfig::new(url(), trust));
        assert!(matches!(next(&mut events).await, LinkEvent::Failed(ConnectError::Untrusted(_))));
    }
}

#[tokio::test]
async fn a_server_whose_certificate_holds_no_such_key_has_the_wrong_one() {
    let server = Server::start_as(p256(), ListenConfig::default()).await;
    let expected = identity(1).key();
    let config = ConnectConfig { trust: Trust::Key(expected), ..server.config(server.address) };
    let (_link, mut events) = Link::connect(config);
    let error = ConnectError::WrongKey { expected: Some(expected), seen: None };
    assert_eq!(next(&mut events).await, LinkEvent::Failed(error));
}

#[tokio::test]
async fn a_server_asks_for_keys_only_if_it_is_told_to() {
    for (shown, seen) in [
        (p256(), None),
        (p256().asking(true), Some(identity(2).key())),
        (shown(1), Some(identity(2).key())),
        (shown(1).asking(false), None),
    ] {
        let mut server = Server::start_as(shown, ListenConfig::default()).await;
        let config = ConnectConfig { identity: Some(identity(2)), ..server.config(server.address) };
        let (_link, mut events) = Link::connect(config);
        assert!(!up(&mut events).await);
        assert_eq!(server.opened().await.0.peer_key, seen);
    }
}

#[tokio::test]
async fn an_identity_always_shows_the_same_certificate() {
    assert_eq!(shown(1).fingerprint(), shown(1).fingerprint());
    assert_ne!(shown(1).fingerprint(), shown(2).fingerprint());
    // So whoever knows the fingerprint knows the server after a restart, too.
    let fingerprint = shown(1).fingerprint();
    let server = Server::start_as(shown(1), ListenConfig::default()).await;
    let (_link, mut events) = server.connect();
    match next(&mut events).await {
        LinkEvent::Up { fingerprint: seen, peer_key, .. } => {
            assert_eq!((seen, peer_key), (fingerprint, Some(identity(1).key())));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fingerprint_in_an_address_does_not_replace_a_key() {
    let url: parlour_wire::address::ServerUrl = format!("wss://a.example:1#{}", "ab".repeat(32)).parse().unwrap();
    let key = Trust::Key(identity(1).key());
    assert_eq!(ConnectConfig::new(url.clone(), key.clone()).trust, key);
    let config = ConnectConfig::new(url.clone(), Trust::FirstUse);
    assert_eq!(config.trust, Trust::Fingerprint([0xab; 32]));
    assert!(matches!(config.target, Target::WebSocket(target) if target == url));
}
