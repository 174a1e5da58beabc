//! Writes about key packages.

use parlour_server::store::{Refusal, Written};
use parlour_wire::{
    AccountId, DeviceId,
    api::{DeviceKeyPackage, Suite},
    limits,
};

use super::{Apply, Outcome};
use crate::sqlite::rows::{self, unsigned};

impl Apply<'_> {
    pub(super) fn publish_key_packages(
        &mut self,
        device: &DeviceId,
        suite: Suite,
        one_time: &[Vec<u8>],
        last_resort: Option<&[u8]>,
        replace: bool,
    ) -> rusqlite::Result<Outcome> {
        let Some(key) = self.device_key(device)? else { return Ok(Err(Refusal::NoDevice)) };
        if replace {
            self.run("DELETE FROM key_package WHERE device = ?1 AND suite = ?2", (key, suite.0))?;
        }
        let held = self
            .one("SELECT count(*) FROM key_package WHERE device = ?1 AND suite = ?2", (key, suite.0), |row| unsigned(row, 0))?
            .map_or(0, |held| usize::try_from(held).unwrap_or(usize::MAX));
        for package in one_time.iter().take(limits::KEY_PACKAGES_PER_DEVICE.saturating_sub(held)) {
            self.run("INSERT INTO key_package (device, suite, bytes) VALUES (?1, ?2, ?3)", (key, suite.0, package))?;
        }
        if let Some(package) = last_resort {
            self.run(
                "INSERT INTO last_resort (device, suite, bytes) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (device, suite) DO UPDATE SET bytes = excluded.bytes",
                (key, suite.0, package),
            )?;
        }
        Ok(Ok(Written::Done))
    }

    pub(super) fn claim_key_packages(&mut self, account: &AccountId, suite: Suite) -> rusqlite::Result<Outcome> {
        let found = self.one("SELECT account, device_list FROM account WHERE id = ?1", [account.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let Some((key, device_list)) = found else { return Ok(Err(Refusal::NoAccount)) };
        let devices = self.all("SELECT device, id FROM device WHERE account = ?1 AND state = 0 ORDER BY id", [key], |row| {
            Ok((row.get::<_, i64>(0)?, rows::device_id(row, 1)?))
        })?;
        let mut packages = Vec::with_capacity(devices.len());
        for (key, device) in devices {
            let package = match self.take_one_time(key, suite)? {
                None => self.last_resort(key, suite)?,
                one_time => one_time,
            };
            packages.extend(package.map(|package| DeviceKeyPackage { device, package }));
        }
        Ok(Ok(Written::KeyPackages { device_list, packages }))
    }

    /// The oldest one-time key package of a device, which nobody gets again.
    fn take_one_time(&self, device: i64, suite: Suite) -> rusqlite::Result<Option<Vec<u8>>> {
        self.one(
            "DELETE FROM key_package WHERE key_package = \
             (SELECT min(key_package) FROM key_package WHERE device = ?1 AND suite = ?2) RETURNING bytes",
            (device, suite.0),
            |row| row.get(0),
        )
    }

    fn last_resort(&self, device: i64, suite: Suite) -> rusqlite::Result<Option<Vec<u8>>> {
        self.one("SELECT bytes FROM last_resort WHERE device = ?1 AND suite = ?2", (device, suite.0), |row| row.get(0))
    }
}
