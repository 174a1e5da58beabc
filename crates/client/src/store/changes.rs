//! What changes messages after they were written: reactions, edits, deletes, expiry. What comes before its target waits in `pending`.

use parlour_wire::{AccountId, ConversationId, MessageId};
use rusqlite::{OptionalExtension as _, params};

use super::{Store, int, uint};
use crate::error::Error;

/// Changes of one conversation that may wait for their targets; beyond it the oldest go.
const PENDING: i64 = 1000;

/// A reaction.
#[derive(Clone, Debug)]
pub(crate) struct ReactionRow {
    pub(crate) id: MessageId,
    pub(crate) message: MessageId,
    pub(crate) sender: AccountId,
    pub(crate) emoji: String,
}

/// A change that waits for its target.
#[derive(Clone, Debug)]
pub(crate) struct PendingChange {
    pub(crate) id: MessageId,
    pub(crate) target: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) sender: AccountId,
    /// CBOR of its content.
    pub(crate) content: Vec<u8>,
    pub(crate) stored_ms: u64,
}

/// A message whose time is over.
pub(crate) struct Expired {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    /// It is still to be encrypted.
    pub(crate) unsealed: bool,
    /// It is on its way to the server, so its entry may still come.
    pub(crate) under_way: bool,
}

impl Store {
    pub(crate) fn add_reaction(&self, reaction: &ReactionRow) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO reactions (id, message, sender, emoji) VALUES (?1, ?2, ?3, ?4)";
        let values = params![reaction.id.0, reaction.message.0, reaction.sender.0, reaction.emoji];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The reactions to a message, oldest first.
    pub(crate) fn reactions(&self, message: &MessageId) -> Result<Vec<ReactionRow>, Error> {
        let sql = "SELECT id, sender, emoji FROM reactions WHERE message = ?1 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([message.0], |row| {
            Ok(ReactionRow { id: MessageId(row.get(0)?), message: *message, sender: AccountId(row.get(1)?), emoji: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many reactions a message has from one account.
    pub(crate) fn reactions_from(&self, message: &MessageId, sender: &AccountId) -> Result<u64, Error> {
        let sql = "SELECT count(*) FROM reactions WHERE message = ?1 AND sender = ?2";
        let count: i64 = self.conn.prepare_cached(sql)?.query_row(params![message.0, sender.0], |row| row.get(0))?;
        Ok(uint(count))
    }

    /// The message and sender of a reaction.
    pub(crate) fn reaction(&self, id: &MessageId) -> Result<Option<(MessageId, AccountId)>, Error> {
        let sql = "SELECT message, sender FROM reactions WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((MessageId(row.get(0)?), AccountId(row.get(1)?)));
        Ok(self.conn.prepare_cached(sql)?.query_row([id.0], read).optional()?)
    }

    pub(crate) fn remove_reaction(&self, id: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM reactions WHERE id = ?1")?.execute([id.0])?;
        Ok(())
    }

    /// Another text for a message.
    pub(crate) fn set_edited(&self, id: &MessageId, body: &str, edited_ms: u64, mentions_me: bool) -> Result<(), Error> {
        let sql = "UPDATE messages SET body = ?2, edited_ms = ?3, mentions_me = ?4 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, body, int(edited_ms), mentions_me])?;
        Ok(())
    }

    /// Leaves of a message only that there was one.
    pub(crate) fn set_deleted(&self, id: &MessageId) -> Result<(), Error> {
        self.erase(id)?;
        let sql = "UPDATE messages SET deleted = 1, shown = 1 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute([id.0])?;
        Ok(())
    }

    /// Deletes everything that a message says, and what hangs on it.
    fn erase(&self, id: &MessageId) -> Result<(), Error> {
        let sql =
            "UPDATE messages SET body = '', content = NULL, reply_to = NULL, mentions_me = 0, edited_ms = NULL WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute([id.0])?;
        self.conn.prepare_cached("DELETE FROM reactions WHERE message = ?1")?.execute([id.0])?;
        self.conn.prepare_cached("DELETE FROM kept_files WHERE message = ?1")?.execute([id.0])?;
        Ok(())
    }

    /// Puts the content of a message into place, or takes it away.
    pub(crate) fn set_content(&self, id: &MessageId, content: Option<&[u8]>) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE messages SET content = ?2 WHERE id = ?1")?.execute(params![id.0, content])?;
        Ok(())
    }

    pub(crate) fn set_expires(&self, id: &MessageId, expires_ms: u64) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE messages SET expires_ms = ?2 WHERE id = ?1")?.execute(params![id.0, int(expires_ms)])?;
        Ok(())
    }

    /// When the next message expires.
    pub(crate) fn next_expiry(&self) -> Result<Option<u64>, Error> {
        let sql = "SELECT min(expires_ms) FROM messages WHERE expires_ms IS NOT NULL";
        let at: Option<i64> = self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(at.map(uint))
    }

    /// Messages whose time is over.
    pub(crate) fn expired(&self, now_ms: u64, limit: u32) -> Result<Vec<Expired>, Error> {
        let sql = "SELECT id, conversation, sealed = 0, EXISTS (SELECT 1 FROM outbox WHERE outbox.id = messages.id)
            FROM messages WHERE expires_ms IS NOT NULL AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![int(now_ms), limit], |row| {
            Ok(Expired {
                id: MessageId(row.get(0)?),
                conversation: ConversationId(row.get(1)?),
                unsealed: row.get(2)?,
                under_way: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Deletes a message whose time is over. Of one that is on its way only the id stays, by which its entry is known when it comes.
    pub(crate) fn forget_message(&self, expired: &Expired) -> Result<(), Error> {
        if expired.under_way && !expired.unsealed {
            self.erase(&expired.id)?;
            let sql = "UPDATE messages SET hidden = 1, shown = 1, expires_ms = NULL WHERE id = ?1";
            self.conn.prepare_cached(sql)?.execute([expired.id.0])?;
        } else {
            self.conn.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([expired.id.0])?;
        }
        Ok(())
    }

    /// What of this device's changes in a conversation has not been encrypted yet, in their order, with what each says.
    pub(crate) fn unsealed_changes(&self, conversation: &ConversationId) -> Result<Vec<(MessageId, Vec<u8>)>, Error> {
        let sql = "SELECT id, content FROM messages
                   WHERE conversation = ?1 AND hidden = 1 AND outgoing = 1 AND sealed = 0 AND content IS NOT NULL ORDER BY position";
        let mut query = self.conn.prepare_cached(sql)?;
        let rows = query.query_map([conversation.0], |row| Ok((MessageId(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps a change for its target.
    pub(crate) fn add_pending(&self, change: &PendingChange) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO pending (id, target, conversation, sender, content, stored_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.conn.prepare_cached(sql)?.execute(params![
            change.id.0,
            change.target.0,
            change.conversation.0,
            change.sender.0,
            change.content,
            int(change.stored_ms)
        ])?;
        let sql = "DELETE FROM pending WHERE conversation = ?1 AND position <=
            (SELECT position FROM pending WHERE conversation = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)";
        self.conn.prepare_cached(sql)?.execute(params![change.conversation.0, PENDING])?;
        Ok(())
    }

    /// Takes the changes that waited for a message or reaction, oldest first.
    pub(crate) fn take_pending(&self, target: &MessageId) -> Result<Vec<PendingChange>, Error> {
        let sql = "SELECT id, conversation, sender, content, stored_ms FROM pending WHERE target = ?1 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([target.0], |row| {
            Ok(PendingChange {
                id: MessageId(row.get(0)?),
                target: *target,
                conversation: ConversationId(row.get(1)?),
                sender: AccountId(row.get(2)?),
                content: row.get(3)?,
                stored_ms: uint(row.get(4)?),
            })
        })?;
        let changes: Vec<_> = rows.collect::<Result<_, _>>()?;
        if !changes.is_empty() {
            self.conn.prepare_cached("DELETE FROM pending WHERE target = ?1")?.execute([target.0])?;
        }
        Ok(changes)
    }

    /// How many messages and changes that wait there are.
    #[cfg(test)]
    pub(crate) fn counts_for_test(&self) -> (u64, u64) {
        let count = |table: &str| -> i64 {
            self.conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a table")
        };
        (uint(count("messages")), uint(count("pending")))
    }

    /// The contents that messages have been kept with.
    #[cfg(test)]
    pub(crate) fn contents_for_test(&self) -> Vec<Vec<u8>> {
        let mut query = self.conn.prepare("SELECT content FROM messages WHERE content IS NOT NULL").expect("a table");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("blobs")
    }

    /// Deletes what waited too long for its target, and what the last run had on its way and has brought there.
    pub(crate) fn sweep(&self, before_ms: u64) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM pending WHERE stored_ms < ?1")?.execute([int(before_ms)])?;
        let sql = "DELETE FROM messages WHERE hidden = 1 AND content IS NULL AND seq IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = messages.id)";
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}
