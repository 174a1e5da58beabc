//! A server that lies in its answers: keys, devices, members, states, pages, numbers, garbage. Each is noticed, or does no harm; when it
//! behaves again, everything is there.

use minicbor::Decode;
use parlour_e2ee::{AccountKey, DeviceKeys, Root};
use parlour_wire::{
    Code,
    api::{
        AccountAnswer, AccountById, BlobBegin, BlobProgress, BlobPut, Call, Commit, DevicesChanged, GroupInfoAnswer,
        GroupInfoGet, KeyPackagesClaim, KeyPackagesClaimAnswer, Notice as _, Send, Stored, Sync, SyncAnswer, Welcome,
    },
};

use super::{
    groups::{add, change, create, members, people},
    harness::{
        World,
        bent::{Bend, answers},
    },
};
use crate::{
    core::{Command, Input, Reply},
    error::Error,
};

fn decoded<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> T {
    parlour_wire::decode(bytes).unwrap()
}

#[test]
fn key_packages_of_another_account_let_nobody_in() {
    let (mut world, nodes) = people(1, &["alice", "bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    let mallory = world.claim(2);
    let stolen = mallory.packages.clone();
    world.bend(
        a,
        answers(KeyPackagesClaim::NAME, move |_, answer| {
            let mut answer: KeyPackagesClaimAnswer = decoded(&answer);
            for (package, stolen) in answer.packages.iter_mut().zip(&stolen) {
                package.package.clone_from(&stolen.package);
            }
            parlour_wire::encode(&answer)
        }),
    );
    world.send(a, "bob", "for bob");
    world.go_on(a, 10);
    assert!(world.troubles(a).iter().any(|error| error.message.contains("could not be made")), "{:?}", world.troubles(a));
    assert_eq!(world.texts(m, "alice"), [""; 0]);
    // Mallory's whole answer, list and all.
    world.bend(a, answers(KeyPackagesClaim::NAME, move |_, _| parlour_wire::encode(&mallory)));
    world.go_on(a, 10);
    assert!(world.complains(a, "device list of another account"), "{:?}", world.troubles(a));
    world.straighten();
    assert_eq!(world.texts(b, "alice"), ["for bob"]);
    assert_eq!(world.texts(m, "alice"), [""; 0]);
}

#[test]
fn an_old_device_list_with_a_package_of_a_revoked_device_lets_it_not_in() {
    let mut world = World::new(2);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let a = world.device(alice);
    let (lost, kept) = (world.device(bob), world.device(bob));
    world.settle();
    let old = world.claim(bob);
    world.ask(a, Command::AddContact("bob".to_owned())).unwrap();
    world.revoke(bob, lost);
    world.settle();
    world.ask(a, Command::AddContact("bob".to_owned())).unwrap();
    world.settle();
    world.bend(a, answers(KeyPackagesClaim::NAME, move |_, _| parlour_wire::encode(&old)));
    world.send(a, "bob", "not for the lost one");
    world.go_on(a, 10);
    world.straighten();
    assert_eq!(world.texts(kept, "alice"), ["not for the lost one"]);
    assert_eq!(world.texts(lost, "alice"), [""; 0]);
}

#[test]
fn a_device_that_the_server_adds_is_nobodys() {
    let (mut world, nodes) = people(3, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let id = world.account(1);
    // It has no key of bob's account: it signs with one of its own, or changes what bob has signed.
    let own = AccountKey::from(&Root::generate());
    let certificate = own.certify(&DeviceKeys::generate().public(), "planted", 1).unwrap();
    let planted = own.first_list(&certificate, 1).unwrap().as_bytes().to_vec();
    let mut changed = world.list(1).as_bytes().to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for list in [planted, changed, Vec::new()] {
        let name = parlour_wire::name::Name::parse("bob").unwrap();
        let answer = AccountAnswer { name, device_list: list };
        world.nodes[a].events.clear();
        world.bend(a, answers(AccountById::NAME, move |_, _| parlour_wire::encode(&answer)));
        let push = parlour_wire::encode(&DevicesChanged { account: id, version: 99 });
        world.input(a, Input::Push { name: DevicesChanged::NAME.to_owned(), content: push });
        world.go_on(a, 10);
        assert!(world.complains(a, ""), "{:?}", world.troubles(a));
        world.straighten();
    }
    world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one", "two"]);
    assert_eq!(world.devices_of(a, "bob"), 1);
}

#[test]
fn an_old_device_list_brings_no_revoked_device_back() {
    let mut world = World::new(4);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let a = world.device(alice);
    let (lost, kept) = (world.device(bob), world.device(bob));
    world.settle();
    world.send(a, "bob", "one");
    world.settle();
    let old = world.list(bob).as_bytes().to_vec();
    world.revoke(bob, lost);
    world.settle();
    world.send(a, "bob", "two");
    world.settle();
    let answer = AccountAnswer { name: parlour_wire::name::Name::parse("bob").unwrap(), device_list: old };
    world.bend(a, answers(AccountById::NAME, move |_, _| parlour_wire::encode(&answer)));
    let push = parlour_wire::encode(&DevicesChanged { account: world.account(bob), version: 99 });
    world.input(a, Input::Push { name: DevicesChanged::NAME.to_owned(), content: push });
    world.settle();
    world.send(a, "bob", "three");
    world.settle();
    assert_eq!(world.devices_of(a, "bob"), 1);
    assert!(!world.texts(lost, "alice").iter().any(|text| text == "two" || text == "three"));
    assert_eq!(world.texts(kept, "alice"), ["one", "two", "three"]);
}

#[test]
fn two_device_lists_of_one_version_are_told() {
    let (mut world, nodes) = people(5, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let bob = world.account(1);
    // Both are signed by bob: the server took two where it may take one.
    let other = world.other_list(1);
    world.device(1);
    world.settle();
    let answer = AccountAnswer { name: parlour_wire::name::Name::parse("bob").unwrap(), device_list: other };
    world.bend(a, answers(AccountById::NAME, move |_, _| parlour_wire::encode(&answer)));
    let push = parlour_wire::encode(&DevicesChanged { account: bob, version: 99 });
    world.input(a, Input::Push { name: DevicesChanged::NAME.to_owned(), content: push });
    world.settle();
    assert!(world.complains(a, "two device lists of bob"), "{:?}", world.troubles(a));
    world.straighten();
    world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one", "two"]);
}

#[test]
fn a_list_some_versions_later_brings_no_revoked_device_back() {
    let mut world = World::new(16);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let a = world.device(alice);
    let (lost, kept) = (world.device(bob), world.device(bob));
    world.settle();
    world.send(a, "bob", "one");
    world.settle();
    // Whoever has taken the device from bob has the key of his account, too, and the server on his side.
    let forged = world.later_list(bob);
    world.revoke(bob, lost);
    world.settle();
    let answer = AccountAnswer { name: parlour_wire::name::Name::parse("bob").unwrap(), device_list: forged };
    world.bend(a, answers(AccountById::NAME, move |_, _| parlour_wire::encode(&answer)));
    let push = parlour_wire::encode(&DevicesChanged { account: world.account(bob), version: 99 });
    world.input(a, Input::Push { name: DevicesChanged::NAME.to_owned(), content: push });
    world.settle();
    assert!(world.complains(a, "brings back a device that was ended"), "{:?}", world.troubles(a));
    world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.devices_of(a, "bob"), 1);
    assert_eq!(world.texts(lost, "alice"), ["one"]);
    assert_eq!(world.texts(kept, "alice"), ["one", "two"]);
}

#[test]
fn a_welcome_into_a_group_that_was_never_made_is_left_again() {
    let (mut world, nodes) = people(6, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.command(a, Command::Group(create("club", &["bob"])));
    let commit: Commit = world.wait_for(a);
    // The founder hears nothing, and the invited one is told that there is such a group.
    let welcome = Welcome {
        conversation: commit.conversation,
        kind: parlour_wire::api::ConversationKind::GROUP,
        seq: 1,
        hash: [4; 32],
        welcome: commit.welcome.clone().unwrap(),
        members: vec![world.account(0), world.account(1)],
        epoch: 1,
    };
    world.input(b, Input::Push { name: Welcome::NAME.to_owned(), content: parlour_wire::encode(&welcome) });
    world.go_on(b, 10);
    // The true server does not list it.
    world.cut(b);
    while world.connect(b) || world.transmit(b) || world.receive(b) {}
    assert!(world.texts(b, "#club").iter().any(|text| text.contains("not in #club any more")), "{:?}", world.texts(b, "#club"));
    world.straighten();
    // Alice's outbox goes out at last; the group is the one that the server now knows.
    world.send(a, "#club", "hello");
    world.settle();
    world.send(b, "#club", "hello alice");
    world.settle();
    let texts = world.texts(b, "#club");
    assert!(texts.contains(&"hello".to_owned()) || texts.iter().any(|text| text.contains("not in")), "{texts:?}");
    assert!(world.texts(a, "#club").contains(&"hello alice".to_owned()), "{:?} {texts:?}", world.texts(a, "#club"));
}

#[test]
fn welcomes_with_false_numbers_hashes_epochs_or_bytes_do_no_harm() {
    type Lie = fn(&mut Welcome);
    let lies: [Lie; 7] = [
        |welcome| welcome.seq = u64::MAX,
        |welcome| welcome.seq = 1 << 62,
        |welcome| welcome.epoch = 0,
        |welcome| welcome.epoch = u64::MAX,
        |welcome| welcome.welcome = vec![1; 3000],
        |welcome| welcome.members.truncate(1),
        |welcome| welcome.kind = parlour_wire::api::ConversationKind(9),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let (mut world, nodes) = people(7, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        let bend: Bend = Box::new(move |asked, input| match (asked, input) {
            (_, Input::Push { name, content }) if name == Welcome::NAME => {
                let mut welcome: Welcome = decoded(&content);
                lie(&mut welcome);
                vec![Input::Push { name, content: parlour_wire::encode(&welcome) }]
            }
            (Some(asked), Input::Answer(id, Ok(answer))) if asked.is::<Sync>() => {
                let mut answer: SyncAnswer = decoded(&answer);
                answer.conversations.iter_mut().filter_map(|state| state.welcome.as_mut()).for_each(lie);
                vec![Input::Answer(id, Ok(parlour_wire::encode(&answer)))]
            }
            (_, input) => vec![input],
        });
        world.bend(b, bend);
        world.send(a, "bob", "one");
        world.go_on(b, 10);
        world.straighten();
        world.send(a, "bob", "two");
        world.settle();
        let texts = world.texts(b, "alice");
        let noticed = texts
            .iter()
            .any(|text| ["broke the log", "invited in a way", "fewer entries"].iter().any(|words| text.contains(words)))
            || !world.troubles(b).is_empty();
        assert!(texts == ["one", "two"] || noticed, "lie {n}: {texts:?}");
    }
}

#[test]
fn pages_without_end_are_not_followed() {
    let (mut world, nodes) = people(8, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let page: SyncAnswer = SyncAnswer { conversations: world.states(b), more: true };
    world.bend(b, answers(Sync::NAME, move |_, _| parlour_wire::encode(&page)));
    world.cut(b);
    let requests = world.go_on(b, 30);
    assert!(requests < 200, "{requests}");
    assert!(world.complains(b, "in no order, or without end"), "{:?}", world.troubles(b));
    world.send(a, "bob", "two");
    world.straighten();
    assert_eq!(world.texts(b, "alice"), ["one", "two"]);
}

#[test]
fn a_head_that_no_log_has_is_asked_for_at_leisure_and_told() {
    for head in [1000, i64::MAX as u64, u64::MAX] {
        let (mut world, nodes) = people(9, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        world.send(a, "bob", "one");
        world.settle();
        let bend: Bend = Box::new(move |asked, input| match (asked, input) {
            (Some(asked), Input::Answer(id, Ok(answer))) if asked.is::<Sync>() => {
                let mut answer: SyncAnswer = decoded(&answer);
                answer.conversations.iter_mut().for_each(|state| state.head = head);
                vec![Input::Answer(id, Ok(parlour_wire::encode(&answer)))]
            }
            (Some(asked), Input::Answer(id, Ok(answer))) if asked.is::<parlour_wire::api::Read>() => {
                let mut answer: parlour_wire::api::ReadAnswer = decoded(&answer);
                answer.head = head;
                vec![Input::Answer(id, Ok(parlour_wire::encode(&answer)))]
            }
            (_, input) => vec![input],
        });
        world.bend(b, bend);
        world.cut(b);
        let requests = world.go_on(b, 30);
        assert!(requests < 200, "{requests}");
        assert!(world.complains(b, ""), "{:?}", world.troubles(b));
        world.send(a, "bob", "two");
        world.straighten();
        assert_eq!(world.texts(b, "alice"), ["one", "two"]);
    }
}

#[test]
fn false_places_of_what_was_sent_are_noticed_or_set_right() {
    type Lie = fn(&mut Stored);
    let lies: [Lie; 6] = [
        |stored| stored.seq = u64::MAX,
        |stored| stored.seq = 0,
        |stored| stored.seq += 5,
        |stored| stored.previous = [9; 32],
        |stored| stored.stored_ms = u64::MAX,
        |stored| stored.receipt = Some([1; 64]),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let (mut world, nodes) = people(10, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        world.send(a, "bob", "one");
        world.settle();
        world.bend(
            a,
            answers(Send::NAME, move |_, answer| {
                let mut stored: Stored = decoded(&answer);
                lie(&mut stored);
                parlour_wire::encode(&stored)
            }),
        );
        world.send(a, "bob", "two");
        world.go_on(a, 10);
        world.straighten();
        world.send(b, "alice", "three");
        world.settle();
        let texts = world.texts(a, "bob");
        let told = texts.iter().any(|text| text.contains("broke the log") || text.contains("another log"));
        assert!(told || texts == ["one", "two", "three"], "lie {n}: {texts:?} {:?}", world.troubles(a));
        assert_eq!(world.texts(b, "alice").iter().filter(|text| *text == "two").count(), 1, "lie {n}");
    }
}

#[test]
fn a_commit_without_its_receipt_is_never_applied() {
    let (mut world, nodes) = people(11, &["alice", "bob", "carol"]);
    let [a, ..] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.bend(
        a,
        answers(Commit::NAME, |_, answer| {
            let mut stored: Stored = decoded(&answer);
            stored.receipt = Some([1; 64]);
            parlour_wire::encode(&stored)
        }),
    );
    world.command(a, Command::Group(add(&["carol"])));
    world.go_on(a, 10);
    assert!(world.complains(a, "no valid receipt"), "{:?}", world.troubles(a));
    assert_eq!(members(&mut world, a, "#club").len(), 2);
}

#[test]
fn a_state_by_which_nobody_can_join_is_not_tried_without_end() {
    let mut world = World::new(12);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let conversation = world.group(b);
    let old = world.ask_server(b, &GroupInfoGet { conversation });
    world.send(a, "#club", "one");
    let renamed = crate::core::GroupCommand::Rename { group: "#club".into(), name: "pub".into() };
    change(&mut world, a, renamed).unwrap();
    world.settle();
    // Bob's new device is offered the state of before.
    let new = world.node();
    let lie: GroupInfoAnswer = decoded(&old);
    world.bend(new, answers(GroupInfoGet::NAME, move |_, _| parlour_wire::encode(&lie)));
    world.enrol(bob, new);
    let requests = world.go_on(new, 5);
    assert!(requests < 200, "{requests}");
    world.straighten();
    world.send(a, "#pub", "two");
    world.settle();
    assert!(world.texts(new, "#pub").contains(&"two".to_owned()));
    assert!(world.texts(b, "#pub").contains(&"two".to_owned()));
}

#[test]
fn a_group_left_out_of_the_list_is_told_and_comes_back() {
    let (mut world, nodes) = people(13, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.send(a, "#club", "one");
    world.settle();
    world.bend(
        b,
        answers(Sync::NAME, |_, answer| {
            let mut answer: SyncAnswer = decoded(&answer);
            answer.conversations.clear();
            parlour_wire::encode(&answer)
        }),
    );
    world.cut(b);
    world.settle();
    assert!(world.texts(b, "#club").contains(&"You are not in #club any more.".to_owned()));
    world.straighten();
    world.send(a, "#club", "two");
    world.settle();
    let texts = world.texts(b, "#club");
    assert_eq!(texts.iter().filter(|text| *text == "one" || *text == "two").count(), 2, "{texts:?}");
}

#[test]
fn a_false_roster_adds_nobody() {
    let (mut world, nodes) = people(14, &["alice", "bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let mallory = world.account(2);
    for extra in [true, false] {
        world.bend(
            b,
            answers(Sync::NAME, move |_, answer| {
                let mut answer: SyncAnswer = decoded(&answer);
                for state in &mut answer.conversations {
                    if extra { state.members.push(mallory) } else { state.members.clear() }
                }
                parlour_wire::encode(&answer)
            }),
        );
        world.cut(b);
        world.settle();
        world.send(b, "#club", "who reads this?");
        world.settle();
        assert_eq!(members(&mut world, b, "#club").len(), 2);
        world.straighten();
    }
    assert_eq!(world.texts(m, "#club"), [""; 0]);
    assert_eq!(world.texts(a, "#club").iter().filter(|text| *text == "who reads this?").count(), 2);
}

#[test]
fn a_server_that_never_gets_what_it_is_sent_is_not_sent_it_without_end() {
    fn has(received: u64) -> Result<Vec<u8>, Error> {
        Ok(parlour_wire::encode(&BlobProgress { received, complete: false }))
    }
    type Lie = fn() -> Result<Vec<u8>, Error>;
    let lies: [Lie; 4] = [|| has(0), || has(1), || has(u64::MAX), || Err(Error::new(Code::HASH_MISMATCH, "another hash"))];
    for (n, lie) in lies.into_iter().enumerate() {
        let mut world = World::new(17);
        let (alice, bob) = (world.person("alice"), world.person("bob"));
        let (a, b) = (world.device(alice), world.device(bob));
        world.settle();
        world.send(b, "alice", "one");
        world.settle();
        world.bend(
            a,
            Box::new(move |asked, input| match (asked, input) {
                (Some(asked), Input::Answer(id, _)) if asked.is::<BlobBegin>() => vec![Input::Answer(id, has(0))],
                (Some(asked), Input::Answer(id, _)) if asked.is::<BlobPut>() => vec![Input::Answer(id, lie())],
                (_, input) => vec![input],
            }),
        );
        // A part of the history for another device, and a pack of the backup.
        let new = world.sibling(alice);
        let ticket = world.command(a, Command::BackupOn);
        let requests = world.go_on(a, 60);
        assert!(requests < 100, "lie {n}: {requests}");
        assert!(world.complains(a, "could not be handed over"), "lie {n}: {:?}", world.troubles(a));
        assert!(world.complains(a, "backup could not be written"), "lie {n}: {:?}", world.troubles(a));
        assert!(world.nodes[a].replies.remove(&ticket).is_some_and(|reply| reply.is_err()), "lie {n}");
        assert!(!world.nodes[new].core.as_ref().unwrap().wanted_for_test(), "lie {n}: nobody waits for it any more");
        world.straighten();
        let Ok(Reply::Backup(status)) = world.ask(a, Command::BackupNow) else { panic!("lie {n}") };
        assert_eq!((status.version, status.pending), (1, 0));
    }
}

#[test]
fn garbage_in_the_place_of_any_push_is_told_and_leaves_everything_whole() {
    let (mut world, nodes) = people(15, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    for name in ["entries", "welcome", "presence", "devices.changed", "lagging", "signal", "unheard of"] {
        for content in [vec![0xff; 64], Vec::new(), vec![0xa0], vec![0x9f; 1000]] {
            world.input(b, Input::Push { name: name.to_owned(), content });
        }
        world.settle();
        world.send(a, "bob", name);
        world.settle();
        assert_eq!(world.tally(b, "alice").get(name), Some(&1), "{name}");
    }
    assert!(world.complains(b, "cannot be right"));
    assert!(matches!(world.ask(b, Command::WhoAmI), Ok(Reply::WhoAmI(Some(_)))));
}
