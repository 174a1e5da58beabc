//! What a message says once it is decrypted: the MIMI content model (draft-ietf-mimi-content-07, section 4) in CBOR.
//!
//! A message is the array `[salt, replaces, topic, expires, in reply to, extensions, part]`. We write the salt empty, because ids
//! are made by senders and bound by MLS authenticated data, and one extension: 1 = when the sender wrote it, Unix
//! milliseconds. Parts are `[disposition, language, cardinality, …]`. What is not known here is kept as [`Body::Unknown`] and
//! shown as such.

use minicbor::{Decoder, Encoder, data::Type};

use crate::{
    codec::{DecodeError, bounded},
    id::MessageId,
    limits,
};

/// Content type of text (CommonMark).
pub const MARKDOWN: &str = "text/markdown;variant=CommonMark";
/// Content type of a report on messages (MIMI message status).
pub const STATUS: &str = "application/mimi-message-status";

const DISPOSITION_RENDER: u8 = 1;
const CARDINALITY_SINGLE: u8 = 1;
const EXTENSION_SENT: u8 = 1;

/// A decrypted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// When the sender wrote it, Unix time in milliseconds. The sender's claim.
    pub sent_ms: u64,
    /// The message that this one answers.
    pub in_reply_to: Option<MessageId>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Text in CommonMark.
    Text(String),
    /// What became of other messages at the sender's device.
    Report(Vec<Report>),
    /// Something that this version does not know; its content type.
    Unknown(String),
}

/// What became of a message at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which message.
    pub message: MessageId,
    /// What became of it.
    pub status: Status,
}

/// States of a message at a device (MIMI message status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u8);

impl Status {
    /// Decrypted and stored.
    pub const DELIVERED: Self = Self(1);
    /// Shown to its reader.
    pub const READ: Self = Self(2);
    /// Could not be decrypted.
    pub const ERROR: Self = Self(6);
}

impl Content {
    /// The CBOR.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for text above [`limits::MESSAGE_INLINE`] or a report above [`limits::REPORT_IDS`];
    /// [`DecodeError::Invalid`] for [`Body::Unknown`], which can only be received.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        let (content_type, payload) = match &self.body {
            Body::Text(text) => {
                bounded("message", text.len(), limits::MESSAGE_INLINE)?;
                (MARKDOWN, text.as_bytes().to_vec())
            }
            Body::Report(reports) => {
                bounded("report", reports.len(), limits::REPORT_IDS)?;
                (STATUS, report_bytes(reports))
            }
            Body::Unknown(_) => return Err(DecodeError::Invalid("content")),
        };
        let mut out = Vec::with_capacity(payload.len() + 96);
        self.write(&mut Encoder::new(&mut out), content_type, &payload).expect("writing to a Vec is infallible");
        Ok(out)
    }

    fn write(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
        content_type: &str,
        payload: &[u8],
    ) -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        e.array(7)?.bytes(&[])?.null()?.bytes(&[])?.null()?;
        match &self.in_reply_to {
            Some(id) => e.bytes(id.as_bytes())?,
            None => e.null()?,
        };
        e.map(1)?.u8(EXTENSION_SENT)?.u64(self.sent_ms)?;
        e.array(5)?.u8(DISPOSITION_RENDER)?.str("")?.u8(CARDINALITY_SINGLE)?.str(content_type)?.bytes(payload)?;
        Ok(())
    }

    /// Reads the CBOR.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] for what is not the model, [`DecodeError::TooLong`] above the limits.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("content", bytes.len(), limits::ENTRY_PAYLOAD)?;
        let mut d = Decoder::new(bytes);
        let content = Self::read(&mut d)?;
        if d.position() == bytes.len() { Ok(content) } else { Err(DecodeError::Trailing) }
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let bad = |_| DecodeError::Malformed;
        if d.array().map_err(bad)? != Some(7) {
            return Err(DecodeError::Malformed);
        }
        for _ in ["salt", "replaces", "topic", "expires"] {
            d.skip().map_err(bad)?;
        }
        let in_reply_to = match d.datatype().map_err(bad)? {
            Type::Null => d.null().map(|()| None).map_err(bad)?,
            _ => Some(MessageId::try_from(d.bytes().map_err(bad)?)?),
        };
        let sent_ms = read_extensions(d)?;
        let body = read_part(d)?;
        Ok(Self { sent_ms, in_reply_to, body })
    }
}

/// The sender's time from the extensions, the rest skipped. 0 if absent.
fn read_extensions(d: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    let bad = |_| DecodeError::Malformed;
    let mut sent_ms = 0;
    let count = d.map().map_err(bad)?.ok_or(DecodeError::Malformed)?;
    for _ in 0..count {
        let key = match d.datatype().map_err(bad)? {
            Type::U8 => Some(d.u8().map_err(bad)?),
            _ => d.skip().map(|()| None).map_err(bad)?,
        };
        if key == Some(EXTENSION_SENT) {
            sent_ms = d.u64().map_err(bad)?;
        } else {
            d.skip().map_err(bad)?;
        }
    }
    Ok(sent_ms)
}

fn read_part(d: &mut Decoder<'_>) -> Result<Body, DecodeError> {
    let bad = |_| DecodeError::Malformed;
    let fields = d.array().map_err(bad)?.ok_or(DecodeError::Malformed)?;
    if fields < 3 {
        return Err(DecodeError::Malformed);
    }
    let disposition = d.u8().map_err(bad)?;
    d.skip().map_err(bad)?;
    let cardinality = d.u8().map_err(bad)?;
    if cardinality != CARDINALITY_SINGLE || fields != 5 {
        for _ in 3..fields {
            d.skip().map_err(bad)?;
        }
        return Ok(Body::Unknown(format!("part of cardinality {cardinality}")));
    }
    let content_type = d.str().map_err(bad)?;
    bounded("content type", content_type.len(), limits::LABEL)?;
    let payload = d.bytes().map_err(bad)?;
    match (disposition, content_type) {
        (DISPOSITION_RENDER, MARKDOWN) => {
            bounded("message", payload.len(), limits::MESSAGE_INLINE)?;
            let text = std::str::from_utf8(payload).map_err(|_| DecodeError::Invalid("message text"))?;
            Ok(Body::Text(text.to_owned()))
        }
        (_, STATUS) => read_report(payload).map(Body::Report),
        _ => Ok(Body::Unknown(content_type.to_owned())),
    }
}

fn report_bytes(reports: &[Report]) -> Vec<u8> {
    let mut out = Vec::with_capacity(reports.len() * 20 + 8);
    let mut e = Encoder::new(&mut out);
    let write = |e: &mut Encoder<&mut Vec<u8>>| -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        e.array(reports.len() as u64)?;
        for report in reports {
            e.array(2)?.bytes(report.message.as_bytes())?.u8(report.status.0)?;
        }
        Ok(())
    };
    write(&mut e).expect("writing to a Vec is infallible");
    out
}

fn read_report(bytes: &[u8]) -> Result<Vec<Report>, DecodeError> {
    let bad = |_| DecodeError::Malformed;
    let mut d = Decoder::new(bytes);
    let count = d.array().map_err(bad)?.ok_or(DecodeError::Malformed)?;
    let count = usize::try_from(count).map_err(|_| DecodeError::TooLong("report"))?;
    bounded("report", count, limits::REPORT_IDS)?;
    let mut reports = Vec::with_capacity(count);
    for _ in 0..count {
        if d.array().map_err(bad)? != Some(2) {
            return Err(DecodeError::Malformed);
        }
        let message = MessageId::try_from(d.bytes().map_err(bad)?)?;
        reports.push(Report { message, status: Status(d.u8().map_err(bad)?) });
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Content {
        Content { sent_ms: 1_700_000_000_123, in_reply_to: Some(MessageId([3; 16])), body: Body::Text(body.to_owned()) }
    }

    #[test]
    fn text_and_reports_survive() {
        let report = Body::Report(vec![Report { message: MessageId([9; 16]), status: Status::READ }]);
        for content in [text("héllo *world*"), Content { sent_ms: 0, in_reply_to: None, body: report }] {
            assert_eq!(Content::from_bytes(&content.to_bytes().expect("in bounds")), Ok(content));
        }
    }

    #[test]
    fn too_long_a_text_is_refused_on_both_sides() {
        let long = "x".repeat(limits::MESSAGE_INLINE + 1);
        assert_eq!(text(&long).to_bytes(), Err(DecodeError::TooLong("message")));
        let mut bytes = Vec::new();
        text("").write(&mut Encoder::new(&mut bytes), MARKDOWN, long.as_bytes()).expect("memory");
        assert_eq!(Content::from_bytes(&bytes), Err(DecodeError::TooLong("message")));
    }

    #[test]
    fn what_is_not_known_is_named_not_lost() {
        let mut bytes = Vec::new();
        text("").write(&mut Encoder::new(&mut bytes), "image/png", &[1]).expect("memory");
        let content = Content::from_bytes(&bytes).expect("well-formed");
        assert_eq!(content.body, Body::Unknown("image/png".to_owned()));
    }
}
