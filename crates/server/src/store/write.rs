//! The writes of a store, each one change that happens wholly or not at all.

use parlour_wire::{
    AccountId, BlobId, ConversationId, DeviceId, MessageId,
    api::{Change, Create, Cursor, DeviceKeyPackage, Suite},
};

use super::{Account, ListedDevice};

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
    /// Replaces password file and wrapped root together, of the password or of the recovery code. Refuses `NoAccount`.
    ReplacePassword {
        /// Whose.
        account: AccountId,
        /// Of the recovery code; the password stays.
        recovery: bool,
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
    /// Adds key packages; those above [`parlour_wire::limits::KEY_PACKAGES_PER_DEVICE`] of one suite are dropped. Refuses `NoDevice`.
    PublishKeyPackages {
        /// Whose.
        device: DeviceId,
        /// Of which suite.
        suite: Suite,
        /// Each handed out once.
        one_time: Vec<Vec<u8>>,
        /// Replaces the earlier one, if given.
        last_resort: Option<Vec<u8>>,
        /// Whether the one-time packages of this suite that are there go.
        replace: bool,
    },
    /// Takes one key package of a suite for each device of the account: the oldest one-time one, else the last-resort one. Answers
    /// [`Written::KeyPackages`] in order of device id. Refuses `NoAccount`.
    ClaimKeyPackages {
        /// Whose.
        account: AccountId,
        /// Of which suite.
        suite: Suite,
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
    /// [`parlour_wire::api::EPOCH_WINDOW`] behind, older than the last join of a device, or ahead), `NoBlob`,
    /// `Quota` if a blob is named in [`super::BLOB_CONVERSATIONS`] others.
    Append(Append),
    /// Appends a commit. Answers [`Written::Stored`]; with `duplicate` as for a message. Refuses `NoConversation`,
    /// `ConversationExists`, `ConversationEnded`, `NotMember`, `StaleEpoch`, `NoDevice`, `NoAccount` if an account that it makes a member is unknown,
    /// `NameTaken`, what [`super::Roster::change`] refuses, `Forbidden` for a removed device that is somebody else's, and `TooMany`.
    Commit(Box<CommitWrite>),
    /// An account leaves a group: a leave entry is appended, member row and cursors go, somebody is admin afterwards
    /// ([`super::Roster::leave`]). When the last member leaves, the conversation ends: its name is free, its id is not used again. Answers
    /// [`Written::Stored`]; with `duplicate` if the log has this very statement under this id. Refuses `NoConversation`, `NotMember`,
    /// `NoDevice`, `Forbidden` for what is not a group, `StaleEpoch` if `since` is not the member's.
    Leave(LeaveWrite),
    /// Begins to store a blob, or goes on. Answers [`Written::Whole`] if the blob is whole and the account may read it (it is an
    /// owner from then on), else `Done`. Refuses `NoAccount`, `Quota`.
    BeginBlob {
        /// Who stores it.
        account: AccountId,
        /// Which.
        blob: BlobId,
        /// Its size in bytes.
        size: u64,
        /// How many bytes the account may own, unfinished ones included.
        quota: u64,
        /// Unix milliseconds.
        now_ms: u64,
    },
    /// A blob that the account has begun is whole and on disk. Answers `Done`. Refuses `NoBlob` if it was not begun with this size.
    FinishBlob {
        /// Who stored it.
        account: AccountId,
        /// Which.
        blob: BlobId,
        /// Its size in bytes.
        size: u64,
        /// Unix milliseconds.
        now_ms: u64,
    },
    /// Gives up what was begun before `before_ms` and never finished. Answers [`Written::Abandoned`].
    AbandonOldBlobs {
        /// Unix milliseconds.
        before_ms: u64,
        /// How many at most.
        limit: u32,
    },
    /// Messages stored before `before_ms` do not keep their blobs any more. Answers [`Written::Deleted`].
    ReleaseBlobs {
        /// Unix milliseconds.
        before_ms: u64,
        /// How many references at most.
        limit: u32,
    },
    /// Forgets a blob that nothing needs (as [`super::Store::unneeded_blobs`] says). Answers `Done`; refuses `NoBlob` if it is needed
    /// or unknown.
    DropBlob {
        /// Which.
        blob: BlobId,
        /// Unix milliseconds.
        before_ms: u64,
    },
    /// Replaces the backup of an account. Blobs that only the backup before named, and nothing else of anybody, are not the account's any
    /// more. Refuses
    /// `NoAccount`, `StaleList` unless `version` is one more than the current one, `NoBlob`.
    SetBackup {
        /// Whose.
        account: AccountId,
        /// Counts the replacements, from 1.
        version: u64,
        /// Its sealed index.
        index: Vec<u8>,
        /// Blobs that it names, each once.
        blobs: Vec<BlobId>,
    },
    /// Deletes the backup of an account. Answers `Done`, also if there is none.
    DeleteBackup {
        /// Whose.
        account: AccountId,
    },
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
    /// Blobs that it names, each once, all whole and readable for the sender's account.
    pub blobs: Vec<BlobId>,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// An account that leaves a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveWrite {
    /// Which group.
    pub conversation: ConversationId,
    /// Who leaves.
    pub account: AccountId,
    /// By which device.
    pub device: DeviceId,
    /// Made by that device.
    pub id: MessageId,
    /// The epoch at which the account came in, as the statement says.
    pub since: u64,
    /// The signed statement: the payload of the entry.
    pub statement: Vec<u8>,
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
    /// Kind, members and name of a conversation that this commit creates.
    pub create: Option<Create>,
    /// What it changes about members, roles and name; see [`super::Roster::change`].
    pub change: Option<Change>,
    /// The MLS commit.
    pub commit: Vec<u8>,
    /// The server's signature on it.
    pub receipt: [u8; 64],
    /// For the added devices. Their accounts must be members and the devices known, else `NotMember`/`NoDevice`. One that is in
    /// already is refused (`AlreadyIn`) unless it is removed too; then it keeps its cursor, and reads on up to this commit.
    pub welcome: Option<Vec<u8>>,
    /// Added devices; never the committer's, which has no use for a welcome.
    pub added: Vec<AddedDevice>,
    /// Removed devices. Each must be the committer's own, of an account that is no member (any more), no device that may speak, or
    /// added again by an admin; else `Forbidden`. With an account that `change` removes, all its devices go.
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
    /// How many entries or references were deleted.
    Deleted(u64),
    /// The blob is whole and this account's.
    Whole {
        /// Its size in bytes.
        size: u64,
    },
    /// Whose unfinished blobs were given up.
    Abandoned(Vec<(AccountId, BlobId)>),
}
