//! What TLS must refuse, and what it must agree on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use parlour_net::{
    ConnectConfig, ConnectError, Link, LinkEvent, ListenConfig, PemPair, ServerIdentity, TlsError, Trust, tls::fingerprint,
};
use rustls::{
    ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use support::{Server, bounded, next};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn pair() -> PemPair {
    ServerIdentity::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

#[test]
fn a_certificate_survives_its_pem_text_and_nonsense_does_not_load() {
    let (PemPair { cert_pem, key_pem }, other) = (pair(), pair());
    let identity = ServerIdentity::load(&cert_pem, &key_pem).unwrap();
    assert_eq!(identity.fingerprint(), fingerprint(&CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()));
    assert_ne!(identity.fingerprint(), ServerIdentity::load(&other.cert_pem, &other.key_pem).unwrap().fingerprint());
    assert!(matches!(ServerIdentity::load("", &key_pem), Err(TlsError::NoCertificate)));
    assert!(matches!(ServerIdentity::load(&cert_pem, &cert_pem), Err(TlsError::NoKey)));
    assert!(matches!(ServerIdentity::load(&cert_pem, &other.key_pem), Err(TlsError::Unusable(_))));
    assert!(matches!(ServerIdentity::self_signed(&["näme".to_owned()]), Err(TlsError::Generate(_))));
}

fn client(cert_pem: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_the_version_is_the_latest() {
    let PemPair { cert_pem, key_pem } = pair();
    let server = Server::start_as(ServerIdentity::load(&cert_pem, &key_pem).unwrap(), ListenConfig::default()).await;
    let connector = client(&cert_pem, rustls::DEFAULT_VERSIONS);
    let name = ServerName::try_from("localhost").unwrap();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let stream = bounded(connector.connect(name, tcp)).await.unwrap();
    let connection = stream.get_ref().1;
    assert_eq!(connection.negotiated_key_exchange_group().map(|group| group.name()), Some(NamedGroup::X25519MLKEM768));
    assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

/// Shows a certificate whose key it does not have.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn the_right_certificate_without_its_key_is_not_believed() {
    let (real, false_key) = (pair(), pair().key_pem);
    let expected = ServerIdentity::load(&real.cert_pem, &real.key_pem).unwrap().fingerprint();
    let key = PrivateKeyDer::from_pem_slice(false_key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let certificate = CertificateDer::from_pem_slice(real.cert_pem.as_bytes()).unwrap();
    let impostor = Impostor(Arc::new(CertifiedKey::new(vec![certificate], key)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(impostor));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        }
    });
    for trust in [Trust::Fingerprint(expected), Trust::FirstUse] {
        let (_link, mut events) = Link::connect(ConnectConfig::new(format!("wss://{address}").parse().unwrap(), trust));
        assert!(matches!(next(&mut events).await, LinkEvent::Failed(ConnectError::Untrusted(_))));
    }
}
