//! What can be done with messages beyond sending text; and profiles, settings, search, import.

use parlour_wire::{ConversationId, MessageId, limits};

use super::{Client, files};
use crate::{
    api::{
        ConversationSummary, Draft, Imported, ImportedContact, Message, Page, PersonalProfile, Posted, ProfileChange, Settings,
        Taken,
    },
    core::{Command, Reply},
    error::Error,
};

impl Client {
    /// Writes to somebody, with all that a message can have. When this returns, the message is safe on disk and goes out as soon as it can.
    /// A text that no message holds goes as a file, as [`Self::send`] says.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub async fn write(&self, to: &str, draft: Draft) -> Result<Message, Error> {
        if draft.text.len() > limits::MESSAGE_INLINE {
            return files::write_long(self, to, draft).await;
        }
        reply!(self.ask(Command::Write { to: to.to_owned(), draft }).await, Reply::Message(message) => message)
    }

    /// Puts an emoji beside a message; once, however often this is asked.
    ///
    /// # Errors
    /// `message_not_found`; `usage` for what is no reaction: empty, with spaces, longer than 64 bytes; `forbidden` for what the program said.
    pub async fn react(&self, id: MessageId, emoji: &str) -> Result<Posted, Error> {
        let command = Command::React { id, emoji: emoji.to_owned(), remove: false };
        reply!(self.ask(command).await, Reply::Posted(posted) => posted)
    }

    /// Takes an emoji of one's own away.
    ///
    /// # Errors
    /// `message_not_found`, also if there is no such reaction.
    pub async fn unreact(&self, id: MessageId, emoji: &str) -> Result<Posted, Error> {
        let command = Command::React { id, emoji: emoji.to_owned(), remove: true };
        reply!(self.ask(command).await, Reply::Posted(posted) => posted)
    }

    /// Changes what a message of one's own says, or the text beside a file. It keeps its place and time.
    ///
    /// # Errors
    /// `message_not_found`; `forbidden` for somebody else's; `too_large`, `usage` for no text.
    pub async fn edit(&self, id: MessageId, text: &str) -> Result<Posted, Error> {
        reply!(self.ask(Command::Edit { id, text: text.to_owned() }).await, Reply::Posted(posted) => posted)
    }

    /// Takes back a message of one's own: everybody keeps only that there was one. One that has not left this device never does.
    ///
    /// # Errors
    /// `message_not_found`; `forbidden` for somebody else's.
    pub async fn delete(&self, id: MessageId) -> Result<Posted, Error> {
        reply!(self.ask(Command::Delete(id)).await, Reply::Posted(posted) => posted)
    }

    /// Lets those who are online know that the owner of this profile types; at most once in three seconds in a conversation, and nothing is
    /// kept of it. Call it as keys are pressed.
    ///
    /// # Errors
    /// `user_not_found`, `conversation_not_found`.
    pub async fn typing(&self, to: &str) -> Result<(), Error> {
        self.done(Command::Typing(to.to_owned())).await
    }

    /// Notes that a conversation has been shown, up to a message or all of it.
    ///
    /// # Errors
    /// `user_not_found`, `message_not_found`.
    pub async fn mark_read(&self, to: &str, up_to: Option<MessageId>) -> Result<(), Error> {
        self.done(Command::MarkRead { to: to.to_owned(), up_to }).await
    }

    /// Which conversation a name means.
    ///
    /// # Errors
    /// `user_not_found`, `conversation_not_found`.
    pub async fn conversation_with(&self, to: &str) -> Result<ConversationId, Error> {
        reply!(self.ask(Command::Target(to.to_owned())).await, Reply::Conversation(conversation) => conversation)
    }

    /// A part of the history of a conversation, oldest first.
    ///
    /// # Errors
    /// `message_not_found` for a bound that is not in this history.
    pub async fn history_of(&self, conversation: ConversationId, page: Page) -> Result<Vec<Message>, Error> {
        reply!(self.ask(Command::Page { conversation, page }).await, Reply::Messages(messages) => messages)
    }

    /// The conversations, the one with the newest message first.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn conversations(&self) -> Result<Vec<ConversationSummary>, Error> {
        reply!(self.ask(Command::Conversations).await, Reply::Conversations(conversations) => conversations)
    }

    /// Messages that hold every word of `text`, whatever case and accents, newest first. The last word may be the beginning of one,
    /// unless a space follows it. Only what is here is searched.
    ///
    /// # Errors
    /// `user_not_found` for `within`.
    pub async fn search(&self, text: &str, within: Option<&str>, limit: u32) -> Result<Vec<Message>, Error> {
        let command = Command::Search { text: text.to_owned(), within: within.map(str::to_owned), limit };
        reply!(self.ask(command).await, Reply::Messages(messages) => messages)
    }

    /// The message whose id begins with `prefix`.
    ///
    /// # Errors
    /// `message_not_found`; `usage` if more than one does.
    pub async fn find_message(&self, prefix: &str) -> Result<MessageId, Error> {
        reply!(self.ask(Command::Find(prefix.to_owned())).await, Reply::Found(id) => id)
    }

    /// What somebody says about themselves; `None` asks about the owner of this profile.
    ///
    /// # Errors
    /// `user_not_found`, `profile_not_found` without an account.
    pub async fn profile(&self, to: Option<&str>) -> Result<PersonalProfile, Error> {
        reply!(self.ask(Command::Profile(to.map(str::to_owned))).await, Reply::Profile(profile) => profile)
    }

    /// Changes what is said about the owner of this profile, and tells it in every conversation, encrypted like any message.
    ///
    /// # Errors
    /// `too_large`; `usage` for a name or status of several lines; `profile_not_found` without an account.
    pub async fn set_profile(&self, change: ProfileChange) -> Result<PersonalProfile, Error> {
        reply!(self.ask(Command::SetProfile(change)).await, Reply::Profile(profile) => profile)
    }

    /// What the owner has chosen.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn settings(&self) -> Result<Settings, Error> {
        reply!(self.ask(Command::Settings).await, Reply::Settings(settings) => settings)
    }

    /// Chooses whether others are told that their messages have been shown.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn set_read_receipts(&self, on: bool) -> Result<(), Error> {
        self.done(Command::SetReadReceipts(on)).await
    }

    /// Chooses whether others are told that their messages have arrived. If not, these stay `stored` for their senders until they are
    /// told that they have been shown.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn set_delivery_receipts(&self, on: bool) -> Result<(), Error> {
        self.done(Command::SetDeliveryReceipts(on)).await
    }

    /// One message.
    ///
    /// # Errors
    /// `message_not_found`.
    pub async fn message(&self, id: MessageId) -> Result<Message, Error> {
        reply!(self.ask(Command::Message(id)).await, Reply::Message(message) => message)
    }

    /// Takes in what the owner said about people, from an export; what has been said here stays. Returns of how many something was new.
    ///
    /// # Errors
    /// `profile_not_found` without an account, `disk_full`.
    pub async fn import_contacts(&self, contacts: Vec<ImportedContact>) -> Result<u64, Error> {
        reply!(self.ask(Command::ImportContacts(contacts)).await, Reply::Count(changed) => changed)
    }

    /// Takes in messages from an export, in one transaction; nobody is told. Returns how many of them and of their files were new.
    ///
    /// # Errors
    /// `profile_not_found` without an account, `disk_full`; `file_not_found` and its like for a file that cannot be read, and then
    /// none of these messages is taken in.
    pub async fn import(&self, messages: Vec<Imported>) -> Result<Taken, Error> {
        let kept = files::keep(self, &messages).await?;
        let files = kept.len() as u64;
        reply!(self.ask(Command::Import(messages, kept)).await, Reply::Count(messages) => Taken { messages, files })
    }
}
