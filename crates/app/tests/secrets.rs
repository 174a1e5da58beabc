//! What lies on the disk of a server, and of a client, of what people write: nothing that can be read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use self::support::{World, texts};

/// The files below a folder in which a text stands as it is.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // A socket of a program that has ended is no file.
            match fs::symlink_metadata(&path).unwrap().file_type() {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => {
                    let bytes = fs::read(&path).unwrap();
                    if bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes())) {
                        found.push(path);
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// What people write, in every place that travels by the server, each by words that stand nowhere else.
const WRITTEN: [&str; 9] = [
    "greengages and damsons",
    "my-cousin-from-uppsala",
    "half a sentence about quinces",
    "her-majesty-the-queen",
    "away among the medlars",
    "plan-of-the-orchard.txt",
    "gooseberries in the file",
    "currants in the group",
    "a very long tale of blackthorns",
];

/// Everything else that is told: by the names of its settings, as they stand between own devices.
const SETTINGS: [&str; 2] = ["read_receipts", "delivery_receipts"];

#[test]
fn nothing_that_people_write_or_choose_is_in_the_files_of_the_server_or_of_their_profiles() {
    let [text, petname, draft, called, status, file_name, content, to_group, tale] = WRITTEN;
    let world = World::new();
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice-of-the-orchard", &server), world.registered("bob", &server));
    let second = world.person("alice-2");
    alice.run(&["backup", "on"]).ok();
    alice.send("bob", text);
    assert_eq!(texts(&bob.recv(&["--count", "1"])), [text]);
    alice.run(&["contacts", "rename", "bob", petname]).ok();
    alice.run(&["draft", petname, draft]).ok();
    alice.run(&["settings", "receipts", "off"]).ok();
    alice.run(&["settings", "arrivals", "off"]).ok();
    alice.run(&["profile", "set", "--name", called, "--status", status]).ok();
    alice.run(&["group", "create", "the-pomologists", "bob"]).ok();
    alice.send("#the-pomologists", to_group);
    let file = world.path(file_name);
    fs::write(&file, content).unwrap();
    alice.run(&["send", "bob", "--file", file.to_str().unwrap()]).ok();
    // Longer than a message, so that the profile keeps it.
    alice.run_with(&["send", "bob", "-"], &format!("{tale}. ").repeat(4_000)).ok();
    alice.run(&["backup", "now"]).ok();
    // A second device has all of it, so it has gone by the server.
    second.login(&server, "alice-of-the-orchard", &alice.password()).ok();
    alice.recv(&["--timeout", "1s"]);
    second.recv(&["--timeout", "1s"]);
    assert_eq!(second.run(&["draft", petname]).ok().row()["draft"], draft);
    assert!(texts(&second.history(petname)).contains(&text.to_owned()));
    bob.recv(&["--timeout", "1s"]);
    assert_eq!(bob.run(&["profile", "show", "alice-of-the-orchard"]).ok().row()["display_name"], called);
    // Whoever looks for what is there in the clear finds it: while the server runs, and when it has ended.
    let data = world.path("server");
    let known = ["alice-of-the-orchard", "the-pomologists"];
    for running in [true, false] {
        for name in known {
            assert!(!holding(&data, name).is_empty(), "{name}, running: {running}");
        }
        for secret in WRITTEN.into_iter().chain(SETTINGS).chain([&*alice.password()]) {
            assert_eq!(holding(&data, secret), [] as [PathBuf; 0], "{secret}, running: {running}");
        }
        if running {
            fs::copy(&file, data.join("stray")).unwrap();
            assert_eq!(holding(&data, content), [data.join("stray")]);
            fs::remove_file(data.join("stray")).unwrap();
        }
    }
    assert!(server.stop().success());
    for person in [&alice, &second, &bob] {
        for secret in WRITTEN.into_iter().chain(SETTINGS).chain(known).chain([&*alice.password()]) {
            assert_eq!(holding(&person.home, secret), [] as [PathBuf; 0], "{secret}, {}", person.name);
        }
    }
}
