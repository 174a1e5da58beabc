//! The log of a conversation: entries numbered by the home server, each with the hash of the one before, and signed receipts
//! for commits.

use minicbor::{Decode, Encode};

use crate::{
    codec::{self, DecodeError, bounded},
    id::{AccountId, ConversationId, DeviceId, MessageId},
    identity, limits,
};

/// Domain of the server's signature on a commit receipt.
pub const RECEIPT_CONTEXT: &[u8] = b"parlour commit receipt v1\0";

/// What an entry is. Unknown values are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct EntryKind(#[n(0)] pub u8);

impl EntryKind {
    /// An MLS application message.
    pub const MESSAGE: Self = Self(1);
    /// An MLS commit; carries a receipt.
    pub const COMMIT: Self = Self(2);
    /// An account leaves a group; the payload is a signed [`LeaveStatement`], in the clear.
    pub const LEAVE: Self = Self(3);
}

/// Domain of a device's signature on a leave statement.
pub const LEAVE_CONTEXT: &[u8] = b"parlour leave v1\0";

/// That an account leaves a group, said by one of its devices. Good for the time since the account was last added, so it cannot be used again
/// after somebody has brought the account back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeaveStatement {
    /// The group.
    #[n(0)]
    pub conversation: ConversationId,
    /// Who leaves.
    #[n(1)]
    pub account: AccountId,
    /// The device that says so.
    #[n(2)]
    pub device: DeviceId,
    /// The home's epoch at which the account became a member, as the group's policy has it.
    #[n(3)]
    pub since: u64,
}

impl LeaveStatement {
    /// Reads the CBOR of a [`identity::Signed`] statement without checking the signature: to find out whose key must have made it.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed or too long.
    pub fn peek(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("leave statement", bytes.len(), limits::LEAVE_STATEMENT)?;
        let signed: identity::Signed = codec::decode(bytes)?;
        codec::decode(&signed.bytes)
    }

    /// Reads the CBOR of a [`identity::Signed`] statement and checks its signature by the device's key.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed, too long, or not signed by that key of that device.
    pub fn verify(bytes: &[u8], device_key: &[u8; 32]) -> Result<Self, DecodeError> {
        let statement = Self::peek(bytes)?;
        let signed: identity::Signed = codec::decode(bytes)?;
        if statement.device != DeviceId::of_key(device_key) {
            return Err(DecodeError::BadSignature("leave statement"));
        }
        identity::verify(device_key, LEAVE_CONTEXT, &signed.bytes, &signed.signature, "leave statement")?;
        Ok(statement)
    }
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Number in the log, from 1 without gaps.
    #[n(1)]
    pub seq: u64,
    /// Hash of the entry before ([`Entry::hash`]); zeros before the first.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub previous: [u8; 32],
    /// Id made by the sender; once per conversation.
    #[n(3)]
    pub id: MessageId,
    /// Message or commit.
    #[n(4)]
    pub kind: EntryKind,
    /// When the server stored it, Unix time in milliseconds.
    #[n(5)]
    pub stored_ms: u64,
    /// The ciphertext (an MLS message).
    #[cbor(n(6), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Signature of the server on the commit (see [`receipt_bytes`]); absent for messages.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub receipt: Option<[u8; 64]>,
}

impl Entry {
    /// The hash that the next entry carries.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash_fields(&self.conversation, self.seq, &self.previous, &self.id, self.kind, self.stored_ms, &self.payload)
    }
}

/// The hash of an entry from its fields, for a side that does not hold them in one place.
#[must_use]
pub fn hash_fields(
    conversation: &ConversationId,
    seq: u64,
    previous: &[u8; 32],
    id: &MessageId,
    kind: EntryKind,
    stored_ms: u64,
    payload: &[u8],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("parlour log entry v1");
    hasher.update(&conversation.0);
    hasher.update(&seq.to_be_bytes());
    hasher.update(previous);
    hasher.update(&id.0);
    hasher.update(&[kind.0]);
    hasher.update(&stored_ms.to_be_bytes());
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// The bytes that the server signs when it accepts a commit: this commit, and no other, follows `parent_epoch`.
#[must_use]
pub fn receipt_bytes(conversation: &ConversationId, parent_epoch: u64, commit: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend_from_slice(&conversation.0);
    bytes.extend_from_slice(&parent_epoch.to_be_bytes());
    bytes.extend_from_slice(blake3::hash(commit).as_bytes());
    bytes
}

/// Checks a receipt against the server's receipt key.
///
/// # Errors
/// [`DecodeError::BadSignature`].
pub fn verify_receipt(
    receipt_key: &[u8; 32],
    conversation: &ConversationId,
    parent_epoch: u64,
    commit: &[u8],
    receipt: &[u8; 64],
) -> Result<(), DecodeError> {
    identity::verify(receipt_key, RECEIPT_CONTEXT, &receipt_bytes(conversation, parent_epoch, commit), receipt, "commit receipt")
}
