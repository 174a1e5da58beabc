//! The device's own key: made here, never exported to another device. It signs for the device towards the server, and it is
//! the device's MLS signature key.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use openmls_traits::{
    signatures::{Signer as MlsSigner, SignerError},
    types::SignatureScheme,
};
use parlour_wire::{
    id::{AccountId, DeviceId},
    identity::{AUTH_CONTEXT, auth_bytes},
};
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// The signature key of a device. Wiped when dropped.
pub struct DeviceKeys(SigningKey);

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKeys({:?})", self.id())
    }
}

impl DeviceKeys {
    /// A key nobody has had before.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::generate(&mut OsRng))
    }

    /// The key from what [`Self::secret`] gave.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The secret, for the device's own encrypted store.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::of_key(&self.public())
    }

    /// Authenticates a link: signs the server's challenge together with the certificate that the server showed, so that the
    /// signature is worth nothing at another server.
    #[must_use]
    pub fn sign_auth(&self, challenge: &[u8; 32], server_fingerprint: &[u8; 32], account: &AccountId) -> [u8; 64] {
        let bytes = auth_bytes(challenge, server_fingerprint, account, &self.id());
        self.sign_for(AUTH_CONTEXT, &bytes)
    }

    /// The X25519 public key that belongs to an Ed25519 public key; `None` if that is no point of the curve.
    pub(crate) fn agreement_key(public: &[u8; 32]) -> Option<[u8; 32]> {
        let key = VerifyingKey::from_bytes(public).ok()?;
        (!key.is_weak()).then(|| key.to_montgomery().to_bytes())
    }

    /// The X25519 secret key that belongs to this device's key.
    pub(crate) fn agreement_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_scalar_bytes())
    }

    /// Signs `context ‖ bytes`.
    pub(crate) fn sign_for(&self, context: &[u8], bytes: &[u8]) -> [u8; 64] {
        self.0.sign(&[context, bytes].concat()).to_bytes()
    }
}

impl MlsSigner for DeviceKeys {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
