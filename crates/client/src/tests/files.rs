//! Files of messages: whoever dies and whenever, the file is there once, and no key ever seals two contents.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use parlour_wire::{
    BlobId, Code, MessageId,
    api::{BlobPut, Call as _, Commit, Send},
    content::Attachment,
};

use super::{
    groups::{change, create, members, people, remove},
    harness::{World, files::local},
};
use crate::{
    api::{Draft, Imported, ImportedFile, ImportedPlace, Message, MessageKind, State},
    core::{Command, GroupCommand, Input, Reply, Ticket},
    error::Error,
    event::Event,
    run,
};

/// Several chunks and a rest.
fn content(salt: u8) -> Vec<u8> {
    (0..200_000u32).map(|at| (at % 251) as u8 ^ salt).collect()
}

fn source(folder: &Path, salt: u8) -> PathBuf {
    let path = folder.join("plan.pdf");
    fs::write(&path, content(salt)).unwrap();
    path
}

/// Alice and Bob with a device each, who know each other.
fn two(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.send(a, "bob", "hello");
    world.settle();
    (world, a, b)
}

fn files(world: &mut World, node: usize, with: &str) -> Vec<Message> {
    let there = |message: &Message| message.kind == MessageKind::File && !message.deleted && message.state != State::Failed;
    world.history(node, with).into_iter().filter(there).collect()
}

/// Every place of every key has been sealed with one content only.
fn no_key_twice(world: &World) {
    let mut seen = BTreeMap::new();
    for (key, chunk, hash) in &world.sealed {
        assert_eq!(seen.entry((key, chunk)).or_insert(hash), &hash, "one place, two contents");
    }
}

fn arrives(world: &mut World, b: usize, folder: &Path, salt: u8) {
    let received = files(world, b, "alice");
    assert_eq!(received.len(), 1);
    let info = received[0].file.as_ref().unwrap();
    assert_eq!((info.name.as_str(), info.size, info.content_type.as_str()), ("plan.pdf", 200_000, "application/pdf"));
    let fetched = world.fetch_file(b, received[0].id, folder).unwrap();
    assert!(fs::read(&fetched.path).unwrap() == content(salt));
    assert_eq!(fetched.hash, *blake3::hash(&content(salt)).as_bytes());
}

/// Lets everything happen while a sender dies at its step `at`: before it, or after its transaction and before its outputs. Of each try
/// only two parts of the blob get through. How many steps it took, and whether it died.
fn dies(world: &mut World, sender: usize, at: usize, after: bool) -> (usize, bool) {
    let (mut step, mut quiet) = (0, 0);
    while quiet < 40 {
        world.puts = Some(2);
        if let Some(input) = world.arriving(sender).or_else(|| world.transferred(sender)) {
            match (step == at, after) {
                (true, true) => world.crash_in(sender, input),
                (true, false) => world.crash(sender),
                (false, _) => world.input(sender, input),
            }
            if step == at {
                return (step, true);
            }
            (step, quiet) = (step + 1, 0);
        } else if world.step_any() {
            quiet = 0;
        } else {
            quiet += 1;
            world.advance(Duration::from_millis(500));
        }
    }
    (step, false)
}

#[test]
fn a_sender_may_die_at_every_step_of_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    for after in [false, true] {
        for at in 0.. {
            let (mut world, a, b) = two(100);
            let sent = world.send_file(a, "bob", &path);
            let (steps, died) = dies(&mut world, a, at, after);
            if !died {
                // It is sealed, goes up in two tries, its message is answered and its arrival reported.
                assert!(steps >= 5 && world.state(a, sent.id) >= State::Stored, "{steps} steps are no upload");
            }
            world.puts = None;
            world.settle();
            let downloads = tempfile::tempdir().unwrap();
            arrives(&mut world, b, downloads.path(), 0);
            assert!(world.state(a, sent.id) >= State::Stored, "step {at}, after: {after}");
            no_key_twice(&world);
            if !died {
                break;
            }
            assert!(at < 100, "the upload does not end");
        }
    }
}

/// Sends a text that no message holds, as the client's front does.
fn send_long(world: &mut World, node: usize, to: &str, text: &str) -> Message {
    match try_long(world, node, to, text) {
        Ok(Reply::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn try_long(world: &mut World, node: usize, to: &str, text: &str) -> Result<Reply, Error> {
    let named = Attachment { text: "the beginning".to_owned(), ..run::named("text/markdown", "message.md".to_owned()) };
    let attachment = Box::new(run::keep_text(text, &world.nodes[node].home.path().join("files"), named).unwrap());
    world.ask(node, Command::SendKept { to: to.to_owned(), draft: Draft::default(), attachment })
}

/// The names in the profile's folder for files.
fn kept(world: &World, node: usize) -> Vec<String> {
    let folder = fs::read_dir(world.nodes[node].home.path().join("files"));
    folder.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A long text reaches the other side from where its writer keeps it.
fn long_arrives(world: &mut World, node: usize, sent: MessageId, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let fetched = world.fetch_file(node, sent, folder.path()).unwrap();
    assert!(fs::read(&fetched.path).unwrap() == text.as_bytes());
}

#[test]
fn what_a_program_is_given_first_is_not_taken_for_what_a_run_before_has_left() {
    let text = "said at once\n".repeat(6_000);
    let (mut world, a, b) = two(122);
    world.restart_offline(a);
    let sent = send_long(&mut world, a, "bob", &text);
    assert_eq!(kept(&world, a).len(), 1);
    // What never became a message, and what is not even whole.
    assert!(try_long(&mut world, a, "nobody", &text).is_err());
    fs::write(world.nodes[a].home.path().join("files/half.part"), "half").unwrap();
    assert_eq!(kept(&world, a).len(), 3);
    world.restart_offline(a);
    let left = kept(&world, a);
    assert_eq!(left.len(), 1, "{left:?}");
    world.go_online(a);
    world.settle();
    long_arrives(&mut world, b, sent.id, &text);
    assert_eq!(kept(&world, a), left, "its writer keeps it");
    world.ask(a, Command::Delete(sent.id)).unwrap();
    assert!(kept(&world, a).is_empty());
}

#[test]
fn a_long_text_goes_out_after_its_writers_profile_has_moved() {
    let text = "said elsewhere\n".repeat(6_000);
    let (mut world, a, b) = two(123);
    world.restart_offline(a);
    let sent = send_long(&mut world, a, "bob", &text);
    world.stop(a);
    let place = tempfile::tempdir().unwrap();
    fs::rename(world.nodes[a].home.path(), place.path()).unwrap();
    world.nodes[a].home = place;
    world.open(a);
    world.go_online(a);
    world.settle();
    assert!(world.state(a, sent.id) >= State::Stored);
    long_arrives(&mut world, b, sent.id, &text);
}

#[test]
fn a_long_text_goes_with_the_group_that_never_came_to_be() {
    let (mut world, a, _) = two(124);
    world.refuse_some::<Commit>(usize::MAX, Code::QUOTA);
    world.command(a, Command::Group(create("club", &["bob"])));
    send_long(&mut world, a, "#club", &"said to nobody\n".repeat(6_000));
    assert_eq!(kept(&world, a).len(), 1);
    world.settle();
    assert!(world.ask(a, Command::Target("#club".to_owned())).is_err());
    assert!(kept(&world, a).is_empty());
}

#[test]
fn a_long_text_goes_out_from_where_it_is_kept_though_its_writer_dies_at_any_step() {
    // The first fills its chunks.
    for length in [3 * 65_536, 200_000] {
        let text = "more than a message holds\n".repeat(length / 26 + 1)[..length].to_owned();
        for after in [false, true] {
            for at in 0.. {
                let (mut world, a, b) = two(121);
                let sent = send_long(&mut world, a, "bob", &text);
                let (_, died) = dies(&mut world, a, at, after);
                world.puts = None;
                world.settle();
                let what = format!("{length} bytes, step {at}, after: {after}");
                assert!(world.state(a, sent.id) >= State::Stored, "{what}");
                let received = files(&mut world, b, "alice");
                assert_eq!(received.len(), 1, "{what}");
                assert_eq!((received[0].text.as_str(), received[0].id), ("the beginning", sent.id));
                let folder = tempfile::tempdir().unwrap();
                let fetched = world.fetch_file(b, sent.id, folder.path()).unwrap();
                assert!(fs::read(&fetched.path).unwrap() == text.as_bytes(), "{what}");
                assert!(files(&mut world, a, "bob")[0].file.as_ref().unwrap().kept, "its writer still has it");
                if !died {
                    break;
                }
                assert!(at < 100, "the upload does not end");
            }
        }
    }
}

#[test]
fn a_sender_may_die_before_it_is_told_that_its_file_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, b) = two(119);
    let command = Command::SendFile { to: "bob".to_owned(), draft: Draft::default(), file: local(&path) };
    world.crash_in(a, Input::Command(Ticket(u64::MAX), command));
    world.settle();
    let downloads = tempfile::tempdir().unwrap();
    arrives(&mut world, b, downloads.path(), 0);
    no_key_twice(&world);
}

#[test]
fn a_link_may_be_lost_after_every_part_of_a_blob() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    for parts in 0..4 {
        let (mut world, a, b) = two(101);
        world.puts = Some(parts);
        world.send_file(a, "bob", &path);
        world.run();
        assert_eq!(files(&mut world, b, "alice").len(), 0, "nothing is said of a file that is not there");
        world.cut(a);
        world.puts = None;
        world.settle();
        assert!(world.sealed.len() <= 5, "it began anew: {}", world.sealed.len());
        let downloads = tempfile::tempdir().unwrap();
        arrives(&mut world, b, downloads.path(), 0);
    }
}

/// The server deletes what no message names after a day. Wherever the sender was when it went away, the file comes in the end.
#[test]
fn a_file_that_nothing_named_for_too_long_goes_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let mut again = 0;
    for step in 0..16 {
        let (mut world, a, b) = two(110);
        let sent = world.send_file(a, "bob", &path);
        for _ in 0..step {
            if !world.step_any() {
                world.advance(Duration::from_millis(500));
            }
        }
        world.cut(a);
        let sealed = world.sealed.len();
        world.forget_blobs();
        world.settle();
        again += usize::from(sealed == 4 && world.sealed.len() == 8);
        let downloads = tempfile::tempdir().unwrap();
        arrives(&mut world, b, downloads.path(), 0);
        assert!(world.state(a, sent.id) >= State::Stored, "step {step}");
        no_key_twice(&world);
    }
    assert!(again > 0, "no step was between the file and its message");
}

/// The same, and meanwhile the file has become another: its message fails, and that is told.
#[test]
fn a_file_that_is_gone_at_both_ends_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut failed = 0;
    for step in 0..16 {
        let path = source(folder.path(), 0);
        let (mut world, a, b) = two(111);
        world.send_file(a, "bob", &path);
        for _ in 0..step {
            if !world.step_any() {
                world.advance(Duration::from_millis(500));
            }
        }
        world.cut(a);
        world.forget_blobs();
        source(folder.path(), 1);
        world.settle();
        no_key_twice(&world);
        match (files(&mut world, a, "bob").len(), files(&mut world, b, "alice").len()) {
            (0, 0) => failed += 1,
            (1, 1) => {
                // As it was, or sealed only when it had changed.
                let id = files(&mut world, b, "alice")[0].id;
                let fetched = world.fetch_file(b, id, tempfile::tempdir().unwrap().path());
                assert!(fetched.is_ok_and(|fetched| {
                    [content(0), content(1)].iter().any(|one| *blake3::hash(one).as_bytes() == fetched.hash)
                }));
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
    assert!(failed > 0);
}

#[test]
fn a_file_that_changes_on_the_way_is_not_sent_and_its_key_is_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    for parts in [0, 1, 3] {
        let path = source(folder.path(), 0);
        let (mut world, a, b) = two(102);
        world.puts = Some(parts);
        let sent = world.send_file(a, "bob", &path);
        world.run();
        // The program forgets what it knew of the first pass, and the file is another one when it comes back.
        source(folder.path(), 7);
        world.puts = None;
        world.crash(a);
        world.settle();
        assert_eq!(files(&mut world, b, "alice").len(), 0);
        let state = Command::WaitState { id: sent.id, state: State::Stored };
        assert_eq!(world.ask(a, state.clone()).map_err(|error| error.code), Err(Code::SOURCE_CHANGED));
        let told = |event: &Event| matches!(event, Event::MessageFailed { id, error } if *id == sent.id && error.message.contains("plan.pdf"));
        assert!(world.nodes[a].events.iter().any(told));
        // Whoever looks later sees what was not sent, and nobody is told about it.
        world.crash(a);
        world.settle();
        let shown = world.history(a, "bob").into_iter().find(|message| message.id == sent.id).unwrap();
        assert_eq!((shown.state, shown.deleted, shown.file.unwrap().name.as_str()), (State::Failed, false, "plan.pdf"));
        assert_eq!(world.ask(a, state).map_err(|error| error.code), Err(Code::CANCELLED));
        let edit = Command::Edit { id: sent.id, text: "x".to_owned() };
        assert_eq!(world.ask(a, edit).map_err(|error| error.code), Err(Code::MESSAGE_NOT_FOUND));
        let Ok(Reply::Posted(deleted)) = world.ask(a, Command::Delete(sent.id)) else { panic!() };
        assert!(deleted.message.deleted && deleted.posts.is_empty());
        // Sent again it is another file with another key.
        world.send_file(a, "bob", &path);
        world.settle();
        let downloads = tempfile::tempdir().unwrap();
        arrives(&mut world, b, downloads.path(), 7);
        no_key_twice(&world);
        assert!(world.sealed.iter().map(|(key, ..)| key).collect::<BTreeSet<_>>().len() <= 2);
    }
}

#[test]
fn a_file_waits_for_a_server_without_room_and_that_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, b) = two(112);
    world.refuse_some::<BlobPut>(usize::MAX, Code::DISK_FULL);
    let sent = world.send_file(a, "bob", &path);
    world.go_on(a, 300);
    assert_eq!(world.state(a, sent.id), State::Queued);
    let told = world.troubles(a).into_iter().filter(|error| error.code == Code::DISK_FULL).count();
    assert_eq!(told, 1);
    world.refuses = None;
    world.go_on(a, 61);
    let downloads = tempfile::tempdir().unwrap();
    arrives(&mut world, b, downloads.path(), 0);
}

#[test]
fn a_file_goes_on_after_refusals_that_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    for (code, times) in [(Code::FILE_BUSY, 5), (Code::FILE_NOT_FOUND, 3)] {
        let (mut world, _, b) = two(113);
        world.refuse_some::<BlobPut>(times, code);
        world.send_file(0, "bob", &path);
        world.settle();
        let downloads = tempfile::tempdir().unwrap();
        arrives(&mut world, b, downloads.path(), 0);
        no_key_twice(&world);
    }
}

/// The first has more to go up, and the server takes nothing of it for a while.
#[test]
fn files_of_a_conversation_arrive_in_the_order_in_which_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small.txt");
    fs::write(&small, "small").unwrap();
    let (mut world, a, b) = two(116);
    world.refuse_some::<BlobPut>(1, Code::FILE_BUSY);
    world.send_file(a, "bob", &source(folder.path(), 0));
    world.send_file(a, "bob", &small);
    world.settle();
    let names = files(&mut world, b, "alice").into_iter().map(|message| message.file.unwrap().name).collect::<Vec<_>>();
    assert_eq!(names, ["plan.pdf", "small.txt"]);
}

#[test]
fn a_server_that_always_forgets_a_file_is_not_sent_it_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, _) = two(114);
    world.refuse_some::<BlobPut>(usize::MAX, Code::FILE_NOT_FOUND);
    world.send_file(a, "bob", &path);
    world.settle();
    assert_eq!(files(&mut world, a, "bob").len(), 0);
    assert!(world.complains(a, "does not have it afterwards"));
}

/// Who has left sends nothing any more, so what was written before goes out first, unless it cannot.
#[test]
fn a_file_goes_out_before_its_writer_leaves() {
    let folder = tempfile::tempdir().unwrap();
    for (refused, arrives) in [(None, true), (Some(Code::DISK_FULL), false), (Some(Code::QUOTA), false)] {
        let path = source(folder.path(), 0);
        let (mut world, nodes) = people(115, &["alice", "bob"]);
        change(&mut world, nodes[0], create("club", &["bob"])).unwrap();
        world.settle();
        if let Some(code) = refused {
            world.refuse_some::<BlobPut>(usize::MAX, code);
        }
        world.send_file(nodes[1], "#club", &path);
        change(&mut world, nodes[1], GroupCommand::Leave("club".to_owned())).unwrap();
        world.settle();
        assert_eq!(members(&mut world, nodes[0], "#club").len(), 1);
        assert_eq!(files(&mut world, nodes[0], "#club").len(), usize::from(arrives), "{refused:?}");
    }
}

#[test]
fn what_is_taken_back_while_it_goes_up_is_heard_of_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, b) = two(103);
    world.puts = Some(1);
    let sent = world.send_file(a, "bob", &path);
    world.run();
    world.puts = None;
    world.ask(a, Command::Delete(sent.id)).unwrap();
    world.settle();
    let told = world.history(b, "alice");
    assert_eq!(told.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["hello"]);
}

#[test]
fn a_reader_may_die_at_any_step_and_a_new_device_has_the_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    for step in 0..12 {
        let (mut world, a, b) = two(104);
        world.send_file(a, "bob", &path);
        for _ in 0..step {
            world.step_any();
        }
        world.crash(b);
        world.settle();
        let downloads = tempfile::tempdir().unwrap();
        arrives(&mut world, b, downloads.path(), 0);
        if step == 0 {
            let second = world.sibling(1);
            world.settle();
            let downloads = tempfile::tempdir().unwrap();
            arrives(&mut world, second, downloads.path(), 0);
        }
    }
}

#[test]
fn a_stranger_and_a_removed_member_get_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, b) = two(105);
    let carol = world.person("carol");
    let c = world.device(carol);
    let sent = world.send_file(a, "bob", &path);
    world.settle();
    let unknown = world.fetch_file(c, sent.id, folder.path()).unwrap_err();
    assert_eq!(unknown.code, Code::MESSAGE_NOT_FOUND);
    let blob = block_of(&mut world, b);
    let get = parlour_wire::api::BlobGet { blob, offset: 0, length: 10 };
    assert_eq!(world.forge(b, &get), Ok(()));
    assert_eq!(world.forge(c, &get), Err(Code::FILE_NOT_FOUND), "an id opens nothing");
    a_removed_member_gets_nothing(&path);
}

fn a_removed_member_gets_nothing(path: &Path) {
    let (mut world, nodes) = people(120, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let early = world.send_file(a, "#club", path);
    world.settle();
    let folder = tempfile::tempdir().unwrap();
    let blob_of = |world: &World, node: usize, id| world.nodes[node].core.as_ref().unwrap().attachment_for_test(&id).blob;
    let get = |blob| parlour_wire::api::BlobGet { blob, offset: 0, length: 10 };
    let before = get(blob_of(&world, c, early.id));
    assert_eq!(world.forge(c, &before), Ok(()));
    change(&mut world, a, remove(&["carol"])).unwrap();
    world.settle();
    let late = world.send_file(a, "#club", path);
    world.settle();
    let after = get(blob_of(&world, b, late.id));
    assert_eq!(world.fetch_file(c, late.id, folder.path()).map_err(|error| error.code), Err(Code::MESSAGE_NOT_FOUND));
    assert_eq!(world.fetch_file(c, early.id, folder.path()).map_err(|error| error.code), Err(Code::FILE_NOT_FOUND));
    for get in [&before, &after] {
        assert_eq!(world.forge(c, get), Err(Code::FILE_NOT_FOUND), "not even what it knows the id of");
        assert_eq!(world.forge(b, get), Ok(()));
    }
}

fn block_of(world: &mut World, node: usize) -> BlobId {
    let message = files(world, node, "alice")[0].id;
    world.nodes[node].core.as_ref().unwrap().attachment_for_test(&message).blob
}

fn imported(id: u8, peer: parlour_wire::AccountId, source: Option<PathBuf>) -> Imported {
    let file = ImportedFile { name: "../old.txt".to_owned(), size: 5, content_type: "text/plain".to_owned(), source };
    Imported {
        id: MessageId([id; 16]),
        place: ImportedPlace::Direct { peer, name: "bob".to_owned() },
        sender: peer,
        sender_name: "bob".to_owned(),
        outgoing: false,
        kind: MessageKind::File,
        text: "old".to_owned(),
        file: Some(file),
        reply_to: None,
        sent_ms: 5,
        stored_ms: Some(6),
        edited_ms: None,
        deleted: false,
        expires_ms: None,
        state: State::Stored,
        reactions: Vec::new(),
        shared_by: None,
    }
}

#[test]
fn an_imported_file_whose_bytes_are_gone_is_named_and_not_had() {
    let (mut world, a, b) = two(106);
    let bob = world.nodes[b].core.as_ref().unwrap().account_for_test();
    let message = imported(1, bob, None);
    assert_eq!(world.ask(a, Command::Import(vec![message], BTreeMap::new())), Ok(Reply::Count(1)));
    let shown = files(&mut world, a, "bob");
    let info = shown[0].file.as_ref().unwrap();
    assert_eq!((info.name.as_str(), info.size, info.kept), ("old.txt", 5, false), "and its name leads nowhere");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(world.fetch_file(a, shown[0].id, folder.path()).map_err(|error| error.code), Err(Code::FILE_NOT_FOUND));
}

#[test]
fn a_message_without_text_needs_a_file_that_is_there() {
    let (mut world, a, _) = two(107);
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let mut file = local(&path);
    file.size = 5 << 30;
    let command = Command::SendFile { to: "bob".to_owned(), draft: Draft::default(), file };
    assert_eq!(world.ask(a, command).map_err(|error| error.code), Err(Code::TOO_LARGE));
}

/// What waits goes out when the account comes back, and a file's message not before its file.
#[test]
fn a_file_whose_device_is_ended_goes_up_when_the_device_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = source(folder.path(), 0);
    let (mut world, a, b) = two(118);
    world.puts = Some(1);
    world.send_file(a, "bob", &path);
    world.run();
    world.revoke(0, a);
    world.settle();
    assert!(world.nodes[a].events.iter().any(|event| matches!(event, Event::SignedOut { .. })));
    world.puts = None;
    let early = Rc::new(Cell::new(0));
    let seen = Rc::clone(&early);
    world.refuses = Some(Box::new(move |name, content| {
        if name == Send::NAME && parlour_wire::decode::<Send>(content).unwrap().blobs.contains(&BlobId([0; 32])) {
            seen.set(seen.get() + 1);
        }
        None
    }));
    world.enrol(0, a);
    world.settle();
    assert_eq!(early.get(), 0, "a message went out before its file");
    let downloads = tempfile::tempdir().unwrap();
    arrives(&mut world, b, downloads.path(), 0);
    no_key_twice(&world);
}
