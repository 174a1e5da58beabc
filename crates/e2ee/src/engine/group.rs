//! Changing a group, founding it anew, and looking at it.

use openmls::{group::MlsGroup, prelude::LeafNodeIndex};
use parlour_wire::{
    api::{ConversationKind, Suite},
    id::{AccountId, DeviceId},
    limits,
};

use super::{
    GroupChange, GroupView, HYBRID_DEVICES, Leaf, Lists, Member, PendingCommit,
    leaf::leaves,
    policy::Policy,
    record::{Origin, Pending, Record, stage},
    suite::{credential, group_builder, mls_suite, wire_suite},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Kind, Overlay},
};

/// Whether a conversation of this suite has room for so many devices.
pub(super) fn check_room(suite: Suite, devices: usize) -> Result<(), E2eeError> {
    let most = if suite == Suite::HYBRID { HYBRID_DEVICES } else { limits::GROUP_DEVICES };
    if devices > most { Err(E2eeError::GroupFull) } else { Ok(()) }
}

/// The leaves of accounts that are no members in a policy.
pub(super) fn outsiders(present: &[(LeafNodeIndex, Leaf)], policy: &Policy) -> Vec<(LeafNodeIndex, Leaf)> {
    present.iter().filter(|(_, (account, _))| policy.member(account).is_none()).copied().collect()
}

/// Devices that the server must be told of as removed: not those of accounts that have left, which it has let go already.
pub(super) fn told(removed: &[(LeafNodeIndex, Leaf)], left: &[AccountId]) -> Vec<DeviceId> {
    removed.iter().filter(|(_, (account, _))| !left.contains(account)).map(|(_, (_, device))| *device).collect()
}

impl Work<'_> {
    fn admin(&self, policy: &Policy) -> Result<AccountId, E2eeError> {
        let own = self.certificate.get().account();
        if policy.kind != ConversationKind::GROUP {
            return Err(E2eeError::Forbidden("to change what is no group"));
        }
        if policy.is_admin(&own) { Ok(own) } else { Err(E2eeError::NotAdmin) }
    }

    pub(super) fn change_group(&mut self, change: &GroupChange, lists: &dyn Lists) -> Result<PendingCommit, E2eeError> {
        let (mut record, mut group) = self.settled_group()?;
        let old = Policy::of(&group)?;
        let own = self.admin(&old)?;
        let parent_epoch = record.home(&group);
        let new = changed(&old, change, &own, &record, parent_epoch + 1)?;
        let suite = wire_suite(group.ciphersuite())?;
        let (packages, added) = self.check_packages(&change.add, &new, suite)?;
        let present = leaves(&group)?;
        if present.iter().any(|(_, leaf)| added.iter().any(|added| added.device == leaf.1)) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        let mut removed = outsiders(&present, &new);
        // Who is revoked goes with the same commit, so that something can be said after it.
        removed.extend(present.iter().filter(|(_, leaf)| new.member(&leaf.0).is_some() && is_unlisted(leaf, lists)));
        removed.retain(|(_, leaf)| leaf.1 != self.keys.id());
        check_room(suite, (present.len() + added.len()).saturating_sub(removed.len()))?;
        let policy = (new != old).then_some(&new);
        let bundle = self.commit(&mut group, packages, removed.iter().map(|(index, _)| *index).collect(), policy)?;
        let mut pending = self.describe(parent_epoch, bundle, added, told(&removed, &record.left))?;
        pending.change = old.change(&new, &record.left);
        record.pending = Some(Pending::new(Origin::Member, &pending.commit, parent_epoch, old.receipt_key()));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }

    /// Record and group of a conversation in which this device may commit.
    pub(super) fn settled_group(&mut self) -> Result<(Record, MlsGroup), E2eeError> {
        let record = self.take_record()?;
        if record.pending.is_some() {
            return Err(E2eeError::CommitPending);
        }
        let group = self.take_group()?;
        if group.is_active() { Ok((record, group)) } else { Err(E2eeError::Removed) }
    }

    pub(super) fn refound(&mut self, suite: Suite, members: &[Member]) -> Result<PendingCommit, E2eeError> {
        let (mut record, old_group) = self.settled_group()?;
        let old = Policy::of(&old_group)?;
        self.admin(&old)?;
        let new = old.without(&record.left);
        let (packages, added) = self.check_packages(members, &new, suite)?;
        check_room(suite, added.len() + 1)?;
        if added.iter().any(|added| added.device == self.keys.id()) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        let parent_epoch = record.home(&old_group);
        let present = leaves(&old_group)?;
        let own = self.keys.id();
        let removed: Vec<DeviceId> = told(&present, &record.left).into_iter().filter(|device| *device != own).collect();
        let conversation = self.conversation()?;
        let mut group = group_builder(mls_suite(suite)?)
            .with_group_id(self.group_id()?)
            .with_group_context_extensions(new.extensions()?)
            .replace_old_group()
            .build(&self.provider, self.keys, credential(self.certificate))
            .map_err(|_| E2eeError::Internal("making a group"))?;
        let bundle = self.commit(&mut group, packages, Vec::new(), None)?;
        let mut pending = self.describe(parent_epoch, bundle, added, removed)?;
        group.merge_pending_commit(&self.provider).map_err(|_| E2eeError::Internal("applying a commit"))?;
        pending.change = old.change(&new, &record.left);
        let staged = self.provider.storage.take();
        self.provider.storage.put_raw(Overlay::own_key(Kind::StagedJoin, &conversation), Some(stage(&staged)));
        record.pending = Some(Pending::new(Origin::Refound, &pending.commit, parent_epoch, old.receipt_key()));
        self.put_record(record)?;
        self.put_group(old_group);
        Ok(pending)
    }

    pub(super) fn view(&mut self) -> Result<GroupView, E2eeError> {
        let record = self.take_record()?;
        let group = self.take_group()?;
        let policy = Policy::of(&group)?;
        let view = GroupView {
            kind: policy.kind,
            suite: wire_suite(group.ciphersuite())?,
            history: policy.history(),
            members: policy.group_members(),
            devices: leaves(&group)?.into_iter().map(|(_, leaf)| leaf).collect(),
            epoch: record.home(&group),
            left: record.left.clone(),
            name: policy.name,
        };
        self.keep_record(record);
        self.put_group(group);
        Ok(view)
    }
}

/// Whether the list of the leaf's account is here and does not name it any more.
pub(super) fn is_unlisted(leaf: &Leaf, lists: &dyn Lists) -> bool {
    lists.list(&leaf.0).is_some_and(|list| list.certificate(&leaf.1).is_none() && list.get().revoked.contains(&leaf.1))
}

/// The policy that a change makes of another.
fn changed(old: &Policy, change: &GroupChange, own: &AccountId, record: &Record, home_after: u64) -> Result<Policy, E2eeError> {
    if change.remove.contains(own) {
        return Err(E2eeError::Forbidden("to remove oneself: leave instead"));
    }
    if let Some(account) = change.remove.iter().find(|account| old.member(account).is_none()) {
        return Err(E2eeError::NotMember { account: *account });
    }
    let gone: Vec<AccountId> = record.left.iter().chain(&change.remove).copied().collect();
    let mut new = old.without(&gone);
    for member in &change.add {
        new.admit(member.list.account(), home_after);
    }
    for (account, role) in &change.roles {
        new.set_role(account, *role)?;
    }
    if let Some(name) = &change.name {
        new.name = Some(name.clone());
    }
    if let Some(history) = change.history {
        new.history = history.into();
    }
    if new.members.len() > limits::GROUP_DEVICES {
        return Err(E2eeError::GroupFull);
    }
    if new.has_admin() { Ok(new) } else { Err(E2eeError::LastAdmin) }
}
