//! Refusals that pass, and refusals without end: what was refused is asked for again, and not without a pause.

use std::time::Duration;

use parlour_wire::{
    Code,
    api::{self, Call as _},
};

use super::{
    groups::{change, create, people},
    harness::{World, bent::replies},
};
use crate::{
    core::{Command, GroupCommand},
    error::Error,
};

/// Longer than a client waits before it asks a broken server again.
fn wait(world: &mut World) {
    world.settle();
    world.advance(Duration::from_secs(31));
    world.settle();
}

#[test]
fn a_sync_or_a_read_that_the_server_refuses_once_is_asked_for_again() {
    for (seed, code) in [(1, Code::INTERNAL), (2, Code::FORBIDDEN)] {
        for read in [false, true] {
            let (mut world, nodes) = people(seed, &["alice", "bob"]);
            let [a, b] = nodes[..] else { panic!() };
            world.send(a, "bob", "one");
            world.settle();
            world.offline(b);
            world.send(a, "bob", "two");
            world.settle();
            if read {
                world.refuse_some::<api::Read>(1, code);
            } else {
                world.refuse_some::<api::Sync>(1, code);
            }
            world.back(b);
            wait(&mut world);
            let tally = world.tally(b, "alice");
            assert_eq!(tally.get("two"), Some(&1), "{code} {read}: {tally:?}");
            assert_eq!(world.troubles(b).len(), 1, "{:?}", world.troubles(b));
        }
    }
}

#[test]
fn a_server_that_calls_every_change_of_a_group_stale_is_asked_with_pauses() {
    let (mut world, nodes) = people(3, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.bend(a, replies(api::Commit::NAME, |_, _| Err(Error::new(Code::STALE_EPOCH, "no"))));
    world.refuses = Some(Box::new(|name, _| (name == api::Commit::NAME).then_some(Code::STALE_EPOCH)));
    let rename = GroupCommand::Rename { group: "#club".into(), name: "team".into() };
    world.command(a, Command::Group(rename));
    let requests = world.go_on(a, 20);
    assert!(requests < 100, "{requests} requests");
    world.refuses = None;
    world.straighten();
    world.send(b, "#team", "it goes on");
    world.settle();
    assert!(world.texts(a, "#team").contains(&"it goes on".to_owned()));
}
