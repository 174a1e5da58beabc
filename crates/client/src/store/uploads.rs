//! Files that are on their way to the server.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use parlour_wire::{BlobId, MessageId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::{core::LocalFile, error::Error};

/// A file on its way. Its key is in the content of its message.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) message: MessageId,
    pub(crate) file: LocalFile,
    /// What it is sealed to. Nothing of it has left before this is known.
    pub(crate) blob: Option<BlobId>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let path = OsString::from_vec(row.get(1)?).into();
    Ok(Upload {
        message: MessageId(row.get(0)?),
        file: LocalFile { path, size: uint(row.get(2)?), modified_ns: row.get(3)? },
        blob: row.get::<_, Option<[u8; 32]>>(4)?.map(BlobId),
    })
}

impl Store {
    pub(crate) fn add_upload(&self, upload: &Upload) -> Result<(), Error> {
        let sql = "INSERT INTO uploads (message, path, size, modified_ns, blob) VALUES (?1, ?2, ?3, ?4, ?5)";
        let Upload { message, file, blob } = upload;
        let path = file.path.as_os_str().as_bytes();
        let blob = blob.map(|blob| blob.0);
        self.conn.prepare_cached(sql)?.execute(params![message.0, path, int(file.size), file.modified_ns, blob])?;
        Ok(())
    }

    pub(crate) fn upload(&self, message: &MessageId) -> Result<Option<Upload>, Error> {
        let sql = "SELECT message, path, size, modified_ns, blob FROM uploads WHERE message = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([message.0], read).optional()?)
    }

    /// All of them, the first that was sent first.
    pub(crate) fn uploads(&self) -> Result<Vec<Upload>, Error> {
        let sql = "SELECT message, path, size, modified_ns, blob FROM uploads ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(crate) fn set_upload_blob(&self, message: &MessageId, blob: &BlobId) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE uploads SET blob = ?2 WHERE message = ?1")?.execute(params![message.0, blob.0])?;
        Ok(())
    }

    /// Forgets one; whether it was there.
    pub(crate) fn remove_upload(&self, message: &MessageId) -> Result<bool, Error> {
        Ok(self.conn.prepare_cached("DELETE FROM uploads WHERE message = ?1")?.execute([message.0])? == 1)
    }
}
