//! The store fails: its errors come out as its errors, and nothing else happens.

use std::cell::Cell;

use parlour_e2ee::{E2eeError, Member, Rows, RowsError};
use parlour_wire::api::Suite;

use crate::world::{Account, Disk, Pair, Server, lists};

/// Fails at the `n`th read.
struct Failing<'a> {
    disk: &'a Disk,
    left: Cell<usize>,
}

impl Rows for Failing<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                self.disk.get(key)
            }
            None => Err(RowsError("broken disk".into())),
        }
    }
}

fn broken() -> E2eeError {
    E2eeError::Storage(RowsError("broken disk".into()))
}

#[test]
fn a_read_that_fails_anywhere_in_a_step_fails_the_step() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let said = pair.server.say(&mut pair.a[0], b"hello");
    let update = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let commit = pair.server.accept(&update);
    for entry in [said, commit] {
        let b = &mut pair.b[0];
        let mut failures = 0;
        for left in 0.. {
            b.restart();
            let rows = Failing { disk: &b.disk, left: Cell::new(left) };
            match b.engine.open(&rows, &entry, &pinned) {
                Ok(step) => {
                    b.disk.apply(&step.changes);
                    break;
                }
                Err(error) => assert_eq!(error, broken(), "read {left}"),
            }
            failures += 1;
        }
        assert!(failures > 5, "a step reads more than {failures} rows");
    }
}

#[test]
fn a_broken_store_is_not_an_empty_one() {
    let (mut alice, mut bob) = (Account::new(), Account::new());
    let (mut a, mut b) = (alice.device(), bob.device());
    let mut server = Server::new(&alice.id(), &bob.id());
    let pinned = lists(&[&alice, &bob]);
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![b.package()] }]);
    a.disk.broken = true;
    assert_eq!(a.step(|engine, rows| engine.create(rows, &new)).unwrap_err(), broken());
    assert_eq!(a.step(|engine, rows| engine.key_packages(rows, Suite::HYBRID, 1, 1)).unwrap_err(), broken());
    a.disk.broken = false;
    let pending = a.step(|engine, rows| engine.create(rows, &new)).unwrap();
    server.accept(&pending);
    b.disk.broken = true;
    assert_eq!(b.join(&server.welcome.clone().unwrap(), &pinned), Err(broken()));
    b.disk.broken = false;
    assert_eq!(b.join(&server.welcome.clone().unwrap(), &pinned), Ok(1));
}

#[test]
fn secrets_of_packages_nobody_used_are_forgotten_in_time() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let mut alice = Account::new();
    let mut a = alice.device();
    a.step(|engine, rows| engine.key_packages(rows, Suite::HYBRID, 3, DAY)).unwrap();
    let rows = a.disk.rows.len();
    a.step(|engine, rows| engine.key_packages(rows, Suite::HYBRID, 3, 100 * DAY)).unwrap();
    assert_eq!(a.disk.rows.len(), rows + 3);
    a.step(|engine, rows| engine.key_packages(rows, Suite::HYBRID, 3, 200 * DAY)).unwrap();
    assert_eq!(a.disk.rows.len(), rows + 3);
    for now in 0..4 {
        a.step(|engine, rows| engine.last_resort_key_package(rows, Suite::HYBRID, now)).unwrap();
    }
    assert_eq!(a.disk.rows.len(), rows + 3 + 2);
}

#[test]
fn the_rows_of_a_conversation_do_not_grow_with_its_age() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let mut sizes = Vec::new();
    for _ in 0..12 {
        let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
        let entry = pair.server.accept(&pending);
        pair.a[0].open(&entry, &pinned).unwrap();
        pair.b[0].open(&entry, &pinned).unwrap();
        let said = pair.server.say(&mut pair.a[0], b"hello");
        pair.b[0].open(&said, &pinned).unwrap();
        sizes.push((pair.a[0].disk.rows.len(), pair.b[0].disk.rows.len()));
    }
    assert_eq!(sizes[5], sizes[11]);
}
