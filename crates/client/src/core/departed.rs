//! Members of a group that, as the server says, are members no more: they left before this device came in, so that the log which it
//! reads does not tell.
//!
//! The server's word alone puts nobody out. It decides what is asked for: the signed statements of those who have gone.

use std::collections::BTreeSet;

use parlour_e2ee::E2eeError;
use parlour_wire::{
    AccountId, ConversationId,
    api::{LeavesAnswer, LeavesGet},
    limits,
};

use super::{Core, session::Pending};
use crate::{
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase},
};

impl Core {
    /// Compares a group with what the server has said last, once. For a device that has read all that there is.
    pub(super) fn compare_roster(&mut self, group: &Conversation) -> Result<(), Error> {
        let Some(roster) = self.session.rosters.remove(&group.id) else { return Ok(()) };
        let there: BTreeSet<AccountId> = roster.into_iter().collect();
        let members = self.store.members(&group.id)?.into_iter().map(|member| member.account);
        let gone: BTreeSet<AccountId> = members.filter(|account| !there.contains(account)).collect();
        if gone.is_empty() {
            self.session.gone.remove(&group.id);
            return Ok(());
        }
        let accounts = gone.iter().copied().take(limits::LEAVE_STATEMENTS).collect();
        self.session.gone.insert(group.id, gone);
        self.request(&LeavesGet { conversation: group.id, accounts }, Pending::Leaves(group.id))
    }

    /// Asks which members have left, all of them: this device has come in by itself, after the statement perhaps of who left while it did,
    /// and what the server said of the members is from before.
    pub(super) fn ask_who_left(&mut self, group: &Conversation) -> Result<(), Error> {
        let members = self.store.members(&group.id)?.into_iter().map(|member| member.account);
        let accounts = members.take(limits::LEAVE_STATEMENTS).collect();
        self.request(&LeavesGet { conversation: group.id, accounts }, Pending::Leaves(group.id))
    }

    pub(super) fn leaves_answered(&mut self, id: ConversationId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let answer: LeavesAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) => {
                // The next sync asks again.
                tracing::debug!(conversation = %id, %error, "the server does not say who has left");
                return Ok(());
            }
        };
        let Some(group) = self.store.conversation(&id)? else { return Ok(()) };
        if group.phase != ConversationPhase::Active {
            return Ok(());
        }
        let statements: Vec<&[u8]> = answer.statements.iter().map(|statement| &statement[..]).collect();
        let (engine, store) = self.engine()?;
        let step = match engine.recall_leaves(store, &id, &statements) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "who has left cannot be noted");
                return Ok(());
            }
        };
        self.store.apply(&step.changes)?;
        for account in step.output {
            self.drop_member(&group, &account)?;
            let text = format!("{} left.", self.name_in_text(&account)?);
            self.note_by(&group, &account, &text, false)?;
        }
        self.set_maintenance(&group)
    }

    /// Takes an account that has left out of the members that are shown.
    pub(super) fn drop_member(&mut self, group: &Conversation, account: &AccountId) -> Result<(), Error> {
        self.store.drop_member(&group.id, account)?;
        self.store.succeed(&group.id, &self.me()?)?;
        self.event(Event::GroupChanged { conversation: group.id, name: group.name.clone() });
        self.report_again(&group.id)
    }
}
