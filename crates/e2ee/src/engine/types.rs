//! What goes into the engine and what comes out of it.

use std::collections::BTreeMap;

use parlour_wire::{
    api::{Added, Change, ConversationKind, DeviceKeyPackage, Role, Suite},
    id::{AccountId, ConversationId, DeviceId},
    identity::VerifiedList,
    name::Name,
};

#[cfg(doc)]
use super::Engine;
use crate::error::E2eeError;

/// Devices up to which a conversation is founded in the hybrid suite. Above it, a commit with a path in a tree nobody has warmed
/// up costs more than 190 KB.
pub const HYBRID_DEVICES: usize = 150;

/// The suite in which a conversation of so many devices is to be founded.
#[must_use]
pub const fn suite_for(devices: usize) -> Suite {
    if devices <= HYBRID_DEVICES { Suite::HYBRID } else { Suite::CLASSICAL }
}

/// A device in a conversation, and whose it is.
pub type Leaf = (AccountId, DeviceId);

/// The device lists that the caller has pinned: for each account the one with the highest version it has ever seen.
pub trait Lists {
    /// The pinned list of an account, if there is one.
    fn list(&self, account: &AccountId) -> Option<VerifiedList>;
}

impl Lists for BTreeMap<AccountId, VerifiedList> {
    fn list(&self, account: &AccountId) -> Option<VerifiedList> {
        self.get(account).cloned()
    }
}

/// An account whose devices are to come in.
#[derive(Clone, Debug)]
pub struct Member {
    /// The account's pinned list.
    pub list: VerifiedList,
    /// Key packages of its devices, one for each.
    pub packages: Vec<DeviceKeyPackage>,
}

/// A conversation to be made.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// Its id: for a direct conversation [`ConversationId::direct`] of the two accounts.
    pub conversation: ConversationId,
    /// Direct, group, or one's own.
    pub kind: ConversationKind,
    /// The cipher suite; [`suite_for`] says which.
    pub suite: Suite,
    /// The name of a group; others have none.
    pub name: Option<Name>,
    /// What somebody who comes in later may be given of what was said before.
    pub history: HistoryPolicy,
    /// The key of the server whose receipts order the commits.
    pub receipt_key: [u8; 32],
    /// The other members, and this account with its other devices if it has some. In a group this account is the first admin.
    pub members: Vec<Member>,
}

/// What somebody who comes into a group may be given of what was said before, by whoever adds them. Encryption gives them nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryPolicy {
    /// Nothing.
    #[default]
    None,
    /// The last so many messages.
    Last(u32),
    /// All that the adder has.
    All,
}

/// What an admin changes about a group. Devices of accounts that are members already may be in `add` too.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// Accounts to bring in, with their devices.
    pub add: Vec<Member>,
    /// Accounts to take out, with all their devices.
    pub remove: Vec<AccountId>,
    /// New roles of members, also of those that come in by this change.
    pub roles: Vec<(AccountId, Role)>,
    /// A new name.
    pub name: Option<Name>,
    /// Another history policy.
    pub history: Option<HistoryPolicy>,
}

/// Something that a commit has changed about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// An account is a member now.
    Added(AccountId),
    /// An account was taken out.
    Removed(AccountId),
    /// The devices of an account that had left are out.
    Left(AccountId),
    /// A member's role is another one.
    Role(AccountId, Role),
    /// The group has another name.
    Renamed(Name),
    /// The history policy is another one.
    History(HistoryPolicy),
    /// The group was founded anew, in this suite.
    Refounded(Suite),
}

/// A member account of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Which account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The home's epoch at which it came in.
    pub since: u64,
}

/// What a conversation is at the moment, as all its members see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Direct, group, or one's own.
    pub kind: ConversationKind,
    /// The name of a group.
    pub name: Option<Name>,
    /// The cipher suite.
    pub suite: Suite,
    /// What newcomers may be given.
    pub history: HistoryPolicy,
    /// The members, by account id.
    pub members: Vec<GroupMember>,
    /// The devices in it.
    pub devices: Vec<Leaf>,
    /// The home's epoch.
    pub epoch: u64,
    /// Members that have left, and whose devices the next commit takes out.
    pub left: Vec<AccountId>,
}

/// A commit of this device that waits for its receipt. The fields are those of the server's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCommit {
    /// The conversation.
    pub conversation: ConversationId,
    /// The home's epoch that the commit ends.
    pub parent_epoch: u64,
    /// The MLS commit.
    pub commit: Vec<u8>,
    /// The MLS welcome for all devices in `added`.
    pub welcome: Option<Vec<u8>>,
    /// The MLS group info of the next epoch with its ratchet tree.
    pub group_info: Vec<u8>,
    /// Devices that come in by the welcome.
    pub added: Vec<Added>,
    /// Devices that go.
    pub removed: Vec<DeviceId>,
    /// Whether this device joins by it.
    pub external: bool,
    /// What it changes about members, roles and name, for the server.
    pub change: Option<Change>,
}

/// Where in a log a device was when it wrote: the last entry that it had taken. Authenticated with the message, in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry's number.
    pub seq: u64,
    /// The beginning of its hash, which stands for all entries up to it.
    pub hash: [u8; 16],
}

impl Place {
    /// The place of an entry with this number and hash.
    #[must_use]
    pub fn new(seq: u64, hash: &[u8; 32]) -> Self {
        let mut begin = [0; 16];
        begin.copy_from_slice(&hash[..16]);
        Self { seq, hash: begin }
    }

    pub(super) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..].copy_from_slice(&self.hash);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (seq, hash) = bytes.split_first_chunk()?;
        Some(Self { seq: u64::from_be_bytes(*seq), hash: hash.try_into().ok()? })
    }
}

/// An encrypted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The home's epoch under which it is encrypted.
    pub epoch: u64,
    /// The MLS message. Sent again byte for byte, never encrypted again under the same id.
    pub payload: Vec<u8>,
}

/// What an entry of the log turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A message.
    Message {
        /// Whose.
        sender: AccountId,
        /// From which device.
        device: DeviceId,
        /// What it says: content of the MIMI model.
        content: Vec<u8>,
        /// Whether the sender's device has been revoked since, as far as this device knows.
        revoked: bool,
        /// Where in the log the sender was, if it says so.
        place: Option<Place>,
    },
    /// A commit of another device, applied. A pending commit of this device, if there was one, is gone: it lost.
    Commit {
        /// The home's epoch reached.
        epoch: u64,
        /// Who made it.
        committer: Leaf,
        /// Devices that came in, the committer too if it joined by this commit.
        added: Vec<Leaf>,
        /// Devices that went. If this device is among them, the conversation is over for it.
        removed: Vec<Leaf>,
        /// What it has changed about the group.
        events: Vec<GroupEvent>,
    },
    /// The pending commit of this device, applied.
    OwnCommit {
        /// The home's epoch reached.
        epoch: u64,
        /// What it has changed about the group.
        events: Vec<GroupEvent>,
    },
    /// An account leaves. Nothing is encrypted to it any more: the next commit of anybody takes its devices out, and until then
    /// [`Engine::encrypt`] refuses.
    Left {
        /// Which account.
        account: AccountId,
    },
    /// An entry that breaks the rules. Everybody passes over it; a commit's place in the home's count of epochs is taken.
    Void {
        /// Whose device made it, if that is known.
        committer: Option<Leaf>,
        /// Which rule it breaks.
        why: E2eeError,
    },
    /// A message that claims to be of this device, which cannot decrypt it: the echo of a message sent. The claim is not authenticated. Of
    /// an id that this device does not know it means an older copy of its state, or another member that makes it look like one; nothing
    /// may be encrypted by this state any more, and what stands behind can be read by it.
    Own,
}

/// A conversation joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The home's epoch joined at.
    pub epoch: u64,
    /// The devices in it.
    pub members: Vec<Leaf>,
    /// The key of the server whose receipts order the commits.
    pub receipt_key: [u8; 32],
    /// Whose device made the commit that let this one in: it signed the welcome.
    pub adder: AccountId,
}

/// How the devices in a conversation differ from the pinned lists of its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Listed, but not in the conversation: to be added, or to join by themselves.
    pub missing: Vec<Leaf>,
    /// In the conversation, but not listed: to be removed before anything is sent.
    pub revoked: Vec<Leaf>,
    /// Accounts that have left and still have devices in the conversation: the next commit takes them out, before anything is sent.
    pub left: Vec<AccountId>,
    /// The last commit was void, so the server holds a group info that nobody can use: any commit mends it.
    pub repair: bool,
}
