//! Key packages: what others need to add this device. Their secrets are kept until a welcome uses them, or for half a year.

use openmls::prelude::{KeyPackage, KeyPackageIn, ProtocolVersion};
use parlour_wire::{
    api::{Added, DeviceKeyPackage, Suite},
    codec, limits,
};
use tls_codec::{Deserialize as _, Serialize as _};

use super::{
    Lists, Member,
    leaf::{Standing, admit},
    policy::Policy,
    record::{KeptPackage, PackageIndex},
    suite::{capabilities, credential, lifetime, mls_suite, wire_suite},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Kind, row_key},
};

/// How long the secrets of a package that nobody used are kept: a welcome may wait as long for a device that is off.
const RETENTION_MS: u64 = 180 * 24 * 60 * 60 * 1000;
/// Most unused one-time packages whose secrets are kept.
const KEPT: usize = 10 * limits::KEY_PACKAGES_PER_DEVICE;
/// The last-resort packages kept: the current one, and the one that was handed out just before it came.
const KEPT_LAST_RESORT: usize = 2;

impl Work<'_> {
    pub(super) fn key_packages(&mut self, suite: Suite, count: usize, now_ms: u64) -> Result<Vec<Vec<u8>>, E2eeError> {
        let mut index = self.package_index(suite)?;
        let mut packages = Vec::new();
        for _ in 0..count.min(limits::KEY_PACKAGES_PER_DEVICE) {
            let (bytes, row) = self.make_package(suite, false)?;
            packages.push(bytes);
            index.one_time.push(KeptPackage { row, created_ms: now_ms });
        }
        let surplus = index.one_time.len().saturating_sub(KEPT);
        let old = index.one_time.iter().take_while(|kept| kept.created_ms.saturating_add(RETENTION_MS) < now_ms).count();
        self.drop_packages(index.one_time.drain(..surplus.max(old)));
        self.put_package_index(suite, &index);
        Ok(packages)
    }

    pub(super) fn last_resort_key_package(&mut self, suite: Suite, now_ms: u64) -> Result<Vec<u8>, E2eeError> {
        let mut index = self.package_index(suite)?;
        let (bytes, row) = self.make_package(suite, true)?;
        index.last_resort.push(KeptPackage { row, created_ms: now_ms });
        let surplus = index.last_resort.len().saturating_sub(KEPT_LAST_RESORT);
        self.drop_packages(index.last_resort.drain(..surplus));
        self.put_package_index(suite, &index);
        Ok(bytes)
    }

    fn make_package(&self, suite: Suite, last_resort: bool) -> Result<(Vec<u8>, Vec<u8>), E2eeError> {
        let failed = E2eeError::Internal("making a key package");
        let builder = KeyPackage::builder().leaf_node_capabilities(capabilities()).key_package_lifetime(lifetime());
        let builder = if last_resort { builder.mark_as_last_resort() } else { builder };
        let bundle = builder
            .build(mls_suite(suite)?, &self.provider, self.keys, credential(self.certificate))
            .map_err(|_| failed.clone())?;
        let package = bundle.key_package();
        let reference = package.hash_ref(self.provider.crypto).map_err(|_| failed.clone())?;
        let row = row_key(Kind::KeyPackage, &reference).map_err(|_| failed.clone())?;
        Ok((package.tls_serialize_detached().map_err(|_| failed)?, row))
    }

    fn drop_packages(&self, packages: impl Iterator<Item = KeptPackage>) {
        packages.for_each(|kept| self.provider.storage.put_raw(kept.row, None));
    }

    fn package_index(&self, suite: Suite) -> Result<PackageIndex, E2eeError> {
        match self.provider.storage.get_raw(&index_key(suite))? {
            Some(bytes) => codec::decode(&bytes).map_err(|_| E2eeError::Internal("key package index")),
            None => Ok(PackageIndex::default()),
        }
    }

    fn put_package_index(&self, suite: Suite, index: &PackageIndex) {
        self.provider.storage.put_raw(index_key(suite), Some(codec::encode(index)));
    }

    /// Checks the packages of devices that are to come in, each against the list that came with it.
    pub(super) fn check_packages(
        &self,
        members: &[Member],
        policy: &Policy,
        suite: Suite,
    ) -> Result<(Vec<KeyPackage>, Vec<Added>), E2eeError> {
        let mut packages = Vec::new();
        let mut added: Vec<Added> = Vec::new();
        for member in members {
            for package in &member.packages {
                let (package, device) = self.check_member(member, package, policy, suite)?;
                if added.iter().any(|other| other.device == device.device) {
                    return Err(E2eeError::Forbidden("a device twice"));
                }
                added.push(device);
                packages.push(package);
            }
        }
        Ok((packages, added))
    }

    /// The packages that pass the checks, one of each device, for a step that does not fail because of the others.
    pub(super) fn good_packages(&self, members: &[Member], policy: &Policy, suite: Suite) -> (Vec<KeyPackage>, Vec<Added>) {
        let mut packages = Vec::new();
        let mut added: Vec<Added> = Vec::new();
        for member in members {
            for package in &member.packages {
                if let Ok((package, device)) = self.check_member(member, package, policy, suite)
                    && added.iter().all(|other| other.device != device.device)
                {
                    added.push(device);
                    packages.push(package);
                }
            }
        }
        (packages, added)
    }

    /// Checks the package of one device against its account's list.
    fn check_member(
        &self,
        member: &Member,
        DeviceKeyPackage { device, package }: &DeviceKeyPackage,
        policy: &Policy,
        suite: Suite,
    ) -> Result<(KeyPackage, Added), E2eeError> {
        let package = self.check_package(package, suite)?;
        let leaf = package.leaf_node();
        let one = OneList(&member.list);
        let (named, standing) = admit(leaf.credential(), leaf.signature_key().as_slice(), policy, &one)?;
        if named.1 != *device {
            return Err(E2eeError::BadCertificate);
        }
        if standing == Standing::Revoked {
            return Err(E2eeError::RevokedDevice { account: named.0, device: named.1 });
        }
        Ok((package, Added { account: named.0, device: named.1 }))
    }

    fn check_package(&self, bytes: &[u8], suite: Suite) -> Result<KeyPackage, E2eeError> {
        let malformed = E2eeError::Malformed("key package");
        if bytes.len() > limits::KEY_PACKAGE {
            return Err(malformed);
        }
        let package = KeyPackageIn::tls_deserialize_exact(bytes).map_err(|_| malformed.clone())?;
        let package = package.validate(self.provider.crypto, ProtocolVersion::Mls10).map_err(|_| malformed.clone())?;
        if wire_suite(package.ciphersuite()) == Ok(suite) { Ok(package) } else { Err(malformed) }
    }
}

/// The row of a suite's index.
fn index_key(suite: Suite) -> Vec<u8> {
    let [high, low] = suite.0.to_be_bytes();
    vec![Kind::KeyPackageIndex as u8, high, low]
}

/// The list of one account.
struct OneList<'a>(&'a parlour_wire::identity::VerifiedList);

impl Lists for OneList<'_> {
    fn list(&self, account: &parlour_wire::id::AccountId) -> Option<parlour_wire::identity::VerifiedList> {
        (self.0.account() == *account).then(|| self.0.clone())
    }
}
