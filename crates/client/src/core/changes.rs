//! Changing messages: reactions, edits, deletes of the owner of this profile. They take effect here at once and go out like any message.

use std::collections::BTreeSet;

use parlour_wire::{
    Code, MessageId,
    content::{Body, Content},
};

use super::{Core, Reply, Ticket, compose::Post, query::no_message};
use crate::{
    api::{MessageKind, Posted, State},
    error::Error,
    store::{Conversation, MessageRow, ReactionRow},
};

impl Core {
    /// A message of the history that can be changed.
    fn changeable(&self, id: &MessageId) -> Result<(MessageRow, Conversation), Error> {
        let row = self.store.message(id)?.filter(|row| !row.hidden);
        let row = row.ok_or_else(|| no_message(&format!("there is no message {id}")))?;
        if row.kind == MessageKind::System {
            let error = Error::new(Code::FORBIDDEN, "this was said by the program, not by a person");
            return Err(error.hint("it stays as it is"));
        }
        if row.deleted {
            return Err(no_message("the message has been deleted"));
        }
        let conversation = self.store.conversation(&row.conversation)?;
        Ok((row, conversation.ok_or_else(|| Error::internal("a message without a conversation"))?))
    }

    /// The same for one that its author only may change.
    fn own(&self, id: &MessageId) -> Result<(MessageRow, Conversation), Error> {
        let (row, conversation) = self.changeable(id)?;
        if row.outgoing {
            return Ok((row, conversation));
        }
        let error = Error::new(Code::FORBIDDEN, "only who wrote a message can change or delete it");
        Err(error.hint("`send --reply ID` answers it, `react ID` puts an emoji beside it"))
    }

    pub(super) fn react(&mut self, ticket: Ticket, id: &MessageId, emoji: &str, remove: bool) -> Result<(), Error> {
        let me = self.me()?;
        let (row, conversation) = self.changeable(id)?;
        can_be_referred_to(&row)?;
        let same = self.store.reactions(id)?.into_iter().filter(|reaction| reaction.sender == me && reaction.emoji == emoji);
        let same: Vec<_> = same.collect();
        let mut posts = Vec::new();
        if remove {
            if same.is_empty() {
                return Err(no_message(&format!("there is no reaction {emoji} of yours to this message")));
            }
            for reaction in same {
                let post = Post { replaces: Some(reaction.id), ..Post::new(Body::Deleted) };
                posts.push(self.compose(&conversation, post)?.id);
                self.store.remove_reaction(&reaction.id)?;
            }
            self.changed(id)?;
        } else if same.is_empty() {
            let post = Post { in_reply_to: Some(*id), ..Post::new(Body::Reaction(emoji.to_owned())) };
            let post = self.compose(&conversation, post)?.id;
            self.react_to(ReactionRow { id: post, message: *id, sender: me, emoji: emoji.to_owned() })?;
            posts.push(post);
        }
        self.reply_posted(ticket, id, posts)
    }

    pub(super) fn edit(&mut self, ticket: Ticket, id: &MessageId, text: &str) -> Result<(), Error> {
        let (row, conversation) = self.own(id)?;
        can_be_referred_to(&row)?;
        if row.kind == MessageKind::Unknown {
            let error = Error::new(Code::FORBIDDEN, "this version does not know what the message holds, so it cannot change it");
            return Err(error.hint("change it on the device on which it was written"));
        }
        if text.is_empty() && row.kind == MessageKind::Text {
            return Err(Error::new(Code::USAGE, "a message cannot be changed to nothing").hint("take it back with `delete`"));
        }
        let expires = row.expires_ms.map(|at| parlour_wire::content::Expiry::At(u32::try_from(at / 1000).unwrap_or(u32::MAX)));
        // Later than the edit that its writer saw, whichever device's clock made that: the later one is what all end up with.
        let not_before_ms = row.edited_ms.map_or(0, |at| at + 1);
        let post = Post { replaces: Some(*id), expires, not_before_ms, ..Post::new(Body::Text(text.to_owned())) };
        let post = self.compose(&conversation, post)?;
        self.store.set_edited(id, text, post.sent_ms, false)?;
        let post = post.id;
        self.changed(id)?;
        self.reply_posted(ticket, id, vec![post])
    }

    /// Takes a message back. What has not been encrypted yet never goes out.
    pub(super) fn delete(&mut self, ticket: Ticket, id: &MessageId) -> Result<(), Error> {
        let (row, conversation) = self.own(id)?;
        let mut posts = Vec::new();
        // One whose file is still going up, or never will, is known to nobody.
        if !self.drop_upload(id)? && row.state != State::Failed && self.store.is_sealed(id)? {
            let post = Post { replaces: Some(*id), ..Post::new(Body::Deleted) };
            posts.push(self.compose(&conversation, post)?.id);
        } else {
            self.store.set_sealed(id, true)?;
            self.withdraw_changes(id, &conversation)?;
        }
        self.erase_kept(id)?;
        self.store.set_deleted(id)?;
        self.changed(id)?;
        self.reply_posted(ticket, id, posts)
    }

    /// What was still to be said about a message that nobody will hear of is not said either: an edit holds its text.
    fn withdraw_changes(&mut self, id: &MessageId, conversation: &Conversation) -> Result<(), Error> {
        let mut gone = BTreeSet::from([*id]);
        for (change, content) in self.store.unsealed_changes(&conversation.id)? {
            let Ok(content) = Content::from_bytes(&content) else { continue };
            let reacts = content.in_reply_to.filter(|_| matches!(content.body, Body::Reaction(_)));
            if content.replaces.or(reacts).is_some_and(|about| gone.contains(&about)) {
                self.store.set_sealed(&change, true)?;
                self.store.set_deleted(&change)?;
                gone.insert(change);
            }
        }
        Ok(())
    }

    fn reply_posted(&mut self, ticket: Ticket, id: &MessageId, posts: Vec<MessageId>) -> Result<(), Error> {
        let (row, conversation) = match self.store.message(id)? {
            Some(row) => {
                let conversation = self.store.conversation(&row.conversation)?;
                (row, conversation.ok_or_else(|| Error::internal("a message without a conversation"))?)
            }
            None => return Err(no_message(&format!("there is no message {id}"))),
        };
        let message = self.shown_message(row, &conversation)?;
        self.reply(ticket, Ok(Reply::Posted(Posted { message, posts })));
        Ok(())
    }
}

/// Others know only of what was sent, or will be.
fn can_be_referred_to(row: &MessageRow) -> Result<(), Error> {
    if row.state == State::Failed {
        return Err(no_message("nobody has the message, because it was never sent").hint("send it again"));
    }
    Ok(())
}
