//! Signals: words that are worth nothing later, such as that somebody types. Encrypted under a secret that the epoch exports, so that no
//! ratchet moves for them, and signed by the device that says them.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use minicbor::{Decode, Encode};
use openmls::group::MlsGroup;
use parlour_wire::{
    codec,
    id::{AccountId, DeviceId},
    identity, limits,
};
use rand::{RngCore as _, rngs::OsRng};

use super::{Leaf, leaf::named, record::Origin, work::Work};
use crate::error::E2eeError;

const LABEL: &str = "parlour signal v1";
const CONTEXT: &[u8] = b"parlour signal v1\0";
const NONCE: usize = 24;

/// What is encrypted.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Signal {
    #[n(0)]
    account: AccountId,
    #[n(1)]
    device: DeviceId,
    #[cbor(n(2), with = "minicbor::bytes")]
    content: Vec<u8>,
    /// Over the group id, the nonce and the content.
    #[cbor(n(3), with = "minicbor::bytes")]
    signature: [u8; 64],
}

fn signed(group: &MlsGroup, nonce: &[u8], content: &[u8]) -> Vec<u8> {
    [group.group_id().as_slice(), nonce, content].concat()
}

impl Work<'_> {
    fn signal_cipher(&self, group: &MlsGroup) -> Result<XChaCha20Poly1305, E2eeError> {
        let key = group.export_secret(self.provider.crypto, LABEL, &[], 32).map_err(|_| E2eeError::Removed)?;
        Ok(XChaCha20Poly1305::new(key.as_slice().into()))
    }

    pub(super) fn seal_signal(&mut self, content: &[u8]) -> Result<Vec<u8>, E2eeError> {
        let record = self.take_record()?;
        if record.is_pending(Origin::Create) {
            return Err(E2eeError::AwaitingReceipt);
        }
        let group = self.take_group()?;
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let signal = Signal {
            account: self.certificate.get().account(),
            device: self.keys.id(),
            content: content.to_vec(),
            signature: self.keys.sign_for(CONTEXT, &signed(&group, &nonce, content)),
        };
        let plain = codec::encode(&signal);
        let payload = Payload { msg: &plain, aad: group.group_id().as_slice() };
        let sealed = self.signal_cipher(&group)?.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| E2eeError::TooLarge)?;
        let bytes = [nonce.as_slice(), &sealed].concat();
        self.keep_record(record);
        self.put_group(group);
        if bytes.len() > limits::SIGNAL { Err(E2eeError::TooLarge) } else { Ok(bytes) }
    }

    pub(super) fn open_signal(&mut self, bytes: &[u8]) -> Result<(Leaf, Vec<u8>), E2eeError> {
        let undecryptable = E2eeError::Undecryptable;
        if bytes.len() > limits::SIGNAL {
            return Err(undecryptable);
        }
        let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or(undecryptable.clone())?;
        let record = self.take_record()?;
        let group = self.take_group()?;
        let payload = Payload { msg: sealed, aad: group.group_id().as_slice() };
        let opened = self.signal_cipher(&group)?.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| undecryptable.clone());
        let checked = opened.and_then(|plain| {
            let signal: Signal = codec::decode(&plain).map_err(|_| undecryptable.clone())?;
            let leaf = (signal.account, signal.device);
            let member = group.members().find(|member| named(&member.credential).is_ok_and(|at| at == leaf));
            let key = member.and_then(|member| <[u8; 32]>::try_from(member.signature_key.as_slice()).ok());
            let key = key.ok_or(undecryptable.clone())?;
            let message = signed(&group, nonce, &signal.content);
            identity::verify(&key, CONTEXT, &message, &signal.signature, "signal").map_err(|_| undecryptable.clone())?;
            Ok((leaf, signal.content))
        });
        self.keep_record(record);
        self.put_group(group);
        checked
    }
}
