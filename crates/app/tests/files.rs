//! Files with the real program: every size around the bounds of a chunk, losses and kills on the way, and what others may try.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use parlour_client::{Client, Code, Draft, Event, FetchOptions, KeySource, MessageId, OpenOptions, Preview, State};
use tokio::runtime::Runtime;

use self::support::{Done, Person, Server, World, finish};

const PATIENCE: Duration = Duration::from_secs(60);

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 % 251) as u8).collect()
}

fn write(world: &World, name: &str, size: usize) -> PathBuf {
    let path = world.path(name);
    fs::write(&path, content(size)).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Alice, Bob, their server, and a folder for what Bob downloads.
fn world() -> (World, Server, Person, Person, PathBuf) {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let folder = world.path("downloads");
    fs::create_dir(&folder).unwrap();
    (world, server, alice, bob, folder)
}

fn send(from: &Person, to: &str, file: &Path) -> String {
    from.run(&["send", to, "--file", text(file), "--timeout", "40s"]).ok().row()["id"].as_str().unwrap().to_owned()
}

fn get(who: &Person, id: &str, folder: &Path) -> Done {
    who.run(&["file", "get", id, "--output", text(folder)])
}

/// A picture of two pixels, one half transparent.
fn png() -> Vec<u8> {
    hex::decode("89504e470d0a1a0a0000000d4948445200000002000000010806000000f4227f8a0000001149444154789c63f8cfc0d0c0c0f0ff3f000d7e037eea1e17210000000049454e44ae426082").unwrap()
}

/// The running program as a library, for what needs exact moments.
fn open(who: &Person) -> Client {
    Client::open(OpenOptions { home: who.home.clone(), key: KeySource::File, create: false }).unwrap()
}

#[test]
fn every_size_arrives_as_it_was_sent() {
    let (world, _server, alice, bob, folder) = world();
    for size in [0, 1, 65_535, 65_536, 65_537, 10 << 20] {
        let name = format!("file-{size}.txt");
        let id = send(&alice, "bob", &write(&world, &name, size));
        let received = bob.run(&["recv", "--count", "1"]).ok().row();
        assert_eq!((received["kind"].as_str(), received["id"].as_str()), (Some("file"), Some(&*id)));
        assert_eq!((received["file"]["name"].as_str(), received["file"]["size"].as_u64()), (Some(&*name), Some(size as u64)));
        let row = get(&bob, &id, &folder).ok().row();
        assert_eq!(row["size"], size);
        assert_eq!(row["blake3"], blake3::hash(&content(size)).to_hex().as_str());
        let path = PathBuf::from(row["path"].as_str().unwrap());
        assert!(path == folder.canonicalize().unwrap().join(&name) && fs::read(&path).unwrap() == content(size), "{size}");
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "nothing beside the files: {left:?}");
}

#[test]
fn a_file_carries_a_text_and_shows_in_the_history() {
    let (world, _server, alice, bob, folder) = world();
    let file = write(&world, "plan.pdf", 100);
    alice.run(&["send", "bob", "the", "plan", "--file", text(&file)]).ok();
    let received = bob.run(&["recv", "--count", "1"]).ok().row();
    assert_eq!(
        (received["text"].as_str(), received["file"]["content_type"].as_str()),
        (Some("the plan"), Some("application/pdf"))
    );
    for (who, other) in [(&alice, "bob"), (&bob, "alice")] {
        let row = who.run(&["history", other]).ok().row();
        assert_eq!((row["kind"].as_str(), row["file"]["name"].as_str()), (Some("file"), Some("plan.pdf")));
    }
    // The sender can have it back, too.
    let id = received["id"].as_str().unwrap();
    assert_eq!(get(&alice, id, &folder).ok().row()["size"], 100);
}

#[test]
fn what_cannot_be_sent_or_had_is_refused_with_the_status_of_the_contract() {
    let (world, server, alice, bob, folder) = world();
    alice.run(&["send", "bob", "--file", text(&world.path("missing"))]).fails(3, "file_not_found");
    alice.run(&["send", "bob", "--file", text(&folder)]).fails(4, "path_refused");
    let pipe = world.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for pipe_for in [&["send", "bob", "--timeout", "1s", "--file"][..], &["profile", "set", "--avatar"]] {
        alice.run(&[pipe_for, &[text(&pipe)]].concat()).fails(4, "path_refused");
    }
    let id = send(&alice, "bob", &write(&world, "a.txt", 10));
    let plain = alice.run(&["send", "bob", "no file"]).ok().row();
    bob.run(&["recv", "--count", "2"]).ok();
    get(&bob, plain["id"].as_str().unwrap(), &folder).fails(3, "file_not_found");
    get(&bob, "01010101-0101-0101-0101-010101010101", &folder).fails(3, "message_not_found");
    bob.run(&["file", "get", &id, "--output", text(&folder), "--limit", "9"]).fails(7, "too_large");
    get(&bob, &id, &folder).ok();
    get(&bob, &id, &folder).fails(6, "file_exists");
    fs::write(folder.join("a.txt"), "mine").unwrap();
    bob.run(&["file", "get", &id, "--output", text(&folder.join("a.txt")), "--force"]).ok();
    assert_eq!(fs::read(folder.join("a.txt")).unwrap(), content(10));
    let stranger = world.registered("carol", &server);
    get(&stranger, &id, &folder).fails(3, "message_not_found");
    server.kill();
    bob.run(&["file", "get", &id, "--output", text(&folder.join("b")), "--timeout", "2s"]).fails(5, "unreachable");
    let file = write(&world, "late.txt", 1000);
    alice.run(&["send", "bob", "--file", text(&file), "--timeout", "2s"]).fails(5, "unreachable");
}

#[test]
fn a_file_sent_without_a_server_goes_out_when_there_is_one() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    alice.run(&["send", "bob", "before"]).ok();
    bob.run(&["recv", "--count", "1"]).ok();
    let listen = server.authority().to_owned();
    server.kill();
    let file = write(&world, "late.bin", 200_000);
    let queued = alice.run(&["send", "bob", "--file", text(&file), "--timeout", "2s"]);
    queued.fails(5, "unreachable");
    let id = queued.row()["id"].as_str().unwrap().to_owned();
    let _server = world.server("server", &["--registration", "open", "--listen", &listen]);
    alice.run(&["send", "bob", "after", "--timeout", "30s"]).ok();
    // What is left goes out while the program is online.
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let client = open(&alice);
        client.go_online().await.unwrap();
        assert!(client.wait_state(id.parse().unwrap(), State::Stored, PATIENCE).await.unwrap() >= State::Stored);
        client.close().await.unwrap();
    });
    bob.run(&["recv", "--count", "2"]).ok();
    let folder = world.path("downloads");
    fs::create_dir(&folder).unwrap();
    assert_eq!(get(&bob, &id, &folder).ok().row()["size"], 200_000);
}

#[test]
fn a_file_that_changes_before_it_is_sent_is_not_sent() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    alice.run(&["send", "bob", "before"]).ok();
    bob.run(&["recv", "--count", "1"]).ok();
    let listen = server.authority().to_owned();
    server.kill();
    let file = write(&world, "draft.txt", 100_000);
    let queued = alice.run(&["send", "bob", "--file", text(&file), "--timeout", "2s"]);
    let id: MessageId = queued.row()["id"].as_str().unwrap().parse().unwrap();
    fs::write(&file, content(99_999)).unwrap();
    let _server = world.server("server", &["--registration", "open", "--listen", &listen]);
    Runtime::new().unwrap().block_on(async {
        let client = open(&alice);
        let mut events = client.events();
        client.go_online().await.unwrap();
        let error = loop {
            if let Event::Trouble(error) = events.next().await.unwrap() {
                break error;
            }
        };
        assert_eq!(error.code, Code::SOURCE_CHANGED);
        assert_eq!(client.wait_state(id, State::Stored, PATIENCE).await.unwrap_err().code, Code::SOURCE_CHANGED);
        client.close().await.unwrap();
    });
    bob.run(&["recv", "--count", "1", "--timeout", "2s"]).fails(5, "timed_out");
}

#[test]
fn a_queued_file_that_has_gone_is_told_by_the_next_command() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    alice.run(&["send", "bob", "before"]).ok();
    let listen = server.authority().to_owned();
    server.kill();
    let file = write(&world, "late.bin", 20_000_000);
    // Ended before it has gone over the file, as a machine may be.
    let queued = alice.run(&["send", "bob", "--file", text(&file), "--timeout", "1ms"]);
    let id = queued.row()["id"].as_str().unwrap().to_owned();
    assert_eq!(queued.row()["state"], "queued");
    fs::remove_file(&file).unwrap();
    let _server = world.server("server", &["--registration", "open", "--listen", &listen]);
    let next = alice.run(&["send", "bob", "after", "--wait", "delivered", "--timeout", "1s"]);
    let told: Vec<_> = next.stderr.lines().filter(|line| line.contains("late.bin") && line.contains("bob")).collect();
    assert_eq!(told.len(), 1, "{next:?}");
    assert_eq!(alice.run(&["status", &id]).ok().row()["state"], "failed");
    let shown = alice.history("bob").into_iter().find(|row| row["id"] == *id).unwrap();
    assert_eq!((shown["state"].as_str(), shown["file"]["name"].as_str()), (Some("failed"), Some("late.bin")));
    assert!(!bob.recv(&[]).iter().any(|row| row["id"] == *id));
    // Told once.
    assert_eq!(alice.run(&["send", "bob", "again"]).ok().stderr, "");
}

#[test]
fn an_upload_goes_on_after_cuts_of_the_connection_beside_live_messages() {
    let (world, _server, alice, bob, folder) = world();
    let file = write(&world, "large.bin", 20 << 20);
    let id = Runtime::new().unwrap().block_on(async {
        let client = open(&alice);
        client.go_online().await.unwrap();
        let mut events = client.events();
        let sent = client.send_file("bob", &file, Preview::None, Draft::default()).await.unwrap();
        let (mut cuts, mut texts) = (0, Vec::new());
        while cuts < 4 {
            if let Event::FileProgress { done, total, .. } = events.next().await.unwrap()
                && done * 5 > total * (cuts + 1)
            {
                client.cut().await.unwrap();
                texts.push(client.send("bob", &format!("beside {cuts}"), None).await.unwrap().id);
                cuts += 1;
            }
        }
        for id in texts.into_iter().chain([sent.id]) {
            client.wait_state(id, State::Stored, PATIENCE).await.unwrap();
        }
        client.close().await.unwrap();
        sent.id
    });
    bob.run(&["recv", "--count", "5"]).ok();
    let row = get(&bob, &id.to_string(), &folder).ok().row();
    assert_eq!(row["blake3"], blake3::hash(&content(20 << 20)).to_hex().as_str());
}

/// Waits until a progress of a transfer has passed a share of the whole, by what is on a disk.
fn wait_for_bytes(folder: &Path, least: u64) {
    let size = || -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { 0 } else { entry.metadata().map_or(0, |it| it.len()) }).sum()
    };
    let begun = Instant::now();
    while size() < least {
        assert!(begun.elapsed() < PATIENCE, "nothing grows in {}", folder.display());
        std::thread::yield_now();
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_download_goes_on_after_a_kill_without_starting_over() {
    let (world, _server, alice, bob, folder) = world();
    let size = 60 << 20;
    let id = send(&alice, "bob", &write(&world, "large.bin", size));
    bob.run(&["recv", "--count", "1"]).ok();
    let child = bob.command(&["file", "get", &id, "--output", text(&folder)]).spawn().unwrap();
    wait_for_bytes(&folder, 5 << 20);
    kill(child);
    let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).max().unwrap();
    assert!(!folder.join("large.bin").exists() || there == size as u64, "nothing goes by the name before it is whole");
    let first = Runtime::new().unwrap().block_on(async {
        let client = open(&bob);
        let mut events = client.events();
        client.go_online().await.unwrap();
        let options = FetchOptions { output: Some(folder.clone()), force: true, limit: None };
        let (fetched, first) = tokio::join!(client.fetch_file(id.parse().unwrap(), options), async {
            loop {
                if let Event::FileProgress { done, .. } = events.next().await.unwrap() {
                    break done;
                }
            }
        });
        assert_eq!(fetched.unwrap().hash, *blake3::hash(&content(size)).as_bytes());
        client.close().await.unwrap();
        first
    });
    assert!(there == size as u64 || first >= (4 << 20), "it went on from {first} of {there}");
}

#[test]
fn an_upload_goes_on_after_kills_of_both_ends() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let (size, listen) = (60 << 20, server.authority().to_owned());
    let file = write(&world, "large.bin", size);
    let client = alice.command(&["send", "bob", "--file", text(&file), "--timeout", "40s"]).spawn().unwrap();
    let partial = find_growing(&world.path("server"));
    wait_for_bytes(&partial, 5 << 20);
    kill(client);
    server.kill();
    let _server = world.server("server", &["--registration", "open", "--listen", &listen]);
    let id = Runtime::new().unwrap().block_on(async {
        let client = open(&alice);
        let mut events = client.events();
        client.go_online().await.unwrap();
        let id = client.history("bob", Default::default()).await.unwrap()[0].id;
        let first = loop {
            match events.next().await.unwrap() {
                Event::FileProgress { done, .. } => break Some(done),
                Event::MessageState { .. } => break None,
                _ => {}
            }
        };
        assert!(first.is_none_or(|first| first >= 4 << 20), "it went on from {first:?}");
        client.wait_state(id, State::Stored, PATIENCE).await.unwrap();
        client.close().await.unwrap();
        id
    });
    let folder = world.path("downloads");
    fs::create_dir(&folder).unwrap();
    bob.run(&["recv", "--count", "1"]).ok();
    let row = get(&bob, &id.to_string(), &folder).ok().row();
    assert_eq!(row["blake3"], blake3::hash(&content(size)).to_hex().as_str());
}

/// The folder in which the server keeps what is not whole.
fn find_growing(data: &Path) -> PathBuf {
    data.join("blobs")
}

#[test]
fn a_server_that_spoils_a_file_is_found_out_and_nothing_gets_its_name() {
    let (world, server, alice, bob, folder) = world();
    let id = send(&alice, "bob", &write(&world, "a.bin", 300_000));
    bob.run(&["recv", "--count", "1"]).ok();
    let blob = only_blob(&world.path("server").join("blobs"));
    let right = fs::read(&blob).unwrap();
    let mut wrong = right.clone();
    wrong[200_000] ^= 1;
    for (bytes, code) in [(&wrong[..], "hash_mismatch"), (&right[..150_000], "size_mismatch")] {
        fs::write(&blob, bytes).unwrap();
        let done = get(&bob, &id, &folder);
        assert!(done.code != Some(0) && done.stderr.contains(code), "{code}: {done:?}");
        assert!(!folder.join("a.bin").exists());
    }
    fs::write(&blob, &right).unwrap();
    assert_eq!(get(&bob, &id, &folder).ok().row()["size"], 300_000);
    assert_eq!(server.stop().code(), Some(0));
}

/// The only file below a folder.
fn only_blob(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn what_lay_in_the_way_of_a_download_leads_nowhere() {
    let (world, _server, alice, bob, folder) = world();
    let id = send(&alice, "bob", &write(&world, "a.txt", 10));
    bob.run(&["recv", "--count", "1"]).ok();
    let elsewhere = world.path("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    // A link by the file's name is not written through, not even by force.
    std::os::unix::fs::symlink(&elsewhere, folder.join("a.txt")).unwrap();
    get(&bob, &id, &folder).fails(6, "file_exists");
    bob.run(&["file", "get", &id, "--output", text(&folder.join("a.txt")), "--force"]).ok();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert_eq!(fs::read(folder.join("a.txt")).unwrap(), content(10));
}

#[test]
fn names_are_reduced_before_they_leave() {
    let (world, _server, alice, bob, folder) = world();
    let file = write(&world, ".hidden\u{202e}gpj:exe", 10);
    let id = send(&alice, "bob", &file);
    let name = bob.run(&["recv", "--count", "1"]).ok().row()["file"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, "hiddengpj_exe");
    let row = get(&bob, &id, &folder).ok().row();
    assert_eq!(PathBuf::from(row["path"].as_str().unwrap()), folder.canonicalize().unwrap().join(name));
}

#[test]
fn several_files_go_at_once() {
    let (world, _server, alice, bob, folder) = world();
    let files: Vec<_> = (0..4).map(|n| write(&world, &format!("{n}.bin"), 1_000_000 + n)).collect();
    let mut words = vec!["send", "bob", "four"];
    for file in &files {
        words.extend(["--file", text(file)]);
    }
    let rows = alice.run(&words).ok().rows();
    assert_eq!(rows.len(), 4);
    bob.run(&["recv", "--count", "4"]).ok();
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(get(&bob, row["id"].as_str().unwrap(), &folder).ok().row()["size"], 1_000_000 + n);
    }
}

#[test]
fn a_quota_is_told_and_the_message_fails() {
    let world = World::new();
    let config = world.path("server.toml");
    fs::write(&config, QUOTA).unwrap();
    let server = world.server("server", &["--registration", "open", "--config", text(&config)]);
    let (alice, _bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let file = write(&world, "large.bin", 3_000_000);
    let done = alice.run(&["send", "bob", "--file", text(&file)]);
    let error = done.fails(7, "quota");
    assert!(error["message"].as_str().unwrap().contains("large.bin"), "{error}");
    assert_eq!(done.row()["state"], "failed");
    let row = alice.run(&["history", "bob"]).ok().row();
    assert_eq!((row["state"].as_str(), row["deleted"].as_bool()), (Some("failed"), Some(false)), "{row}");
}

const QUOTA: &str = "blob-quota = \"1000000\"\n";

#[test]
fn a_command_that_is_stopped_leaves_nothing_by_the_name() {
    let (world, _server, alice, bob, folder) = world();
    let id = send(&alice, "bob", &write(&world, "large.bin", 60 << 20));
    bob.run(&["recv", "--count", "1"]).ok();
    let child = bob.command(&["file", "get", &id, "--output", text(&folder)]).spawn().unwrap();
    wait_for_bytes(&folder, 1 << 20);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let done = finish(child, PATIENCE);
    assert!(done.code == Some(130) || folder.join("large.bin").exists(), "{done:?}");
}

#[test]
fn a_picture_brings_a_small_one_unless_its_sender_says_no() {
    let (world, _server, alice, bob, folder) = world();
    let picture = world.path("dot.png");
    fs::write(&picture, png()).unwrap();
    let with = send(&alice, "bob", &picture);
    let without = alice.run(&["send", "bob", "--file", text(&picture), "--no-thumbnail"]).ok().row()["id"].clone();
    let rows = bob.run(&["recv", "--count", "2"]).ok().rows();
    assert!(rows[0]["file"]["thumbnail_bytes"].as_u64().unwrap() > 100, "{:?}", rows[0]);
    assert!(rows[1]["file"].get("thumbnail_bytes").is_none());
    let small = bob.run(&["file", "get", &with, "--thumbnail", "--output", text(&folder)]).ok().row();
    let path = PathBuf::from(small["path"].as_str().unwrap());
    assert_eq!(path.file_name().unwrap(), "dot.png.thumbnail.jpg");
    assert!(fs::read(&path).unwrap().starts_with(&[0xff, 0xd8, 0xff]));
    bob.run(&["file", "get", &with, "--thumbnail", "--output", text(&folder)]).fails(6, "file_exists");
    bob.run(&["file", "get", without.as_str().unwrap(), "--thumbnail"]).fails(3, "file_not_found");
    assert_eq!(
        fs::read(get(&bob, &with, &folder).ok().row()["path"].as_str().unwrap()).unwrap(),
        png(),
        "the file itself is untouched"
    );
}

#[test]
fn an_export_holds_the_files_and_an_import_takes_them_in() {
    let (world, server, alice, bob, folder) = world();
    let id = send(&alice, "bob", &write(&world, "plan.txt", 150_000));
    bob.run(&["recv", "--count", "1"]).ok();
    let archive = world.path("archive");
    let done = bob.run(&["export", "alice", "--output", text(&archive)]).ok().row();
    assert_eq!((done["messages"].as_u64(), done["files"].as_u64(), done["files_missing"].as_u64()), (Some(1), Some(1), Some(0)));
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(archive.join("messages.jsonl")).unwrap()).unwrap();
    let path = archive.join(line["file"]["path"].as_str().unwrap());
    assert_eq!((path.parent(), fs::read(&path).unwrap() == content(150_000)), (Some(&*archive.join("files")), true));
    assert_eq!(line["file"]["blake3"], blake3::hash(&content(150_000)).to_hex().as_str());
    let without = world.path("without");
    assert_eq!(bob.run(&["export", "--no-files", "--output", text(&without)]).ok().row()["files"], 0);

    let carol = world.registered("carol", &server);
    server.kill();
    let taken = carol.run(&["import", text(&archive)]).ok().row();
    assert_eq!((taken["messages"].as_u64(), taken["files"].as_u64()), (Some(1), Some(1)));
    assert_eq!(carol.run(&["import", text(&archive)]).ok().row()["files"], 0, "twice is once");
    let kept = only_blob(&carol.home.join("files"));
    assert!(!fs::read(&kept).unwrap().windows(64).any(|window| content(150_000)[..64] == *window), "sealed at rest");
    let row = get(&carol, &id, &folder).ok().row();
    assert_eq!(row["blake3"], blake3::hash(&content(150_000)).to_hex().as_str());

    let offline = world.path("offline");
    let done = bob.run(&["export", "alice", "--output", text(&offline)]).ok().row();
    assert_eq!((done["files"].as_u64(), done["files_missing"].as_u64()), (Some(0), Some(1)), "it says what it lacks");
    fs::write(archive.join("messages.jsonl"), line.to_string().replace("files/", "../alice/")).unwrap();
    let wrong = bob.run(&["import", text(&archive)]).fails(2, "usage");
    assert!(wrong["message"].as_str().unwrap().contains("leads out of the folder"));
}

#[test]
fn an_account_keeps_no_more_than_its_quota() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open", "--blob-quota", "1MiB"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    send(&alice, "bob", &write(&world, "a.bin", 600_000));
    let full = alice.run(&["send", "bob", "--file", text(&write(&world, "b.bin", 600_001)), "--timeout", "20s"]);
    full.fails(7, "quota");
    bob.run(&["recv", "--count", "1"]).ok();
    // What was not sent is not kept either, and messages go on.
    alice.run(&["send", "bob", "never mind"]).ok();
    assert_eq!(bob.run(&["recv", "--count", "1"]).ok().row()["text"], "never mind");
}
