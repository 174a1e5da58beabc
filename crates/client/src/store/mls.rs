//! The rows of the encryption engine: opaque keys and values, changed in the same transaction as everything else.

use parlour_e2ee::{Changes, Rows, RowsError};
use rusqlite::{OptionalExtension as _, params};

use super::Store;
use crate::error::Error;

impl Rows for Store {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let read = || -> rusqlite::Result<Option<Vec<u8>>> {
            self.conn.prepare_cached("SELECT value FROM mls WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
        };
        read().map_err(|error| RowsError(error.to_string()))
    }
}

impl Store {
    pub(crate) fn apply(&self, changes: &Changes) -> Result<(), Error> {
        let mut put = self.conn.prepare_cached(
            "INSERT INTO mls (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?;
        let mut delete = self.conn.prepare_cached("DELETE FROM mls WHERE key = ?1")?;
        for (key, value) in &changes.rows {
            match value {
                Some(value) => put.execute(params![key, value])?,
                None => delete.execute([key])?,
            };
        }
        Ok(())
    }
}
