//! Taking messages from an export into this profile: as history, without telling anybody.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{
    AccountId, BlobId, Code, ConversationId, MessageId,
    content::{Attachment, Body, Content, safe_name},
    name::Name,
};

use super::{Core, Reply, Ticket};
use crate::{
    api::{Imported, ImportedPlace, MessageKind, State},
    error::Error,
    event::Event,
    store::{ConversationPhase, MessageRow, NewMessage, ReactionRow},
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
        let mut new = 0;
        for message in messages {
            let file = files.remove(&message.id);
            new += u64::from(self.import_one(me, message, file)?);
        }
        self.event(Event::ContactsChanged);
        self.reply(ticket, Ok(Reply::Count(new)));
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

    fn import_one(&mut self, me: AccountId, message: Imported, kept: Option<Attachment>) -> Result<bool, Error> {
        let Some(id) = self.imported_place(me, &message.place)? else { return Ok(false) };
        let sender = if message.outgoing { me } else { message.sender };
        if sender != me {
            self.know_imported(&sender, &message.sender_name)?;
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
        if let Some(kept) = kept {
            self.store.keep_file(&message.id, &kept.blob)?;
        }
        self.expires(expires_ms);
        for (sender, emoji) in message.reactions {
            let reaction = ReactionRow { id: self.new_id(), message: message.id, sender, emoji };
            self.store.add_reaction(&reaction)?;
        }
        Ok(true)
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
