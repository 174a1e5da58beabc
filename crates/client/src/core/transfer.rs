//! What the core and the driver say to each other about files: orders, and what became of them.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use parlour_e2ee::attachment::Sealed;
use parlour_wire::{BlobId, MessageId, content::Attachment};

use super::Ticket;
use crate::{api::Fetched, error::Error};

/// Names a transfer until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferId {
    /// The file of a message that is being sent.
    Upload(MessageId),
    /// A file that somebody asked for.
    Download(Ticket),
}

/// A file on this machine, as it was when its owner sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Where; absolute.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed, nanoseconds of Unix time.
    pub modified_ns: i64,
    /// A small picture of it, for its message.
    pub thumbnail: Option<Vec<u8>>,
}

/// Where a file is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The folder; absolute, and it is there.
    pub folder: PathBuf,
    /// Its name there; `None`: the one that its message gives it.
    pub name: Option<OsString>,
    /// Replace what is there.
    pub force: bool,
    /// Refuse larger files, in bytes.
    pub limit: Option<u64>,
}

/// Something to be done with files, beside everything else. Its end comes back as [`super::Input::Transferred`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go over a file that is to be sent, for the name of its blob; nothing is sent.
    Seal {
        /// Of which message.
        message: MessageId,
        /// The file.
        file: LocalFile,
        /// Its key.
        key: [u8; 32],
    },
    /// Bring a file to the server that has been gone over before.
    Upload {
        /// Of which message.
        message: MessageId,
        /// The file.
        file: LocalFile,
        /// Its key.
        key: [u8; 32],
        /// What going over it gave. If it gives something else now, nothing is sent.
        blob: BlobId,
        /// All of what it gave, if this program has not been started anew since.
        sealed: Option<Arc<Sealed>>,
        /// The file is its blob already, in the profile's folder, and this the hash of what is in it; its size is that of the content.
        kept: Option<[u8; 32]>,
    },
    /// Bring a file from the server.
    Download {
        /// For whom.
        ticket: Ticket,
        /// Of which message.
        message: MessageId,
        /// The file.
        attachment: Box<Attachment>,
        /// The folder that it goes to.
        folder: PathBuf,
        /// Its name there.
        name: OsString,
        /// Replace what is there.
        force: bool,
        /// Where its blob lies on this machine; `None`: at the server.
        kept: Option<PathBuf>,
    },
}

impl Order {
    /// Which transfer this is for.
    #[must_use]
    pub const fn id(&self) -> TransferId {
        match self {
            Self::Seal { message, .. } | Self::Upload { message, .. } => TransferId::Upload(*message),
            Self::Download { ticket, .. } => TransferId::Download(*ticket),
        }
    }
}

/// What an order came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// A file has been gone over.
    Sealed(Arc<Sealed>),
    /// The server has the blob.
    Uploaded {
        /// BLAKE3 of the file.
        hash: [u8; 32],
    },
    /// The file is on disk.
    Fetched(Fetched),
}

/// The end of an order.
pub type Outcome = Result<Transferred, Error>;
