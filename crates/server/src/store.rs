//! What a server keeps, as a trait: few methods, every write atomic, every acknowledgement durable.
//!
//! A [`Write`] is one change that happens wholly or not at all. An engine may put many writes into one disk transaction (group
//! commit), but it applies them in the order in which [`Store::apply`] was *called*, and resolves a write's future only when
//! it is on disk. A write whose future is dropped is applied all the same. What the rules of the service refuse is a [`Refusal`]; what the engine cannot do is a [`StoreError`].
//! The suite in `suite` is the specification; every engine runs it.

pub mod memory;
pub mod suite;

use std::{future::Future, sync::Arc};

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{ConversationKind, ConversationState, Cursor, DeviceKeyPackage},
    log::Entry,
    name::Name,
};
use thiserror::Error;

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
    /// Another account has the name.
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
    /// The device is not in the conversation, or its account is not a member.
    #[error("not a member")]
    NotMember,
    /// A device to be added is in the conversation, and is not removed by the same commit.
    #[error("already in the conversation")]
    AlreadyIn,
    /// The epoch is not the current one (commit), or too old or in the future (message).
    #[error("stale epoch")]
    StaleEpoch,
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
    /// One-time key packages left.
    pub key_packages: u32,
    /// Whether a last-resort key package is there.
    pub last_resort: bool,
}

/// A device as a device list names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its Ed25519 signature key.
    pub signature_key: [u8; 32],
}

/// A device that a commit adds.
pub type AddedDevice = parlour_wire::api::Added;

/// One atomic change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Makes an account, using up an invitation if one is given. Answers [`Written::Done`]; refuses `NameTaken`,
    /// `AccountExists`, `Invite…`, and `NoDevice` if one of the devices is another account's.
    CreateAccount {
        /// The account; `seen_ms` and `disabled` as given.
        account: Account,
        /// Its devices.
        devices: Vec<ListedDevice>,
        /// BLAKE3 hash of the invitation token, if registration is by invitation.
        invite: Option<[u8; 32]>,
        /// For the invitation's expiry.
        now_ms: u64,
    },
    /// Replaces password file and wrapped root together. Refuses `NoAccount`.
    ReplacePassword {
        /// Whose.
        account: AccountId,
        /// OPAQUE password file.
        record: Vec<u8>,
        /// Root secret, wrapped anew.
        wrapped_root: Vec<u8>,
    },
    /// Replaces the device list: devices that are new in it begin, devices that are gone from it end (their cursors, key
    /// packages and welcomes go). A device that logged out does not come back by this. Refuses `NoAccount`, `StaleList`
    /// unless `version` is the current one plus one, and `NoDevice` if one of the devices is another account's.
    ReplaceDeviceList {
        /// Whose.
        account: AccountId,
        /// CBOR of the signed list.
        device_list: Vec<u8>,
        /// Its version.
        version: u64,
        /// The devices in it.
        devices: Vec<ListedDevice>,
    },
    /// Ends a device (logout): cursors, key packages and welcomes go. Refuses `NoDevice`.
    RemoveDevice {
        /// Which.
        device: DeviceId,
    },
    /// Adds key packages; those above [`parlour_wire::limits::KEY_PACKAGES_PER_DEVICE`] are dropped. Refuses `NoDevice`.
    PublishKeyPackages {
        /// Whose.
        device: DeviceId,
        /// Each handed out once.
        one_time: Vec<Vec<u8>>,
        /// Replaces the earlier one, if given.
        last_resort: Option<Vec<u8>>,
    },
    /// Takes one key package for each device of the account: the oldest one-time one, else the last-resort one. Answers
    /// [`Written::KeyPackages`] in order of device id. Refuses `NoAccount`.
    ClaimKeyPackages {
        /// Whose.
        account: AccountId,
    },
    /// Makes an invitation. Answers [`Written::Done`].
    CreateInvite {
        /// BLAKE3 hash of the token.
        token: [u8; 32],
        /// How often it may be used.
        uses: u32,
        /// When it ends, Unix milliseconds.
        expires_ms: u64,
    },
    /// Appends a message. Answers [`Written::Stored`]; with `duplicate` if the conversation has an entry of this id already,
    /// whatever the epoch is by then. Refuses `NoConversation`, `NotMember` (the device has no cursor), `StaleEpoch` (more than
    /// [`parlour_wire::api::EPOCH_WINDOW`] behind, older than the last join of a device, or ahead).
    Append(Append),
    /// Appends a commit. Answers [`Written::Stored`]; with `duplicate` as for a message. Refuses `NoConversation`,
    /// `ConversationExists`, `NotMember`, `StaleEpoch`, `NoDevice`, and `NoAccount` if a member of a conversation that it
    /// creates is unknown.
    Commit(Box<CommitWrite>),
    /// Moves cursors forward (never back, never past the newest entry; unknown ones are skipped) and drops welcomes at or
    /// before them. Answers `Done`.
    MoveCursors {
        /// Whose.
        device: DeviceId,
        /// How far.
        cursors: Vec<Cursor>,
    },
    /// Notes that a device is here, for the device and its account; never back in time. Answers `Done`, also for an unknown
    /// device.
    Seen {
        /// Which.
        device: DeviceId,
        /// Unix milliseconds.
        now_ms: u64,
    },
    /// Deletes entries that every cursor of their conversation has passed and that are older than `before_ms`, at most `limit`
    /// of them; never the newest entry of a conversation. Answers [`Written::Deleted`].
    Retain {
        /// Unix milliseconds.
        before_ms: u64,
        /// How many at most.
        limit: u32,
    },
    /// Sets a value that the server keeps about itself, unless it is set. Answers `Done`.
    InitSetting {
        /// Which.
        key: &'static str,
        /// The value.
        value: Vec<u8>,
    },
}

/// A message to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// To which log.
    pub conversation: ConversationId,
    /// From which device.
    pub device: DeviceId,
    /// Made by the sender.
    pub id: MessageId,
    /// Epoch of the ciphertext.
    pub epoch: u64,
    /// The ciphertext.
    pub payload: Vec<u8>,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// A commit to append. On acceptance, in one step: the entry is appended, the epoch is `parent_epoch + 1`, added devices get
/// cursors at this entry and the welcome, removed devices lose theirs (removals come before additions, so a device in both
/// starts afresh), the group info is replaced. The committer's own cursor is made (at this entry) if the commit creates the
/// conversation or is external; otherwise it must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitWrite {
    /// To which log.
    pub conversation: ConversationId,
    /// Account of the committer.
    pub account: AccountId,
    /// From which device.
    pub device: DeviceId,
    /// Made by the committer.
    pub id: MessageId,
    /// The epoch that it ends; must be the current one (0 if it creates).
    pub parent_epoch: u64,
    /// Kind and members of a conversation that this commit creates.
    pub create: Option<(ConversationKind, Vec<AccountId>)>,
    /// The MLS commit.
    pub commit: Vec<u8>,
    /// The server's signature on it.
    pub receipt: [u8; 64],
    /// For the added devices. Their accounts must be members and the devices known, else `NotMember`/`NoDevice`. One that is in
    /// already is refused (`AlreadyIn`) unless it is removed too: it would lose what it has not read.
    pub welcome: Option<Vec<u8>>,
    /// Added devices.
    pub added: Vec<AddedDevice>,
    /// Removed devices.
    pub removed: Vec<DeviceId>,
    /// For external joins into the new epoch.
    pub group_info: Vec<u8>,
    /// The committer joins by it; its account must be a member. If the device has a cursor already, the cursor moves here.
    pub external: bool,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Done,
    /// An entry stands in the log.
    Stored {
        /// The answer for the sender.
        stored: parlour_wire::api::Stored,
        /// The entry had been stored before; this write changed nothing.
        duplicate: bool,
    },
    /// The claimed packages.
    KeyPackages {
        /// The account's device list at that moment.
        device_list: Vec<u8>,
        /// One for each device that has any.
        packages: Vec<DeviceKeyPackage>,
    },
    /// How many entries were deleted.
    Deleted(u64),
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
        /// The member accounts, if the entry made the conversation.
        created: Option<Vec<AccountId>>,
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

    /// Group info of a conversation, for a device of a member account. Refuses `NoConversation`, `NotMember`.
    fn group_info(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<GroupInfo, Refusal>, StoreError>> + Send + 'static;

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
