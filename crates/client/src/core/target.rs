//! Whom a word means: a contact by petname, name or `name@server`, and the conversation with them.

use parlour_wire::{AccountId, ConversationId};

use super::{Command, Core, Ticket, contacts::not_found};
use crate::{error::Error, store::Conversation};

impl Core {
    /// The conversation that `to` names, made if it is not there, for something to be written into it. Somebody who is not known here is
    /// looked up: then the answer is `None`, and `again` runs when the server has told.
    pub(super) fn target(&mut self, ticket: Ticket, to: &str, again: Command) -> Result<Option<Conversation>, Error> {
        let Some(contact) = self.resolve_checked(ticket, to, again)? else { return Ok(None) };
        let id = ConversationId::direct(&self.me()?, &contact.account);
        self.store.direct_conversation(&id, &contact.account).map(Some)
    }

    /// The conversation that `to` names, as far as it is known here.
    pub(super) fn known_target(&self, to: &str) -> Result<ConversationId, Error> {
        let account = self.account.as_ref().ok_or_else(|| not_found(to))?;
        let contact = self.known_or_not_found(to)?;
        Ok(ConversationId::direct(&account.account, &contact.account))
    }

    /// Everybody else in a conversation.
    pub(super) fn others_in(&self, conversation: &Conversation) -> Result<Vec<AccountId>, Error> {
        Ok(vec![conversation.peer])
    }
}
