//! Whether a commit of another device may do what it does: judged before it is applied, by the policy before and after it and by the
//! grounds that it brings along. All members judge by the same and come to the same; only whether a device that comes in is listed
//! depends on what each has pinned, and is asked last.

use std::collections::BTreeSet;

use openmls::{
    group::{MlsGroup, StagedCommit},
    prelude::{LeafNode, LeafNodeIndex, Proposal, Sender},
};
use parlour_wire::{
    api::ConversationKind,
    id::{AccountId, ConversationId},
    identity::VerifiedList,
    limits,
};

use super::{
    GroupEvent, Leaf, Lists,
    grounds::{Grounds, Refounding, is_disowned},
    leaf::{certified, leaves, named, standing},
    policy::Policy,
    suite::mls_suite,
};
use crate::error::E2eeError;

/// What a commit does, once it has been found to be allowed.
pub(super) struct Verdict {
    pub(super) committer: Leaf,
    pub(super) added: Vec<Leaf>,
    pub(super) removed: Vec<Leaf>,
    pub(super) events: Vec<GroupEvent>,
    /// The group ends here and goes on by a welcome.
    pub(super) refounding: Option<Refounding>,
}

/// A commit, and where it stands.
pub(super) struct Case<'a> {
    pub(super) conversation: ConversationId,
    pub(super) group: &'a MlsGroup,
    pub(super) sender: &'a Sender,
    pub(super) commit: &'a StagedCommit,
    /// The commit's authenticated data.
    pub(super) aad: &'a [u8],
    /// The home's epoch after the commit.
    pub(super) home_after: u64,
}

impl Case<'_> {
    /// Checks what a commit does: who made it, what it changes about the group, every leaf it brings in, every leaf it takes out,
    /// and that it does nothing else.
    pub(super) fn judge(&self, lists: &dyn Lists) -> Result<Verdict, E2eeError> {
        let old = Policy::of(self.group)?;
        let new = Policy::of_extensions(self.commit.group_context().extensions())?;
        let before = leaves(self.group)?;
        let external = matches!(self.sender, Sender::NewMemberCommit);
        self.check_proposals(external)?;
        let grounds = Grounds::decode(self.aad)?;
        let left = grounds.left(&self.conversation, &old)?;
        let committer = self.committer(&new)?;
        if external && old != new {
            return Err(E2eeError::Forbidden("to change a group while joining"));
        }
        check_policy(&old, &new, &committer.0, &left, self.home_after)?;
        let taken = self.taken(&before)?;
        let mut added = Vec::new();
        for proposal in self.commit.add_proposals() {
            added.push(admitted(proposal.add_proposal().key_package().leaf_node(), &new)?);
        }
        let mut events = old.events(&new, &left);
        if let Some(refounding) = &grounds.refounding {
            check_refounding(refounding, &old, &new, &committer, before.len(), &taken, &added)?;
            events.push(GroupEvent::Refounded(refounding.suite));
            let refounding = grounds.refounding.clone();
            return Ok(Verdict { committer, added, removed: Vec::new(), events, refounding });
        }
        let rule = Removal { committer, external, gone: old.gone(&new), lists: grounds.lists()? };
        taken.iter().try_for_each(|leaf| rule.check(leaf))?;
        let mut removed = taken;
        if external {
            added.push(committer);
        }
        check_leaves(&before, &added, &removed, &rule.gone, &new)?;
        for leaf in &added {
            standing(leaf, lists)?;
        }
        if external {
            // A device that joins again takes its own old leaf out: nobody came and nobody went but itself.
            removed.retain(|leaf| *leaf != committer);
        }
        Ok(Verdict { committer, added, removed, events, refounding: None })
    }

    fn check_proposals(&self, external: bool) -> Result<(), E2eeError> {
        for proposal in self.commit.queued_proposals() {
            match proposal.proposal() {
                Proposal::Add(_) | Proposal::Remove(_) => {}
                Proposal::ExternalInit(_) if external => {}
                Proposal::GroupContextExtensions(_) if !external => {}
                _ => return Err(E2eeError::Forbidden("a proposal of this kind")),
            }
        }
        Ok(())
    }

    /// Whose device made the commit. A path, if there is one, must be of the same device.
    fn committer(&self, new: &Policy) -> Result<Leaf, E2eeError> {
        let path = self.commit.update_path_leaf_node().map(|leaf| admitted(leaf, new)).transpose()?;
        let committer = match self.sender {
            Sender::Member(index) => named(self.group.member(*index).ok_or(E2eeError::Malformed("commit"))?)?,
            Sender::NewMemberCommit => path.ok_or(E2eeError::Malformed("commit"))?,
            _ => return Err(E2eeError::Forbidden("a commit from outside")),
        };
        if path.is_some_and(|leaf| leaf != committer) {
            return Err(E2eeError::Forbidden("a device in another's place"));
        }
        Ok(committer)
    }

    /// The leaves that the commit takes out.
    fn taken(&self, before: &[(LeafNodeIndex, Leaf)]) -> Result<Vec<Leaf>, E2eeError> {
        let leaf_at = |index| before.iter().find(|(at, _)| *at == index).map(|(_, leaf)| *leaf);
        let indices = self.commit.remove_proposals().map(|proposal| proposal.remove_proposal().removed());
        indices.map(|index| leaf_at(index).ok_or(E2eeError::Malformed("commit"))).collect()
    }
}

/// Who a leaf is, if its certificate holds and its account is a member.
fn admitted(leaf: &LeafNode, policy: &Policy) -> Result<Leaf, E2eeError> {
    certified(leaf.credential(), leaf.signature_key().as_slice(), policy)
}

/// Whether one policy may follow another by a commit of `committer`; `left`: accounts that have said that they leave.
pub(super) fn check_policy(
    old: &Policy,
    new: &Policy,
    committer: &AccountId,
    left: &[AccountId],
    home_after: u64,
) -> Result<(), E2eeError> {
    let gone = old.gone(new);
    let swept: Vec<AccountId> = left.iter().copied().filter(|account| gone.contains(account)).collect();
    // Anybody may take out who has left; what the rest is then, all compute alike.
    let rest = old.without(&swept);
    if *new == rest {
        return Ok(());
    }
    if old.kind != ConversationKind::GROUP {
        return Err(E2eeError::Forbidden("to change what is no group"));
    }
    if old.ordering != new.ordering || old.kind != new.kind {
        return Err(E2eeError::Forbidden("to change what a conversation is"));
    }
    if gone.contains(committer) {
        return Err(E2eeError::Forbidden("to remove oneself"));
    }
    if !rest.is_admin(committer) {
        return Err(E2eeError::NotAdmin);
    }
    let stayed = |account: &AccountId, since| rest.member(account).is_some_and(|member| member.since == since);
    if new.members.iter().any(|member| !stayed(&member.account, member.since) && member.since != home_after) {
        return Err(E2eeError::Forbidden("to say when somebody came in"));
    }
    if new.has_admin() { Ok(()) } else { Err(E2eeError::LastAdmin) }
}

/// An admin may found the group anew: everybody else goes, nobody comes, and the policy stays.
fn check_refounding(
    refounding: &Refounding,
    old: &Policy,
    new: &Policy,
    committer: &Leaf,
    before: usize,
    taken: &[Leaf],
    added: &[Leaf],
) -> Result<(), E2eeError> {
    mls_suite(refounding.suite)?;
    if old.kind != ConversationKind::GROUP || old != new {
        return Err(E2eeError::Forbidden("to change a group while founding it anew"));
    }
    if !old.is_admin(&committer.0) {
        return Err(E2eeError::NotAdmin);
    }
    let everybody_else = taken.len() + 1 == before && !taken.contains(committer);
    if everybody_else && added.is_empty() { Ok(()) } else { Err(E2eeError::Forbidden("to found anew for some only")) }
}

/// What decides whether a leaf may be taken out.
pub(super) struct Removal {
    pub(super) committer: Leaf,
    pub(super) external: bool,
    /// Accounts that are members no longer.
    pub(super) gone: Vec<AccountId>,
    /// Lists that the commit brings along.
    pub(super) lists: Vec<VerifiedList>,
}

impl Removal {
    /// An account may take out its own devices. Others those of accounts that are no members any more, and those that their account
    /// has disowned; by an external commit, a device only its own old leaf.
    pub(super) fn check(&self, leaf: &Leaf) -> Result<(), E2eeError> {
        if self.external {
            let own = *leaf == self.committer;
            return if own { Ok(()) } else { Err(E2eeError::Forbidden("to remove another device while joining")) };
        }
        let allowed = self.committer.0 == leaf.0 || self.gone.contains(&leaf.0) || is_disowned(&self.lists, leaf);
        if allowed { Ok(()) } else { Err(E2eeError::Forbidden("to remove a listed device of another")) }
    }
}

/// No device is in twice, every one is a member's, of an account that went none is left, and they are not too many.
fn check_leaves(
    before: &[(LeafNodeIndex, Leaf)],
    added: &[Leaf],
    removed: &[Leaf],
    gone: &[AccountId],
    new: &Policy,
) -> Result<(), E2eeError> {
    let removed: BTreeSet<&Leaf> = removed.iter().collect();
    let mut devices: BTreeSet<Leaf> = before.iter().map(|(_, leaf)| *leaf).filter(|leaf| !removed.contains(leaf)).collect();
    if devices.iter().any(|(account, _)| gone.contains(account) || new.member(account).is_none()) {
        return Err(E2eeError::Forbidden("to leave devices of a former member in"));
    }
    if !added.iter().all(|leaf| devices.insert(*leaf)) {
        return Err(E2eeError::Forbidden("a device twice"));
    }
    if devices.len() > limits::GROUP_DEVICES { Err(E2eeError::GroupFull) } else { Ok(()) }
}
