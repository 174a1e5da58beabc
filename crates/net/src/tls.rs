//! TLS 1.3 only, hybrid key exchange first: the server's certificate, and the ways in which a client comes to trust it.
//!
//! A server needs no certificate authority: it shows a certificate of its own, and clients know its fingerprint, the SHA-256 of
//! the DER, or the [`Identity`] that it is made from. Whatever the trust, the server must prove in the handshake that it holds
//! the certificate's key; and so must a client that shows its own.

pub(crate) mod fuzzing;
mod judge;
mod key;

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ResolvesServerCert, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::identity::{Identity, KeySet, PeerKey};
use judge::{Judge, Rule};

pub(crate) use judge::{Mismatch, mismatch};
pub(crate) use key::proven_key;
#[cfg(feature = "iroh")]
pub(crate) use key::raw_fingerprint;

/// Why a certificate or key cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TlsError {
    /// No certificate in the PEM text.
    #[error("no certificate found in the PEM text")]
    NoCertificate,
    /// No private key in the PEM text.
    #[error("no private key found in the PEM text")]
    NoKey,
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Generate(String),
    /// The certificates that the system trusts could not be read.
    #[error("the system has no trusted certificates: {0}")]
    NoRoots(String),
    /// Certificate and key do not fit, or cannot be used.
    #[error("certificate or key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// A certificate and its key, as PEM texts.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

/// What a server shows: certificate chain and key.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    certificate: Arc<SingleCertAndKey>,
    fingerprint: [u8; 32],
    /// Whether clients are asked for their identities.
    asks: bool,
}

impl ServerIdentity {
    /// Reads the certificate chain (leaf first) and the private key from PEM texts.
    ///
    /// # Errors
    /// [`TlsError`] for texts without certificate or key, or if the two do not fit.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| TlsError::NoCertificate)?;
        let fingerprint = fingerprint(chain.first().ok_or(TlsError::NoCertificate)?);
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::NoKey)?;
        let provider = provider();
        let key = rustls::sign::CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Unusable)?;
        Ok(Self { certificate: Arc::new(SingleCertAndKey::from(key)), fingerprint, asks: false })
    }

    /// The server shows this identity, in a certificate signed by itself that is the same whenever it is made, and asks clients
    /// for theirs ([`crate::ConnectConfig::identity`]). Clients know it by its key ([`Trust::Key`]).
    ///
    /// # Errors
    /// [`TlsError::Generate`] if the certificate cannot be made.
    pub fn from_identity(identity: &Identity) -> Result<Self, TlsError> {
        let (certificate, der) = key::certified(identity)?;
        Ok(Self { certificate: Arc::new(certificate), fingerprint: fingerprint(&der), asks: true })
    }

    /// The same, asking clients for their identities or not. They may keep them to themselves; who is let in then is decided by
    /// [`crate::ListenConfig::admit`].
    #[must_use]
    pub fn asking(self, asks: bool) -> Self {
        Self { asks, ..self }
    }

    /// Makes a certificate for these host names and IP addresses, signed by itself. It has no end: clients trust its
    /// fingerprint, not its dates.
    ///
    /// # Errors
    /// [`TlsError::Generate`] for a name that a certificate cannot hold.
    pub fn self_signed(names: &[String]) -> Result<PemPair, TlsError> {
        let failed = |error: rcgen::Error| TlsError::Generate(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Parlour server");
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(PemPair { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// SHA-256 of the leaf certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites and groups of TLS 1.3");
        let config = if self.asks {
            config.with_client_cert_verifier(Arc::new(key::AskForKey { algorithms }) as Arc<dyn ClientCertVerifier>)
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_cert_resolver(Arc::clone(&self.certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Resuming TLS saves a twentieth of a handshake and costs state on both sides; the link resumes by itself.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Arc::new(config)
    }
}

/// How a client decides that a server is the one it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificate with this fingerprint, and no other.
    Fingerprint([u8; 32]),
    /// A certificate for the host's name by an authority that the system trusts.
    System,
    /// Whatever certificate is shown first. If an authority that the system trusts vouches for it under the host's name, the
    /// link goes on as with [`Trust::System`]; otherwise it accepts only that certificate as long as it lives. The caller
    /// learns which of the two from [`crate::LinkEvent::Up`] and gives [`Trust::System`] or [`Trust::Fingerprint`] the next time.
    FirstUse,
    /// The server with this key ([`ServerIdentity::from_identity`]), whatever else its certificate says.
    Key(PeerKey),
    /// A server with one of these keys. The set is asked at every connection.
    Keys(KeySet),
}

/// SHA-256 of a certificate's DER.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// A client's TLS settings, with what it learns on first use.
#[derive(Debug)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    judge: Arc<Judge>,
}

impl ClientTls {
    /// Shows `identity` to servers that ask.
    pub(crate) fn new(trust: Trust, identity: Option<&Identity>) -> Result<Self, TlsError> {
        let provider = provider();
        let judge = Arc::new(Judge::new(trust, &provider)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&judge) as Arc<dyn ServerCertVerifier>);
        let mut config = match identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(key::certified(identity)?.0)),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every connection checks the certificate anew.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), judge })
    }

    /// A handshake has succeeded with this certificate: on first use it decides what is expected from here on. Gives whether
    /// that is the word of the system's authorities.
    pub(crate) fn confirm(&self, fingerprint: [u8; 32]) -> bool {
        matches!(self.judge.confirm(fingerprint), Rule::System(_))
    }
}

/// TLS 1.3 suites of aws-lc; hybrid X25519 and ML-KEM first, so that recorded traffic stays secret from quantum computers.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}
