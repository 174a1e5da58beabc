//! Writing: whatever goes out is composed here, into one row that is encrypted, sent and kept until the server has it.

use parlour_wire::{
    AccountId, BlobId, Code, ConversationId, DecodeError, MessageId,
    content::{Body, Content, Expiry},
    limits,
    name::Name,
};

use super::{Command, Core, Reply, Ticket, intents::not_member, query::no_message, target::Target};
use crate::{
    api::{Draft, MessageKind, State},
    error::Error,
    store::{Conversation, ConversationPhase, MessageRow, NewMessage},
};

/// Something to be said in a conversation.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) body: Body,
    pub(super) in_reply_to: Option<MessageId>,
    pub(super) replaces: Option<MessageId>,
    pub(super) expires: Option<Expiry>,
    /// What it says about its time is not before this, Unix milliseconds.
    pub(super) not_before_ms: u64,
    /// What it says about its time, Unix milliseconds; otherwise when it is written.
    pub(super) as_of_ms: Option<u64>,
}

impl Post {
    /// One that refers to no other and does not expire.
    pub(super) const fn new(body: Body) -> Self {
        Self { body, in_reply_to: None, replaces: None, expires: None, not_before_ms: 0, as_of_ms: None }
    }
}

impl Core {
    /// Takes a message from its writer: known contact, allowed, on disk.
    pub(super) fn write(&mut self, ticket: Ticket, to: String, draft: Draft) -> Result<(), Error> {
        self.signed_in()?;
        if draft.text.is_empty() {
            return Err(Error::new(Code::USAGE, "there is nothing to send"));
        }
        let post = Post { in_reply_to: draft.reply_to, expires: draft.expires, ..Post::new(Body::Text(draft.text.clone())) };
        // Before anybody is asked about: what is too long stays so.
        self.content_of(&post, Vec::new())?;
        let again = Command::Write { to: to.clone(), draft };
        let Some(target) = self.target(ticket, &to, again)? else { return Ok(()) };
        let conversation = self.conversation_of(target, post.in_reply_to.as_ref())?;
        let row = self.compose(&conversation, post)?;
        let message = self.shown_message(row, &conversation)?;
        self.reply(ticket, Ok(Reply::Message(message)));
        Ok(())
    }

    /// Makes an outgoing message of any body in a conversation. When the step is on disk it goes out by itself, also after a restart.
    pub(super) fn compose(&mut self, conversation: &Conversation, post: Post) -> Result<MessageRow, Error> {
        self.may_compose(conversation)?;
        let account = self.signed_in()?;
        let (me, device) = (account.account, account.device);
        let mentions = match &post.body {
            Body::Text(text) => self.mentions(conversation, text)?,
            Body::Attachment(attachment) => self.mentions(conversation, &attachment.text)?,
            _ => Vec::new(),
        };
        let content = self.content_of(&post, mentions)?;
        let bytes = content.to_bytes().map_err(Error::internal)?;
        let id = self.new_id();
        let (kind, body) = shown(&content);
        let row = MessageRow {
            sender: me,
            device,
            outgoing: true,
            hidden: kind.is_none(),
            reply_to: content.in_reply_to,
            sent_ms: content.sent_ms,
            state: State::Queued,
            shown: true,
            expires_ms: content.expires.map(|expires| expires.at_ms(self.now.unix_ms)),
            content: Some(bytes),
            ..MessageRow::new(id, conversation.id, kind.unwrap_or(MessageKind::Text), body)
        };
        self.store.add_message(&NewMessage { row: row.clone(), sealed: false })?;
        self.expires(row.expires_ms);
        self.session.dirty.insert(conversation.id);
        Ok(row)
    }

    /// The conversation of a target, made if it is not there. A message that is to be answered must be in it: the others could not tell
    /// what is meant.
    pub(super) fn conversation_of(&self, target: Target, answered: Option<&MessageId>) -> Result<Conversation, Error> {
        let id = match &target {
            Target::Group(group) => group.id,
            Target::Person(contact) => ConversationId::direct(&self.me()?, &contact.account),
        };
        if let Some(answered) = answered
            && self.store.position(&id, answered)?.is_none()
        {
            return Err(no_message(&format!("there is no message {answered} in this conversation; nothing was sent")));
        }
        match target {
            Target::Group(group) => Ok(group),
            Target::Person(contact) => self.store.direct_conversation(&id, &contact.account),
        }
    }

    /// Whether anything may be written into a conversation.
    fn may_compose(&self, conversation: &Conversation) -> Result<(), Error> {
        if conversation.phase == ConversationPhase::Stopped {
            return Err(Error::new(Code::SERVER_MISBEHAVED, "the conversation was stopped, because the server broke its log"));
        }
        if conversation.is_group() && conversation.phase == ConversationPhase::Removed {
            return Err(not_member(conversation));
        }
        let Some(peer) = conversation.peer else { return Ok(()) };
        match self.store.contact(&peer)? {
            Some(contact) if contact.blocked => {
                let message = format!("{} is blocked", self.name_of(&contact)?);
                Err(Error::new(Code::BLOCKED, message).hint("unblock the contact to write to it"))
            }
            _ => Ok(()),
        }
    }

    fn content_of(&self, post: &Post, mentions: Vec<AccountId>) -> Result<Content, Error> {
        let content = Content {
            in_reply_to: post.in_reply_to,
            replaces: post.replaces,
            expires: post.expires,
            mentions,
            ..Content::new(post.as_of_ms.unwrap_or(self.now.unix_ms.max(post.not_before_ms)), post.body.clone())
        };
        match content.to_bytes() {
            Ok(_) => Ok(content),
            Err(DecodeError::TooLong("message")) => {
                let len = if let Body::Text(text) = &post.body { text.len() } else { 0 };
                Err(Error::new(
                    Code::TOO_LARGE,
                    format!("the text has {len} bytes; a message may have {}", limits::MESSAGE_INLINE),
                )
                .hint("send it as a file, or in parts"))
            }
            Err(DecodeError::TooLong(what)) => Err(Error::new(Code::TOO_LARGE, format!("the {what} is longer than allowed"))),
            Err(DecodeError::Invalid(what)) => Err(Error::new(Code::USAGE, format!("this cannot be a {what}"))),
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// The accounts of a conversation that a text names as `@name`.
    pub(super) fn mentions(&self, conversation: &Conversation, text: &str) -> Result<Vec<AccountId>, Error> {
        let mut mentioned = Vec::new();
        if !text.contains('@') {
            return Ok(mentioned);
        }
        let (mut names, mut at_server) = (Vec::new(), Vec::new());
        for account in self.others_in(conversation)? {
            if let Some(contact) = self.store.contact(&account)? {
                names.extend(contact.petname.map(|petname| (petname, account)));
                at_server.push((contact.name, account));
            }
        }
        // As in a target, a petname goes first.
        names.extend(at_server);
        for word in words_after_at(text) {
            let Some(name) = candidates(word).find_map(|name| names.iter().find(|(other, _)| *other == name)) else { continue };
            if !mentioned.contains(&name.1) && mentioned.len() < limits::MENTIONS {
                mentioned.push(name.1);
            }
        }
        Ok(mentioned)
    }
}

/// How a content is kept: what kind of message it is (none for what is no part of the history) and its text.
pub(super) fn shown(content: &Content) -> (Option<MessageKind>, String) {
    match &content.body {
        Body::Text(text) if content.replaces.is_none() => (Some(MessageKind::Text), text.clone()),
        Body::Attachment(attachment) if content.replaces.is_none() => (Some(MessageKind::File), attachment.text.clone()),
        Body::Unknown { content_type, .. } => {
            let text = format!("A message holds something that this version cannot show ({content_type}).");
            (Some(MessageKind::Unknown), text)
        }
        _ => (None, String::new()),
    }
}

/// The blobs that a message names, for the server to keep as long as the message.
pub(super) fn blobs(content: &Content) -> Vec<BlobId> {
    match &content.body {
        Body::Attachment(attachment) => vec![attachment.blob],
        Body::History(offer) => vec![offer.blob],
        _ => Vec::new(),
    }
}

/// What stands behind every `@` that begins a word.
fn words_after_at(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('@').filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '@') {
            return None;
        }
        let rest = &text[at + 1..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))).unwrap_or(rest.len());
        // A name is no longer than this, so a longer word need not be looked at piece by piece.
        (end > 0 && end <= 2 * limits::NAME).then(|| &rest[..end])
    })
}

/// The word as a name, and shorter ones without the punctuation that ends a sentence.
fn candidates(word: &str) -> impl Iterator<Item = String> {
    std::iter::successors(Some(word), |word| word.strip_suffix(['.', '-', '_']))
        .filter_map(|word| Some(Name::parse(word).ok()?.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_people_write_them() {
        let words = |text| words_after_at(text).collect::<Vec<_>>();
        assert_eq!(words("@bob, (@carol) and\n@dave-2."), ["bob", "carol", "dave-2."]);
        assert_eq!(words("mail@example.org @ @@x @"), Vec::<&str>::new());
        assert_eq!(candidates("bob.").collect::<Vec<_>>().last().map(String::as_str), Some("bob"));
    }
}
