//! Device certificates and signed device lists: who may speak for an account.
//!
//! An account is an Ed25519 key; [`AccountId`] is its hash. A device has a signature key of its own in a certificate signed by
//! the account key. The account's list of devices is signed too, only ever grows in version, and names its predecessor by
//! hash, so everybody can pin the highest version seen. Here are the bytes and their verification; signing is in `e2ee`.

use ed25519_dalek::{Signature, VerifyingKey};
use minicbor::{Decode, Encode};

use crate::{
    codec::{DecodeError, bounded, decode, encode},
    id::{AccountId, DeviceId},
    limits,
};

/// Domain of the account key's signature on a certificate.
pub const CERTIFICATE_CONTEXT: &[u8] = b"parlour device certificate v1\0";
/// Domain of the account key's signature on a device list.
pub const LIST_CONTEXT: &[u8] = b"parlour device list v1\0";
/// Domain of a device's signature on a link challenge (see [`crate::api::DeviceAuth`]).
pub const AUTH_CONTEXT: &[u8] = b"parlour device authentication v1\0";

/// What the account key says about a device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Certificate {
    /// The account's Ed25519 public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub account_key: [u8; 32],
    /// The device's Ed25519 signature key; also its MLS signature key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature_key: [u8; 32],
    /// What the owner calls the device.
    #[n(2)]
    pub label: String,
    /// Unix time in milliseconds.
    #[n(3)]
    pub created_ms: u64,
}

impl Certificate {
    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::of_key(&self.account_key)
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        DeviceId::of_key(&self.signature_key)
    }
}

/// Bytes and a signature over `context ‖ bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    /// The CBOR of the signed value, kept as it was signed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Ed25519 signature.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// Checks an Ed25519 signature over `context ‖ bytes` (RFC 8032, strict: no small-order keys, no malleable signatures).
///
/// # Errors
/// [`DecodeError::BadSignature`] naming `what`.
pub fn verify(key: &[u8; 32], context: &[u8], bytes: &[u8], signature: &[u8; 64], what: &'static str) -> Result<(), DecodeError> {
    let message = [context, bytes].concat();
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(&message, &Signature::from_bytes(signature)))
        .map_err(|_| DecodeError::BadSignature(what))
}

/// A certificate whose signature has been verified. Can only be made by [`VerifiedCertificate::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCertificate {
    certificate: Certificate,
    signed: Vec<u8>,
}

impl VerifiedCertificate {
    /// Reads the CBOR of a [`Signed`] certificate and checks the signature by the account key that it names.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed, too long or badly signed.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("certificate", bytes.len(), limits::KEY_PACKAGE)?;
        let signed: Signed = decode(bytes)?;
        let certificate: Certificate = decode(&signed.bytes)?;
        bounded("device label", certificate.label.len(), limits::LABEL)?;
        verify(&certificate.account_key, CERTIFICATE_CONTEXT, &signed.bytes, &signed.signature, "certificate")?;
        Ok(Self { certificate, signed: bytes.to_vec() })
    }

    /// What it says.
    #[must_use]
    pub fn get(&self) -> &Certificate {
        &self.certificate
    }

    /// The CBOR of the [`Signed`] certificate, as it was parsed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.signed
    }
}

/// The devices of an account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceList {
    /// The account's Ed25519 public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub account_key: [u8; 32],
    /// 1 for the first list, then one more each time.
    #[n(1)]
    pub version: u64,
    /// BLAKE3 of the previous list's [`Signed`] CBOR; zeros for the first.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub previous: [u8; 32],
    /// CBOR of the [`Signed`] certificate of every device that may speak.
    #[n(3)]
    pub devices: Vec<minicbor::bytes::ByteVec>,
    /// Devices that may speak no longer.
    #[n(4)]
    pub revoked: Vec<DeviceId>,
    /// Unix time in milliseconds.
    #[n(5)]
    pub created_ms: u64,
}

/// A device list whose signature and certificates have been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedList {
    list: DeviceList,
    certificates: Vec<VerifiedCertificate>,
    signed: Vec<u8>,
}

impl VerifiedList {
    /// Reads the CBOR of a [`Signed`] list; checks its signature, every certificate in it, and that all name one account.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed, too long, badly signed or contradictory.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("device list", bytes.len(), limits::DEVICE_LIST)?;
        let signed: Signed = decode(bytes)?;
        let list: DeviceList = decode(&signed.bytes)?;
        bounded("devices", list.devices.len(), limits::DEVICES_PER_ACCOUNT)?;
        bounded("revoked devices", list.revoked.len(), limits::REVOKED_PER_ACCOUNT)?;
        verify(&list.account_key, LIST_CONTEXT, &signed.bytes, &signed.signature, "device list")?;
        let certificates = list.devices.iter().map(|bytes| VerifiedCertificate::parse(bytes)).collect::<Result<Vec<_>, _>>()?;
        let verified = Self { list, certificates, signed: bytes.to_vec() };
        verified.check_consistency()?;
        Ok(verified)
    }

    fn check_consistency(&self) -> Result<(), DecodeError> {
        let mut seen = std::collections::BTreeSet::new();
        for certificate in &self.certificates {
            let device = certificate.get().device();
            if certificate.get().account_key != self.list.account_key
                || !seen.insert(device)
                || self.list.revoked.contains(&device)
            {
                return Err(DecodeError::Invalid("device list"));
            }
        }
        if self.list.version == 0 || (self.list.version == 1) != (self.list.previous == [0; 32]) {
            return Err(DecodeError::Invalid("device list version"));
        }
        Ok(())
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::of_key(&self.list.account_key)
    }

    /// What it says.
    #[must_use]
    pub fn get(&self) -> &DeviceList {
        &self.list
    }

    /// The verified certificates of the devices that may speak.
    #[must_use]
    pub fn certificates(&self) -> &[VerifiedCertificate] {
        &self.certificates
    }

    /// The certificate of a device, if it may speak.
    #[must_use]
    pub fn certificate(&self, device: &DeviceId) -> Option<&VerifiedCertificate> {
        self.certificates.iter().find(|certificate| certificate.get().device() == *device)
    }

    /// The CBOR of the [`Signed`] list, as it was parsed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.signed
    }

    /// BLAKE3 of [`Self::as_bytes`]: what the next list must name as its predecessor.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.signed).as_bytes()
    }

    /// Whether this list may replace `current`: same account, next version, right predecessor, and no revoked device back.
    #[must_use]
    pub fn follows(&self, current: &Self) -> bool {
        self.list.account_key == current.list.account_key
            && current.list.version.checked_add(1) == Some(self.list.version)
            && self.list.previous == current.hash()
            && self.certificates.iter().all(|c| !current.list.revoked.contains(&c.get().device()))
    }
}

/// The bytes that a device signs to authenticate a link: the server's certificate is in them, so a signature made for one
/// server cannot be passed on to another.
#[must_use]
pub fn auth_bytes(challenge: &[u8; 32], server_fingerprint: &[u8; 32], account: &AccountId, device: &DeviceId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(112);
    bytes.extend_from_slice(challenge);
    bytes.extend_from_slice(server_fingerprint);
    bytes.extend_from_slice(&account.0);
    bytes.extend_from_slice(&device.0);
    bytes
}

/// Encodes a [`Signed`] value.
#[must_use]
pub fn signed_bytes(bytes: Vec<u8>, signature: [u8; 64]) -> Vec<u8> {
    encode(&Signed { bytes, signature })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(version: u64, previous: [u8; 32]) -> VerifiedList {
        let list = DeviceList { account_key: [1; 32], version, previous, devices: vec![], revoked: vec![], created_ms: 0 };
        VerifiedList { list, certificates: vec![], signed: vec![] }
    }

    #[test]
    fn nothing_follows_the_last_version_there_can_be() {
        let previous = list(1, [0; 32]).hash();
        let last = list(u64::MAX, previous);
        assert!(last.follows(&list(u64::MAX - 1, previous)));
        assert!(!list(0, previous).follows(&last) && !last.follows(&last));
    }
}
