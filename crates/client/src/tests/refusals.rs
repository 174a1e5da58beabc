//! Refusals that pass, and refusals without end: what was refused is asked for again, and not without a pause.

use std::time::Duration;

use parlour_wire::{
    Code, MessageId,
    api::{self, Call as _},
};

use super::{
    groups::{change, create, people, strings},
    harness::{World, bent::replies},
};
use crate::{
    api::HistoryPolicy,
    core::{Command, Core, GroupCommand},
    error::Error,
};

fn core(world: &mut World, node: usize) -> &mut Core {
    world.nodes[node].core.as_mut().unwrap()
}

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

/// Who is given what was before waits for nobody in another group.
#[test]
fn a_group_that_a_device_cannot_come_back_into_holds_up_no_other() {
    let (mut world, nodes) = people(4, &["alice", "mallory", "carol", "dave"]);
    let [a, m, c, d] = nodes[..] else { panic!() };
    for name in ["one", "two"] {
        let history = HistoryPolicy::Last(3);
        change(&mut world, a, GroupCommand::Create { name: name.into(), members: strings(&["mallory"]), history }).unwrap();
        world.settle();
        world.send(a, &format!("#{name}"), &format!("before in {name}"));
        world.settle();
    }
    let (one, ..) = core(&mut world, a).place_for_test("#one");
    let busy = |name: &str| (name == api::BlobBegin::NAME).then_some(Code::OVERLOADED);
    world.refuses = Some(Box::new(move |name, _| busy(name)));
    let add = |group: &str, member: &str| GroupCommand::Add { group: group.into(), members: strings(&[member]) };
    change(&mut world, a, add("#one", "carol")).unwrap();
    world.run();
    // What makes her join anew, and what keeps her out.
    world.refuses = Some(Box::new(move |name, content| {
        let kept_out =
            name == api::GroupInfoGet::NAME && parlour_wire::decode::<api::GroupInfoGet>(content).unwrap().conversation == one;
        if kept_out { Some(Code::INTERNAL) } else { busy(name) }
    }));
    let nowhere = parlour_e2ee::Place::new(0, &[0; 32]);
    let mut send = core(&mut world, m).forge_message_for_test("#one", MessageId([1; 16]), &nowhere, &[0]);
    send.payload[37..45].copy_from_slice(&900_u64.to_be_bytes());
    world.bend(c, Box::new(|_, _| Vec::new()));
    world.bend(m, Box::new(|_, _| Vec::new()));
    assert_eq!(world.forge(m, &send), Ok(()));
    world.run();
    world.refuses = Some(Box::new(move |name, content| {
        let kept_out =
            name == api::GroupInfoGet::NAME && parlour_wire::decode::<api::GroupInfoGet>(content).unwrap().conversation == one;
        kept_out.then_some(Code::INTERNAL)
    }));
    change(&mut world, a, add("#two", "dave")).unwrap();
    world.go_on(a, 60);
    assert!(world.texts(d, "#two").contains(&"before in two".to_owned()), "{:?}", world.texts(d, "#two"));
    world.refuses = None;
    world.straighten();
    assert!(world.texts(c, "#one").contains(&"before in one".to_owned()), "{:?}", world.texts(c, "#one"));
}
