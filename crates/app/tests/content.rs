//! Changing, finding, taking out and in what was written, through the real binary.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;

use serde_json::{Value, json};

use self::support::{Person, Server, World, parlour, run, texts};

fn two_people(world: &World) -> (Server, Person, Person) {
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    (server, alice, bob)
}

fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap()
}

#[test]
fn a_message_is_reacted_to_edited_and_taken_back() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let sent = alice.send("bob", "at nien");
    bob.recv(&[]);
    let row = bob.run(&["react", &id(&sent)[..13], "👍"]).ok().row();
    assert_eq!((&row["id"], &row["reactions"]), (&sent["id"], &json!([{"emoji": "👍", "from": "bob"}])));
    let row = alice.run(&["edit", id(&sent), "at", "nine"]).ok().row();
    assert_eq!((&row["text"], &row["edited"]), (&json!("at nine"), &json!(true)));
    assert_eq!(row["reactions"], json!([{"emoji": "👍", "from": "bob"}]));
    let row = &bob.history("alice")[0];
    assert_eq!((&row["text"], &row["edited"], &row["kind"]), (&json!("at nine"), &json!(true), &json!("text")));
    let row = bob.run(&["react", id(&sent), "👍", "--remove"]).ok().row();
    assert_eq!(row["reactions"], json!([]));
    bob.run(&["react", id(&sent), "👍", "--remove"]).fails(3, "message_not_found");
    bob.run(&["edit", id(&sent), "mine"]).fails(4, "forbidden");
    bob.run(&["delete", id(&sent)]).fails(4, "forbidden");
    bob.run(&["react", id(&sent), "two words"]).fails(2, "usage");
    bob.run(&["react", "ffff", "👍"]).fails(3, "message_not_found");
    let row = alice.run(&["delete", id(&sent)]).ok().row();
    assert_eq!((&row["text"], &row["deleted"]), (&json!(""), &json!(true)));
    let row = &bob.history("alice")[0];
    assert_eq!((&row["text"], &row["deleted"], &row["reactions"]), (&json!(""), &json!(true), &json!([])));
    alice.run(&["edit", id(&sent), "again"]).fails(3, "message_not_found");
}

#[test]
fn a_change_without_a_server_is_kept_and_says_so() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let sent = alice.send("bob", "helo");
    let data = world.path("server");
    let authority = server.authority().to_owned();
    assert!(server.stop().success());
    let done = alice.run(&["edit", id(&sent), "hello", "--timeout", "1s"]);
    done.fails(5, "unreachable");
    assert_eq!(done.row()["text"], "hello");
    let _server = Server::start(&data, &["--listen", &authority]);
    alice.recv(&[]);
    assert_eq!(texts(&bob.recv(&[])), ["hello"]);
}

#[test]
fn an_answer_a_mention_and_an_expiry_show_in_rows() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let first = alice.send("bob", "lunch?");
    world.registered("carol", &server);
    let elsewhere = bob.send("carol", "to somebody else");
    for not_there in ["01010101-0101-7101-8101-010101010101", "0101", id(&elsewhere), &id(&elsewhere)[..30]] {
        bob.run(&["send", "alice", "well?", "--reply", not_there]).fails(3, "message_not_found");
    }
    alice.run(&["send", "bob", "@bob", "well?", "--reply", &id(&first)[..20], "--expire", "1h"]).ok();
    let rows = bob.recv(&[]);
    assert_eq!((&rows[0]["mentions_me"], rows[0].get("expires_at")), (&json!(false), None));
    assert_eq!((&rows[1]["mentions_me"], &rows[1]["reply_to"]), (&json!(true), &first["id"]));
    assert!(rows[1]["expires_at"].as_str().unwrap() > rows[1]["stored_at"].as_str().unwrap());
    alice.run(&["send", "bob", "gone at once", "--expire", "1s"]).ok();
    let mut waiting = bob.run(&["history", "alice"]).ok().rows();
    // The program that is asked after its time never shows it again, whoever was first.
    while waiting.len() > 2 {
        waiting = bob.run(&["history", "alice"]).ok().rows();
    }
    assert_eq!(texts(&waiting), ["lunch?", "@bob well?"]);
}

#[test]
fn words_are_found_and_no_query_is_syntax() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let carol = world.registered("carol", &server);
    alice.send("bob", "the Café at nine");
    alice.send("carol", "the cafe is closed");
    carol.recv(&[]);
    bob.recv(&[]);
    let found = |args: &[&str]| texts(&alice.run(args).ok().rows());
    assert_eq!(found(&["search", "cafe"]), ["the cafe is closed", "the Café at nine"]);
    assert_eq!(found(&["search", "THE", "caf", "--in", "bob"]), ["the Café at nine"]);
    for odd in ["\"", "a\" OR b", "NEAR(", "*", "--", "body:x"] {
        alice.run(&["search", "--", odd]).ok();
    }
    alice.run(&["search", "cafe", "--in", "nobody"]).fails(3, "user_not_found");
}

#[test]
fn reading_is_not_told_when_receipts_are_off() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    assert_eq!(bob.run(&["settings"]).ok().row()["receipts"], "on");
    assert_eq!(bob.run(&["settings", "receipts", "off"]).ok().row()["receipts"], "off");
    let sent = alice.send("bob", "hello");
    bob.recv(&[]);
    assert_eq!(alice.run(&["status", id(&sent)]).ok().row()["state"], "delivered");
    assert_eq!(bob.run(&["settings", "arrivals", "off"]).ok().row()["arrivals"], "off");
    let sent = alice.send("bob", "hello again");
    assert_eq!(bob.recv(&[]).len(), 1);
    assert_eq!(alice.run(&["status", id(&sent)]).ok().row()["state"], "stored");
}

#[test]
fn a_profile_is_told_to_those_one_talks_with() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let picture = world.path("me.png");
    fs::write(&picture, b"\x89PNG\r\n\x1a\n and so on").unwrap();
    alice.send("bob", "hello");
    bob.recv(&[]);
    let set = ["profile", "set", "--name", "Alice A.", "--status", "at sea", "--avatar", picture.to_str().unwrap()];
    assert_eq!(alice.run(&set).ok().row()["display_name"], "Alice A.");
    let copy = world.path("copy.png");
    let row = bob.run(&["profile", "show", "alice", "--avatar", copy.to_str().unwrap()]).ok().row();
    assert_eq!((&row["display_name"], &row["status"]), (&json!("Alice A."), &json!("at sea")));
    assert_eq!(fs::read(copy).unwrap(), fs::read(picture).unwrap());
    assert_eq!(bob.run(&["contacts"]).ok().rows()[0]["display_name"], "Alice A.");
    let text = world.path("text.png");
    fs::write(&text, "no picture").unwrap();
    alice.run(&["profile", "set", "--avatar", text.to_str().unwrap()]).fails(2, "usage");
    fs::write(&text, vec![0x89; 100_000]).unwrap();
    alice.run(&["profile", "set", "--avatar", text.to_str().unwrap()]).fails(7, "too_large");
}

#[test]
fn what_is_exported_is_read_without_the_program_and_taken_into_a_new_profile() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    let first = alice.send("bob", "hello\nthere \u{1b}[31m");
    bob.recv(&[]);
    bob.run(&["send", "alice", "hi", "--reply", id(&first)]).ok();
    bob.run(&["react", id(&first), "👋"]).ok();
    alice.recv(&[]);
    alice.run(&["contacts", "rename", "bob", "Bobby"]).ok();
    alice.run(&["contacts", "block", "bob"]).ok();
    let folder = world.path("export");
    let export = ["export", "--output", folder.to_str().unwrap()];
    let row = alice.run(&export).ok().row();
    assert_eq!((&row["messages"], &row["files"]), (&json!(2), &json!(0)));
    alice.run(&export).fails(6, "already_exists");
    let lines = fs::read_to_string(folder.join("messages.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(texts(&lines), ["hello\nthere \u{1b}[31m", "hi"]);
    assert_eq!((&lines[1]["reply_to"], &lines[1]["from"], &lines[1]["with"]), (&first["id"], &json!("Bobby"), &json!("Bobby")));
    assert!(fs::read_to_string(folder.join("README.txt")).unwrap().contains("messages.jsonl"));
    assert!(fs::read_to_string(folder.join("conversations.jsonl")).unwrap().contains("\"direct\""));
    let owner: Value = serde_json::from_str(&fs::read_to_string(folder.join("profile.json")).unwrap()).unwrap();
    assert_eq!((&owner["name"], &owner["read_receipts"]), (&json!("alice"), &json!(true)));
    let contact: Value = serde_json::from_str(&fs::read_to_string(folder.join("contacts.jsonl")).unwrap()).unwrap();
    assert_eq!((&contact["name"], &contact["petname"], &contact["blocked"]), (&json!("bob"), &json!("Bobby"), &json!(true)));

    // The same person begins anew, under another name.
    let anna = world.registered("anna", &server);
    let row = anna.run(&["import", folder.to_str().unwrap()]).ok().row();
    assert_eq!((&row["messages"], &row["known"]), (&json!(2), &json!(0)));
    assert_eq!(anna.run(&["import", folder.to_str().unwrap()]).ok().row()["known"], 2);
    let history = anna.history("Bobby");
    assert_eq!(texts(&history), texts(&lines));
    anna.run(&["send", "bob", "x"]).fails(4, "blocked");
    assert_eq!((&history[0]["from"], &history[0]["outgoing"]), (&json!("anna"), &json!(true)));
    assert_eq!(history[0]["reactions"], json!([{"emoji": "👋", "from": "Bobby"}]));
    assert!(anna.recv(&[]).is_empty());
    assert_eq!(anna.run(&["search", "hello"]).ok().rows().len(), 1);

    anna.run(&["import", world.path("nowhere").to_str().unwrap()]).fails(3, "file_not_found");
    fs::write(folder.join("messages.jsonl"), "{\"id\":1}\n").unwrap();
    anna.run(&["import", folder.to_str().unwrap()]).fails(2, "usage");
    let only = world.path("only");
    alice.run(&["export", "bob", "--output", only.to_str().unwrap()]).ok();
    alice.run(&["export", "nobody", "--output", world.path("none").to_str().unwrap()]).fails(3, "user_not_found");
}

/// Lines of messages name people as their owner calls them, which is nobody's name at the server.
#[test]
fn a_petname_in_an_export_of_one_conversation_is_not_taken_for_a_name() {
    let world = World::new();
    let (server, alice, bob) = two_people(&world);
    alice.send("bob", "hello");
    bob.recv(&[]);
    alice.run(&["contacts", "rename", "bob", "Bobby"]).ok();
    let folder = world.path("export");
    alice.run(&["export", "bob", "--output", folder.to_str().unwrap()]).ok();
    let anna = world.registered("anna", &server);
    anna.run(&["import", folder.to_str().unwrap()]).ok();
    anna.send("Bobby", "it is me");
    assert_eq!(texts(&bob.recv(&[])), ["it is me"]);
    // Older exports say nothing of contacts.
    fs::remove_file(folder.join("contacts.jsonl")).unwrap();
    let annie = world.registered("annie", &server);
    annie.run(&["import", folder.to_str().unwrap()]).ok();
    annie.send("bob", "and me");
    assert_eq!(texts(&annie.history("bob")), ["hello", "and me"]);
}

#[test]
fn nothing_that_others_write_commands_the_terminal() {
    let world = World::new();
    let (_server, alice, bob) = two_people(&world);
    let nasty = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gnp.exe";
    let sent = alice.send("bob", nasty);
    alice.run(&["profile", "set", "--name", "a\u{202e}b"]).ok();
    bob.recv(&[]);
    bob.run(&["react", id(&sent), "\u{202e}x"]).ok();
    let home = bob.home.to_str().unwrap();
    for words in [&["history", "alice"][..], &["search", "owned"], &["contacts"], &["profile", "show", "alice"]] {
        let mut all = vec!["--home", home, "--color", "never"];
        all.extend(words);
        let done = run(parlour(&all), "").ok();
        assert!(!done.stdout.is_empty(), "{words:?}");
        assert!(!done.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{words:?}: {:?}", done.stdout);
    }
}
