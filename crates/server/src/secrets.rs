//! What a server must neither lose nor show: the OPAQUE setup and the key that signs commit receipts.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use parlour_wire::{
    ConversationId,
    log::{RECEIPT_CONTEXT, receipt_bytes},
};
use rand::{CryptoRng, RngCore};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    opaque::Opaque,
    store::{Store, StoreError, Write},
};

/// First byte of the serialised form, so that it can change.
const VERSION: u8 = 1;

/// Why secrets could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecretsError {
    /// The bytes are not serialised secrets of a known version.
    #[error("the server's secrets cannot be read")]
    Unreadable,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a server. Without the OPAQUE setup no password opens any account again; with it and the records passwords can
/// be guessed offline. Without the receipt key no conversation accepts another commit.
pub struct Secrets {
    pub(crate) opaque: Opaque,
    receipt: SigningKey,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// The setting under which a store keeps them.
    pub const SETTING: &'static str = "secrets";

    /// Makes them.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self { opaque: Opaque::generate(rng), receipt: SigningKey::generate(rng) }
    }

    /// For the store.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let setup = self.opaque.to_bytes();
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + 32 + setup.len()));
        bytes.push(VERSION);
        bytes.extend_from_slice(self.receipt.as_bytes());
        bytes.extend_from_slice(&setup);
        bytes
    }

    /// From the store.
    ///
    /// # Errors
    /// [`SecretsError::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretsError> {
        let (&version, rest) = bytes.split_first().ok_or(SecretsError::Unreadable)?;
        let (receipt, setup) = rest.split_first_chunk::<32>().ok_or(SecretsError::Unreadable)?;
        if version != VERSION {
            return Err(SecretsError::Unreadable);
        }
        let opaque = Opaque::from_bytes(setup).ok_or(SecretsError::Unreadable)?;
        Ok(Self { opaque, receipt: SigningKey::from_bytes(receipt) })
    }

    /// The secrets in a store; makes and keeps them if there are none. Two servers that start on one store at once get the
    /// same.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn load<S: Store>(store: &S, rng: &mut (impl RngCore + CryptoRng)) -> Result<Self, SecretsError> {
        let kept = match store.setting(Self::SETTING).await? {
            Some(kept) => Some(kept),
            None => {
                let value = Self::generate(rng).to_bytes().to_vec();
                // Nothing refuses a setting; what stands in the store afterwards is the answer.
                let _set = store.apply(Write::InitSetting { key: Self::SETTING, value }).await?;
                store.setting(Self::SETTING).await?
            }
        };
        let kept = Zeroizing::new(kept.ok_or(SecretsError::Unreadable)?);
        Self::from_bytes(&kept)
    }

    /// The public key with which clients check receipts.
    #[must_use]
    pub fn receipt_key(&self) -> [u8; 32] {
        self.receipt.verifying_key().to_bytes()
    }

    /// The receipt that this commit, and no other, follows `parent_epoch`. Must leave the server only if the store accepts it.
    pub(crate) fn receipt(&self, conversation: &ConversationId, parent_epoch: u64, commit: &[u8]) -> [u8; 64] {
        let message = [RECEIPT_CONTEXT, &receipt_bytes(conversation, parent_epoch, commit)].concat();
        self.receipt.sign(&message).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{
        Fanout,
        store::{memory::MemoryStore, suite::block_on},
    };

    #[test]
    fn secrets_survive_their_bytes_and_refuse_others() {
        let secrets = Secrets::generate(&mut StdRng::seed_from_u64(1));
        let bytes = secrets.to_bytes();
        let back = Secrets::from_bytes(&bytes).unwrap();
        assert_eq!(*back.to_bytes(), *bytes);
        let (conversation, commit) = (ConversationId([1; 32]), b"commit");
        let receipt = back.receipt(&conversation, 7, commit);
        let key = secrets.receipt_key();
        assert_eq!(parlour_wire::log::verify_receipt(&key, &conversation, 7, commit, &receipt), Ok(()));
        for bad in
            [&bytes[..0], &bytes[..1], &bytes[..33], &bytes[..bytes.len() - 1], &[2; 161][..], &[&bytes[..], &[0]].concat()]
        {
            assert_eq!(Secrets::from_bytes(bad).err(), Some(SecretsError::Unreadable), "{} bytes", bad.len());
        }
        assert!(!format!("{secrets:?}").contains('['));
    }

    #[test]
    fn a_store_keeps_the_secrets_that_were_first() {
        let store = MemoryStore::new(Arc::new(Fanout::new()));
        let mut rng = StdRng::seed_from_u64(1);
        let first = block_on(Secrets::load(&store, &mut rng)).unwrap();
        let second = block_on(Secrets::load(&store, &mut rng)).unwrap();
        assert_eq!(*first.to_bytes(), *second.to_bytes());
    }
}
