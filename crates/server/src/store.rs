//! What a server keeps, as a trait: few methods, every write atomic, every acknowledgement durable.
//!
//! A [`Write`] is one change that happens wholly or not at all. An engine may put many writes into one disk transaction (group
//! commit), but it applies them in the order in which [`Store::apply`] was *called*, and resolves a write's future only when
//! it is on disk. A write whose future is dropped is applied all the same. What the rules of the service refuse is a [`Refusal`]; what the engine cannot do is a [`StoreError`].
//! The suite in `suite` is the specification; every engine runs it.

pub mod blobs;
pub mod memory;
mod roster;
pub mod suite;
mod write;

use std::{future::Future, sync::Arc};

use parlour_wire::{AccountId, BlobId, ConversationId, DeviceId, api::ConversationState, log::Entry, name::Name};
use thiserror::Error;

pub use self::{
    roster::{Roster, RosterMember},
    write::{AddedDevice, Append, CommitWrite, LeaveWrite, Write, Written},
};

/// Blobs that one account may have begun and not finished.
pub const UPLOADS: usize = 16;

/// Conversations that may name one blob at once: whether an account may read a blob is looked up in all of them, by the one writer that
/// everybody shares.
pub const BLOB_CONVERSATIONS: usize = 128;

/// Why an engine could not do its work. The caller's request was fine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The engine cannot be reached or has stopped.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// More is waiting than the engine can do in a while. Nothing of the request was begun.
    #[error("the store has too much to do")]
    Overloaded,
    /// No room left on the device. Nothing of the write was kept.
    #[error("no space left for the store")]
    Full,
    /// What is on disk is not what was written.
    #[error("store corrupt: {0}")]
    Corrupt(String),
}

/// Why a write was refused. Nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another account, or a group, has the name.
    #[error("name taken")]
    NameTaken,
    /// The account id exists.
    #[error("account exists")]
    AccountExists,
    /// No such invitation.
    #[error("invitation unknown")]
    InviteUnknown,
    /// Used as often as it allows.
    #[error("invitation used up")]
    InviteUsedUp,
    /// Its time is over.
    #[error("invitation expired")]
    InviteExpired,
    /// No such account.
    #[error("no such account")]
    NoAccount,
    /// No such device, or it may speak no longer.
    #[error("no such device")]
    NoDevice,
    /// The device list does not follow the current one.
    #[error("device list is stale")]
    StaleList,
    /// No such conversation.
    #[error("no such conversation")]
    NoConversation,
    /// The conversation exists.
    #[error("conversation exists")]
    ConversationExists,
    /// The conversation that a commit would create has been there and has ended.
    #[error("conversation ended")]
    ConversationEnded,
    /// The device is not in the conversation, or its account is not a member.
    #[error("not a member")]
    NotMember,
    /// A device to be added is in the conversation, and is not removed by the same commit.
    #[error("already in the conversation")]
    AlreadyIn,
    /// The epoch is not the current one (commit), or too old or in the future (message).
    #[error("stale epoch")]
    StaleEpoch,
    /// A member may not do this: it needs an admin, or a device of somebody else would go.
    #[error("not allowed")]
    Forbidden,
    /// The group would have no admin.
    #[error("a group keeps an admin")]
    LastAdmin,
    /// The conversation would have more members or devices than one may have.
    #[error("the conversation is full")]
    TooMany,
    /// A blob is not whole here, or not this account's to name.
    #[error("no such blob")]
    NoBlob,
    /// The account has begun the blob with another size: of a content there is one.
    #[error("begun with another size")]
    OtherSize,
    /// The account would keep more than it may, or has begun too much; or a blob is named in as many conversations as one may be.
    #[error("the quota is used up")]
    Quota,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name here.
    pub name: Name,
    /// OPAQUE password file.
    pub record: Vec<u8>,
    /// Root secret, wrapped.
    pub wrapped_root: Vec<u8>,
    /// CBOR of the signed device list.
    pub device_list: Vec<u8>,
    /// Its version.
    pub list_version: u64,
    /// Disabled by an administrator.
    pub disabled: bool,
    /// When any of its devices was last here, Unix milliseconds; 0 for never.
    pub seen_ms: u64,
}

/// A device that may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whose.
    pub account: AccountId,
    /// Its Ed25519 signature key.
    pub signature_key: [u8; 32],
    /// When it was last here, Unix milliseconds; 0 for never.
    pub seen_ms: u64,
    /// One-time key packages left, of the hybrid suite.
    pub key_packages: u32,
    /// Whether a last-resort key package of the hybrid suite is there.
    pub last_resort: bool,
    /// One-time key packages left, of the classical suite.
    pub classical_key_packages: u32,
    /// Whether a last-resort key package of the classical suite is there.
    pub classical_last_resort: bool,
}

/// What opens an account's root secret: by password or by recovery code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// OPAQUE password file.
    pub record: Vec<u8>,
    /// Root secret, wrapped.
    pub wrapped_root: Vec<u8>,
}

/// An account's backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Counts its replacements.
    pub version: u64,
    /// Its sealed index.
    pub index: Vec<u8>,
}

/// A device as a device list names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its Ed25519 signature key.
    pub signature_key: [u8; 32],
}

/// What observers of a store are told, once it is on disk, in log order within a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// A new entry, and the device it came from.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
        /// Its sender, who has the answer and needs no push.
        from: DeviceId,
        /// Devices that the entry added; they get the welcome and no entry.
        added: Vec<DeviceId>,
        /// Devices that the entry removed and not added again; they get the entry as their last.
        removed: Vec<DeviceId>,
        /// The member accounts after the entry, if it changed them; none left means that the conversation has ended.
        members: Option<Vec<AccountId>>,
        /// Accounts that were members before the entry and are not any more.
        parted: Vec<AccountId>,
        /// Whether the sender joined by this entry: it made the conversation, or the commit is external.
        joined: bool,
    },
    /// A device has been added to a conversation; comes right after the commit's entry.
    Welcome {
        /// Which device.
        device: DeviceId,
        /// What it needs.
        welcome: Arc<parlour_wire::api::Welcome>,
    },
    /// An account's devices changed: a new list, or a device that logged out. Not for the first list of an account.
    Devices {
        /// Whose.
        account: AccountId,
        /// The version of its list.
        version: u64,
        /// Devices that ended.
        ended: Vec<DeviceId>,
    },
}

/// Hears what a store has committed, after it is on disk and before the futures of the writes resolve. Called by the engine's
/// writer, one call after the other in the order of the writes: must not block and must not call the store.
pub trait Observer: Send + Sync + 'static {
    /// These changes are on disk.
    fn committed(&self, changes: Vec<Committed>);
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Entries in order, without gaps.
    pub entries: Vec<Entry>,
    /// Number of the newest entry.
    pub head: u64,
}

/// What an external join needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The current epoch.
    pub epoch: u64,
    /// MLS group info with its tree.
    pub group_info: Vec<u8>,
}

/// What a conversation weighs in a page of [`Store::conversations`], in bytes. A page ends before the sum exceeds
/// [`parlour_wire::limits::READ_BYTES`], so that it fits a frame and nobody makes the server load all welcomes at once.
#[must_use]
pub fn page_bytes(members: usize, welcome: Option<usize>) -> usize {
    let names = members * (AccountId::LEN + 2);
    128 + names + welcome.map_or(0, |length| 128 + names + length)
}

/// A store. All futures are `Send` and owned, so a caller may hold many at once.
pub trait Store: Send + Sync + 'static {
    /// Applies one change. The change takes its place in the order when this is called, not when the future is polled.
    fn apply(&self, write: Write) -> impl Future<Output = Result<Result<Written, Refusal>, StoreError>> + Send + 'static;

    /// An account by name.
    fn account_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static;

    /// An account by id.
    fn account(&self, id: AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static;

    /// A device that may speak.
    fn device(&self, id: DeviceId) -> impl Future<Output = Result<Option<Device>, StoreError>> + Send + 'static;

    /// The devices of an account that may speak.
    fn devices(&self, account: AccountId) -> impl Future<Output = Result<Vec<Device>, StoreError>> + Send + 'static;

    /// Whether an invitation could be used now: the refusal if not.
    fn invite(
        &self,
        token: [u8; 32],
        now_ms: u64,
    ) -> impl Future<Output = Result<Result<(), Refusal>, StoreError>> + Send + 'static;

    /// Entries after `after` that this device may read: those after the entry that added it. At most `limit`, and at most
    /// [`parlour_wire::limits::READ_BYTES`] of payload (but at least one entry). Refuses `NoConversation`, `NotMember`.
    fn log(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Result<LogPage, Refusal>, StoreError>> + Send + 'static;

    /// The group of this name.
    fn group_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<ConversationId>, StoreError>> + Send + 'static;

    /// What opens an account by recovery code, if it has one.
    fn recovery(&self, account: AccountId) -> impl Future<Output = Result<Option<Opener>, StoreError>> + Send + 'static;

    /// The size of a blob that is whole, if the account may read it: it has stored it, its backup names it, or a message in a
    /// conversation of which it is a member does.
    fn blob(&self, blob: BlobId, account: AccountId) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send + 'static;

    /// Whole blobs that nothing needs: no message, no backup, and not touched since `before_ms`. At most `limit`.
    fn unneeded_blobs(
        &self,
        before_ms: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<BlobId>, StoreError>> + Send + 'static;

    /// The backup of an account.
    fn backup(&self, account: AccountId) -> impl Future<Output = Result<Option<Backup>, StoreError>> + Send + 'static;

    /// Group info of a conversation, for a device of a member account. Refuses `NoConversation`, `NotMember`.
    fn group_info(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<GroupInfo, Refusal>, StoreError>> + Send + 'static;

    /// The payloads of the entries by which accounts have left a conversation, newest first, at most
    /// [`parlour_wire::limits::LEAVE_STATEMENTS`], for a device of a member account. Refuses `NoConversation`, `NotMember`.
    fn leaves(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<Vec<Vec<u8>>, Refusal>, StoreError>> + Send + 'static;

    /// One page of the conversations of an account, in order of id, with this device's cursors and waiting welcomes; and
    /// whether more follow. At most `limit`, and as many as [`page_bytes`] allows, but at least one.
    fn conversations(
        &self,
        account: AccountId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> impl Future<Output = Result<(Vec<ConversationState>, bool), StoreError>> + Send + 'static;

    /// The accounts that share a conversation with this one, itself left out, in order of id.
    fn peers(&self, account: AccountId) -> impl Future<Output = Result<Vec<AccountId>, StoreError>> + Send + 'static;

    /// A value that the server keeps about itself.
    fn setting(&self, key: &'static str) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send + 'static;
}
