//! Writes about blobs, what keeps them, and backups. The bytes are files, and not handled here.

use std::collections::BTreeSet;

use parlour_server::store::{BLOB_CONVERSATIONS, Refusal, UPLOADS, Written};
use parlour_wire::{AccountId, BlobId};

use super::{Apply, Outcome};
use crate::sqlite::rows::{self, signed, unsigned};

impl Apply<'_> {
    /// Key and size of a blob that is whole and that the account may read.
    fn readable_blob(&self, blob: &BlobId, account: &AccountId) -> rusqlite::Result<Option<(i64, u64)>> {
        self.one(rows::READABLE_BLOB, (blob.as_bytes(), account.as_bytes()), |row| Ok((row.get(0)?, unsigned(row, 1)?)))
    }

    /// The keys of blobs that the account may name; `None` if there is one that it may not.
    pub(super) fn readable_blobs(&self, blobs: &[BlobId], account: &AccountId) -> rusqlite::Result<Option<Vec<i64>>> {
        let mut keys = Vec::with_capacity(blobs.len());
        for blob in blobs {
            let Some((key, _)) = self.readable_blob(blob, account)? else { return Ok(None) };
            keys.push(key);
        }
        Ok(Some(keys))
    }

    /// Whether a message of a conversation may name blobs that its sender may read.
    pub(super) fn may_name(&self, conversation: i64, blobs: &[i64]) -> rusqlite::Result<bool> {
        for blob in blobs {
            let may = self.one(
                "SELECT EXISTS (SELECT 1 FROM blob_named WHERE blob = ?1 AND conversation = ?2) \
                 OR (SELECT count(*) FROM blob_named WHERE blob = ?1) < ?3",
                (blob, conversation, BLOB_CONVERSATIONS as i64),
                |row| row.get(0),
            )?;
            if may != Some(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn name_blobs(&self, conversation: i64, blobs: &[i64], now_ms: u64) -> rusqlite::Result<()> {
        for blob in blobs {
            self.run(
                "INSERT INTO blob_named (blob, conversation, stored_ms) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (blob, conversation) DO UPDATE SET stored_ms = max(stored_ms, excluded.stored_ms)",
                (blob, conversation, signed(now_ms)),
            )?;
        }
        Ok(())
    }

    /// Bytes that an account keeps or has announced.
    fn used(&self, account: i64) -> rusqlite::Result<u64> {
        let used = self.one(
            "SELECT (SELECT coalesce(sum(size), 0) FROM blob_owner JOIN blob USING (blob) WHERE blob_owner.account = ?1) \
             + (SELECT coalesce(sum(size), 0) FROM upload WHERE upload.account = ?1)",
            [account],
            |row| unsigned(row, 0),
        )?;
        Ok(used.unwrap_or(0))
    }

    pub(super) fn begin_blob(
        &mut self,
        account: &AccountId,
        blob: &BlobId,
        (size, quota): (u64, u64),
        now_ms: u64,
    ) -> rusqlite::Result<Outcome> {
        let Some(key) = self.account_key(account)? else { return Ok(Err(Refusal::NoAccount)) };
        if let Some((blob, size)) = self.readable_blob(blob, account)? {
            let owns = self.one("SELECT 1 FROM blob_owner WHERE blob = ?1 AND account = ?2", (blob, key), |_| Ok(()))?;
            if owns.is_none() && self.used(key)?.saturating_add(size) > quota {
                return Ok(Err(Refusal::Quota));
            }
            self.own(blob, key, now_ms)?;
            return Ok(Ok(Written::Whole { size }));
        }
        let begun =
            self.one("SELECT size FROM upload WHERE account = ?1 AND blob = ?2", (key, blob.as_bytes()), |row| unsigned(row, 0))?;
        if let Some(begun) = begun {
            if begun != size {
                return Ok(Err(Refusal::OtherSize));
            }
            self.run(
                "UPDATE upload SET begun_ms = max(begun_ms, ?3) WHERE account = ?1 AND blob = ?2",
                (key, blob.as_bytes(), signed(now_ms)),
            )?;
            return Ok(Ok(Written::Done));
        }
        let uploads = self.one("SELECT count(*) FROM upload WHERE account = ?1", [key], |row| unsigned(row, 0))?.unwrap_or(0);
        if uploads >= UPLOADS as u64 || self.used(key)?.saturating_add(size) > quota {
            return Ok(Err(Refusal::Quota));
        }
        self.run(
            "INSERT INTO upload (account, blob, size, begun_ms) VALUES (?1, ?2, ?3, ?4)",
            (key, blob.as_bytes(), signed(size), signed(now_ms)),
        )?;
        Ok(Ok(Written::Done))
    }

    fn own(&self, blob: i64, account: i64, now_ms: u64) -> rusqlite::Result<()> {
        self.run("UPDATE blob SET touched_ms = max(touched_ms, ?2) WHERE blob = ?1", (blob, signed(now_ms)))?;
        self.run("INSERT INTO blob_owner (blob, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING", (blob, account))?;
        Ok(())
    }

    pub(super) fn finish_blob(
        &mut self,
        account: &AccountId,
        blob: &BlobId,
        size: u64,
        now_ms: u64,
    ) -> rusqlite::Result<Outcome> {
        let Some(account) = self.account_key(account)? else { return Ok(Err(Refusal::NoBlob)) };
        let ended = self
            .run("DELETE FROM upload WHERE account = ?1 AND blob = ?2 AND size = ?3", (account, blob.as_bytes(), signed(size)))?;
        if ended == 0 {
            return Ok(Err(Refusal::NoBlob));
        }
        self.run(
            "INSERT INTO blob (id, size, touched_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
            (blob.as_bytes(), signed(size), signed(now_ms)),
        )?;
        if let Some(key) = self.one("SELECT blob FROM blob WHERE id = ?1", [blob.as_bytes()], |row| row.get(0))? {
            self.own(key, account, now_ms)?;
        }
        Ok(Ok(Written::Done))
    }

    pub(super) fn abandon_old_blobs(&mut self, before_ms: u64, limit: u32) -> rusqlite::Result<Outcome> {
        let old: Vec<(i64, AccountId, BlobId)> = self.all(
            "SELECT account.account, account.id, upload.blob FROM upload JOIN account USING (account) \
             WHERE upload.begun_ms < ?1 LIMIT ?2",
            (signed(before_ms), limit),
            |row| Ok((row.get(0)?, rows::account_id(row, 1)?, row.get(2).map(BlobId)?)),
        )?;
        for (account, _, blob) in &old {
            self.run("DELETE FROM upload WHERE account = ?1 AND blob = ?2", (account, blob.as_bytes()))?;
        }
        Ok(Ok(Written::Abandoned(old.into_iter().map(|(_, account, blob)| (account, blob)).collect())))
    }

    pub(super) fn release_blobs(&mut self, before_ms: u64, limit: u32) -> rusqlite::Result<Outcome> {
        let released = self.run(
            "DELETE FROM blob_named WHERE (blob, conversation) IN \
             (SELECT blob, conversation FROM blob_named WHERE stored_ms < ?1 LIMIT ?2)",
            (signed(before_ms), limit),
        )?;
        Ok(Ok(Written::Deleted(u64::try_from(released).unwrap_or(u64::MAX))))
    }

    pub(super) fn drop_blob(&mut self, blob: &BlobId, before_ms: u64) -> rusqlite::Result<Outcome> {
        let sql = format!("SELECT blob FROM blob WHERE id = ?1 AND touched_ms < ?2 AND {}", rows::UNNEEDED_BLOB);
        let key: Option<i64> = self.one(&sql, (blob.as_bytes(), signed(before_ms)), |row| row.get(0))?;
        let Some(key) = key else { return Ok(Err(Refusal::NoBlob)) };
        self.run("DELETE FROM blob_owner WHERE blob = ?1", [key])?;
        self.run("DELETE FROM blob WHERE blob = ?1", [key])?;
        Ok(Ok(Written::Done))
    }

    pub(super) fn set_backup(
        &mut self,
        account: &AccountId,
        version: u64,
        index: &[u8],
        blobs: &[BlobId],
    ) -> rusqlite::Result<Outcome> {
        let Some(key) = self.account_key(account)? else { return Ok(Err(Refusal::NoAccount)) };
        let current = self.one("SELECT version FROM backup WHERE account = ?1", [key], |row| unsigned(row, 0))?;
        if current.unwrap_or(0).checked_add(1) != Some(version) {
            return Ok(Err(Refusal::StaleList));
        }
        let Some(blobs) = self.readable_blobs(blobs, account)? else { return Ok(Err(Refusal::NoBlob)) };
        let kept: BTreeSet<i64> = blobs.into_iter().collect();
        let before = self.backed_up(key)?;
        self.run(
            "INSERT INTO backup (account, version, bytes) VALUES (?1, ?2, ?3) \
             ON CONFLICT (account) DO UPDATE SET version = excluded.version, bytes = excluded.bytes",
            (key, signed(version), index),
        )?;
        for blob in kept.difference(&before) {
            self.run("INSERT INTO backup_blob (account, blob) VALUES (?1, ?2)", (key, blob))?;
        }
        for blob in before.difference(&kept) {
            self.let_go(key, *blob)?;
        }
        Ok(Ok(Written::Done))
    }

    pub(super) fn delete_backup(&mut self, account: &AccountId) -> rusqlite::Result<Outcome> {
        if let Some(key) = self.account_key(account)? {
            for blob in self.backed_up(key)? {
                self.let_go(key, blob)?;
            }
            self.run("DELETE FROM backup WHERE account = ?1", [key])?;
        }
        Ok(Ok(Written::Done))
    }

    fn backed_up(&self, account: i64) -> rusqlite::Result<BTreeSet<i64>> {
        let blobs = self.all("SELECT blob FROM backup_blob WHERE account = ?1", [account], |row| row.get(0))?;
        Ok(blobs.into_iter().collect())
    }

    /// A blob is not kept for a backup any more. If no message and no other backup names it, it is not the account's any more.
    fn let_go(&self, account: i64, blob: i64) -> rusqlite::Result<()> {
        self.run("DELETE FROM backup_blob WHERE account = ?1 AND blob = ?2", (account, blob))?;
        let unneeded = format!("SELECT 1 FROM blob WHERE blob = ?1 AND {}", rows::UNNEEDED_BLOB);
        if self.one(&unneeded, [blob], |_| Ok(()))?.is_some() {
            self.run("DELETE FROM blob_owner WHERE account = ?1 AND blob = ?2", (account, blob))?;
            self.run(
                "UPDATE blob SET touched_ms = 0 WHERE blob = ?1 AND NOT EXISTS (SELECT 1 FROM blob_owner WHERE blob = ?1)",
                [blob],
            )?;
        }
        Ok(())
    }
}
