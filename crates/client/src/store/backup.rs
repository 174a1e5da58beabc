//! What the keeper of the backup keeps: its state, the packs that the index names, messages that it does not have as they are.

use std::collections::BTreeSet;

use parlour_wire::{MessageId, id::BlobId};
use rusqlite::params;

use super::{
    Store, int,
    own::{COLUMNS, read},
    packs::{PACKABLE, Packable, read_packable},
    uint,
};
use crate::{
    core::own::{PackRef, Register},
    error::Error,
};

/// The tables; a migration of its own.
pub(super) const TABLES: &str = "
CREATE TABLE backup (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    keeper INTEGER NOT NULL,     -- 1: this device writes it
    version INTEGER NOT NULL,    -- the highest version known here
    saved_ms INTEGER NOT NULL,   -- when this device wrote it last
    trouble TEXT                 -- why it could not, the last time
) STRICT;
INSERT INTO backup (one, keeper, version, saved_ms) VALUES (1, 0, 0, 0);

-- Packs that the index of the backup names, the newest last.
CREATE TABLE backup_packs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    blob BLOB NOT NULL UNIQUE,
    key BLOB NOT NULL,
    size INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    named INTEGER NOT NULL       -- 1: by the index at the server
) STRICT;

-- Messages that the backup does not have as they are now.
CREATE TABLE backup_dirty (message INTEGER PRIMARY KEY) STRICT;
CREATE TRIGGER backup_message_added AFTER INSERT ON messages WHEN (SELECT keeper FROM backup) BEGIN
    INSERT OR IGNORE INTO backup_dirty (message) VALUES (new.position);
END;
CREATE TRIGGER backup_message_changed AFTER UPDATE OF body, shown, seq, edited_ms, deleted, hidden ON messages
WHEN (SELECT keeper FROM backup) BEGIN
    INSERT OR IGNORE INTO backup_dirty (message) VALUES (new.position);
END;
CREATE TRIGGER backup_reaction_added AFTER INSERT ON reactions WHEN (SELECT keeper FROM backup) BEGIN
    INSERT OR IGNORE INTO backup_dirty (message) SELECT position FROM messages WHERE id = new.message;
END;
CREATE TRIGGER backup_reaction_removed AFTER DELETE ON reactions WHEN (SELECT keeper FROM backup) BEGIN
    INSERT OR IGNORE INTO backup_dirty (message) SELECT position FROM messages WHERE id = old.message;
END;
";

/// A migration of its own.
pub(super) const REGISTERS: &str = "
-- What own devices agree about and the backup does not have as it is now.
CREATE TABLE backup_registers (
    kind INTEGER NOT NULL,
    subject BLOB NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO backup_registers (kind, subject) SELECT kind, subject FROM own_registers WHERE (SELECT keeper FROM backup);

DROP TRIGGER backup_message_changed;
CREATE TRIGGER backup_message_changed
AFTER UPDATE OF body, state, shown, seq, edited_ms, deleted, hidden, expires_ms, content ON messages
WHEN (SELECT keeper FROM backup) BEGIN
    INSERT OR IGNORE INTO backup_dirty (message) VALUES (new.position);
END;
";

/// The state of the backup.
#[derive(Clone, Debug)]
pub(crate) struct BackupRow {
    pub(crate) keeper: bool,
    pub(crate) version: u64,
    pub(crate) saved_ms: u64,
    pub(crate) trouble: Option<String>,
}

impl Store {
    /// Messages that the backup does not have as they are, the oldest first.
    pub(crate) fn packable_dirty(&self, limit: usize) -> Result<Vec<Packable>, Error> {
        let sql = format!(
            "SELECT {PACKABLE} FROM backup_dirty d JOIN messages m ON m.position = d.message
             JOIN conversations c ON c.id = m.conversation
             WHERE m.kind <> 1 AND m.hidden = 0 AND m.stored_ms IS NOT NULL ORDER BY m.position LIMIT ?1"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([limit as i64], read_packable)?.collect::<Result<Vec<_>, _>>()?;
        self.with_reactions(rows)
    }

    pub(crate) fn backup(&self) -> Result<BackupRow, Error> {
        let sql = "SELECT keeper, version, saved_ms, trouble FROM backup";
        Ok(self.conn.prepare_cached(sql)?.query_row([], |row| {
            Ok(BackupRow { keeper: row.get(0)?, version: uint(row.get(1)?), saved_ms: uint(row.get(2)?), trouble: row.get(3)? })
        })?)
    }

    pub(crate) fn set_backup(&self, row: &BackupRow) -> Result<(), Error> {
        let sql = "UPDATE backup SET keeper = ?1, version = ?2, saved_ms = ?3, trouble = ?4";
        let values = params![row.keeper, int(row.version), int(row.saved_ms), row.trouble];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Everything is to be backed up (again), into an index of its own.
    pub(crate) fn begin_backup(&self) -> Result<(), Error> {
        self.conn.execute_batch(
            "DELETE FROM parcels WHERE purpose = 1; DELETE FROM backup_packs; DELETE FROM backup_dirty;
             UPDATE backup SET keeper = 1, saved_ms = 0, trouble = NULL;
             INSERT INTO backup_dirty (message) SELECT position FROM messages;
             INSERT OR IGNORE INTO backup_registers (kind, subject) SELECT kind, subject FROM own_registers;",
        )?;
        Ok(())
    }

    /// This device writes the backup no longer.
    pub(crate) fn end_backup(&self) -> Result<(), Error> {
        self.conn.execute_batch(
            "DELETE FROM parcels WHERE purpose = 1; DELETE FROM backup_packs; DELETE FROM backup_dirty;
             DELETE FROM backup_registers; UPDATE backup SET keeper = 0, trouble = NULL;",
        )?;
        Ok(())
    }

    /// How many messages and registers the backup does not have as they are.
    pub(crate) fn backup_dirty(&self) -> Result<u64, Error> {
        let sql = "SELECT (SELECT count(*) FROM backup_dirty d JOIN messages m ON m.position = d.message
            WHERE m.kind <> 1 AND m.hidden = 0 AND m.stored_ms IS NOT NULL) + (SELECT count(*) FROM backup_registers)";
        Ok(uint(self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?))
    }

    pub(crate) fn clean_backup_message(&self, position: i64) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM backup_dirty WHERE message = ?1")?.execute([position])?;
        Ok(())
    }

    /// A register is about to be written. The keeper notes it, unless it has been so before.
    pub(super) fn note_for_backup(&self, register: &Register) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO backup_registers (kind, subject) SELECT ?1, ?2 WHERE (SELECT keeper FROM backup)
            AND NOT EXISTS (SELECT 1 FROM own_registers WHERE kind = ?1 AND subject = ?2 AND value = ?3 AND at_ms = ?4 AND device = ?5)";
        let Register { kind, subject, value, stamp } = register;
        self.conn.prepare_cached(sql)?.execute(params![kind.0, subject, value, int(stamp.at_ms), stamp.device.0])?;
        Ok(())
    }

    /// Takes registers that the backup does not have as they are, at most so many.
    pub(crate) fn registers_for_backup(&self, limit: usize) -> Result<Vec<Register>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM own_registers JOIN backup_registers USING (kind, subject) ORDER BY kind, subject LIMIT ?1"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        Ok(statement.query_map([limit as i64], read)?.collect::<Result<_, _>>()?)
    }

    /// The backup has a register as it is.
    pub(crate) fn clean_backup_register(&self, register: &Register) -> Result<(), Error> {
        let sql = "DELETE FROM backup_registers WHERE kind = ?1 AND subject = ?2";
        self.conn.prepare_cached(sql)?.execute(params![register.kind.0, register.subject])?;
        Ok(())
    }

    /// A message that was packed is not in the backup after all.
    pub(crate) fn unpack_for_backup(&self, message: &MessageId) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO backup_dirty (message) SELECT position FROM messages WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute([message.0])?;
        Ok(())
    }

    /// The same for a register.
    pub(crate) fn unpack_register_for_backup(&self, register: &Register) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO backup_registers (kind, subject) VALUES (?1, ?2)";
        self.conn.prepare_cached(sql)?.execute(params![register.kind.0, register.subject])?;
        Ok(())
    }

    /// What is dirty and can never be packed: messages that are gone, and what the program said.
    pub(crate) fn clean_backup_rest(&self) -> Result<(), Error> {
        let sql = "DELETE FROM backup_dirty WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.position = backup_dirty.message
            AND m.kind <> 1 AND m.hidden = 0)";
        self.conn.prepare_cached(sql)?.execute([])?;
        self.conn.prepare_cached("DELETE FROM backup_registers")?.execute([])?;
        Ok(())
    }

    pub(crate) fn add_backup_pack(&self, pack: &PackRef) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO backup_packs (blob, key, size, messages, named) VALUES (?1, ?2, ?3, ?4, 0)";
        self.conn.prepare_cached(sql)?.execute(params![pack.blob.0, pack.key, pack.size, pack.messages])?;
        Ok(())
    }

    /// The packs of the backup that the next index is to name, the newest last, and whether the one at the server names each.
    pub(crate) fn backup_packs(&self) -> Result<Vec<(PackRef, bool)>, Error> {
        let sql = "SELECT blob, key, size, messages, named FROM backup_packs WHERE named <> 2 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let pack = PackRef { blob: BlobId(row.get(0)?), key: row.get(1)?, size: row.get(2)?, messages: row.get(3)? };
            Ok((pack, row.get(4)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The index at the server is another than the one that this device wrote last: its packs take the place of those that the
    /// last index named. What has been sent since comes after them.
    pub(crate) fn adopt_backup_packs(&self, packs: &[PackRef]) -> Result<(), Error> {
        let own = self.backup_packs()?;
        self.conn.prepare_cached("DELETE FROM backup_packs")?.execute([])?;
        for pack in packs.iter().chain(own.iter().filter(|(_, named)| !named).map(|(pack, _)| pack)) {
            self.add_backup_pack(pack)?;
        }
        self.backup_named(packs)
    }

    /// The next index leaves a pack out, whose content is packed anew: 2 in the table.
    pub(crate) fn sweep_backup_pack(&self, blob: &BlobId) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE backup_packs SET named = 2 WHERE blob = ?1")?.execute([blob.0])?;
        Ok(())
    }

    /// All packs that this device knows of, those that have been swept included.
    pub(crate) fn backup_blobs(&self) -> Result<BTreeSet<BlobId>, Error> {
        let mut statement = self.conn.prepare_cached("SELECT blob FROM backup_packs")?;
        let rows = statement.query_map([], |row| row.get(0).map(BlobId))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The index at the server names these from here on, and what has been swept no more.
    pub(crate) fn backup_named(&self, packs: &[PackRef]) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM backup_packs WHERE named = 2")?.execute([])?;
        let mut statement = self.conn.prepare_cached("UPDATE backup_packs SET named = 1 WHERE blob = ?1")?;
        for pack in packs {
            statement.execute([pack.blob.0])?;
        }
        Ok(())
    }
}
