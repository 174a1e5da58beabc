//! Rows in, changes out: how steps read the caller's store without ever writing to it.
//!
//! The caller keeps a table of opaque keys and values. A step reads it through [`Rows`] and gives back [`Changes`]; the
//! caller puts them into one transaction with its own rows, or drops both. In between, `overlay` is the
//! storage provider that OpenMLS sees.

mod overlay;
mod past;
mod provider;

use std::{collections::BTreeMap, fmt};

use thiserror::Error;
use zeroize::Zeroize;

pub(crate) use overlay::{Kind, Overlay, StorageError, row_key};

/// The caller's store failed. The text is for the log, and must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RowsError(pub String);

/// The caller's table of rows. It must show the changes of every step before, committed or not: apply a step's changes to
/// the open transaction before the next step.
pub trait Rows {
    /// The value of a row, if it is there.
    ///
    /// # Errors
    /// [`RowsError`] if the store cannot tell. An error is never taken for an absent row.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;
}

/// A store without rows, for what is made aside.
pub(crate) struct NoRows;

impl Rows for NoRows {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(None)
    }
}

impl<R: Rows + ?Sized> Rows for &R {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        (**self).get(key)
    }
}

/// What a step wants on disk, all of it or nothing. The values hold secrets and are wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// `Some`: put the row; `None`: delete it.
    pub rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.rows.values_mut().flatten().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({} rows)", self.rows.len())
    }
}

/// What a step gives: an output to use once the changes are on disk, and the changes.
#[derive(Debug)]
#[must_use = "the changes must be put on disk, or the engine told that they were not"]
pub struct Step<T> {
    /// The result. Send nothing of it before the changes are on disk.
    pub output: T,
    /// What to put on disk.
    pub changes: Changes,
}
