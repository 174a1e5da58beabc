//! What the engine remembers of a conversation beside OpenMLS's own state, and the index of key packages.

use minicbor::{Decode, Encode, bytes::ByteVec};
use openmls::group::MlsGroup;
use parlour_wire::{api::Added, codec, id::AccountId};

use super::{
    grounds::{Farewell, Refounding},
    policy::Policy,
};
use crate::{error::E2eeError, storage::Changes};

/// How a pending commit came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Origin {
    /// In a conversation that is established.
    #[n(0)]
    Member,
    /// It makes the conversation.
    #[n(1)]
    Create,
    /// This device joins by it; the joined state is in a row of its own.
    #[n(2)]
    External,
    /// It founds the group anew; the new state is in a row of its own.
    #[n(3)]
    Refound,
}

/// A commit of this device that waits for its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Pending {
    #[n(0)]
    pub(super) origin: Origin,
    /// BLAKE3 of the commit: MLS does not let a device recognise its own ciphertexts.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) hash: [u8; 32],
    /// The home's.
    #[n(2)]
    pub(super) parent_epoch: u64,
    /// Whose receipt is awaited.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(super) receipt_key: [u8; 32],
}

impl Pending {
    pub(super) fn new(origin: Origin, commit: &[u8], parent_epoch: u64, receipt_key: [u8; 32]) -> Self {
        Self { origin, hash: hash(commit), parent_epoch, receipt_key }
    }
}

pub(super) fn hash(commit: &[u8]) -> [u8; 32] {
    *blake3::hash(commit).as_bytes()
}

/// Commits that are remembered, to notice a server that signs another one for the same epoch.
const REMEMBERED: usize = 16;
const HASH: usize = 32;

/// No home counts so far. Above it a count could not go on.
pub(super) const LAST_EPOCH: u64 = 1 << 62;

/// The engine's row of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Record {
    #[n(0)]
    pub(super) pending: Option<Pending>,
    /// Leaves whose devices are known to be revoked.
    #[n(1)]
    pub(super) revoked: Vec<Added>,
    /// The MLS epoch at which this device came in; 0 if it made the conversation.
    #[n(2)]
    pub(super) joined_epoch: u64,
    /// How far the home's count of commits is ahead of the MLS epoch.
    #[n(3)]
    pub(super) ahead: u64,
    /// Accounts that have left and whose leaves are still in.
    #[n(4)]
    pub(super) left: Vec<Leaver>,
    /// The last commit was void.
    #[n(5)]
    pub(super) repair: bool,
    /// This device has joined by external commit, and nothing since has shown that the others have taken it in.
    #[n(6)]
    pub(super) unproven: bool,
    /// The group has ended to be founded anew, and this device waits for the welcome.
    #[n(7)]
    pub(super) refounded: Option<Refounded>,
    /// BLAKE3 of the last commits of the log, newest last, void ones too.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub(super) commits: Vec<u8>,
}

/// An account that has left.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Leaver {
    #[n(0)]
    pub(super) account: AccountId,
    /// When it had come in; a statement is good for this time only.
    #[n(1)]
    pub(super) since: u64,
    #[n(2)]
    pub(super) farewell: Farewell,
}

/// What is known of a group that has been founded anew.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Refounded {
    #[n(0)]
    pub(super) refounding: Refounding,
    /// The home's epoch at which it begins.
    #[n(1)]
    pub(super) epoch: u64,
    /// What the group was before.
    #[n(2)]
    pub(super) policy: Policy,
}

impl Record {
    /// The home's epoch at which this device is.
    pub(super) fn home(&self, group: &MlsGroup) -> u64 {
        group.epoch().as_u64().saturating_add(self.ahead)
    }

    /// Notes that a group which has just been joined is at that epoch of the home.
    ///
    /// # Errors
    /// [`E2eeError::Malformed`] if the home has counted less than MLS, which cannot be.
    pub(super) fn set_home(&mut self, group: &MlsGroup, home_epoch: u64) -> Result<(), E2eeError> {
        if home_epoch > LAST_EPOCH {
            return Err(E2eeError::Malformed("epoch"));
        }
        self.ahead = home_epoch.checked_sub(group.epoch().as_u64()).ok_or(E2eeError::Malformed("epoch"))?;
        Ok(())
    }

    /// Remembers the commit that has just moved the home's epoch.
    pub(super) fn remember(&mut self, commit: &[u8]) {
        self.commits.extend(hash(commit));
        let surplus = self.commits.len().saturating_sub(REMEMBERED * HASH);
        self.commits.drain(..surplus);
    }

    /// Whether the commit that ended the epoch `back` epochs ago is remembered to be another one.
    pub(super) fn contradicts(&self, commit: &[u8], back: u64) -> bool {
        let nth = usize::try_from(back).ok().and_then(|back| back.checked_sub(1));
        let remembered = nth.and_then(|nth| self.commits.rchunks_exact(HASH).nth(nth));
        remembered.is_some_and(|remembered| remembered != hash(commit))
    }

    pub(super) fn left_accounts(&self) -> Vec<AccountId> {
        self.left.iter().map(|leaver| leaver.account).collect()
    }

    pub(super) fn has_left(&self, account: &AccountId) -> bool {
        self.left.iter().any(|leaver| leaver.account == *account)
    }

    /// Whether a state kept aside is to take this one's place.
    pub(super) fn has_staged(&self) -> bool {
        self.is_pending(Origin::External) || self.is_pending(Origin::Refound)
    }

    pub(super) fn is_pending(&self, origin: Origin) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.origin == origin)
    }
}

/// A key package whose secrets are kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct KeptPackage {
    /// The key of its row.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) row: Vec<u8>,
    #[n(1)]
    pub(super) created_ms: u64,
}

/// The key packages whose secrets are kept, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct PackageIndex {
    #[n(0)]
    pub(super) one_time: Vec<KeptPackage>,
    #[n(1)]
    pub(super) last_resort: Vec<KeptPackage>,
}

/// One row of a write set that is kept aside.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StagedRow {
    #[n(0)]
    key: ByteVec,
    #[n(1)]
    value: Option<ByteVec>,
}

/// The bytes of a write set.
pub(super) fn stage(changes: &Changes) -> Vec<u8> {
    let rows: Vec<StagedRow> = changes
        .rows
        .iter()
        .map(|(key, value)| StagedRow { key: key.clone().into(), value: value.clone().map(Into::into) })
        .collect();
    codec::encode(&rows)
}

/// The write set from the bytes of [`stage`].
pub(super) fn unstage(bytes: &[u8]) -> Result<Changes, E2eeError> {
    let rows: Vec<StagedRow> = codec::decode(bytes).map_err(|_| E2eeError::Internal("staged join"))?;
    let rows = rows.into_iter().map(|row| (row.key.into(), row.value.map(Into::into))).collect();
    Ok(Changes { rows })
}
