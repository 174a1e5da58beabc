//! Refusals that pass, and refusals without end: what was refused is asked for again, and not without a pause.

use parlour_wire::{
    Code,
    api::{self, Call as _},
};

use super::{
    groups::{change, create, people},
    harness::bent::replies,
};
use crate::{
    core::{Command, GroupCommand},
    error::Error,
};

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
