//! What a simulation needs beside inputs and outputs: a device that is let in without the password, and the second of arithmetic
//! that a password costs. Only with the feature `sim`; nothing else of the machine is different then.

use parlour_e2ee::BackupKey;
use parlour_wire::{
    address::ServerUrl,
    identity::{VerifiedCertificate, VerifiedList},
};
use zeroize::Zeroizing;

use super::Core;
use crate::{error::Error, run, store::Account};

/// What a device holds once its account has let it in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The account's name.
    pub name: String,
    /// The server, with its fingerprint.
    pub server: ServerUrl,
    /// By which the server signs receipts.
    pub receipt_key: [u8; 32],
    /// Secret of the device's signature key.
    pub device_secret: Zeroizing<[u8; 32]>,
    /// The account's word for the device.
    pub certificate: VerifiedCertificate,
    /// The list that names the device.
    pub list: VerifiedList,
    /// Opens the account's backup.
    pub backup_key: Zeroizing<[u8; 32]>,
    /// The account is older than the device, so there is a history to ask for.
    pub wants_history: bool,
}

impl Core {
    /// Groups of more than `hybrid` devices are founded anew from here on, so that a few devices suffice for it.
    pub fn outgrow_above(&mut self, hybrid: usize) {
        self.sizes.hybrid = hybrid;
    }

    /// Clears the folder of files, as a client does before it starts its core.
    ///
    /// # Errors
    /// `profile_damaged`.
    pub fn sweep_files(&self) -> Result<(), Error> {
        let (folder, names) = self.kept_files()?;
        run::sweep(&folder, &names);
        Ok(())
    }

    /// As at the end of a registration, or of a login if a history is wanted.
    ///
    /// # Errors
    /// `disk_full`, `read_only`; nothing has happened then.
    pub fn admit(&mut self, admission: Admission) -> Result<(), Error> {
        let certificate = admission.certificate.get();
        let account = Account {
            account: certificate.account(),
            name: admission.name,
            account_key: certificate.account_key,
            server: admission.server.to_string(),
            receipt_key: admission.receipt_key,
            device: certificate.device(),
            label: certificate.label.clone(),
            device_secret: Some(admission.device_secret),
            certificate: admission.certificate.as_bytes().to_vec(),
            backup_key: Some(BackupKey::from_bytes(admission.backup_key)),
            revoked: false,
        };
        self.store.begin()?;
        let step = self.store.set_account(&account).and_then(|()| self.store.pin(&admission.list).map(drop));
        let step = step.and_then(|()| if admission.wants_history { self.want_history() } else { Ok(()) });
        match step.and_then(|()| self.store.commit()) {
            Ok(()) => self.load_account(),
            Err(error) => {
                self.store.rollback();
                Err(error)
            }
        }
    }
}
