//! Opening the database file: pragmas, the schema, migrations.
//!
//! A released migration is never edited; a later one follows it. Each runs in one transaction with its version number.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// One step from a schema version to the next; the version is the position in the list, from 1.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// The version after all of them.
#[expect(clippy::cast_possible_truncation, reason = "a handful of migrations")]
const VERSION: u32 = MIGRATIONS.len() as u32;

/// How long a connection waits for the write lock, which only the writer and short administrative commands take.
const BUSY: Duration = Duration::from_secs(10);

/// Pages of the write-ahead log after which a commit also moves them into the database file. 16 MiB: large enough that a page
/// which many commits change is moved once, small enough that opening after a crash is quick.
const CHECKPOINT_PAGES: u32 = 4096;

/// Statements that a connection keeps prepared; more than the module has.
const STATEMENTS: usize = 128;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

/// Opens a connection. The writer's creates the file, the schema and the write-ahead log; a reader's needs them.
pub(super) fn connect(path: &Path, role: Role, max_pages: Option<u32>) -> rusqlite::Result<Connection> {
    if role == Role::Writer {
        create_private(path)?;
    }
    // A reader of a write-ahead log needs write access to the shared index beside it; `query_only` keeps it honest.
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, access)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    match role {
        Role::Writer => {
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            connection.pragma_update(None, "journal_size_limit", i64::from(CHECKPOINT_PAGES) * 4 * 4096)?;
            connection.pragma_update(None, "cache_size", -8192)?;
            if let Some(pages) = max_pages {
                connection.pragma_update(None, "max_page_count", pages)?;
            }
            migrate(&mut connection)?;
        }
        Role::Reader => connection.pragma_update(None, "query_only", true)?,
    }
    Ok(connection)
}

/// Brings the schema to the newest version. Writes nothing if it is there already, so that a full disk can be opened.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&transaction)?;
    if version > VERSION {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
            Some(format!("the database has schema version {version}, this program knows up to {VERSION}")),
        ));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

/// Makes the file, so that nobody but its owner can read it. SQLite gives the files beside it the same permissions.
fn create_private(path: &Path) -> rusqlite::Result<()> {
    let created = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    created.map(drop).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => rusqlite::ffi::SQLITE_READONLY,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => rusqlite::ffi::SQLITE_FULL,
            _ => rusqlite::ffi::SQLITE_CANTOPEN,
        };
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn opening_twice_keeps_the_schema_and_a_later_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(connect(&path, Role::Writer, None).unwrap());
        let again = connect(&path, Role::Writer, None).unwrap();
        let version: u32 = again.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
        assert_eq!(version, VERSION);
        again.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(again);
        let error = connect(&path, Role::Writer, None).unwrap_err();
        assert!(error.to_string().contains("schema version"), "{error}");
    }

    #[test]
    fn a_database_of_any_earlier_version_comes_to_the_newest_and_keeps_its_rows() {
        for before in 1..MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let old = Connection::open(&path).unwrap();
            MIGRATIONS[..before].iter().for_each(|migration| old.execute_batch(migration).unwrap());
            old.pragma_update(None, "user_version", u32::try_from(before).unwrap()).unwrap();
            old.execute("INSERT INTO ended (conversation) VALUES (7)", ()).unwrap();
            drop(old);
            let new = connect(&path, Role::Writer, None).unwrap();
            assert_eq!(version(&new).unwrap(), VERSION, "from {before}");
            let kept: i64 = new.query_row("SELECT conversation FROM ended", (), |row| row.get(0)).unwrap();
            assert_eq!(kept, 7);
            assert_eq!(new.query_row("SELECT count(*) FROM tombstone", (), |row| row.get::<_, i64>(0)).unwrap(), 0);
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let _writer = connect(&path, Role::Writer, None).unwrap();
        let reader = connect(&path, Role::Reader, None).unwrap();
        assert!(reader.execute("DELETE FROM account", ()).is_err());
    }
}
