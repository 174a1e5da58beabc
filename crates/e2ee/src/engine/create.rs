//! Making a conversation.

use std::collections::BTreeSet;

use parlour_wire::api::ConversationKind;

use super::{
    NewConversation, PendingCommit,
    group::check_room,
    policy::Policy,
    record::{Origin, Pending},
    suite::{credential, group_builder, mls_suite},
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
        let policy = Policy::first(new.receipt_key, new.kind, &own, &accounts, new.name.clone(), new.history);
        if (new.kind == ConversationKind::GROUP) != new.name.is_some() {
            return Err(E2eeError::Malformed("name"));
        }
        policy.check(&new.conversation, &own)?;
        let (packages, added) = self.check_packages(&new.members, &policy, new.suite)?;
        if added.iter().any(|added| added.device == self.keys.id()) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        check_room(new.suite, added.len() + 1)?;
        let mut group = group_builder(mls_suite(new.suite)?)
            .with_group_id(self.group_id()?)
            .with_group_context_extensions(policy.extensions()?)
            .build(&self.provider, self.keys, credential(self.certificate))
            .map_err(|_| E2eeError::Internal("making a group"))?;
        let bundle = self.commit(&self.provider, &mut group, packages, Vec::new(), None)?;
        let pending = self.describe(0, bundle, added, Vec::new())?;
        record.pending = Some(Pending::new(Origin::Create, &pending.commit, 0, new.receipt_key));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }
}
