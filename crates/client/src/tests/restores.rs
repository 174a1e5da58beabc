//! Histories that are brought back from the backup while something else is under way, or refused.

use parlour_wire::{
    Code,
    api::{BackupGet, BlobGet, Sync},
};

use super::handover::{expected, lose, lost_device};
use crate::{core::Command, core::Reply, event::Event};

/// What was asked for of the first restoring is answered when the second has begun.
#[test]
fn a_backup_that_is_asked_for_again_while_it_is_restored_comes_whole() {
    let (mut world, alice, a, _) = lost_device(20, 5_500);
    lose(&mut world, alice, a);
    let new = world.sibling(alice);
    let taken = |event: &Event| matches!(event, Event::HistoryTaken { .. });
    while !world.nodes[new].events.iter().any(taken) {
        if !world.step_any() {
            world.advance(std::time::Duration::from_millis(500));
        }
    }
    world.restart_offline(new);
    let kept = world.keep_back_answers::<BlobGet>(new);
    world.go_online(new);
    world.run();
    assert_eq!(kept.borrow().len(), 1, "it goes on where it was");
    let ticket = world.command(new, Command::RestoreBackup);
    world.run();
    assert_eq!(kept.borrow().len(), 2, "and begins anew");
    world.straight(new);
    for input in kept.take() {
        world.input(new, input);
    }
    world.settle();
    assert_eq!(world.nodes[new].replies.remove(&ticket), Some(Ok(Reply::Done)));
    assert!(world.texts(new, "bob") == expected(5_500), "{} texts", world.texts(new, "bob").len());
}

#[test]
fn a_server_that_is_broken_when_it_is_asked_for_a_backup_is_no_broken_disk_here() {
    let (mut world, alice, a, b) = lost_device(21, 20);
    lose(&mut world, alice, a);
    world.refuse_some::<BackupGet>(usize::MAX, Code::INTERNAL);
    let new = world.sibling(alice);
    let syncs = world.count::<Sync>(new);
    world.go_on(new, 30);
    assert!(syncs.get() < 4, "the session begins anew {} times", syncs.get());
    world.send(b, "alice", "it goes on");
    world.settle();
    assert!(world.texts(new, "bob").contains(&"it goes on".to_owned()));
    world.refuses = None;
    world.cut(new);
    world.settle();
    assert!(world.texts(new, "bob").contains(&"old 19".to_owned()));
}

/// Whoever logs in with the password after a loss has not revoked anything yet: the lost device stands in the list and never answers.
#[test]
fn a_lost_device_that_is_still_listed_is_not_waited_for() {
    let (mut world, alice, a, _) = lost_device(22, 300);
    world.stop(a);
    let new = world.sibling(alice);
    world.settle();
    assert_eq!(world.texts(new, "bob"), expected(300));
    // What it had and the backup has not comes from it, should it be found again.
    assert!(world.nodes[new].core.as_ref().unwrap().wanted_for_test());
}
