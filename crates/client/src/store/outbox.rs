//! The outbox: requests that go to the server byte for byte, in order, until it has answered.

use parlour_wire::{ConversationId, MessageId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::error::Error;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboxKind {
    /// An encrypted message; its text is in `messages`.
    Message = 0,
    /// An encrypted delivery report.
    Report = 1,
    /// A commit; the engine holds it as pending.
    Commit = 2,
    /// The statement that this account leaves a group.
    Leave = 3,
    /// An encrypted message to own devices; its content is in `own_outbox`.
    Own = 4,
}

/// An item.
#[derive(Clone, Debug)]
pub(crate) struct OutboxItem {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) kind: OutboxKind,
    /// Epoch of the ciphertext, or the commit's parent.
    pub(crate) epoch: u64,
    /// CBOR of the request.
    pub(crate) wire: Vec<u8>,
    /// Content of a report.
    pub(crate) clear: Option<Vec<u8>>,
}

const COLUMNS: &str = "id, conversation, kind, epoch, wire, clear";

fn read(row: &Row<'_>) -> rusqlite::Result<OutboxItem> {
    Ok(OutboxItem {
        id: MessageId(row.get(0)?),
        conversation: ConversationId(row.get(1)?),
        kind: match row.get::<_, i64>(2)? {
            0 => OutboxKind::Message,
            1 => OutboxKind::Report,
            2 => OutboxKind::Commit,
            3 => OutboxKind::Leave,
            _ => OutboxKind::Own,
        },
        epoch: uint(row.get(3)?),
        wire: row.get(4)?,
        clear: row.get(5)?,
    })
}

impl Store {
    pub(crate) fn enqueue(&self, item: &OutboxItem) -> Result<(), Error> {
        let sql = "INSERT INTO outbox (id, conversation, kind, epoch, wire, clear) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.conn.prepare_cached(sql)?.execute(params![
            item.id.0,
            item.conversation.0,
            item.kind as i64,
            int(item.epoch),
            item.wire,
            item.clear
        ])?;
        Ok(())
    }

    pub(crate) fn outbox_item(&self, id: &MessageId) -> Result<Option<OutboxItem>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM outbox WHERE id = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
    }

    /// The first items of a conversation.
    pub(crate) fn outbox_of(&self, conversation: &ConversationId, limit: usize) -> Result<Vec<OutboxItem>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM outbox WHERE conversation = ?1 ORDER BY position LIMIT ?2");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![conversation.0, limit as i64], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The conversations that have something to go out: items, messages to be encrypted, or reports.
    pub(crate) fn conversations_with_work(&self) -> Result<Vec<ConversationId>, Error> {
        let sql = "SELECT conversation FROM outbox UNION SELECT conversation FROM messages WHERE sealed = 0
            UNION SELECT conversation FROM reports UNION SELECT conversation FROM intents
            UNION SELECT id FROM conversations WHERE kind = 2 AND (EXISTS (SELECT 1 FROM own_registers WHERE told = 0)
                OR EXISTS (SELECT 1 FROM own_shown) OR EXISTS (SELECT 1 FROM own_outbox WHERE sealed = 0))";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| row.get(0).map(ConversationId))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The pending commit of a conversation.
    pub(crate) fn pending_commit(&self, conversation: &ConversationId) -> Result<Option<OutboxItem>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM outbox WHERE conversation = ?1 AND kind = 2 LIMIT 1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([conversation.0], read).optional()?)
    }

    pub(crate) fn dequeue(&self, id: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id.0])?;
        Ok(())
    }

    pub(crate) fn outbox_is_empty(&self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM outbox)";
        let busy: bool = self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(!busy)
    }
}
