//! The part of a message, `[disposition, language, cardinality, …]`: which kind of body it is.

use minicbor::{Decoder, data::Type};

use super::{
    Attachment, Body, HistoryOffer, Profile, attachment,
    codec::{Out, Written, array, bad, bytes_of, skipped},
    history, profile, report,
};
use crate::{
    codec::{DecodeError, bounded},
    limits,
};

/// Content type of text (CommonMark).
pub const MARKDOWN: &str = "text/markdown;variant=CommonMark";
/// Content type of a reaction.
pub const REACTION: &str = "text/plain;charset=utf-8";
/// Content type of changes between own devices.
const SYNC: &str = "application/vnd.parlour.sync";

pub(super) const UNSPECIFIED: u64 = 0;
pub(super) const RENDER: u64 = 1;
pub(super) const REACT: u64 = 2;
pub(super) const PROFILE: u64 = 3;
pub(super) const ATTACHMENT: u64 = 6;
pub(super) const PREVIEW: u64 = 8;

pub(super) const NULL: u64 = 0;
pub(super) const SINGLE: u64 = 1;
pub(super) const EXTERNAL: u64 = 2;
pub(super) const MULTI: u64 = 3;

/// The three fields with which every part begins.
pub(super) struct Head {
    pub(super) fields: u64,
    pub(super) disposition: u64,
    pub(super) cardinality: u64,
}

impl Head {
    pub(super) fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let fields = array(d)?;
        if fields < 3 {
            return Err(DecodeError::Malformed);
        }
        let disposition = d.u64().map_err(bad)?;
        d.str().map_err(bad)?; // language
        Ok(Self { fields, disposition, cardinality: d.u64().map_err(bad)? })
    }
}

/// A part with content inside.
pub(super) fn write_single(e: &mut Out<'_>, disposition: u64, content_type: &str, payload: &[u8]) -> Written {
    e.array(5)?.u64(disposition)?.str("")?.u64(SINGLE)?.str(content_type)?.bytes(payload)?;
    Ok(())
}

fn single(disposition: u64, content_type: &str, payload: &[u8]) -> Vec<u8> {
    bytes_of(|e| write_single(e, disposition, content_type, payload))
}

/// The part that says `body`.
pub(super) fn to_bytes(body: &Body) -> Result<Vec<u8>, DecodeError> {
    match body {
        Body::Text(text) => {
            bounded("message", text.len(), limits::MESSAGE_INLINE)?;
            Ok(single(RENDER, MARKDOWN, text.as_bytes()))
        }
        Body::Reaction(emoji) => {
            check_reaction(emoji)?;
            Ok(single(REACT, REACTION, emoji.as_bytes()))
        }
        Body::Deleted => Ok(bytes_of(|e| e.array(3)?.u64(UNSPECIFIED)?.str("")?.u64(NULL).map(|_| ()))),
        Body::Attachment(attachment) => attachment.to_part(),
        Body::Report(reports) => Ok(single(RENDER, report::STATUS, &report::to_bytes(reports)?)),
        Body::Profile(profile) => Ok(single(PROFILE, profile::PROFILE, &profile.to_bytes()?)),
        Body::Sync(bytes) => {
            bounded("changes", bytes.len(), limits::SYNC_CONTENT)?;
            Ok(single(UNSPECIFIED, SYNC, bytes))
        }
        Body::History(offer) => Ok(single(UNSPECIFIED, history::HISTORY, &offer.to_bytes()?)),
        // Only what came from somewhere can be passed on; made-up bytes would spoil the array around them.
        Body::Unknown { bytes, .. } => match from_bytes(bytes) {
            Ok(Body::Unknown { .. }) => Ok(bytes.clone()),
            _ => Err(DecodeError::Invalid("unknown content")),
        },
    }
}

/// The body of a part that fills `bytes`.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Body, DecodeError> {
    let mut d = Decoder::new(bytes);
    let head = Head::read(&mut d)?;
    let body = match (head.cardinality, head.fields) {
        (NULL, 3) => Some(Body::Deleted),
        (SINGLE, 5) => read_single(&mut d, head.disposition)?,
        (EXTERNAL, attachment::EXTERNAL_FIELDS) if head.disposition == ATTACHMENT => {
            Attachment::read_external(&mut d)?.map(Body::Attachment)
        }
        (MULTI, 5) => attachment::read_multi(&mut d)?.map(Body::Attachment),
        _ => None,
    };
    match body {
        Some(body) if d.position() == bytes.len() => Ok(body),
        Some(_) => Err(DecodeError::Trailing),
        None => unknown(bytes),
    }
}

fn read_single(d: &mut Decoder<'_>, disposition: u64) -> Result<Option<Body>, DecodeError> {
    let content_type = d.str().map_err(bad)?;
    if d.datatype().map_err(bad)? != Type::Bytes {
        return Ok(None);
    }
    let payload = d.bytes().map_err(bad)?;
    match (disposition, content_type) {
        (RENDER, MARKDOWN) => {
            bounded("message", payload.len(), limits::MESSAGE_INLINE)?;
            utf8("message text", payload).map(|text| Some(Body::Text(text)))
        }
        // Other programs have other bounds and other characters: what is no text here is kept as it came.
        (RENDER, other) if is_text(other) && payload.len() <= limits::MESSAGE_INLINE => {
            Ok(std::str::from_utf8(payload).ok().map(|text| Body::Text(text.to_owned())))
        }
        (REACT, REACTION) => {
            let emoji = utf8("reaction", payload)?;
            check_reaction(&emoji)?;
            Ok(Some(Body::Reaction(emoji)))
        }
        (_, report::STATUS) => report::from_bytes(payload).map(|reports| Some(Body::Report(reports))),
        (_, profile::PROFILE) => Profile::from_bytes(payload).map(|profile| Some(Body::Profile(profile))),
        (_, SYNC) => {
            bounded("changes", payload.len(), limits::SYNC_CONTENT)?;
            Ok(Some(Body::Sync(payload.to_vec())))
        }
        (_, history::HISTORY) => HistoryOffer::from_bytes(payload).map(|offer| Some(Body::History(offer))),
        _ => Ok(None),
    }
}

/// Whether a part is a text to be shown as others write it: in another variant than [`MARKDOWN`], or without marks.
fn is_text(content_type: &str) -> bool {
    let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    ["text/markdown", "text/plain"].iter().any(|it| kind.trim().eq_ignore_ascii_case(it))
}

/// A part that this version does not know: named by its content type if it has one, else by its shape.
fn unknown(bytes: &[u8]) -> Result<Body, DecodeError> {
    let mut d = Decoder::new(bytes);
    let head = Head::read(&mut d)?;
    let named = matches!(head.cardinality, SINGLE | EXTERNAL) && head.fields > 3;
    let content_type = match d.datatype() {
        Ok(Type::String) if named => d.str().map_err(bad)?.to_owned(),
        _ => format!("part of cardinality {}", head.cardinality),
    };
    bounded("content type", content_type.len(), limits::LABEL)?;
    // Whole and well-formed, even if nobody here reads it.
    let mut whole = Decoder::new(bytes);
    skipped(&mut whole)?;
    if whole.position() != bytes.len() {
        return Err(DecodeError::Trailing);
    }
    Ok(Body::Unknown { content_type, bytes: bytes.to_vec() })
}

pub(super) fn utf8(field: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Invalid(field))
}

/// A reaction is one short visible word or sign.
fn check_reaction(emoji: &str) -> Result<(), DecodeError> {
    bounded("reaction", emoji.len(), limits::REACTION)?;
    if emoji.is_empty() || emoji.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(DecodeError::Invalid("reaction"));
    }
    Ok(())
}
