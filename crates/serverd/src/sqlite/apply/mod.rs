//! Applying writes inside the writer's transaction.
//!
//! Many writes share a transaction, so a refused one must leave no trace: every rule is checked before the first row changes.

mod account;
mod blob;
mod commit;
mod keys;
mod leave;
mod log;
mod retain;

use std::collections::{HashMap, HashSet};

use parlour_server::store::{Committed, Refusal, Write, Written};
use parlour_wire::{AccountId, ConversationId, DeviceId};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::rows::unsigned;

/// Conversations whose heads are kept at hand.
const HEADS: usize = 16_384;
/// Senders that are kept at hand for one conversation.
const SENDERS: usize = 256;

/// The setting that probes change.
pub(super) const PROBE: &str = "probe";

pub(super) type Outcome = Result<Written, Refusal>;

/// The end of a log, and what an append needs to know about its conversation.
struct Head {
    key: i64,
    kind: u8,
    seq: u64,
    hash: [u8; 32],
    epoch: u64,
    /// The oldest epoch that every device of the conversation was in: that of the last join.
    floor: u64,
    /// When the newest entry was stored.
    stored_ms: u64,
    /// Whether `conversation.oldest_ms` is set, so that retention finds the conversation.
    dated: bool,
    /// Devices known to be in the conversation; others are looked up.
    senders: HashSet<DeviceId>,
}

/// What the writer remembers between writes. It holds nothing that is not in the database or in the open transaction, and is
/// dropped whole when a transaction fails.
#[derive(Default)]
pub(super) struct Cache {
    heads: HashMap<ConversationId, Head>,
    /// How far retention has come; losing it costs another look.
    retained: retain::Position,
}

impl Cache {
    pub(super) fn clear(&mut self) {
        self.heads.clear();
    }
}

/// Applies writes on a connection with an open transaction.
pub(super) struct Apply<'a> {
    db: &'a Connection,
    cache: &'a mut Cache,
    changes: Vec<Committed>,
}

impl<'a> Apply<'a> {
    pub(super) fn new(db: &'a Connection, cache: &'a mut Cache) -> Self {
        Self { db, cache, changes: Vec::new() }
    }

    /// What observers are to be told once the transaction is on disk.
    pub(super) fn into_changes(self) -> Vec<Committed> {
        self.changes
    }

    /// Applies one write.
    pub(super) fn apply(&mut self, write: &Write) -> rusqlite::Result<Outcome> {
        match write {
            Write::CreateAccount { account, devices, invite, now_ms } => {
                self.create_account(account, devices, invite.as_ref(), *now_ms)
            }
            Write::ReplacePassword { account, recovery: true, record, wrapped_root } => {
                self.replace_recovery(account, record, wrapped_root)
            }
            Write::ReplacePassword { account, recovery: false, record, wrapped_root } => {
                self.replace_password(account, record, wrapped_root)
            }
            Write::ReplaceDeviceList { account, device_list, version, devices } => {
                self.replace_device_list(account, device_list, *version, devices)
            }
            Write::RemoveDevice { device } => self.remove_device(device),
            Write::PublishKeyPackages { device, suite, one_time, last_resort, replace } => {
                self.publish_key_packages(device, *suite, one_time, last_resort.as_deref(), *replace)
            }
            Write::ClaimKeyPackages { account, suite } => self.claim_key_packages(account, *suite),
            Write::CreateInvite { token, uses, expires_ms } => self.create_invite(token, *uses, *expires_ms),
            Write::Append(append) => self.append(append),
            Write::Commit(commit) => self.commit(commit),
            Write::Leave(leave) => self.leave(leave),
            Write::MoveCursors { device, cursors } => self.move_cursors(device, cursors),
            Write::Seen { device, now_ms } => self.seen(device, *now_ms),
            Write::Retain { before_ms, limit } => self.retain(*before_ms, *limit),
            Write::InitSetting { key, value } => self.init_setting(key, value),
            Write::BeginBlob { account, blob, size, quota, now_ms } => self.begin_blob(account, blob, (*size, *quota), *now_ms),
            Write::FinishBlob { account, blob, size, now_ms } => self.finish_blob(account, blob, *size, *now_ms),
            Write::AbandonOldBlobs { before_ms, limit } => self.abandon_old_blobs(*before_ms, *limit),
            Write::ReleaseBlobs { before_ms, limit } => self.release_blobs(*before_ms, *limit),
            Write::DropBlob { blob, before_ms } => self.drop_blob(blob, *before_ms),
            Write::SetBackup { account, version, index, blobs } => self.set_backup(account, *version, index, blobs),
            Write::DeleteBackup { account } => self.delete_backup(account),
        }
    }

    /// Changes some pages and needs some more, as writes do.
    pub(super) fn probe(&mut self) -> rusqlite::Result<Outcome> {
        const ROOM: &str = "probe.room";
        let keep = "INSERT INTO setting (key, value) VALUES (?1, randomblob(4096)) \
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.run(keep, [PROBE])?;
        self.run("INSERT INTO setting (key, value) VALUES (?1, zeroblob(65536))", [ROOM])?;
        self.run("DELETE FROM setting WHERE key = ?1", [ROOM])?;
        Ok(Ok(Written::Done))
    }

    fn init_setting(&mut self, key: &str, value: &[u8]) -> rusqlite::Result<Outcome> {
        self.run("INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING", (key, value))?;
        Ok(Ok(Written::Done))
    }

    /// Runs a statement and says how many rows it changed.
    fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }

    /// The first row of a query, if it has one.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.db.prepare_cached(sql)?.query_row(params, read).optional()
    }

    /// All rows of a query.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.db.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    /// The key of an account.
    fn account_key(&self, account: &AccountId) -> rusqlite::Result<Option<i64>> {
        self.one("SELECT account FROM account WHERE id = ?1", [account.as_bytes()], |row| row.get(0))
    }

    /// The key of a device that may speak.
    fn device_key(&self, device: &DeviceId) -> rusqlite::Result<Option<i64>> {
        self.one("SELECT device FROM device WHERE id = ?1 AND state = 0", [device.as_bytes()], |row| row.get(0))
    }

    /// Makes sure that the head of a conversation is at hand; `false` if there is no such conversation.
    fn load_head(&mut self, id: &ConversationId) -> rusqlite::Result<bool> {
        if self.cache.heads.contains_key(id) {
            return Ok(true);
        }
        let Some(head) = self.read_head(id)? else { return Ok(false) };
        if self.cache.heads.len() >= HEADS {
            self.cache.clear();
        }
        self.cache.heads.insert(*id, head);
        Ok(true)
    }

    fn read_head(&self, id: &ConversationId) -> rusqlite::Result<Option<Head>> {
        let conversation = self.one(
            "SELECT conversation, kind, epoch, floor, oldest_ms IS NOT NULL FROM conversation WHERE id = ?1",
            [id.as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?, unsigned(row, 2)?, unsigned(row, 3)?, row.get(4)?)),
        )?;
        let Some((key, kind, epoch, floor, dated)) = conversation else { return Ok(None) };
        let newest = self.db.prepare_cached(super::rows::NEWEST_ENTRY)?.query_row([key], |row| super::rows::entry(row, *id))?;
        Ok(Some(Head {
            key,
            kind,
            seq: newest.seq,
            hash: newest.hash(),
            epoch,
            floor,
            stored_ms: newest.stored_ms,
            dated,
            senders: HashSet::new(),
        }))
    }
}
