//! The account and device of this profile, and the pinned device lists.

use parlour_e2ee::{BackupKey, Lists};
use parlour_wire::{AccountId, DeviceId, identity::VerifiedList, limits};
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
    /// The device has not logged out by itself: the account has ended it.
    pub(crate) revoked: bool,
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
    /// It is newer, and takes back what the pinned one says about a device. It was not taken.
    Contradicts,
}

impl Store {
    pub(crate) fn account(&self) -> Result<Option<Account>, Error> {
        let sql = "SELECT account, name, account_key, server, device, label, device_secret, certificate, receipt_key, backup_key,
            revoked FROM account";
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
                revoked: row.get(10)?,
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

    /// Deletes every secret of this device and what cannot go on without them. Messages and contacts stay, and what waits goes out
    /// if the account comes back; a file before its message.
    pub(crate) fn forget_device(&self, revoked: bool) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE account SET revoked = ?1")?.execute([revoked])?;
        self.conn.execute_batch(
            "UPDATE account SET device_secret = NULL, backup_key = NULL; DELETE FROM mls; DELETE FROM outbox; DELETE FROM reports; DELETE FROM intents;
             UPDATE conversations SET phase = 0, seq = 0, hash = zeroblob(32) WHERE phase <> 4;
             UPDATE messages SET sealed = 0 WHERE outgoing = 1 AND state = 0
                AND id NOT IN (SELECT message FROM uploads WHERE whole = 0);
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

    /// Pins a list unless a higher one is known. A list of the next version must name the pinned one as its predecessor. Of one that
    /// skips versions the predecessor was never seen here, so it is held against what every list between had to pass on.
    pub(crate) fn pin(&self, list: &VerifiedList) -> Result<Pin, Error> {
        if let Some(current) = self.list(&list.account())? {
            if list.hash() == current.hash() {
                return Ok(Pin::Same);
            }
            let (version, known) = (list.get().version, current.get().version);
            if version <= known || (known.checked_add(1) == Some(version) && !list.follows(&current)) {
                return Ok(Pin::Refused);
            }
            if !accounts_for(list, &current) {
                return Ok(Pin::Contradicts);
            }
        }
        let sql = "INSERT OR REPLACE INTO lists (account, version, list) VALUES (?1, ?2, ?3)";
        self.conn.prepare_cached(sql)?.execute(params![list.account().0, int(list.get().version), list.as_bytes()])?;
        self.lists.borrow_mut().insert(list.account(), list.clone());
        Ok(Pin::Pinned)
    }
}

/// Whether a list says of every device that an earlier one of its account names what can have become of it: who was revoked stays so,
/// who was listed is still there or was revoked. Of devices that were revoked long ago a full list has forgotten some.
fn accounts_for(list: &VerifiedList, earlier: &VerifiedList) -> bool {
    let revoked = &list.get().revoked;
    let is_revoked = |device: &DeviceId| revoked.len() >= limits::REVOKED_PER_ACCOUNT || revoked.contains(device);
    let stays_out = |device: &DeviceId| list.certificate(device).is_none() && is_revoked(device);
    let listed = earlier.certificates().iter().map(|certificate| certificate.get().device());
    earlier.get().revoked.iter().all(stays_out)
        && listed.into_iter().all(|device| list.certificate(&device).is_some() || is_revoked(&device))
}

impl Lists for Store {
    fn list(&self, account: &AccountId) -> Option<VerifiedList> {
        Self::list(self, account).unwrap_or_else(|error| {
            tracing::error!(%error, "a pinned device list cannot be read");
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use parlour_e2ee::{AccountKey, DeviceKeys, Root};
    use parlour_wire::identity::VerifiedCertificate;

    use super::*;

    fn device(key: &AccountKey, label: &str) -> VerifiedCertificate {
        key.certify(&DeviceKeys::generate().public(), label, 1).unwrap()
    }

    #[test]
    fn a_list_that_skips_versions_accounts_for_every_device_of_the_one_before() {
        let key = AccountKey::from(&Root::generate());
        let [laptop, phone, other] = ["laptop", "phone", "other"].map(|label| device(&key, label));
        let lost = phone.get().device();
        let first = key.first_list(&laptop, 1).unwrap();
        let both = key.add_device(&first, &phone, 1).unwrap();
        let ended = key.revoke_device(&both, &lost, 1).unwrap();
        let later = key.add_device(&ended, &other, 1).unwrap();
        for earlier in [&first, &both, &ended] {
            assert!(accounts_for(&later, earlier));
        }
        // What whoever has the account's key signs instead of the truth.
        let branch = key.add_device(&both, &other, 1).unwrap();
        let back = key.add_device(&branch, &device(&key, "fourth"), 1).unwrap();
        assert!(!accounts_for(&back, &ended), "a device that was ended is listed again");
        let silent = key.sign_list(Some(&branch), std::slice::from_ref(&other), &[], 1).unwrap();
        assert!(!accounts_for(&silent, &both), "devices are gone and nobody ended them");
        let forgetful = key.sign_list(Some(&branch), &[laptop.clone(), other.clone()], &[], 1).unwrap();
        assert!(!accounts_for(&forgetful, &ended), "that a device was ended is forgotten");
        assert!(
            accounts_for(&key.only_device(&later, &device(&key, "recovered"), 1).unwrap(), &both),
            "a recovery ends them all"
        );
    }

    #[test]
    fn a_full_list_may_have_forgotten_who_was_ended_long_ago_but_lists_nobody_of_them_again() {
        let key = AccountKey::from(&Root::generate());
        let (laptop, phone) = (device(&key, "laptop"), device(&key, "phone"));
        let both = key.add_device(&key.first_list(&laptop, 1).unwrap(), &phone, 1).unwrap();
        let ended = key.revoke_device(&both, &phone.get().device(), 1).unwrap();
        let many: Vec<_> = (0..limits::REVOKED_PER_ACCOUNT as u128).map(|n| DeviceId(n.to_be_bytes())).collect();
        let full = key.sign_list(Some(&ended), std::slice::from_ref(&laptop), &many, 1).unwrap();
        assert!(!full.get().revoked.contains(&phone.get().device()));
        assert!(accounts_for(&full, &ended) && accounts_for(&full, &both));
        let back = key.add_device(&full, &phone, 1).unwrap();
        assert!(!accounts_for(&back, &ended));
    }
}
