//! Whether a commit of another device may do what it does: judged before it is applied, by the policy before and after it, by every
//! member alike.

use std::collections::BTreeSet;

use openmls::{
    group::{MlsGroup, StagedCommit},
    prelude::{LeafNodeIndex, Proposal, Sender},
};
use parlour_wire::{api::ConversationKind, id::AccountId};

use super::{
    GroupEvent, Leaf, Lists,
    leaf::{admit, leaves, named},
    policy::Policy,
};
use crate::error::E2eeError;

/// What a commit does, once it has been found to be allowed.
pub(super) struct Verdict {
    pub(super) committer: Leaf,
    pub(super) added: Vec<Leaf>,
    pub(super) removed: Vec<Leaf>,
    pub(super) events: Vec<GroupEvent>,
}

/// Checks what a commit does: who made it, what it changes about the group, every leaf it brings in, every leaf it takes out, and that
/// it does nothing else. `left`: accounts that have said that they leave; `home_after`: the home's epoch after the commit.
pub(super) fn judge(
    group: &MlsGroup,
    sender: &Sender,
    commit: &StagedCommit,
    left: &[AccountId],
    home_after: u64,
    lists: &dyn Lists,
) -> Result<Verdict, E2eeError> {
    let old = Policy::of(group)?;
    let new = Policy::of_extensions(commit.group_context().extensions())?;
    let before = leaves(group)?;
    let external = matches!(sender, Sender::NewMemberCommit);
    check_proposals(commit, external)?;
    let path = commit
        .update_path_leaf_node()
        .map(|leaf| admit(leaf.credential(), leaf.signature_key().as_slice(), &old, lists))
        .transpose()?
        .map(|(leaf, _)| leaf);
    let committer = match sender {
        Sender::Member(index) => named(group.member(*index).ok_or(E2eeError::Malformed("commit"))?)?,
        Sender::NewMemberCommit => path.ok_or(E2eeError::Malformed("commit"))?,
        _ => return Err(E2eeError::Forbidden("a commit from outside")),
    };
    if path.is_some_and(|leaf| leaf != committer) {
        return Err(E2eeError::Forbidden("a device in another's place"));
    }
    if external && old != new {
        return Err(E2eeError::Forbidden("to change a group while joining"));
    }
    check_policy(&old, &new, &committer.0, left, home_after)?;
    let mut removed = removals(commit, &before, &committer, external, &new, lists)?;
    let mut added = Vec::new();
    for proposal in commit.add_proposals() {
        let leaf = proposal.add_proposal().key_package().leaf_node();
        added.push(admit(leaf.credential(), leaf.signature_key().as_slice(), &new, lists)?.0);
    }
    if external {
        added.push(committer);
    }
    check_leaves(&before, &added, &removed, &new)?;
    if external {
        // A device that joins again takes its own old leaf out: nobody came and nobody went but itself.
        removed.retain(|leaf| *leaf != committer);
    }
    Ok(Verdict { committer, added, removed, events: old.events(&new, left) })
}

fn check_proposals(commit: &StagedCommit, external: bool) -> Result<(), E2eeError> {
    for proposal in commit.queued_proposals() {
        match proposal.proposal() {
            Proposal::Add(_) | Proposal::Remove(_) => {}
            Proposal::ExternalInit(_) if external => {}
            Proposal::GroupContextExtensions(_) if !external => {}
            _ => return Err(E2eeError::Forbidden("a proposal of this kind")),
        }
    }
    Ok(())
}

/// Whether one policy may follow another by a commit of `committer`.
pub(super) fn check_policy(
    old: &Policy,
    new: &Policy,
    committer: &AccountId,
    left: &[AccountId],
    home_after: u64,
) -> Result<(), E2eeError> {
    if old == new {
        return Ok(());
    }
    if old.kind != ConversationKind::GROUP {
        return Err(E2eeError::Forbidden("to change what is no group"));
    }
    if old.ordering != new.ordering || old.kind != new.kind {
        return Err(E2eeError::Forbidden("to change what a conversation is"));
    }
    if new.member(committer).is_none() {
        return Err(E2eeError::Forbidden("to remove oneself"));
    }
    if !old.is_admin(committer) {
        // Anybody may take out who has left; what the rest is then, all compute alike.
        let gone: Vec<AccountId> = left.iter().copied().filter(|account| new.member(account).is_none()).collect();
        return if *new == old.without(&gone) { Ok(()) } else { Err(E2eeError::NotAdmin) };
    }
    let kept = |account: &AccountId| old.member(account);
    if new.members.iter().any(|member| member.since != kept(&member.account).map_or(home_after, |before| before.since)) {
        return Err(E2eeError::Forbidden("to say when somebody came in"));
    }
    if new.has_admin() { Ok(()) } else { Err(E2eeError::LastAdmin) }
}

fn removals(
    commit: &StagedCommit,
    before: &[(LeafNodeIndex, Leaf)],
    committer: &Leaf,
    external: bool,
    new: &Policy,
    lists: &dyn Lists,
) -> Result<Vec<Leaf>, E2eeError> {
    let mut removed = Vec::new();
    for proposal in commit.remove_proposals() {
        let index = proposal.remove_proposal().removed();
        let leaf = before.iter().find(|(at, _)| *at == index).map(|(_, leaf)| *leaf).ok_or(E2eeError::Malformed("commit"))?;
        check_removal(committer, &leaf, external, new, lists)?;
        removed.push(leaf);
    }
    Ok(removed)
}

/// An account may remove its own devices. Others those of accounts that are no members any more, and those that their account no
/// longer lists; by an external commit, a device only its own old leaf.
pub(super) fn check_removal(
    committer: &Leaf,
    removed: &Leaf,
    external: bool,
    new: &Policy,
    lists: &dyn Lists,
) -> Result<(), E2eeError> {
    if external {
        return if removed == committer { Ok(()) } else { Err(E2eeError::Forbidden("to remove another device while joining")) };
    }
    let (account, device) = removed;
    if committer.0 == *account || new.member(account).is_none() {
        return Ok(());
    }
    let list = lists.list(account).ok_or(E2eeError::UnknownDevice { account: *account })?;
    // The committer may have seen a list that this device has not.
    if list.certificate(device).is_some() { Err(E2eeError::UnknownDevice { account: *account }) } else { Ok(()) }
}

/// No device is in twice, and every one is a member's.
fn check_leaves(before: &[(LeafNodeIndex, Leaf)], added: &[Leaf], removed: &[Leaf], new: &Policy) -> Result<(), E2eeError> {
    let mut devices: BTreeSet<Leaf> = before.iter().map(|(_, leaf)| *leaf).collect();
    for leaf in removed {
        devices.remove(leaf);
    }
    if !added.iter().all(|leaf| devices.insert(*leaf)) {
        return Err(E2eeError::Forbidden("a device twice"));
    }
    match devices.iter().find(|(account, _)| new.member(account).is_none()) {
        Some(_) => Err(E2eeError::Forbidden("to leave devices of a former member in")),
        None => Ok(()),
    }
}
