//! Offers of a history: a pack of earlier messages for an account that came into a conversation later.

use minicbor::Decoder;

use super::codec::{Out, Written, array, array_of, bad, bytes_of, count, skipped};
use crate::{
    codec::{DecodeError, bounded},
    id::{AccountId, BlobId, DeviceId, MessageId},
    limits,
};

/// Content type of an offer.
pub(super) const HISTORY: &str = "application/vnd.parlour.history";
const FIELDS: u64 = 7;
const KEY_FIELDS: u64 = 3;

/// A pack of earlier messages at the server, whose key is sealed for the devices of one account: everybody in the conversation reads the
/// offer, and only they open the pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryOffer {
    /// For whom.
    pub account: AccountId,
    /// How many messages it holds.
    pub messages: u32,
    /// The oldest message in it.
    pub oldest: MessageId,
    /// The newest message in it.
    pub newest: MessageId,
    /// The sealed pack.
    pub blob: BlobId,
    /// Size of the blob in bytes.
    pub size: u32,
    /// The key of the pack for each device of the account; at most [`limits::DEVICES_PER_ACCOUNT`].
    pub keys: Vec<SealedKey>,
}

/// A key of 32 bytes that one device opens, by HPKE (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// For which device.
    pub device: DeviceId,
    /// The encapsulated key (`enc` of the RFC).
    pub encapsulated: [u8; 32],
    /// The ciphertext and its tag.
    pub ciphertext: [u8; 48],
}

impl SealedKey {
    fn write(&self, e: &mut Out<'_>) -> Written {
        e.array(KEY_FIELDS)?.bytes(self.device.as_bytes())?.bytes(&self.encapsulated)?.bytes(&self.ciphertext)?;
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        array_of(d, KEY_FIELDS)?;
        let device = DeviceId::try_from(d.bytes().map_err(bad)?)?;
        let encapsulated = d.bytes().map_err(bad)?.try_into().map_err(|_| DecodeError::Malformed)?;
        let ciphertext = d.bytes().map_err(bad)?.try_into().map_err(|_| DecodeError::Malformed)?;
        Ok(Self { device, encapsulated, ciphertext })
    }
}

impl HistoryOffer {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        bounded("keys of a history", self.keys.len(), limits::DEVICES_PER_ACCOUNT)?;
        Ok(bytes_of(|e| self.write(e)))
    }

    fn write(&self, e: &mut Out<'_>) -> Written {
        e.array(FIELDS)?.bytes(self.account.as_bytes())?.u32(self.messages)?;
        e.bytes(self.oldest.as_bytes())?.bytes(self.newest.as_bytes())?;
        e.bytes(self.blob.as_bytes())?.u32(self.size)?;
        e.array(self.keys.len() as u64)?;
        self.keys.iter().try_for_each(|key| key.write(e))
    }

    /// Fields that later versions add at the end are skipped.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let fields = array(&mut d)?;
        if fields < FIELDS {
            return Err(DecodeError::Malformed);
        }
        let account = AccountId::try_from(d.bytes().map_err(bad)?)?;
        let messages = d.u32().map_err(bad)?;
        let oldest = MessageId::try_from(d.bytes().map_err(bad)?)?;
        let newest = MessageId::try_from(d.bytes().map_err(bad)?)?;
        let blob = BlobId::try_from(d.bytes().map_err(bad)?)?;
        let size = d.u32().map_err(bad)?;
        let keys = count("keys of a history", array(&mut d)?, limits::DEVICES_PER_ACCOUNT)?;
        let keys = (0..keys).map(|_| SealedKey::read(&mut d)).collect::<Result<_, _>>()?;
        for _ in FIELDS..fields {
            skipped(&mut d)?;
        }
        if d.position() != bytes.len() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { account, messages, oldest, newest, blob, size, keys })
    }
}
