//! Registration, login, passwords and devices, with real passwords.

use parlour_wire::Code;
use zeroize::Zeroizing;

use super::harness::{SERVER, World};
use crate::{
    api::{Login, Register},
    core::{Command, Reply},
    error::Error,
    event::Event,
};

fn password(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn register(name: &str) -> Command {
    Command::Register(Register {
        server: SERVER.parse().unwrap(),
        name: name.to_owned(),
        password: password("correct horse"),
        invite: None,
        label: "first".to_owned(),
    })
}

fn login(name: &str, secret: &str) -> Command {
    let server = SERVER.parse().unwrap();
    Command::Login(Login { server, name: name.to_owned(), password: password(secret), label: "second".to_owned() })
}

fn code(result: Result<Reply, Error>) -> Code {
    result.unwrap_err().code
}

#[test]
fn from_registration_to_a_second_device_and_its_end() {
    let mut world = World::new(1);
    let first = world.node();
    let Ok(Reply::SignedIn(signed_in)) = world.ask(first, register("Alice")) else { panic!() };
    assert!(signed_in.pinned_now, "the address named no fingerprint");
    assert_eq!((signed_in.who.name.as_str(), signed_in.who.server.fingerprint), ("alice", Some([7; 32])));
    assert_eq!(code(world.ask(first, register("other"))), Code::ALREADY_EXISTS);

    let second = world.node();
    assert_eq!(code(world.ask(second, register("alice"))), Code::NAME_TAKEN);
    assert_eq!(code(world.ask(second, login("alice", "wrong"))), Code::WRONG_PASSWORD);
    assert_eq!(code(world.ask(second, login("nobody", "wrong"))), Code::WRONG_PASSWORD);
    let Ok(Reply::SignedIn(other)) = world.ask(second, login("alice", "correct horse")) else { panic!() };
    assert_eq!(other.who.account, signed_in.who.account);
    assert_ne!(other.who.device, signed_in.who.device);
    world.settle();
    let Ok(Reply::Devices(devices)) = world.ask(first, Command::Devices) else { panic!() };
    assert_eq!(devices.len(), 2);
    assert!(devices.iter().all(|device| device.online && (device.id == signed_in.who.device) == device.this));

    let change = Command::ChangePassword { old: password("wrong"), new: password("battery") };
    assert_eq!(code(world.ask(first, change)), Code::WRONG_PASSWORD);
    let change = Command::ChangePassword { old: password("correct horse"), new: password("battery") };
    assert_eq!(world.ask(first, change), Ok(Reply::Done));

    let device = other.who.device;
    let revoke = Command::RevokeDevice { device, password: password("correct horse") };
    assert_eq!(code(world.ask(first, revoke)), Code::WRONG_PASSWORD);
    assert_eq!(world.ask(first, Command::RevokeDevice { device, password: password("battery") }), Ok(Reply::Done));
    world.crash(second);
    world.settle();
    assert!(world.nodes[second].events.iter().any(|event| matches!(event, Event::SignedOut { .. })));
    assert_eq!(world.ask(second, Command::WhoAmI), Ok(Reply::WhoAmI(None)));
    // The same profile comes back as a new device of the same account, and of no other.
    assert_eq!(code(world.ask(second, login("bob", "battery"))), Code::ALREADY_EXISTS);
    let Ok(Reply::SignedIn(again)) = world.ask(second, login("alice", "battery")) else { panic!() };
    assert_ne!(again.who.device, device);
    assert_eq!(world.ask(second, Command::Logout), Ok(Reply::Done));
    assert_eq!(world.ask(second, Command::WhoAmI), Ok(Reply::WhoAmI(None)));
}

#[test]
fn a_registration_without_a_server_fails_and_leaves_nothing() {
    let mut world = World::new(2);
    let node = world.node();
    let ticket = world.command(node, register("alice"));
    let error = Error::new(Code::UNREACHABLE, "refused");
    world.input(node, crate::core::Input::Down { error, retry_in: Some(std::time::Duration::from_secs(1)) });
    assert_eq!(code(world.nodes[node].replies.remove(&ticket).unwrap()), Code::UNREACHABLE);
    assert_eq!(world.ask(node, Command::WhoAmI), Ok(Reply::WhoAmI(None)));
    assert_eq!(code(world.ask(node, Command::GoOnline)), Code::PROFILE_NOT_FOUND);
}
