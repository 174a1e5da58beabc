//! What the hand-over of histories keeps: requests of other own devices, packs on their way to the server, packs to be taken in.

use parlour_wire::{AccountId, ConversationId, DeviceId, MessageId, id::BlobId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::{
    core::{
        own::PackRef,
        pack::{PackedConversation, PackedMessage, PackedReaction},
    },
    error::Error,
};

/// The tables; a migration of its own.
pub(super) const TABLES: &str = "
-- Requests of other own devices for a history.
CREATE TABLE handovers (
    ask BLOB PRIMARY KEY,
    device BLOB NOT NULL,        -- who asks
    giver BLOB,                  -- who answers; NULL: nobody has said so yet
    before INTEGER NOT NULL,     -- position of the last message handed over
    number INTEGER NOT NULL      -- of the next part
) STRICT;

-- Packs on their way to the server.
CREATE TABLE parcels (
    blob BLOB PRIMARY KEY,
    position INTEGER NOT NULL,   -- order of sending
    purpose INTEGER NOT NULL,    -- 0: a hand-over, 1: the backup, 2: for a newcomer of a group
    ask BLOB,                    -- the request that it answers, or the commit that let the newcomer in
    key BLOB NOT NULL,
    messages INTEGER NOT NULL,
    before INTEGER NOT NULL,     -- position of its oldest message
    bytes BLOB NOT NULL
) STRICT;

-- What this device has asked for: a history from another own device, or the backup.
CREATE TABLE wanted (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    ask BLOB,                    -- the request under way, if it has been made
    at_ms INTEGER NOT NULL,      -- of the request, or of the last progress
    giver BLOB,                  -- who answers it
    source INTEGER NOT NULL,     -- 0: own devices, 1: the backup
    parts INTEGER,               -- how many there are, once known
    taken INTEGER NOT NULL       -- messages so far
) STRICT;

-- Packs to be taken in, the newest first.
CREATE TABLE intake (
    number INTEGER PRIMARY KEY,
    blob BLOB,                   -- NULL: a part without messages
    key BLOB,
    size INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    done INTEGER NOT NULL
) STRICT;
";

/// A migration of its own.
pub(super) const SENT: &str = "
-- 0: to be sent; 1: at the server, and not named there yet; 2: named by what waits, and to be sent once more
ALTER TABLE parcels ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
";

/// A request of another own device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    pub(crate) ask: MessageId,
    pub(crate) device: DeviceId,
    pub(crate) giver: Option<DeviceId>,
    pub(crate) before: i64,
    pub(crate) number: u32,
}

/// What a parcel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A part of the answer to a request.
    Handover(MessageId),
    /// The backup.
    Backup,
    /// Earlier messages for whom a commit of this device has let into a group.
    Share(MessageId),
}

/// A pack on its way to the server.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) purpose: Purpose,
    pub(crate) pack: PackRef,
    pub(crate) before: i64,
    pub(crate) bytes: Vec<u8>,
    /// It has been there before, and what names it waits.
    pub(crate) again: bool,
}

/// What this device waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) ask: Option<MessageId>,
    pub(crate) at_ms: u64,
    pub(crate) giver: Option<DeviceId>,
    pub(crate) from_backup: bool,
    pub(crate) parts: Option<u32>,
    pub(crate) taken: u64,
}

/// A message with its place, ready to be packed.
pub(crate) struct Packable {
    pub(crate) position: i64,
    pub(crate) conversation: PackedConversation,
    pub(crate) message: PackedMessage,
}

pub(super) fn read_packable(row: &Row<'_>) -> rusqlite::Result<Packable> {
    let opt_uint = |at| row.get::<_, Option<i64>>(at).map(|value| value.map(uint));
    let peer: Vec<u8> = row.get(19)?;
    let message = PackedMessage {
        id: MessageId(row.get(1)?),
        conversation: 0,
        sender: AccountId(row.get(3)?),
        device: DeviceId(row.get(4)?),
        kind: row.get(5)?,
        body: row.get(6)?,
        reply_to: row.get::<_, Option<[u8; 16]>>(7)?.map(MessageId),
        sent_ms: uint(row.get(8)?),
        stored_ms: opt_uint(9)?,
        seq: opt_uint(10)?,
        state: row.get(11)?,
        shown: row.get(12)?,
        content: row.get(13)?,
        edited_ms: opt_uint(14)?,
        deleted: row.get(15)?,
        expires_ms: opt_uint(16)?,
        mentions_me: row.get(17)?,
        reactions: Vec::new(),
        shared_by: row.get::<_, Option<[u8; 32]>>(20)?.map(AccountId),
    };
    let id = ConversationId(row.get(2)?);
    let peer = AccountId::try_from(peer.as_slice()).ok();
    Ok(Packable { position: row.get(0)?, conversation: PackedConversation { id, peer, name: row.get(18)? }, message })
}

pub(super) const PACKABLE: &str =
    "m.position, m.id, m.conversation, m.sender, m.device, m.kind, m.body, m.reply_to, m.sent_ms, m.stored_ms,
    m.seq, m.state, m.shown, m.content, m.edited_ms, m.deleted, m.expires_ms, m.mentions_me, c.name, c.peer,
    m.shared_by";

impl Store {
    /// Messages that people wrote and the server has, below a position, the newest first.
    pub(crate) fn packable_before(&self, before: i64, limit: usize) -> Result<Vec<Packable>, Error> {
        let sql = format!(
            "SELECT {PACKABLE} FROM messages m JOIN conversations c ON c.id = m.conversation
             WHERE m.position < ?1 AND m.kind <> 1 AND m.hidden = 0 AND m.stored_ms IS NOT NULL ORDER BY m.position DESC LIMIT ?2"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![before, limit as i64], read_packable)?.collect::<Result<Vec<_>, _>>()?;
        self.with_reactions(rows)
    }

    pub(super) fn with_reactions(&self, mut rows: Vec<Packable>) -> Result<Vec<Packable>, Error> {
        let sql = "SELECT id, sender, emoji FROM reactions WHERE message = ?1 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        for row in &mut rows {
            let reactions = statement.query_map([row.message.id.0], |row| {
                Ok(PackedReaction { id: MessageId(row.get(0)?), sender: AccountId(row.get(1)?), emoji: row.get(2)? })
            })?;
            row.message.reactions = reactions.collect::<Result<_, _>>()?;
        }
        Ok(rows)
    }

    /// Puts a handed-over message in at a position; `false` if one of this id is here.
    pub(crate) fn put_packed(
        &self,
        position: i64,
        (conversation, outgoing): (&ConversationId, bool),
        message: &PackedMessage,
    ) -> Result<bool, Error> {
        let sql = "INSERT OR IGNORE INTO messages
            (position, id, conversation, sender, device, outgoing, kind, body, reply_to, sent_ms, stored_ms, seq, state, shown,
             sealed, hidden, content, edited_ms, deleted, expires_ms, mentions_me, shared_by)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 1, 0, ?15, ?16, ?17, ?18, ?19, ?20)";
        let added = self.conn.prepare_cached(sql)?.execute(params![
            position,
            message.id.0,
            conversation.0,
            message.sender.0,
            message.device.0,
            outgoing,
            message.kind,
            message.body,
            message.reply_to.map(|id| id.0),
            int(message.sent_ms),
            message.stored_ms.map(int),
            message.seq.map(int),
            message.state.min(3),
            message.shown || outgoing,
            message.content,
            message.edited_ms.map(int),
            message.deleted,
            message.expires_ms.map(int),
            message.mentions_me,
            message.shared_by.map(|account| account.0),
        ])?;
        Ok(added == 1)
    }

    /// Puts a handed-over message in the place where this program only said that it could not be read.
    pub(crate) fn fill_in(&self, conversation: &ConversationId, outgoing: bool, message: &PackedMessage) -> Result<bool, Error> {
        let sql = "SELECT position FROM messages WHERE id = ?1 AND conversation = ?2 AND kind = 1";
        let position: Option<i64> =
            self.conn.prepare_cached(sql)?.query_row(params![message.id.0, conversation.0], |row| row.get(0)).optional()?;
        let Some(position) = position else { return Ok(false) };
        self.conn.prepare_cached("DELETE FROM messages WHERE position = ?1")?.execute([position])?;
        self.put_packed(position, (conversation, outgoing), message)
    }

    pub(crate) fn put_packed_reaction(&self, message: &MessageId, reaction: &PackedReaction) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO reactions (id, message, sender, emoji) VALUES (?1, ?2, ?3, ?4)";
        self.conn.prepare_cached(sql)?.execute(params![reaction.id.0, message.0, reaction.sender.0, reaction.emoji])?;
        Ok(())
    }

    /// Notes a request. An earlier one of the same device is answered no further.
    /// `all`: with the messages, otherwise the registers alone.
    pub(crate) fn add_handover(&self, ask: &MessageId, device: &DeviceId, all: bool) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM handovers WHERE device = ?1")?.execute([device.0])?;
        let sql = "INSERT OR IGNORE INTO handovers (ask, device, before, number) VALUES (?1, ?2, ?3, 0)";
        self.conn.prepare_cached(sql)?.execute(params![ask.0, device.0, if all { i64::MAX } else { i64::MIN }])?;
        Ok(())
    }

    pub(crate) fn handovers(&self) -> Result<Vec<Handover>, Error> {
        let mut statement = self.conn.prepare_cached("SELECT ask, device, giver, before, number FROM handovers ORDER BY ask")?;
        let rows = statement.query_map([], |row| {
            Ok(Handover {
                ask: MessageId(row.get(0)?),
                device: DeviceId(row.get(1)?),
                giver: row.get::<_, Option<[u8; 16]>>(2)?.map(DeviceId),
                before: row.get(3)?,
                number: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes who answers a request, if nobody did yet; whether this changed anything.
    pub(crate) fn set_giver(&self, ask: &MessageId, giver: &DeviceId) -> Result<bool, Error> {
        let sql = "UPDATE handovers SET giver = ?2 WHERE ask = ?1 AND giver IS NULL";
        Ok(self.conn.prepare_cached(sql)?.execute(params![ask.0, giver.0])? == 1)
    }

    pub(crate) fn handed_over(&self, ask: &MessageId, before: i64) -> Result<(), Error> {
        let sql = "UPDATE handovers SET before = ?2, number = number + 1 WHERE ask = ?1";
        self.conn.prepare_cached(sql)?.execute(params![ask.0, before])?;
        Ok(())
    }

    pub(crate) fn end_handover(&self, ask: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM handovers WHERE ask = ?1")?.execute([ask.0])?;
        self.conn.prepare_cached("DELETE FROM parcels WHERE ask = ?1 AND sent = 0")?.execute([ask.0])?;
        Ok(())
    }

    pub(crate) fn add_parcel(&self, parcel: &Parcel) -> Result<(), Error> {
        let (purpose, ask) = match parcel.purpose {
            Purpose::Handover(ask) => (0, Some(ask.0)),
            Purpose::Backup => (1, None),
            Purpose::Share(entry) => (2, Some(entry.0)),
        };
        let sql = "INSERT OR REPLACE INTO parcels (blob, position, purpose, ask, key, messages, before, bytes)
            VALUES (?1, (SELECT coalesce(max(position), 0) + 1 FROM parcels), ?2, ?3, ?4, ?5, ?6, ?7)";
        let PackRef { blob, key, messages, .. } = parcel.pack;
        let values = params![blob.0, purpose, ask, key, messages, parcel.before, parcel.bytes];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The parcel to be sent next.
    pub(crate) fn first_parcel(&self) -> Result<Option<Parcel>, Error> {
        let sql = "SELECT purpose, ask, blob, key, messages, before, bytes, sent FROM parcels WHERE sent <> 1
            ORDER BY position LIMIT 1";
        let row = self.conn.prepare_cached(sql)?.query_row([], |row| {
            let ask = row.get::<_, Option<[u8; 16]>>(1)?.map(MessageId);
            let bytes: Vec<u8> = row.get(6)?;
            let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let pack = PackRef { blob: BlobId(row.get(2)?), key: row.get(3)?, size, messages: row.get(4)? };
            let purpose = match (row.get::<_, i64>(0)?, ask) {
                (0, Some(ask)) => Purpose::Handover(ask),
                (2, Some(entry)) => Purpose::Share(entry),
                _ => Purpose::Backup,
            };
            Ok(Parcel { purpose, pack, before: row.get(5)?, bytes, again: row.get::<_, i64>(7)? == 2 })
        });
        Ok(row.optional()?)
    }

    pub(crate) fn has_parcel(&self, purpose: Purpose) -> Result<bool, Error> {
        let ask = match purpose {
            Purpose::Handover(ask) | Purpose::Share(ask) => Some(ask.0),
            Purpose::Backup => None,
        };
        Ok(self.conn.prepare_cached("SELECT 1 FROM parcels WHERE ask IS ?1 AND sent = 0")?.exists([ask])?)
    }

    /// The server has it whole.
    pub(crate) fn parcel_sent(&self, blob: &BlobId) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE parcels SET sent = 1 WHERE blob = ?1")?.execute([blob.0])?;
        Ok(())
    }

    /// The server does not have it any more; whether it is here to be sent once more.
    pub(crate) fn parcel_gone(&self, blob: &BlobId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("UPDATE parcels SET sent = 2 WHERE blob = ?1")?.execute([blob.0])? == 1)
    }

    /// Whether what names this blob has to wait until it has been sent once more.
    pub(crate) fn awaits_parcel(&self, blob: &BlobId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM parcels WHERE blob = ?1 AND sent = 2")?.exists([blob.0])?)
    }

    pub(crate) fn drop_parcel(&self, blob: &BlobId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM parcels WHERE blob = ?1")?.execute([blob.0])?;
        Ok(())
    }

    pub(crate) fn wanted(&self) -> Result<Option<Wanted>, Error> {
        let sql = "SELECT ask, at_ms, giver, source, parts, taken FROM wanted";
        let row = self.conn.prepare_cached(sql)?.query_row([], |row| {
            Ok(Wanted {
                ask: row.get::<_, Option<[u8; 16]>>(0)?.map(MessageId),
                at_ms: uint(row.get(1)?),
                giver: row.get::<_, Option<[u8; 16]>>(2)?.map(DeviceId),
                from_backup: row.get(3)?,
                parts: row.get(4)?,
                taken: uint(row.get(5)?),
            })
        });
        Ok(row.optional()?)
    }

    /// Begins to want a history; `None` ends it. What was to be taken in before is forgotten.
    pub(crate) fn want(&self, wanted: Option<&Wanted>) -> Result<(), Error> {
        self.conn.execute_batch("DELETE FROM wanted; DELETE FROM intake;")?;
        wanted.map_or(Ok(()), |wanted| self.set_wanted(wanted))
    }

    pub(crate) fn set_wanted(&self, wanted: &Wanted) -> Result<(), Error> {
        let sql =
            "INSERT OR REPLACE INTO wanted (one, ask, at_ms, giver, source, parts, taken) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";
        let Wanted { ask, at_ms, giver, from_backup, parts, taken } = wanted;
        let (ask, giver) = (ask.map(|ask| ask.0), giver.map(|giver| giver.0));
        self.conn.prepare_cached(sql)?.execute(params![ask, int(*at_ms), giver, from_backup, parts, int(*taken)])?;
        Ok(())
    }

    pub(crate) fn add_intake(&self, number: u32, pack: Option<&PackRef>) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO intake (number, blob, key, size, messages, done) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (size, messages) = pack.map_or((0, 0), |pack| (pack.size, pack.messages));
        let values = params![number, pack.map(|pack| pack.blob.0), pack.map(|pack| pack.key), size, messages, pack.is_none()];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The pack to be taken in next: parts are taken in order, so that the newest record of a message comes first.
    pub(crate) fn next_intake(&self) -> Result<Option<(u32, PackRef)>, Error> {
        let sql = "SELECT number, blob, key, size, messages FROM intake WHERE done = 0
            AND number = (SELECT count(*) FROM intake WHERE done = 1) LIMIT 1";
        let row = self.conn.prepare_cached(sql)?.query_row([], |row| {
            let pack = PackRef { blob: BlobId(row.get(1)?), key: row.get(2)?, size: row.get(3)?, messages: row.get(4)? };
            Ok((row.get(0)?, pack))
        });
        Ok(row.optional()?)
    }

    pub(crate) fn intake_done(&self, number: u32) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE intake SET done = 1 WHERE number = ?1")?.execute([number])?;
        Ok(())
    }

    /// How many parts have been taken in.
    pub(crate) fn intake_count(&self) -> Result<u32, Error> {
        Ok(self.conn.prepare_cached("SELECT count(*) FROM intake WHERE done = 1")?.query_row([], |row| row.get(0))?)
    }
}
