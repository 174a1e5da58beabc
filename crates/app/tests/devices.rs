//! Several devices, recovery and backup, with the real program and a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::{Child, Stdio};

use serde_json::json;

use self::support::{Person, Server, World, texts};

/// Alice and bob, who have written to each other.
fn acquainted(world: &World) -> (Server, Person, Person) {
    let server = world.server("server", &[]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    alice.send("bob", "long ago");
    assert_eq!(texts(&bob.recv(&["--count", "1"])), ["long ago"]);
    bob.send("alice", "not yet read");
    (server, alice, bob)
}

/// A device that is there while others do things.
struct Running(Child);

impl Running {
    fn start(person: &Person) -> Self {
        let mut command = person.command(&["recv", "--follow", "--timeout", "120s", "--from", "bob"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_device_has_the_history_and_what_the_first_one_knows_from_the_password_alone() {
    let world = World::new();
    let (server, alice, bob) = acquainted(&world);
    let carol = world.registered("carol", &server);
    carol.send("alice", "buy my soap");
    alice.recv(&["--count", "2"]);
    alice.run(&["contacts", "rename", "bob", "Bobby"]).ok();
    alice.run(&["verify", "bob", "--confirm"]).ok();
    alice.run(&["contacts", "block", "carol"]).ok();
    alice.run(&["draft", "bob", "half", "a", "sentence"]).ok();

    let second = world.person("alice-2");
    let running = Running::start(&alice);
    second.login(&server, "alice", &alice.password()).ok();
    assert_eq!(texts(&second.history("Bobby")), ["long ago", "not yet read"]);
    assert!(second.recv(&["--timeout", "1s"]).is_empty(), "it was printed on the first device");
    let contacts = second.run(&["contacts"]).ok().rows();
    let of = |name: &str| contacts.iter().find(|row| row["user"] == name || row["name"] == name).unwrap().clone();
    assert_eq!((&of("Bobby")["verified"], &of("carol")["blocked"]), (&json!(true), &json!(true)), "{contacts:?}");
    assert_eq!(second.run(&["draft", "bob"]).ok().row()["draft"], "half a sentence");
    drop(running);

    // Both go on, each with what the other wrote.
    second.send("bob", "from the second");
    assert_eq!(texts(&bob.recv(&["--count", "1"])), ["from the second"]);
    alice.recv(&["--timeout", "2s"]);
    assert_eq!(texts(&alice.history("bob")), ["long ago", "not yet read", "from the second"]);
}

#[test]
fn a_code_brings_the_account_back_and_ends_the_devices_that_are_lost() {
    let world = World::new();
    let (server, alice, bob) = acquainted(&world);
    let made = alice.run_with(&["recovery-code", "--password-stdin"], &format!("{}\n", alice.password())).ok();
    let code = made.row()["code"].as_str().unwrap().to_owned();
    assert_eq!(code.len(), 34, "{code}");

    let url = server.full_url();
    let found = world.person("alice-found");
    let recover = ["recover", "--server", &url, "alice", "--code-stdin", "--password-stdin"];
    found.run_with(&recover, "MIST-YPED\nnext\n").fails(2, "usage");
    // One letter is another one, which the check in the code always finds.
    let wrong = if code.starts_with('2') { "3" } else { "2" };
    let mistyped = format!("{wrong}{}", &code[1..]);
    found.run_with(&recover, &format!("{mistyped}\nnext\n")).fails(2, "usage");
    let other = parlour_client_code();
    found.run_with(&recover, &format!("{other}\nnext\n")).fails(4, "wrong_password");
    let row = found.run_with(&recover, &format!("{}\nnext\n", code.to_lowercase().replace('-', " "))).ok().row();
    assert_eq!(row["account"], "alice");
    assert_eq!(found.run(&["devices"]).ok().rows().len(), 1);
    alice.run(&["send", "bob", "am I still here?"]).fails(4, "device_revoked");

    assert_eq!(
        texts(&bob.recv(&["--timeout", "2s"])).iter().filter(|text| text.starts_with("alice's devices have changed")).count(),
        1
    );
    found.send("bob", "it is me");
    assert_eq!(texts(&bob.recv(&["--count", "1"])), ["it is me"]);
    let next = world.person("alice-next");
    next.login(&server, "alice", &alice.password()).fails(4, "wrong_password");
    next.login(&server, "alice", "next").ok();
}

/// A well-formed code of nobody.
fn parlour_client_code() -> String {
    // All zeros: the check character of zero is zero.
    "0".repeat(28)
}

#[test]
fn a_device_that_was_ended_is_out_of_the_conversations_when_the_command_is_over() {
    let world = World::new();
    let (server, alice, bob) = acquainted(&world);
    let second = world.person("alice-2");
    let row = second.login(&server, "alice", &alice.password()).ok().row();
    alice.run(&["group", "create", "club", "bob"]).ok();
    alice.send("#club", "hello");
    // What alice's devices did is told where somebody else reads it; what bob's own would do is not.
    let changes = |when: &str| {
        bob.recv(&["--timeout", "1s"]);
        let rows = bob.history("#club");
        assert!(texts(&rows).contains(&"hello".to_owned()), "{when}: {rows:?}");
        rows.iter().filter(|row| row["text"] == "Devices changed: alice.").count()
    };
    let before = changes("before");
    let revoke = ["devices", "revoke", row["device"].as_str().unwrap(), "--password-stdin"];
    alice.run_with(&revoke, &format!("{}\n", alice.password())).ok();
    assert_eq!(changes("after"), before + 1);
}

#[test]
fn a_backup_is_all_that_a_lone_new_device_needs() {
    let world = World::new();
    let (server, alice, bob) = acquainted(&world);
    assert_eq!(alice.run(&["backup", "status"]).ok().row()["backup"], "off");
    alice.run(&["backup", "now"]).fails(4, "forbidden");
    let on = alice.run(&["backup", "on"]).ok().row();
    assert_eq!((&on["backup"], &on["pending"], &on["version"]), (&json!("on"), &json!(0), &json!(1)));
    bob.send("alice", "after the backup");
    alice.recv(&["--count", "2"]);
    alice.run(&["contacts", "rename", "bob", "Bobby"]).ok();
    assert_eq!(alice.run(&["backup", "now"]).ok().row()["version"], 2);
    let code = alice.run_with(&["recovery-code", "--password-stdin"], &format!("{}\n", alice.password())).ok();
    let code = code.row()["code"].as_str().unwrap().to_owned();

    let new = world.person("alice-new");
    let url = server.full_url();
    let recover = ["recover", "--server", &url, "alice", "--code-stdin", "--password-stdin"];
    new.run_with(&recover, &format!("{code}\nnext\n")).ok();
    let history = texts(&new.history("Bobby"));
    assert_eq!(history, ["long ago", "not yet read", "after the backup"]);
    assert!(new.recv(&["--timeout", "1s"]).is_empty(), "read marks are in it");

    // On a profile that has everything, nothing is doubled.
    assert_eq!(new.run(&["backup", "restore"]).ok().row()["messages"], 0);
    assert_eq!(texts(&new.history("Bobby")), history);
    assert_eq!(new.run(&["backup", "on"]).ok().row()["version"], 3);
    assert_eq!(new.run(&["backup", "off"]).ok().row()["backup"], "off");
    new.run(&["backup", "restore"]).fails(3, "file_not_found");
}

/// The machine is lost: nobody has ended its device, which stands in the list and never answers.
#[test]
fn a_backup_opens_by_the_password_when_the_only_device_is_lost() {
    let world = World::new();
    let (server, alice, bob) = acquainted(&world);
    alice.run(&["contacts", "rename", "bob", "Bobby"]).ok();
    alice.run(&["backup", "on"]).ok();
    // What seals the backup is kept under the password's export key, so it has to follow the password.
    let passwords = format!("{}\nnext\n", alice.password());
    alice.run_with(&["passwd", "--password-stdin"], &passwords).ok();
    bob.send("alice", "after the backup");
    alice.recv(&["--count", "2"]);
    assert_eq!(alice.run(&["backup", "now"]).ok().row()["version"], 2);

    let new = world.person("alice-new");
    new.login(&server, "alice", &alice.password()).fails(4, "wrong_password");
    new.login(&server, "alice", "next").ok();
    assert_eq!(texts(&new.history("Bobby")), ["long ago", "not yet read", "after the backup"]);
    assert_eq!(new.run(&["devices"]).ok().rows().len(), 2, "the lost one is still listed");
    new.send("bob", "from the new one");
    assert_eq!(texts(&bob.recv(&["--count", "1"])), ["from the new one"]);
}
