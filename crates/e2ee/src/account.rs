//! The account: a random root secret, the key that comes from it, and what that key signs.
//!
//! The root is needed to make a device or to revoke one, and not in between: a device does not keep it at rest. At the server
//! it lies wrapped under the OPAQUE export key, so that name and password alone bring another device in.

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use parlour_wire::{
    Code,
    codec::{DecodeError, encode},
    id::{AccountId, DeviceId},
    identity::{CERTIFICATE_CONTEXT, Certificate, DeviceList, LIST_CONTEXT, VerifiedCertificate, VerifiedList, signed_bytes},
    limits,
    name::Name,
};
use rand::{RngCore, rngs::OsRng};
use sha2::Sha512;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{backup::BackupKey, password::ExportKey};

const WRAP_INFO: &[u8] = b"parlour root wrap v1";
const ACCOUNT_KEY_INFO: &[u8] = b"parlour account key v1";
const BACKUP_KEY_INFO: &[u8] = b"parlour backup key v1";
const NONCE: usize = 24;

/// Why an account operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccountError {
    /// The wrapped root does not open under this key and name.
    #[error("the wrapped root secret does not open")]
    Unwrap,
    /// The certificate or list belongs to another account.
    #[error("not of this account")]
    OtherAccount,
    /// The device is not in the list.
    #[error("no such device")]
    NoSuchDevice,
    /// The device has been revoked; its key never comes back.
    #[error("the device has been revoked")]
    Revoked,
    /// The label is too long, the list is full, or it contradicts itself.
    #[error(transparent)]
    Invalid(#[from] DecodeError),
}

impl AccountError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Unwrap => Code::WRONG_PASSWORD,
            Self::OtherAccount => Code::KEY_CHANGED,
            Self::NoSuchDevice => Code::DEVICE_NOT_FOUND,
            Self::Revoked => Code::DEVICE_REVOKED,
            Self::Invalid(_) => Code::BAD_REQUEST,
        }
    }
}

/// The root secret of an account: 32 random bytes, wiped when dropped.
pub struct Root(Zeroizing<[u8; 32]>);

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(…)")
    }
}

impl Root {
    /// A root nobody has had before.
    #[must_use]
    pub fn generate() -> Self {
        let mut root = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(root.as_mut());
        Self(root)
    }

    /// A root from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key of the account's backup.
    #[must_use]
    pub fn backup_key(&self) -> BackupKey {
        BackupKey::from_bytes(derive(None, self.0.as_ref(), BACKUP_KEY_INFO))
    }

    /// Encrypts the root for the server to keep: nonce and XChaCha20-Poly1305 ciphertext, 72 bytes. The name is bound in, so
    /// the server cannot swap two users' roots.
    #[must_use]
    pub fn wrap(&self, export_key: &ExportKey, name: &Name) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let payload = Payload { msg: self.0.as_ref(), aad: name.as_str().as_bytes() };
        let sealed = wrapping_cipher(export_key, name)
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("32 bytes are within the cipher's limit");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`Self::wrap`] made.
    ///
    /// # Errors
    /// [`AccountError::Unwrap`] if key, name or bytes are not the right ones.
    pub fn unwrap(wrapped: &[u8], export_key: &ExportKey, name: &Name) -> Result<Self, AccountError> {
        let (nonce, sealed) = wrapped.split_at_checked(NONCE).ok_or(AccountError::Unwrap)?;
        let payload = Payload { msg: sealed, aad: name.as_str().as_bytes() };
        let opened = wrapping_cipher(export_key, name)
            .decrypt(XNonce::from_slice(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| AccountError::Unwrap)?;
        let mut root = Zeroizing::new([0; 32]);
        if opened.len() != root.len() {
            return Err(AccountError::Unwrap);
        }
        root.copy_from_slice(&opened);
        Ok(Self(root))
    }
}

fn derive(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha512>::new(salt, secret).expand(info, key.as_mut()).expect("32 bytes are within HKDF's limit");
    key
}

fn wrapping_cipher(export_key: &ExportKey, name: &Name) -> XChaCha20Poly1305 {
    let key = derive(Some(name.as_str().as_bytes()), export_key.as_bytes(), WRAP_INFO);
    XChaCha20Poly1305::new(key.as_slice().into())
}

/// The account's signature key. Wiped when dropped.
pub struct AccountKey(SigningKey);

impl From<&Root> for AccountKey {
    fn from(root: &Root) -> Self {
        Self(SigningKey::from_bytes(&derive(None, root.0.as_ref(), ACCOUNT_KEY_INFO)))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({:?})", self.account_id())
    }
}

impl AccountKey {
    /// The account's Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The account.
    #[must_use]
    pub fn account_id(&self) -> AccountId {
        AccountId::of_key(&self.public())
    }

    fn sign(&self, context: &[u8], bytes: Vec<u8>) -> Vec<u8> {
        let signature = self.0.sign(&[context, &bytes].concat());
        signed_bytes(bytes, signature.to_bytes())
    }

    /// Certifies a device's signature key.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] if the label is longer than [`limits::LABEL`].
    pub fn certify(&self, signature_key: &[u8; 32], label: &str, now_ms: u64) -> Result<VerifiedCertificate, AccountError> {
        let certificate = Certificate {
            account_key: self.public(),
            signature_key: *signature_key,
            label: label.to_owned(),
            created_ms: now_ms,
        };
        Ok(VerifiedCertificate::parse(&self.sign(CERTIFICATE_CONTEXT, encode(&certificate)))?)
    }

    /// Signs the list that follows `previous`, or the first one. Of the revoked devices the list remembers the youngest
    /// [`limits::REVOKED_PER_ACCOUNT`].
    ///
    /// # Errors
    /// [`AccountError::OtherAccount`] if `previous` or a certificate is of another account, [`AccountError::Revoked`] if a
    /// revoked device would come back, [`AccountError::Invalid`] if there are too many devices or one is there twice.
    pub fn sign_list(
        &self,
        previous: Option<&VerifiedList>,
        certificates: &[VerifiedCertificate],
        revoked: &[DeviceId],
        now_ms: u64,
    ) -> Result<VerifiedList, AccountError> {
        let account_key = self.public();
        if previous.is_some_and(|list| list.get().account_key != account_key)
            || certificates.iter().any(|certificate| certificate.get().account_key != account_key)
        {
            return Err(AccountError::OtherAccount);
        }
        let mut all_revoked = previous.map(|list| list.get().revoked.clone()).unwrap_or_default();
        all_revoked.extend(revoked.iter().filter(|device| !all_revoked.contains(device)).copied().collect::<Vec<_>>());
        if certificates.iter().any(|certificate| all_revoked.contains(&certificate.get().device())) {
            return Err(AccountError::Revoked);
        }
        all_revoked.drain(..all_revoked.len().saturating_sub(limits::REVOKED_PER_ACCOUNT));
        let list = DeviceList {
            account_key,
            version: previous.map_or(1, |list| list.get().version + 1),
            previous: previous.map_or([0; 32], VerifiedList::hash),
            devices: certificates.iter().map(|certificate| certificate.as_bytes().to_vec().into()).collect(),
            revoked: all_revoked,
            created_ms: now_ms,
        };
        Ok(VerifiedList::parse(&self.sign(LIST_CONTEXT, encode(&list)))?)
    }

    /// The first list of an account, with its first device.
    ///
    /// # Errors
    /// As [`Self::sign_list`].
    pub fn first_list(&self, certificate: &VerifiedCertificate, now_ms: u64) -> Result<VerifiedList, AccountError> {
        self.sign_list(None, std::slice::from_ref(certificate), &[], now_ms)
    }

    /// The next list, with one more device. A device that is there already gets the certificate given.
    ///
    /// # Errors
    /// As [`Self::sign_list`].
    pub fn add_device(
        &self,
        current: &VerifiedList,
        certificate: &VerifiedCertificate,
        now_ms: u64,
    ) -> Result<VerifiedList, AccountError> {
        let device = certificate.get().device();
        let mut certificates = without(current, &device);
        certificates.push(certificate.clone());
        self.sign_list(Some(current), &certificates, &[], now_ms)
    }

    /// The next list, in which one device stands alone and all that were there before are revoked.
    ///
    /// # Errors
    /// As [`Self::sign_list`].
    pub fn only_device(
        &self,
        current: &VerifiedList,
        certificate: &VerifiedCertificate,
        now_ms: u64,
    ) -> Result<VerifiedList, AccountError> {
        let device = certificate.get().device();
        let others = without(current, &device);
        let revoked: Vec<DeviceId> = others.iter().map(|certificate| certificate.get().device()).collect();
        self.sign_list(Some(current), std::slice::from_ref(certificate), &revoked, now_ms)
    }

    /// The next list, with one device less.
    ///
    /// # Errors
    /// [`AccountError::NoSuchDevice`] if it is not in the current one; as [`Self::sign_list`].
    pub fn revoke_device(&self, current: &VerifiedList, device: &DeviceId, now_ms: u64) -> Result<VerifiedList, AccountError> {
        if current.certificate(device).is_none() {
            return Err(AccountError::NoSuchDevice);
        }
        self.sign_list(Some(current), &without(current, device), &[*device], now_ms)
    }
}

fn without(list: &VerifiedList, device: &DeviceId) -> Vec<VerifiedCertificate> {
    list.certificates().iter().filter(|certificate| certificate.get().device() != *device).cloned().collect()
}
