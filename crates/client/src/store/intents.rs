//! Intents: what the owner of this profile wants changed about a group. A row stays until a commit with the server's receipt has
//! done it, or it is refused for good.

use parlour_e2ee::HistoryPolicy;
use parlour_wire::{AccountId, ConversationId, MessageId, api::Role};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{
    Store,
    conversations::{history_from_int, history_to_int},
};
use crate::error::Error;

/// A change that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Make the group, with these members beside this account.
    Create {
        name: String,
        members: Vec<AccountId>,
        history: HistoryPolicy,
    },
    Add(Vec<AccountId>),
    Remove(Vec<AccountId>),
    Role(Vec<AccountId>, Role),
    Rename(String),
    History(HistoryPolicy),
    Leave,
}

/// An intent as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct IntentRow {
    pub(crate) id: i64,
    pub(crate) conversation: ConversationId,
    pub(crate) intent: Intent,
    /// The entry in the outbox that is to do it.
    pub(crate) entry: Option<MessageId>,
}

const COLUMNS: &str = "id, conversation, kind, accounts, name, value, entry";

fn read(row: &Row<'_>) -> rusqlite::Result<IntentRow> {
    let accounts: Vec<u8> = row.get(3)?;
    let accounts = || accounts.chunks_exact(AccountId::LEN).filter_map(|id| AccountId::try_from(id).ok()).collect();
    let name = || row.get::<_, Option<String>>(4).map(Option::unwrap_or_default);
    let value: i64 = row.get(5)?;
    let intent = match row.get::<_, i64>(2)? {
        0 => Intent::Create { name: name()?, members: accounts(), history: history_from_int(value) },
        1 => Intent::Add(accounts()),
        2 => Intent::Remove(accounts()),
        3 => Intent::Role(accounts(), Role(u8::try_from(value).unwrap_or_default())),
        4 => Intent::Rename(name()?),
        5 => Intent::History(history_from_int(value)),
        _ => Intent::Leave,
    };
    Ok(IntentRow {
        id: row.get(0)?,
        conversation: ConversationId(row.get(1)?),
        intent,
        entry: row.get::<_, Option<[u8; 16]>>(6)?.map(MessageId),
    })
}

impl Store {
    /// Keeps an intent; gives its number.
    pub(crate) fn add_intent(&self, conversation: &ConversationId, intent: &Intent) -> Result<i64, Error> {
        let none: &[AccountId] = &[];
        let (kind, accounts, name, value) = match intent {
            Intent::Create { name, members, history } => (0, members.as_slice(), Some(name), history_to_int(*history)),
            Intent::Add(accounts) => (1, accounts.as_slice(), None, 0),
            Intent::Remove(accounts) => (2, accounts.as_slice(), None, 0),
            Intent::Role(accounts, role) => (3, accounts.as_slice(), None, i64::from(role.0)),
            Intent::Rename(name) => (4, none, Some(name), 0),
            Intent::History(history) => (5, none, None, history_to_int(*history)),
            Intent::Leave => (6, none, None, 0),
        };
        let accounts: Vec<u8> = accounts.iter().flat_map(|account| account.0).collect();
        let sql = "INSERT INTO intents (conversation, kind, accounts, name, value) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute(params![conversation.0, kind, accounts, name, value])?;
        Ok(self.conn.last_insert_rowid())
    }

    /// The intent of a conversation whose turn it is.
    pub(crate) fn first_intent(&self, conversation: &ConversationId) -> Result<Option<IntentRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM intents WHERE conversation = ?1 ORDER BY id LIMIT 1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([conversation.0], read).optional()?)
    }

    /// The intent that an entry is to do.
    pub(crate) fn intent_of(&self, entry: &MessageId) -> Result<Option<IntentRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM intents WHERE entry = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([entry.0], read).optional()?)
    }

    /// Notes which entry is to do an intent; `None` if none is under way any more.
    pub(crate) fn set_intent_entry(&self, id: i64, entry: Option<&MessageId>) -> Result<(), Error> {
        let entry = entry.map(|entry| entry.0);
        self.conn.prepare_cached("UPDATE intents SET entry = ?2 WHERE id = ?1")?.execute(params![id, entry])?;
        Ok(())
    }

    /// An entry has been given up: the intent that it was for needs another.
    pub(crate) fn detach_intent(&self, entry: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE intents SET entry = NULL WHERE entry = ?1")?.execute([entry.0])?;
        Ok(())
    }

    pub(crate) fn drop_intent(&self, id: i64) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM intents WHERE id = ?1")?.execute([id])?;
        Ok(())
    }
}
