//! The rules of a conversation, kept in its group context where every member sees the same: who orders it, what kind it is, and for
//! groups the name, the members and what they may do.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use openmls::{
    group::{GroupContext, MlsGroup},
    prelude::{Extension, ExtensionType, Extensions, RequiredCapabilitiesExtension, UnknownExtension},
};
use parlour_wire::{
    api::{Change, ConversationKind, Member as WireMember, Role},
    codec,
    id::{AccountId, ConversationId},
    limits,
    name::Name,
};

use super::{GroupEvent, GroupMember, HistoryPolicy, suite::POLICY_EXTENSION};
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

/// A member account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct PolicyMember {
    #[n(0)]
    pub(super) account: AccountId,
    #[n(1)]
    pub(super) role: Role,
    /// The home's epoch at which the account came in.
    #[n(2)]
    pub(super) since: u64,
}

/// The group context extension, CBOR.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Policy {
    #[n(0)]
    pub(super) ordering: Ordering,
    #[n(1)]
    pub(super) kind: ConversationKind,
    /// Ascending by account.
    #[n(2)]
    pub(super) members: Vec<PolicyMember>,
    #[n(3)]
    pub(super) name: Option<Name>,
    /// How many messages a newcomer may be given: 0 none, the largest number all.
    #[n(4)]
    pub(super) history: u32,
}

const ALL: u32 = u32::MAX;

impl From<HistoryPolicy> for u32 {
    fn from(policy: HistoryPolicy) -> Self {
        match policy {
            HistoryPolicy::None => 0,
            HistoryPolicy::Last(count) => count.min(ALL - 1),
            HistoryPolicy::All => ALL,
        }
    }
}

/// What every leaf must support: OpenMLS lets no commit change an extension that is not required.
fn required() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(POLICY_EXTENSION)], &[], &[])
}

/// Whether these bytes are a policy that a conversation may have. For tools that look into group contexts.
#[must_use]
pub fn is_policy(bytes: &[u8]) -> bool {
    Policy::decode(bytes).is_ok()
}

impl Policy {
    /// The policy of a conversation that begins: in a group the creator is the first admin.
    pub(super) fn first(
        receipt_key: [u8; 32],
        kind: ConversationKind,
        creator: &AccountId,
        members: &BTreeSet<AccountId>,
        name: Option<Name>,
        history: HistoryPolicy,
    ) -> Self {
        let role = |account| if kind == ConversationKind::GROUP && account == creator { Role::ADMIN } else { Role::MEMBER };
        let members = members.iter().map(|account| PolicyMember { account: *account, role: role(account), since: 1 }).collect();
        Self { ordering: Ordering::Server { receipt_key }, kind, members, name, history: history.into() }
    }

    pub(super) fn of(group: &MlsGroup) -> Result<Self, E2eeError> {
        Self::of_extensions(group.extensions())
    }

    pub(super) fn of_extensions(extensions: &Extensions<GroupContext>) -> Result<Self, E2eeError> {
        if extensions.iter().count() != 2 || extensions.required_capabilities() != Some(&required()) {
            return Err(E2eeError::Malformed("group context"));
        }
        let UnknownExtension(bytes) = extensions.unknown(POLICY_EXTENSION).ok_or(E2eeError::Malformed("policy"))?;
        Self::decode(bytes)
    }

    /// Reads a policy and checks what must hold of any.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, E2eeError> {
        let malformed = E2eeError::Malformed("policy");
        let policy: Self = codec::decode(bytes).map_err(|_| malformed.clone())?;
        let ascending = policy.members.is_sorted_by(|a, b| a.account < b.account);
        if policy.members.is_empty() || policy.members.len() > limits::GROUP_DEVICES || !ascending {
            return Err(malformed);
        }
        let group = policy.kind == ConversationKind::GROUP;
        let roles = policy.members.iter().all(|member| [Role::MEMBER, Role::ADMIN].contains(&member.role));
        if !roles || group != policy.name.is_some() || group != policy.has_admin() {
            return Err(malformed);
        }
        Ok(policy)
    }

    pub(super) fn extensions(&self) -> Result<Extensions<GroupContext>, E2eeError> {
        let extension = Extension::Unknown(POLICY_EXTENSION, UnknownExtension(codec::encode(self)));
        Extensions::from_vec(vec![Extension::RequiredCapabilities(required()), extension])
            .map_err(|_| E2eeError::Internal("policy extension"))
    }

    pub(super) fn receipt_key(&self) -> [u8; 32] {
        let Ordering::Server { receipt_key } = self.ordering;
        receipt_key
    }

    pub(super) fn history(&self) -> HistoryPolicy {
        match self.history {
            0 => HistoryPolicy::None,
            ALL => HistoryPolicy::All,
            count => HistoryPolicy::Last(count),
        }
    }

    pub(super) fn member(&self, account: &AccountId) -> Option<&PolicyMember> {
        self.members.binary_search_by(|member| member.account.cmp(account)).ok().and_then(|at| self.members.get(at))
    }

    pub(super) fn is_admin(&self, account: &AccountId) -> bool {
        self.member(account).is_some_and(|member| member.role == Role::ADMIN)
    }

    pub(super) fn has_admin(&self) -> bool {
        self.members.iter().any(|member| member.role == Role::ADMIN)
    }

    /// Makes an account a member; one that is there stays as it is.
    pub(super) fn admit(&mut self, account: AccountId, since: u64) {
        if let Err(at) = self.members.binary_search_by(|member| member.account.cmp(&account)) {
            self.members.insert(at, PolicyMember { account, role: Role::MEMBER, since });
        }
    }

    /// What is left without some accounts. If no admin is left, the member that has been in longest is one: all compute the same.
    pub(super) fn without(&self, gone: &[AccountId]) -> Self {
        let mut rest = self.clone();
        rest.members.retain(|member| !gone.contains(&member.account));
        if self.has_admin()
            && !rest.has_admin()
            && let Some(successor) = rest.members.iter_mut().min_by_key(|member| (member.since, member.account))
        {
            successor.role = Role::ADMIN;
        }
        rest
    }

    /// The accounts whose time as members ends with another policy; somebody who is taken out and let in again is one.
    pub(super) fn gone(&self, new: &Self) -> Vec<AccountId> {
        let stays = |member: &PolicyMember| new.member(&member.account).is_some_and(|now| now.since == member.since);
        self.members.iter().filter(|member| !stays(member)).map(|member| member.account).collect()
    }

    pub(super) fn set_role(&mut self, account: &AccountId, role: Role) -> Result<(), E2eeError> {
        let member = self.members.iter_mut().find(|member| member.account == *account);
        member.ok_or(E2eeError::NotMember { account: *account })?.role = role;
        Ok(())
    }

    pub(super) fn group_members(&self) -> Vec<GroupMember> {
        let shown = |member: &PolicyMember| GroupMember { account: member.account, role: member.role, since: member.since };
        self.members.iter().map(shown).collect()
    }

    /// Whether these are the rules of that conversation, and `account` is a member of it.
    pub(super) fn check(&self, conversation: &ConversationId, account: &AccountId) -> Result<(), E2eeError> {
        if self.member(account).is_none() {
            return Err(E2eeError::NotMember { account: *account });
        }
        let (first, last) = (self.members.first(), self.members.last());
        let fits = match (self.kind, first, last) {
            (ConversationKind::DIRECT, Some(first), Some(last)) => {
                self.members.len() <= 2 && ConversationId::direct(&first.account, &last.account) == *conversation
            }
            (ConversationKind::OWN, Some(only), _) => {
                self.members.len() == 1 && ConversationId::own(&only.account) == *conversation
            }
            (ConversationKind::GROUP, ..) => conversation.is_group(),
            _ => false,
        };
        if fits { Ok(()) } else { Err(E2eeError::WrongConversation) }
    }

    /// How another policy of the same conversation differs from this one.
    pub(super) fn events(&self, new: &Self, left: &[AccountId]) -> Vec<GroupEvent> {
        let mut events = Vec::new();
        let stays = |old: &PolicyMember, now: &PolicyMember| old.since == now.since;
        let kept = |member: &PolicyMember| new.member(&member.account).filter(|now| stays(member, now));
        // Who goes comes first, whatever the ids are: that somebody succeeds the last admin follows from it.
        for member in self.members.iter().filter(|member| kept(member).is_none()) {
            let gone = if left.contains(&member.account) { GroupEvent::Left } else { GroupEvent::Removed };
            events.push(gone(member.account));
        }
        for member in &self.members {
            if let Some(now) = kept(member).filter(|now| now.role != member.role) {
                events.push(GroupEvent::Role(member.account, now.role));
            }
        }
        for member in &new.members {
            if !self.member(&member.account).is_some_and(|old| stays(old, member)) {
                events.push(GroupEvent::Added(member.account));
                if member.role != Role::MEMBER {
                    events.push(GroupEvent::Role(member.account, member.role));
                }
            }
        }
        if let Some(name) = new.name.as_ref().filter(|name| self.name.as_ref() != Some(name)) {
            events.push(GroupEvent::Renamed(name.clone()));
        }
        if self.history != new.history {
            events.push(GroupEvent::History(new.history()));
        }
        events
    }

    /// The same for the server, from a policy without those who have left: it knows of these already. `None` if it has nothing to
    /// change.
    pub(super) fn change(&self, new: &Self) -> Option<Change> {
        let mut change = Change::default();
        for event in self.events(new, &[]) {
            match event {
                GroupEvent::Added(account) => change.added.push(account),
                GroupEvent::Removed(account) => change.removed.push(account),
                GroupEvent::Role(account, role) => change.roles.push(WireMember { account, role }),
                GroupEvent::Renamed(name) => change.name = Some(name),
                GroupEvent::Left(_) | GroupEvent::History(_) | GroupEvent::Refounded(_) => {}
            }
        }
        (change != Change::default()).then_some(change)
    }
}
