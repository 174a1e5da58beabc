//! Stories of the recovery code: a second way in that opens the same root, beside the password.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_wire::{Code, api, name::Name};
use support::{World, phone_key};

const CODE: &str = "correct horse battery staple";

#[test]
fn a_recovery_code_lets_in_like_the_password() {
    let mut world = World::new();
    let (mut alice, mut phones) = world.person("alice", 1);
    assert_eq!(world.set_recovery(&mut phones[0], &alice, CODE).unwrap_err().code(), Code::NOT_AUTHENTICATED);
    world.login(&mut phones[0], &alice.name, &alice.password).unwrap();
    world.set_recovery(&mut phones[0], &alice, CODE).unwrap();
    assert_eq!(phones[0].inbox.closed(), None);

    let mut link = world.link();
    let answer = world.log_in(&mut link, &alice.name, CODE, true).unwrap();
    assert_eq!(answer.wrapped_root, vec![0x44; 72], "wrapped under the code");
    let list = alice.next_list(vec![phone_key("alice", 7)]);
    world.ask(&mut link, &api::DevicesUpdate { device_list: list }).unwrap();
    assert_eq!(phones[0].inbox.closed(), Some(Code::DEVICE_REVOKED));
    world.change_password(&mut link, &alice, "new").unwrap();

    let mut other = world.link();
    assert_eq!(world.login(&mut other, &alice.name, &alice.password).unwrap_err().code(), Code::WRONG_PASSWORD);
    assert_eq!(world.login(&mut other, &alice.name, "new").unwrap().wrapped_root, vec![0x33; 72]);
    let mut third = world.link();
    world.log_in(&mut third, &alice.name, CODE, true).expect("a new password leaves the code valid");
    world.set_recovery(&mut third, &alice, "another").unwrap();
    assert_eq!(other.inbox.closed(), None, "a new code ends no sessions");
    let mut fourth = world.link();
    assert_eq!(world.log_in(&mut fourth, &alice.name, CODE, true).unwrap_err().code(), Code::WRONG_PASSWORD);
}

#[test]
fn code_and_password_do_not_stand_for_each_other() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    world.login(&mut phones[0], &alice.name, &alice.password).unwrap();
    world.set_recovery(&mut phones[0], &alice, CODE).unwrap();
    let mut link = world.link();
    assert_eq!(world.log_in(&mut link, &alice.name, &alice.password, true).unwrap_err().code(), Code::WRONG_PASSWORD);
    assert_eq!(world.log_in(&mut link, &alice.name, CODE, false).unwrap_err().code(), Code::WRONG_PASSWORD);
    let (login, finalization) = world.log_in_start(&mut link, &alice.name, CODE, true).unwrap();
    world.set_recovery(&mut phones[0], &alice, "another").unwrap();
    let finish = api::LoginFinish { login, finalization: finalization.unwrap() };
    assert_eq!(world.refused(&mut link, &finish), Code::WRONG_PASSWORD, "the code changed meanwhile");
}

#[test]
fn who_has_no_code_looks_like_nobody_and_tries_are_counted() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let nobody = Name::parse("nobody").unwrap();
    for name in [&alice.name, &nobody] {
        let mut link = world.link();
        let mut results = Vec::new();
        for _ in 0..12 {
            results.push(world.log_in(&mut link, name, CODE, true).unwrap_err().code());
        }
        assert_eq!(results[..10], [Code::WRONG_PASSWORD; 10], "{name}");
        assert_eq!(results[10..], [Code::RATE_LIMITED; 2], "{name}");
        let password = world.login(&mut link, name, "x").unwrap_err().code();
        assert_eq!(password, Code::RATE_LIMITED, "codes and passwords share their tries");
    }
}
