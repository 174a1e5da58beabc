//! A client's judgement of the certificates that servers show.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use thiserror::Error;

use super::{TlsError, Trust, fingerprint, key::key_of};
use crate::identity::{KeySet, PeerKey};

/// The server is not who it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Mismatch {
    /// It showed another certificate than the expected one.
    #[error("the server's certificate has changed")]
    Certificate { expected: [u8; 32], seen: [u8; 32] },
    /// It has another key than the expected one, or one that is not in the set.
    #[error("the server has the wrong key")]
    Key { expected: Option<PeerKey>, seen: Option<PeerKey> },
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
pub(super) enum Rule {
    /// It has this fingerprint.
    Pinned([u8; 32]),
    /// These authorities vouch for it.
    System(Arc<WebPkiServerVerifier>),
    /// It holds this key.
    Key(PeerKey),
    /// It holds one of these keys.
    Keys(KeySet),
}

/// Judges certificates by a rule; without one, accepts what it sees and makes a rule of it once the handshake has succeeded.
/// A certificate is public: before the handshake has shown its key, it must not decide anything.
#[derive(Debug)]
pub(super) struct Judge {
    rule: OnceLock<Rule>,
    /// Who is asked as long as there is no rule.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The last certificate that the authorities vouched for when there was no rule.
    vouched: Mutex<Option<[u8; 32]>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Judge {
    /// Reads the system's certificates only for a trust that asks for them. On first use they may be missing.
    pub(super) fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (rule, authorities) = match trust {
            Trust::Fingerprint(expected) => (OnceLock::from(Rule::Pinned(expected)), None),
            Trust::System => (OnceLock::from(Rule::System(system_verifier(provider)?)), None),
            Trust::Key(key) => (OnceLock::from(Rule::Key(key)), None),
            Trust::Keys(keys) => (OnceLock::from(Rule::Keys(keys)), None),
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

    pub(super) fn confirm(&self, fingerprint: [u8; 32]) -> &Rule {
        self.rule.get_or_init(|| match &self.authorities {
            Some(authorities) if *self.vouched() == Some(fingerprint) => Rule::System(Arc::clone(authorities)),
            _ => Rule::Pinned(fingerprint),
        })
    }

    fn vouched(&self) -> MutexGuard<'_, Option<[u8; 32]>> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a certificate is the pinned one or holds the right key. `None` if that is not the question.
    fn compare(&self, certificate: &CertificateDer<'_>) -> Option<Result<(), Mismatch>> {
        let same = |same, mismatch: Mismatch| if same { Ok(()) } else { Err(mismatch) };
        match self.rule.get()? {
            Rule::System(_) => None,
            Rule::Pinned(expected) => {
                let seen = fingerprint(certificate);
                Some(same(*expected == seen, Mismatch::Certificate { expected: *expected, seen }))
            }
            Rule::Key(key) => {
                let seen = key_of(certificate);
                Some(same(seen == Some(*key), Mismatch::Key { expected: Some(*key), seen }))
            }
            Rule::Keys(keys) => {
                let seen = key_of(certificate);
                Some(same(seen.is_some_and(|seen| keys.contains(&seen)), Mismatch::Key { expected: None, seen }))
            }
        }
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
        let ask = |authorities: &WebPkiServerVerifier| {
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        if let Some(compared) = self.compare(end_entity) {
            return match compared {
                Ok(()) => Ok(ServerCertVerified::assertion()),
                Err(mismatch) => Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into()),
            };
        }
        match (self.rule.get(), &self.authorities) {
            (Some(Rule::System(authorities)), _) => return ask(authorities),
            (_, Some(authorities)) => match ask(authorities) {
                Ok(_) => *self.vouched() = Some(fingerprint(end_entity)),
                Err(error) => tracing::debug!(%error, "no authority vouches for the first certificate: it will be pinned"),
            },
            (_, None) => {}
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
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref().cloned(),
        _ => None,
    }
}
