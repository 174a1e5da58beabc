//! Damage in one conversation is that conversation's trouble.

mod common;

use parlour_server::store::{Store as _, StoreError, suite::block_on};
use parlour_serverd::sqlite::{FILE, SqliteStore};

use common::{append, conversation, deaf, furnish, read_log, seq};

#[test]
fn a_damaged_conversation_does_not_stop_the_others() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(FILE);
    let store = SqliteStore::open(&path, deaf()).expect("a store");
    furnish(&store, 2);
    drop(store);
    let vandal = rusqlite::Connection::open(&path).expect("the same file");
    vandal
        .execute(
            "DELETE FROM entry WHERE conversation = (SELECT conversation FROM conversation WHERE id = ?1)",
            [conversation(1).0],
        )
        .expect("a log without its entries");
    drop(vandal);
    let store = SqliteStore::open(&path, deaf()).expect("a store");
    let futures: Vec<_> = (1..=40).map(|id| (id % 2, store.apply(append(u16::from(id % 2 == 1), id, 100)))).collect();
    for (conversation, future) in futures {
        let answer = seq(block_on(future));
        match conversation {
            0 => assert!(answer.is_ok(), "{answer:?}"),
            _ => assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}"),
        }
    }
    assert_eq!(read_log(&store, 0).len(), 20);
}
