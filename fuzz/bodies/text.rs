//! Texts that people hand each other, and type: addresses, invitations, fingerprints, keys, names, ids, recovery codes. What is read
//! says the same when it is written and read again.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use parlour_e2ee::RecoveryCode;
use parlour_net::{IrohAddr, PeerKey};
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    address::{InviteLink, ServerUrl, parse_fingerprint},
    id::BlobId,
    name::Name,
};

fn again<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        match written.parse::<T>() {
            Ok(read) => assert_eq!(read, value, "{text:?} is written as {written:?}"),
            Err(error) => panic!("{text:?} is written as {written:?}, which is refused: {error:?}"),
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    again::<ServerUrl>(text);
    again::<InviteLink>(text);
    again::<IrohAddr>(text);
    again::<PeerKey>(text);
    again::<AccountId>(text);
    again::<BlobId>(text);
    again::<ConversationId>(text);
    again::<DeviceId>(text);
    again::<MessageId>(text);
    if let Ok(fingerprint) = parse_fingerprint(text) {
        let digits: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parse_fingerprint(&digits), Ok(fingerprint));
    }
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::parse(name.as_str()), Ok(name), "one form of a name");
    }
    if let Ok(code) = RecoveryCode::parse(text) {
        assert_eq!(RecoveryCode::parse(&code.grouped()).as_ref(), Ok(&code));
        assert_eq!(RecoveryCode::parse(&code.plain()), Ok(code));
    }
}
