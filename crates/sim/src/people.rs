//! Who owns the devices: accounts whose keys come from the seed, so that a history is the same whenever it is told.

use parlour_e2ee::{AccountKey, BackupKey, DeviceKeys, Root};
use parlour_server::store::{Account, ListedDevice, Write};
use parlour_wire::{
    AccountId, DeviceId,
    identity::{VerifiedCertificate, VerifiedList},
    name::Name,
};
use rand::{Rng as _, rngs::StdRng};
use zeroize::Zeroizing;

use crate::home::Home;

/// Names, in the order in which people come.
pub(crate) const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// An account.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) account: AccountId,
    pub(crate) backup_key: BackupKey,
    key: AccountKey,
    list: VerifiedList,
}

impl Person {
    /// Makes an account without a device at the server.
    pub(crate) fn new(name: &'static str, home: &Home, rng: &mut StdRng, unix_ms: u64) -> Self {
        let root = Root::from_bytes(Zeroizing::new(rng.r#gen()));
        let key = AccountKey::from(&root);
        let list = key.sign_list(None, &[], &[], unix_ms).expect("an empty list is in bounds");
        let account = Account {
            id: key.account_id(),
            name: Name::parse(name).expect("a plain name"),
            record: vec![1],
            wrapped_root: vec![1],
            device_list: list.as_bytes().to_vec(),
            list_version: 1,
            disabled: false,
            seen_ms: 0,
        };
        home.apply(Write::CreateAccount { account, devices: Vec::new(), invite: None, now_ms: unix_ms });
        Self { name, account: key.account_id(), backup_key: root.backup_key(), key, list }
    }

    pub(crate) fn list(&self) -> &VerifiedList {
        &self.list
    }

    /// Certifies a device and publishes the list that names it.
    pub(crate) fn add(&mut self, home: &Home, keys: &DeviceKeys, unix_ms: u64) -> VerifiedCertificate {
        let certificate = self.key.certify(&keys.public(), "sim", unix_ms).expect("a short label");
        let list = self.key.add_device(&self.list, &certificate, unix_ms).expect("a new device of this account");
        home.log(|log| log.owners.insert(keys.id(), self.account));
        self.publish(home, list);
        certificate
    }

    /// Takes a device off the list.
    pub(crate) fn revoke(&mut self, home: &Home, device: &DeviceId, unix_ms: u64) {
        let list = self.key.revoke_device(&self.list, device, unix_ms).expect("a device of the list");
        self.publish(home, list);
    }

    fn publish(&mut self, home: &Home, list: VerifiedList) {
        let devices = list.certificates().iter().map(|certificate| {
            let certificate = certificate.get();
            ListedDevice { id: certificate.device(), signature_key: certificate.signature_key }
        });
        home.apply(Write::ReplaceDeviceList {
            account: list.account(),
            device_list: list.as_bytes().to_vec(),
            version: list.get().version,
            devices: devices.collect(),
        });
        self.list = list;
    }
}
