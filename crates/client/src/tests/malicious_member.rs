//! A member that does not use our program: it takes ids of others, lies about places, sends garbage, and says to the server what its
//! commits do not do. What the members' own rules refuse is tested where they are made; here it is what the others see.

use std::fs;

use parlour_e2ee::{Place, attachment::Layout};
use parlour_wire::{
    Code, MessageId,
    api::{self, Change, Role},
    content::{Attachment, Body, Content, Profile},
    limits,
};

use super::{
    groups::{change, create, members, people, role},
    harness::World,
};
use crate::{
    api::MessageKind,
    core::{Command, Core, GroupCommand, Input, Reply},
};

const NOWHERE: Place = Place { seq: 0, hash: [0; 16] };

fn core(world: &mut World, node: usize) -> &mut Core {
    world.nodes[node].core.as_mut().unwrap()
}

/// Sends bytes as a message of an id of one's choice.
fn slip(world: &mut World, node: usize, with: &str, id: MessageId, bytes: &[u8]) {
    let send = core(world, node).forge_message_for_test(with, id, &NOWHERE, bytes);
    assert_eq!(world.forge(node, &send), Ok(()));
}

fn text(text: &str) -> Vec<u8> {
    Content::new(1, Body::Text(text.into())).to_bytes().unwrap()
}

fn club(seed: u64, others: &[&str]) -> (World, Vec<usize>) {
    let names: Vec<&str> = ["alice"].iter().chain(others).copied().collect();
    let (mut world, nodes) = people(seed, &names);
    change(&mut world, nodes[0], create("club", others)).unwrap();
    world.settle();
    (world, nodes)
}

#[test]
fn a_member_that_takes_the_id_of_anothers_message_hides_nothing() {
    for first in [true, false] {
        let (mut world, nodes) = club(1, &["bob", "mallory"]);
        let [a, b, m] = nodes[..] else { panic!() };
        world.send(m, "bob", "hello");
        world.settle();
        if first {
            world.offline(b);
        }
        let id = world.send(a, "#club", "from alice").id;
        world.run();
        slip(&mut world, m, "bob", id, &text("the same id"));
        world.run();
        if first {
            world.back(b);
        }
        world.settle();
        assert!(world.texts(b, "#club").contains(&"from alice".to_owned()), "{:?}", world.texts(b, "#club"));
        assert!(world.texts(b, "mallory").contains(&"the same id".to_owned()), "{:?}", world.texts(b, "mallory"));
        world.crash(b);
        world.settle();
        assert_eq!(world.tally(b, "#club")["from alice"], 1);
        assert_eq!(world.tally(b, "mallory")["the same id"], 1);
    }
}

#[test]
fn a_member_that_lies_about_its_place_is_told_of_once_and_stops_nothing() {
    let (mut world, nodes) = club(2, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    for n in 1..20_u64 {
        let place = Place { seq: if n % 2 == 0 { 1 << 40 } else { 1 }, hash: [9; 16] };
        let id = MessageId::new(n, &[n as u8; 10]);
        let send = core(&mut world, m).forge_message_for_test("#club", id, &place, &text(&format!("lie {n}")));
        assert_eq!(world.forge(m, &send), Ok(()));
        world.run();
    }
    world.settle();
    world.send(a, "#club", "it goes on");
    world.settle();
    for node in [a, b] {
        let texts = world.texts(node, "#club");
        assert_eq!(texts.iter().filter(|text| text.contains("is shown another log")).count(), 1, "{texts:?}");
        assert!(texts.contains(&"lie 19".to_owned()) && texts.contains(&"it goes on".to_owned()));
    }
}

#[test]
fn garbage_and_bombs_in_a_message_are_one_line_in_the_history() {
    let (mut world, nodes) = club(3, &["bob", "mallory"]);
    let [_, b, m] = nodes[..] else { panic!() };
    let deep = |open: u8, n: usize| vec![open; n];
    let mut inner = text("x");
    inner.truncate(inner.len() / 2);
    let most = limits::ENTRY_PAYLOAD / 2;
    let contents: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0xff; 1000],
        deep(0x81, 60_000),
        deep(0x9f, 60_000),
        deep(0xa1, 60_000),
        deep(0xc1, 60_000),
        // Lengths that are not there.
        vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x87, 0x5a, 0xff, 0xff, 0xff, 0xff],
        inner,
        vec![0; most],
    ];
    for (n, content) in (1_u8..).zip(&contents) {
        slip(&mut world, m, "#club", MessageId([n; 16]), content);
        world.run();
    }
    world.settle();
    slip(&mut world, m, "#club", MessageId([99; 16]), &text("words at last"));
    world.settle();
    let texts = world.texts(b, "#club");
    let senseless = texts.iter().filter(|text| text.contains("makes no sense")).count();
    assert_eq!(senseless, contents.len(), "{texts:?}");
    assert!(texts.contains(&"words at last".to_owned()));
    assert!(texts.iter().all(|text| text.len() < 200));
}

#[test]
fn names_that_trick_the_eye_or_the_terminal_are_not_shown_as_they_are() {
    let (mut world, nodes) = club(4, &["bob", "mallory"]);
    let [_, b, m] = nodes[..] else { panic!() };
    let mallory = world.account(2);
    let name = "\u{202e}ecila\u{2066}\u{200f} ../../etc/passwd";
    let profile = Profile { display_name: name.to_owned(), status: "\u{202d}x".to_owned(), avatar: None };
    let content = Content::new(5, Body::Profile(profile)).to_bytes().unwrap();
    slip(&mut world, m, "#club", MessageId([1; 16]), &content);
    world.settle();
    let seen = world.profile_of(b, mallory);
    assert_eq!((seen.display_name.as_str(), seen.status.as_str()), ("ecila ../../etc/passwd", "x"));
    assert_eq!(members(&mut world, b, "#club")[2].0, "mallory", "and never in the place of the name");
    // The bytes of a name with an escape, which no program of ours makes.
    let mut bytes = content;
    let at = bytes.windows(5).position(|window| window == b"ecila").unwrap();
    bytes[at] = 0x1b;
    slip(&mut world, m, "#club", MessageId([2; 16]), &bytes);
    world.settle();
    assert!(!world.profile_of(b, mallory).display_name.contains('\u{1b}'));
}

/// The content of a file under a name that no program of ours would write.
fn forged_file(attachment: &Attachment, name: &str) -> Vec<u8> {
    let honest = "n".repeat(name.len());
    let attachment = Attachment { name: honest.clone(), ..attachment.clone() };
    let mut bytes = Content::new(1, Body::Attachment(attachment)).to_bytes().unwrap();
    let at = bytes.windows(honest.len()).position(|window| window == honest.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

#[test]
fn a_forged_file_has_a_harmless_name_and_comes_to_nothing() {
    let (mut world, nodes) = club(10, &["bob", "mallory"]);
    let [_, b, m] = nodes[..] else { panic!() };
    let home = tempfile::tempdir().unwrap();
    let (source, folder) = (home.path().join("honest.pdf"), home.path().join("downloads"));
    fs::write(&source, vec![7; 100_000]).unwrap();
    fs::create_dir(&folder).unwrap();
    let sent = world.send_file(m, "#club", &source);
    world.settle();
    fs::remove_file(&source).unwrap();
    let honest = core(&mut world, m).attachment_for_test(&sent.id);
    let huge = 4 << 30;
    let files = [
        // Sizes that contradict each other, and one that the blob at the server does not have.
        (Attachment { size: huge, ..honest.clone() }, Code::SIZE_MISMATCH),
        (Attachment { size: huge, blob_size: Layout::new(huge).unwrap().blob_size(), ..honest.clone() }, Code::SIZE_MISMATCH),
        (Attachment { key: [9; 32], ..honest.clone() }, Code::HASH_MISMATCH),
        (Attachment { hash: [9; 32], ..honest.clone() }, Code::HASH_MISMATCH),
        (Attachment { blob: parlour_wire::id::BlobId([9; 32]), ..honest.clone() }, Code::FILE_NOT_FOUND),
    ];
    for (n, (attachment, code)) in (1_u8..).zip(files) {
        let id = MessageId([n; 16]);
        let bytes = forged_file(&attachment, "../../.ssh/authorized_keys");
        let mut send = core(&mut world, m).forge_message_for_test("#club", id, &NOWHERE, &bytes);
        send.blobs = vec![honest.blob];
        assert_eq!(world.forge(m, &send), Ok(()));
        world.settle();
        let shown = world.history(b, "#club").into_iter().find(|message| message.id == id).unwrap();
        assert_eq!(shown.kind, MessageKind::File);
        let file = shown.file.unwrap();
        assert_eq!((file.name.as_str(), file.size), ("authorized_keys", attachment.size), "{n}");
        assert_eq!(world.fetch_file(b, id, &folder).unwrap_err().code, code, "{n}");
    }
    // The true one, under a forged name, is a file of its last part in the folder, and there is nothing else anywhere.
    let id = MessageId([99; 16]);
    let bytes = forged_file(&honest, "../../.ssh/authorized_keys");
    let mut send = core(&mut world, m).forge_message_for_test("#club", id, &NOWHERE, &bytes);
    send.blobs = vec![honest.blob];
    assert_eq!(world.forge(m, &send), Ok(()));
    world.settle();
    assert_eq!(world.fetch_file(b, id, &folder).unwrap().path, folder.join("authorized_keys"));
    let names = |folder: &std::path::Path| -> Vec<_> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!((names(home.path()), names(&folder)), (vec!["downloads".to_owned()], vec!["authorized_keys".to_owned()]));
}

#[test]
fn what_a_member_says_of_its_commit_gives_it_no_rights() {
    let (mut world, nodes) = club(5, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    let (alice, mallory) = (world.account(0), world.account(2));
    let device = core(&mut world, a).device_for_test();
    let changes = [
        Change { roles: vec![api::Member { account: mallory, role: Role::ADMIN }], ..Change::default() },
        Change { removed: vec![alice], ..Change::default() },
        Change { name: Some(parlour_wire::name::Name::parse("mine").unwrap()), ..Change::default() },
    ];
    for (n, change) in (1_u8..).zip(changes) {
        let commit = core(&mut world, m).forge_commit_for_test(MessageId([n; 16]));
        assert_eq!(world.forge(m, &api::Commit { change: Some(change), ..commit }), Err(Code::FORBIDDEN), "{n}");
    }
    let commit = core(&mut world, m).forge_commit_for_test(MessageId([9; 16]));
    assert_eq!(world.forge(m, &api::Commit { removed: vec![device], ..commit }), Err(Code::FORBIDDEN));
    let commit = core(&mut world, m).forge_commit_for_test(MessageId([10; 16]));
    let oversized = api::Commit { group_info: vec![7; limits::HANDSHAKE_PAYLOAD + 1], ..commit };
    assert!(world.forge(m, &oversized).is_err());
    for node in [a, b] {
        world.send(node, "#club", "still in");
        world.settle();
        assert_eq!(members(&mut world, node, "#club")[0], ("alice".to_owned(), Role::ADMIN));
    }
    assert_eq!(world.tally(b, "#club")["still in"], 2);
}

#[test]
fn an_admin_that_puts_somebody_out_at_the_server_only_is_seen_and_set_right() {
    let (mut world, nodes) = club(6, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    change(&mut world, a, role("mallory", Role::ADMIN)).unwrap();
    world.settle();
    let bob = world.account(1);
    let commit = core(&mut world, m).forge_commit_for_test(MessageId([1; 16]));
    let change_said = Change { removed: vec![bob], ..Change::default() };
    assert_eq!(world.forge(m, &api::Commit { change: Some(change_said), ..commit }), Ok(()));
    world.settle();
    // The server tells bob's device with the next session that it is in no such group.
    world.cut(b);
    world.settle();
    assert!(world.texts(b, "#club").iter().any(|text| text.contains("not in #club any more")), "{:?}", world.texts(b, "#club"));
    // An admin sees bob in the list of members still, takes him out and brings him back.
    change(&mut world, a, super::groups::remove(&["bob"])).unwrap();
    world.settle();
    change(&mut world, a, super::groups::add(&["bob"])).unwrap();
    world.settle();
    world.send(a, "#club", "welcome back");
    world.settle();
    assert!(world.texts(b, "#club").contains(&"welcome back".to_owned()), "{:?}", world.texts(b, "#club"));
}

#[test]
fn a_commit_with_a_group_info_that_leads_nowhere_keeps_a_new_device_out_only_for_a_while() {
    let (mut world, nodes) = club(7, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    let commit = core(&mut world, m).forge_commit_for_test(MessageId([1; 16]));
    assert_eq!(world.forge(m, &api::Commit { group_info: vec![7; 5000], ..commit }), Ok(()));
    world.settle();
    let new = world.device(1);
    world.settle();
    world.send(a, "#club", "for all of bob");
    world.settle();
    for node in [b, new] {
        assert!(
            world.texts(node, "#club").contains(&"for all of bob".to_owned()),
            "node {node}: {:?}",
            world.texts(node, "#club")
        );
    }
}

#[test]
fn a_message_of_an_epoch_that_does_not_exist_costs_a_rejoin_and_no_more() {
    let (mut world, nodes) = club(8, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    let mut send = core(&mut world, m).forge_message_for_test("#club", MessageId([1; 16]), &NOWHERE, &text("x"));
    // Version, wire format, group id with its length, epoch.
    send.payload[37..45].copy_from_slice(&900_u64.to_be_bytes());
    assert_eq!(world.forge(m, &send), Ok(()));
    world.settle();
    for (node, said) in [(a, "from a"), (b, "from b")] {
        world.send(node, "#club", said);
        world.settle();
    }
    for node in [a, b] {
        let tally = world.tally(node, "#club");
        assert_eq!((tally["from a"], tally["from b"]), (1, 1), "node {node}: {tally:?}");
        let told = tally.iter().filter(|(text, _)| text.contains("set up again")).map(|(_, count)| count).sum::<usize>();
        assert!(told <= 1, "node {node}: {tally:?}");
    }
}

/// An entry that looks as if this device had lost its place, or had written it in a life that it does not remember, before honest ones that
/// it has not read.
#[test]
fn an_entry_that_makes_a_device_join_anew_costs_it_nothing_of_what_stands_behind() {
    let (mut world, nodes) = club(10, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    for (node, behind) in [(m, "behind the first"), (a, "behind the second")] {
        let mut entry = core(&mut world, node).forge_message_for_test("#club", MessageId([1; 16]), &NOWHERE, &text("x"));
        if node == m {
            entry.id = MessageId([2; 16]);
            entry.payload[37..45].copy_from_slice(&900_u64.to_be_bytes());
        }
        assert_eq!(world.forge(node, &entry), Ok(()));
        world.offline(a);
        for n in 0..3 {
            world.send(b, "#club", &format!("{behind} {n}"));
        }
        world.settle();
        world.back(a);
        world.settle();
        let tally = world.tally(a, "#club");
        assert!((0..3).all(|n| tally.get(&format!("{behind} {n}")) == Some(&1)), "{tally:?}");
        world.send(a, "#club", &format!("read what is {behind}"));
        world.settle();
        assert_eq!(world.tally(b, "#club").get(&format!("read what is {behind}")), Some(&1));
    }
}

/// What it was sending when the entry came is in the log behind it, and nobody has told it yet.
#[test]
fn a_device_that_a_forged_entry_makes_join_anew_knows_what_it_was_sending() {
    let (mut world, nodes) = club(12, &["bob", "mallory"]);
    let [a, b, m] = nodes[..] else { panic!() };
    let mut entry = core(&mut world, m).forge_message_for_test("#club", MessageId([2; 16]), &NOWHERE, &text("x"));
    entry.payload[37..45].copy_from_slice(&900_u64.to_be_bytes());
    world.command(a, Command::Send { to: "#club".into(), text: "under way".into(), reply_to: None });
    let held = world.hold::<api::Send>(a);
    let kept = world.keep_back(a);
    world.offline(b);
    assert_eq!(world.forge(m, &entry), Ok(()));
    world.release(a, held);
    assert!(world.transmit(a));
    world.back(b);
    world.run();
    world.send(b, "#club", "behind it");
    world.run();
    let kept: Vec<_> = kept.take();
    let (answers, pushes): (Vec<_>, Vec<_>) = kept.into_iter().partition(|input| matches!(input, Input::Answer(..)));
    world.bend(a, Box::new(|_, input| vec![input]));
    // The later one first, so that there is something to be read when the forged one has been taken.
    for input in pushes.into_iter().rev() {
        world.input(a, input);
    }
    world.run();
    for input in answers {
        world.input(a, input);
    }
    world.settle();
    for node in [a, b] {
        let tally = world.tally(node, "#club");
        assert!(["under way", "behind it"].iter().all(|text| tally.get(*text) == Some(&1)), "node {node}: {tally:?}");
        assert!(!tally.keys().any(|text| text.contains("older copy") || text.contains("lost from it")), "node {node}: {tally:?}");
    }
    assert!(!world.complains(a, "broke the log"), "{:?}", world.troubles(a));
}

#[test]
fn a_group_that_is_made_for_the_signatures_of_another_server_is_not_blamed_on_the_one_that_brings_it() {
    let (mut world, nodes) = club(11, &["bob", "mallory"]);
    let [a, _, m] = nodes[..] else { panic!() };
    core(&mut world, m).mistake_the_server_for_test();
    world.command(m, Command::Group(create("trap", &["alice"])));
    world.settle();
    assert!(!world.complains(a, "broke the log"), "{:?}", world.troubles(a));
    assert!(world.complains(a, "cannot be joined"), "{:?}", world.troubles(a));
}

#[test]
fn a_stranger_can_neither_read_nor_write_nor_join() {
    let (mut world, nodes) = club(9, &["bob"]);
    let m = {
        let mallory = world.person("mallory");
        world.device(mallory)
    };
    world.settle();
    let conversation = world.group(nodes[0]);
    let id = MessageId([1; 16]);
    let send = api::Send { conversation, id, epoch: 1, payload: vec![1; 100], blobs: Vec::new() };
    assert_eq!(world.forge(m, &send), Err(Code::NOT_MEMBER));
    assert_eq!(world.forge(m, &api::Read { conversation, after: 0, limit: 10 }), Err(Code::NOT_MEMBER));
    assert_eq!(world.forge(m, &api::GroupInfoGet { conversation }), Err(Code::NOT_MEMBER));
    let commit = core(&mut world, nodes[1]).forge_commit_for_test(id);
    assert_eq!(world.forge(m, &commit), Err(Code::NOT_MEMBER));
    assert_eq!(world.forge(m, &api::Commit { external: true, ..commit }), Err(Code::NOT_MEMBER));
    let rename = GroupCommand::Rename { group: "#club".into(), name: "mine".into() };
    assert!(world.ask(m, Command::Group(rename)).is_err());
    assert_eq!(world.ask(m, Command::Group(GroupCommand::Exists("club".into()))), Ok(Reply::Exists(true)));
}
