//! Stories of devices that end while something of theirs is under way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_server::store::{Store as _, Write, suite::block_on};
use parlour_wire::{Code, api};
use support::{World, look, phone_key, refusal};

#[test]
fn a_link_that_is_logged_out_while_it_authenticates_is_no_device() {
    let mut world = World::gated();
    let (alice, _phones) = world.person("alice", 1);
    let (thief, _) = world.person("thief", 1);
    let mut link = world.link();
    let (login, finalization) = world.login_start(&mut link, &thief.name, &thief.password).unwrap();
    let mut other = world.link();
    world.login(&mut other, &thief.name, &thief.password).unwrap();
    world.change_password(&mut other, &thief, "another").unwrap();

    world.store.shut("conversations");
    let auth = alice.auth(0, &link.challenge);
    let mut authenticating = world.begin(&mut link, &auth);
    assert!(look(&auth, &mut authenticating).is_none());
    let finish = api::LoginFinish { login, finalization: finalization.unwrap() };
    assert_eq!(world.refused(&mut link, &finish), Code::WRONG_PASSWORD);
    world.store.open();
    assert_eq!(refusal(&auth, &mut authenticating), Some(Code::NOT_AUTHENTICATED));
    assert_eq!(world.refused(&mut link, &api::Sync { after: None }), Code::NOT_AUTHENTICATED);
    assert_eq!(world.service.counters().devices, 1, "the true one");
}

#[test]
fn a_link_that_logs_out_while_it_authenticates_again_is_no_device() {
    let mut world = World::gated();
    let (alice, mut phones) = world.person("alice", 1);
    let link = &mut phones[0];
    world.store.shut("conversations");
    let auth = alice.auth(0, &link.challenge);
    let mut authenticating = world.begin(link, &auth);
    assert!(look(&auth, &mut authenticating).is_none());
    world.ask(link, &api::Logout {}).unwrap();
    world.store.open();
    assert_eq!(refusal(&auth, &mut authenticating), Some(Code::NOT_AUTHENTICATED));
    assert_eq!(world.refused(link, &api::BackupGet {}), Code::NOT_AUTHENTICATED);
}

#[test]
fn a_revoked_device_is_not_answered_what_it_asked_before_and_begins_nothing() {
    let mut world = World::gated();
    let (mut alice, mut phones) = world.person("alice", 2);
    world.ask(&mut phones[0], &api::BackupSet { version: 1, index: vec![1], blobs: vec![] }).unwrap();
    world.store.shut("backup");
    let lost = &mut phones[1];
    let get = api::BackupGet {};
    let mut getting = world.begin(lost, &get);
    assert!(look(&get, &mut getting).is_none(), "the store is asked, and has not answered");
    let set = api::BackupSet { version: 2, index: vec![2], blobs: vec![] };
    let mut setting = world.begin(lost, &set);

    let mut link = world.link();
    world.login(&mut link, &alice.name, &alice.password).unwrap();
    let device_list = alice.next_list(vec![phone_key("alice", 0)]);
    world.ask(&mut link, &api::DevicesUpdate { device_list }).unwrap();
    world.store.open();
    world.store.take_written();
    assert_eq!(refusal(&get, &mut getting), Some(Code::DEVICE_REVOKED));
    assert_eq!(refusal(&set, &mut setting), Some(Code::DEVICE_REVOKED));
    let written = world.store.take_written();
    assert!(!written.iter().any(|write| matches!(write, Write::SetBackup { .. })), "{written:?}");
    assert_eq!(block_on(world.store.backup(alice.id())).unwrap().unwrap().version, 1);
}
