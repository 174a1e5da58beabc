//! TLS 1.3 only, hybrid key exchange first: the server's certificate, and the ways in which a client comes to trust it.
//!
//! A server needs no certificate authority: it shows a certificate of its own, and clients know its fingerprint, the SHA-256 of
//! the DER. Whatever the trust, the server must prove in the handshake that it holds the certificate's key.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};
use thiserror::Error;

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
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
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
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Resuming TLS saves a twentieth of a handshake and costs state on both sides; the link resumes by itself.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), fingerprint })
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
        Arc::clone(&self.config)
    }
}

/// How a client decides that a server is the one it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificate with this fingerprint, and no other.
    Fingerprint([u8; 32]),
    /// A certificate for the host's name by an authority that the system trusts.
    System,
    /// Whatever certificate is shown first. If an authority that the system trusts vouches for it under the host's name, the
    /// link goes on as with [`Trust::System`]; otherwise it accepts only that certificate as long as it lives. The caller
    /// learns which of the two from [`crate::LinkEvent::Up`] and gives [`Trust::System`] or [`Trust::Fingerprint`] the next time.
    FirstUse,
}

/// SHA-256 of a certificate's DER.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The server showed another certificate than the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server's certificate has changed")]
pub(crate) struct Mismatch {
    pub(crate) expected: [u8; 32],
    pub(crate) seen: [u8; 32],
}

/// A client's TLS settings, with what it learns on first use.
#[derive(Debug)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    judge: Arc<Judge>,
}

impl ClientTls {
    pub(crate) fn new(trust: Trust) -> Result<Self, TlsError> {
        let provider = provider();
        let judge = Arc::new(Judge::new(trust, &provider)?);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&judge) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
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
fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn system_verifier(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if ignored > 0 || !found.errors.is_empty() {
        tracing::debug!(ignored, errors = ?found.errors, "some of the system's certificates cannot be used");
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::NoRoots(error.to_string()))
}

/// What a certificate must satisfy.
#[derive(Debug)]
enum Rule {
    /// It has this fingerprint.
    Pinned([u8; 32]),
    /// These authorities vouch for it.
    System(Arc<WebPkiServerVerifier>),
}

/// Judges certificates by a rule; without one, accepts what it sees and makes a rule of it once the handshake has succeeded.
/// A certificate is public: before the handshake has shown its key, it must not decide anything.
#[derive(Debug)]
struct Judge {
    rule: OnceLock<Rule>,
    /// Who is asked as long as there is no rule.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The last certificate that the authorities vouched for when there was no rule.
    vouched: Mutex<Option<[u8; 32]>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Judge {
    /// Reads the system's certificates only for a trust that asks for them. On first use they may be missing.
    fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (rule, authorities) = match trust {
            Trust::Fingerprint(expected) => (OnceLock::from(Rule::Pinned(expected)), None),
            Trust::System => (OnceLock::from(Rule::System(system_verifier(provider)?)), None),
            Trust::FirstUse => {
                let authorities = system_verifier(provider);
                if let Err(error) = &authorities {
                    tracing::debug!(%error, "the first certificate will be pinned");
                }
                (OnceLock::new(), authorities.ok())
            }
        };
        Ok(Self { rule, authorities, vouched: Mutex::default(), algorithms: provider.signature_verification_algorithms })
    }

    fn confirm(&self, fingerprint: [u8; 32]) -> &Rule {
        self.rule.get_or_init(|| match &self.authorities {
            Some(authorities) if *self.vouched() == Some(fingerprint) => Rule::System(Arc::clone(authorities)),
            _ => Rule::Pinned(fingerprint),
        })
    }

    fn vouched(&self) -> MutexGuard<'_, Option<[u8; 32]>> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = fingerprint(end_entity);
        let ask = |authorities: &WebPkiServerVerifier| {
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match (self.rule.get(), &self.authorities) {
            (Some(Rule::System(authorities)), _) => return ask(authorities),
            (Some(Rule::Pinned(expected)), _) if *expected != seen => {
                let mismatch = Mismatch { expected: *expected, seen };
                return Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into());
            }
            (Some(Rule::Pinned(_)), _) | (None, None) => {}
            (None, Some(authorities)) => match ask(authorities) {
                Ok(_) => *self.vouched() = Some(seen),
                Err(error) => tracing::debug!(%error, "no authority vouches for the first certificate: it will be pinned"),
            },
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// The mismatch that a failed handshake hides in its I/O error.
pub(crate) fn mismatch(error: &std::io::Error) -> Option<Mismatch> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<Mismatch>().copied()
        }
        _ => None,
    }
}
