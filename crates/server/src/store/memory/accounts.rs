//! Accounts, devices, key packages and invitations in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parlour_wire::{
    AccountId, ConversationId, DeviceId,
    api::{DeviceKeyPackage, Suite},
    limits,
    name::Name,
};

use crate::store::{Account, Device, ListedDevice, Opener, Refusal, Written};

/// A device that may speak, with its key packages.
struct Kept {
    account: AccountId,
    signature_key: [u8; 32],
    seen_ms: u64,
    packages: BTreeMap<Suite, Packages>,
}

/// The key packages of one suite.
#[derive(Default)]
struct Packages {
    one_time: VecDeque<Vec<u8>>,
    last_resort: Option<Vec<u8>>,
}

/// Who has a name.
#[derive(Clone, Copy)]
enum Named {
    Account(AccountId),
    Group(ConversationId),
}

impl Kept {
    fn count(&self, suite: Suite) -> (u32, bool) {
        self.packages.get(&suite).map_or((0, false), |packages| {
            (u32::try_from(packages.one_time.len()).unwrap_or(u32::MAX), packages.last_resort.is_some())
        })
    }
}

struct Invite {
    uses: u32,
    expires_ms: u64,
}

#[derive(Default)]
pub(super) struct Accounts {
    accounts: BTreeMap<AccountId, Account>,
    names: BTreeMap<Name, Named>,
    recovery: BTreeMap<AccountId, Opener>,
    devices: BTreeMap<DeviceId, Kept>,
    /// Whose a device is or was.
    owners: BTreeMap<DeviceId, AccountId>,
    logged_out: BTreeSet<DeviceId>,
    invites: BTreeMap<[u8; 32], Invite>,
}

impl Accounts {
    pub(super) fn get(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.get(id)
    }

    pub(super) fn by_name(&self, name: &Name) -> Option<&Account> {
        match self.names.get(name) {
            Some(Named::Account(id)) => self.accounts.get(id),
            _ => None,
        }
    }

    pub(super) fn group_by_name(&self, name: &Name) -> Option<ConversationId> {
        match self.names.get(name) {
            Some(Named::Group(id)) => Some(*id),
            _ => None,
        }
    }

    pub(super) fn is_taken(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn name_group(&mut self, name: Name, conversation: ConversationId) {
        self.names.insert(name, Named::Group(conversation));
    }

    pub(super) fn free_name(&mut self, name: &Name) {
        self.names.remove(name);
    }

    pub(super) fn recovery(&self, account: &AccountId) -> Option<&Opener> {
        self.recovery.get(account)
    }

    /// Whose a device is that may speak.
    pub(super) fn owner(&self, device: &DeviceId) -> Option<AccountId> {
        self.devices.get(device).map(|kept| kept.account)
    }

    pub(super) fn device(&self, id: &DeviceId) -> Option<Device> {
        self.devices.get(id).map(|kept| {
            let (key_packages, last_resort) = kept.count(Suite::HYBRID);
            let (classical_key_packages, classical_last_resort) = kept.count(Suite::CLASSICAL);
            Device {
                id: *id,
                account: kept.account,
                signature_key: kept.signature_key,
                seen_ms: kept.seen_ms,
                key_packages,
                last_resort,
                classical_key_packages,
                classical_last_resort,
            }
        })
    }

    pub(super) fn devices(&self, account: &AccountId) -> Vec<Device> {
        let ids = self.devices.iter().filter(|(_, kept)| kept.account == *account);
        ids.filter_map(|(id, _)| self.device(id)).collect()
    }

    /// Whether this device may speak, for this account.
    pub(super) fn owns(&self, account: &AccountId, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|kept| kept.account == *account)
    }

    pub(super) fn create(
        &mut self,
        account: Account,
        devices: &[ListedDevice],
        invite: Option<[u8; 32]>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if self.names.contains_key(&account.name) {
            return Err(Refusal::NameTaken);
        }
        if self.accounts.contains_key(&account.id) {
            return Err(Refusal::AccountExists);
        }
        self.check_owner(&account.id, devices)?;
        if let Some(token) = invite {
            self.check_invite(&token, now_ms)?;
            if let Some(invite) = self.invites.get_mut(&token) {
                invite.uses -= 1;
            }
        }
        self.add_devices(account.id, devices);
        self.names.insert(account.name.clone(), Named::Account(account.id));
        self.accounts.insert(account.id, account);
        Ok(())
    }

    fn check_owner(&self, account: &AccountId, devices: &[ListedDevice]) -> Result<(), Refusal> {
        let foreign = devices.iter().any(|listed| self.owners.get(&listed.id).is_some_and(|owner| owner != account));
        if foreign { Err(Refusal::NoDevice) } else { Ok(()) }
    }

    fn add_devices(&mut self, account: AccountId, devices: &[ListedDevice]) {
        for listed in devices.iter().filter(|listed| !self.logged_out.contains(&listed.id)) {
            self.owners.insert(listed.id, account);
            self.devices.entry(listed.id).or_insert_with(|| Kept {
                account,
                signature_key: listed.signature_key,
                seen_ms: 0,
                packages: BTreeMap::new(),
            });
        }
    }

    pub(super) fn replace_password(&mut self, id: AccountId, recovery: bool, opener: Opener) -> Result<(), Refusal> {
        let account = self.accounts.get_mut(&id).ok_or(Refusal::NoAccount)?;
        if recovery {
            self.recovery.insert(id, opener);
        } else {
            (account.record, account.wrapped_root) = (opener.record, opener.wrapped_root);
        }
        Ok(())
    }

    /// Answers the devices that ended.
    pub(super) fn replace_list(
        &mut self,
        id: AccountId,
        device_list: Vec<u8>,
        version: u64,
        devices: &[ListedDevice],
    ) -> Result<Vec<DeviceId>, Refusal> {
        let current = self.accounts.get(&id).ok_or(Refusal::NoAccount)?.list_version;
        if Some(version) != current.checked_add(1) {
            return Err(Refusal::StaleList);
        }
        self.check_owner(&id, devices)?;
        if let Some(account) = self.accounts.get_mut(&id) {
            account.device_list = device_list;
            account.list_version = version;
        }
        let listed: BTreeSet<DeviceId> = devices.iter().map(|listed| listed.id).collect();
        let kept = self.devices.iter().filter(|(device, kept)| kept.account == id && !listed.contains(device));
        let ended: Vec<DeviceId> = kept.map(|(device, _)| *device).collect();
        for device in &ended {
            self.devices.remove(device);
        }
        self.add_devices(id, devices);
        Ok(ended)
    }

    /// Answers whose it was, and the version of the account's list.
    pub(super) fn log_out(&mut self, device: DeviceId) -> Result<(AccountId, u64), Refusal> {
        let account = self.devices.remove(&device).ok_or(Refusal::NoDevice)?.account;
        self.logged_out.insert(device);
        Ok((account, self.accounts.get(&account).map_or(0, |account| account.list_version)))
    }

    pub(super) fn publish(
        &mut self,
        device: DeviceId,
        suite: Suite,
        (one_time, last_resort): (Vec<Vec<u8>>, Option<Vec<u8>>),
        replace: bool,
    ) -> Result<(), Refusal> {
        let kept = self.devices.get_mut(&device).ok_or(Refusal::NoDevice)?;
        let kept = kept.packages.entry(suite).or_default();
        if replace {
            kept.one_time.clear();
        }
        kept.one_time.extend(one_time);
        kept.one_time.truncate(limits::KEY_PACKAGES_PER_DEVICE);
        if last_resort.is_some() {
            kept.last_resort = last_resort;
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, account: AccountId, suite: Suite) -> Result<Written, Refusal> {
        let device_list = self.accounts.get(&account).ok_or(Refusal::NoAccount)?.device_list.clone();
        let mut packages = Vec::new();
        for (device, kept) in self.devices.iter_mut().filter(|(_, kept)| kept.account == account) {
            let Some(kept) = kept.packages.get_mut(&suite) else { continue };
            if let Some(package) = kept.one_time.pop_front().or_else(|| kept.last_resort.clone()) {
                packages.push(DeviceKeyPackage { device: *device, package });
            }
        }
        Ok(Written::KeyPackages { device_list, packages })
    }

    pub(super) fn invite(&mut self, token: [u8; 32], uses: u32, expires_ms: u64) {
        self.invites.insert(token, Invite { uses, expires_ms });
    }

    pub(super) fn check_invite(&self, token: &[u8; 32], now_ms: u64) -> Result<(), Refusal> {
        let invite = self.invites.get(token).ok_or(Refusal::InviteUnknown)?;
        if now_ms >= invite.expires_ms {
            Err(Refusal::InviteExpired)
        } else if invite.uses == 0 {
            Err(Refusal::InviteUsedUp)
        } else {
            Ok(())
        }
    }

    pub(super) fn seen(&mut self, device: DeviceId, now_ms: u64) {
        if let Some(kept) = self.devices.get_mut(&device) {
            kept.seen_ms = kept.seen_ms.max(now_ms);
            if let Some(account) = self.accounts.get_mut(&kept.account) {
                account.seen_ms = account.seen_ms.max(now_ms);
            }
        }
    }
}
