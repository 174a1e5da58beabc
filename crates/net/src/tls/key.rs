//! Identities in TLS: a certificate made from an Ed25519 key, and the key read back from a certificate.
//!
//! X.509 is only the envelope. Who shows a certificate proves in the handshake that it holds the key inside; the names, dates
//! and signatures on the envelope are written by that same peer and say nothing, so nobody looks at them.

use std::sync::Arc;

use ed25519_dalek::Signer as _;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureAlgorithm, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};
use webpki::EndEntityCert;

use super::TlsError;
use crate::identity::{Identity, PeerKey};

/// The DER of an Ed25519 public key (RFC 8410, section 4) up to the key itself.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands for a certificate's fingerprint where a peer shows its bare key (RFC 7250).
#[cfg(feature = "iroh")]
pub(crate) fn raw_fingerprint(key: &PeerKey) -> [u8; 32] {
    super::fingerprint(&CertificateDer::from([&SPKI_PREFIX[..], &key.0].concat()))
}

/// The Ed25519 key in a certificate. `None` for any other kind of key, and for a key whose signatures anybody can make.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Option<PeerKey> {
    let spki = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
    let key = PeerKey(spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?);
    key.is_sound().then_some(key)
}

/// The key that a peer has proven, if it showed one.
pub(crate) fn proven_key(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerKey> {
    key_of(certificates?.first()?)
}

/// Signs in the name of an identity; the secret stays where it is.
#[derive(Clone, Debug)]
struct Hand {
    identity: Identity,
    key: PeerKey,
}

impl rcgen::PublicKeyData for Hand {
    fn der_bytes(&self) -> &[u8] {
        &self.key.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for Hand {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.identity.signing_key().sign(message).to_vec())
    }
}

impl SigningKey for Hand {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Hand {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.identity.signing_key().sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// The certificate of an identity with the means to prove it, for either end of a handshake. The same key always makes the same
/// certificate, so its fingerprint stays too.
pub(super) fn certified(identity: &Identity) -> Result<(SingleCertAndKey, CertificateDer<'static>), TlsError> {
    let hand = Hand { identity: identity.clone(), key: identity.key() };
    let certificate = envelope(&hand).map_err(|error| TlsError::Generate(error.to_string()))?;
    let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.clone()], Arc::new(hand)));
    Ok((resolver, certificate))
}

fn envelope(hand: &Hand) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Parlour");
    Ok(params.self_signed(hand)?.der().clone())
}

/// Asks clients who they are, and lets in those that do not say: who may do what is decided by the application, and told to the
/// client in words, not by a TLS alert.
#[derive(Debug)]
pub(super) struct AskForKey {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AskForKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match key_of(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::BadEncoding.into()),
        }
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
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that says it is of this key, whoever has signed it.
    fn certificate(key: PeerKey) -> CertificateDer<'static> {
        envelope(&Hand { identity: Identity::from_secret(&[1; 32]), key }).unwrap()
    }

    #[test]
    fn a_certificate_gives_its_key_unless_that_is_everybodys() {
        let own = Identity::from_secret(&[1; 32]).key();
        assert_eq!(key_of(&certificate(own)), Some(own));
        // The neutral element, a point of order two, and no point at all.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xec, 0x7f);
        for key in [neutral, second, [2; 32]] {
            assert_eq!(key_of(&certificate(PeerKey(key))), None, "{key:?}");
        }
    }

    #[test]
    fn no_damage_to_a_certificate_makes_its_reader_panic_or_see_what_is_not_there() {
        let whole = certificate(Identity::from_secret(&[1; 32]).key());
        for cut in 0..whole.len() {
            assert_eq!(key_of(&CertificateDer::from(&whole[..cut])), None, "{cut} bytes");
        }
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(key) = key_of(&CertificateDer::from(&bytes[..])) {
                assert!(bytes.windows(32).any(|window| window == key.0), "bit {bit}");
            }
        }
    }
}
