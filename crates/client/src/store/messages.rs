//! Messages: written here, received, and said by this program.

use parlour_wire::{AccountId, ConversationId, DeviceId, MessageId};
use rusqlite::{OptionalExtension as _, Row, params, types::Value};

use super::{Store, int, uint};
use crate::{
    api::{MessageKind, Page, State},
    error::Error,
};

/// A message as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct MessageRow {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) sender: AccountId,
    pub(crate) device: DeviceId,
    pub(crate) outgoing: bool,
    pub(crate) kind: MessageKind,
    pub(crate) body: String,
    pub(crate) reply_to: Option<MessageId>,
    pub(crate) sent_ms: u64,
    pub(crate) stored_ms: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) state: State,
    pub(crate) shown: bool,
    /// Not part of the history.
    pub(crate) hidden: bool,
    /// CBOR of the content: of what is on its way, of files, and of what is not known.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) edited_ms: Option<u64>,
    pub(crate) deleted: bool,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) mentions_me: bool,
    /// Who shared it with this account, which was not there when it was written.
    pub(crate) shared_by: Option<AccountId>,
}

impl MessageRow {
    /// A row that says `body` and no more; to be filled in.
    pub(crate) fn new(id: MessageId, conversation: ConversationId, kind: MessageKind, body: String) -> Self {
        Self {
            id,
            conversation,
            sender: AccountId([0; 32]),
            device: DeviceId([0; 16]),
            outgoing: false,
            kind,
            body,
            reply_to: None,
            sent_ms: 0,
            stored_ms: None,
            seq: None,
            state: State::Delivered,
            shown: false,
            hidden: false,
            content: None,
            edited_ms: None,
            deleted: false,
            expires_ms: None,
            mentions_me: false,
            shared_by: None,
        }
    }
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) row: MessageRow,
    /// `false`: it is still to be encrypted.
    pub(crate) sealed: bool,
}

pub(super) const COLUMNS: &str =
    "id, conversation, sender, device, outgoing, kind, body, reply_to, sent_ms, stored_ms, seq, state, shown,
    hidden, content, edited_ms, deleted, expires_ms, mentions_me, shared_by";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        id: MessageId(row.get(0)?),
        conversation: ConversationId(row.get(1)?),
        sender: AccountId(row.get(2)?),
        device: DeviceId(row.get(3)?),
        outgoing: row.get(4)?,
        kind: kind_from_int(row.get(5)?),
        body: row.get(6)?,
        reply_to: row.get::<_, Option<[u8; 16]>>(7)?.map(MessageId),
        sent_ms: uint(row.get(8)?),
        stored_ms: row.get::<_, Option<i64>>(9)?.map(uint),
        seq: row.get::<_, Option<i64>>(10)?.map(uint),
        state: state_from_int(row.get(11)?),
        shown: row.get(12)?,
        hidden: row.get(13)?,
        content: row.get(14)?,
        edited_ms: row.get::<_, Option<i64>>(15)?.map(uint),
        deleted: row.get(16)?,
        expires_ms: row.get::<_, Option<i64>>(17)?.map(uint),
        mentions_me: row.get(18)?,
        shared_by: row.get::<_, Option<[u8; 32]>>(19)?.map(AccountId),
    })
}

/// The schema's triggers know 0 and 2 as what people wrote.
const fn kind_to_int(kind: MessageKind) -> i64 {
    match kind {
        MessageKind::Text => 0,
        MessageKind::System => 1,
        MessageKind::File => 2,
        MessageKind::Unknown => 3,
    }
}

const fn kind_from_int(value: i64) -> MessageKind {
    match value {
        0 => MessageKind::Text,
        1 => MessageKind::System,
        2 => MessageKind::File,
        _ => MessageKind::Unknown,
    }
}

pub(super) fn state_from_int(value: i64) -> State {
    match value {
        -1 => State::Failed,
        0 => State::Queued,
        1 => State::Stored,
        2 => State::Delivered,
        _ => State::Read,
    }
}

impl Store {
    /// Stores a message; `false` if one of this id is there already.
    pub(crate) fn add_message(&self, message: &NewMessage) -> Result<bool, Error> {
        self.add_message_at(None, message)
    }

    /// The same at a position, or after all that are here.
    pub(crate) fn add_message_at(&self, position: Option<i64>, message: &NewMessage) -> Result<bool, Error> {
        let sql = "INSERT OR IGNORE INTO messages
            (id, conversation, sender, device, outgoing, kind, body, reply_to, sent_ms, stored_ms, seq, state, shown, sealed,
             hidden, content, edited_ms, deleted, expires_ms, mentions_me, shared_by, position)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
        let row = &message.row;
        let added = self.conn.prepare_cached(sql)?.execute(params![
            row.id.0,
            row.conversation.0,
            row.sender.0,
            row.device.0,
            row.outgoing,
            kind_to_int(row.kind),
            row.body,
            row.reply_to.map(|id| id.0),
            int(row.sent_ms),
            row.stored_ms.map(int),
            row.seq.map(int),
            row.state as i64,
            row.shown,
            message.sealed,
            row.hidden,
            row.content,
            row.edited_ms.map(int),
            row.deleted,
            row.expires_ms.map(int),
            row.mentions_me,
            row.shared_by.map(|account| account.0),
            position,
        ])?;
        if added == 1 {
            self.added(self.conn.last_insert_rowid())?;
        }
        Ok(added == 1)
    }

    pub(crate) fn message(&self, id: &MessageId) -> Result<Option<MessageRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE id = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
    }

    /// Whether this program has said this in a conversation before.
    pub(crate) fn has_said(&self, conversation: &ConversationId, text: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM messages WHERE conversation = ?1 AND kind = 1 AND body = ?2 LIMIT 1";
        Ok(self.conn.prepare_cached(sql)?.query_row(params![conversation.0, text], |_| Ok(())).optional()?.is_some())
    }

    /// Messages of a conversation that are still to be encrypted, oldest first.
    pub(crate) fn unsealed(&self, conversation: &ConversationId, limit: usize) -> Result<Vec<MessageRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE conversation = ?1 AND sealed = 0 ORDER BY position LIMIT ?2");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![conversation.0, limit as i64], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(crate) fn set_sealed(&self, id: &MessageId, sealed: bool) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE messages SET sealed = ?2 WHERE id = ?1")?.execute(params![id.0, sealed])?;
        Ok(())
    }

    /// Where the server has put a message of ours.
    pub(crate) fn set_stored(&self, id: &MessageId, seq: u64, stored_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE messages SET seq = ?2, stored_ms = ?3, sealed = 1 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, int(seq), int(stored_ms)])?;
        Ok(())
    }

    /// Moves a message of ours forward; whether that changed anything.
    pub(crate) fn advance(&self, id: &MessageId, state: State) -> Result<bool, Error> {
        let sql = "UPDATE messages SET state = ?2 WHERE id = ?1 AND outgoing = 1 AND state < ?2";
        Ok(self.conn.prepare_cached(sql)?.execute(params![id.0, state as i64])? == 1)
    }

    /// A message of ours will never be sent.
    pub(crate) fn set_failed(&self, id: &MessageId) -> Result<(), Error> {
        let sql = "UPDATE messages SET state = ?2, sealed = 1 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, State::Failed as i64])?;
        Ok(())
    }

    /// Marks a received message as shown; whether it was not before.
    pub(crate) fn set_shown(&self, id: &MessageId) -> Result<bool, Error> {
        let sql = "UPDATE messages SET shown = 1 WHERE id = ?1 AND shown = 0";
        Ok(self.conn.prepare_cached(sql)?.execute([id.0])? == 1)
    }

    pub(crate) fn unshown(&self, from: Option<&ConversationId>, limit: u32) -> Result<Vec<MessageRow>, Error> {
        let filter = if from.is_some() { "AND conversation = ?2" } else { "AND ?2 IS NULL" };
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE shown = 0 {filter} ORDER BY position LIMIT ?1");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![limit, from.map(|id| id.0)], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// A page of a history, oldest first; `None` if a bound is not in it.
    pub(crate) fn history(&self, conversation: &ConversationId, page: &Page) -> Result<Option<Vec<MessageRow>>, Error> {
        let (mut low, mut high) = (i64::MIN, i64::MAX);
        for (bound, place) in [(page.after, &mut low), (page.before, &mut high)] {
            if let Some(id) = bound {
                match self.position(conversation, &id)? {
                    Some(position) => *place = position,
                    None => return Ok(None),
                }
            }
        }
        let oldest_first = page.after.is_some() && page.before.is_none();
        let order = if oldest_first { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT {COLUMNS} FROM messages WHERE conversation = ?1 AND hidden = 0 AND position > ?2 AND position < ?3
             ORDER BY position {order} LIMIT ?4"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let bounds = params![conversation.0, Value::Integer(low), Value::Integer(high), page.limit];
        let mut rows = statement.query_map(bounds, read)?.collect::<Result<Vec<_>, _>>()?;
        if !oldest_first {
            rows.reverse();
        }
        Ok(Some(rows))
    }

    /// The place of a message in the history here.
    pub(crate) fn position(&self, conversation: &ConversationId, id: &MessageId) -> Result<Option<i64>, Error> {
        let sql = "SELECT position FROM messages WHERE id = ?1 AND conversation = ?2 AND hidden = 0";
        Ok(self.conn.prepare_cached(sql)?.query_row(params![id.0, conversation.0], |row| row.get(0)).optional()?)
    }

    /// The message whose id begins with these hexadecimal digits; at most two, because two are too many.
    pub(crate) fn message_ids(&self, low: &[u8; 16], high: &[u8; 16]) -> Result<Vec<MessageId>, Error> {
        let sql = "SELECT id FROM messages WHERE id BETWEEN ?1 AND ?2 AND hidden = 0 LIMIT 2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![low, high], |row| row.get(0).map(MessageId))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The newest message of a conversation, and how many have not been shown.
    pub(crate) fn newest(&self, conversation: &ConversationId) -> Result<(Option<MessageRow>, u64), Error> {
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE conversation = ?1 AND hidden = 0 ORDER BY position DESC LIMIT 1");
        let newest = self.conn.prepare_cached(&sql)?.query_row([conversation.0], read).optional()?;
        let sql = "SELECT count(*) FROM messages WHERE conversation = ?1 AND shown = 0";
        let unshown: i64 = self.conn.prepare_cached(sql)?.query_row([conversation.0], |row| row.get(0))?;
        Ok((newest, uint(unshown)))
    }

    /// Messages of a conversation that have not been shown, up to a place.
    pub(crate) fn unshown_until(&self, conversation: &ConversationId, position: i64) -> Result<Vec<MessageId>, Error> {
        let sql = "SELECT id FROM messages WHERE conversation = ?1 AND shown = 0 AND position <= ?2 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![conversation.0, position], |row| row.get(0).map(MessageId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a message has been encrypted.
    pub(crate) fn is_sealed(&self, id: &MessageId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("SELECT sealed FROM messages WHERE id = ?1")?.query_row([id.0], |row| row.get(0))?)
    }
}
