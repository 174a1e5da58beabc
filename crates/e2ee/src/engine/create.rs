//! Making a conversation.

use std::collections::BTreeSet;

use super::{
    NewConversation, PendingCommit,
    policy::Policy,
    record::{Origin, Pending},
    suite::{credential, group_builder},
    work::Work,
};
use crate::error::E2eeError;

impl Work<'_> {
    pub(super) fn create(&mut self, new: &NewConversation) -> Result<PendingCommit, E2eeError> {
        let mut record = self.take_record()?;
        if record.pending.is_some() {
            return Err(E2eeError::CommitPending);
        }
        if self.find_group()?.is_some() {
            return Err(E2eeError::Duplicate);
        }
        let own = self.certificate.get().account();
        let mut accounts: BTreeSet<_> = new.members.iter().map(|member| member.list.account()).collect();
        accounts.insert(own);
        let policy = Policy::new(new.receipt_key, new.kind, &accounts);
        policy.check(&new.conversation, &own)?;
        let (packages, added) = self.check_packages(&new.members, &policy)?;
        if added.iter().any(|added| added.device == self.keys.id()) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        let mut group = group_builder()
            .with_group_id(self.group_id()?)
            .with_group_context_extensions(policy.extensions()?)
            .build(&self.provider, self.keys, credential(self.certificate))
            .map_err(|_| E2eeError::Internal("making a group"))?;
        let bundle = self.commit(&mut group, packages, Vec::new())?;
        let pending = self.describe(0, bundle, added, Vec::new())?;
        record.pending = Some(Pending::new(Origin::Create, &pending.commit, 0, new.receipt_key));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }
}
