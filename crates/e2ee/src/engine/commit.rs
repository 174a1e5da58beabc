//! Commits of this device in a conversation that is established.

use openmls::{
    group::{CommitMessageBundle, MlsGroup},
    prelude::{KeyPackage, LeafNodeIndex, MlsMessageOut},
};
use parlour_wire::{api::Added, id::DeviceId, limits};
use tls_codec::Serialize as _;

use super::{
    Leaf, Lists, Member, PendingCommit,
    group::{check_room, outsiders, told},
    judge::check_removal,
    leaf::leaves,
    policy::Policy,
    record::{Origin, Pending},
    suite::wire_suite,
    work::Work,
};
use crate::error::E2eeError;

/// The bytes of an outgoing handshake message.
pub(super) fn handshake_bytes(message: &MlsMessageOut) -> Result<Vec<u8>, E2eeError> {
    let bytes = message.tls_serialize_detached().map_err(|_| E2eeError::Internal("encoding a handshake"))?;
    if bytes.len() > limits::HANDSHAKE_PAYLOAD { Err(E2eeError::TooLarge) } else { Ok(bytes) }
}

impl Work<'_> {
    /// Brings devices of members in and takes devices out; with them goes whoever has left. Without anything to do it renews this device's keys.
    pub(super) fn change_devices(
        &mut self,
        add: &[Member],
        remove: &[DeviceId],
        lists: &dyn Lists,
    ) -> Result<PendingCommit, E2eeError> {
        let (mut record, mut group) = self.settled_group()?;
        let old = Policy::of(&group)?;
        let new = old.without(&record.left);
        let suite = wire_suite(group.ciphersuite())?;
        let (packages, added) = self.check_packages(add, &new, suite)?;
        let present = leaves(&group)?;
        if present.iter().any(|(_, leaf)| added.iter().any(|added| added.device == leaf.1)) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        let mut removed = self.find_removals(&present, remove, &new, lists)?;
        removed.extend(outsiders(&present, &new).into_iter().filter(|(_, leaf)| !remove.contains(&leaf.1)));
        if removed.iter().any(|(_, leaf)| leaf.1 == self.keys.id()) {
            return Err(E2eeError::Forbidden("to remove oneself"));
        }
        if !added.is_empty() {
            check_room(suite, (present.len() + added.len()).saturating_sub(removed.len()))?;
        }
        let parent_epoch = record.home(&group);
        let indices = removed.iter().map(|(index, _)| *index).collect();
        let bundle = self.commit(&mut group, packages, indices, (new != old).then_some(&new))?;
        let pending = self.describe(parent_epoch, bundle, added, told(&removed, &record.left))?;
        record.pending = Some(Pending::new(Origin::Member, &pending.commit, parent_epoch, old.receipt_key()));
        self.put_record(record)?;
        self.put_group(group);
        Ok(pending)
    }

    fn find_removals(
        &self,
        present: &[(LeafNodeIndex, Leaf)],
        remove: &[DeviceId],
        new: &Policy,
        lists: &dyn Lists,
    ) -> Result<Vec<(LeafNodeIndex, Leaf)>, E2eeError> {
        let own = (self.certificate.get().account(), self.keys.id());
        let mut removals = Vec::new();
        for device in remove {
            let (index, leaf) =
                present.iter().find(|(_, leaf)| leaf.1 == *device).ok_or(E2eeError::Forbidden("to remove who is not here"))?;
            if *leaf == own {
                return Err(E2eeError::Forbidden("to remove oneself"));
            }
            check_removal(&own, leaf, false, new, lists).map_err(|error| match error {
                E2eeError::UnknownDevice { .. } => E2eeError::Forbidden("to remove a listed device of another"),
                error => error,
            })?;
            removals.push((*index, *leaf));
        }
        Ok(removals)
    }

    /// Makes a commit and leaves it pending. One that only adds devices carries no path, so it stays small in a large group.
    pub(super) fn commit(
        &self,
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
            .load_psks(&self.provider.storage)
            .map_err(|_| failed.clone())?
            .use_ratchet_tree_extension(true)
            .build(self.provider.crypto, self.provider.crypto, self.keys, |_| true)
            .map_err(|_| failed.clone())?
            .stage_commit(&self.provider)
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
