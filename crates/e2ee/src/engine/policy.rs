//! The rules of a conversation, kept in its group context where every member sees the same: who orders it, what kind it is,
//! and whose it is. And which commits they allow.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use openmls::{
    group::{GroupContext, MlsGroup, StagedCommit},
    prelude::{Extension, Extensions, Proposal, Sender, UnknownExtension},
};
use parlour_wire::{
    api::ConversationKind,
    codec,
    id::{AccountId, ConversationId},
};

use super::{
    Leaf, Lists,
    leaf::{admit, leaves, named},
    suite::POLICY_EXTENSION,
};
use crate::error::E2eeError;

/// Who decides which commit ends an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Ordering {
    /// A server: the commit that has its receipt.
    #[n(0)]
    Server {
        /// The Ed25519 key of the receipts.
        #[cbor(n(0), with = "minicbor::bytes")]
        receipt_key: [u8; 32],
    },
}

/// The group context extension, CBOR.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Policy {
    #[n(0)]
    pub(super) ordering: Ordering,
    #[n(1)]
    pub(super) kind: ConversationKind,
    /// The member accounts, ascending.
    #[n(2)]
    pub(super) members: Vec<AccountId>,
}

impl Policy {
    /// The policy of a conversation ordered by a server.
    pub(super) fn new(receipt_key: [u8; 32], kind: ConversationKind, members: &BTreeSet<AccountId>) -> Self {
        Self { ordering: Ordering::Server { receipt_key }, kind, members: members.iter().copied().collect() }
    }

    pub(super) fn of(group: &MlsGroup) -> Result<Self, E2eeError> {
        Self::of_extensions(group.extensions())
    }

    fn of_extensions(extensions: &Extensions<GroupContext>) -> Result<Self, E2eeError> {
        let UnknownExtension(bytes) = extensions.unknown(POLICY_EXTENSION).ok_or(E2eeError::Malformed("policy"))?;
        let policy: Self = codec::decode(bytes).map_err(|_| E2eeError::Malformed("policy"))?;
        if policy.members.is_empty() || !policy.members.is_sorted_by(|a, b| a < b) {
            return Err(E2eeError::Malformed("policy"));
        }
        Ok(policy)
    }

    pub(super) fn extensions(&self) -> Result<Extensions<GroupContext>, E2eeError> {
        let extension = Extension::Unknown(POLICY_EXTENSION, UnknownExtension(codec::encode(self)));
        Extensions::single(extension).map_err(|_| E2eeError::Internal("policy extension"))
    }

    pub(super) fn receipt_key(&self) -> [u8; 32] {
        let Ordering::Server { receipt_key } = self.ordering;
        receipt_key
    }

    /// Whether these are the rules of that conversation, and `account` is a member of it.
    pub(super) fn check(&self, conversation: &ConversationId, account: &AccountId) -> Result<(), E2eeError> {
        if !self.members.contains(account) {
            return Err(E2eeError::NotMember { account: *account });
        }
        if self.kind != ConversationKind::DIRECT {
            return Ok(());
        }
        let (Some(first), Some(last), true) = (self.members.first(), self.members.last(), self.members.len() <= 2) else {
            return Err(E2eeError::WrongConversation);
        };
        if ConversationId::direct(first, last) == *conversation { Ok(()) } else { Err(E2eeError::WrongConversation) }
    }
}

/// What a commit does, once it has been found to be allowed.
pub(super) struct Verdict {
    pub(super) committer: Leaf,
    pub(super) added: Vec<Leaf>,
    pub(super) removed: Vec<Leaf>,
}

/// Checks what a commit of another device does before it is applied: who made it, every leaf it brings in, every leaf it takes
/// out, and that it does nothing else.
pub(super) fn judge(group: &MlsGroup, sender: &Sender, commit: &StagedCommit, lists: &dyn Lists) -> Result<Verdict, E2eeError> {
    let policy = Policy::of(group)?;
    let before = leaves(group)?;
    let external = matches!(sender, Sender::NewMemberCommit);
    for proposal in commit.queued_proposals() {
        match proposal.proposal() {
            Proposal::Add(_) | Proposal::Remove(_) => {}
            Proposal::ExternalInit(_) if external => {}
            _ => return Err(E2eeError::Forbidden("a proposal of this kind")),
        }
    }
    let path = commit
        .update_path_leaf_node()
        .map(|leaf| admit(leaf.credential(), leaf.signature_key().as_slice(), &policy, lists))
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
    let mut removed = Vec::new();
    for proposal in commit.remove_proposals() {
        let index = proposal.remove_proposal().removed();
        let leaf = before.iter().find(|(at, _)| *at == index).map(|(_, leaf)| *leaf).ok_or(E2eeError::Malformed("commit"))?;
        check_removal(&committer, &leaf, external, lists)?;
        removed.push(leaf);
    }
    let mut added = Vec::new();
    for proposal in commit.add_proposals() {
        let leaf = proposal.add_proposal().key_package().leaf_node();
        added.push(admit(leaf.credential(), leaf.signature_key().as_slice(), &policy, lists)?.0);
    }
    if external {
        added.push(committer);
    }
    check_unique(&before, &added, &removed)?;
    if external {
        // A device that joins again takes its own old leaf out: nobody came and nobody went but itself.
        removed.retain(|leaf| *leaf != committer);
    }
    Ok(Verdict { committer, added, removed })
}

/// An account may remove its own devices. Others only those that their account no longer lists; by an external commit, a device
/// only its own old leaf.
pub(super) fn check_removal(committer: &Leaf, removed: &Leaf, external: bool, lists: &dyn Lists) -> Result<(), E2eeError> {
    if external {
        return if removed == committer { Ok(()) } else { Err(E2eeError::Forbidden("to remove another device while joining")) };
    }
    let (account, device) = removed;
    if committer.0 == *account {
        return Ok(());
    }
    let list = lists.list(account).ok_or(E2eeError::UnknownDevice { account: *account })?;
    // The committer may have seen a list that this device has not.
    if list.certificate(device).is_some() { Err(E2eeError::UnknownDevice { account: *account }) } else { Ok(()) }
}

fn check_unique(before: &[(openmls::prelude::LeafNodeIndex, Leaf)], added: &[Leaf], removed: &[Leaf]) -> Result<(), E2eeError> {
    let mut devices: BTreeSet<Leaf> = before.iter().map(|(_, leaf)| *leaf).collect();
    for leaf in removed {
        devices.remove(leaf);
    }
    if added.iter().all(|leaf| devices.insert(*leaf)) { Ok(()) } else { Err(E2eeError::Forbidden("a device twice")) }
}
