//! Commits that come through the log, of this device and of others.

use openmls::{
    group::MlsGroup,
    prelude::{ContentType, ProcessedMessageContent},
};
use parlour_wire::log::{Entry, verify_receipt};

use super::{
    Lists, Opened,
    leaf::{drift, quarantine},
    message::{parse, process_error},
    policy::{Policy, judge},
    record::{Origin, Pending, Record, hash, unstage},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Kind, Overlay},
};

fn check_receipt(entry: &Entry, receipt_key: &[u8; 32], parent_epoch: u64) -> Result<(), E2eeError> {
    let receipt = entry.receipt.as_ref().ok_or(E2eeError::BadReceipt)?;
    verify_receipt(receipt_key, &entry.conversation, parent_epoch, &entry.payload, receipt).map_err(|_| E2eeError::BadReceipt)
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
        check_receipt(entry, &pending.receipt_key, pending.parent_epoch)?;
        let group = match pending.origin {
            Origin::External => {
                let group = self.take_staged_join()?;
                record.joined_epoch = group.epoch().as_u64();
                group
            }
            Origin::Create | Origin::Member => {
                let mut group = self.take_group()?;
                if group.epoch().as_u64() != pending.parent_epoch || group.pending_commit().is_none() {
                    return Err(E2eeError::Diverged);
                }
                group.merge_pending_commit(&self.provider).map_err(|_| E2eeError::Internal("applying a commit"))?;
                group
            }
        };
        let epoch = group.epoch().as_u64();
        self.settle(group, record, lists)?;
        Ok(Opened::OwnCommit { epoch })
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

    fn open_foreign_commit(&mut self, entry: &Entry, lists: &dyn Lists, mut record: Record) -> Result<Opened, E2eeError> {
        let message = parse(&entry.payload, &entry.conversation, ContentType::Commit)?;
        if record.is_pending(Origin::Create) {
            // The log is of a group that somebody else has made.
            return Err(E2eeError::NoConversation);
        }
        let mut group = self.take_group()?;
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let (current, of) = (group.epoch().as_u64(), message.epoch().as_u64());
        if of < current {
            return Err(E2eeError::Duplicate);
        }
        if of > current {
            return Err(E2eeError::WrongEpoch { current, entry: of });
        }
        check_receipt(entry, &Policy::of(&group)?.receipt_key(), current)?;
        let processed = group
            .process_message(&self.provider, message)
            .map_err(|error| process_error(error, E2eeError::Malformed("commit")))?;
        let sender = processed.sender().clone();
        let commit = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(commit) => *commit,
            // The server has accepted a commit of this device that this device no longer has.
            ProcessedMessageContent::OwnPrivateMessage => return Err(E2eeError::Diverged),
            _ => return Err(E2eeError::Malformed("commit")),
        };
        let verdict = judge(&group, &sender, &commit, lists)?;
        group.merge_staged_commit(&self.provider, commit).map_err(|_| E2eeError::Internal("applying a commit"))?;
        if let Some(lost) = record.pending.take_if(|pending| pending.parent_epoch <= current)
            && lost.origin == Origin::External
        {
            self.delete_staged_join()?;
        }
        let epoch = group.epoch().as_u64();
        self.settle(group, record, lists)?;
        Ok(Opened::Commit { epoch, committer: verdict.committer, added: verdict.added, removed: verdict.removed })
    }

    /// Puts back a group that has reached another epoch, with its quarantine.
    fn settle(&mut self, group: MlsGroup, mut record: Record, lists: &dyn Lists) -> Result<(), E2eeError> {
        record.revoked =
            if group.is_active() { quarantine(&drift(&group, &Policy::of(&group)?, lists)?.revoked) } else { Vec::new() };
        self.put_record(record)?;
        self.put_group(group);
        Ok(())
    }
}
