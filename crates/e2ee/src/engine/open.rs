//! Commits that come through the log, of this device and of others.

use openmls::{
    group::{MlsGroup, StagedCommit},
    prelude::{ApplyUpdatePathError, ContentType, ProcessMessageError, ProcessedMessageContent, Sender, StageCommitError},
};
use parlour_wire::{
    limits,
    log::{Entry, verify_receipt},
};

use super::{
    GroupEvent, Leaf, Lists, Opened,
    judge::{Case, Verdict},
    leaf::{drift, named, quarantine},
    message::{parse, process_error},
    policy::Policy,
    record::{Origin, Pending, Record, Refounded, hash, unstage},
    suite::wire_suite,
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Kind, Overlay, StorageError},
};

/// How far the receipt of a commit that is not the next one is looked for, in epochs of the home, to tell one that came before from
/// one that came too early.
const SEARCH: u64 = 64;

fn has_receipt(entry: &Entry, receipt_key: &[u8; 32], parent_epoch: u64) -> bool {
    entry
        .receipt
        .as_ref()
        .is_some_and(|receipt| verify_receipt(receipt_key, &entry.conversation, parent_epoch, &entry.payload, receipt).is_ok())
}

/// Whether the entry is the commit that ends the home's epoch `home`.
fn check_receipt(entry: &Entry, receipt_key: &[u8; 32], home: u64, record: &Record) -> Result<(), E2eeError> {
    if has_receipt(entry, receipt_key, home) {
        return Ok(());
    }
    if let Some(earlier) = (home.saturating_sub(SEARCH)..home).rev().find(|earlier| has_receipt(entry, receipt_key, *earlier)) {
        let forked = record.contradicts(&entry.payload, home - earlier);
        return Err(if forked { E2eeError::Forked } else { E2eeError::Duplicate });
    }
    match (1..SEARCH).map(|n| home.saturating_add(n)).find(|later| has_receipt(entry, receipt_key, *later)) {
        Some(entry) => Err(E2eeError::WrongEpoch { current: home, entry }),
        None => Err(E2eeError::BadReceipt),
    }
}

/// What a commit is to everybody that OpenMLS does not take. One whose path this device alone cannot decrypt has taken the others
/// along, so this device has lost its place.
fn commit_error(error: ProcessMessageError<StorageError>) -> E2eeError {
    match error {
        ProcessMessageError::InvalidCommit(
            StageCommitError::UpdatePathError(
                ApplyUpdatePathError::UnableToDecrypt
                | ApplyUpdatePathError::PathMismatch
                | ApplyUpdatePathError::LibraryError(_),
            )
            | StageCommitError::MissingDecryptionKey
            | StageCommitError::OwnKeyNotFound,
        ) => E2eeError::Diverged,
        error => process_error(error, E2eeError::Malformed("commit")),
    }
}

/// Whether a failure is the commit's own, the same for everybody.
fn voids(error: &E2eeError) -> bool {
    matches!(
        error,
        E2eeError::Malformed(_)
            | E2eeError::Forbidden(_)
            | E2eeError::NotAdmin
            | E2eeError::LastAdmin
            | E2eeError::NotMember { .. }
            | E2eeError::BadCertificate
            | E2eeError::AlreadyRead
            | E2eeError::WrongConversation
            | E2eeError::GroupFull
    )
}

impl Work<'_> {
    pub(super) fn open_commit(&mut self, entry: &Entry, lists: &dyn Lists) -> Result<Opened, E2eeError> {
        let mut record = self.take_record()?;
        match record.pending.take_if(|pending| pending.hash == hash(&entry.payload)) {
            Some(pending) => self.open_own_commit(entry, lists, record, &pending),
            None => self.open_foreign_commit(entry, lists, record),
        }
    }

    fn open_own_commit(
        &mut self,
        entry: &Entry,
        lists: &dyn Lists,
        mut record: Record,
        pending: &Pending,
    ) -> Result<Opened, E2eeError> {
        check_receipt(entry, &pending.receipt_key, pending.parent_epoch, &record)?;
        let mut events = Vec::new();
        let group = match pending.origin {
            Origin::External | Origin::Refound => {
                let group = self.take_staged_join()?;
                record.joined_epoch = group.epoch().as_u64();
                record.left.clear();
                record.refounded = None;
                record.unproven = pending.origin == Origin::External;
                if pending.origin == Origin::Refound {
                    events.push(GroupEvent::Refounded(wire_suite(group.ciphersuite())?));
                }
                group
            }
            Origin::Create | Origin::Member => {
                let mut group = self.take_group()?;
                if record.home(&group) != pending.parent_epoch || group.pending_commit().is_none() {
                    return Err(E2eeError::Diverged);
                }
                let before = Policy::of(&group)?;
                group.merge_pending_commit(&self.provider).map_err(|_| E2eeError::Internal("applying a commit"))?;
                events = before.events(&Policy::of(&group)?, &record.left_accounts());
                group
            }
        };
        record.set_home(&group, pending.parent_epoch + 1)?;
        if matches!(pending.origin, Origin::External) {
            record.commits.clear();
        }
        record.remember(&entry.payload);
        let epoch = record.home(&group);
        self.settle(group, record, lists)?;
        Ok(Opened::OwnCommit { epoch, events })
    }

    /// Puts the joined state where the group's state is.
    fn take_staged_join(&mut self) -> Result<MlsGroup, E2eeError> {
        if let Some(old) = self.find_group()? {
            self.delete_group(old)?;
        }
        let key = Overlay::own_key(Kind::StagedJoin, &self.conversation()?);
        let staged = self.provider.storage.get_raw(&key)?.ok_or(E2eeError::Internal("no staged join"))?;
        self.provider.storage.replay(&unstage(&staged)?);
        self.provider.storage.put_raw(key, None);
        self.take_group()
    }

    fn open_foreign_commit(&mut self, entry: &Entry, lists: &dyn Lists, record: Record) -> Result<Opened, E2eeError> {
        if record.is_pending(Origin::Create) {
            // The log is of a group that somebody else has made.
            return Err(E2eeError::NoConversation);
        }
        let mut group = self.take_group()?;
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let home = record.home(&group);
        check_receipt(entry, &Policy::of(&group)?.receipt_key(), home, &record)?;
        let mut committer = None;
        match self.stage(&mut group, entry, &record, lists, &mut committer) {
            Ok((commit, verdict)) => self.apply(group, record, entry, (*commit, verdict), lists),
            Err(why) if voids(&why) => {
                // Whatever the commit did to the state is dropped.
                self.provider.storage.reset();
                drop(group);
                let group = self.take_group()?;
                self.void(group, record, entry, committer, why)
            }
            Err(error) => Err(error),
        }
    }

    /// Applies a commit that has been found to be allowed.
    fn apply(
        &mut self,
        mut group: MlsGroup,
        record: Record,
        entry: &Entry,
        (commit, verdict): (StagedCommit, Verdict),
        lists: &dyn Lists,
    ) -> Result<Opened, E2eeError> {
        let home = record.home(&group);
        let epoch = home + 1;
        let mut record = self.lose_pending(record, &mut group, home)?;
        record.unproven = false;
        record.remember(&entry.payload);
        if let Some(refounding) = verdict.refounding {
            let policy = Policy::of(&group)?;
            self.delete_group(group)?;
            self.put_record(Record { refounded: Some(Refounded { refounding, epoch, policy }), ..Record::default() })?;
        } else {
            group.merge_staged_commit(&self.provider, commit).map_err(|_| E2eeError::Internal("applying a commit"))?;
            self.settle(group, record, lists)?;
        }
        let (committer, added, removed, events) = (verdict.committer, verdict.added, verdict.removed, verdict.events);
        Ok(Opened::Commit { epoch, committer, added, removed, events })
    }

    /// Reads and judges the commit of another device.
    fn stage(
        &self,
        group: &mut MlsGroup,
        entry: &Entry,
        record: &Record,
        lists: &dyn Lists,
        committer: &mut Option<Leaf>,
    ) -> Result<(Box<StagedCommit>, Verdict), E2eeError> {
        if entry.payload.len() > limits::HANDSHAKE_PAYLOAD {
            return Err(E2eeError::Malformed("commit"));
        }
        let message = parse(&entry.payload, &entry.conversation, ContentType::Commit)?;
        if message.epoch() != group.epoch() {
            if record.unproven {
                // The others are elsewhere: the group info that this device joined by was not theirs.
                return Err(E2eeError::Diverged);
            }
            return Err(E2eeError::Malformed("commit of another epoch"));
        }
        let processed = group.process_message(&self.provider, message).map_err(commit_error)?;
        let (sender, aad) = (processed.sender().clone(), processed.aad().to_vec());
        if let Sender::Member(_) = sender {
            *committer = named(processed.credential()).ok();
        }
        let commit = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(commit) => commit,
            // The server has accepted a commit of this device that this device no longer has.
            ProcessedMessageContent::OwnPrivateMessage => return Err(E2eeError::Forgotten),
            _ => return Err(E2eeError::Malformed("commit")),
        };
        let case = Case {
            conversation: entry.conversation,
            group,
            sender: &sender,
            commit: &commit,
            aad: &aad,
            home_after: record.home(group) + 1,
        };
        let verdict = case.judge(lists)?;
        Ok((commit, verdict))
    }

    pub(super) fn pass_over(&mut self, entry: &Entry, why: E2eeError) -> Result<Opened, E2eeError> {
        let record = self.take_record()?;
        let group = self.take_group()?;
        check_receipt(entry, &Policy::of(&group)?.receipt_key(), record.home(&group), &record)?;
        self.void(group, record, entry, None, why)
    }

    /// Passes over a commit: its place in the home's count is taken.
    fn void(
        &mut self,
        mut group: MlsGroup,
        record: Record,
        entry: &Entry,
        committer: Option<Leaf>,
        why: E2eeError,
    ) -> Result<Opened, E2eeError> {
        let home = record.home(&group);
        let mut record = self.lose_pending(record, &mut group, home)?;
        record.ahead += 1;
        record.remember(&entry.payload);
        record.repair = true;
        self.put_record(record)?;
        self.put_group(group);
        Ok(Opened::Void { committer, why })
    }

    /// A commit of this device for an epoch of the home that another commit has ended has lost.
    fn lose_pending(&self, mut record: Record, group: &mut MlsGroup, home: u64) -> Result<Record, E2eeError> {
        let Some(lost) = record.pending.take_if(|pending| pending.parent_epoch <= home) else { return Ok(record) };
        match lost.origin {
            Origin::External | Origin::Refound => self.delete_staged_join()?,
            Origin::Create | Origin::Member => {}
        }
        self.clear_pending(group)?;
        Ok(record)
    }

    /// Puts back a group that has reached another epoch, with its quarantine.
    fn settle(&mut self, group: MlsGroup, mut record: Record, lists: &dyn Lists) -> Result<(), E2eeError> {
        record.repair = false;
        if group.is_active() {
            let policy = Policy::of(&group)?;
            record.left.retain(|leaver| policy.member(&leaver.account).is_some_and(|member| member.since == leaver.since));
            record.revoked = quarantine(&drift(&group, &record, &policy, lists)?.revoked);
        } else {
            record.revoked = Vec::new();
            record.left = Vec::new();
        }
        self.put_record(record).map(|()| self.put_group(group))
    }
}
