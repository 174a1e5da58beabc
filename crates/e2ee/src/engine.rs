//! Conversations: MLS groups (RFC 9420) whose leaves are devices, ordered by their home server's receipts.
//!
//! Every method is one step: it reads the caller's rows and gives back an output and the changes to put on disk. After the
//! transaction the caller says [`Engine::committed`] or [`Engine::rolled_back`]. A step that fails changes nothing.
//!
//! - **Receipts.** A commit takes effect only with the server's signed receipt for its parent epoch, also a commit of this
//!   device: it stays pending until its entry comes back through [`Engine::open`], or is given up by [`Engine::abandon`].
//!   A join by external commit is kept aside whole until then; the state before it, if there is one, goes on working.
//! - **Leaves.** A leaf is let in only with a certificate that its account has signed, whose key is the leaf's signature key,
//!   whose account is a member of the conversation, and whose device is in the account's pinned list ([`Lists`]).
//! - **Revocation.** A device that reads an old log meets commits of devices that have been revoked since. To refuse these
//!   would lock it out for ever, so a leaf that its list calls revoked is let in under quarantine: as long as one is there
//!   [`Engine::encrypt`] refuses to send, what it says is marked, and any member may remove it. A device that is neither
//!   listed nor revoked is refused.
//! - **Time.** OpenMLS compares the lifetime of key packages to the system clock, also in commits read from an old log. Ours
//!   are valid at all times: whether a device may speak is decided by its account's list, not by a clock.
//! - **Randomness** comes from OpenMLS's provider, which seeds itself from the operating system.

mod commit;
mod create;
mod join;
mod leaf;
mod message;
mod open;
mod packages;
mod policy;
mod record;
mod suite;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use openmls_rust_crypto::RustCrypto;
use parlour_wire::{
    api::{Added, ConversationKind, DeviceKeyPackage, Welcome},
    id::{AccountId, ConversationId, DeviceId, MessageId},
    identity::{VerifiedCertificate, VerifiedList},
    log::{Entry, EntryKind},
};

use crate::{
    device::DeviceKeys,
    error::E2eeError,
    storage::{Rows, Step},
};
use work::{Cached, Work};

/// Groups kept in memory. Loading one costs about a millisecond.
const CACHED_GROUPS: usize = 256;

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
    /// Direct or group.
    pub kind: ConversationKind,
    /// The key of the server whose receipts order the commits.
    pub receipt_key: [u8; 32],
    /// The other members, and this account with its other devices if it has some.
    pub members: Vec<Member>,
}

/// A commit of this device that waits for its receipt. The fields are those of the server's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCommit {
    /// The conversation.
    pub conversation: ConversationId,
    /// The epoch that the commit ends.
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
}

/// An encrypted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The epoch under which it is encrypted.
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
    },
    /// A commit of another device, applied. A pending commit of this device, if there was one, is gone: it lost.
    Commit {
        /// The epoch reached.
        epoch: u64,
        /// Who made it.
        committer: Leaf,
        /// Devices that came in, the committer too if it joined by this commit.
        added: Vec<Leaf>,
        /// Devices that went. If this device is among them, the conversation is over for it.
        removed: Vec<Leaf>,
    },
    /// The pending commit of this device, applied.
    OwnCommit {
        /// The epoch reached.
        epoch: u64,
    },
    /// A message that claims to be of this device, which cannot decrypt it: the echo of a message sent. The claim is not
    /// authenticated, so an id that is not in the outbox means nothing.
    Own,
}

/// A conversation joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The epoch joined at.
    pub epoch: u64,
    /// The devices in it.
    pub members: Vec<Leaf>,
    /// The key of the server whose receipts order the commits.
    pub receipt_key: [u8; 32],
}

/// How the devices in a conversation differ from the pinned lists of its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Listed, but not in the conversation: to be added, or to join by themselves.
    pub missing: Vec<Leaf>,
    /// In the conversation, but not listed: to be removed before anything is sent.
    pub revoked: Vec<Leaf>,
}

/// The conversations of one device. Keeps groups in memory; everything that must survive is in the caller's rows.
pub struct Engine {
    keys: DeviceKeys,
    certificate: VerifiedCertificate,
    crypto: RustCrypto,
    groups: BTreeMap<ConversationId, Cached>,
    /// Groups whose state in memory may be ahead of the disk.
    touched: BTreeSet<ConversationId>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("device", &self.device()).field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// The engine of a device.
    ///
    /// # Errors
    /// [`E2eeError::BadCertificate`] if the certificate is for another key.
    pub fn new(keys: DeviceKeys, certificate: VerifiedCertificate) -> Result<Self, E2eeError> {
        if certificate.get().signature_key != keys.public() {
            return Err(E2eeError::BadCertificate);
        }
        Ok(Self { keys, certificate, crypto: RustCrypto::default(), groups: BTreeMap::new(), touched: BTreeSet::new() })
    }

    /// This device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.keys.id()
    }

    /// Its account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.certificate.get().account()
    }

    /// The changes of all steps so far are on disk.
    pub fn committed(&mut self) {
        self.touched.clear();
    }

    /// The changes of the steps since the last [`Self::committed`] have been dropped.
    pub fn rolled_back(&mut self) {
        for conversation in std::mem::take(&mut self.touched) {
            self.groups.remove(&conversation);
        }
    }

    /// Makes key packages for others to add this device with, each to be used once. Secrets of packages that nobody has used
    /// for half a year are forgotten.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn key_packages(&mut self, rows: &dyn Rows, count: usize, now_ms: u64) -> Result<Step<Vec<Vec<u8>>>, E2eeError> {
        self.run(rows, None, |work| work.key_packages(count, now_ms))
    }

    /// Makes the key package to be used when the others are gone. The one before it stays valid, the ones before that do not.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn last_resort_key_package(&mut self, rows: &dyn Rows, now_ms: u64) -> Result<Step<Vec<u8>>, E2eeError> {
        self.run(rows, None, |work| work.last_resort_key_package(now_ms))
    }

    /// Makes a conversation, with the commit that brings all devices in.
    ///
    /// # Errors
    /// [`E2eeError::Duplicate`] if it is there, [`E2eeError::WrongConversation`] if the id is not of these members,
    /// [`E2eeError::UnknownDevice`], [`E2eeError::RevokedDevice`] or [`E2eeError::BadCertificate`] for a package that may not
    /// come in.
    pub fn create(&mut self, rows: &dyn Rows, new: &NewConversation) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(new.conversation), |work| work.create(new))
    }

    /// Brings devices in and takes devices out, in one commit. With nothing to do it renews this device's keys.
    ///
    /// # Errors
    /// As [`Self::create`]; [`E2eeError::CommitPending`]; [`E2eeError::Forbidden`] for a device that this one may not remove:
    /// one of another account that is still listed, or itself.
    pub fn change_devices(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        add: &[Member],
        remove: &[DeviceId],
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.change_devices(add, remove, lists))
    }

    /// Brings devices of member accounts in.
    ///
    /// # Errors
    /// As [`Self::change_devices`].
    pub fn add_devices(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        add: &[Member],
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.change_devices(rows, conversation, add, &[], lists)
    }

    /// Takes devices out: own ones, and any that their account's list no longer names.
    ///
    /// # Errors
    /// As [`Self::change_devices`].
    pub fn remove_devices(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        remove: &[DeviceId],
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.change_devices(rows, conversation, &[], remove, lists)
    }

    /// Renews this device's keys, so that whoever stole the old ones reads no further.
    ///
    /// # Errors
    /// As [`Self::change_devices`].
    pub fn update(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.change_devices(rows, conversation, &[], &[], lists)
    }

    /// Gives up the pending commit of that parent epoch, after the server has refused it. A conversation that was to be made by
    /// it is gone. Does nothing if it is no longer pending: a later commit of this device may be, and stays.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn abandon(&mut self, rows: &dyn Rows, conversation: &ConversationId, parent_epoch: u64) -> Result<Step<()>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.abandon(parent_epoch))
    }

    /// Encrypts a message. Its id is authenticated with it. Allowed while a commit is pending.
    ///
    /// # Errors
    /// [`E2eeError::AwaitingReceipt`] before the conversation is established, [`E2eeError::RevokedDevice`] while a device that
    /// is known to be revoked would read it, [`E2eeError::Removed`], [`E2eeError::NoConversation`], [`E2eeError::TooLarge`].
    pub fn encrypt(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        id: MessageId,
        content: &[u8],
    ) -> Result<Step<Sealed>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.encrypt(id, content))
    }

    /// Opens the next entry of a log. Entries must come in their order; deduplicate by id before.
    ///
    /// # Errors
    /// [`E2eeError::UnknownDevice`]: refresh that list and try again. [`E2eeError::WrongEpoch`]: entries are missing.
    /// [`E2eeError::BadReceipt`]: the server cheats. [`E2eeError::Diverged`]: join again. [`E2eeError::AlreadyRead`],
    /// [`E2eeError::Duplicate`] and [`E2eeError::BeforeJoin`]: nothing to do. [`E2eeError::Undecryptable`]: show that something cannot be shown.
    pub fn open(&mut self, rows: &dyn Rows, entry: &Entry, lists: &dyn Lists) -> Result<Step<Opened>, E2eeError> {
        self.run(rows, Some(entry.conversation), |work| match entry.kind {
            EntryKind::MESSAGE => work.open_message(entry),
            EntryKind::COMMIT => work.open_commit(entry, lists),
            _ => Err(E2eeError::Malformed("entry kind")),
        })
    }

    /// Joins by a welcome. Replaces a conversation that this device was making itself, and an older state.
    ///
    /// # Errors
    /// [`E2eeError::Duplicate`] if it has been joined before, [`E2eeError::NoKeyPackage`] if the welcome is for somebody else,
    /// [`E2eeError::WrongConversation`] if it is not for the conversation that the server says, and as [`Self::open`].
    pub fn join(&mut self, rows: &dyn Rows, welcome: &Welcome, lists: &dyn Lists) -> Result<Step<Joined>, E2eeError> {
        self.run(rows, Some(welcome.conversation), |work| work.join(welcome, lists))
    }

    /// Joins by external commit. Takes effect when the commit comes back with its receipt; until then nothing can be sent, and
    /// an older state of the conversation can still open entries.
    ///
    /// # Errors
    /// [`E2eeError::CommitPending`] if a join is pending, and as [`Self::open`].
    pub fn join_external(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        group_info: &[u8],
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.join_external(group_info, lists))
    }

    /// Compares the devices in a conversation with the pinned lists, and remembers which are revoked. To be called when a list
    /// of a member account has changed.
    ///
    /// # Errors
    /// [`E2eeError::NoConversation`], [`E2eeError::Storage`].
    pub fn compare_devices(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        lists: &dyn Lists,
    ) -> Result<Step<Drift>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.compare_devices(lists))
    }

    /// Forgets a conversation and its keys.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn forget(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<Step<()>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.forget())
    }

    /// The devices in a conversation.
    ///
    /// # Errors
    /// [`E2eeError::NoConversation`], [`E2eeError::Storage`].
    pub fn members(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<Vec<Leaf>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.members()).map(|step| step.output)
    }

    /// The current epoch of a conversation.
    ///
    /// # Errors
    /// [`E2eeError::NoConversation`], [`E2eeError::Storage`].
    pub fn epoch(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<u64, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.epoch()).map(|step| step.output)
    }

    /// The parent epoch of the commit that waits for its receipt, if one does.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn pending(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<Option<u64>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.pending()).map(|step| step.output)
    }

    /// One step. A group in memory may have been changed by a step that failed, so it is kept only after one that did not.
    fn run<T>(
        &mut self,
        rows: &dyn Rows,
        conversation: Option<ConversationId>,
        step: impl FnOnce(&mut Work<'_>) -> Result<T, E2eeError>,
    ) -> Result<Step<T>, E2eeError> {
        let cached = conversation.and_then(|conversation| self.groups.remove(&conversation));
        let mut work = Work::new(&self.keys, &self.certificate, &self.crypto, rows, conversation, cached);
        let result = step(&mut work);
        // The store's own failure first: OpenMLS may have made anything of it.
        let (cached, changes) = work.finish()?;
        let output = result?;
        if let Some(conversation) = conversation {
            self.keep(conversation, cached);
            if !changes.is_empty() {
                self.touched.insert(conversation);
            }
        }
        Ok(Step { output, changes })
    }

    fn keep(&mut self, conversation: ConversationId, cached: Option<Cached>) {
        let Some(cached) = cached else { return };
        if self.groups.len() >= CACHED_GROUPS {
            self.groups.pop_first();
        }
        self.groups.insert(conversation, cached);
    }
}
