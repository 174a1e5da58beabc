//! The local store: one SQLCipher database, one connection, one thread.
//!
//! A table group has a file of its own that adds methods to [`Store`]. Transactions are opened and closed by the core, one for
//! each of its inputs; the methods here only run statements.

mod account;
mod backup;
mod changes;
mod contacts;
mod conversations;
mod groups;
mod intents;
mod messages;
mod mls;
mod order;
mod outbox;
mod own;
mod packs;
mod profiles;
mod reports;
mod schema;
mod search;
mod shares;
mod uploads;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Once,
    time::Duration,
};

use parlour_wire::{AccountId, identity::VerifiedList};
use rusqlite::Connection;
use zeroize::Zeroizing;

use crate::error::Error;

pub(crate) use self::{
    account::{Account, Pin},
    backup::BackupRow,
    changes::{PendingChange, ReactionRow},
    contacts::ContactRow,
    conversations::{Conversation, ConversationPhase},
    groups::MemberRow,
    intents::{Intent, IntentRow},
    messages::{MessageRow, NewMessage},
    order::STEP,
    outbox::{OutboxItem, OutboxKind},
    own::OwnContent,
    packs::{Handover, Packable, Parcel, Purpose, Wanted},
    shares::{Offer, Owed, Share},
    uploads::Upload,
};

/// Looks at whether the cipher is ready, and pauses between them.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the cipher of SQLCipher is ready in this process. SQLite says that it is initialised before SQLCipher has done its part, so
/// of several threads that open their first databases at once, one could find that it has no cipher.
#[expect(clippy::disallowed_methods, reason = "nothing tells when the cipher is ready")]
fn await_cipher() {
    static READY: Once = Once::new();
    READY.call_once(|| {
        for _ in 0..LOOKS {
            if is_cipher_ready().is_ok() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        // Whoever opens a database is told what is wrong.
    });
}

fn is_cipher_ready() -> rusqlite::Result<()> {
    let conn = Connection::open_in_memory()?;
    conn.pragma_update(None, "cipher_log_level", "NONE")?;
    conn.pragma_update(None, "key", format!("x'{}'", "0".repeat(64)))?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// An open database.
pub(crate) struct Store {
    conn: Connection,
    /// Pinned device lists that have been verified; emptied when a transaction is taken back.
    lists: RefCell<BTreeMap<AccountId, VerifiedList>>,
    /// What people are called here; the same.
    petnames: RefCell<Option<contacts::Petnames>>,
    /// The last message in the search index, if it has been read since the last transaction was taken back.
    mark: Cell<Option<i64>>,
}

impl Store {
    /// Opens or makes the database and brings its schema up to date.
    pub(crate) fn open(path: &Path, key: &[u8; 32]) -> Result<Self, Error> {
        create_private(path)?;
        await_cipher();
        let conn = Connection::open(path)?;
        let literal = Zeroizing::new(format!("x'{}'", *Zeroizing::new(hex::encode(key))));
        // Its own log goes to standard error; failures come back as errors.
        conn.pragma_update(None, "cipher_log_level", "NONE")?;
        conn.pragma_update(None, "key", &*literal)?;
        // The first statement that reads the file; a wrong key shows here.
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        // Ratchet state must not be rolled back by a power cut after its ciphertext left the machine.
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update(None, "secure_delete", "on")?;
        conn.pragma_update(None, "foreign_keys", "on")?;
        conn.pragma_update(None, "temp_store", "memory")?;
        conn.set_prepared_statement_cache_capacity(128);
        let store = Self { conn, lists: RefCell::default(), petnames: RefCell::default(), mark: Cell::default() };
        store.migrate()?;
        // Overwritten ratchet state must not linger in the log of the last run.
        store.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(store)
    }

    pub(crate) fn begin(&self) -> Result<(), Error> {
        Ok(self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(|_| ())?)
    }

    pub(crate) fn commit(&self) -> Result<(), Error> {
        Ok(self.conn.prepare_cached("COMMIT")?.execute([]).map(|_| ())?)
    }

    /// Takes back everything since [`Self::begin`]. SQLite has done so by itself after some failures.
    pub(crate) fn rollback(&self) {
        self.lists.borrow_mut().clear();
        self.petnames.take();
        self.mark.set(None);
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// Limits the size of the database, so that a test can fill its disk.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.conn.pragma_update(None, "max_page_count", pages).expect("a pragma");
    }

    #[cfg(test)]
    pub(crate) fn page_count(&self) -> u32 {
        self.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a pragma")
    }
}

/// SQLite's integers are signed; ours are never so large.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Makes the database file, so that nobody but its owner can read it. SQLite gives the files beside it the same mode.
fn create_private(path: &Path) -> Result<(), Error> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    opened.map(drop).map_err(|error| Error::io("open", path, &error))
}
