//! The judging of certificates, for the fuzz target `certificate`.

use rustls::{
    client::danger::ServerCertVerifier as _,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::ClientCertVerifier as _,
};

use super::{Trust, judge::Judge, key, provider};
use crate::identity::{Identity, PeerKey};

/// The certificate of an identity.
#[must_use]
pub fn certificate(secret: &[u8; 32]) -> Vec<u8> {
    let (_, certificate) = key::certified(&Identity::from_secret(secret)).expect("an identity always has one");
    certificate.to_vec()
}

/// The key that a certificate holds, if a peer may show it; a server lets a client in by it.
#[must_use]
pub fn key_in(der: &[u8]) -> Option<PeerKey> {
    let certificate = CertificateDer::from(der);
    let key = key::key_of(&certificate);
    let server = key::AskForKey { algorithms: provider().signature_verification_algorithms };
    let asked = server.verify_client_cert(&certificate, &[], UnixTime::since_unix_epoch(std::time::Duration::ZERO));
    assert_eq!(asked.is_ok(), key.is_some(), "who is let in has a key");
    assert_eq!(key::proven_key(Some(&[certificate])), key);
    key
}

/// Whether a client that trusts so goes on when a server shows this certificate. Only for a trust that asks no authorities.
#[must_use]
pub fn server_passes(trust: Trust, der: &[u8]) -> bool {
    assert!(!matches!(trust, Trust::System | Trust::FirstUse), "authorities are of this machine");
    let judge = Judge::new(trust, &provider()).expect("no authorities are read");
    let name = ServerName::try_from("parlour.invalid").expect("a name");
    let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
    judge.verify_server_cert(&CertificateDer::from(der), &[], &name, &[], now).is_ok()
}
