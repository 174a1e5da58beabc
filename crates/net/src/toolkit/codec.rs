//! Content types: how arguments and answers become bytes, and how bytes of strangers become values within bounds.

mod cbor;
mod plain;

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use parlour_wire::{Code, frame::ContentType, header::Fault};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use thiserror::Error;

/// Content types from here on are for codecs of the user.
const FIRST_OF_USERS: u8 = 128;

/// Why a value did not become content, or content not a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// An error with the reason that the codec gives.
    #[must_use]
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        Self::new(Code::BAD_REQUEST, error.0)
    }
}

/// A content type of the user: a serde data format.
///
/// What arrives is at most [`parlour_wire::limits::FRAME`] bytes long and comes from strangers: a codec must bound how deep it
/// follows nested values, and must not allocate what a length in the content announces.
///
/// ```
/// use parlour_net::{Codec, CodecError, Codecs, ContentType, Reader, Value};
///
/// /// JSON for people: indented.
/// struct Pretty;
///
/// impl Codec for Pretty {
///     fn encode(&self, value: Value<'_>) -> Result<Vec<u8>, CodecError> {
///         serde_json::to_vec_pretty(&value).map_err(CodecError::new)
///     }
///
///     fn decode(&self, content: &[u8], reader: Reader<'_>) -> Result<(), CodecError> {
///         reader.read(&mut serde_json::Deserializer::from_slice(content))
///     }
/// }
///
/// const PRETTY: ContentType = ContentType(200);
/// let codecs = Codecs::new().with(PRETTY, Pretty);
/// let content = codecs.encode(PRETTY, &[1, 2])?;
/// assert_eq!(codecs.decode::<Vec<u8>>(PRETTY, &content)?, [1, 2]);
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec: Send + Sync + 'static {
    /// The value in this format.
    ///
    /// # Errors
    /// [`CodecError`] for a value that the format cannot hold.
    fn encode(&self, value: Value<'_>) -> Result<Vec<u8>, CodecError>;

    /// Reads the content with `reader`.
    ///
    /// # Errors
    /// [`CodecError`] for anything but one whole value of the wanted type.
    fn decode(&self, content: &[u8], reader: Reader<'_>) -> Result<(), CodecError>;
}

/// A value on its way into a [`Codec`]: anything that serde can serialize.
pub struct Value<'v>(&'v dyn erased_serde::Serialize);

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        erased_serde::serialize(self.0, serializer)
    }
}

/// Reads one value from a deserializer that does not know its type.
type Read<'t> = &'t mut dyn for<'de> FnMut(&mut dyn erased_serde::Deserializer<'de>) -> Result<(), erased_serde::Error>;

/// Where a [`Codec`] leaves what it reads.
pub struct Reader<'t>(Read<'t>);

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader<'_> {
    /// Reads the value from a deserializer of the format.
    ///
    /// # Errors
    /// [`CodecError`] if the content is not of the wanted type.
    pub fn read<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), CodecError> {
        (self.0)(&mut <dyn erased_serde::Deserializer<'de>>::erase(deserializer)).map_err(CodecError::new)
    }
}

/// The content types that a program reads and writes. Cheap to clone.
///
/// [`ContentType::CBOR`] and [`ContentType::JSON`] hold any value of serde's data model, [`ContentType::TEXT`] strings, and
/// [`ContentType::BYTES`] bytes ([`Bytes`], `Vec<u8>`, arrays). Content of any of them is nested at most 128 levels deep, and
/// memory follows what is there, never what a length announces. Empty content without a type is `()`.
#[derive(Clone, Default)]
pub struct Codecs {
    of_users: Option<Arc<BTreeMap<u8, Arc<dyn Codec>>>>,
    default: Option<ContentType>,
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_users: Vec<u8> = self.of_users.iter().flat_map(|codecs| codecs.keys().copied()).collect();
        f.debug_struct("Codecs").field("default", &self.default_type()).field("of_users", &of_users).finish()
    }
}

impl Codecs {
    /// JSON, CBOR, text and bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a content type of the user.
    ///
    /// # Panics
    /// If the content type is below 128: those are the protocol's.
    #[must_use]
    pub fn with(mut self, content_type: ContentType, codec: impl Codec) -> Self {
        assert!(content_type.0 >= FIRST_OF_USERS, "content type {} is the protocol's: choose one from 128 on", content_type.0);
        Arc::make_mut(self.of_users.get_or_insert_default()).insert(content_type.0, Arc::new(codec));
        self
    }

    /// The same, with another content type than CBOR for the calls that name none.
    #[must_use]
    pub fn with_default(mut self, content_type: ContentType) -> Self {
        self.default = Some(content_type);
        self
    }

    /// The content type of calls that name none: CBOR unless it was set.
    #[must_use]
    pub fn default_type(&self) -> ContentType {
        self.default.unwrap_or(ContentType::CBOR)
    }

    /// The value as content of this type.
    ///
    /// # Errors
    /// [`CodecError`] if the type is not known here, or cannot hold the value.
    pub fn encode<T: Serialize + ?Sized>(&self, content_type: ContentType, value: &T) -> Result<Bytes, CodecError> {
        let content = match content_type {
            ContentType::CBOR => minicbor_serde::to_vec(value).map_err(CodecError::new),
            ContentType::JSON => serde_json::to_vec(value).map_err(CodecError::new),
            ContentType::TEXT => plain::to_text(value),
            ContentType::BYTES => plain::to_bytes(value),
            other => self.of_user(other)?.encode(Value(&value)),
        };
        content.map(Bytes::from)
    }

    /// The value that the content of this type holds.
    ///
    /// # Errors
    /// [`CodecError`] if the type is not known here, or the content is not one whole value of `T`.
    pub fn decode<T: DeserializeOwned>(&self, content_type: ContentType, content: &[u8]) -> Result<T, CodecError> {
        match content_type {
            ContentType::CBOR => {
                cbor::check(content).map_err(CodecError::new)?;
                minicbor_serde::from_slice(content).map_err(CodecError::new)
            }
            ContentType::JSON => serde_json::from_slice(content).map_err(CodecError::new),
            ContentType::TEXT => plain::from_text(content),
            ContentType::BYTES => plain::from_bytes(content),
            other => {
                let codec = self.of_user(other)?;
                let mut value = None;
                let mut read = |deserializer: &mut dyn erased_serde::Deserializer<'_>| {
                    value = Some(T::deserialize(deserializer)?);
                    Ok(())
                };
                codec.decode(content, Reader(&mut read))?;
                value.ok_or_else(|| CodecError::new("the codec read nothing"))
            }
        }
    }

    fn of_user(&self, content_type: ContentType) -> Result<&dyn Codec, CodecError> {
        let codec = self.of_users.as_ref().and_then(|codecs| codecs.get(&content_type.0));
        codec.map(AsRef::as_ref).ok_or_else(|| CodecError(format!("content type {} is not known here", content_type.0)))
    }
}

/// Content that is passed on as it is: what a handler takes and gives that does its own coding, or none at all.
///
/// ```
/// use parlour_net::{Access, Handlers, Raw};
///
/// let mut handlers = Handlers::new();
/// handlers.on_request_raw("echo", |_cx, content: Raw| async move { Ok(content) }).allow(Access::Anyone);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// How to read the bytes.
    pub content_type: ContentType,
    /// The content.
    pub content: Bytes,
}

impl Raw {
    /// Nothing.
    pub const EMPTY: Self = Self { content_type: ContentType::BYTES, content: Bytes::new() };
}

impl From<Raw> for crate::Answer {
    fn from(raw: Raw) -> Self {
        Self { content_type: raw.content_type, content: raw.content }
    }
}

impl From<crate::Answer> for Raw {
    fn from(answer: crate::Answer) -> Self {
        Self { content_type: answer.content_type, content: answer.content }
    }
}

/// Bytes within a larger value, in the shape that CBOR keeps for them: a byte string instead of a list of numbers.
///
/// ```
/// use parlour_net::{Blob, Codecs, ContentType};
///
/// let codecs = Codecs::new();
/// let content = codecs.encode(ContentType::CBOR, &("photo.jpg", Blob::from(vec![7; 1000])))?;
/// assert!(content.len() < 1020);
/// # Ok::<(), parlour_net::CodecError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blob(pub Bytes);

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}
