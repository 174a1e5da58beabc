//! Files that are on their way to the server, and files that only this profile has.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use parlour_wire::{BlobId, ConversationId, MessageId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::{core::LocalFile, error::Error};

pub(super) const TABLES: &str = "
-- Files on their way to the server. Their messages are encrypted when they are there.
CREATE TABLE uploads (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL UNIQUE REFERENCES messages (id) ON DELETE CASCADE,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    blob BLOB                    -- what it is sealed to; nothing of it leaves before this is here
) STRICT;

-- Files that only this profile has, from an import or as long texts written here: sealed, in its folder, under the names of their blobs.
CREATE TABLE kept_files (
    message BLOB NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    blob BLOB NOT NULL
) STRICT;
";

/// A migration of its own.
pub(super) const WHOLE: &str = "
-- 1: the server has all of it, and no message in a log names it yet
ALTER TABLE uploads ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;
";

/// A file on its way. Its key is in the content of its message.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) message: MessageId,
    pub(crate) file: LocalFile,
    /// What it is sealed to. Nothing of it has left before this is known.
    pub(crate) blob: Option<BlobId>,
    /// The server has it, and keeps it for a while: what it is made of stays known until a message names it there.
    pub(crate) whole: bool,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let path = OsString::from_vec(row.get(1)?).into();
    Ok(Upload {
        message: MessageId(row.get(0)?),
        file: LocalFile { path, size: uint(row.get(2)?), modified_ns: row.get(3)?, thumbnail: None },
        blob: row.get::<_, Option<[u8; 32]>>(4)?.map(BlobId),
        whole: row.get(5)?,
    })
}

impl Store {
    pub(crate) fn add_upload(&self, upload: &Upload) -> Result<(), Error> {
        let sql = "INSERT INTO uploads (message, path, size, modified_ns, blob) VALUES (?1, ?2, ?3, ?4, ?5)";
        let Upload { message, file, blob, .. } = upload;
        let path = file.path.as_os_str().as_bytes();
        let blob = blob.map(|blob| blob.0);
        self.conn.prepare_cached(sql)?.execute(params![message.0, path, int(file.size), file.modified_ns, blob])?;
        Ok(())
    }

    pub(crate) fn upload(&self, message: &MessageId) -> Result<Option<Upload>, Error> {
        let sql = "SELECT message, path, size, modified_ns, blob, whole FROM uploads WHERE message = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([message.0], read).optional()?)
    }

    /// All that the server does not have whole, each with the conversation that it is for; the first that was sent first.
    pub(crate) fn uploads(&self) -> Result<Vec<(Upload, ConversationId)>, Error> {
        let sql = "SELECT u.message, u.path, u.size, u.modified_ns, u.blob, u.whole, m.conversation
            FROM uploads u JOIN messages m ON m.id = u.message WHERE u.whole = 0 ORDER BY u.position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((read(row)?, ConversationId(row.get(6)?))))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Whether a file is on its way that is for a conversation.
    pub(crate) fn has_upload(&self, conversation: &ConversationId) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM uploads u JOIN messages m ON m.id = u.message WHERE u.whole = 0 AND m.conversation = ?1";
        Ok(self.conn.prepare_cached(sql)?.exists([conversation.0])?)
    }

    pub(crate) fn set_upload_blob(&self, message: &MessageId, blob: &BlobId) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE uploads SET blob = ?2 WHERE message = ?1")?.execute(params![message.0, blob.0])?;
        Ok(())
    }

    pub(crate) fn set_upload_whole(&self, message: &MessageId, whole: bool) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE uploads SET whole = ?2 WHERE message = ?1")?.execute(params![message.0, whole])?;
        Ok(())
    }

    /// Forgets one; whether it was there.
    pub(crate) fn remove_upload(&self, message: &MessageId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("DELETE FROM uploads WHERE message = ?1")?.execute([message.0])? == 1)
    }

    /// Notes that the profile's folder has the file of a message.
    pub(crate) fn keep_file(&self, message: &MessageId, blob: &BlobId) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO kept_files (message, blob) VALUES (?1, ?2)";
        self.conn.prepare_cached(sql)?.execute(params![message.0, blob.0])?;
        Ok(())
    }

    /// The file of a message that the profile's folder has.
    pub(crate) fn kept_file(&self, message: &MessageId) -> Result<Option<BlobId>, Error> {
        let sql = "SELECT blob FROM kept_files WHERE message = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([message.0], |row| row.get(0).map(BlobId)).optional()?)
    }

    /// The files of a conversation's messages that the profile's folder has.
    pub(crate) fn kept_files_of(&self, conversation: &ConversationId) -> Result<Vec<BlobId>, Error> {
        let sql = "SELECT k.blob FROM kept_files k JOIN messages m ON m.id = k.message WHERE m.conversation = ?1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([conversation.0], |row| row.get(0).map(BlobId))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// The files that the profile's folder has to have; whatever else is there has no message any more.
    pub(crate) fn kept_files(&self) -> Result<BTreeSet<BlobId>, Error> {
        let mut statement = self.conn.prepare_cached("SELECT blob FROM kept_files")?;
        let rows = statement.query_map([], |row| row.get(0).map(BlobId))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }
}
