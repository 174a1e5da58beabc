//! The SQLite store against the specification of stores.

use std::sync::Arc;

use parlour_server::store::{Observer, suite::Place};
use parlour_serverd::sqlite::{FILE, SqliteStore};

/// A temporary directory.
struct Disk(tempfile::TempDir);

impl Disk {
    fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }
}

impl Place for Disk {
    type Store = SqliteStore;
    const PERSISTS: bool = true;

    fn open(&self, observer: Arc<dyn Observer>) -> SqliteStore {
        SqliteStore::open(&self.0.path().join(FILE), observer).expect("a fresh or sound database")
    }
}

parlour_server::store_suite!(Disk::fresh);
