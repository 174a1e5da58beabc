//! User names: one form per person, whatever they type.
//!
//! A name is prepared and compared by the PRECIS profile UsernameCaseMapped (RFC 8265, section 3.3): width-mapped,
//! lower-cased, NFC, no spaces or symbols that look like nothing.

use std::{borrow::Cow, fmt};

use precis_profiles::{UsernameCaseMapped, precis_core::profile::PrecisFastInvocation};

use crate::{codec::DecodeError, limits};

/// A normalised name. Two names are the same user if and only if they are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Characters that the command line and addresses give a meaning to.
const RESERVED: &[char] = &['@', '#', '/', ':', '%', '?', '"', '\'', '\\', '<', '>', '|', ','];

impl Name {
    /// Parses and normalises what a person typed.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above [`limits::NAME`] bytes, [`DecodeError::Invalid`] for what PRECIS or we refuse.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        if text.len() > 4 * limits::NAME {
            return Err(DecodeError::TooLong("name"));
        }
        let name = enforced(text)?;
        // What is allowed by itself may compose to what is not, such as `=` and a stroke. RFC 8264, section 7: only what stays as it is
        // counts as enforced.
        if enforced(&name)? != name {
            return Err(DecodeError::Invalid("name"));
        }
        if name.len() > limits::NAME {
            return Err(DecodeError::TooLong("name"));
        }
        if name.is_empty() || name.starts_with(['-', '.']) || name.contains(RESERVED) {
            return Err(DecodeError::Invalid("name"));
        }
        Ok(Self(name.into_owned()))
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn enforced(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    UsernameCaseMapped::enforce(text).map_err(|_| DecodeError::Invalid("name"))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<C> minicbor::Encode<C> for Name {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Name {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let text = d.str()?;
        match Name::parse(text) {
            Ok(name) if name.0 == text => Ok(name),
            _ => Err(minicbor::decode::Error::message("name is not in normal form").at(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_one_name() {
        for (typed, name) in [("Alice", "alice"), ("ＢＯＢ", "bob"), ("José", "josé"), ("JOSE\u{301}", "josé")] {
            assert_eq!(Name::parse(typed).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_with_a_meaning_of_their_own_are_refused() {
        for typed in ["", " ", "a b", "#group", "a@b", "-x", ".x", "a/b", "a\u{200b}b", "a,b", &"x".repeat(65)] {
            assert!(Name::parse(typed).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn a_name_that_would_be_refused_when_it_is_read_again_is_none() {
        for typed in ["1=\u{338}", "a<\u{338}", "0\u{323}=\u{338}\u{338}"] {
            assert_eq!(Name::parse(typed), Err(DecodeError::Invalid("name")), "{typed:?}");
        }
        assert_eq!(Name::parse("1=2").map(|name| name.to_string()), Ok("1=2".to_owned()));
    }
}
