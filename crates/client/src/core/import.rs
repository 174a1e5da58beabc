//! Taking messages from an export into this profile: as history, without telling anybody.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{
    AccountId, BlobId, Code, ConversationId, MessageId,
    content::{Attachment, Body, Content, safe_name},
    limits,
    name::Name,
};

use super::{Core, Reply, Ticket, pack::REACTIONS};
use crate::{
    api::{Imported, ImportedContact, ImportedPlace, MessageKind, State},
    error::Error,
    event::Event,
    store::{ContactRow, ConversationPhase, MessageRow, NewMessage, ReactionRow},
};

impl Core {
    /// Stores what is not here yet. Direct conversations are those of this account, whoever exported them.
    pub(super) fn import(
        &mut self,
        ticket: Ticket,
        messages: Vec<Imported>,
        mut files: BTreeMap<MessageId, Attachment>,
    ) -> Result<(), Error> {
        let me = self.me()?;
        messages.iter().try_for_each(check)?;
        let mut new = 0;
        let mut places = BTreeSet::new();
        for message in messages {
            let file = files.remove(&message.id);
            let Some((place, older)) = self.import_one(me, message, file)? else { continue };
            new += 1;
            places.extend(older.then_some(place));
        }
        places.iter().try_for_each(|place| self.store.settle_order_of(place))?;
        self.event(Event::ContactsChanged);
        self.reply(ticket, Ok(Reply::Count(new)));
        Ok(())
    }

    /// Takes over petnames and blocks of people; what is chosen here stays. Whose safety number was compared is not taken over: that is
    /// for this profile's owner to see.
    pub(super) fn import_contacts(&mut self, ticket: Ticket, contacts: Vec<ImportedContact>) -> Result<(), Error> {
        let me = self.me()?;
        let mut changed = 0;
        for imported in contacts.into_iter().filter(|contact| contact.account != me) {
            self.know_imported(&imported.account, &imported.name)?;
            let Some(contact) = self.store.contact(&imported.account)? else { continue };
            let free = |name: &String| -> Result<bool, Error> {
                let taken = self.store.contact_by_name(name, name)?.is_some_and(|other| other.account != imported.account);
                Ok(Name::parse(name).is_ok() && !taken)
            };
            let petname = match (&contact.petname, imported.petname) {
                (None, Some(petname)) if free(&petname)? => Some(petname),
                (own, _) => own.clone(),
            };
            let blocked = contact.blocked || imported.blocked;
            if (&petname, blocked) != (&contact.petname, contact.blocked) {
                let contact = ContactRow { petname, blocked, ..contact };
                self.store.update_contact(&contact)?;
                self.contact_agreed(&contact)?;
                changed += 1;
            }
        }
        self.event(Event::ContactsChanged);
        self.reply(ticket, Ok(Reply::Count(changed)));
        Ok(())
    }

    /// Which of these messages are not here.
    pub(super) fn missing(&self, ids: BTreeSet<MessageId>) -> Result<Reply, Error> {
        let mut missing = BTreeSet::new();
        for id in ids {
            if self.store.message(&id)?.is_none() {
                missing.insert(id);
            }
        }
        Ok(Reply::Ids(missing))
    }

    /// Where a message has been put that was not here, and whether it is older than what stands last there.
    fn import_one(
        &mut self,
        me: AccountId,
        message: Imported,
        kept: Option<Attachment>,
    ) -> Result<Option<(ConversationId, bool)>, Error> {
        let Some(id) = self.imported_place(me, &message.place)? else { return Ok(None) };
        let sender = if message.outgoing { me } else { message.sender };
        if sender != me {
            self.know_imported(&sender, &message.sender_name)?;
        }
        if let Some((account, name)) = &message.shared_by {
            self.know_imported(account, name)?;
        }
        let content = imported_file(&message, kept.clone())?;
        let row = MessageRow {
            content,
            sender,
            outgoing: message.outgoing,
            reply_to: message.reply_to,
            sent_ms: message.sent_ms,
            stored_ms: message.stored_ms,
            // Whatever was on its way then is not on its way from here.
            state: if message.state == State::Failed { State::Failed } else { message.state.max(State::Stored) },
            shown: true,
            edited_ms: message.edited_ms,
            deleted: message.deleted,
            expires_ms: message.expires_ms,
            shared_by: message.shared_by.map(|(account, _)| account),
            ..MessageRow::new(message.id, id, message.kind, message.text)
        };
        let expires_ms = row.expires_ms;
        let at_ms = row.stored_ms.unwrap_or(row.sent_ms);
        let older = self.store.newest_ms(&id)?.is_some_and(|newest_ms| at_ms < newest_ms);
        let position = if older { Some(self.store.position_below()?) } else { None };
        if !self.store.add_message_at(position, &NewMessage { row, sealed: true })? {
            return Ok(None);
        }
        if let Some(kept) = kept {
            self.store.keep_file(&message.id, &kept.blob)?;
        }
        self.expires(expires_ms);
        for (sender, emoji) in message.reactions {
            let reaction = ReactionRow { id: self.new_id(), message: message.id, sender, emoji };
            self.store.add_reaction(&reaction)?;
        }
        Ok(Some((id, older)))
    }

    /// The conversation of an imported message, made if it is not there; `None` for one with oneself.
    fn imported_place(&mut self, me: AccountId, place: &ImportedPlace) -> Result<Option<ConversationId>, Error> {
        match place {
            ImportedPlace::Direct { peer, .. } if *peer == me => Ok(None),
            ImportedPlace::Direct { peer, name } => {
                let id = ConversationId::direct(&me, peer);
                self.know_imported(peer, name)?;
                self.store.direct_conversation(&id, peer).map(|conversation| Some(conversation.id))
            }
            ImportedPlace::Group { conversation, .. } if !conversation.is_group() => Ok(None),
            ImportedPlace::Group { conversation, name } => {
                if self.store.conversation(conversation)?.is_none() {
                    self.store.group_conversation(conversation)?;
                    self.store.set_phase(conversation, ConversationPhase::Removed)?;
                    if let Ok(name) = Name::parse(name) {
                        self.store.set_group_name(conversation, name.as_str())?;
                    }
                }
                Ok(Some(*conversation))
            }
        }
    }

    /// Whoever is in an export is somebody this profile knows. The name is only what the export says: before anything is sent to it, the
    /// server is asked whose it is.
    fn know_imported(&mut self, account: &AccountId, name: &str) -> Result<(), Error> {
        let name = Name::parse(name).map_or_else(|_| String::new(), |name| name.as_str().to_owned());
        self.session.contacts_dirty |= self.store.know(account, &name)?;
        Ok(())
    }
}

/// The bounds of what anybody may send hold for what is taken in as well: other devices of this account would not take more.
fn check(message: &Imported) -> Result<(), Error> {
    let fits = |what: &str, len: usize, limit: usize| {
        let wrong =
            || Error::new(Code::USAGE, format!("message {}: its {what} has {len} bytes; it may have {limit}", message.id));
        if len > limit { Err(wrong()) } else { Ok(()) }
    };
    fits("text", message.text.len(), limits::MESSAGE_INLINE)?;
    for (_, emoji) in &message.reactions {
        fits("reaction", emoji.len(), limits::REACTION)?;
    }
    if message.reactions.len() > REACTIONS {
        let count = message.reactions.len();
        return Err(Error::new(
            Code::USAGE,
            format!("message {}: it has {count} reactions; it may have {REACTIONS}", message.id),
        ));
    }
    Ok(())
}

/// Stands for the blob of a file that an import did not bring: no ciphertext has this name.
pub(super) const NOWHERE: BlobId = BlobId([0; 32]);

/// The content of a message with a file. The file is in the profile's folder, or nowhere: then only what it was is known.
fn imported_file(message: &Imported, kept: Option<Attachment>) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = message.file.as_ref().filter(|_| message.kind == MessageKind::File && !message.deleted) else {
        return Ok(None);
    };
    let nowhere = || Attachment {
        blob: NOWHERE,
        key: [0; 32],
        size: file.size,
        blob_size: file.size,
        hash: [0; 32],
        content_type: file.content_type.clone(),
        name: safe_name(&file.name),
        text: String::new(),
        thumbnail: None,
    };
    let attachment = kept.unwrap_or_else(nowhere);
    let content = Content::new(message.sent_ms, Body::Attachment(attachment));
    let bytes = content
        .to_bytes()
        .map_err(|error| Error::new(Code::USAGE, format!("the file of message {} cannot be taken in: {error}", message.id)))?;
    Ok(Some(bytes))
}
