//! Files over a link: pushed and pulled, several at once beside live calls, checked while they arrive, resumed where they stopped.

mod begin;
mod error;
mod events;
mod handle;
mod intake;
mod meter;
mod part;
mod path;
mod pull;
mod push;
mod quota;
mod reader;
mod receive;
mod root;
mod seats;
mod send;
mod service;
mod transfer;

pub use error::FileError;
pub use events::{FileEvent, FileStage, Way};
pub use parlour_wire::files::{PathError, RemotePath};
pub use root::{FilesError, Rights, Root};
pub use service::{Files, FilesBuilder};
pub use transfer::{Copied, CopyOptions, FileInfo, Transfer};
