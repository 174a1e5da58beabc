//! Parlour's bytes: everything two of our programs must agree on, and nothing they do on their own.
//!
//! - [`id`]: accounts, devices, conversations, messages.
//! - [`frame`]: the unit of the link: fixed proto-header, CBOR header, content.
//! - [`header`]: the CBOR headers of the frame kinds.
//! - [`api`]: requests, answers and pushes between a client and a server.
//! - [`identity`]: device certificates and signed device lists.
//! - [`files`]: names of files at a peer, and the messages of their transfers.
//! - [`content`]: what a message says once it is decrypted (the MIMI content model).
//! - [`log`]: entries of a conversation's log, their hash chain, the server's receipts.
//! - [`announce`]: signed announcements on a local network, and queries for them.
//! - [`name`], [`address`]: user names and server addresses.
//! - [`mod@compress`]: the encodings of compressed content, and their bounded decoders.
//! - [`code`]: the one table of error codes, with blame and exit status.
//! - [`limits`]: every bound, each with its reason.
//!
//! The crate knows no socket, no clock, no store and no secret key.

pub mod address;
pub mod announce;
pub mod api;
pub mod code;
pub mod codec;
pub mod compress;
pub mod content;
pub mod files;
pub mod frame;
pub mod header;
pub mod id;
pub mod identity;
pub mod limits;
pub mod log;
pub mod name;

pub use code::Code;
pub use codec::{DecodeError, decode, encode};
pub use compress::{CompressError, Encoding, compress, decompress};
pub use frame::{Frame, FrameDecoder, Kind};
pub use id::{AccountId, BlobId, ConversationId, DeviceId, LinkSessionId, MessageId};
