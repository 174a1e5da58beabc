//! Writes about accounts, their devices and invitations.

use std::collections::{BTreeMap, BTreeSet};

use parlour_server::store::{Account, Committed, ListedDevice, Refusal, Written};
use parlour_wire::{AccountId, DeviceId};

use super::{Apply, Outcome};
use crate::sqlite::rows::{self, Invite, signed, unsigned};

/// A device that may speak.
const ACTIVE: u8 = 0;
/// A device that logged out. It does not come back.
const LOGGED_OUT: u8 = 1;
/// A device that is gone from the list of its account.
const UNLISTED: u8 = 2;

/// A device of an account, as the database has it.
struct Known {
    key: i64,
    state: u8,
}

impl Apply<'_> {
    pub(super) fn create_account(
        &mut self,
        account: &Account,
        devices: &[ListedDevice],
        invite: Option<&[u8; 32]>,
        now_ms: u64,
    ) -> rusqlite::Result<Outcome> {
        if self.is_named(account.name.as_str())? {
            return Ok(Err(Refusal::NameTaken));
        }
        if self.account_key(&account.id)?.is_some() {
            return Ok(Err(Refusal::AccountExists));
        }
        if self.has_foreign_device(None, devices)? {
            return Ok(Err(Refusal::NoDevice));
        }
        if let Some(token) = invite {
            let found = self.one("SELECT uses, expires_ms FROM invite WHERE token = ?1", [token], Invite::read)?;
            if let Err(refusal) = Invite::check(found, now_ms) {
                return Ok(Err(refusal));
            }
            self.run("UPDATE invite SET uses = uses - 1 WHERE token = ?1", [token])?;
        }
        self.run(
            "INSERT INTO account (id, name, record, wrapped_root, device_list, list_version, disabled, seen_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                account.id.as_bytes(),
                account.name.as_str(),
                &account.record,
                &account.wrapped_root,
                &account.device_list,
                signed(account.list_version),
                account.disabled,
                signed(account.seen_ms),
            ),
        )?;
        let key = self.db.last_insert_rowid();
        self.run("INSERT INTO name (name, account) VALUES (?1, ?2)", (account.name.as_str(), key))?;
        for device in devices {
            self.begin_device(key, device)?;
        }
        Ok(Ok(Written::Done))
    }

    /// Whether a user or group has the name.
    pub(super) fn is_named(&self, name: &str) -> rusqlite::Result<bool> {
        Ok(self.one("SELECT 1 FROM name WHERE name = ?1", [name], |_| Ok(()))?.is_some())
    }

    pub(super) fn replace_recovery(&mut self, account: &AccountId, record: &[u8], wrapped: &[u8]) -> rusqlite::Result<Outcome> {
        let Some(key) = self.account_key(account)? else { return Ok(Err(Refusal::NoAccount)) };
        self.run(
            "INSERT INTO recovery (account, record, wrapped_root) VALUES (?1, ?2, ?3) \
             ON CONFLICT (account) DO UPDATE SET record = excluded.record, wrapped_root = excluded.wrapped_root",
            (key, record, wrapped),
        )?;
        Ok(Ok(Written::Done))
    }

    pub(super) fn replace_password(&mut self, account: &AccountId, record: &[u8], wrapped: &[u8]) -> rusqlite::Result<Outcome> {
        let changed =
            self.run("UPDATE account SET record = ?2, wrapped_root = ?3 WHERE id = ?1", (account.as_bytes(), record, wrapped))?;
        Ok(if changed == 0 { Err(Refusal::NoAccount) } else { Ok(Written::Done) })
    }

    pub(super) fn replace_device_list(
        &mut self,
        account: &AccountId,
        device_list: &[u8],
        version: u64,
        devices: &[ListedDevice],
    ) -> rusqlite::Result<Outcome> {
        let current = self.one("SELECT account, list_version FROM account WHERE id = ?1", [account.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, unsigned(row, 1)?))
        })?;
        let Some((key, current)) = current else { return Ok(Err(Refusal::NoAccount)) };
        if current.checked_add(1) != Some(version) {
            return Ok(Err(Refusal::StaleList));
        }
        if self.has_foreign_device(Some(key), devices)? {
            return Ok(Err(Refusal::NoDevice));
        }
        self.run(
            "UPDATE account SET device_list = ?2, list_version = ?3 WHERE account = ?1",
            (key, device_list, signed(version)),
        )?;
        let known = self.known_devices(key)?;
        let listed: BTreeSet<DeviceId> = devices.iter().map(|device| device.id).collect();
        let mut ended = Vec::new();
        for (id, device) in known.iter().filter(|(id, device)| device.state == ACTIVE && !listed.contains(*id)) {
            self.end_device(device.key, UNLISTED)?;
            ended.push(*id);
        }
        for device in devices {
            self.begin_device(key, device)?;
        }
        self.changes.push(Committed::Devices { account: *account, version, ended });
        Ok(Ok(Written::Done))
    }

    pub(super) fn remove_device(&mut self, device: &DeviceId) -> rusqlite::Result<Outcome> {
        let found = self.one(
            "SELECT device.device, account.id, account.list_version FROM device JOIN account USING (account) \
             WHERE device.id = ?1 AND device.state = 0",
            [device.as_bytes()],
            |row| Ok((row.get::<_, i64>(0)?, rows::account_id(row, 1)?, unsigned(row, 2)?)),
        )?;
        let Some((key, account, version)) = found else { return Ok(Err(Refusal::NoDevice)) };
        self.end_device(key, LOGGED_OUT)?;
        self.changes.push(Committed::Devices { account, version, ended: vec![*device] });
        Ok(Ok(Written::Done))
    }

    pub(super) fn seen(&mut self, device: &DeviceId, now_ms: u64) -> rusqlite::Result<Outcome> {
        let now = signed(now_ms);
        let account = self.one(
            "UPDATE device SET seen_ms = max(seen_ms, ?2) WHERE id = ?1 AND state = 0 RETURNING account",
            (device.as_bytes(), now),
            |row| row.get::<_, i64>(0),
        )?;
        if let Some(account) = account {
            self.run("UPDATE account SET seen_ms = max(seen_ms, ?2) WHERE account = ?1", (account, now))?;
        }
        Ok(Ok(Written::Done))
    }

    pub(super) fn create_invite(&mut self, token: &[u8; 32], uses: u32, expires_ms: u64) -> rusqlite::Result<Outcome> {
        self.run(
            "INSERT INTO invite (token, uses, expires_ms) VALUES (?1, ?2, ?3) \
             ON CONFLICT (token) DO UPDATE SET uses = excluded.uses, expires_ms = excluded.expires_ms",
            (token, uses, signed(expires_ms)),
        )?;
        Ok(Ok(Written::Done))
    }

    /// Whether a listed device is or was another account's. Whoever lists a stranger's key must not take the device from them.
    fn has_foreign_device(&self, account: Option<i64>, devices: &[ListedDevice]) -> rusqlite::Result<bool> {
        for device in devices {
            let owner: Option<i64> =
                self.one("SELECT account FROM device WHERE id = ?1", [device.id.as_bytes()], |row| row.get(0))?;
            if owner.is_some() && owner != account {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn known_devices(&self, account: i64) -> rusqlite::Result<BTreeMap<DeviceId, Known>> {
        let rows = self.all("SELECT id, device, state FROM device WHERE account = ?1", [account], |row| {
            Ok((rows::device_id(row, 0)?, Known { key: row.get(1)?, state: row.get(2)? }))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Lets a listed device speak, unless it has logged out.
    fn begin_device(&self, account: i64, device: &ListedDevice) -> rusqlite::Result<()> {
        self.run(
            "INSERT INTO device (id, account, signature_key, seen_ms, state) VALUES (?1, ?2, ?3, 0, ?4) \
             ON CONFLICT (id) DO UPDATE SET state = excluded.state WHERE state = ?5",
            (device.id.as_bytes(), account, &device.signature_key, ACTIVE, UNLISTED),
        )?;
        Ok(())
    }

    /// Ends a device and takes away what it has: cursors, welcomes, key packages.
    fn end_device(&mut self, key: i64, state: u8) -> rusqlite::Result<()> {
        let welcomes: Vec<(i64, i64)> =
            self.all("SELECT conversation, welcome FROM cursor WHERE device = ?1 AND welcome IS NOT NULL", [key], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        self.run("DELETE FROM cursor WHERE device = ?1", [key])?;
        for (conversation, seq) in welcomes {
            self.drop_unneeded_welcome(conversation, seq)?;
        }
        self.run("DELETE FROM key_package WHERE device = ?1", [key])?;
        self.run("DELETE FROM last_resort WHERE device = ?1", [key])?;
        self.run("UPDATE device SET state = ?2 WHERE device = ?1", (key, state))?;
        // It may be a known sender of any conversation.
        self.cache.clear();
        Ok(())
    }
}
