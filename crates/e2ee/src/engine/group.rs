//! Changing a group, founding it anew, and looking at it.

use openmls::{group::MlsGroup, prelude::KeyPackage};
use parlour_wire::{
    api::{ConversationKind, Suite},
    id::{AccountId, DeviceId},
    limits,
};

use super::{
    GroupChange, GroupView, HYBRID_DEVICES, Leaf, Lists, Member, PendingCommit,
    commit::Plan,
    grounds::{Grounds, Refounding, disowns},
    leaf::leaves,
    policy::Policy,
    record::{Origin, Pending, Record, hash, stage},
    suite::{Provider, credential, group_builder, mls_suite, wire_suite},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Changes, Kind, NoRows, Overlay},
};

/// Whether a conversation of this suite has room for so many devices.
pub(super) fn check_room(suite: Suite, devices: usize) -> Result<(), E2eeError> {
    let most = if suite == Suite::HYBRID { HYBRID_DEVICES } else { limits::GROUP_DEVICES };
    if devices > most { Err(E2eeError::GroupFull) } else { Ok(()) }
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
        let (record, group) = self.settled_group()?;
        let old = Policy::of(&group)?;
        // Who has left goes with it, and may have made this account an admin by that.
        let rest = old.without(&record.left_accounts());
        let own = self.admin(&rest)?;
        let new = changed(&rest, change, &own, record.home(&group) + 1)?;
        // Who is revoked goes too, so that something can be said after it.
        let disowned = leaves(&group)?.into_iter().filter(|(_, leaf)| leaf.1 != self.keys.id() && is_disowned_now(leaf, lists));
        let remove = disowned.map(|(_, leaf)| leaf.1).collect();
        let plan = Plan { old: &old, new: &new, add: &change.add, remove };
        let mut pending = self.carry_out(&plan, record, group, lists)?;
        pending.change = rest.change(&new);
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

    /// Ends the group by a commit that takes everybody else out, and begins it anew by a welcome. The old state goes on until
    /// the receipt is there; the new one is kept aside.
    pub(super) fn refound(&mut self, suite: Suite, members: &[Member]) -> Result<PendingCommit, E2eeError> {
        let (mut record, mut group) = self.settled_group()?;
        let old = Policy::of(&group)?;
        self.admin(&old)?;
        let new = old.without(&record.left_accounts());
        // A package that no device can come in by must not keep the group from being founded: its device joins by itself.
        let (packages, added) = self.good_packages(members, &new, suite);
        check_room(suite, added.len() + 1)?;
        if added.iter().any(|added| added.device == self.keys.id()) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        let parent_epoch = record.home(&group);
        let (next, staged) = self.found(suite, &new, packages)?;
        let refounding = Refounding { suite, welcome: next.welcome.as_deref().map(hash) };
        group.set_aad(Grounds::of_refounding(refounding).encode());
        let own = self.keys.id();
        let others: Vec<_> = leaves(&group)?.into_iter().filter(|(_, leaf)| leaf.1 != own).collect();
        let indices = others.iter().map(|(index, _)| *index).collect();
        let end = self.commit(&self.provider, &mut group, Vec::new(), indices, None)?;
        let end = self.describe(parent_epoch, end, Vec::new(), Vec::new())?;
        // The server hears of those only that come in again at once. The others stay where they are at it, so that they read the end of
        // this group; a member's device that does not come in again is not for others to take out.
        let comes = |device: &DeviceId| added.iter().any(|added| added.device == *device);
        let removed = others.iter().map(|(_, leaf)| leaf.1).filter(comes).collect();
        let pending = PendingCommit { parent_epoch, commit: end.commit, added, removed, ..next };
        self.provider.storage.put_raw(Overlay::own_key(Kind::StagedJoin, &self.conversation()?), Some(stage(&staged)));
        record.pending = Some(Pending::new(Origin::Refound, &pending.commit, parent_epoch, old.receipt_key()));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }

    /// A group of its own, as it is after its first commit, and the rows of it.
    fn found(&self, suite: Suite, policy: &Policy, packages: Vec<KeyPackage>) -> Result<(PendingCommit, Changes), E2eeError> {
        let provider = Provider { crypto: self.provider.crypto, storage: Overlay::new(&NoRows) };
        let mut group = group_builder(mls_suite(suite)?)
            .with_group_id(self.group_id()?)
            .with_group_context_extensions(policy.extensions()?)
            .build(&provider, self.keys, credential(self.certificate))
            .map_err(|_| E2eeError::Internal("making a group"))?;
        let bundle = self.commit(&provider, &mut group, packages, Vec::new(), None)?;
        let pending = self.describe(0, bundle, Vec::new(), Vec::new())?;
        group.merge_pending_commit(&provider).map_err(|_| E2eeError::Internal("applying a commit"))?;
        Ok((pending, provider.storage.finish()?))
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
            left: record.left_accounts(),
            name: policy.name,
        };
        self.keep_record(record);
        self.put_group(group);
        Ok(view)
    }
}

/// Whether the list of the leaf's account is here and has disowned it.
fn is_disowned_now(leaf: &Leaf, lists: &dyn Lists) -> bool {
    lists.list(&leaf.0).is_some_and(|list| disowns(&list, &leaf.1))
}

/// The policy that a change makes of another, from which those who have left are gone already.
fn changed(rest: &Policy, change: &GroupChange, own: &AccountId, home_after: u64) -> Result<Policy, E2eeError> {
    if change.remove.contains(own) {
        return Err(E2eeError::Forbidden("to remove oneself: leave instead"));
    }
    if let Some(account) = change.remove.iter().find(|account| rest.member(account).is_none()) {
        return Err(E2eeError::NotMember { account: *account });
    }
    let mut new = rest.clone();
    new.members.retain(|member| !change.remove.contains(&member.account));
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
