//! Identifiers. Fixed-size byte strings on the wire, lower-case hex (or UUID) for people.

use std::{fmt, str::FromStr};

use crate::codec::DecodeError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = DecodeError;
            fn try_from(bytes: &[u8]) -> Result<Self, DecodeError> {
                bytes.try_into().map($name).map_err(|_| DecodeError::Invalid(stringify!($name)))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let at = d.position();
                d.bytes()?
                    .try_into()
                    .map($name)
                    .map_err(|_| minicbor::decode::Error::message(concat!("length of ", stringify!($name))).at(at))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:.8}…)"), hex::encode(&self.0))
            }
        }
    };
}

macro_rules! hex_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = DecodeError;
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                let mut bytes = [0; $name::LEN];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| DecodeError::Invalid(stringify!($name)))?;
                Ok($name(bytes))
            }
        }
    };
}

id! {
    /// An account: the hash of its public key, so it certifies itself (see [`crate::identity`]).
    AccountId, 32
}
id! {
    /// A device: the hash of its signature key, cut to 16 bytes.
    DeviceId, 16
}
id! {
    /// A conversation; also the MLS group id.
    ConversationId, 32
}
id! {
    /// A message or commit, made by its sender: a UUID of version 7 (RFC 9562), so ids sort by time.
    MessageId, 16
}
id! {
    /// A link session: it outlives the connection that carries it.
    LinkSessionId, 16
}
id! {
    /// An encrypted file or other large object at a server: BLAKE3 of its bytes there.
    BlobId, 32
}
hex_text!(AccountId);
hex_text!(BlobId);
hex_text!(DeviceId);
hex_text!(ConversationId);
hex_text!(LinkSessionId);

impl AccountId {
    /// The id that belongs to an account's Ed25519 public key.
    #[must_use]
    pub fn of_key(account_key: &[u8; 32]) -> Self {
        Self(blake3::derive_key("parlour account id v1", account_key))
    }
}

impl DeviceId {
    /// The id that belongs to a device's Ed25519 signature key.
    #[must_use]
    pub fn of_key(signature_key: &[u8; 32]) -> Self {
        let hash = blake3::derive_key("parlour device id v1", signature_key);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }
}

impl ConversationId {
    /// The id of the direct conversation between two accounts: the same from both sides, so that two people who write to each
    /// other at once meet in one conversation and the server lets only one of them create it.
    #[must_use]
    pub fn direct(a: &AccountId, b: &AccountId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut material = [0; 64];
        material[..32].copy_from_slice(&low.0);
        material[32..].copy_from_slice(&high.0);
        let mut id = blake3::derive_key("parlour direct conversation v1", &material);
        id[0] &= !GROUP_BIT;
        Self(id)
    }

    /// The id of the conversation that the devices of one account have among themselves.
    #[must_use]
    pub fn own(account: &AccountId) -> Self {
        let mut id = blake3::derive_key("parlour own conversation v1", &account.0);
        id[0] &= !GROUP_BIT;
        Self(id)
    }

    /// The id of a group, from 32 random bytes. Its first bit is set and that of a direct conversation is not, so nobody can
    /// take the id of other people's direct conversation for a group.
    #[must_use]
    pub const fn group(mut random: [u8; 32]) -> Self {
        random[0] |= GROUP_BIT;
        Self(random)
    }

    /// Whether it is the id of a group.
    #[must_use]
    pub const fn is_group(&self) -> bool {
        self.0[0] & GROUP_BIT != 0
    }
}

/// The first bit of a [`ConversationId`], set for groups.
const GROUP_BIT: u8 = 0x80;

impl MessageId {
    /// A new id from Unix time in milliseconds and 10 random bytes (RFC 9562, section 5.7).
    #[must_use]
    pub fn new(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid().into_bytes())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        uuid::Uuid::parse_str(text).map(|uuid| Self(uuid.into_bytes())).map_err(|_| DecodeError::Invalid("MessageId"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_conversation_has_one_id_from_both_sides() {
        let (a, b) = (AccountId([1; 32]), AccountId([2; 32]));
        assert_eq!(ConversationId::direct(&a, &b), ConversationId::direct(&b, &a));
        assert_ne!(ConversationId::direct(&a, &b), ConversationId::direct(&a, &a));
    }

    #[test]
    fn no_group_has_the_id_of_a_direct_conversation() {
        for n in 0..=255 {
            assert!(!ConversationId::direct(&AccountId([n; 32]), &AccountId([7; 32])).is_group());
            assert!(ConversationId::group([n; 32]).is_group());
        }
    }

    #[test]
    fn ids_survive_text() {
        let id = MessageId::new(1_700_000_000_000, &[7; 10]);
        assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        let account = AccountId([0xab; 32]);
        assert_eq!(account.to_string().parse::<AccountId>(), Ok(account));
        assert!("xyz".parse::<AccountId>().is_err());
    }
}
