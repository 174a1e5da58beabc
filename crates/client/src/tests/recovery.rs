//! The recovery code, from its making to its use, with real passwords.

use parlour_wire::Code;
use zeroize::Zeroizing;

use super::{
    groups::{change, create},
    harness::{SERVER, World},
};
use crate::{
    api::{Login, MessageKind, Recover, Register},
    core::{Command, Input, Reply},
    error::Error,
    event::Event,
};

pub(super) fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

pub(super) fn registered(world: &mut World, name: &str) -> usize {
    let node = world.node();
    let register = Command::Register(Register {
        server: SERVER.parse().unwrap(),
        name: name.to_owned(),
        password: secret("correct horse"),
        invite: None,
        label: "first".to_owned(),
    });
    assert!(matches!(world.ask(node, register), Ok(Reply::SignedIn(_))));
    node
}

pub(super) fn login(name: &str, password: &str) -> Command {
    let server = SERVER.parse().unwrap();
    Command::Login(Login { server, name: name.to_owned(), password: secret(password), label: "next".to_owned() })
}

pub(super) fn recover(code: &str, password: &str, keep_devices: bool) -> Command {
    Command::Recover(Recover {
        server: SERVER.parse().unwrap(),
        name: "alice".to_owned(),
        code: secret(code),
        password: secret(password),
        label: "recovered".to_owned(),
        keep_devices,
    })
}

pub(super) fn code(world: &mut World, node: usize, password: &str) -> Zeroizing<String> {
    match world.ask(node, Command::MakeRecoveryCode { password: secret(password) }) {
        Ok(Reply::RecoveryCode(code)) => code,
        other => panic!("{other:?}"),
    }
}

fn refused(result: Result<Reply, Error>) -> Code {
    result.unwrap_err().code
}

pub(super) fn devices(world: &mut World, node: usize) -> usize {
    match world.ask(node, Command::Devices) {
        Ok(Reply::Devices(devices)) => devices.len(),
        other => panic!("{other:?}"),
    }
}

fn system(world: &mut World, node: usize, with: &str) -> Vec<String> {
    let system = |message: &crate::api::Message| message.kind == MessageKind::System;
    world.history(node, with).into_iter().filter(system).map(|message| message.text).collect()
}

#[test]
fn a_code_brings_the_account_back_and_ends_the_lost_devices() {
    let mut world = World::new(1);
    let (lost, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    world.send(lost, "bob", "before");
    world.settle();
    change(&mut world, lost, create("club", &["bob"])).unwrap();
    world.settle();
    assert_eq!(refused(world.ask(lost, Command::MakeRecoveryCode { password: secret("wrong") })), Code::WRONG_PASSWORD);
    let code = code(&mut world, lost, "correct horse");

    let new = world.node();
    assert_eq!(refused(world.ask(new, recover("ABCD", "battery", false))), Code::USAGE);
    let Ok(Reply::SignedIn(signed_in)) = world.ask(new, recover(&code.to_lowercase(), "battery", false)) else { panic!() };
    assert_eq!(signed_in.who.name, "alice");
    world.settle();
    assert!(world.nodes[lost].events.iter().any(|event| matches!(event, Event::SignedOut { .. })), "the old device is out");
    assert_eq!(world.ask(lost, Command::WhoAmI), Ok(Reply::WhoAmI(None)));
    assert_eq!(world.texts(lost, "bob"), ["before"], "it keeps what it had");
    assert_eq!(devices(&mut world, new), 1);
    let notes = system(&mut world, bob, "alice");
    assert!(notes.iter().any(|note| note.starts_with("alice's devices have changed")), "{notes:?}");

    // Conversations go on, the group too.
    world.send(bob, "alice", "are you there?");
    world.send(new, "#club", "I am back");
    world.settle();
    assert!(world.texts(new, "bob").contains(&"are you there?".to_owned()));
    assert!(world.texts(bob, "#club").contains(&"I am back".to_owned()));
    assert_eq!(refused(world.ask(lost, login("alice", "correct horse"))), Code::WRONG_PASSWORD);

    // The code stays good until there is another.
    let third = world.node();
    assert!(world.ask(third, recover(&code, "staple", true)).is_ok());
    world.settle();
    assert_eq!(devices(&mut world, new), 2, "the devices were to be kept");
    let next = self::code(&mut world, third, "staple");
    let fourth = world.node();
    assert_eq!(refused(world.ask(fourth, recover(&code, "x", false))), Code::WRONG_PASSWORD);
    assert!(world.ask(fourth, recover(&next, "fourth", true)).is_ok());
}

#[test]
fn a_wrong_code_is_like_a_wrong_password_and_is_throttled() {
    let mut world = World::new(2);
    let alice = registered(&mut world, "alice");
    let node = world.node();
    let guess = || parlour_e2ee::RecoveryCode::generate().grouped();
    // An account that never had a code answers like a wrong code.
    assert_eq!(refused(world.ask(node, recover(&guess(), "x", false))), Code::WRONG_PASSWORD);
    code(&mut world, alice, "correct horse");
    let mut answers: Vec<_> = (0..12).map(|_| refused(world.ask(node, recover(&guess(), "x", false)))).collect();
    answers.dedup();
    assert_eq!(answers, [Code::WRONG_PASSWORD, Code::RATE_LIMITED]);
    assert_eq!(world.ask(node, Command::WhoAmI), Ok(Reply::WhoAmI(None)));
    assert!(matches!(world.ask(alice, Command::WhoAmI), Ok(Reply::WhoAmI(Some(_)))), "devices that are in stay in");
}

#[test]
fn a_code_does_not_log_in_as_a_password_nor_the_other_way() {
    let mut world = World::new(3);
    let alice = registered(&mut world, "alice");
    let code = code(&mut world, alice, "correct horse");
    let node = world.node();
    assert_eq!(refused(world.ask(node, login("alice", &code))), Code::WRONG_PASSWORD);
    assert_eq!(refused(world.ask(node, login("alice", &code.replace('-', "")))), Code::WRONG_PASSWORD);
    assert!(world.ask(node, login("alice", "correct horse")).is_ok());
}

#[test]
fn a_new_password_leaves_devices_conversations_and_the_code_as_they_are() {
    let mut world = World::new(4);
    let (first, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    let code = code(&mut world, first, "correct horse");
    let second = world.node();
    assert!(world.ask(second, login("alice", "correct horse")).is_ok());
    world.settle();
    world.send(bob, "alice", "one");
    world.settle();
    let change = Command::ChangePassword { old: secret("correct horse"), new: secret("battery") };
    assert_eq!(world.ask(first, change), Ok(Reply::Done));
    world.settle();
    assert_eq!(devices(&mut world, first), 2);
    world.send(bob, "alice", "two");
    world.settle();
    for node in [first, second] {
        assert_eq!(world.texts(node, "bob"), ["one", "two"]);
    }
    assert!(system(&mut world, bob, "alice").is_empty(), "nothing that anybody else would notice");
    let third = world.node();
    assert_eq!(refused(world.ask(third, login("alice", "correct horse"))), Code::WRONG_PASSWORD);
    assert!(world.ask(third, recover(&code, "staple", true)).is_ok(), "the code is not touched by a new password");
}

#[test]
fn a_device_that_ends_another_and_closes_has_taken_it_out_everywhere() {
    let mut world = World::new(5);
    let (first, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    let second = world.node();
    let Ok(Reply::SignedIn(signed_in)) = world.ask(second, login("alice", "correct horse")) else { panic!() };
    world.settle();
    world.send(first, "bob", "hello");
    for name in ["club", "choir", "cooks"] {
        change(&mut world, first, create(name, &["bob"])).unwrap();
    }
    world.settle();
    world.send(bob, "alice", "hello");
    world.settle();
    let lost = signed_in.who.device;
    assert_eq!(world.stands_in(first, lost), 5, "the one with bob, three groups, and the own one");
    // Nobody else is there to do it.
    for node in [second, bob] {
        world.stop(node);
    }
    let revoke = Command::RevokeDevice { device: lost, password: secret("correct horse") };
    assert_eq!(world.ask(first, revoke), Ok(Reply::Done));
    assert_eq!(world.ask(first, Command::Close), Ok(Reply::Done));
    assert_eq!(world.stands_in(first, lost), 0);
}

#[test]
fn a_recovery_that_is_cut_anywhere_can_be_done_again() {
    for cut in 0..8 {
        let mut world = World::new(100 + cut);
        let (lost, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
        world.send(bob, "alice", "before");
        world.settle();
        let code = code(&mut world, lost, "correct horse");
        let new = world.node();
        world.command(new, recover(&code, "battery", false));
        // The program dies when so many answers have come.
        let mut answers = 0;
        while answers < cut && !world.nodes[new].replies.values().any(Result::is_ok) {
            if let Some(input) = world.arriving(new) {
                answers += 1;
                world.input(new, input);
            } else if !(world.connect(new) || world.transmit(new)) {
                break;
            }
        }
        match world.arriving(new) {
            Some(input @ Input::Answer(..)) => world.crash_in(new, input),
            _ => world.crash(new),
        }
        world.settle();
        let mut node = new;
        if world.ask(new, Command::WhoAmI) == Ok(Reply::WhoAmI(None)) {
            node = world.node();
            assert!(world.ask(node, recover(&code, "battery", false)).is_ok(), "cut {cut}");
            world.settle();
        }
        assert_eq!(world.ask(lost, Command::WhoAmI), Ok(Reply::WhoAmI(None)), "cut {cut}");
        world.send(bob, "alice", "after");
        world.settle();
        assert!(world.texts(node, "bob").contains(&"after".to_owned()), "cut {cut}");
        assert_eq!(devices(&mut world, node), 1, "cut {cut}");
    }
}
