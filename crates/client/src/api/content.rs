//! Types of what messages say beside text, and of what hangs on conversations.

use parlour_wire::{AccountId, ConversationId, MessageId, content::Expiry};

use super::{ImportedFile, Message, MessageKind, State};

/// A message to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// CommonMark. `@name` of somebody in the conversation mentions them.
    pub text: String,
    /// The message that this one answers.
    pub reply_to: Option<MessageId>,
    /// When it is to be deleted everywhere.
    pub expires: Option<Expiry>,
}

/// An emoji beside a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Whose.
    pub account: AccountId,
    /// Their name as it is to be shown.
    pub from: String,
}

/// A message after something about it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// As it is now.
    pub message: Message,
    /// The posts that carry the change to the others, each with a state of its own ([`crate::Client::wait_state`]); none if nothing had to
    /// be said.
    pub posts: Vec<MessageId>,
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSummary {
    /// Which.
    pub conversation: ConversationId,
    /// The other account of a direct one.
    pub peer: Option<AccountId>,
    /// The peer's name, or the group's with its `#`, as it is to be shown.
    pub name: String,
    /// The newest message.
    pub last: Option<Message>,
    /// Messages that have not been shown.
    pub unread: u64,
}

/// What an account says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonalProfile {
    /// How they would like to be called; may be empty.
    pub display_name: String,
    /// One line about themselves; may be empty.
    pub status: String,
    /// A picture.
    pub avatar: Option<Vec<u8>>,
    /// When they said so, Unix milliseconds; 0 if never.
    pub updated_ms: u64,
}

/// What is to change of one's own profile; the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// The display name, empty for none.
    pub display_name: Option<String>,
    /// The status, empty for none.
    pub status: Option<String>,
    /// The picture.
    pub avatar: Option<Avatar>,
}

/// What becomes of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Avatar {
    /// It is taken away.
    Remove,
    /// It is replaced by this one, PNG, JPEG or WebP.
    Set(Vec<u8>),
}

/// What the owner of a profile has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether others are told that their messages have been shown.
    pub read_receipts: bool,
    /// Whether others are told that their messages have arrived.
    pub delivery_receipts: bool,
}

/// Where an imported message was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedPlace {
    /// In the direct conversation with this account.
    Direct {
        /// Who.
        peer: AccountId,
        /// Their name at the server; may be empty.
        name: String,
    },
    /// In a group. One that this account is not in becomes one that it has left.
    Group {
        /// Which.
        conversation: ConversationId,
        /// Its name, without the `#`.
        name: String,
    },
}

/// A message from an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its id.
    pub id: MessageId,
    /// Where it was written.
    pub place: ImportedPlace,
    /// The account that wrote it; not looked at if it is the owner's own.
    pub sender: AccountId,
    /// That account's name; may be empty.
    pub sender_name: String,
    /// Whether the owner of the profile wrote it.
    pub outgoing: bool,
    /// What it is.
    pub kind: MessageKind,
    /// What it says.
    pub text: String,
    /// Its file, if it carries one.
    pub file: Option<ImportedFile>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// When its sender wrote it, Unix milliseconds.
    pub sent_ms: u64,
    /// When the server stored it, Unix milliseconds.
    pub stored_ms: Option<u64>,
    /// When it was last changed, Unix milliseconds.
    pub edited_ms: Option<u64>,
    /// It was taken back.
    pub deleted: bool,
    /// When it is to be deleted, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How far it had come.
    pub state: State,
    /// Emojis beside it, with the accounts.
    pub reactions: Vec<(AccountId, String)>,
    /// The member of the group that shared it with the owner, who was not there when it was written, with their name, which may be
    /// empty.
    pub shared_by: Option<(AccountId, String)>,
}

/// What the owner said about somebody, from an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedContact {
    /// Who it is.
    pub account: AccountId,
    /// Their name at the server; may be empty.
    pub name: String,
    /// What the owner called them. Not taken over if somebody goes by it already.
    pub petname: Option<String>,
    /// Whether they were refused.
    pub blocked: bool,
}

/// What an import brought that was not here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Messages.
    pub messages: u64,
    /// Files.
    pub files: u64,
}
