//! The store in SQLite: one writer that commits in groups, several readers, write-ahead log, `synchronous=FULL`.
//!
//! - `schema`: the file, its pragmas and migrations.
//! - `writer`: the queue of writes and the thread that carries them out.
//! - `apply`: what each write does inside the transaction.
//! - `readers`, `query`: reader threads and the questions they answer.
//!
//! An acknowledged write is on disk. A disk that fails or is full fails the writes that met it, leaves what was there, and is
//! tried again with the next write.

mod apply;
mod error;
mod query;
mod readers;
mod rows;
mod schema;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use parlour_server::store::{
    Account, Backup, Device, GroupInfo, LogPage, Observer, Opener, Refusal, Store, StoreError, Write, Written, blobs::Upload,
};
use parlour_wire::{AccountId, BlobId, ConversationId, DeviceId, api::ConversationState, name::Name};
use rusqlite::Connection;
use thiserror::Error;

use self::{
    error::{stopped, store_error},
    readers::Readers,
    writer::{Queue, Task, Writer},
};
use crate::metrics::StoreMeter;

/// The name of the database in the data directory.
pub const FILE: &str = "parlour.db";

/// Why the database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file is not a database of ours, is damaged, or comes from a later version.
    #[error("{path}: {reason}")]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// No room for it.
    #[error("{path}: no space left on the device")]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// It may not be written.
    #[error("{path}: {reason}")]
    ReadOnly {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// It cannot be read or written for another reason.
    #[error("{path}: {reason}")]
    Unavailable {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the system says.
        reason: String,
    },
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Reader threads.
    pub readers: usize,
    /// Largest size of the database file, in pages of 4 KiB; writes beyond it are refused as on a full disk.
    pub max_pages: Option<u32>,
    /// Where batches are counted.
    pub meter: StoreMeter,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { readers: cores.clamp(2, 8), max_pages: None, meter: StoreMeter::default() }
    }
}

/// A store in one SQLite file. Dropping it carries out the writes that wait, and closes the file.
pub struct SqliteStore {
    readers: Arc<Readers>,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<Connection>>,
}

impl SqliteStore {
    /// Opens or creates the database file, with the usual options.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, observer: Arc<dyn Observer>) -> Result<Self, OpenError> {
        Self::open_with(path, observer, Options::default())
    }

    /// Opens or creates the database file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(path: &Path, observer: Arc<dyn Observer>, options: Options) -> Result<Self, OpenError> {
        let named = |error| name_file(path, error);
        let connection = schema::connect(path, schema::Role::Writer, options.max_pages).map_err(|e| open_error(path, &e))?;
        sync_directory(path).map_err(|error| named(StoreError::Unavailable(error.to_string())))?;
        let readers = Arc::new(Readers::start(path, options.readers).map_err(named)?);
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(connection, observer, options.meter);
        let thread = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn({
                let queue = Arc::clone(&queue);
                move || writer.run(&queue)
            })
            .map_err(|error| named(StoreError::Unavailable(error.to_string())))?;
        Ok(Self { readers, queue, writer: Some(thread) })
    }

    /// Which of these blobs the store does not know: their files are left over from a crash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unknown_blobs(&self, blobs: Vec<BlobId>) -> impl Future<Output = Result<Vec<BlobId>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::unknown_blobs(db, blobs))
    }

    /// The same of uploads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unknown_uploads(
        &self,
        uploads: Vec<Upload>,
    ) -> impl Future<Output = Result<Vec<Upload>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::unknown_uploads(db, uploads))
    }

    /// Writes, makes it durable, and reads it back: whether the store can do its work at this moment.
    ///
    /// # Errors
    /// [`StoreError`] as for any write.
    pub fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let accepted = self.queue.push(Task::Probe);
        let readers = Arc::clone(&self.readers);
        async move {
            let _written = accepted?.await.map_err(|_| stopped())??;
            let found = readers.ask(|db| query::setting(db, apply::PROBE)).await?;
            found.map(drop).ok_or_else(|| StoreError::Corrupt("what was written is not there".to_owned()))
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue.close();
        let written = self.writer.take().map(JoinHandle::join);
        // Whoever closes last moves the write-ahead log into the database file. Connections that close at the same moment each
        // find another one open, and none of them does; so the writer's goes alone, after all others.
        self.readers.close();
        if let Some(Err(_)) = written {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

/// Makes an invitation beside a server that may be running.
pub(crate) fn create_invite(path: &Path, token: &[u8; 32], uses: u32, expires_ms: u64) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_error(path, &error);
    let mut connection = schema::connect(path, schema::Role::Writer, None).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    let mut cache = apply::Cache::default();
    let write = Write::CreateInvite { token: *token, uses, expires_ms };
    let _done = apply::Apply::new(&transaction, &mut cache).apply(&write).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => {
            OpenError::ReadOnly { path: path.to_owned(), reason: error.to_string() }
        }
        _ => name_file(path, store_error(error)),
    }
}

fn name_file(path: &Path, error: StoreError) -> OpenError {
    let path = path.to_owned();
    match error {
        StoreError::Corrupt(reason) => OpenError::Corrupt { path, reason },
        StoreError::Full => OpenError::Full { path },
        StoreError::Unavailable(reason) => OpenError::Unavailable { path, reason },
        StoreError::Overloaded => OpenError::Unavailable { path, reason: error.to_string() },
    }
}

/// Makes the name of a file that was just created survive a power cut.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

impl Store for SqliteStore {
    fn apply(&self, write: Write) -> impl Future<Output = Result<Result<Written, Refusal>, StoreError>> + Send + 'static {
        let accepted = self.queue.push(Task::Write(Box::new(write)));
        async move { accepted?.await.map_err(|_| stopped())? }
    }

    fn account_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        let name = name.clone();
        self.readers.ask(move |db| query::account_by_name(db, &name))
    }

    fn account(&self, id: AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::account(db, &id))
    }

    fn device(&self, id: DeviceId) -> impl Future<Output = Result<Option<Device>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::device(db, &id))
    }

    fn devices(&self, account: AccountId) -> impl Future<Output = Result<Vec<Device>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::devices(db, &account))
    }

    fn invite(
        &self,
        token: [u8; 32],
        now_ms: u64,
    ) -> impl Future<Output = Result<Result<(), Refusal>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::invite(db, &token, now_ms))
    }

    fn log(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Result<LogPage, Refusal>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::log(db, &conversation, &device, after, limit))
    }

    fn group_info(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<GroupInfo, Refusal>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::group_info(db, &conversation, &account))
    }

    fn leaves(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<Vec<Vec<u8>>, Refusal>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::leaves(db, &conversation, &account))
    }

    fn conversations(
        &self,
        account: AccountId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> impl Future<Output = Result<(Vec<ConversationState>, bool), StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::conversations(db, &account, &device, after.as_ref(), limit))
    }

    fn peers(&self, account: AccountId) -> impl Future<Output = Result<Vec<AccountId>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::peers(db, &account))
    }

    fn group_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<ConversationId>, StoreError>> + Send + 'static {
        let name = name.clone();
        self.readers.ask(move |db| query::group_by_name(db, &name))
    }

    fn recovery(&self, account: AccountId) -> impl Future<Output = Result<Option<Opener>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::recovery(db, &account))
    }

    fn blob(&self, blob: BlobId, account: AccountId) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::readable_blob(db, &blob, &account))
    }

    fn unneeded_blobs(
        &self,
        before_ms: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<BlobId>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::unneeded_blobs(db, before_ms, limit))
    }

    fn backup(&self, account: AccountId) -> impl Future<Output = Result<Option<Backup>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::backup(db, &account))
    }

    fn setting(&self, key: &'static str) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send + 'static {
        self.readers.ask(move |db| query::setting(db, key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use parlour_server::store::Committed;

    use super::*;

    struct Deaf;

    impl Observer for Deaf {
        fn committed(&self, _: Vec<Committed>) {}
    }

    /// Two connections that close at the same moment are a matter of luck, so there are many attempts.
    #[tokio::test]
    async fn a_store_that_closes_while_it_reads_leaves_one_file() {
        for _ in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { readers: 2, ..Options::default() };
            let store = SqliteStore::open_with(&dir.path().join(FILE), Arc::new(Deaf), options).unwrap();
            let asked: Vec<_> = (0..4).map(|_| store.unknown_blobs(vec![BlobId([1; 32])])).collect();
            // Who asks at that moment holds a part of the store.
            let late = store.probe();
            drop(store);
            let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
            assert_eq!(files, [FILE], "nothing is left for the next start to go through");
            for answer in asked {
                assert_eq!(answer.await.unwrap(), [BlobId([1; 32])], "what was asked in time is answered");
            }
            assert!(matches!(late.await, Err(StoreError::Unavailable(_))));
        }
    }
}
