//! Groups on the command line: the real binary, for every command and every error.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};

use self::support::{Person, Server, World, parlour, run, texts};

fn three_people(world: &World) -> (Server, Person, Person, Person) {
    let server = world.server("server", &[]);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.registered(name, &server));
    (server, alice, bob, carol)
}

fn members(person: &Person, group: &str) -> Vec<(String, String)> {
    let rows = person.run(&["group", "members", group]).ok().rows();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut members: Vec<_> = rows.iter().map(|row| (text(&row["member"]), text(&row["role"]))).collect();
    members.sort();
    members
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, role)| ((*name).to_owned(), (*role).to_owned())).collect()
}

/// What people wrote, without what the program says.
fn said(rows: &[Value]) -> Vec<String> {
    texts(&rows.iter().filter(|row| row["kind"] == "text").cloned().collect::<Vec<_>>())
}

#[test]
fn a_group_is_made_listed_written_to_and_read() {
    let world = World::new();
    let (_server, alice, bob, carol) = three_people(&world);
    let made = alice.run(&["group", "create", "Friends", "bob", "carol"]).ok().row();
    assert_eq!((&made["group"], &made["suite"], &made["members"]), (&json!("#friends"), &json!("hybrid"), &json!(3)));
    assert_eq!(made["id"].as_str().unwrap().len(), 64);
    let sent = alice.send("#friends", "hello all");
    assert_eq!((&sent["conversation"], &sent["state"]), (&made["id"], &json!("stored")));
    for person in [&bob, &carol] {
        let rows = person.recv(&[]);
        assert_eq!((&rows[0]["kind"], &rows[0]["text"]), (&json!("system"), &json!("You were added to #friends.")));
        let row = rows.last().unwrap();
        assert_eq!((&row["from"], &row["group"], &row["text"]), (&json!("alice"), &json!("#friends"), &json!("hello all")));
        assert_eq!(row["conversation"], made["id"]);
        let listed = person.run(&["group", "list"]).ok().row();
        assert_eq!((&listed["group"], &listed["id"], &listed["role"]), (&json!("#friends"), &made["id"], &json!("member")));
    }
    assert_eq!(members(&bob, "#friends"), pairs(&[("alice", "admin"), ("bob", "member"), ("carol", "member")]));
    assert_eq!(members(&bob, "FRIENDS").len(), 3, "the # may be left out");
    let shown = run(parlour(&["--home", bob.home.to_str().unwrap(), "group", "members", "friends"]), "").ok().stdout;
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!((lines[0], lines.len()), ("#friends  3 members, hybrid encryption", 4), "{shown}");
    bob.send("#friends", "hello alice");
    assert_eq!(texts(&alice.recv(&["--from", "#friends"])), ["hello alice"]);
    assert_eq!(said(&carol.history("#friends")), ["hello all", "hello alice"]);
    let status = alice.run(&["status", sent["id"].as_str().unwrap()]).ok().row();
    assert_eq!(status["state"], "read");
    let mut names: Vec<_> = status["devices"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bob", "carol"]);
}

#[test]
fn people_come_and_go_and_read_what_is_theirs() {
    let world = World::new();
    let (_server, alice, bob, carol) = three_people(&world);
    alice.run(&["group", "create", "club", "bob"]).ok();
    alice.send("#club", "before");
    let added = alice.run(&["group", "add", "#club", "carol"]).ok().row();
    assert_eq!((&added["member"], &added["role"]), (&json!("carol"), &json!("member")));
    bob.send("#club", "between");
    assert_eq!(said(&carol.recv(&[])), ["between"]);
    let removed = alice.run(&["group", "remove", "#club", "carol"]).ok().row();
    assert_eq!(removed, json!({"member": "carol", "group": "#club", "removed": true}));
    alice.send("#club", "after");
    assert_eq!(texts(&carol.recv(&[])), ["You are not in #club any more."], "she was away");
    carol.run(&["send", "#club", "x"]).fails(4, "not_member");
    assert!(carol.run(&["group", "list"]).ok().rows().is_empty());
    assert_eq!(said(&bob.recv(&[])), ["before", "after"], "bob's own is not printed");
    assert_eq!(said(&carol.history("#club")), ["between"], "the history stays");
}

#[test]
fn a_newcomer_is_given_what_the_policy_says() {
    let world = World::new();
    let (server, alice, bob, carol) = three_people(&world);
    let made = alice.run(&["group", "create", "club", "bob", "--history", "2"]).ok().row();
    assert_eq!(made["history"], "2");
    alice.run(&["group", "create", "other", "--history", "some"]).fails(2, "usage");
    for text in ["one", "two", "three"] {
        alice.send("#club", text);
    }
    bob.recv(&[]);
    alice.run(&["group", "add", "#club", "carol"]).ok();
    // It is there without being new.
    assert_eq!(texts(&carol.recv(&[])), ["You were added to #club."]);
    let history = carol.history("#club");
    assert_eq!(said(&history), ["two", "three"]);
    for row in history.iter().filter(|row| row["kind"] == "text") {
        assert_eq!((&row["from"], &row["shared_by"]), (&json!("alice"), &json!("alice")));
    }
    assert_eq!(texts(&carol.run(&["search", "three"]).ok().rows()), ["three"]);
    assert!(bob.history("#club").iter().all(|row| row.get("shared_by").is_none()));
    let folder = world.path("export");
    carol.run(&["export", "#club", "--output", folder.to_str().unwrap()]).ok();
    let karl = world.registered("karl", &server);
    karl.run(&["import", folder.to_str().unwrap()]).ok();
    for row in karl.history("#club").iter().filter(|row| row["kind"] == "text") {
        assert_eq!(row["shared_by"], "alice", "{row}");
    }
    let dave = world.registered("dave", &server);
    alice.run(&["group", "history", "#club", "none"]).ok();
    alice.run(&["group", "add", "#club", "dave"]).ok();
    alice.send("#club", "four");
    assert_eq!(said(&dave.recv(&[])), ["four"]);
    assert_eq!(said(&dave.history("#club")), ["four"]);
}

#[test]
fn roles_names_and_leaving() {
    let world = World::new();
    let (_server, alice, bob, carol) = three_people(&world);
    alice.run(&["group", "create", "club", "bob", "carol"]).ok();
    bob.recv(&[]);
    for words in [
        &["group", "add", "#club", "carol"][..],
        &["group", "remove", "#club", "carol"],
        &["group", "role", "#club", "bob", "admin"],
        &["group", "rename", "#club", "mine"],
        &["group", "history", "#club", "all"],
    ] {
        bob.run(words).fails(4, "forbidden");
    }
    alice.run(&["group", "role", "#club", "alice", "member"]).fails(4, "forbidden");
    let role = alice.run(&["group", "role", "#club", "bob", "admin"]).ok().row();
    assert_eq!((&role["member"], &role["role"]), (&json!("bob"), &json!("admin")));
    let renamed = bob.run(&["group", "rename", "#club", "team"]).ok().row();
    assert_eq!((&renamed["group"], &renamed["role"]), (&json!("#team"), &json!("admin")));
    let history = bob.run(&["group", "history", "#team", "20"]).ok().row();
    assert_eq!(history["history"], "20");
    let left = alice.run(&["group", "leave", "#team"]).ok().row();
    assert_eq!((&left["group"], &left["left"]), (&json!("#team"), &json!(true)));
    alice.run(&["group", "leave", "#team"]).fails(4, "not_member");
    bob.run(&["group", "leave", "team"]).ok();
    carol.recv(&[]);
    assert_eq!(members(&carol, "#team"), pairs(&[("carol", "admin")]), "the last one is admin");
    carol.run(&["group", "leave", "#team"]).ok();
    alice.run(&["group", "create", "team"]).ok();
}

#[test]
fn names_are_one_namespace_and_can_be_asked_for() {
    let world = World::new();
    let (_server, alice, bob, _carol) = three_people(&world);
    alice.run(&["group", "create", "club"]).ok();
    alice.run(&["group", "create", "bob"]).fails(6, "name_taken");
    bob.run(&["group", "create", "#CLUB"]).fails(6, "name_taken");
    bob.run(&["group", "create", "two words"]).fails(2, "usage");
    let exists = bob.run(&["group", "exists", "club"]).ok().row();
    assert_eq!(exists, json!({"group": "#club", "exists": true}));
    let done = bob.run(&["group", "exists", "#nothing"]);
    done.fails(3, "conversation_not_found");
    assert_eq!(done.row(), json!({"group": "#nothing", "exists": false}));
    alice.run(&["group", "create", "team", "nobody"]).fails(3, "user_not_found");
    alice.run(&["group", "add", "#club", "bob"]).ok();
    alice.run(&["group", "add", "#club", "bob"]).fails(6, "already_exists");
}

#[test]
fn what_is_not_there_is_not_found_and_without_a_server_nothing_is_queued() {
    let world = World::new();
    let (server, alice, _bob, _carol) = three_people(&world);
    alice.run(&["group", "create", "club", "bob"]).ok();
    for words in [
        &["group", "members", "#nothing"][..],
        &["group", "add", "#nothing", "bob"],
        &["group", "leave", "#nothing"],
        &["send", "#nothing", "x"],
        &["history", "#nothing"],
    ] {
        alice.run(words).fails(3, "conversation_not_found");
    }
    alice.run(&["group", "remove", "#club", "carol"]).fails(3, "user_not_found");
    alice.run(&["group", "history", "#club", "some"]).fails(2, "usage");
    assert_eq!(run(parlour(&["group"]), "").code, Some(2));
    assert!(server.stop().success());
    alice.run(&["group", "add", "#club", "carol"]).fails(5, "unreachable");
    assert_eq!(members(&alice, "#club"), pairs(&[("alice", "admin"), ("bob", "member")]));
    let queued = alice.run(&["send", "#club", "later", "--timeout", "1s"]);
    queued.fails(5, "unreachable");
    assert_eq!(queued.row()["state"], "queued");
}
