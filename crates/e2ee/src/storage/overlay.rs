//! A write set over the caller's rows: reads see what the step has written, and nothing reaches the store.

use std::cell::RefCell;

use openmls_traits::storage::{CURRENT_VERSION, Entity, Key};
use parlour_wire::id::ConversationId;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Changes, Rows, RowsError};

/// What a row is; the first byte of its key. Values are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    JoinConfig = 1,
    OwnLeafNodes = 2,
    Proposal = 3,
    ProposalRefs = 4,
    Tree = 5,
    InterimTranscriptHash = 6,
    Context = 7,
    ConfirmationTag = 8,
    GroupState = 9,
    MessageSecrets = 10,
    ResumptionPsks = 11,
    OwnLeafIndex = 12,
    EpochSecrets = 13,
    SignatureKeys = 14,
    EncryptionKeys = 15,
    EpochEncryptionKeys = 16,
    KeyPackage = 17,
    Psk = 18,
    /// Part of what OpenMLS calls the message secrets: the ratchets of a past epoch.
    PastSecrets = 19,
    /// The same: the leaves of a past epoch.
    PastLeaves = 20,
    /// The same: the group context of an epoch, past or current.
    EpochContext = 21,
    /// Ours: what the engine remembers of a conversation.
    Conversation = 64,
    /// Ours: a join by external commit that waits for its receipt.
    StagedJoin = 65,
    /// Ours: the key packages whose secrets are kept.
    KeyPackageIndex = 66,
}

/// Why OpenMLS could not read or write.
#[derive(Debug, Error)]
pub(crate) enum StorageError {
    /// The caller's store failed.
    #[error("store: {0}")]
    Rows(#[from] RowsError),
    /// A row holds what this version cannot read.
    #[error("a row cannot be decoded")]
    Decode,
    /// A value cannot be encoded.
    #[error("a value cannot be encoded")]
    Encode,
    /// A list names a row that is not there.
    #[error("a row is missing")]
    Missing,
}

/// The write set of one step.
pub(crate) struct Overlay<'a> {
    rows: &'a dyn Rows,
    changes: RefCell<Changes>,
    /// The first failure of the store. OpenMLS takes some failed reads for absent values, so a step must end with
    /// [`Self::finish`], which looks here.
    failure: RefCell<Option<RowsError>>,
}

impl std::fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.changes.borrow().fmt(f)
    }
}

/// The key of a row that OpenMLS addresses: public keys of the post-quantum suites are over a kilobyte long, so all keys are
/// hashed to 33 bytes.
pub(crate) fn row_key<K: serde::Serialize>(kind: Kind, key: &K) -> Result<Vec<u8>, StorageError> {
    let mut hasher = blake3::Hasher::new();
    ciborium::into_writer(key, &mut hasher).map_err(|_| StorageError::Encode)?;
    Ok([&[kind as u8], hasher.finalize().as_bytes().as_slice()].concat())
}

pub(super) fn encode<V: serde::Serialize>(value: &V) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|_| StorageError::Encode)?;
    Ok(bytes)
}

pub(super) fn decode<V: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<V, StorageError> {
    ciborium::from_reader(bytes).map_err(|_| StorageError::Decode)
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(rows: &'a dyn Rows) -> Self {
        Self { rows, changes: RefCell::default(), failure: RefCell::default() }
    }

    /// The write set, unless the store has failed on the way.
    pub(crate) fn finish(self) -> Result<Changes, RowsError> {
        match self.failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.changes.into_inner()),
        }
    }

    /// Drops the write set so far: the step goes on as if it had written nothing.
    pub(crate) fn reset(&self) {
        self.changes.take();
    }

    /// Writes what another overlay has recorded.
    pub(crate) fn replay(&self, changes: &Changes) {
        let rows = changes.rows.iter().map(|(key, value)| (key.clone(), value.clone()));
        self.changes.borrow_mut().rows.extend(rows);
    }

    /// A row of ours about a conversation.
    pub(crate) fn own_key(kind: Kind, conversation: &ConversationId) -> Vec<u8> {
        [&[kind as u8], conversation.0.as_slice()].concat()
    }

    /// A row, as this step sees it.
    pub(crate) fn get_raw(&self, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, RowsError> {
        if let Some(value) = self.changes.borrow().rows.get(key) {
            return Ok(value.clone().map(Zeroizing::new));
        }
        self.rows.get(key).map(|value| value.map(Zeroizing::new)).inspect_err(|error| {
            self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        })
    }

    /// Writes a row, or deletes it.
    pub(crate) fn put_raw(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes.borrow_mut().rows.insert(key, value);
    }

    pub(super) fn read<K: Key<CURRENT_VERSION>, V: Entity<CURRENT_VERSION>>(
        &self,
        kind: Kind,
        key: &K,
    ) -> Result<Option<V>, StorageError> {
        self.read_any(&row_key(kind, key)?)
    }

    pub(super) fn write<K: Key<CURRENT_VERSION>, V: Entity<CURRENT_VERSION>>(
        &self,
        kind: Kind,
        key: &K,
        value: &V,
    ) -> Result<(), StorageError> {
        self.write_any(row_key(kind, key)?, value)
    }

    pub(super) fn delete<K: Key<CURRENT_VERSION>>(&self, kind: Kind, key: &K) -> Result<(), StorageError> {
        self.put_raw(row_key(kind, key)?, None);
        Ok(())
    }

    pub(super) fn read_any<V: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<V>, StorageError> {
        self.get_raw(key)?.map(|bytes| decode(&bytes)).transpose()
    }

    pub(super) fn write_any<V: serde::Serialize>(&self, key: Vec<u8>, value: &V) -> Result<(), StorageError> {
        let bytes = encode(value)?;
        self.put_raw(key, Some(bytes));
        Ok(())
    }

    pub(super) fn read_list<V: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Vec<V>, StorageError> {
        Ok(self.read_any(key)?.unwrap_or_default())
    }

    /// Puts one more value at the end of a list. The values before it are carried as they are on disk.
    pub(super) fn append<V: serde::Serialize>(&self, key: Vec<u8>, value: &V) -> Result<(), StorageError> {
        let mut list: Vec<ciborium::Value> = self.read_list(&key)?;
        list.push(ciborium::Value::serialized(value).map_err(|_| StorageError::Encode)?);
        self.write_any(key, &list)
    }
}
