//! What decrypted messages say, and what becomes of it here: rows of the history, and changes to rows.

use parlour_wire::{
    AccountId, ConversationId, DecodeError, DeviceId, MessageId,
    content::{Body, Content, Report, Status},
    log::Entry,
};

use super::{Core, compose};
use crate::{
    api::{MessageKind, State},
    error::Error,
    event::Event,
    store::{Conversation, MessageRow, NewMessage, PendingChange, ReactionRow},
};

/// So far the clock of a sender may be ahead of its home's before its word is not taken.
pub(super) const AHEAD_MS: u64 = 5 * 60 * 1000;
/// Reactions that one account may have on one message; emojis beyond it are noise.
const REACTIONS: u64 = 16;

/// Who says something, and as which message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Author {
    pub(super) id: MessageId,
    pub(super) account: AccountId,
    pub(super) stored_ms: u64,
}

/// What became of a change.
enum Outcome {
    Done,
    /// Its target is not here.
    Waits,
}

impl Core {
    /// A decrypted message of a log.
    pub(super) fn take_message(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        sender: AccountId,
        device: DeviceId,
        content: &[u8],
    ) -> Result<(), Error> {
        let outgoing = sender == self.me()?;
        if conversation.is_own() {
            return self.take_own(entry, device, content);
        }
        if !outgoing && self.store.contact(&sender)?.is_some_and(|contact| contact.blocked) {
            return Ok(());
        }
        let bytes = content;
        let content = match read(bytes, entry.stored_ms) {
            Ok(content) => content,
            Err(error) => {
                return self.say(conversation, entry, &format!("A message makes no sense to this version: {error}."));
            }
        };
        let author = Author { id: entry.id, account: sender, stored_ms: entry.stored_ms };
        match &content.body {
            Body::Text(_) if content.replaces.is_some() => self.take_change(conversation.id, author, &content, bytes),
            Body::Reaction(_) | Body::Deleted => self.take_change(conversation.id, author, &content, bytes),
            Body::Text(_) | Body::Attachment(_) | Body::Unknown { .. } => {
                self.take_shown(conversation, entry, (sender, device), &content, bytes)
            }
            Body::Report(reports) if outgoing => {
                tracing::trace!(count = reports.len(), "a report of another device of ours");
                Ok(())
            }
            Body::Report(reports) => self.take_reports(conversation, (&sender, &device), reports),
            Body::Profile(profile) => self.hear_profile(&conversation.id, sender, profile, content.sent_ms),
            Body::History(offer) if conversation.is_group() => self.take_offer(conversation, entry, sender, offer),
            Body::Sync(_) | Body::History(_) => {
                tracing::debug!(conversation = %conversation.id, "content that has no place in this conversation");
                Ok(())
            }
        }
    }

    /// A message that belongs to the history.
    fn take_shown(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        (sender, device): (AccountId, DeviceId),
        content: &Content,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let me = self.me()?;
        let outgoing = sender == me;
        let expires_ms = content.expires.map(|expires| expires.at_ms(entry.stored_ms));
        if expires_ms.is_some_and(|at| at <= self.now.unix_ms) {
            tracing::debug!(message = %entry.id, "a message came after its time was over");
            return Ok(());
        }
        let (Some(kind), body) = compose::shown(content) else { return Ok(()) };
        let row = MessageRow {
            sender,
            device,
            outgoing,
            reply_to: content.in_reply_to,
            sent_ms: content.sent_ms,
            stored_ms: Some(entry.stored_ms),
            seq: Some(entry.seq),
            state: if outgoing { State::Stored } else { State::Delivered },
            shown: outgoing || self.store.take_early_mark(&entry.id)?,
            content: (kind != MessageKind::Text).then(|| bytes.to_vec()),
            expires_ms,
            mentions_me: !outgoing && content.mentions.contains(&me),
            ..MessageRow::new(entry.id, conversation.id, kind, body)
        };
        if !outgoing {
            if conversation.is_group() {
                self.store.know_of(&sender)?;
            } else {
                self.know(&sender)?;
                // Known from a group, or taken from the list: whoever writes is found by name.
                if self.store.list_contact(&sender)? {
                    self.session.contacts_dirty = true;
                    self.event(Event::ContactsChanged);
                }
            }
            if self.settings()?.delivery_receipts {
                self.store.add_report(&conversation.id, Report { message: entry.id, status: Status::DELIVERED })?;
            }
        }
        self.add_message(conversation, row)
    }

    /// Stores a message, with the changes that came before it, and tells listeners.
    pub(super) fn add_message(&mut self, conversation: &Conversation, row: MessageRow) -> Result<(), Error> {
        if conversation.is_own() {
            // Nobody reads there.
            tracing::debug!(text = row.body, "about the own conversation");
            return Ok(());
        }
        let (id, expires_ms) = (row.id, row.expires_ms);
        if !self.store.add_message(&NewMessage { row, sealed: true })? {
            return Ok(());
        }
        self.expires(expires_ms);
        self.apply_pending(&id)?;
        if let Some(row) = self.store.message(&id)? {
            let message = self.shown_message(row, conversation)?;
            self.event(Event::Message(message));
        }
        Ok(())
    }

    /// A reaction, edit or delete: takes effect now, or waits for its target.
    fn take_change(
        &mut self,
        conversation: ConversationId,
        author: Author,
        content: &Content,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let Some(target) = target_of(content) else { return Ok(()) };
        if let Outcome::Waits = self.apply_change(&conversation, author, content)? {
            self.store.add_pending(&PendingChange {
                id: author.id,
                target,
                conversation,
                sender: author.account,
                content: bytes.to_vec(),
                stored_ms: author.stored_ms,
            })?;
        }
        Ok(())
    }

    /// Lets the changes that waited for a message or reaction take effect.
    pub(super) fn apply_pending(&mut self, target: &MessageId) -> Result<(), Error> {
        for change in self.store.take_pending(target)? {
            let author = Author { id: change.id, account: change.sender, stored_ms: change.stored_ms };
            match read(&change.content, change.stored_ms) {
                Ok(content) => {
                    self.apply_change(&change.conversation, author, &content)?;
                }
                Err(error) => tracing::warn!(message = %change.id, %error, "a change that was kept cannot be read"),
            }
        }
        Ok(())
    }

    fn apply_change(&mut self, conversation: &ConversationId, author: Author, content: &Content) -> Result<Outcome, Error> {
        let Some(target) = target_of(content) else { return Ok(Outcome::Done) };
        if matches!(content.body, Body::Deleted)
            && let Some((message, sender)) = self.store.reaction(&target)?
        {
            if sender == author.account {
                self.store.remove_reaction(&target)?;
                self.changed(&message)?;
            }
            return Ok(Outcome::Done);
        }
        let Some(message) = self.store.message(&target)? else { return Ok(Outcome::Waits) };
        if message.hidden && matches!(content.body, Body::Deleted) {
            // A reaction of this device, which has been taken back already.
            return Ok(Outcome::Done);
        }
        if message.conversation != *conversation || message.hidden || message.deleted || message.kind == MessageKind::System {
            return Ok(Outcome::Done);
        }
        let own = message.sender == author.account;
        match &content.body {
            Body::Reaction(emoji) => {
                let reaction = ReactionRow { id: author.id, message: target, sender: author.account, emoji: emoji.clone() };
                return self.react_to(reaction).map(|()| Outcome::Done);
            }
            Body::Deleted if own => {
                self.erase_kept(&target)?;
                self.store.set_deleted(&target)?;
            }
            // Of edits that two devices of the author made at once, every device keeps the same one, in whatever order they come: its own
            // is in place before the log says where it belongs.
            Body::Text(text) if own && message.edited_ms.is_some_and(|at| (at, &message.body) > (content.sent_ms, text)) => {
                return Ok(Outcome::Done);
            }
            Body::Text(text) if own && message.kind != MessageKind::Unknown => {
                let mentions_me = !message.outgoing && content.mentions.contains(&self.me()?);
                self.store.set_edited(&target, text, content.sent_ms, mentions_me)?;
            }
            _ => {
                tracing::debug!(message = %target, "somebody else than its author wanted to change a message");
                return Ok(Outcome::Done);
            }
        }
        self.changed(&target)?;
        Ok(Outcome::Done)
    }

    /// Puts a reaction beside a message that is here.
    pub(super) fn react_to(&mut self, reaction: ReactionRow) -> Result<(), Error> {
        if self.store.reactions_from(&reaction.message, &reaction.sender)? >= REACTIONS {
            return Ok(());
        }
        self.store.add_reaction(&reaction)?;
        self.apply_pending(&reaction.id)?;
        self.changed(&reaction.message)
    }

    /// Tells listeners that something about a message is different.
    pub(super) fn changed(&mut self, id: &MessageId) -> Result<(), Error> {
        let Some(row) = self.store.message(id)? else { return Ok(()) };
        let Some(conversation) = self.store.conversation(&row.conversation)? else { return Ok(()) };
        let message = self.shown_message(row, &conversation)?;
        self.event(Event::MessageChanged(message));
        Ok(())
    }

    /// A message of ours is in its log: what counts from there is counted, and what was kept for another encryption goes.
    pub(super) fn settle_own(&mut self, row: &MessageRow, stored_ms: u64) -> Result<(), Error> {
        let Some(bytes) = &row.content else { return Ok(()) };
        let content = Content::from_bytes(bytes).map_err(Error::internal)?;
        if let Some(expires) = content.expires
            && !row.hidden
        {
            let at = expires.at_ms(stored_ms);
            self.store.set_expires(&row.id, at)?;
            self.expires(Some(at));
        }
        if row.hidden || row.kind == MessageKind::Text {
            self.store.set_content(&row.id, None)?;
        }
        Ok(())
    }
}

/// A content, with a time that its home can vouch for.
fn read(bytes: &[u8], stored_ms: u64) -> Result<Content, DecodeError> {
    let content = Content::from_bytes(bytes)?;
    Ok(Content { sent_ms: content.sent_ms.min(stored_ms.saturating_add(AHEAD_MS)), ..content })
}

/// The message or reaction that a change is about.
fn target_of(content: &Content) -> Option<MessageId> {
    if let Body::Reaction(_) = content.body { content.in_reply_to } else { content.replaces }
}
