//! Taking messages from an export into this profile: as history, without telling anybody.

use parlour_wire::{AccountId, ConversationId};

use super::{Core, Reply, Ticket};
use crate::{
    api::{Imported, State},
    error::Error,
    event::Event,
    store::{MessageRow, NewMessage, ReactionRow},
};

impl Core {
    /// Stores what is not here yet. Conversations are those of this account, whoever exported them.
    pub(super) fn import(&mut self, ticket: Ticket, messages: Vec<Imported>) -> Result<(), Error> {
        let me = self.me()?;
        let mut new = 0;
        for message in messages {
            if message.peer != me && self.import_one(me, message)? {
                new += 1;
            }
        }
        self.event(Event::ContactsChanged);
        self.reply(ticket, Ok(Reply::Count(new)));
        Ok(())
    }

    fn import_one(&mut self, me: AccountId, message: Imported) -> Result<bool, Error> {
        let id = ConversationId::direct(&me, &message.peer);
        self.store.direct_conversation(&id, &message.peer)?;
        self.session.contacts_dirty |= self.store.know(&message.peer, &message.peer_name)?;
        let row = MessageRow {
            sender: if message.outgoing { me } else { message.peer },
            outgoing: message.outgoing,
            reply_to: message.reply_to,
            sent_ms: message.sent_ms,
            stored_ms: message.stored_ms,
            // Whatever was on its way then is not on its way from here.
            state: message.state.max(State::Stored),
            shown: true,
            edited_ms: message.edited_ms,
            deleted: message.deleted,
            expires_ms: message.expires_ms,
            ..MessageRow::new(message.id, id, message.kind, message.text)
        };
        let expires_ms = row.expires_ms;
        if !self.store.add_message(&NewMessage { row, sealed: true })? {
            return Ok(false);
        }
        self.expires(expires_ms);
        for (sender, emoji) in message.reactions {
            let reaction = self.new_id();
            self.store.add_reaction(&ReactionRow { id: reaction, message: message.id, sender, emoji })?;
        }
        Ok(true)
    }
}
