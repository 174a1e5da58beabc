//! The key of an account's backup, and the sealing of its index. The packs that an index names have keys of their own, inside
//! the index; packs that own devices hand each other are sealed in the same way.

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use parlour_wire::id::AccountId;
use rand::{RngCore, rngs::OsRng};
use thiserror::Error;
use zeroize::Zeroizing;

const NONCE: usize = 24;
const PACK: &[u8] = b"parlour pack v1";

/// The index does not open: another key, another account, another version than the server says, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the index of the backup does not open")]
pub struct BackupError;

/// The key under which an account's backup index is sealed; derived from the root, so that it comes back with the password or
/// the recovery code. Devices keep it, not the root. Wiped when dropped.
#[derive(Clone)]
pub struct BackupKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

impl BackupKey {
    /// The key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the device's own encrypted store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts an index: nonce and XChaCha20-Poly1305 ciphertext. Account and version are bound in, so that the server can
    /// neither swap two accounts' indices nor give an old one for a new one's number.
    ///
    /// # Panics
    /// Never for an index within [`parlour_wire::limits::BACKUP_INDEX`].
    #[must_use]
    pub fn seal(&self, account: &AccountId, version: u64, index: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let payload = Payload { msg: index, aad: &context(account, version) };
        let cipher = XChaCha20Poly1305::new(self.0.as_slice().into());
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).expect("an index is within the cipher's limit");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`Self::seal`] made for this account and version.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn open(&self, account: &AccountId, version: u64, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(BackupError)?;
        let payload = Payload { msg: sealed, aad: &context(account, version) };
        let cipher = XChaCha20Poly1305::new(self.0.as_slice().into());
        cipher.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| BackupError)
    }
}

/// Encrypts a pack under a key made for it alone: nonce and XChaCha20-Poly1305 ciphertext.
///
/// # Panics
/// Never for a pack that fits in memory.
#[must_use]
pub fn seal_pack(pack: &[u8]) -> (Zeroizing<[u8; 32]>, Vec<u8>) {
    let mut key = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(key.as_mut());
    let mut nonce = [0; NONCE];
    OsRng.fill_bytes(&mut nonce);
    let payload = Payload { msg: pack, aad: PACK };
    let cipher = XChaCha20Poly1305::new(key.as_slice().into());
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).expect("a pack is within the cipher's limit");
    (key, [nonce.as_slice(), &sealed].concat())
}

/// Opens what [`seal_pack`] made.
///
/// # Errors
/// [`BackupError`] for another key or changed bytes.
pub fn open_pack(key: &[u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(BackupError)?;
    let payload = Payload { msg: sealed, aad: PACK };
    let cipher = XChaCha20Poly1305::new(key.as_slice().into());
    cipher.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| BackupError)
}

fn context(account: &AccountId, version: u64) -> Vec<u8> {
    [b"parlour backup index v1".as_slice(), &account.0, &version.to_be_bytes()].concat()
}
