//! What a client and a server say to each other: requests with their answers, actions, and the server's pushes.
//!
//! Every request is a type with a name and an answer type ([`Call`]); every action and push is a type with a name
//! ([`Notice`]). All are CBOR maps with integer keys, so fields can be added without breaking anyone.

mod account;
mod blob;
mod conversation;

pub use account::*;
pub use blob::*;
pub use conversation::*;

use crate::codec::DecodeError;

/// A request of this API.
pub trait Call: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> {
    /// The name of the handler.
    const NAME: &'static str;
    /// What a successful answer holds.
    type Answer: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>;

    /// Checks the bounds that the CBOR decoder does not know.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] naming the field.
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// An action of this API, in either direction.
pub trait Notice: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> {
    /// The name of the handler.
    const NAME: &'static str;
}

/// An answer that says only that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Done {}

macro_rules! call {
    ($request:ident, $name:literal => $answer:ty $(, $field:ident <= $limit:expr)*) => {
        impl crate::api::Call for $request {
            const NAME: &'static str = $name;
            type Answer = $answer;
            fn check(&self) -> Result<(), crate::codec::DecodeError> {
                $(crate::codec::bounded(stringify!($field), self.$field.len(), $limit)?;)*
                Ok(())
            }
        }
    };
}

macro_rules! notice {
    ($notice:ident, $name:literal) => {
        impl crate::api::Notice for $notice {
            const NAME: &'static str = $name;
        }
    };
}

use call;
use notice;
