//! What the program advises when something is refused, and what it says to what a person may type by mistake.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::support::{Done, World, parlour, run};

/// Checks that the hint of a failure is about what was asked for.
#[track_caller]
fn advises(done: &Done, status: i32, code: &str, about: &str) {
    let error = done.fails(status, code);
    assert!(error["hint"].as_str().unwrap().contains(about), "{error}");
}

#[test]
fn a_time_that_is_given_holds_for_connecting_too() {
    let world = World::new();
    let server = world.server("server", &[]);
    let alice = world.registered("alice", &server);
    let listen = server.authority().to_owned();
    server.stop();
    // Takes connections and says nothing.
    let _silent = TcpListener::bind(&listen).unwrap();
    for words in [&["group", "create", "club"][..], &["group", "exists", "club"], &["backup", "on"]] {
        let start = Instant::now();
        let done = alice.run(&[words, &["--timeout", "500ms"]].concat());
        // Closing takes three seconds at most.
        assert!(done.code == Some(5) && start.elapsed() < Duration::from_secs(8), "{:?}: {done:?}", start.elapsed());
    }
}

#[test]
fn a_load_of_any_size_runs_and_a_folder_that_cannot_be_is_no_bug() {
    let world = World::new();
    let bench = |args: &[&str]| run(parlour(&[&["--json", "bench"], args].concat()), "");
    advises(&bench(&["chat", "--data", "/proc/nowhere"]), 4, "read_only", "--data");
    let data = world.path("");
    for conversations in ["5", "500"] {
        let load = ["client", "--messages", "100", "--data", data.to_str().unwrap(), "--conversations", conversations];
        assert!(!bench(&load).ok().rows().is_empty());
    }
}

#[test]
fn ones_own_name_is_nobody_who_is_not_found() {
    let world = World::new();
    let server = world.server("server", &[]);
    let alice = world.registered("alice", &server);
    let folder = world.path("export");
    for words in [
        &["send", "alice", "x"][..],
        &["history", "Alice"],
        &["search", "x", "--in", "alice"],
        &["export", "alice", "--output", folder.to_str().unwrap()],
        &["contacts", "remove", "alice"],
        &["contacts", "block", "alice"],
    ] {
        let error = alice.run(words).fails(2, "usage");
        assert_eq!(error["message"], "this is you", "{words:?}");
    }
    alice.run(&["profile", "set", "--name", "Alice A."]).ok();
    assert_eq!(alice.run(&["profile", "show", "alice"]).ok().row()["display_name"], "Alice A.");
}

fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap()
}

#[test]
fn a_hint_is_about_what_was_asked_for() {
    let world = World::new();
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let file = world.path("a.txt");
    fs::write(&file, "ten bytes.").unwrap();
    let sent = alice.run(&["send", "bob", "--file", file.to_str().unwrap()]).ok().row();
    world.registered("carol", &server);
    alice.send("carol", "hello");
    bob.recv(&["--count", "1"]);
    for words in [&["edit", id(&sent), "mine"][..], &["delete", id(&sent)]] {
        advises(&bob.run(words), 4, "forbidden", "--reply");
    }
    let (full, target) = (world.path(""), world.path("b.txt"));
    advises(&alice.run(&["export", "--output", full.to_str().unwrap()]), 6, "already_exists", "empty");
    advises(&alice.run(&["contacts", "rename", "bob", "Carol"]), 6, "already_exists", "another petname");
    advises(&alice.run(&["contacts", "rename", "bob", "Alice"]), 6, "already_exists", "another petname");
    let get = ["file", "get", id(&sent), "--limit", "1", "--output", target.to_str().unwrap()];
    advises(&bob.run(&get), 7, "too_large", "limit");
}

#[test]
fn who_has_no_account_is_not_asked_for_its_password() {
    let world = World::new();
    let nobody = world.person("nobody");
    let device = "00".repeat(16);
    for words in [&["passwd"][..], &["recovery-code"], &["devices", "revoke", &device]] {
        nobody.run_with(&[words, &["--password-stdin"]].concat(), "").fails(3, "profile_not_found");
    }
}

#[test]
fn a_device_that_was_ended_is_told_so_whatever_it_tries() {
    let world = World::new();
    let server = world.server("server", &[]);
    let first = world.registered("alice", &server);
    let second = world.person("second");
    let device = second.login(&server, "alice", &first.password()).ok().row()["device"].as_str().unwrap().to_owned();
    first.run_with(&["devices", "revoke", &device, "--password-stdin"], &format!("{}\n", first.password())).ok();
    for words in [&["recv"][..], &["recv"], &["send", "bob", "x"], &["whoami"], &["group", "create", "club"]] {
        advises(&second.run(words), 4, "device_revoked", "login");
    }
    second.run(&["logout"]).fails(4, "device_revoked");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_said_to_be_pinned() {
    let world = World::new();
    let server = world.server("server", &[]);
    let alice = world.person("alice");
    let first = alice.run_with(&["register", "--server", &server.url, "alice", "--password-stdin"], "x\n").ok();
    assert_eq!(first.row()["pinned"], true);
    let known = world.person("bob").run_with(&["register", "--server", &server.full_url(), "bob", "--password-stdin"], "x\n");
    assert_eq!(known.ok().row()["pinned"], false);
}

#[test]
fn help_that_cannot_be_written_is_no_success() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = parlour(&["help"]).stdout(full).stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(7));
}
