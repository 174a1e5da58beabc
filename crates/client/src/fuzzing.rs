//! What the fuzz target `records` reaches. No part of the library's interface: it may change at any time.

use parlour_e2ee::seal_pack;
use parlour_wire::{DecodeError, id::BlobId};

use crate::core::{own::Sync, pack::Pack};

/// Reads what another own device says, and writes it again.
///
/// # Errors
/// What is wrong with it.
pub fn sync_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let sync = Sync::from_bytes(bytes)?;
    for register in &sync.registers {
        if let Some(meaning) = register.meaning() {
            let (kind, subject, value) = meaning.parts();
            assert_eq!((kind, &subject, &value), (register.kind, &register.subject, &register.value), "it says something else");
        }
        assert!(!register.wins(Some(register)), "nothing replaces itself");
    }
    let again = sync.to_bytes();
    assert_eq!(Sync::from_bytes(&again).as_ref(), Ok(&sync));
    Ok(again)
}

/// Opens a pack that somebody has made of these bytes, and makes one of what was in it; how many messages that are.
///
/// # Errors
/// What is wrong with it.
pub fn pack_again(padded: &[u8]) -> Result<usize, DecodeError> {
    let (key, sealed) = seal_pack(padded);
    let pack = Pack::open(&BlobId(*blake3::hash(&sealed).as_bytes()), &key, &sealed)?;
    let again = pack.seal();
    assert_eq!(Pack::open(&again.blob, &again.key, &again.bytes).as_ref(), Ok(&pack));
    Ok(pack.messages.len())
}

/// What is sealed of a pack with these bytes in it, uncompressed or as they are when they were compressed.
#[must_use]
pub fn padded(flag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[flag][..], &length.to_be_bytes(), body].concat()
}
