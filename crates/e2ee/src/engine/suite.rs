//! How OpenMLS is set up: suite, capabilities, wire formats, windows.

use openmls::{
    group::{MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY},
    prelude::{
        Capabilities, Ciphersuite, Credential, CredentialType, CredentialWithKey, ExtensionType, Lifetime, ProtocolVersion,
        SenderRatchetConfiguration,
    },
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use parlour_wire::{
    api::{EPOCH_WINDOW, Suite},
    identity::VerifiedCertificate,
};

use crate::{error::E2eeError, storage::Overlay};

/// X-Wing (ML-KEM-768 and X25519), AES-128-GCM, SHA-256, Ed25519: code point 0x004F of draft-ietf-mls-pq-ciphersuites.
const HYBRID: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;
/// X25519, ChaCha20-Poly1305, SHA-256, Ed25519: 0x0003 of RFC 9420.
const CLASSICAL: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

/// OpenMLS's word for a suite.
pub(super) fn mls_suite(suite: Suite) -> Result<Ciphersuite, E2eeError> {
    match suite {
        Suite::HYBRID => Ok(HYBRID),
        Suite::CLASSICAL => Ok(CLASSICAL),
        _ => Err(E2eeError::Malformed("suite")),
    }
}

/// Our word for a suite, if it is one that we take.
pub(super) fn wire_suite(suite: Ciphersuite) -> Result<Suite, E2eeError> {
    match suite {
        HYBRID => Ok(Suite::HYBRID),
        CLASSICAL => Ok(Suite::CLASSICAL),
        _ => Err(E2eeError::Malformed("suite")),
    }
}

/// The group context extension that holds the conversation's policy; of the range for private use.
pub(super) const POLICY_EXTENSION: u16 = 0xF150;
/// The credential type of a signed device certificate; of the range for private use.
pub(super) const CERTIFICATE_CREDENTIAL: CredentialType = CredentialType::Other(0xF150);
/// Ciphertexts come in multiples of so many bytes: a short answer looks like a sentence.
const PADDING: usize = 256;
/// Past epochs whose messages can be read: what the server lets through, and one more.
const PAST_EPOCHS: usize = EPOCH_WINDOW as usize + 1;
/// How far messages of one sender may overtake each other within an epoch.
const OUT_OF_ORDER: u32 = 64;
/// How many messages of one sender within an epoch may be skipped.
const FORWARD: u32 = 2000;

/// What OpenMLS works with in one step.
pub(super) struct Provider<'a> {
    pub(super) crypto: &'a RustCrypto,
    pub(super) storage: Overlay<'a>,
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Overlay<'a>;

    fn storage(&self) -> &Overlay<'a> {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}

pub(super) fn capabilities() -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&[HYBRID, CLASSICAL]),
        Some(&[ExtensionType::Unknown(POLICY_EXTENSION), ExtensionType::LastResort]),
        Some(&[]),
        Some(&[CERTIFICATE_CREDENTIAL]),
    )
}

/// Valid at all times; see the module documentation of [`crate::engine`].
pub(super) fn lifetime() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

pub(super) fn ratchets() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD)
}

pub(super) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING)
        .max_past_epochs(PAST_EPOCHS)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchets())
        .build()
}

pub(super) fn credential(certificate: &VerifiedCertificate) -> CredentialWithKey {
    CredentialWithKey {
        credential: Credential::new(CERTIFICATE_CREDENTIAL, certificate.as_bytes().to_vec()),
        signature_key: certificate.get().signature_key.as_slice().into(),
    }
}

/// The settings of [`join_config`] for a group that this device makes.
pub(super) fn group_builder(suite: Ciphersuite) -> openmls::group::MlsGroupBuilder {
    openmls::group::MlsGroup::builder()
        .ciphersuite(suite)
        .with_capabilities(capabilities())
        .lifetime(lifetime())
        .with_wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING)
        .max_past_epochs(PAST_EPOCHS)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchets())
}
