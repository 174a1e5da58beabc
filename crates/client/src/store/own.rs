//! What own devices agree about, what is still to be told them, and read marks for messages that are not here yet.

use parlour_wire::{DeviceId, MessageId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::{
    core::own::{Kind, Register, Stamp},
    error::Error,
};

/// The tables; a migration of its own.
pub(super) const TABLES: &str = "
CREATE TABLE own_registers (
    kind INTEGER NOT NULL,
    subject BLOB NOT NULL,
    value BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    device BLOB NOT NULL,
    told INTEGER NOT NULL,       -- 0: the other devices are still to be told
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX own_registers_untold ON own_registers (told) WHERE told = 0;

-- Messages that were shown here, of which the other devices are still to be told.
CREATE TABLE own_shown (message BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;

-- Messages that were shown on another device and are not here yet.
CREATE TABLE own_shown_early (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL UNIQUE
) STRICT;

-- Contents for the own conversation, in order, until the server has them.
CREATE TABLE own_outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    content BLOB NOT NULL,
    blob BLOB,                   -- named by it
    sealed INTEGER NOT NULL
) STRICT;
";

/// Registers that are kept; more are taken only for subjects that are known. A person has a few hundred.
const REGISTERS: i64 = 50_000;
/// Read marks that are kept for messages that are not here yet.
const EARLY: i64 = 10_000;

pub(super) const COLUMNS: &str = "kind, subject, value, at_ms, device";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Register> {
    let stamp = Stamp { at_ms: uint(row.get(3)?), device: DeviceId(row.get(4)?) };
    Ok(Register { kind: Kind(row.get(0)?), subject: row.get(1)?, value: row.get(2)?, stamp })
}

/// Whether it says where the backup is and how far: the backup itself has no use for that, and it changes with every run.
fn is_about_backup(register: &Register) -> bool {
    register.kind == Kind::SETTING && register.subject.starts_with(b"backup.")
}

/// A content for the own conversation.
pub(crate) struct OwnContent {
    pub(crate) id: MessageId,
    pub(crate) content: Vec<u8>,
    pub(crate) blob: Option<[u8; 32]>,
}

impl Store {
    pub(crate) fn register(&self, kind: Kind, subject: &[u8]) -> Result<Option<Register>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM own_registers WHERE kind = ?1 AND subject = ?2");
        Ok(self.conn.prepare_cached(&sql)?.query_row(params![kind.0, subject], read).optional()?)
    }

    /// Writes a register. `told`: the other devices know it already.
    pub(crate) fn set_register(&self, register: &Register, told: bool) -> Result<(), Error> {
        if !is_about_backup(register) {
            self.note_for_backup(register)?;
        }
        let sql = "INSERT OR REPLACE INTO own_registers (kind, subject, value, at_ms, device, told)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let Register { kind, subject, value, stamp } = register;
        self.conn.prepare_cached(sql)?.execute(params![kind.0, subject, value, int(stamp.at_ms), stamp.device.0, told])?;
        Ok(())
    }

    /// Whether there is room for registers of new subjects.
    pub(crate) fn has_room_for_registers(&self) -> Result<bool, Error> {
        let count: i64 = self.conn.prepare_cached("SELECT count(*) FROM own_registers")?.query_row([], |row| row.get(0))?;
        Ok(count < REGISTERS)
    }

    /// The registers of which the other devices are still to be told, at most so many.
    pub(crate) fn untold_registers(&self, limit: usize) -> Result<Vec<Register>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM own_registers WHERE told = 0 ORDER BY at_ms, kind, subject LIMIT ?1");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([limit as i64], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(crate) fn registers(&self, kind: Option<Kind>) -> Result<Vec<Register>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM own_registers WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, subject");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([kind.map(|kind| kind.0)], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// All registers are to be told (again): a device has come that knows none.
    pub(crate) fn tell_all_registers(&self) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE own_registers SET told = 0")?.execute([])?;
        Ok(())
    }

    pub(crate) fn add_own_shown(&self, message: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("INSERT OR IGNORE INTO own_shown (message) VALUES (?1)")?.execute([message.0])?;
        Ok(())
    }

    /// Takes read marks that are still to be told, at most so many.
    pub(crate) fn take_own_shown(&self, limit: usize) -> Result<Vec<MessageId>, Error> {
        let sql = "DELETE FROM own_shown WHERE message IN (SELECT message FROM own_shown ORDER BY message LIMIT ?1)
            RETURNING message";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows: Vec<_> = statement.query_map([limit as i64], |row| row.get(0).map(MessageId))?.collect::<Result<_, _>>()?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// Keeps a read mark for a message that is not here yet; the oldest marks go when there are too many.
    pub(crate) fn add_early_mark(&self, message: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("INSERT OR IGNORE INTO own_shown_early (message) VALUES (?1)")?.execute([message.0])?;
        let sql = "DELETE FROM own_shown_early WHERE position <= (SELECT max(position) FROM own_shown_early) - ?1";
        self.conn.prepare_cached(sql)?.execute([EARLY])?;
        Ok(())
    }

    /// Takes the mark of a message that has come; whether there was one.
    pub(crate) fn take_early_mark(&self, message: &MessageId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("DELETE FROM own_shown_early WHERE message = ?1")?.execute([message.0])? == 1)
    }

    pub(crate) fn queue_own(&self, item: &OwnContent) -> Result<(), Error> {
        let sql = "INSERT INTO own_outbox (id, content, blob, sealed) VALUES (?1, ?2, ?3, 0)";
        self.conn.prepare_cached(sql)?.execute(params![item.id.0, item.content, item.blob])?;
        Ok(())
    }

    /// Contents that are still to be encrypted, oldest first.
    pub(crate) fn unsealed_own(&self, limit: usize) -> Result<Vec<OwnContent>, Error> {
        let sql = "SELECT id, content, blob FROM own_outbox WHERE sealed = 0 ORDER BY position LIMIT ?1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([limit as i64], |row| {
            Ok(OwnContent { id: MessageId(row.get(0)?), content: row.get(1)?, blob: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a content is still in the queue.
    pub(crate) fn own_queued(&self, id: &MessageId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM own_outbox WHERE id = ?1")?.exists([id.0])?)
    }

    pub(crate) fn set_own_sealed(&self, id: &MessageId, sealed: bool) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE own_outbox SET sealed = ?2 WHERE id = ?1")?.execute(params![id.0, sealed])?;
        Ok(())
    }

    /// The server has it: takes it out of the queue.
    pub(crate) fn own_stored(&self, id: &MessageId) -> Result<Option<OwnContent>, Error> {
        let sql = "DELETE FROM own_outbox WHERE id = ?1 RETURNING id, content, blob";
        let mut statement = self.conn.prepare_cached(sql)?;
        let row = statement
            .query_row([id.0], |row| Ok(OwnContent { id: MessageId(row.get(0)?), content: row.get(1)?, blob: row.get(2)? }));
        Ok(row.optional()?)
    }
}
