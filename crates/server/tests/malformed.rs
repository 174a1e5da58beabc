//! Whatever bytes a client sends under whatever name, the server answers with a code of the client's and goes on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_server::store::suite::block_on;
use parlour_wire::{BlobId, Code, ConversationId, api, api::Call, code::Blame, encode};
use proptest::{prelude::*, sample::Index};
use support::{Link, Person, World, direct, message, message_id};

/// Every request, well formed, as a link that is fully authorised may send it.
fn requests(alice: &Person, bob: &Person, challenge: &[u8; 32]) -> Vec<(&'static str, Vec<u8>)> {
    fn of<C: Call>(call: &C) -> (&'static str, Vec<u8>) {
        (C::NAME, encode(call))
    }
    let (name, conversation) = (alice.name.clone(), ConversationId::direct(&alice.id(), &bob.id()));
    vec![
        of(&api::ServerInfo {}),
        of(&api::RegisterStart { name: name.clone(), invite: Some("x".into()), request: vec![1; 32] }),
        of(&alice.finish(vec![1; 192], Some("x"))),
        of(&api::LoginStart { name: name.clone(), request: vec![1; 96], recovery: false }),
        of(&api::LoginFinish { login: 1, finalization: vec![1; 64] }),
        of(&api::PasswordStart { request: vec![1; 32], recovery: false }),
        of(&api::PasswordFinish { upload: vec![1; 192], wrapped_root: vec![1; 72], recovery: false }),
        of(&api::DevicesUpdate { device_list: alice.list.clone() }),
        of(&alice.auth(0, challenge)),
        of(&api::DevicesGet {}),
        of(&api::AccountByName { name }),
        of(&api::AccountById { account: bob.id() }),
        of(&api::KeyPackagesPublish {
            one_time: vec![vec![1].into()],
            last_resort: Some(vec![2]),
            suite: api::Suite::HYBRID,
            replace: false,
        }),
        of(&api::KeyPackagesClaim { account: bob.id(), suite: api::Suite::HYBRID }),
        of(&api::PresenceWatch { accounts: vec![bob.id()] }),
        of(&direct(alice, bob, 1)),
        of(&message(conversation, 2, 1)),
        of(&api::Read { conversation, after: 0, limit: 9 }),
        of(&api::GroupInfoGet { conversation }),
        of(&api::LeavesGet { conversation, accounts: vec![bob.id()] }),
        of(&api::Leave { conversation, id: message_id(3), statement: alice.leave(0, conversation, 1) }),
        of(&api::GroupByName { name: alice.name.clone() }),
        of(&api::BlobBegin { blob: BlobId([1; 32]), size: 9 }),
        of(&api::BlobPut { blob: BlobId([1; 32]), offset: 0, data: vec![1; 9] }),
        of(&api::BlobGet { blob: BlobId([1; 32]), offset: 0, length: 9 }),
        of(&api::BackupSet { version: 1, index: vec![1], blobs: vec![BlobId([1; 32])] }),
        of(&api::BackupGet {}),
        of(&api::BackupDelete {}),
        of(&api::Sync { after: Some(conversation) }),
        of(&api::CursorsSet { cursors: vec![api::Cursor { conversation, seq: 1 }] }),
        of(&api::Logout {}),
    ]
}

fn send(world: &World, link: &mut Link, name: &str, content: &[u8]) -> Result<(), Code> {
    let answering = world.service.request(link.session.as_mut().unwrap(), name, content, world.now());
    block_on(answering).map(|_| ()).map_err(|failure| failure.code())
}

fn is_the_clients(result: Result<(), Code>) -> bool {
    result.is_ok()
        || result.is_err_and(|code| {
            code.traits().is_some_and(|row| row.blame == Blame::Caller || [Code::TIMED_OUT, Code::HASH_MISMATCH].contains(&code))
        })
}

struct Setting {
    world: World,
    alice: Person,
    bob: Person,
    stranger: Link,
    insider: Link,
}

fn setting() -> Setting {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    let (bob, _) = world.person("bob", 1);
    let mut insider = phones.remove(0);
    world.login(&mut insider, &alice.name, &alice.password).unwrap();
    let stranger = world.link();
    Setting { world, alice, bob, stranger, insider }
}

#[test]
fn every_request_is_in_the_table_and_needs_what_it_says() {
    let Setting { world, alice, bob, mut stranger, mut insider } = setting();
    for (name, content) in requests(&alice, &bob, &insider.challenge) {
        let open =
            ["server.info", "register.start", "register.finish", "login.start", "login.finish", "device.auth"].contains(&name);
        let result = send(&world, &mut stranger, name, &content);
        assert_eq!(result == Err(Code::NOT_AUTHENTICATED), !open || name == "device.auth", "{name}: {result:?}");
        let result = send(&world, &mut insider, name, &content);
        assert!(!matches!(result, Err(Code::NOT_AUTHENTICATED | Code::UNKNOWN_REQUEST)), "{name}: {result:?}");
    }
    for name in ["", "cursors", "Server.info", "sync\0", "conversation.delete"] {
        assert_eq!(send(&world, &mut insider, name, &[]), Err(Code::UNKNOWN_REQUEST), "{name}");
    }
    let unknown = world.service.counters().requests.iter().find(|row| row.name == "unknown").map(|row| (row.result, row.count));
    assert_eq!(unknown, Some(("unknown_request", 5)));
}

#[test]
fn truncated_and_padded_requests_are_refused() {
    let Setting { world, alice, bob, stranger: _, mut insider } = setting();
    for (name, content) in requests(&alice, &bob, &insider.challenge) {
        for cut in 0..content.len() {
            let result = send(&world, &mut insider, name, &content[..cut]);
            assert_eq!(result, Err(Code::BAD_REQUEST), "{name} cut to {cut}");
        }
        let padded = [&content[..], &[0]].concat();
        assert_eq!(send(&world, &mut insider, name, &padded), Err(Code::BAD_REQUEST), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_break_the_server(
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), any::<bool>()), 1..40),
    ) {
        let Setting { world, alice, bob, mut stranger, mut insider } = setting();
        let requests = requests(&alice, &bob, &insider.challenge);
        for (which, at, byte, inside) in changes {
            let (name, content) = which.get(&requests);
            let mut content = content.clone();
            *at.get_mut(&mut content[..]) = byte;
            let link = if inside { &mut insider } else { &mut stranger };
            let result = send(&world, link, name, &content);
            prop_assert!(is_the_clients(result), "{} gave {:?}", name, result);
            for action in ["cursors", "signal"] {
                world.service.action(link.session.as_mut().unwrap(), action, &content, world.now());
            }
            world.service.action(link.session.as_mut().unwrap(), name, &content, world.now());
        }
    }

    #[test]
    fn any_bytes_get_a_code(name in any::<Index>(), content in prop::collection::vec(any::<u8>(), 0..200)) {
        let Setting { world, alice, bob, mut stranger, mut insider } = setting();
        let requests = requests(&alice, &bob, &insider.challenge);
        let name = name.get(&requests).0;
        for link in [&mut stranger, &mut insider] {
            let result = send(&world, link, name, &content);
            prop_assert!(is_the_clients(result), "{} gave {:?}", name, result);
        }
    }
}
