//! What people say about themselves, and the settings of this profile.

use parlour_wire::{AccountId, content::Profile};
use rusqlite::{OptionalExtension as _, params};

use super::{Store, int, uint};
use crate::error::Error;

impl Store {
    /// What an account says about itself, and since when.
    pub(crate) fn profile(&self, account: &AccountId) -> Result<Option<(Profile, u64)>, Error> {
        let sql = "SELECT display_name, status, avatar, updated_ms FROM profiles WHERE account = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok((Profile { display_name: row.get(0)?, status: row.get(1)?, avatar: row.get(2)? }, uint(row.get(3)?)))
        };
        Ok(self.conn.prepare_cached(sql)?.query_row([account.0], read).optional()?)
    }

    /// Notes what an account says about itself, unless something later is known; whether that changed anything.
    pub(crate) fn set_profile(&self, account: &AccountId, profile: &Profile, updated_ms: u64) -> Result<bool, Error> {
        let sql = "INSERT INTO profiles (account, display_name, status, avatar, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (account) DO UPDATE SET display_name = excluded.display_name, status = excluded.status,
            avatar = excluded.avatar, updated_ms = excluded.updated_ms WHERE excluded.updated_ms > updated_ms";
        let values = params![account.0, profile.display_name, profile.status, profile.avatar, int(updated_ms)];
        Ok(self.conn.prepare_cached(sql)?.execute(values)? == 1)
    }

    /// A setting, as it was put.
    pub(crate) fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT value FROM settings WHERE key = ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(crate) fn set_setting(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let sql = "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.conn.prepare_cached(sql)?.execute(params![key, value])?;
        Ok(())
    }
}
