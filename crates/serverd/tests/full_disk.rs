//! A disk without room: writes fail, nothing half-done stays, and when there is room it goes on.

mod common;

use parlour_server::store::{Store as _, StoreError, Write, Written, suite::block_on};
use parlour_serverd::sqlite::{FILE, Options, SqliteStore};

use common::{append, deaf, furnish, message, read_log, seq, take_all};

fn small(dir: &tempfile::TempDir) -> SqliteStore {
    let options = Options { max_pages: Some(256), ..Options::default() };
    SqliteStore::open_with(&dir.path().join(FILE), deaf(), options).expect("room for the schema")
}

/// Appends, several at a time, until one fails. Answers the ids that were acknowledged, and the first that was not.
fn fill(store: &SqliteStore) -> (Vec<u64>, u64) {
    let mut acknowledged = Vec::new();
    for batch in 0.. {
        let first = batch * 8 + 1;
        let futures: Vec<_> = (first..first + 8).map(|id| (id, store.apply(append(0, id, 4000)))).collect();
        let answers: Vec<_> = futures.into_iter().map(|(id, future)| (id, seq(block_on(future)))).collect();
        let mut refused = None;
        for (id, answer) in answers {
            match answer {
                // Also after one that was refused: a smaller transaction may find room where a larger one did not.
                Ok(_) => acknowledged.push(id),
                Err(StoreError::Full) => refused = refused.or(Some(id)),
                Err(other) => panic!("{other}"),
            }
        }
        if let Some(refused) = refused {
            return (acknowledged, refused);
        }
    }
    unreachable!("the disk is small")
}

#[test]
fn a_full_disk_keeps_what_was_acknowledged_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = small(&dir);
    furnish(&store, 1);
    let (acknowledged, _) = fill(&store);
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    assert_eq!(block_on(store.probe()), Err(StoreError::Full), "a probe sees it too");
    let ids = |store: &SqliteStore| read_log(store, 0).iter().map(|entry| entry.id).collect::<Vec<_>>();
    let expected: Vec<_> = acknowledged.iter().map(|id| message(*id)).collect();
    assert_eq!(ids(&store), expected);
    drop(store);
    assert_eq!(ids(&small(&dir)), expected, "and after a restart");
}

#[test]
fn a_store_goes_on_when_there_is_room_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = small(&dir);
    furnish(&store, 1);
    let (acknowledged, refused) = fill(&store);
    take_all(&store, 0);
    let retain = Write::Retain { before_ms: 100, limit: 1000 };
    let Ok(Written::Deleted(deleted)) = block_on(store.apply(retain)).expect("deleting needs no room") else { panic!("refused") };
    assert_eq!(deleted, acknowledged.len() as u64, "all but the newest, and the commit before them");
    let stored = seq(block_on(store.apply(append(0, refused, 4000)))).expect("there is room");
    assert_eq!(stored, acknowledged.len() as u64 + 2, "the number follows the last acknowledged one");
    block_on(store.probe()).expect("ready again");
    let log = read_log(&store, 0);
    assert_eq!((log.len(), log.last().map(|entry| entry.id)), (2, Some(message(refused))));
}

#[test]
fn what_makes_room_does_not_fail_with_what_needs_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = small(&dir);
    furnish(&store, 1);
    let (acknowledged, refused) = fill(&store);
    take_all(&store, 0);
    // The writer is busy with the first while the others gather, so they share a transaction.
    let full: Vec<_> = (0..20).map(|n| store.apply(append(0, refused + n, 1_000_000))).collect();
    let retaining = store.apply(Write::Retain { before_ms: 100, limit: 1000 });
    for future in full {
        assert_eq!(seq(block_on(future)), Err(StoreError::Full));
    }
    assert_eq!(block_on(retaining), Ok(Ok(Written::Deleted(acknowledged.len() as u64))));
}
