//! Commits of this device in a conversation that is established.

use openmls::{
    group::{CommitMessageBundle, MlsGroup},
    prelude::{KeyPackage, LeafNodeIndex, MlsMessageOut},
};
use parlour_wire::{
    api::Added,
    id::{AccountId, DeviceId},
    identity::VerifiedList,
    limits,
};
use tls_codec::Serialize as _;

use super::{
    Leaf, Lists, Member, PendingCommit,
    grounds::{Grounds, disowns},
    group::check_room,
    judge::Removal,
    leaf::leaves,
    policy::Policy,
    record::{Origin, Pending, Record},
    suite::{Provider, wire_suite},
    work::Work,
};
use crate::error::E2eeError;

/// The bytes of an outgoing handshake message.
pub(super) fn handshake_bytes(message: &MlsMessageOut) -> Result<Vec<u8>, E2eeError> {
    let bytes = message.tls_serialize_detached().map_err(|_| E2eeError::Internal("encoding a handshake"))?;
    if bytes.len() > limits::HANDSHAKE_PAYLOAD { Err(E2eeError::TooLarge) } else { Ok(bytes) }
}

/// What a commit of this device is to do.
pub(super) struct Plan<'a> {
    /// The policy of before.
    pub(super) old: &'a Policy,
    /// The policy after it.
    pub(super) new: &'a Policy,
    /// Devices to bring in.
    pub(super) add: &'a [Member],
    /// Devices to take out, beside those of accounts that are gone.
    pub(super) remove: Vec<DeviceId>,
}

/// The device list of an account that has disowned one of these devices.
fn disowning(leaf: &Leaf, lists: &dyn Lists) -> Option<VerifiedList> {
    lists.list(&leaf.0).filter(|list| list.account() == leaf.0 && disowns(list, &leaf.1))
}

impl Work<'_> {
    /// Brings devices of members in and takes devices out; with them goes whoever has left. Without anything to do it renews this
    /// device's keys.
    pub(super) fn change_devices(
        &mut self,
        add: &[Member],
        remove: &[DeviceId],
        lists: &dyn Lists,
    ) -> Result<PendingCommit, E2eeError> {
        let (record, group) = self.settled_group()?;
        let old = Policy::of(&group)?;
        let new = old.without(&record.left_accounts());
        let present = leaves(&group)?;
        if remove.iter().any(|device| !present.iter().any(|(_, leaf)| leaf.1 == *device)) {
            return Err(E2eeError::Forbidden("to remove who is not here"));
        }
        if remove.contains(&self.keys.id()) {
            return Err(E2eeError::Forbidden("to remove oneself"));
        }
        let plan = Plan { old: &old, new: &new, add, remove: remove.to_vec() };
        self.carry_out(&plan, record, group, lists)
    }

    /// Makes the commit of a plan and leaves it pending.
    pub(super) fn carry_out(
        &mut self,
        plan: &Plan<'_>,
        mut record: Record,
        mut group: MlsGroup,
        lists: &dyn Lists,
    ) -> Result<PendingCommit, E2eeError> {
        let suite = wire_suite(group.ciphersuite())?;
        let (packages, added) = self.check_packages(plan.add, plan.new, suite)?;
        let present = leaves(&group)?;
        let gone = plan.old.gone(plan.new);
        let goes = |leaf: &Leaf| gone.contains(&leaf.0) || plan.remove.contains(&leaf.1);
        let (removed, stay): (Vec<_>, Vec<_>) = present.into_iter().partition(|(_, leaf)| goes(leaf));
        if stay.iter().any(|(_, leaf)| added.iter().any(|added| added.device == leaf.1)) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        if !added.is_empty() {
            check_room(suite, stay.len() + added.len())?;
        }
        let grounds = self.grounds(&removed, gone, &record, lists)?;
        let parent_epoch = record.home(&group);
        let indices = removed.iter().map(|(index, _)| *index).collect();
        let policy = (plan.new != plan.old).then_some(plan.new);
        group.set_aad(grounds.encode());
        let bundle = self.commit(&self.provider, &mut group, packages, indices, policy)?;
        let pending = self.describe(parent_epoch, bundle, added, told(&removed, &record))?;
        record.pending = Some(Pending::new(Origin::Member, &pending.commit, parent_epoch, plan.old.receipt_key()));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }

    /// The reasons for the removals of a commit, which must be good ones.
    fn grounds(
        &self,
        removed: &[(LeafNodeIndex, Leaf)],
        gone: Vec<AccountId>,
        record: &Record,
        lists: &dyn Lists,
    ) -> Result<Grounds, E2eeError> {
        let committer = (self.certificate.get().account(), self.keys.id());
        let foreign = removed.iter().filter(|(_, leaf)| leaf.0 != committer.0 && !gone.contains(&leaf.0));
        let mut disowned: Vec<VerifiedList> = foreign.filter_map(|(_, leaf)| disowning(leaf, lists)).collect();
        disowned.sort_by_key(VerifiedList::account);
        disowned.dedup_by_key(|list| list.account());
        let left = record.left.iter().filter(|leaver| gone.contains(&leaver.account));
        let grounds = Grounds::new(&disowned, left.map(|leaver| leaver.farewell.clone()).collect());
        let rule = Removal { committer, external: false, gone, lists: disowned };
        removed.iter().try_for_each(|(_, leaf)| rule.check(leaf))?;
        Ok(grounds)
    }

    /// Makes a commit and leaves it pending. One that only adds devices carries no path, so it stays small in a large group.
    pub(super) fn commit(
        &self,
        provider: &Provider<'_>,
        group: &mut MlsGroup,
        packages: Vec<KeyPackage>,
        removals: Vec<LeafNodeIndex>,
        policy: Option<&Policy>,
    ) -> Result<CommitMessageBundle, E2eeError> {
        let failed = E2eeError::Internal("making a commit");
        let mut builder = group
            .commit_builder()
            .consume_proposal_store(false)
            .force_self_update(packages.is_empty())
            .propose_adds(packages)
            .propose_removals(removals);
        if let Some(policy) = policy {
            builder = builder.propose_group_context_extensions(policy.extensions()?).map_err(|_| failed.clone())?;
        }
        builder
            .load_psks(&provider.storage)
            .map_err(|_| failed.clone())?
            .use_ratchet_tree_extension(true)
            .build(provider.crypto, provider.crypto, self.keys, |_| true)
            .map_err(|_| failed.clone())?
            .stage_commit(provider)
            .map_err(|_| failed)
    }

    pub(super) fn describe(
        &self,
        parent_epoch: u64,
        bundle: CommitMessageBundle,
        added: Vec<Added>,
        removed: Vec<DeviceId>,
    ) -> Result<PendingCommit, E2eeError> {
        let (commit, welcome, group_info) = bundle.into_messages();
        let group_info = group_info.ok_or(E2eeError::Internal("a commit without group info"))?;
        Ok(PendingCommit {
            conversation: self.conversation()?,
            parent_epoch,
            commit: handshake_bytes(&commit)?,
            welcome: welcome.as_ref().map(handshake_bytes).transpose()?,
            group_info: handshake_bytes(&group_info)?,
            added,
            removed,
            external: false,
            change: None,
        })
    }
}

/// Devices that the server must be told of as removed: not those of accounts that have left, which it has let go already.
fn told(removed: &[(LeafNodeIndex, Leaf)], record: &Record) -> Vec<DeviceId> {
    removed.iter().filter(|(_, leaf)| !record.has_left(&leaf.0)).map(|(_, leaf)| leaf.1).collect()
}
