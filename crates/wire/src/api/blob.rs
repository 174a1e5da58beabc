//! Blobs: large encrypted objects, named by the BLAKE3 of their bytes at the server. Files of messages, handed-over histories, backups.

use minicbor::{Decode, Encode};

use super::{Done, call};
use crate::{id::BlobId, limits};

/// Begins to store a blob, or goes on with one. A blob that is whole already is shared, not stored again.
///
/// Answers [`crate::Code::TOO_LARGE`] above [`limits::BLOB`], [`crate::Code::QUOTA`] if the account would keep more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobBegin {
    /// Its id.
    #[n(0)]
    pub blob: BlobId,
    /// Its size in bytes.
    #[n(1)]
    pub size: u64,
}
call!(BlobBegin, "blob.begin" => BlobProgress);

/// How much of a blob the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobProgress {
    /// Bytes from the beginning that are there; the next [`BlobPut`] begins here.
    #[n(0)]
    pub received: u64,
    /// It is whole, checked and on disk.
    #[n(1)]
    pub complete: bool,
}

/// The next bytes of a blob that has been begun. Several may be under way, in order; what is there already is skipped. The one that brings the
/// last byte is answered when the whole has been hashed, compared with its id and synced to disk: [`crate::Code::HASH_MISMATCH`] if it is
/// something else, and then nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobPut {
    /// Which.
    #[n(0)]
    pub blob: BlobId,
    /// Where the bytes begin.
    #[n(1)]
    pub offset: u64,
    /// The bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub data: Vec<u8>,
}
call!(BlobPut, "blob.put" => BlobProgress, data <= limits::BLOB_CHUNK);

/// Reads from a blob. For accounts that have stored it, and members of a conversation in which a message named it; others are answered
/// [`crate::Code::FILE_NOT_FOUND`], as for one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobGet {
    /// Which.
    #[n(0)]
    pub blob: BlobId,
    /// From where.
    #[n(1)]
    pub offset: u64,
    /// At most so many bytes; the server has a limit of its own, [`limits::BLOB_CHUNK`].
    #[n(2)]
    pub length: u32,
}
call!(BlobGet, "blob.get" => BlobData);

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobData {
    /// Size of the whole in bytes.
    #[n(0)]
    pub size: u64,
    /// The bytes; empty at the end.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub data: Vec<u8>,
}

/// Replaces the account's backup: a sealed index, and the blobs that it names, which are kept for it from here on. Those that only the
/// index before named go.
///
/// Answers [`crate::Code::STALE_LIST`] unless `version` is one more than the current one (1 for the first).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupSet {
    /// Counts the replacements.
    #[n(0)]
    pub version: u64,
    /// The index, sealed under the account's backup key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub index: Vec<u8>,
    /// Blobs that it names.
    #[n(2)]
    pub blobs: Vec<BlobId>,
}
call!(BackupSet, "backup.set" => Done, index <= limits::BACKUP_INDEX, blobs <= limits::BACKUP_BLOBS);

/// Asks for the account's backup. Answers [`crate::Code::FILE_NOT_FOUND`] if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupGet {}
call!(BackupGet, "backup.get" => BackupAnswer);

/// The account's backup.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupAnswer {
    /// As in [`BackupSet`].
    #[n(0)]
    pub version: u64,
    /// As in [`BackupSet`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub index: Vec<u8>,
}

/// Deletes the account's backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BackupDelete {}
call!(BackupDelete, "backup.delete" => Done);
