//! Files over a link: the requests that begin and settle a transfer, and what the chunks of its stream carry beside the data.
//!
//! A file moves in one stream from its sender to its receiver, which has a part of it already, or nothing. The requests:
//!
//! - [`Pull`], by the receiver, names its sink and the part that it has. The answer comes when the stream has ended.
//! - [`Push`], by the sender. The answer names the sink, and the part that the receiver has. [`Settle`] follows at once; its answer
//!   comes when the file is on the receiver's disk under its name.
//!
//! The stream, in both cases: chunks without content while the sender reads up to where the receiver is (they only say that it is
//! alive); one chunk without content whose mark is an [`Opening`]; the data, in which every chunk that begins at a multiple of
//! [`MARK_INTERVAL`] has a [`Mark`]; a [`Closing`] as last words.

mod path;

use minicbor::{Decode, Encode};

pub use self::path::{PathError, RemotePath};
use crate::{
    api::Call,
    codec::{DecodeError, bounded},
    limits,
};

/// Bytes of the file between two marks: what a receiver loses at most if something is wrong, for a hash in every 64 chunks.
pub const MARK_INTERVAL: u64 = 4 * 1024 * 1024;
/// Largest size of a file in bytes: what the common file systems can address.
pub const FILE_SIZE: u64 = i64::MAX as u64;

/// BLAKE3.
pub type Hash = [u8; 32];

/// Asks for a file. Answered with the [`Whole`] when the stream has ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Pull {
    /// Which file: a [`RemotePath`], if it can be one.
    #[n(0)]
    pub path: String,
    /// The sink of the asker.
    #[n(1)]
    pub stream: u64,
    /// The credit of the sink.
    #[n(2)]
    pub credit: u64,
    /// What the asker has.
    #[n(3)]
    pub part: Part,
}

/// Offers a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Push {
    /// Where it is to appear: a [`RemotePath`], if it can be one.
    #[n(0)]
    pub path: String,
    /// Its size in bytes.
    #[n(1)]
    pub size: u64,
    /// Whether it may take the place of another.
    #[n(2)]
    pub replace: bool,
    /// Whether a part from an earlier try is to be forgotten.
    #[n(3)]
    pub afresh: bool,
    /// The hash of the file, if the sender knows it from an earlier try that may have come to its end.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub hash: Option<Hash>,
}

/// Answers a [`Push`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PushAnswer {
    /// Where to send the file; `None` if the very same file is there already.
    #[n(0)]
    pub into: Option<Destination>,
}

/// Where to send a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Destination {
    /// The sink of the receiver.
    #[n(0)]
    pub stream: u64,
    /// The credit of the sink.
    #[n(1)]
    pub credit: u64,
    /// What the receiver has.
    #[n(2)]
    pub part: Part,
}

/// The beginning of a file that its receiver has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// How much, in bytes.
    #[n(0)]
    pub size: u64,
    /// Its hash.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: Hash,
}

/// Asks what became of a push. Answered with the [`Whole`] when the file is on disk under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Settle {
    /// The sink of the receiver, as it named it.
    #[n(0)]
    pub stream: u64,
}

/// Asks about a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stat {
    /// Which file: a [`RemotePath`], if it can be one.
    #[n(0)]
    pub path: String,
}

/// Answers a [`Stat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StatAnswer {
    /// Its size in bytes.
    #[n(0)]
    pub size: u64,
    /// When it was changed, in milliseconds since 1970; `None` if that is not known.
    #[n(1)]
    pub modified_ms: Option<u64>,
}

/// A whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Whole {
    /// Its size in bytes.
    #[n(0)]
    pub size: u64,
    /// Its hash.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: Hash,
}

/// The mark of the chunk without content that precedes the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opening {
    /// Where the data begins: at the end of the receiver's part if the sender has the same, else at 0.
    #[n(0)]
    pub from: u64,
    /// Size of the whole file in bytes.
    #[n(1)]
    pub size: u64,
    /// When it was changed, in milliseconds since 1970; `None` if that is not known.
    #[n(2)]
    pub modified_ms: Option<u64>,
}

/// The mark of a chunk at a multiple of [`MARK_INTERVAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    /// Hash of everything before the chunk.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: Hash,
}

/// The last words of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Closing {
    /// The file is complete. `None`: it was given up, and the receiver is to keep nothing of it.
    #[n(0)]
    pub whole: Option<Whole>,
}

fn checked_size(size: u64) -> Result<(), DecodeError> {
    if size > FILE_SIZE { Err(DecodeError::Invalid("size")) } else { Ok(()) }
}

impl Call for Pull {
    const NAME: &'static str = "parlour.files.pull";
    type Answer = Whole;

    fn check(&self) -> Result<(), DecodeError> {
        bounded("path", self.path.len(), limits::TEXT)?;
        checked_size(self.part.size)
    }
}

impl Call for Push {
    const NAME: &'static str = "parlour.files.push";
    type Answer = PushAnswer;

    fn check(&self) -> Result<(), DecodeError> {
        bounded("path", self.path.len(), limits::TEXT)?;
        checked_size(self.size)
    }
}

impl Call for Settle {
    const NAME: &'static str = "parlour.files.settle";
    type Answer = Whole;
}

impl Call for Stat {
    const NAME: &'static str = "parlour.files.stat";
    type Answer = StatAnswer;

    fn check(&self) -> Result<(), DecodeError> {
        bounded("path", self.path.len(), limits::TEXT)
    }
}
