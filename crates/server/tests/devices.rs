//! Stories of devices: their authentication, their list, logging out, key packages, and a server with a broken disk.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    future::{Future, ready},
    sync::Arc,
};

use parlour_server::{
    Fanout,
    store::{Account, Backup, Device, GroupInfo, LogPage, Opener, Refusal, Store, StoreError, Write, Written},
};
use parlour_wire::{AccountId, BlobId, Code, ConversationId, DeviceId, api, limits, name::Name};
use support::{FINGERPRINT, Person, World, config, direct, phone_key};

#[test]
fn a_device_shows_its_key_and_learns_what_it_should_know() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    let packages = vec![vec![1].into(), vec![2].into()];
    world
        .ask(
            &mut phones[0],
            &api::KeyPackagesPublish {
                one_time: packages,
                last_resort: Some(vec![3]),
                suite: api::Suite::HYBRID,
                replace: false,
            },
        )
        .unwrap();
    let mut link = world.link();
    let auth = alice.auth(0, &link.challenge);
    let answer = world.ask(&mut link, &auth).unwrap();
    assert_eq!((answer.name, answer.list_version), (alice.name.clone(), 1));
    assert_eq!((answer.key_packages, answer.last_resort), (2, true));
    let again = alice.auth(0, &link.challenge);
    world.ask(&mut link, &again).unwrap();
    assert_eq!(world.service.counters().devices, 1, "one device on two links");
}

#[test]
fn a_signature_is_good_for_one_link_and_one_server() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 2);
    let (bob, _) = world.person("bob", 1);
    let mut link = world.link();
    let challenge = link.challenge;
    let mut swapped = alice.auth(0, &challenge);
    swapped.device = alice.device(1);
    let mut foreign = bob.auth(0, &challenge);
    foreign.account = alice.id();
    let stranger = Person::new("stranger", 1);
    for (auth, code) in [
        (alice.auth_at(0, &[1; 32], &FINGERPRINT), Code::NOT_AUTHENTICATED),
        (alice.auth_at(0, &challenge, &[1; 32]), Code::NOT_AUTHENTICATED),
        (swapped, Code::NOT_AUTHENTICATED),
        (foreign, Code::DEVICE_REVOKED),
        (stranger.auth(0, &challenge), Code::DEVICE_REVOKED),
    ] {
        assert_eq!(world.refused(&mut link, &auth), code);
        assert_eq!(world.refused(&mut link, &api::Sync { after: None }), Code::NOT_AUTHENTICATED);
    }
    world.ask(&mut link, &alice.auth(0, &challenge)).unwrap();
    assert_eq!(world.refused(&mut link, &alice.auth(1, &challenge)), Code::FORBIDDEN, "a link is one device");
}

#[test]
fn a_device_list_needs_the_password_and_must_follow() {
    let mut world = World::new();
    let (mut alice, mut phones) = world.person("alice", 1);
    let (mut bob, _) = world.person("bob", 1);
    let first = alice.list.clone();
    let second = alice.next_list(vec![phone_key("alice", 0), phone_key("alice", 1)]);
    let update = |list: &[u8]| api::DevicesUpdate { device_list: list.to_vec() };
    assert_eq!(world.refused(&mut phones[0], &update(&second)), Code::NOT_AUTHENTICATED);

    let mut link = world.link();
    world.login(&mut link, &alice.name, &alice.password).unwrap();
    let bobs = bob.next_list(vec![phone_key("bob", 2)]);
    assert_eq!(world.refused(&mut link, &update(&bobs)), Code::FORBIDDEN);
    assert_eq!(world.refused(&mut link, &update(&[0; 9])), Code::BAD_REQUEST);
    assert_eq!(world.refused(&mut link, &update(&vec![0; limits::DEVICE_LIST + 1])), Code::TOO_LARGE);
    world.ask(&mut link, &update(&second)).unwrap();
    world.ask(&mut link, &update(&second)).unwrap();
    assert_eq!(world.refused(&mut link, &update(&first)), Code::STALE_LIST);
    let _skipped = alice.next_list(vec![phone_key("alice", 0)]);
    let fourth = alice.next_list(vec![phone_key("alice", 3)]);
    assert_eq!(world.refused(&mut link, &update(&fourth)), Code::STALE_LIST);
    let told: Vec<api::DevicesChanged> = phones[0].inbox.all();
    assert_eq!(told.iter().map(|push| (push.account, push.version)).collect::<Vec<_>>(), [(alice.id(), 2)]);
}

#[test]
fn nobody_lists_the_device_of_somebody_else() {
    let mut world = World::new();
    let (_, mut phones) = world.person("alice", 1);
    let (mut mallory, _) = world.person("mallory", 1);
    let mut link = world.link();
    world.login(&mut link, &mallory.name, &mallory.password).unwrap();
    let list = mallory.next_list(vec![phone_key("mallory", 0), phone_key("alice", 0)]);
    assert_eq!(world.refused(&mut link, &api::DevicesUpdate { device_list: list }), Code::DEVICE_NOT_FOUND);
    world.ask(&mut phones[0], &api::Sync { after: None }).unwrap();
}

#[test]
fn a_revoked_device_is_cut_off_at_once_and_cannot_come_back() {
    let mut world = World::new();
    let (mut alice, mut phones) = world.person("alice", 2);
    let (bob, bobs) = world.person("bob", 1);
    world.ask(&mut phones[0], &direct(&alice, &bob, 1)).unwrap();
    phones[0].inbox.take();
    bobs[0].inbox.take();
    let lost = alice.auth(1, &[0; 32]).device;
    let stolen_key = Person { phones: alice.phones.clone(), ..Person::new("alice", 0) };
    let list = alice.next_list(vec![phone_key("alice", 0)]);
    let mut link = world.link();
    world.login(&mut link, &alice.name, &alice.password).unwrap();
    world.ask(&mut link, &api::DevicesUpdate { device_list: list }).unwrap();

    assert_eq!(phones[1].inbox.closed(), Some(Code::DEVICE_REVOKED));
    assert_eq!(world.refused(&mut phones[1], &api::Sync { after: None }), Code::DEVICE_REVOKED);
    let mut back = world.link();
    let auth = stolen_key.auth(1, &back.challenge);
    assert_eq!(auth.device, lost);
    assert_eq!(world.refused(&mut back, &auth), Code::DEVICE_REVOKED);
    for inbox in [&phones[0].inbox, &bobs[0].inbox] {
        let told: Vec<api::DevicesChanged> = inbox.all();
        assert_eq!(told, [api::DevicesChanged { account: alice.id(), version: 2 }]);
    }
    let seen = world.ask(&mut phones[0], &api::DevicesGet {}).unwrap().seen;
    assert_eq!(seen.iter().map(|seen| (seen.device, seen.online)).collect::<Vec<_>>(), [(alice.device(0), true)]);
}

#[test]
fn logging_out_ends_the_device_and_answers() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 2);
    let mut second_link = world.online(&alice, 0);
    world.ask(&mut phones[0], &api::Logout {}).unwrap();
    assert_eq!(phones[0].inbox.closed(), None, "the link that asked lives to hear the answer");
    assert_eq!(world.refused(&mut phones[0], &api::Sync { after: None }), Code::NOT_AUTHENTICATED);
    assert_eq!(second_link.inbox.closed(), Some(Code::DEVICE_REVOKED));
    assert_eq!(world.refused(&mut second_link, &api::Logout {}), Code::DEVICE_REVOKED);
    let mut back = world.link();
    let auth = alice.auth(0, &back.challenge);
    assert_eq!(world.refused(&mut back, &auth), Code::DEVICE_REVOKED);
    world.ask(&mut phones[1], &api::Sync { after: None }).unwrap();
}

#[test]
fn key_packages_are_published_by_devices_and_claimed_once() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 2);
    let (bob, mut bobs) = world.person("bob", 1);
    let publish = |one_time: &[&[u8]], last_resort: Option<&[u8]>| api::KeyPackagesPublish {
        one_time: one_time.iter().map(|package| package.to_vec().into()).collect(),
        last_resort: last_resort.map(<[u8]>::to_vec),
        suite: api::Suite::HYBRID,
        replace: false,
    };
    let large = vec![1; limits::KEY_PACKAGE + 1];
    assert_eq!(world.refused(&mut phones[0], &publish(&[&large], None)), Code::TOO_LARGE);
    assert_eq!(world.refused(&mut phones[0], &publish(&[], Some(&large))), Code::TOO_LARGE);
    assert_eq!(world.refused(&mut phones[0], &publish(&[b""], None)), Code::BAD_REQUEST);
    assert_eq!(world.refused(&mut phones[0], &publish(&[b"x".as_slice(); 101], None)), Code::TOO_LARGE);
    world.ask(&mut phones[0], &publish(&[b"a"], Some(b"z"))).unwrap();
    world.ask(&mut phones[1], &publish(&[b"b"], None)).unwrap();

    let claim = api::KeyPackagesClaim { account: alice.id(), suite: api::Suite::HYBRID };
    let mut claimed = || {
        let answer = world.ask(&mut bobs[0], &claim).unwrap();
        assert_eq!(answer.device_list, alice.list);
        let mut packages: Vec<_> = answer.packages.into_iter().map(|package| (package.device, package.package)).collect();
        packages.sort_by_key(|(device, _)| *device != alice.device(0));
        packages
    };
    assert_eq!(claimed(), [(alice.device(0), b"a".to_vec()), (alice.device(1), b"b".to_vec())]);
    assert_eq!(claimed(), [(alice.device(0), b"z".to_vec())]);
    let nobody = api::KeyPackagesClaim { account: Person::new("nobody", 0).id(), suite: api::Suite::HYBRID };
    assert_eq!(world.refused(&mut bobs[0], &nobody), Code::USER_NOT_FOUND);
    let mut link = world.link();
    world.login(&mut link, &bob.name, &bob.password).unwrap();
    assert_eq!(world.refused(&mut link, &claim), Code::NOT_AUTHENTICATED, "claiming needs a device");
}

#[test]
fn a_device_has_a_few_sessions_and_the_oldest_gives_way() {
    let mut world = World::new();
    let (alice, phones) = world.person("alice", 1);
    let mut links: Vec<_> = (1..limits::SESSIONS_PER_DEVICE).map(|_| world.online(&alice, 0)).collect();
    assert_eq!(phones[0].inbox.closed(), None);
    links.push(world.online(&alice, 0));
    assert_eq!(phones[0].inbox.closed(), Some(Code::QUOTA));
    assert!(links.iter().all(|link| link.inbox.closed().is_none()));
    for mut link in links {
        world.close(&mut link);
    }
    let counters = world.service.counters();
    assert_eq!((counters.devices, counters.sessions), (0, 1), "the link that was replaced is its driver's to close");
}

/// A store whose disk is full.
struct Full;

macro_rules! full {
    ($($method:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        $(fn $method(&self, $($argument: $type),*) -> impl Future<Output = Result<$output, StoreError>> + Send + 'static {
            $(let _ = $argument;)*
            ready(Err(StoreError::Full))
        })*
    };
}

impl Store for Full {
    full! {
        apply(write: Write) -> Result<Written, Refusal>;
        account(id: AccountId) -> Option<Account>;
        device(id: DeviceId) -> Option<Device>;
        devices(account: AccountId) -> Vec<Device>;
        invite(token: [u8; 32], now_ms: u64) -> Result<(), Refusal>;
        log(conversation: ConversationId, device: DeviceId, after: u64, limit: u32) -> Result<LogPage, Refusal>;
        group_info(conversation: ConversationId, account: AccountId) -> Result<GroupInfo, Refusal>;
        leaves(conversation: ConversationId, account: AccountId) -> Result<Vec<Vec<u8>>, Refusal>;
        conversations(account: AccountId, device: DeviceId, after: Option<ConversationId>, limit: u32)
            -> (Vec<api::ConversationState>, bool);
        peers(account: AccountId) -> Vec<AccountId>;
        recovery(account: AccountId) -> Option<Opener>;
        blob(blob: BlobId, account: AccountId) -> Option<u64>;
        unneeded_blobs(before_ms: u64, limit: u32) -> Vec<BlobId>;
        backup(account: AccountId) -> Option<Backup>;
        setting(key: &'static str) -> Option<Vec<u8>>;
    }

    fn group_by_name(&self, _: &Name) -> impl Future<Output = Result<Option<ConversationId>, StoreError>> + Send + 'static {
        ready(Err(StoreError::Full))
    }

    fn account_by_name(&self, _: &Name) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        ready(Err(StoreError::Full))
    }
}

#[test]
fn a_full_disk_is_our_fault_and_passes() {
    let mut world = World::over(config(), Arc::new(Full), Arc::new(Fanout::new()));
    let alice = Person::new("alice", 1);
    let mut link = world.link();
    let failure = world.login(&mut link, &alice.name, "x").unwrap_err();
    assert_eq!(failure.code(), Code::STORE_UNAVAILABLE);
    assert!(failure.code().retry());
    let auth = alice.auth(0, &link.challenge);
    assert_eq!(world.refused(&mut link, &auth), Code::STORE_UNAVAILABLE);
    assert_eq!(world.register(&mut link, &alice, None).unwrap_err().code(), Code::STORE_UNAVAILABLE);
    world.ask(&mut link, &api::ServerInfo {}).unwrap();
}
