//! Retention has its turn for every conversation, however many wait for a device that does not come.

mod common;

use parlour_server::store::{Store as _, Write, Written, suite::block_on};
use parlour_serverd::sqlite::{FILE, SqliteStore};

use common::{append, deaf, furnish, seq, take_all};

/// More than one write looks at.
const CONVERSATIONS: u16 = 2100;

#[test]
fn conversations_that_wait_do_not_keep_the_others_from_their_turn() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = || SqliteStore::open(&dir.path().join(FILE), deaf()).expect("a store");
    let store = open();
    furnish(&store, CONVERSATIONS);
    let appended: Vec<_> = (0..CONVERSATIONS).flat_map(|n| [1, 2].map(|id| store.apply(append(n, id, 10)))).collect();
    for future in appended {
        seq(block_on(future)).expect("the disk works");
    }
    // The first entries go: every device has joined with them. The others wait.
    assert_eq!(deleted(&store) + deleted(&store), u64::from(CONVERSATIONS));
    drop(store);
    let store = open();
    take_all(&store, CONVERSATIONS - 1);
    assert_eq!([(); 4].map(|()| deleted(&store)), [0, 1, 0, 0]);
    take_all(&store, 0);
    assert_eq!(deleted(&store) + deleted(&store), 1, "from the beginning again");
}

fn deleted(store: &SqliteStore) -> u64 {
    match block_on(store.apply(Write::Retain { before_ms: 100, limit: 10_000 })) {
        Ok(Ok(Written::Deleted(deleted))) => deleted,
        other => panic!("{other:?}"),
    }
}
