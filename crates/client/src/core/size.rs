//! How many devices a group has, and what follows from it: its suite, that an admin founds it anew in the suite for many, and that
//! it is full.

use std::time::Duration;

use parlour_e2ee::{E2eeError, HYBRID_DEVICES, Member};
use parlour_wire::{
    AccountId, Code, ConversationId,
    api::{Role, Suite},
    limits,
};

use super::{Core, session::Timer};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase},
};

/// A device that finds no room in a group looks again so much later: somebody has to go first.
const FULL: Duration = Duration::from_secs(600);

/// A founding that fails, for which everybody's key packages have been used up, is tried again so much later.
const AGAIN: Duration = Duration::from_secs(300);

/// Bounds on the devices of a group; tests lower them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Up to so many, a group is hybrid.
    pub(super) hybrid: usize,
    /// A group may have so many.
    pub(super) most: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { hybrid: HYBRID_DEVICES, most: limits::GROUP_DEVICES }
    }
}

impl Core {
    /// The suite for a group of all devices of these accounts, as far as their lists are known.
    pub(super) fn suite_of(&self, accounts: impl Iterator<Item = AccountId>) -> Result<Suite, Error> {
        let (devices, most) = (self.devices_listed(accounts)?, self.sizes.most);
        if devices > most {
            return Err(Error::new(Code::QUOTA, format!("the group would have {devices} devices; it may have {most}")));
        }
        Ok(if devices <= self.sizes.hybrid { Suite::HYBRID } else { Suite::CLASSICAL })
    }

    fn devices_listed(&self, mut accounts: impl Iterator<Item = AccountId>) -> Result<usize, Error> {
        accounts.try_fold(0, |sum, account| Ok(sum + self.store.list(&account)?.map_or(1, |list| list.certificates().len())))
    }

    fn devices_inside(&mut self, id: &ConversationId) -> Result<usize, Error> {
        let (engine, store) = self.engine()?;
        match engine.members(store, id) {
            Ok(members) => Ok(members.len()),
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            // A conversation that is only being made or joined.
            Err(_) => Ok(0),
        }
    }

    /// Whether a group has more devices than its suite is for and this account may found it anew. Those that the members list count,
    /// because they come in by themselves, and those that are in it, because a commit has to carry them until it takes them out.
    pub(super) fn has_outgrown(&mut self, id: &ConversationId) -> Result<bool, Error> {
        let Some(group) = self.store.conversation(id)? else { return Ok(false) };
        if !group.is_group() || group.suite != Suite::HYBRID || group.role != Role::ADMIN {
            return Ok(false);
        }
        let members = self.store.members(id)?;
        let listed = self.devices_listed(members.into_iter().map(|member| member.account))?;
        Ok(listed.max(self.devices_inside(id)?) > self.sizes.hybrid)
    }

    /// Founds a group anew in the suite for many devices, once the key packages of all are here.
    pub(super) fn outgrow(&mut self, group: &Conversation) -> Result<(), Error> {
        let id = group.id;
        if let Some(at) = self.session.unfounded.get(&id).copied().filter(|at| self.now.steady < *at) {
            self.set_timer(Timer::Maintain(id), at.saturating_sub(self.now.steady));
            return Ok(());
        }
        let Some(members) = self.gather_all(group)? else { return Ok(()) };
        let (engine, store) = self.engine()?;
        let step = engine.refound(store, &id, Suite::CLASSICAL, &members);
        // If another commit is first, there may be other devices by the next time.
        self.session.creating.remove(&id);
        if step.is_err() {
            self.session.unfounded.insert(id, self.now.steady + AGAIN);
            self.set_timer(Timer::Maintain(id), AGAIN);
        }
        self.queue_change(&id, step)
    }

    /// Key packages of all devices of a group, this one left out, for founding it anew; `None` until they are here.
    pub(super) fn gather_all(&mut self, group: &Conversation) -> Result<Option<Vec<Member>>, Error> {
        let me = self.me()?;
        let alone = self.store.list(&me)?.is_none_or(|list| list.certificates().len() < 2);
        let mut wanted: Vec<_> = self.store.members(&group.id)?.into_iter().map(|member| member.account).collect();
        let gone = self.session.gone.get(&group.id);
        wanted.retain(|account| (*account != me || !alone) && gone.is_none_or(|gone| !gone.contains(account)));
        self.gather(&group.id, &wanted, Suite::CLASSICAL)
    }

    /// Goes on with a founding by [`Self::maintain`] that waited for key packages.
    pub(super) fn go_on_founding(&mut self, group: &Conversation) -> Result<(), Error> {
        let id = group.id;
        let begun = self.session.creating.get(&id).is_some_and(|creation| creation.suite == Some(Suite::CLASSICAL));
        if !begun || group.suite != Suite::HYBRID || self.store.first_intent(&id)?.is_some() {
            return Ok(());
        }
        if self.has_outgrown(&id)? {
            return self.maintain(&id);
        }
        self.session.creating.remove(&id);
        Ok(())
    }

    /// Whether a device of an account may come into a conversation. If it is full, its admins are told and whose device it is.
    pub(super) fn has_room(&mut self, conversation: &Conversation, account: &AccountId) -> Result<bool, Error> {
        let most = if conversation.suite == Suite::HYBRID { self.sizes.hybrid } else { self.sizes.most };
        if !conversation.is_group() || self.devices_inside(&conversation.id)? < most {
            return Ok(true);
        }
        if conversation.role == Role::ADMIN || *account == self.me()? {
            self.group_full(&conversation.id)?;
        }
        Ok(false)
    }

    /// A device cannot come into a group, because it is full: tells so, once while the program runs.
    pub(super) fn group_full(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(group) = self.store.conversation(id)? else { return Ok(()) };
        let outside = group.phase != ConversationPhase::Active;
        if outside {
            self.session.resting.insert(*id);
            self.session.timers.insert(Timer::Retry(*id), self.now.steady + FULL);
        } else if group.suite == Suite::HYBRID && group.role != Role::ADMIN {
            // An admin makes room by founding it anew.
            return Ok(());
        }
        if self.session.full.insert(*id) {
            let name = group.name.as_ref().map_or_else(|| "a group".to_owned(), |name| format!("#{name}"));
            let who = if outside { "this device" } else { "a device of a member" };
            let message = format!("{name} has {} devices, as many as a group may have: {who} stays out", self.sizes.most);
            self.trouble(Error::new(Code::QUOTA, message).hint("`devices revoke` ends devices that nobody uses, in all groups"));
        }
        Ok(())
    }
}
