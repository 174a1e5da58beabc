//! Profiles: what an account says about itself to those it talks with. The server never sees one.

use minicbor::{Decode, Encode};

use crate::{
    codec::{DecodeError, bounded, decode, encode},
    limits,
};

/// Content type of a profile.
pub const PROFILE: &str = "application/vnd.parlour.profile";

/// What an account says about itself. The later one replaces the earlier one as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Profile {
    /// How they would like to be called; may be empty. Shown beside the name, never in its place: anybody can write anything here.
    #[n(0)]
    pub display_name: String,
    /// One line about themselves; may be empty.
    #[n(1)]
    pub status: String,
    /// A picture; at most [`limits::AVATAR`] bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub avatar: Option<Vec<u8>>,
}

impl Profile {
    fn check(&self) -> Result<(), DecodeError> {
        bounded("display name", self.display_name.len(), limits::LABEL)?;
        bounded("status", self.status.len(), limits::PROFILE_STATUS)?;
        bounded("avatar", self.avatar.as_ref().map_or(0, Vec::len), limits::AVATAR)?;
        if [&self.display_name, &self.status].iter().any(|text| text.chars().any(char::is_control)) {
            return Err(DecodeError::Invalid("profile"));
        }
        Ok(())
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        self.check()?;
        Ok(encode(self))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let profile: Self = decode(bytes)?;
        profile.check()?;
        Ok(profile)
    }
}
