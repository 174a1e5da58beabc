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
//! - **Epochs.** What goes to the server and comes out of here are the home's epochs: it counts the commits of the log. A commit that breaks
//!   the rules is [`Opened::Void`] for every member alike: it takes a place in the home's count, and none in MLS's.
//! - **Roles.** Who may change a group is in its policy; [`Engine::open`] judges every commit by the policy before and after it.
//! - **Randomness** comes from OpenMLS's provider, which seeds itself from the operating system.

mod commit;
mod create;
mod grounds;
mod group;
mod join;
mod judge;
mod leaf;
mod leave;
mod message;
mod open;
mod packages;
mod policy;
mod record;
mod signal;
mod suite;
mod types;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use openmls_rust_crypto::RustCrypto;
use parlour_wire::{
    api::{Suite, Welcome},
    content::SealedKey,
    id::{AccountId, ConversationId, DeviceId, MessageId},
    identity::VerifiedCertificate,
    log::{Entry, EntryKind},
};
use zeroize::Zeroizing;

pub use self::policy::is_policy;
pub use self::types::{
    Drift, GroupChange, GroupEvent, GroupMember, GroupView, HYBRID_DEVICES, HistoryPolicy, Joined, Leaf, Lists, Member,
    NewConversation, Opened, PendingCommit, Place, Sealed, suite_for,
};
use crate::{
    device::DeviceKeys,
    error::E2eeError,
    sealed::{HistoryKey, SealedKeyError},
    storage::{Rows, Step},
};
use work::{Cached, Work};

/// Groups kept in memory. Loading one costs about a millisecond.
const CACHED_GROUPS: usize = 256;

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

    /// Opens the key of a shared history that is sealed for this device.
    ///
    /// # Errors
    /// [`SealedKeyError`].
    pub fn open_history_key(&self, place: &HistoryKey, sealed: &SealedKey) -> Result<Zeroizing<[u8; 32]>, SealedKeyError> {
        place.open(&self.keys, sealed)
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
    pub fn key_packages(
        &mut self,
        rows: &dyn Rows,
        suite: Suite,
        count: usize,
        now_ms: u64,
    ) -> Result<Step<Vec<Vec<u8>>>, E2eeError> {
        self.run(rows, None, |work| work.key_packages(suite, count, now_ms))
    }

    /// Makes the key package to be used when the others are gone. The one before it stays valid, the ones before that do not.
    ///
    /// # Errors
    /// [`E2eeError::Storage`].
    pub fn last_resort_key_package(&mut self, rows: &dyn Rows, suite: Suite, now_ms: u64) -> Result<Step<Vec<u8>>, E2eeError> {
        self.run(rows, None, |work| work.last_resort_key_package(suite, now_ms))
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

    /// Changes a group: its members, their roles, its name, its history policy. For admins. Accounts that have left go with it.
    ///
    /// # Errors
    /// As [`Self::change_devices`]; [`E2eeError::NotAdmin`], [`E2eeError::LastAdmin`], [`E2eeError::NotMember`], and
    /// [`E2eeError::GroupFull`] above what the suite or the server has room for.
    pub fn change_group(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        change: &GroupChange,
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.change_group(change, lists))
    }

    /// Founds a group anew in another suite, with the same members, name and roles, and the devices whose packages are given (this
    /// one's left out). For admins. Takes effect when the commit comes back with its receipt; until then the state of before goes on working.
    ///
    /// # Errors
    /// As [`Self::change_group`].
    pub fn refound(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        suite: Suite,
        members: &[Member],
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.refound(suite, members))
    }

    /// The signed statement that this account leaves a group, for the server. Changes nothing here.
    ///
    /// # Errors
    /// [`E2eeError::Forbidden`] outside groups, [`E2eeError::Removed`], [`E2eeError::NoConversation`].
    pub fn leave(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<Step<Vec<u8>>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.leave())
    }

    /// Takes statements by which accounts have left a group before this device came in: the log that it reads does not have them, and
    /// the accounts are still in the MLS group. Gives the accounts of those that hold and that were not known.
    ///
    /// # Errors
    /// [`E2eeError::Removed`], [`E2eeError::NoConversation`].
    pub fn recall_leaves(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        statements: &[&[u8]],
    ) -> Result<Step<Vec<AccountId>>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.recall_leaves(statements))
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
        self.run(rows, Some(*conversation), |work| work.encrypt(id, None, content))
    }

    /// The same, saying where in the log this device was when it wrote, so that whoever reads it can tell whether it is shown the
    /// same log.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub fn encrypt_at(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        id: MessageId,
        place: &Place,
        content: &[u8],
    ) -> Result<Step<Sealed>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.encrypt(id, Some(place), content))
    }

    /// Opens the next entry of a log. Entries must come in their order; deduplicate by id before.
    ///
    /// # Errors
    /// [`E2eeError::UnknownDevice`]: refresh that list and try again. [`E2eeError::WrongEpoch`]: entries are missing.
    /// [`E2eeError::BadReceipt`]: the server cheats. [`E2eeError::Diverged`], [`E2eeError::Forgotten`]: join again. [`E2eeError::AlreadyRead`],
    /// [`E2eeError::Duplicate`] and [`E2eeError::BeforeJoin`]: nothing to do. [`E2eeError::Undecryptable`]: show that something cannot be shown.
    pub fn open(&mut self, rows: &dyn Rows, entry: &Entry, lists: &dyn Lists) -> Result<Step<Opened>, E2eeError> {
        self.run(rows, Some(entry.conversation), |work| match entry.kind {
            EntryKind::MESSAGE => work.open_message(entry),
            EntryKind::COMMIT => work.open_commit(entry, lists),
            EntryKind::LEAVE => work.open_leave(entry),
            _ => Err(E2eeError::Malformed("entry kind")),
        })
    }

    /// Passes over a commit that [`Self::open`] keeps refusing with [`E2eeError::UnknownDevice`] although the lists have been
    /// refreshed: it brings in a device that nobody stands for, and is void for everybody.
    ///
    /// # Errors
    /// [`E2eeError::BadReceipt`], [`E2eeError::NoConversation`], [`E2eeError::Storage`].
    pub fn pass_over(&mut self, rows: &dyn Rows, entry: &Entry, why: E2eeError) -> Result<Step<Opened>, E2eeError> {
        self.run(rows, Some(entry.conversation), |work| work.pass_over(entry, why))
    }

    /// Encrypts a signal: something that is worth nothing later. It takes no step of a ratchet and is never stored.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub fn seal_signal(&mut self, rows: &dyn Rows, conversation: &ConversationId, content: &[u8]) -> Result<Vec<u8>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.seal_signal(content)).map(|step| step.output)
    }

    /// Opens a signal of the current epoch: whose, and what it says.
    ///
    /// # Errors
    /// [`E2eeError::Undecryptable`] for anything else, [`E2eeError::NoConversation`].
    pub fn open_signal(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        payload: &[u8],
    ) -> Result<(Leaf, Vec<u8>), E2eeError> {
        self.run(rows, Some(*conversation), |work| work.open_signal(payload)).map(|step| step.output)
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
    /// [`E2eeError::CommitPending`] if a join is pending, [`E2eeError::BadReceipt`] if the conversation is ordered by another server than
    /// that of `receipt_key`, and as [`Self::open`].
    pub fn join_external(
        &mut self,
        rows: &dyn Rows,
        conversation: &ConversationId,
        group_info: &[u8],
        home_epoch: u64,
        receipt_key: &[u8; 32],
        lists: &dyn Lists,
    ) -> Result<Step<PendingCommit>, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.join_external(group_info, home_epoch, receipt_key, lists))
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

    /// What a conversation is at the moment.
    ///
    /// # Errors
    /// [`E2eeError::NoConversation`], [`E2eeError::Storage`].
    pub fn view(&mut self, rows: &dyn Rows, conversation: &ConversationId) -> Result<GroupView, E2eeError> {
        self.run(rows, Some(*conversation), |work| work.view()).map(|step| step.output)
    }

    /// The home's epoch at which this device is in a conversation.
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
