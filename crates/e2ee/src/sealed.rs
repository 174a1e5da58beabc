//! Keys sealed for single devices, where more people than these read what carries them: HPKE (RFC 9180) to the device's own key.
//!
//! A device has one Ed25519 key. HPKE's DHKEM takes the X25519 key of the same curve point and scalar, which is as safe as either of
//! the two used alone: Thormarker, "On using the same key pair for Ed25519 and an X25519 based KEM" (2021).

use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    types::{HpkeAeadType, HpkeCiphertext, HpkeConfig, HpkeKdfType, HpkeKemType},
};
use parlour_wire::{
    content::SealedKey,
    id::{AccountId, BlobId, ConversationId},
    identity::Certificate,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::device::DeviceKeys;

const HPKE: HpkeConfig = HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::ChaCha20Poly1305);
const INFO: &[u8] = b"parlour history key v1\0";

/// The key does not open: it is sealed for another device or another pack, or differs from what was sealed. When sealing: the device's key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key is not for this device, or not for this")]
pub struct SealedKeyError;

/// What the key of a shared history is for. Bound in, so that nobody can offer it again as the key of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryKey {
    /// The conversation that the messages are of.
    pub conversation: ConversationId,
    /// Whose devices may open it.
    pub account: AccountId,
    /// The sealed pack.
    pub blob: BlobId,
}

impl HistoryKey {
    /// Seals the key of the pack for one device.
    ///
    /// # Errors
    /// [`SealedKeyError`] if what the certificate names is no key.
    pub fn seal(&self, device: &Certificate, key: &[u8; 32]) -> Result<SealedKey, SealedKeyError> {
        let public = DeviceKeys::agreement_key(&device.signature_key).ok_or(SealedKeyError)?;
        let sealed = RustCrypto::default().hpke_seal(HPKE, &public, INFO, &self.context(), key).map_err(|_| SealedKeyError)?;
        let encapsulated = sealed.kem_output.as_slice().try_into().map_err(|_| SealedKeyError)?;
        let ciphertext = sealed.ciphertext.as_slice().try_into().map_err(|_| SealedKeyError)?;
        Ok(SealedKey { device: device.device(), encapsulated, ciphertext })
    }

    /// Opens what [`Self::seal`] made for a device.
    ///
    /// # Errors
    /// [`SealedKeyError`].
    pub fn open(&self, device: &DeviceKeys, sealed: &SealedKey) -> Result<Zeroizing<[u8; 32]>, SealedKeyError> {
        let input =
            HpkeCiphertext { kem_output: sealed.encapsulated.to_vec().into(), ciphertext: sealed.ciphertext.to_vec().into() };
        let secret = device.agreement_secret();
        let key = RustCrypto::default().hpke_open(HPKE, &input, secret.as_slice(), INFO, &self.context());
        let key = Zeroizing::new(key.map_err(|_| SealedKeyError)?);
        key.as_slice().try_into().map(Zeroizing::new).map_err(|_| SealedKeyError)
    }

    fn context(&self) -> Vec<u8> {
        [self.conversation.as_bytes().as_slice(), self.account.as_bytes(), self.blob.as_bytes()].concat()
    }
}
