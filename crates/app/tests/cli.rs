//! The command line against a real server: what people and scripts rely on (docs of the command line), the failures included.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    time::Duration,
};

use parlour_client::{Client, KeySource, OpenOptions, State};
use serde_json::{Value, json};

use self::support::{Disk, Person, Server, World, finish, parlour, run, texts};

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == "2026-01-01T00:00:00.000Z".len() && text.ends_with('Z') && text.contains('T')
}

/// alice and bob at a server.
fn two_people(world: &World) -> (Server, Person, Person) {
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    (server, alice, bob)
}

#[test]
fn two_people_register_write_read_and_know_the_fate_of_their_messages() {
    let world = World::new();
    let server = world.server("server", &[]);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let row = alice.register(&server, &[]).ok().row();
    assert_eq!((&row["account"], &row["server"]), (&json!("alice"), &json!(server.full_url())));
    assert_eq!(alice.run(&["whoami"]).ok().row()["device"], row["device"]);
    bob.register(&server, &[]).ok();

    let sent = alice.run(&["send", "bob", "see", "you", "at", "nine"]).ok().row();
    assert_eq!(sent["state"], "stored");
    let received = bob.recv(&[]);
    assert_eq!(texts(&received), ["see you at nine"]);
    let message = &received[0];
    assert_eq!((&message["id"], &message["conversation"]), (&sent["id"], &sent["conversation"]));
    assert_eq!((&message["from"], &message["kind"]), (&json!("alice"), &json!("text")));
    assert!(is_time(&message["sent_at"]) && is_time(&message["stored_at"]) && message["seq"].is_u64(), "{message}");
    assert!(bob.recv(&[]).is_empty(), "printed once");

    let status = alice.run(&["status", sent["id"].as_str().unwrap()]).ok().row();
    assert_eq!(status["id"], sent["id"]);
    assert!(["delivered", "read"].contains(&status["state"].as_str().unwrap()), "{status}");
    assert_eq!(status["devices"].as_array().unwrap().len(), 1, "{status}");

    bob.run(&["send", "alice", "fine", "--reply", sent["id"].as_str().unwrap()]).ok();
    assert_eq!(alice.recv(&["--count", "1"])[0]["reply_to"], sent["id"]);
    for (person, other) in [(&alice, "bob"), (&bob, "alice")] {
        assert_eq!(texts(&person.history(other)), ["see you at nine", "fine"]);
    }
    assert!(server.stop().success());
}

#[test]
fn a_message_comes_from_standard_input_and_arrives_byte_for_byte() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let text = "several\nlines, \"quotes\", tabs\t, 👋 and \u{1b}[31mred\n";
    alice.run_with(&["send", "bob", "-"], &format!("{text}\n")).ok();
    assert_eq!(texts(&bob.recv(&[])), [text]);
}

#[test]
fn send_waits_for_delivery_when_asked() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let mut reader = bob.command(&["recv", "--follow", "--timeout", "60s"]).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap());
    let row = alice.run(&["send", "bob", "are you there?", "--wait", "delivered", "--timeout", "30s"]).ok().row();
    assert!(["delivered", "read"].contains(&row["state"].as_str().unwrap()), "{row}");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], row["id"]);
    // Ctrl-C is how --follow ends.
    rustix::process::kill_process(rustix::process::Pid::from_child(&reader), rustix::process::Signal::INT).unwrap();
    assert_eq!(reader.wait().unwrap().code(), Some(0));
}

#[test]
fn delivery_that_does_not_happen_in_time_is_told_and_the_message_stays_stored() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let done = alice.run(&["send", "bob", "later", "--wait", "delivered", "--timeout", "1s"]);
    done.fails(5, "timed_out");
    assert_eq!(done.row()["state"], "stored");
    assert_eq!(texts(&bob.recv(&[])), ["later"]);
}

#[test]
fn recv_with_a_count_fails_when_too_few_come() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    alice.send("bob", "only one");
    let done = bob.run(&["recv", "--count", "2", "--timeout", "1s"]);
    done.fails(5, "timed_out");
    assert_eq!(texts(&done.rows()), ["only one"]);
    assert!(bob.recv(&[]).is_empty());
}

#[test]
fn recv_and_history_select_and_page() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let carol = world.registered("carol", &server);
    let ids: Vec<String> = (1..=4).map(|n| alice.send("bob", &format!("a{n}"))["id"].as_str().unwrap().to_owned()).collect();
    carol.send("bob", "c1");
    assert_eq!(texts(&bob.recv(&["--from", "carol"])), ["c1"]);
    assert_eq!(texts(&bob.recv(&[])), ["a1", "a2", "a3", "a4"]);
    let page = |args: &[&str]| {
        let mut words = vec!["history", "alice"];
        words.extend(args);
        texts(&bob.run(&words).ok().rows())
    };
    assert_eq!(page(&["--limit", "2"]), ["a3", "a4"]);
    assert_eq!(page(&["--limit", "2", "--before", &ids[2]]), ["a1", "a2"]);
    assert_eq!(page(&["--limit", "2", "--after", &ids[0]]), ["a2", "a3"]);
}

#[test]
fn contacts_are_added_renamed_found_blocked_and_removed() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let added = alice.run(&["contacts", "add", "bob"]).ok().row();
    assert_eq!((&added["name"], &added["verified"]), (&json!("bob"), &json!(false)));
    assert!(["online", "offline", "unknown"].contains(&added["presence"].as_str().unwrap()), "{added}");
    assert_eq!(added["devices"], json!([bob.run(&["whoami"]).ok().row()["device"]]));
    assert_eq!(alice.run(&["contacts", "rename", "bob", "Bobby"]).ok().row()["name"], "Bobby");
    assert_eq!(alice.run(&["contacts", "search", "OBB"]).ok().row()["id"], added["id"]);
    alice.send("Bobby", "by the name I gave you");
    assert_eq!(texts(&bob.recv(&[])), ["by the name I gave you"]);

    alice.run(&["contacts", "block", "Bobby"]).ok();
    assert_eq!(alice.run(&["contacts"]).ok().row()["blocked"], true);
    alice.run(&["send", "Bobby", "x"]).fails(4, "blocked");
    alice.run(&["contacts", "block", "Bobby", "--undo"]).ok();
    alice.run(&["contacts", "remove", "Bobby"]).ok();
    assert!(alice.run(&["contacts"]).ok().rows().is_empty());
    // The conversation is still there, under the name at the server.
    for name in ["bob", &format!("bob@{}", server.authority())] {
        assert_eq!(texts(&alice.history(name)), ["by the name I gave you"]);
    }
    let folder = world.path("export");
    assert_eq!(alice.run(&["export", "bob", "--output", folder.to_str().unwrap()]).ok().row()["messages"], 1);
    alice.run(&["history", "Bobby"]).fails(3, "user_not_found");
    alice.run(&["contacts", "remove", "bob"]).fails(3, "user_not_found");
}

#[test]
fn both_sides_see_one_safety_number_and_can_note_that_they_compared_it() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let of_alice = alice.run(&["verify", "bob"]).ok().row();
    let of_bob = bob.run(&["verify", "alice"]).ok().row();
    assert_eq!(of_alice["safety_number"], of_bob["safety_number"]);
    assert_eq!(of_alice["safety_number"].as_str().unwrap().chars().filter(char::is_ascii_digit).count(), 60);
    assert_eq!(of_alice["verified"], false);
    assert_eq!(alice.run(&["verify", "bob", "--confirm"]).ok().row()["verified"], true);
    assert_eq!(alice.run(&["verify", "bob"]).ok().row()["verified"], true);
    let key = alice.run(&["key", "bob"]).ok().row();
    assert_eq!(key["key"], bob.run(&["whoami"]).ok().row()["key"]);
}

#[test]
fn a_second_device_comes_in_by_the_password_alone_and_can_be_ended() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let second = world.person("alice-2");
    let row = second.login(&server, "alice", &alice.password()).ok().row();
    assert_eq!(row["account"], "alice");
    bob.send("alice", "for all your devices");
    assert_eq!(texts(&alice.recv(&["--count", "1", "--timeout", "30s"])), ["for all your devices"]);
    // What was printed on one device is nothing new on the other, but it is there.
    assert!(second.recv(&["--timeout", "2s"]).is_empty());
    assert_eq!(texts(&second.history("bob")), ["for all your devices"]);
    let devices = alice.run(&["devices"]).ok().rows();
    assert_eq!(devices.len(), 2, "{devices:?}");
    assert_eq!(devices.iter().filter(|device| device["this"] == true).count(), 1);

    let id = row["device"].as_str().unwrap();
    let revoke = ["devices", "revoke", id, "--password-stdin"];
    alice.run_with(&revoke, "wrong\n").fails(4, "wrong_password");
    alice.run_with(&revoke, &format!("{}\n", alice.password())).ok();
    second.run(&["send", "bob", "am I still here?"]).fails(4, "device_revoked");
}

#[test]
fn a_changed_password_opens_the_account_and_the_old_one_does_not() {
    let world = World::new();
    let (server, alice, _bob) = two_people(&world);
    let change = ["passwd", "--password-stdin"];
    alice.run_with(&change, "not it\nnext\n").fails(4, "wrong_password");
    alice.run_with(&change, &format!("{}\nnext\n", alice.password())).ok();
    let second = world.person("alice-2");
    second.login(&server, "alice", &alice.password()).fails(4, "wrong_password");
    second.login(&server, "alice", "next").ok();
}

#[test]
fn after_a_logout_the_history_stays_and_nothing_can_be_sent() {
    let world = World::new();
    let (server, alice, _bob) = two_people(&world);
    alice.send("bob", "before");
    alice.run(&["logout"]).ok();
    alice.run(&["send", "bob", "x"]).fails(3, "profile_not_found");
    alice.login(&server, "alice", &alice.password()).ok();
    assert_eq!(texts(&alice.history("bob")), ["before"]);
}

#[test]
fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let world = World::new();
    let (server, _alice, _bob) = two_people(&world);
    let stranger = world.person("stranger");
    let wrong = stranger.login(&server, "alice", "a guess").fails(4, "wrong_password");
    let unknown = stranger.login(&server, "nobody", "a guess").fails(4, "wrong_password");
    assert_eq!(wrong, unknown);
    stranger.run(&["whoami"]).fails(3, "profile_not_found");
}

#[test]
fn an_unknown_user_message_or_device_is_not_found() {
    let world = World::new();
    let (_server, alice, _bob) = two_people(&world);
    for words in [
        &["send", "nobody", "x"][..],
        &["contacts", "add", "nobody"],
        &["key", "nobody"],
        &["verify", "nobody"],
        &["history", "nobody"],
    ] {
        alice.run(words).fails(3, "user_not_found");
    }
    for id in ["00000000-0000-7000-8000-000000000000", "nonsense"] {
        alice.run(&["status", id]).fails(3, "message_not_found");
    }
    alice.run_with(&["devices", "revoke", "nonsense", "--password-stdin"], "x\n").fails(3, "device_not_found");
}

#[test]
fn a_taken_name_is_refused_however_it_is_written() {
    let world = World::new();
    let (server, _alice, _bob) = two_people(&world);
    for name in ["alice", "ALICE", "ａｌｉｃｅ"] {
        let stranger = world.person("stranger");
        let done = stranger.run_with(&["register", "--server", &server.full_url(), name, "--password-stdin"], "x\n");
        done.fails(6, "name_taken");
    }
    let alice = world.person("alice");
    alice
        .run_with(&["register", "--server", &server.full_url(), "alice-2", "--password-stdin"], "x\n")
        .fails(6, "already_exists");
}

#[test]
fn a_closed_server_registers_nobody() {
    let world = World::new();
    let server = world.server("server", &["--registration", "closed"]);
    let alice = world.person("alice");
    assert_eq!(alice.run(&["registration", "--server", &server.full_url()]).ok().row()["registration"], "closed");
    alice.register(&server, &[]).fails(4, "registration_closed");
    let anybody = server.invite(&[]);
    alice.register(&server, &["--invite", anybody["token"].as_str().unwrap()]).fails(4, "registration_closed");
}

#[test]
fn an_administrator_lets_one_name_into_a_closed_server() {
    let world = World::new();
    let server = world.server("server", &["--registration", "closed"]);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let made = server.invite(&["--for", "Alice"]);
    let token = made["token"].as_str().unwrap();
    bob.register(&server, &["--invite", token]).fails(4, "invite_unknown");
    alice.register(&server, &["--invite", token]).ok();
    world.person("alice").run(&["whoami"]).ok();
}

#[test]
fn an_invitation_works_as_often_and_as_long_as_it_says() {
    let world = World::new();
    let server = world.server("server", &["--registration", "invite"]);
    let (alice, bob, carol) = (world.person("alice"), world.person("bob"), world.person("carol"));
    assert_eq!(alice.run(&["registration", "--server", &server.full_url()]).ok().row()["registration"], "invite");
    alice.register(&server, &[]).fails(4, "invite_required");
    alice.register(&server, &["--invite", "00112233445566778899aabbccddeeff"]).fails(4, "invite_unknown");

    let once = server.invite(&["--uses", "1"]);
    let token = once["token"].as_str().unwrap();
    alice.register(&server, &["--invite", token]).ok();
    bob.register(&server, &["--invite", token]).fails(4, "invite_used_up");

    let short = server.invite(&["--expires", "1ms"]);
    bob.register(&server, &["--invite", short["token"].as_str().unwrap()]).fails(4, "invite_expired");

    // A link says where, which certificate and with which right, in one.
    let link = server.invite(&[])["link"].as_str().unwrap().to_owned();
    let done = carol.run_with(&["register", "carol", "--invite", &link, "--password-stdin"], "x\n").ok();
    assert_eq!(done.row()["server"], server.full_url());
}

#[test]
fn an_invitation_needs_a_server_to_be_for() {
    let world = World::new();
    let data = world.path("no-server");
    run(parlour(&["invite", "--json", "--data", data.to_str().unwrap()]), "").fails(3, "profile_not_found");
}

#[test]
fn without_its_server_a_message_is_queued_and_goes_out_later() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    alice.send("bob", "one");
    let listen = server.authority().to_owned();
    server.stop();
    let done = alice.run(&["send", "bob", "two", "--timeout", "1s"]);
    let error = done.fails(5, "unreachable");
    assert!(error["message"].as_str().unwrap().contains("queued"), "{error}");
    assert_eq!(done.row()["state"], "queued");
    assert_eq!(texts(&alice.history("bob")), ["one", "two"], "the history works offline");
    bob.run(&["recv", "--timeout", "1s"]).fails(5, "unreachable");
    alice.run(&["send", "stranger", "x", "--timeout", "1s"]).fails(5, "unreachable");

    let _server = world.server("server", &["--listen", &listen]);
    alice.send("bob", "three");
    assert_eq!(texts(&bob.recv(&[])), ["one", "two", "three"]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever presses Ctrl-C does so at any time")]
fn a_command_that_is_stopped_while_it_waits_says_what_stays() {
    let world = World::new();
    let (server, alice, _bob) = two_people(&world);
    alice.send("bob", "one");
    server.stop();
    // Stopped later and later, until it had been queued before.
    let queued = (0..10).find_map(|n| {
        let child = alice.command(&["send", "bob", "two", "--timeout", "60s"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200 << n));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        let done = finish(child, Duration::from_secs(60));
        (!done.stdout.is_empty()).then_some(done)
    });
    let queued = queued.unwrap();
    assert_eq!((queued.code, queued.stderr.as_str()), (Some(130), ""));
    assert_eq!(queued.row()["state"], "queued");
    assert_eq!(alice.history("bob").last().unwrap()["id"], queued.row()["id"]);
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let world = World::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("wss://127.0.0.1:{port}");
    let alice = world.person("alice");
    alice.run(&["registration", "--server", &url]).fails(5, "unreachable");
    alice.run_with(&["register", "--server", &url, "alice", "--password-stdin"], "x\n").fails(5, "unreachable");
    alice.run_with(&["login", "--server", &url, "alice", "--password-stdin"], "x\n").fails(5, "unreachable");
}

#[test]
fn a_changed_certificate_is_refused() {
    let world = World::new();
    let (server, alice, _bob) = two_people(&world);
    // Trust on first use pins as well as an address with a fingerprint does.
    let first_use = world.person("carol");
    first_use.run_with(&["register", "--server", &server.url, "carol", "--password-stdin"], "x\n").ok();
    let listen = server.authority().to_owned();
    let old = server.full_url();
    server.stop();
    let impostor = world.server("impostor", &["--listen", &listen]);
    assert_ne!(impostor.full_url(), old);
    for person in [&alice, &first_use] {
        person.run(&["send", "bob", "x"]).fails(4, "certificate_changed");
        person.run(&["recv"]).fails(4, "certificate_changed");
    }
    alice.run(&["registration", "--server", &old]).fails(4, "certificate_changed");
}

#[test]
fn an_oversized_message_is_refused_before_it_is_queued() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    alice.run_with(&["send", "bob", "-"], &"x".repeat((16 << 20) + 1)).fails(7, "too_large");
    // Reading ends in the middle of a sign.
    alice.run_with(&["send", "bob", "-"], &"梨".repeat(6 << 20)).fails(7, "too_large");
    let largest = "x".repeat(64 * 1024);
    let sent = alice.run_with(&["send", "bob", "-"], &largest).ok().row();
    assert_eq!(texts(&bob.recv(&[])), [&*largest]);
    assert_eq!(alice.history("bob").len(), 1);
    let id = sent["id"].as_str().unwrap();
    alice.run_with(&["edit", id, "-"], &format!("{largest}x")).fails(7, "too_large");
}

/// What waits goes out while the program is online.
fn goes_out(who: &Person, id: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = Client::open(OpenOptions { home: who.home.clone(), key: KeySource::File, create: false }).unwrap();
        client.go_online().await.unwrap();
        client.wait_state(id.parse().unwrap(), State::Stored, Duration::from_secs(60)).await.unwrap();
        client.close().await.unwrap();
    });
}

#[test]
fn a_text_that_no_message_holds_goes_as_a_file_and_is_kept_by_its_writer() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    alice.send("bob", "hello");
    bob.recv(&[]);
    let folder = world.path("fetched");
    fs::create_dir(&folder).unwrap();
    let long = |salt: &str| format!("{salt}, and what happened then: ").repeat(40_000);
    let get = |who: &Person, id: &Value, name: &str| {
        let path = folder.join(name);
        who.run(&["file", "get", id.as_str().unwrap(), "--output", path.to_str().unwrap()]).ok();
        fs::read_to_string(path).unwrap()
    };
    let now = long("an hour ago").trim_end().to_owned();
    let sent = alice.run_with(&["send", "bob", "-"], &now).ok().row();
    let row = bob.run(&["recv", "--count", "1"]).ok().row();
    assert_eq!((&row["id"], row["kind"].as_str()), (&sent["id"], Some("file")));
    let file = &row["file"];
    assert_eq!((file["name"].as_str(), file["size"].as_u64()), (Some("message.md"), Some(now.len() as u64)));
    assert!(row["text"].as_str().is_some_and(|text| text.starts_with("an hour ago, and") && text.ends_with(" …")), "{row}");
    assert!(get(&bob, &sent["id"], "bob") == now);

    // Without a server it waits, and its writer can read it; so it can when the server has gone.
    let listen = server.authority().to_owned();
    server.kill();
    let later = long("a day ago").trim_end().to_owned();
    let done = run(alice.command(&["send", "bob", "-", "--timeout", "1s"]), &later);
    let hint = done.fails(5, "unreachable")["hint"].clone();
    assert!(hint.as_str().is_some_and(|hint| hint.contains("kept here as a file") && hint.contains("recv --follow")), "{hint}");
    let queued = done.row();
    assert!(get(&alice, &queued["id"], "queued") == later && get(&alice, &sent["id"], "sent") == now);
    let _server = world.server("server", &["--registration", "open", "--listen", &listen]);
    goes_out(&alice, queued["id"].as_str().unwrap());
    assert_eq!(bob.recv(&["--count", "1"])[0]["id"], queued["id"]);
    assert!(get(&bob, &queued["id"], "bob-2") == later);
}

#[test]
fn a_profile_belongs_to_one_process_at_a_time() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let mut reader = bob.command(&["recv", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap());
    alice.send("bob", "so that we know that it runs");
    lines.read_line(&mut String::new()).unwrap();
    bob.run(&["whoami"]).fails(4, "profile_in_use");
    reader.kill().unwrap();
    reader.wait().unwrap();
    bob.run(&["whoami"]).ok();
}

#[test]
fn two_servers_do_not_share_a_data_folder() {
    let world = World::new();
    let _server = world.server("server", &[]);
    let data = world.path("server");
    run(parlour(&["serve", "--json", "--data", data.to_str().unwrap()]), "").fails(4, "profile_in_use");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_as_such() {
    let world = World::new();
    let server = world.server("server", &[]);
    // Permissions do not stop root, the file system of the kernel does.
    let stranger = Person { home: "/proc/parlour-cannot-be-here".into(), name: "alice".to_owned() };
    let done = stranger.register(&server, &[]);
    assert!([3, 4].contains(&done.code.unwrap()), "{done:?}");
    let below_a_file = world.path("file");
    fs::write(&below_a_file, "").unwrap();
    let stranger = Person { home: below_a_file.join("profile"), name: "alice".to_owned() };
    stranger.register(&server, &[]).fails(4, "read_only");
}

#[test]
fn a_folder_without_write_permission_is_told_as_such() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let server = world.server("server", &[]);
    let folder = world.path("locked");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let alice = Person { home: folder.join("profile"), name: "alice".to_owned() };
    let done = alice.register(&server, &[]);
    if fs::write(folder.join("probe"), "").is_ok() {
        // This user is not stopped by permissions (root), so the program is not either.
        done.ok();
    } else {
        done.fails(4, "read_only");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let world = World::new();
    let server = world.server("server", &[]);
    let bob = world.registered("bob", &server);
    let Some(disk) = Disk::of_two_megabytes(&world.path("disk")) else {
        // A small disk of its own takes root; `client` tests the same with a limit of the database.
        return;
    };
    let alice = Person { home: disk.0.join("profile"), name: "alice".to_owned() };
    alice.register(&server, &[]).ok();
    alice.send("bob", "while there is room");
    let filler = disk.0.join("filler");
    while fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap().write_all(&[0; 4096]).is_ok() {}
    let error = alice.run_with(&["send", "bob", "-"], &"x".repeat(60_000)).fails(7, "disk_full");
    assert!(error["hint"].as_str().is_some());
    fs::remove_file(&filler).unwrap();
    alice.send("bob", "when there is room again");
    assert_eq!(texts(&bob.recv(&[])), ["while there is room", "when there is room again"]);
    assert_eq!(texts(&alice.history("bob")), ["while there is room", "when there is room again"]);
}

#[test]
fn a_profile_under_a_passphrase_opens_with_nothing_else() {
    let world = World::new();
    let server = world.server("server", &[]);
    let alice = world.person("alice");
    let with = |args: &[&str], phrase: Option<&str>| {
        let mut command = alice.command(args);
        if let Some(phrase) = phrase {
            command.env("PARLOUR_PASSPHRASE", phrase);
        }
        run(command, &format!("{}\n", alice.password()))
    };
    with(&["register", "--server", &server.full_url(), "alice", "--password-stdin"], Some("open sesame")).ok();
    with(&["whoami"], Some("open sesame")).ok();
    with(&["whoami"], Some("open barley")).fails(4, "wrong_passphrase");
    with(&["whoami"], None).fails(2, "usage");
}

#[test]
fn wrong_usage_is_told_in_the_form_that_was_asked_for() {
    let world = World::new();
    let alice = world.person("alice");
    for words in [
        &["nonsense"][..],
        &["send"],
        &["send", "bob"],
        &["whoami", "--nonsense"],
        &["register", "--server", "http://x", "alice"],
        &["register", "alice"],
        &["send", "bob", "x", "--timeout", "soon"],
        &["recv", "--count", "0"],
        &["serve", "--registration", "sometimes"],
        &["serve", "--cert", "only.pem"],
        &["send", "bob", "x", "--wait", "read"],
    ] {
        alice.run(words).fails(2, "usage");
    }
    for (words, told) in [
        (&["register"][..], "--server <URL>, <NAME>"),
        (&["sned", "bob", "x"], "'send'"),
        (&["registration", "--server", "127.0.0.1:9"], "write wss://127.0.0.1:9,"),
        (&["login", "--server", "https://a", "x"], "write wss://HOST:PORT,"),
        (&["send", "bob", "x", "--expire", "0s"], "the least is 1s"),
        (&["send", "bob", "x", "--expire", "999ms"], "the least is 1s"),
        (&["send", "bob", "x", "--wait", "read"], "[possible values: stored, delivered]"),
    ] {
        let error = alice.run(words).fails(2, "usage");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(told) && !message.contains('\n')), "{error}");
    }
    // No password and nobody to ask.
    alice.run(&["register", "--server", "wss://127.0.0.1:1", "alice"]).fails(2, "usage");
    let plain = run(parlour(&["nonsense"]), "");
    assert_eq!(plain.code, Some(2));
    assert!(plain.stdout.is_empty() && plain.stderr.contains("Usage"), "{plain:?}");
}

#[test]
fn without_json_people_read_text_and_errors_are_one_line_and_a_hint() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    alice.send("bob", "bell\u{7} and \u{1b}[2Jescape");
    let home = bob.home.to_str().unwrap();
    let done = run(parlour(&["recv", "--home", home]), "").ok();
    assert!(done.stdout.contains("alice: bell\u{fffd} and \u{fffd}[2Jescape"), "{done:?}");
    let done = run(parlour(&["send", "--home", home, "nobody", "x"]), "");
    assert_eq!(done.code, Some(3));
    assert!(done.stderr.starts_with("error: ") && done.stderr.contains("\n  hint: ") && done.stdout.is_empty(), "{done:?}");
}

#[test]
fn the_first_connection_says_what_it_trusts() {
    let world = World::new();
    let server = world.server("server", &[]);
    let home = world.path("home");
    let words = ["register", "--home", home.to_str().unwrap(), "--server", &server.url, "alice", "--password-stdin"];
    let done = run(parlour(&words), "x\n").ok();
    assert!(done.stderr.contains(&server.fingerprint) && done.stderr.contains("first connection"), "{done:?}");
    assert!(done.stderr.contains("encrypted under a key that lies beside it"), "{done:?}");
}

#[test]
fn a_server_shows_the_certificate_that_it_is_given() {
    let world = World::new();
    let first = world.server("first", &[]);
    let (cert, key) = (world.path("first").join("certificate.pem"), world.path("first").join("key.pem"));
    let second = world.server("second", &["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert_eq!(second.fingerprint, first.fingerprint);
    assert!(!world.path("second").join("key.pem").exists(), "it makes none of its own");
    world.person("alice").register(&second, &[]).ok();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    alice.send("bob", "unheard");
    let mut command = bob.command(&["recv"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let done = finish(child, Duration::from_secs(60));
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(texts(&bob.recv(&[])), ["unheard"], "what was not printed is not marked as printed");
}

#[test]
fn completions_and_man_pages_come_from_the_same_definitions() {
    for (shell, sign) in [("bash", "_parlour()"), ("zsh", "#compdef parlour"), ("fish", "complete -c parlour")] {
        let done = run(parlour(&["completions", shell]), "").ok();
        assert!(done.stdout.contains(sign) && done.stdout.contains("registration"), "{shell}");
    }
    run(parlour(&["completions", "cmd.exe", "--json"]), "").fails(2, "usage");
    let page = run(parlour(&["man"]), "").ok().stdout;
    assert!(page.contains(".TH parlour") && page.contains("EXIT") || page.contains("Exit status"), "{page}");
    let world = World::new();
    let folder = world.path("man");
    run(parlour(&["man", "--output", folder.to_str().unwrap()]), "").ok();
    assert!(fs::read_to_string(folder.join("parlour-send.1")).unwrap().contains("delivered"));
}

#[test]
fn help_and_version_are_asked_for_and_therefore_no_error() {
    for words in [&["--help"][..], &["help"], &["help", "send"], &["--version"], &["send", "--help"]] {
        let done = run(parlour(words), "").ok();
        assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn the_demonstration_checks_itself() {
    let done = run(parlour(&["demo", "--json"]), "").ok();
    let rows = done.rows();
    assert!(rows.len() >= 9, "{done:?}");
    for row in rows {
        assert_eq!(row["ok"], true, "{row}");
        assert!(row["step"].is_string() && row["detail"].is_string() && row["ms"].is_u64(), "{row}");
    }
}
