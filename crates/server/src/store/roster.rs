//! Who is in a conversation and what they may do: the rules of changes and of leaving, the same for every engine.

use parlour_wire::{
    AccountId,
    api::{Change, ConversationKind, Role},
    limits,
};

use super::Refusal;

/// A member of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterMember {
    /// Which account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The home's epoch at which it came in.
    pub since: u64,
}

/// The members of a conversation, in order of account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster(Vec<RosterMember>);

impl FromIterator<RosterMember> for Roster {
    fn from_iter<I: IntoIterator<Item = RosterMember>>(members: I) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable_by_key(|member| member.account);
        Self(members)
    }
}

impl Roster {
    /// The members of a conversation that begins: its creator is the admin.
    ///
    /// # Errors
    /// [`Refusal::NotMember`] if the creator is none, [`Refusal::TooMany`].
    pub fn begin(creator: &AccountId, members: &[AccountId]) -> Result<Self, Refusal> {
        let role = |account: &AccountId| if account == creator { Role::ADMIN } else { Role::MEMBER };
        let mut roster: Self =
            members.iter().map(|account| RosterMember { account: *account, role: role(account), since: 1 }).collect();
        roster.0.dedup_by_key(|member| member.account);
        if roster.get(creator).is_none() {
            return Err(Refusal::NotMember);
        }
        roster.bounded()
    }

    fn bounded(self) -> Result<Self, Refusal> {
        if self.0.len() > limits::GROUP_DEVICES { Err(Refusal::TooMany) } else { Ok(self) }
    }

    /// The members, in order of account.
    #[must_use]
    pub fn members(&self) -> &[RosterMember] {
        &self.0
    }

    /// Their accounts, in order.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        self.0.iter().map(|member| member.account).collect()
    }

    /// A member.
    #[must_use]
    pub fn get(&self, account: &AccountId) -> Option<&RosterMember> {
        self.0.binary_search_by_key(account, |member| member.account).ok().map(|at| &self.0[at])
    }

    /// Whether an account is an admin.
    #[must_use]
    pub fn is_admin(&self, account: &AccountId) -> bool {
        self.get(account).is_some_and(|member| member.role == Role::ADMIN)
    }

    /// The members after a change by `committer` that makes `epoch`.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for what is not a group, a committer who is no admin, or one who removes himself; [`Refusal::AlreadyIn`] and
    /// [`Refusal::NotMember`] for accounts that are members already or get a role and are none; [`Refusal::LastAdmin`];
    /// [`Refusal::TooMany`]. Who is to go and is not there has gone: an admin can have put somebody out here without the members.
    pub fn change(&self, kind: ConversationKind, committer: &AccountId, change: &Change, epoch: u64) -> Result<Self, Refusal> {
        if kind != ConversationKind::GROUP || !self.is_admin(committer) || change.removed.contains(committer) {
            return Err(Refusal::Forbidden);
        }
        if change.added.iter().any(|account| self.get(account).is_some()) {
            return Err(Refusal::AlreadyIn);
        }
        let stay = self.0.iter().filter(|member| !change.removed.contains(&member.account)).copied();
        let come = change.added.iter().map(|account| RosterMember { account: *account, role: Role::MEMBER, since: epoch });
        let mut next: Self = stay.chain(come).collect();
        for member in &change.roles {
            let at = next.0.binary_search_by_key(&member.account, |member| member.account).map_err(|_| Refusal::NotMember)?;
            next.0[at].role = member.role;
        }
        if next.0.iter().all(|member| member.role != Role::ADMIN) {
            return Err(Refusal::LastAdmin);
        }
        next.bounded()
    }

    /// The members after one has left. If no admin is left, the one who has been in longest is one from then on.
    #[must_use]
    pub fn leave(&self, account: &AccountId) -> Self {
        let mut next: Self = self.0.iter().filter(|member| member.account != *account).copied().collect();
        if next.0.iter().all(|member| member.role != Role::ADMIN)
            && let Some(successor) = next.0.iter_mut().min_by_key(|member| (member.since, member.account))
        {
            successor.role = Role::ADMIN;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use parlour_wire::api::Member;

    use super::*;

    fn id(n: u8) -> AccountId {
        AccountId([n; 32])
    }

    fn group() -> Roster {
        Roster::begin(&id(2), &[id(3), id(2), id(1)]).unwrap()
    }

    fn change(roster: &Roster, by: u8, change: &Change) -> Result<Roster, Refusal> {
        roster.change(ConversationKind::GROUP, &id(by), change, 5)
    }

    #[test]
    fn the_creator_is_admin_and_only_admins_change_a_group() {
        let roster = group();
        assert!(roster.is_admin(&id(2)) && !roster.is_admin(&id(1)));
        let add = Change { added: vec![id(9)], ..Change::default() };
        assert_eq!(change(&roster, 1, &add), Err(Refusal::Forbidden));
        assert_eq!(roster.change(ConversationKind::DIRECT, &id(2), &add, 5), Err(Refusal::Forbidden));
        let next = change(&roster, 2, &add).unwrap();
        assert_eq!(next.get(&id(9)), Some(&RosterMember { account: id(9), role: Role::MEMBER, since: 5 }));
        assert_eq!(change(&next, 2, &add), Err(Refusal::AlreadyIn));
        assert_eq!(change(&next, 2, &Change { removed: vec![id(8)], ..Change::default() }), Ok(next.clone()));
        assert_eq!(change(&next, 2, &Change { removed: vec![id(2)], ..Change::default() }), Err(Refusal::Forbidden));
    }

    #[test]
    fn there_is_always_an_admin() {
        let roster = group();
        let demote = Change { roles: vec![Member { account: id(2), role: Role::MEMBER }], ..Change::default() };
        assert_eq!(change(&roster, 2, &demote), Err(Refusal::LastAdmin));
        let hand_over = Change {
            roles: vec![Member { account: id(2), role: Role::MEMBER }, Member { account: id(3), role: Role::ADMIN }],
            ..Change::default()
        };
        let next = change(&roster, 2, &hand_over).unwrap();
        assert!(next.is_admin(&id(3)) && !next.is_admin(&id(2)));
        let left = next.leave(&id(3));
        assert!(left.is_admin(&id(1)) && !left.is_admin(&id(2)), "of those who came together the smallest id");
    }

    #[test]
    fn who_has_been_in_longest_follows_the_last_admin() {
        let roster: Roster = [(1, 7), (2, 1), (3, 4)]
            .map(|(n, since)| RosterMember { account: id(n), role: if n == 2 { Role::ADMIN } else { Role::MEMBER }, since })
            .into_iter()
            .collect();
        let left = roster.leave(&id(2));
        assert!(left.is_admin(&id(3)) && !left.is_admin(&id(1)));
        assert!(!roster.leave(&id(1)).is_admin(&id(3)), "an admin is left");
        assert_eq!(left.leave(&id(3)).leave(&id(1)), Roster::default());
    }
}
