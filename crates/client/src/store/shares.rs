//! What the sharing of a group's history keeps: newcomers that this device still owes messages, what this account may be given in a
//! group that it was brought into, and packs that have been offered to it.

use parlour_wire::{AccountId, ConversationId, MessageId, id::BlobId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{
    Store, int,
    packs::{PACKABLE, Packable, read_packable},
    uint,
};
use crate::{core::own::PackRef, error::Error};

/// The tables; a migration of its own. Handed-over messages stand before the mark of the index, so a trigger of their own puts them in.
/// An index that lacks some of them is made anew.
pub(super) const TABLES: &str = "
ALTER TABLE messages ADD COLUMN shared_by BLOB;  -- the member that shared it; NULL: it came by itself

-- Commits of this device that let people into a group, to whom earlier messages are still to be given.
CREATE TABLE shares (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    entry BLOB NOT NULL UNIQUE,  -- the commit
    conversation BLOB NOT NULL,
    accounts BLOB NOT NULL,      -- 32 bytes each
    seq INTEGER NOT NULL,        -- of the commit; only what stands before it is shared
    messages INTEGER NOT NULL,   -- so many may still be shared
    parts INTEGER NOT NULL,      -- in so many packs
    before INTEGER NOT NULL      -- position of the last message that was shared
) STRICT;

-- Groups that this account was brought into, and what it may be given there.
CREATE TABLE owed (
    conversation BLOB PRIMARY KEY,
    adder BLOB NOT NULL,         -- who brought it in
    seq INTEGER NOT NULL,        -- of the commit that did
    messages INTEGER NOT NULL,   -- so many may still be given
    parts INTEGER NOT NULL       -- in so many packs
) STRICT;

-- Packs that have been offered to this account and are to be fetched.
CREATE TABLE offers (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,     -- the message that offers it
    conversation BLOB NOT NULL,
    sharer BLOB NOT NULL,
    seq INTEGER NOT NULL,        -- what it holds stands before this one
    blob BLOB NOT NULL,
    key BLOB NOT NULL,
    size INTEGER NOT NULL,
    messages INTEGER NOT NULL
) STRICT;

CREATE TRIGGER search_added_below AFTER INSERT ON messages WHEN new.kind IN (0, 2) AND new.hidden = 0
    AND new.position <= (SELECT position FROM search_mark) BEGIN
    INSERT INTO search (rowid, body, place) VALUES (new.position, new.body, lower(hex(substr(new.conversation, 1, 8))));
END;
INSERT INTO search (search) VALUES ('delete-all');
INSERT INTO search (rowid, body, place) SELECT position, body, lower(hex(substr(conversation, 1, 8))) FROM messages
    WHERE kind IN (0, 2) AND hidden = 0;
UPDATE search_mark SET position = max(position, coalesce((SELECT max(position) FROM messages), 0));
";

/// People to whom earlier messages are to be given.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) entry: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) seq: u64,
    pub(crate) messages: u32,
    pub(crate) parts: u32,
    pub(crate) before: i64,
}

/// What this account may be given in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    pub(crate) adder: AccountId,
    pub(crate) seq: u64,
    pub(crate) messages: u32,
    pub(crate) parts: u32,
}

/// A pack that is to be fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) sharer: AccountId,
    pub(crate) seq: u64,
    pub(crate) pack: PackRef,
}

const SHARE: &str = "entry, conversation, accounts, seq, messages, parts, before";
const OFFER: &str = "id, conversation, sharer, seq, blob, key, size, messages";

fn read_share(row: &Row<'_>) -> rusqlite::Result<Share> {
    let accounts: Vec<u8> = row.get(2)?;
    Ok(Share {
        entry: MessageId(row.get(0)?),
        conversation: ConversationId(row.get(1)?),
        accounts: accounts.chunks_exact(AccountId::LEN).filter_map(|id| AccountId::try_from(id).ok()).collect(),
        seq: uint(row.get(3)?),
        messages: row.get(4)?,
        parts: row.get(5)?,
        before: row.get(6)?,
    })
}

fn read_offer(row: &Row<'_>) -> rusqlite::Result<Offer> {
    let pack = PackRef { blob: BlobId(row.get(4)?), key: row.get(5)?, size: row.get(6)?, messages: row.get(7)? };
    Ok(Offer {
        id: MessageId(row.get(0)?),
        conversation: ConversationId(row.get(1)?),
        sharer: AccountId(row.get(2)?),
        seq: uint(row.get(3)?),
        pack,
    })
}

impl Store {
    pub(crate) fn add_share(&self, share: &Share) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO shares (entry, conversation, accounts, seq, messages, parts, before)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let Share { entry, conversation, accounts, seq, messages, parts, before } = share;
        let accounts: Vec<u8> = accounts.iter().flat_map(|account| account.0).collect();
        let values = params![entry.0, conversation.0, accounts, int(*seq), messages, parts, before];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The share whose turn it is.
    pub(crate) fn first_share(&self) -> Result<Option<Share>, Error> {
        let sql = format!(
            "SELECT {SHARE} FROM shares WHERE conversation NOT IN (SELECT id FROM conversations WHERE phase IN (0, 1, 2))
            ORDER BY position LIMIT 1"
        );
        Ok(self.conn.prepare_cached(&sql)?.query_row([], read_share).optional()?)
    }

    pub(crate) fn share(&self, entry: &MessageId) -> Result<Option<Share>, Error> {
        let sql = format!("SELECT {SHARE} FROM shares WHERE entry = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([entry.0], read_share).optional()?)
    }

    /// Notes how far a share has come.
    pub(crate) fn set_share(&self, share: &Share) -> Result<(), Error> {
        let sql = "UPDATE shares SET messages = ?2, parts = ?3, before = ?4 WHERE entry = ?1";
        self.conn.prepare_cached(sql)?.execute(params![share.entry.0, share.messages, share.parts, share.before])?;
        Ok(())
    }

    pub(crate) fn end_share(&self, entry: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM shares WHERE entry = ?1")?.execute([entry.0])?;
        self.conn.prepare_cached("DELETE FROM parcels WHERE ask = ?1 AND sent = 0")?.execute([entry.0])?;
        Ok(())
    }

    /// This account is in a group no more: it gives nothing there.
    pub(crate) fn end_shares_in(&self, conversation: &ConversationId) -> Result<(), Error> {
        let sql = "DELETE FROM parcels WHERE ask IN (SELECT entry FROM shares WHERE conversation = ?1)";
        self.conn.prepare_cached(sql)?.execute([conversation.0])?;
        self.conn.prepare_cached("DELETE FROM shares WHERE conversation = ?1")?.execute([conversation.0])?;
        Ok(())
    }

    /// What a share has still to give, the newest first: what people wrote, that is in the log before the newcomers and still holds
    /// something.
    pub(crate) fn sharable(&self, share: &Share, now_ms: u64, limit: usize) -> Result<Vec<Packable>, Error> {
        let sql = format!(
            "SELECT {PACKABLE} FROM messages m JOIN conversations c ON c.id = m.conversation
             WHERE m.conversation = ?1 AND m.position < ?2 AND m.seq < ?3 AND m.kind <> 1 AND m.hidden = 0 AND m.deleted = 0
                AND m.stored_ms IS NOT NULL AND (m.expires_ms IS NULL OR m.expires_ms > ?4)
             ORDER BY m.position DESC LIMIT ?5"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let values = params![share.conversation.0, share.before, int(share.seq), int(now_ms), limit as i64];
        let rows = statement.query_map(values, read_packable)?.collect::<Result<Vec<_>, _>>()?;
        self.with_reactions(rows)
    }

    /// The message that stands at a position.
    pub(crate) fn id_at(&self, position: i64) -> Result<Option<MessageId>, Error> {
        let sql = "SELECT id FROM messages WHERE position = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([position], |row| row.get(0).map(MessageId)).optional()?)
    }

    /// Notes what this account may be given in a group; `None`: nothing.
    pub(crate) fn set_owed(&self, conversation: &ConversationId, owed: Option<&Owed>) -> Result<(), Error> {
        let Some(Owed { adder, seq, messages, parts }) = owed else {
            self.conn.prepare_cached("DELETE FROM owed WHERE conversation = ?1")?.execute([conversation.0])?;
            return Ok(());
        };
        let sql = "INSERT OR REPLACE INTO owed (conversation, adder, seq, messages, parts) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute(params![conversation.0, adder.0, int(*seq), messages, parts])?;
        Ok(())
    }

    pub(crate) fn owed(&self, conversation: &ConversationId) -> Result<Option<Owed>, Error> {
        let sql = "SELECT adder, seq, messages, parts FROM owed WHERE conversation = ?1";
        let row = self.conn.prepare_cached(sql)?.query_row([conversation.0], |row| {
            Ok(Owed { adder: AccountId(row.get(0)?), seq: uint(row.get(1)?), messages: row.get(2)?, parts: row.get(3)? })
        });
        Ok(row.optional()?)
    }

    pub(crate) fn add_offer(&self, offer: &Offer) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO offers (id, conversation, sharer, seq, blob, key, size, messages)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let Offer { id, conversation, sharer, seq, pack } = offer;
        let values = params![id.0, conversation.0, sharer.0, int(*seq), pack.blob.0, pack.key, pack.size, pack.messages];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The offer that is to be fetched next.
    pub(crate) fn first_offer(&self) -> Result<Option<Offer>, Error> {
        let sql = format!("SELECT {OFFER} FROM offers ORDER BY position LIMIT 1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([], read_offer).optional()?)
    }

    pub(crate) fn offer(&self, id: &MessageId) -> Result<Option<Offer>, Error> {
        let sql = format!("SELECT {OFFER} FROM offers WHERE id = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([id.0], read_offer).optional()?)
    }

    pub(crate) fn drop_offer(&self, id: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM offers WHERE id = ?1")?.execute([id.0])?;
        Ok(())
    }
}
