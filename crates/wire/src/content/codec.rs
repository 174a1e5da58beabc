//! The outer array of a message, and what stands before its part.

use minicbor::{Decoder, Encoder, data::Type};

use super::{Body, Content, Expiry, part};
use crate::{
    codec::{DecodeError, bounded},
    id::{AccountId, MessageId},
    limits,
};

const EXTENSION_SENT: u8 = 1;
const EXTENSION_MENTIONS: u8 = 2;
const FIELDS: u64 = 7;
/// Deepest nesting of what is skipped or kept unread. The model needs four levels; a tower of them is no message.
const DEPTH: usize = 32;

/// Writing into memory cannot fail.
pub(super) type Written = Result<(), minicbor::encode::Error<core::convert::Infallible>>;
pub(super) type Out<'a> = Encoder<&'a mut Vec<u8>>;

/// What minicbor refuses is malformed; its own words may quote the peer.
pub(super) fn bad(_: minicbor::decode::Error) -> DecodeError {
    DecodeError::Malformed
}

/// Runs a writer on fresh memory.
pub(super) fn bytes_of(write: impl FnOnce(&mut Out<'_>) -> Written) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Encoder::new(&mut out)).expect("writing to a Vec is infallible");
    out
}

/// The length of a definite array.
pub(super) fn array(d: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    d.array().map_err(bad)?.ok_or(DecodeError::Malformed)
}

/// An array of exactly so many items.
pub(super) fn array_of(d: &mut Decoder<'_>, len: u64) -> Result<(), DecodeError> {
    if array(d)? == len { Ok(()) } else { Err(DecodeError::Malformed) }
}

/// A count as a size in memory, bounded.
pub(super) fn count(field: &'static str, count: u64, limit: usize) -> Result<usize, DecodeError> {
    let count = usize::try_from(count).map_err(|_| DecodeError::TooLong(field))?;
    bounded(field, count, limit).map(|()| count)
}

/// Passes over one value, however it is made, and gives its bytes.
pub(super) fn skipped<'b>(d: &mut Decoder<'b>) -> Result<&'b [u8], DecodeError> {
    let from = d.position();
    skip(d, 0)?;
    Ok(&d.input()[from..d.position()])
}

fn skip(d: &mut Decoder<'_>, depth: usize) -> Result<(), DecodeError> {
    if depth > DEPTH {
        return Err(DecodeError::Malformed);
    }
    match d.datatype().map_err(bad)? {
        Type::Array => (0..array(d)?).try_for_each(|_| skip(d, depth + 1)),
        Type::Map => {
            let pairs = d.map().map_err(bad)?.ok_or(DecodeError::Malformed)?;
            (0..pairs).try_for_each(|_| skip(d, depth + 1).and_then(|()| skip(d, depth + 1)))
        }
        Type::Tag => d.tag().map_err(bad).and_then(|_| skip(d, depth + 1)),
        // Deterministic CBOR has definite lengths only.
        Type::ArrayIndef | Type::MapIndef | Type::BytesIndef | Type::StringIndef => Err(DecodeError::Malformed),
        _ => d.skip().map_err(bad),
    }
}

impl Content {
    /// The CBOR.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for what is above its limit, [`DecodeError::Invalid`] for a reaction or deletion without a target, an
    /// empty reaction, or a name that is none.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        bounded("mentions", self.mentions.len(), limits::MENTIONS)?;
        self.check_target()?;
        let part = part::to_bytes(&self.body)?;
        let mut out = bytes_of(|e| self.write(e));
        out.extend_from_slice(&part);
        bounded("content", out.len(), limits::ENTRY_PAYLOAD)?;
        Ok(out)
    }

    fn write(&self, e: &mut Out<'_>) -> Written {
        let id = |e: &mut Out<'_>, id: &Option<MessageId>| match id {
            Some(id) => e.bytes(id.as_bytes()).map(|_| ()),
            None => e.null().map(|_| ()),
        };
        e.array(FIELDS)?.bytes(&[])?;
        id(e, &self.replaces)?;
        e.bytes(&[])?;
        match self.expires {
            None => e.null()?,
            Some(Expiry::At(time)) => e.array(2)?.bool(false)?.u32(time)?,
            Some(Expiry::After(time)) => e.array(2)?.bool(true)?.u32(time)?,
        };
        id(e, &self.in_reply_to)?;
        let mentions = !self.mentions.is_empty();
        e.map(1 + u64::from(mentions))?.u8(EXTENSION_SENT)?.u64(self.sent_ms)?;
        if mentions {
            e.u8(EXTENSION_MENTIONS)?.array(self.mentions.len() as u64)?;
            for account in &self.mentions {
                e.bytes(account.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Reads the CBOR.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] for what is not the model, [`DecodeError::TooLong`] above the limits, [`DecodeError::Invalid`] for a
    /// value that its kind forbids.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("content", bytes.len(), limits::ENTRY_PAYLOAD)?;
        let mut d = Decoder::new(bytes);
        let content = Self::read(&mut d)?;
        if d.position() != bytes.len() {
            return Err(DecodeError::Trailing);
        }
        content.check_target()?;
        Ok(content)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        array_of(d, FIELDS)?;
        skipped(d)?; // salt
        let replaces = read_id(d)?;
        skipped(d)?; // topic
        let expires = read_expiry(d)?;
        let in_reply_to = read_id(d)?;
        let (sent_ms, mentions) = read_extensions(d)?;
        let body = part::from_bytes(skipped(d)?)?;
        Ok(Self { sent_ms, in_reply_to, replaces, expires, mentions, body })
    }

    /// A reaction and a deletion mean nothing without the message that they are about.
    fn check_target(&self) -> Result<(), DecodeError> {
        match self.body {
            Body::Reaction(_) if self.in_reply_to.is_none() => Err(DecodeError::Invalid("reaction")),
            Body::Deleted if self.replaces.is_none() => Err(DecodeError::Invalid("deletion")),
            _ => Ok(()),
        }
    }
}

fn read_id(d: &mut Decoder<'_>) -> Result<Option<MessageId>, DecodeError> {
    match d.datatype().map_err(bad)? {
        Type::Null => d.null().map(|()| None).map_err(bad),
        _ => MessageId::try_from(d.bytes().map_err(bad)?).map(Some),
    }
}

fn read_expiry(d: &mut Decoder<'_>) -> Result<Option<Expiry>, DecodeError> {
    if d.datatype().map_err(bad)? == Type::Null {
        return d.null().map(|()| None).map_err(bad);
    }
    array_of(d, 2)?;
    let relative = d.bool().map_err(bad)?;
    let time = d.u32().map_err(bad)?;
    Ok(Some(if relative { Expiry::After(time) } else { Expiry::At(time) }))
}

/// The sender's time (0 if absent) and the mentions, the rest skipped.
fn read_extensions(d: &mut Decoder<'_>) -> Result<(u64, Vec<AccountId>), DecodeError> {
    let (mut sent_ms, mut mentions) = (0, Vec::new());
    let pairs = d.map().map_err(bad)?.ok_or(DecodeError::Malformed)?;
    for _ in 0..pairs {
        let key = match d.datatype().map_err(bad)? {
            Type::U8 => Some(d.u8().map_err(bad)?),
            _ => skipped(d).map(|_| None)?,
        };
        // Other programs of the content model have other values under these numbers.
        match (key, d.datatype().map_err(bad)?) {
            (Some(EXTENSION_SENT), Type::U8 | Type::U16 | Type::U32 | Type::U64) => sent_ms = d.u64().map_err(bad)?,
            (Some(EXTENSION_MENTIONS), Type::Array) => mentions = read_mentions(skipped(d)?)?.unwrap_or(mentions),
            _ => drop(skipped(d)?),
        }
    }
    Ok((sent_ms, mentions))
}

/// The accounts in an array; none if it has something else in it than byte strings.
fn read_mentions(array_bytes: &[u8]) -> Result<Option<Vec<AccountId>>, DecodeError> {
    let mut d = Decoder::new(array_bytes);
    let all = array(&mut d)?;
    for _ in 0..all {
        if d.datatype().map_err(bad)? != Type::Bytes {
            return Ok(None);
        }
        d.skip().map_err(bad)?;
    }
    let count = count("mentions", all, limits::MENTIONS)?;
    let mut d = Decoder::new(array_bytes);
    array(&mut d)?;
    (0..count).map(|_| AccountId::try_from(d.bytes().map_err(bad)?)).collect::<Result<_, _>>().map(Some)
}
