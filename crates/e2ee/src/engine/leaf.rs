//! Who a leaf is, and whether it may be one.

use std::collections::BTreeSet;

use openmls::{group::MlsGroup, prelude::Credential};
use parlour_wire::{
    api::Added,
    codec,
    id::{AccountId, DeviceId},
    identity::{Certificate, Signed, VerifiedCertificate},
    limits,
};

use super::{Drift, Leaf, Lists, grounds::disowns, policy::Policy, record::Record, suite::CERTIFICATE_CREDENTIAL, work::Work};
use crate::error::E2eeError;

/// What the account's list says about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may speak.
    Listed,
    /// It may speak no longer.
    Revoked,
}

/// Who a leaf is that has been let in: its certificate has been verified then.
pub(super) fn named(credential: &Credential) -> Result<Leaf, E2eeError> {
    let signed: Signed = codec::decode(credential.serialized_content()).map_err(|_| E2eeError::BadCertificate)?;
    let certificate: Certificate = codec::decode(&signed.bytes).map_err(|_| E2eeError::BadCertificate)?;
    Ok((certificate.account(), certificate.device()))
}

/// The devices in a group with their leaf indices.
pub(super) fn leaves(group: &MlsGroup) -> Result<Vec<(openmls::prelude::LeafNodeIndex, Leaf)>, E2eeError> {
    group.members().map(|member| Ok((member.index, named(&member.credential)?))).collect()
}

/// What the pinned list of its account says about a device.
pub(super) fn standing(leaf: &Leaf, lists: &dyn Lists) -> Result<Standing, E2eeError> {
    let unknown = E2eeError::UnknownDevice { account: leaf.0 };
    let list = lists.list(&leaf.0).filter(|list| list.account() == leaf.0).ok_or(unknown.clone())?;
    if list.certificate(&leaf.1).is_some() {
        Ok(Standing::Listed)
    } else if disowns(&list, &leaf.1) {
        Ok(Standing::Revoked)
    } else {
        Err(unknown)
    }
}

/// Checks everything about a leaf that wants in.
pub(super) fn admit(
    credential: &Credential,
    signature_key: &[u8],
    policy: &Policy,
    lists: &dyn Lists,
) -> Result<(Leaf, Standing), E2eeError> {
    let leaf = certified(credential, signature_key, policy)?;
    Ok((leaf, standing(&leaf, lists)?))
}

/// Checks what all see alike of a leaf that wants in: its certificate, and that its account is a member.
pub(super) fn certified(credential: &Credential, signature_key: &[u8], policy: &Policy) -> Result<Leaf, E2eeError> {
    if credential.credential_type() != CERTIFICATE_CREDENTIAL {
        return Err(E2eeError::BadCertificate);
    }
    let verified = VerifiedCertificate::parse(credential.serialized_content()).map_err(|_| E2eeError::BadCertificate)?;
    let certificate = verified.get();
    if certificate.signature_key != signature_key {
        return Err(E2eeError::BadCertificate);
    }
    let (account, device) = (certificate.account(), certificate.device());
    if policy.member(&account).is_none() {
        return Err(E2eeError::NotMember { account });
    }
    Ok((account, device))
}

/// Checks every leaf of a group that this device is about to join. Gives those under quarantine.
pub(super) fn admit_all(group: &MlsGroup, policy: &Policy, lists: &dyn Lists) -> Result<Vec<Added>, E2eeError> {
    let mut seen = BTreeSet::new();
    let mut revoked = Vec::new();
    for member in group.members() {
        let ((account, device), standing) = admit(&member.credential, &member.signature_key, policy, lists)?;
        if !seen.insert(device) {
            return Err(E2eeError::Forbidden("a device twice"));
        }
        if standing == Standing::Revoked {
            revoked.push(Added { account, device });
        }
    }
    if seen.len() > limits::GROUP_DEVICES {
        return Err(E2eeError::GroupFull);
    }
    Ok(revoked)
}

/// How the leaves of a group differ from the lists. An account without a pinned list says nothing.
pub(super) fn drift(group: &MlsGroup, record: &Record, policy: &Policy, lists: &dyn Lists) -> Result<Drift, E2eeError> {
    let present: BTreeSet<Leaf> = leaves(group)?.into_iter().map(|(_, leaf)| leaf).collect();
    let mut drift = Drift { left: record.left_accounts(), repair: record.repair, ..Drift::default() };
    for member in &policy.members {
        let account = &member.account;
        if record.has_left(account) {
            continue;
        }
        let Some(list) = lists.list(account) else { continue };
        let listed = list.certificates().iter().map(|certificate| (*account, certificate.get().device()));
        drift.missing.extend(listed.filter(|leaf| !present.contains(leaf)));
        let here = present.iter().filter(|(owner, device)| owner == account && list.certificate(device).is_none());
        drift.revoked.extend(here);
    }
    Ok(drift)
}

pub(super) fn quarantine(leaves: &[Leaf]) -> Vec<Added> {
    leaves.iter().map(|&(account, device)| Added { account, device }).collect()
}

/// Whether a device is known to be revoked.
pub(super) fn is_quarantined(record: &Record, leaf: &(AccountId, DeviceId)) -> bool {
    record.revoked.iter().any(|revoked| revoked.device == leaf.1)
}

impl Work<'_> {
    pub(super) fn members(&mut self) -> Result<Vec<Leaf>, E2eeError> {
        let record = self.take_record()?;
        let group = self.take_group()?;
        let members = leaves(&group)?.into_iter().map(|(_, leaf)| leaf).collect();
        self.keep_record(record);
        self.put_group(group);
        Ok(members)
    }

    pub(super) fn compare_devices(&mut self, lists: &dyn Lists) -> Result<Drift, E2eeError> {
        let mut record = self.take_record()?;
        let group = self.take_group()?;
        let drift = drift(&group, &record, &Policy::of(&group)?, lists)?;
        let revoked = quarantine(&drift.revoked);
        if record.revoked == revoked {
            self.keep_record(record);
        } else {
            record.revoked = revoked;
            self.put_record(record)?;
        }
        self.put_group(group);
        Ok(drift)
    }
}
