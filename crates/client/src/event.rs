//! What the SDK tells without being asked.

use std::time::Duration;

use parlour_wire::{AccountId, ConversationId, MessageId};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    api::{Message, Presence, State, WhoAmI},
    error::Error,
};

/// Something happened. Events are told after what they tell is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server is reached and this device is authenticated.
    Online {
        /// The session survived a loss of its connection; nothing has to be read again.
        resumed: bool,
    },
    /// The connection is lost or could not be made.
    Offline {
        /// Why.
        error: Error,
        /// When the next try begins, if there is one.
        retry_in: Option<Duration>,
    },
    /// This profile has an account.
    SignedIn(WhoAmI),
    /// This device is no longer part of its account.
    SignedOut {
        /// Why.
        reason: Error,
    },
    /// A message has been stored: received, or written by this account on another device.
    Message(Message),
    /// Something about a message is different: it was edited, deleted or reacted to.
    MessageChanged(Message),
    /// A message's time was over; nothing of it is left.
    MessageGone {
        /// Where it was.
        conversation: ConversationId,
        /// Which.
        id: MessageId,
    },
    /// Somebody types. It holds for a few seconds, or until a message of theirs comes.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        account: AccountId,
    },
    /// Somebody says something else about themselves.
    ProfileChanged {
        /// Who.
        account: AccountId,
    },
    /// A message of this account has come further.
    MessageState {
        /// Which.
        id: MessageId,
        /// How far.
        state: State,
    },
    /// A message of this account will never be sent.
    MessageFailed {
        /// Which.
        id: MessageId,
        /// Why.
        error: Error,
    },
    /// A file has come further on its way. Told now and then, and not kept.
    FileProgress {
        /// Of which message.
        message: MessageId,
        /// It goes to the server; otherwise it comes from there.
        up: bool,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Somebody came or went.
    Presence {
        /// Who.
        account: AccountId,
        /// Whether they are there.
        presence: Presence,
        /// When they were last there, Unix milliseconds.
        seen_ms: u64,
    },
    /// The members, roles, name or policy of a group changed, or this account came in or went.
    GroupChanged {
        /// Which.
        conversation: ConversationId,
        /// Its name, without the `#`, if it is known.
        name: Option<String>,
    },
    /// The list of contacts, or something about one, changed.
    ContactsChanged,
    /// The devices of an account changed.
    DevicesChanged {
        /// Whose.
        account: AccountId,
    },
    /// The server says that a contact's name belongs to another key. Nothing is sent to it until the owner decides.
    KeyChanged {
        /// The name.
        name: String,
        /// The account that was known by it.
        known: AccountId,
        /// The account that the server names.
        claimed: AccountId,
    },
    /// Messages that were new here have been shown on another device of the account.
    ShownElsewhere {
        /// Which.
        messages: Vec<MessageId>,
    },
    /// The unsent text of a conversation is another one.
    DraftChanged {
        /// Where.
        conversation: ConversationId,
    },
    /// A part of the account's earlier history is here.
    HistoryTaken {
        /// How many messages of it are new here.
        messages: u64,
        /// It comes from the backup, not from another device.
        from_backup: bool,
    },
    /// Earlier messages of a group have come from the member that brought this account in.
    HistoryShared {
        /// Which group.
        conversation: ConversationId,
        /// Who shares them.
        by: AccountId,
        /// How many of them are new here.
        messages: u64,
    },
    /// The account's backup is being taken in. Whether the server has a newer one cannot be known, so its time is worth showing.
    RestoringBackup {
        /// Its number.
        version: u64,
        /// When it was made, Unix milliseconds.
        made_ms: u64,
        /// Packs in it.
        packs: usize,
    },
    /// Everything that the server had is here, and the outbox has been tried.
    Synced,
    /// Something went wrong that no call can answer for.
    Trouble(Error),
    /// The listener was too slow and this many events are gone; ask again for what matters.
    Missed(u64),
}

/// A listener. Events from before it was made are not in it.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// Waits for the next event; `None` once the client is closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
