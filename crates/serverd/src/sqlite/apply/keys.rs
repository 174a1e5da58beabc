//! Writes about key packages.

use parlour_server::store::{Refusal, Written};
use parlour_wire::{AccountId, DeviceId, api::DeviceKeyPackage, limits};

use super::{Apply, Outcome};
use crate::sqlite::rows::{self, unsigned};

impl Apply<'_> {
    pub(super) fn publish_key_packages(
        &mut self,
        device: &DeviceId,
        one_time: &[Vec<u8>],
        last_resort: Option<&[u8]>,
    ) -> rusqlite::Result<Outcome> {
        let Some(key) = self.device_key(device)? else { return Ok(Err(Refusal::NoDevice)) };
        let held = self
            .one("SELECT count(*) FROM key_package WHERE device = ?1", [key], |row| unsigned(row, 0))?
            .map_or(0, |held| usize::try_from(held).unwrap_or(usize::MAX));
        for package in one_time.iter().take(limits::KEY_PACKAGES_PER_DEVICE.saturating_sub(held)) {
            self.run("INSERT INTO key_package (device, bytes) VALUES (?1, ?2)", (key, package))?;
        }
        if let Some(package) = last_resort {
            self.run("UPDATE device SET last_resort = ?2 WHERE device = ?1", (key, package))?;
        }
        Ok(Ok(Written::Done))
    }

    pub(super) fn claim_key_packages(&mut self, account: &AccountId) -> rusqlite::Result<Outcome> {
        let found = self.one("SELECT account, device_list FROM account WHERE id = ?1", [account.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let Some((key, device_list)) = found else { return Ok(Err(Refusal::NoAccount)) };
        let devices =
            self.all("SELECT device, id, last_resort FROM device WHERE account = ?1 AND state = 0 ORDER BY id", [key], |row| {
                Ok((row.get::<_, i64>(0)?, rows::device_id(row, 1)?, row.get::<_, Option<Vec<u8>>>(2)?))
            })?;
        let mut packages = Vec::with_capacity(devices.len());
        for (key, device, last_resort) in devices {
            if let Some(package) = self.take_one_time(key)?.or(last_resort) {
                packages.push(DeviceKeyPackage { device, package });
            }
        }
        Ok(Ok(Written::KeyPackages { device_list, packages }))
    }

    /// The oldest one-time key package of a device, which nobody gets again.
    fn take_one_time(&self, device: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        self.one(
            "DELETE FROM key_package WHERE key_package = (SELECT min(key_package) FROM key_package WHERE device = ?1) \
             RETURNING bytes",
            [device],
            |row| row.get(0),
        )
    }
}
