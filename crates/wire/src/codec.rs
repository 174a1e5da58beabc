//! CBOR (RFC 8949) in and out: deterministic maps with integer keys, unknown fields skipped, trailing bytes refused.

use thiserror::Error;

/// Why bytes could not be read. Never holds the peer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not the CBOR that is expected here.
    #[error("malformed CBOR")]
    Malformed,
    /// Bytes are left over after the value.
    #[error("bytes left over")]
    Trailing,
    /// The field is longer than its limit.
    #[error("{0} is longer than allowed")]
    TooLong(&'static str),
    /// The field's value is outside its range.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// Not a Parlour frame, or of another version.
    #[error("not a frame of this protocol")]
    BadMagic,
    /// A frame shorter than it says.
    #[error("truncated frame")]
    Truncated,
    /// A signature does not verify.
    #[error("bad signature on {0}")]
    BadSignature(&'static str),
}

/// Encodes a value. Encoding into memory cannot fail.
pub fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    minicbor::encode(value, &mut out).expect("writing to a Vec is infallible and our types have no failing encoders");
    out
}

/// Decodes a value that fills `bytes`.
///
/// # Errors
/// [`DecodeError::Malformed`] if the bytes are not the value, [`DecodeError::Trailing`] if more follows it.
pub fn decode<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, DecodeError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| DecodeError::Malformed)?;
    if decoder.position() != bytes.len() {
        return Err(DecodeError::Trailing);
    }
    Ok(value)
}

/// Refuses a field longer than `limit`.
///
/// # Errors
/// [`DecodeError::TooLong`] naming the field.
pub fn bounded(field: &'static str, len: usize, limit: usize) -> Result<(), DecodeError> {
    if len > limit { Err(DecodeError::TooLong(field)) } else { Ok(()) }
}
