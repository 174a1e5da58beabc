//! Conversations: commits, messages, reading the log, cursors, welcomes.

use minicbor::{Decode, Encode, bytes::ByteVec};

use super::{Done, call, notice};
use crate::{
    id::{AccountId, BlobId, ConversationId, DeviceId, MessageId},
    limits,
    log::Entry,
    name::Name,
};

/// Kinds of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct ConversationKind(#[n(0)] pub u8);

impl ConversationKind {
    /// Between two accounts; the id is [`ConversationId::direct`] of the two.
    pub const DIRECT: Self = Self(0);
    /// A group; the id is a random [`ConversationId::group`].
    pub const GROUP: Self = Self(1);
    /// The devices of one account among themselves; the id is [`ConversationId::own`] of the account.
    pub const OWN: Self = Self(2);
}

/// What an account may do in a group. The creator of a group is its first admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Role(#[n(0)] pub u8);

impl Role {
    /// May speak, bring its own devices in, and leave.
    pub const MEMBER: Self = Self(0);
    /// May also add and remove accounts, give roles, rename.
    pub const ADMIN: Self = Self(1);

    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MEMBER => "member",
            Self::ADMIN => "admin",
            _ => "unknown",
        }
    }
}

/// An account in a group, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Member {
    /// Which account.
    #[n(0)]
    pub account: AccountId,
    /// What it may do.
    #[n(1)]
    pub role: Role,
}

/// What a commit changes about a group beside its devices. Only an admin may send one, else [`crate::Code::FORBIDDEN`]. The
/// server keeps its own table of members and roles by it, and refuses what that table does not allow; members check the same again,
/// from what the commit itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Change {
    /// Accounts that become members.
    #[n(0)]
    pub added: Vec<AccountId>,
    /// Accounts that are members no longer; the cursors of all their devices go. Never the committer's own: see [`Leave`].
    #[n(1)]
    pub removed: Vec<AccountId>,
    /// Members whose role becomes another. The last admin stays one.
    #[n(2)]
    pub roles: Vec<Member>,
    /// The group's new name; answers [`crate::Code::NAME_TAKEN`] if a user or another group has it.
    #[n(3)]
    pub name: Option<Name>,
}

/// Makes a conversation, together with its first commit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Create {
    /// Direct or group.
    #[n(0)]
    pub kind: ConversationKind,
    /// The member accounts, the creator among them.
    #[n(1)]
    pub members: Vec<AccountId>,
    /// The name of a group, in one namespace with those of users: answers [`crate::Code::NAME_TAKEN`]. Groups need one, other
    /// conversations have none.
    #[n(2)]
    pub name: Option<Name>,
}

/// A device that a commit adds, with what it needs to join.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Added {
    /// Whose device.
    #[n(0)]
    pub account: AccountId,
    /// Which device.
    #[n(1)]
    pub device: DeviceId,
}

/// A commit: takes the conversation from `parent_epoch` to the next. The server accepts one for each epoch, and the first with
/// the conversation's creation at epoch 0. Asking again with the same `id` gives the same answer, as long as the conversation is there.
///
/// Epochs on the wire are the home's: it counts the commits of the log. An MLS epoch counts those that the members have applied;
/// one that breaks the rules stays in the log and is void, so the home's epoch may run ahead of MLS's.
///
/// The server refuses with [`crate::Code::FORBIDDEN`] what a member may not do: a `change` by somebody who is no admin, and devices in
/// `removed` that belong to another account that stays and still lists them, unless an admin brings them in again by the same commit.
///
/// Answers [`crate::Code::STALE_EPOCH`] if another commit was first, [`crate::Code::ALREADY_EXISTS`] if `create` is given and the
/// conversation exists, [`crate::Code::CONVERSATION_ENDED`] if it has existed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Made by the committer.
    #[n(1)]
    pub id: MessageId,
    /// The epoch that the commit ends.
    #[n(2)]
    pub parent_epoch: u64,
    /// Present in the commit that makes the conversation.
    #[n(3)]
    pub create: Option<Create>,
    /// The MLS commit.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub commit: Vec<u8>,
    /// The MLS welcome for all devices in `added`; released to them with the commit.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub welcome: Option<Vec<u8>>,
    /// Devices that the commit adds by welcome. They start to read after this commit; those that it takes out as well read on from where
    /// they were.
    #[n(6)]
    pub added: Vec<Added>,
    /// Devices that the commit removes. They cannot read past this commit.
    #[n(7)]
    pub removed: Vec<DeviceId>,
    /// The MLS group info of the new epoch with its ratchet tree, for devices that join by external commit.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub group_info: Vec<u8>,
    /// Whether this is an external commit: the sender's device joins by it.
    #[n(9)]
    pub external: bool,
    /// What it changes about members, roles and name.
    #[n(10)]
    pub change: Option<Change>,
}
call!(Commit, "conversation.commit" => Stored,
    commit <= limits::HANDSHAKE_PAYLOAD, group_info <= limits::HANDSHAKE_PAYLOAD,
    added <= limits::GROUP_DEVICES, removed <= limits::GROUP_DEVICES);

/// Leaves a group: this account's devices get nothing after the entry that this makes ([`crate::log::EntryKind::LEAVE`]), whose payload is
/// `statement`. The next commit of another member takes their leaves out. If the last admin leaves, the member that has been in
/// longest (by the epoch at which it came, then by account id) is admin from then on; if the last member leaves, the group and its name end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leave {
    /// The group.
    #[n(0)]
    pub conversation: ConversationId,
    /// Made by the leaving device.
    #[n(1)]
    pub id: MessageId,
    /// A signed [`crate::log::LeaveStatement`] of this device.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub statement: Vec<u8>,
}
call!(Leave, "conversation.leave" => Stored, statement <= limits::LEAVE_STATEMENT);

/// Asks for the statements by which these accounts have left a group. For devices of member accounts, also about entries from before
/// they came in: who joins does not see those, and the accounts may still be members of the MLS group that it joins. It has to name
/// them, so that nobody learns who else was there once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeavesGet {
    /// The group.
    #[n(0)]
    pub conversation: ConversationId,
    /// Which accounts; any order.
    #[n(1)]
    pub accounts: Vec<AccountId>,
}
call!(LeavesGet, "conversation.leaves" => LeavesAnswer, accounts <= limits::LEAVE_STATEMENTS);

/// What of it is in the log, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeavesAnswer {
    /// Signed [`crate::log::LeaveStatement`]s.
    #[n(0)]
    pub statements: Vec<ByteVec>,
}

/// Asks whether there is a group of this name. Says nothing else about it; throttled like the look-up of users. Answers
/// [`crate::Code::CONVERSATION_NOT_FOUND`] if there is none.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GroupByName {
    /// The name.
    #[n(0)]
    pub name: Name,
}
call!(GroupByName, "group.by_name" => Done);

/// Action of a device, and push to the other devices of the conversation that are online: something that is worth nothing later, such
/// as that somebody types. Never stored, dropped where there is no room.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signal {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Encrypted by the conversation's key for signals.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
}
notice!(Signal, "signal");

/// Where an entry stands in the log. The server answers it only when the entry is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stored {
    /// Number in the log.
    #[n(0)]
    pub seq: u64,
    /// Hash of the entry before.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub previous: [u8; 32],
    /// When it was stored, Unix time in milliseconds.
    #[n(2)]
    pub stored_ms: u64,
    /// The receipt, for a commit.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub receipt: Option<[u8; 64]>,
}

/// Sends a message. Sending again with the same `id` gives the same answer and stores nothing twice.
///
/// Answers [`crate::Code::STALE_EPOCH`] if `epoch` is older than readers can still decrypt: the sender then encrypts anew.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Send {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Made by the sender.
    #[n(1)]
    pub id: MessageId,
    /// The epoch under which `payload` is encrypted.
    #[n(2)]
    pub epoch: u64,
    /// The MLS application message.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Blobs that the message names. From here on the members of the conversation may read them, and they are kept as long as the
    /// server's retention says. Answers [`crate::Code::FILE_NOT_FOUND`] for one that is not whole at the server.
    #[n(4)]
    pub blobs: Vec<BlobId>,
}
call!(Send, "conversation.send" => Stored, payload <= limits::ENTRY_PAYLOAD, blobs <= limits::BLOBS_PER_MESSAGE);

/// How many epochs behind the current one a message may be when it reaches the server. Readers keep as many past epochs and
/// one more.
pub const EPOCH_WINDOW: u64 = 2;

/// Reads a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Read {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Entries after this one. A device cannot read from before it joined.
    #[n(1)]
    pub after: u64,
    /// At most so many; the server has a limit of its own.
    #[n(2)]
    pub limit: u32,
}
call!(Read, "conversation.read" => ReadAnswer);

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ReadAnswer {
    /// Entries in order, without gaps.
    #[n(0)]
    pub entries: Vec<Entry>,
    /// Number of the newest entry of the log.
    #[n(1)]
    pub head: u64,
}

/// Asks for what a device needs to join by external commit. For devices of member accounts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GroupInfoGet {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
}
call!(GroupInfoGet, "conversation.group_info" => GroupInfoAnswer);

/// The state to join.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GroupInfoAnswer {
    /// The home's current epoch.
    #[n(0)]
    pub epoch: u64,
    /// MLS group info with the ratchet tree.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub group_info: Vec<u8>,
}

/// Asks what there is: conversations of the account with their heads and this device's cursors, and welcomes that wait.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sync {
    /// Continue after this conversation; absent for the first page.
    #[n(0)]
    pub after: Option<ConversationId>,
}
call!(Sync, "sync" => SyncAnswer);

/// One page of what there is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SyncAnswer {
    /// Conversations in order of id.
    #[n(0)]
    pub conversations: Vec<ConversationState>,
    /// Whether more conversations follow.
    #[n(1)]
    pub more: bool,
}

/// A conversation as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ConversationState {
    /// Which.
    #[n(0)]
    pub conversation: ConversationId,
    /// Direct or group.
    #[n(1)]
    pub kind: ConversationKind,
    /// Member accounts.
    #[n(2)]
    pub members: Vec<AccountId>,
    /// Number of the newest entry.
    #[n(3)]
    pub head: u64,
    /// How far this device has acknowledged; absent if the device is not in the conversation.
    #[n(4)]
    pub cursor: Option<u64>,
    /// The welcome that this device has not acknowledged, if one waits.
    #[n(5)]
    pub welcome: Option<Welcome>,
}

/// Push, and part of a sync: this device has been added to a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// Direct or group.
    #[n(1)]
    pub kind: ConversationKind,
    /// Number of the commit that added the device; it reads from there.
    #[n(2)]
    pub seq: u64,
    /// Hash of that commit's entry.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// The MLS welcome, with the ratchet tree.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub welcome: Vec<u8>,
    /// Member accounts.
    #[n(5)]
    pub members: Vec<AccountId>,
    /// The home's epoch after that commit.
    #[n(6)]
    pub epoch: u64,
}
notice!(Welcome, "welcome");

/// Push: new entries, in order. A device that misses some reads them from its cursor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entries {
    /// The entries; all of one conversation.
    #[n(0)]
    pub entries: Vec<Entry>,
}
notice!(Entries, "entries");

/// Push: entries were not pushed because this link was slow; read from the cursors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Lagging {}
notice!(Lagging, "lagging");

/// Action of a device: everything up to `seq` is safe on its disk. Cursors only move forward. Also acknowledges a welcome whose
/// commit is at or before `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursors {
    /// One for each conversation that moved.
    #[n(0)]
    pub cursors: Vec<Cursor>,
}
notice!(Cursors, "cursors");

/// How far a device has taken a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursor {
    /// The conversation.
    #[n(0)]
    pub conversation: ConversationId,
    /// The last entry taken.
    #[n(1)]
    pub seq: u64,
}

/// The same as a request, for a device that wants to be sure before it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CursorsSet {
    /// One for each conversation that moved.
    #[n(0)]
    pub cursors: Vec<Cursor>,
}
call!(CursorsSet, "cursors.set" => Done, cursors <= limits::READ_ENTRIES);
