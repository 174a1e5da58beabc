//! The account and device of this profile, and the pinned device lists.

use parlour_e2ee::{BackupKey, Lists};
use parlour_wire::{AccountId, DeviceId, identity::VerifiedList};
use rusqlite::{OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::{Store, int};
use crate::error::Error;

/// Who this profile is.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) account_key: [u8; 32],
    /// Address with the pinned fingerprint; without one if the system's authorities vouch for the server's certificate.
    pub(crate) server: String,
    /// Ed25519 key by which the server signs commit receipts.
    pub(crate) receipt_key: [u8; 32],
    pub(crate) device: DeviceId,
    pub(crate) label: String,
    /// Secret of the device's signature key; `None` once logged out.
    pub(crate) device_secret: Option<Zeroizing<[u8; 32]>>,
    pub(crate) certificate: Vec<u8>,
    /// Opens the account's backup; `None` once logged out.
    pub(crate) backup_key: Option<BackupKey>,
}

/// What became of an offered device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// It is the pinned one.
    Same,
    /// It is pinned from here on.
    Pinned,
    /// It is older than the pinned one, or another of the same version. It was not taken.
    Refused,
}

impl Store {
    pub(crate) fn account(&self) -> Result<Option<Account>, Error> {
        let sql = "SELECT account, name, account_key, server, device, label, device_secret, certificate, receipt_key, backup_key
            FROM account";
        let row = self.conn.prepare_cached(sql)?.query_row([], |row| {
            Ok(Account {
                account: AccountId(row.get(0)?),
                name: row.get(1)?,
                account_key: row.get(2)?,
                server: row.get(3)?,
                device: DeviceId(row.get(4)?),
                label: row.get(5)?,
                device_secret: row.get::<_, Option<[u8; 32]>>(6)?.map(Zeroizing::new),
                certificate: row.get(7)?,
                receipt_key: row.get(8)?,
                backup_key: row.get::<_, Option<[u8; 32]>>(9)?.map(|key| BackupKey::from_bytes(Zeroizing::new(key))),
            })
        });
        Ok(row.optional()?)
    }

    pub(crate) fn set_account(&self, account: &Account) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO account
            (one, account, name, account_key, server, device, label, device_secret, certificate, receipt_key, backup_key)
            VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.conn.prepare_cached(sql)?.execute(params![
            account.account.0,
            account.name,
            account.account_key,
            account.server,
            account.device.0,
            account.label,
            account.device_secret.as_ref().map(|secret| secret.as_slice()),
            account.certificate,
            account.receipt_key,
            account.backup_key.as_ref().map(BackupKey::as_bytes),
        ])?;
        Ok(())
    }

    /// Deletes every secret of this device and what cannot go on without them. Messages and contacts stay.
    pub(crate) fn forget_device(&self) -> Result<(), Error> {
        self.conn.execute_batch(
            "UPDATE account SET device_secret = NULL, backup_key = NULL; DELETE FROM mls; DELETE FROM outbox; DELETE FROM reports; DELETE FROM intents;
             UPDATE conversations SET phase = 0, seq = 0, hash = zeroblob(32) WHERE phase <> 4;
             UPDATE messages SET sealed = 0 WHERE outgoing = 1 AND state = 0;
             DELETE FROM own_outbox; DELETE FROM own_shown; DELETE FROM handovers; DELETE FROM parcels; DELETE FROM wanted;
             DELETE FROM intake; DELETE FROM backup_packs; DELETE FROM backup_dirty;
             DELETE FROM backup_registers; UPDATE backup SET keeper = 0;",
        )?;
        Ok(())
    }

    /// The pinned list of an account. Kept in memory, because its signatures are checked whenever it is read.
    pub(crate) fn list(&self, account: &AccountId) -> Result<Option<VerifiedList>, Error> {
        if let Some(list) = self.lists.borrow().get(account) {
            return Ok(Some(list.clone()));
        }
        let list = self.read_list(account)?;
        if let Some(list) = &list {
            self.lists.borrow_mut().insert(*account, list.clone());
        }
        Ok(list)
    }

    fn read_list(&self, account: &AccountId) -> Result<Option<VerifiedList>, Error> {
        let sql = "SELECT list FROM lists WHERE account = ?1";
        let bytes: Option<Vec<u8>> = self.conn.prepare_cached(sql)?.query_row([account.0], |row| row.get(0)).optional()?;
        bytes.map(|bytes| VerifiedList::parse(&bytes).map_err(Error::internal)).transpose()
    }

    /// Pins a list unless a higher one is known. A list of the next version must name the pinned one as its predecessor; one that
    /// skips versions is taken for its signature, because the versions between were never seen here.
    pub(crate) fn pin(&self, list: &VerifiedList) -> Result<Pin, Error> {
        if let Some(current) = self.list(&list.account())? {
            if list.hash() == current.hash() {
                return Ok(Pin::Same);
            }
            let (version, known) = (list.get().version, current.get().version);
            if version <= known || (known.checked_add(1) == Some(version) && !list.follows(&current)) {
                return Ok(Pin::Refused);
            }
        }
        let sql = "INSERT OR REPLACE INTO lists (account, version, list) VALUES (?1, ?2, ?3)";
        self.conn.prepare_cached(sql)?.execute(params![list.account().0, int(list.get().version), list.as_bytes()])?;
        self.lists.borrow_mut().insert(list.account(), list.clone());
        Ok(Pin::Pinned)
    }
}

impl Lists for Store {
    fn list(&self, account: &AccountId) -> Option<VerifiedList> {
        Self::list(self, account).unwrap_or_else(|error| {
            tracing::error!(%error, "a pinned device list cannot be read");
            None
        })
    }
}
