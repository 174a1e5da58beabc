//! Types of files that messages carry.

use std::path::PathBuf;

/// A file that a message names, as its sender describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// A base name without a path, safe to be used as one.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its content type; the sender's claim.
    pub content_type: String,
    /// A small picture of it, PNG, JPEG or WebP, made by its sender.
    pub thumbnail: Option<Vec<u8>>,
    /// It is on this machine: [`crate::Client::fetch_file`] needs no server.
    pub kept: bool,
}

/// Whether a small picture goes with a picture that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preview {
    /// It does, if the file is a picture of a known kind. Made on this machine; of the file's metadata (place, camera) nothing is in it.
    #[default]
    Thumbnail,
    /// Nothing but the file.
    None,
}

/// The file of an imported message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its content type.
    pub content_type: String,
    /// Where it lies; it is copied, sealed, into the profile. `None`: it is not there, and only its name is kept.
    pub source: Option<PathBuf>,
}

/// Where a file goes, and what is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// The file, or a folder that is there, in which it gets the name from its message. `None`: the current folder.
    pub output: Option<PathBuf>,
    /// Replace what is there.
    pub force: bool,
    /// Refuse larger files, in bytes.
    pub limit: Option<u64>,
}

/// A file that has been downloaded, checked and put on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of it.
    pub hash: [u8; 32],
}
