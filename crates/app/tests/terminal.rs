//! What a person at a terminal is asked, on a real one: `script` makes it and passes on what is typed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use self::support::{Person, World, finish};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program on a terminal and answers its questions one after the other; its exit status, and what stood on the screen.
fn on_terminal(who: &Person, args: &[&str], dialogue: &[(&str, &str)]) -> (Option<i32>, String) {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let mut line = vec![quoted(env!("CARGO_BIN_EXE_parlour")), "--home".to_owned(), quoted(who.home.to_str().unwrap())];
    line.extend(args.iter().map(|word| quoted(word)));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
    for name in ["PARLOUR_HOME", "PARLOUR_PASSWORD", "PARLOUR_PASSPHRASE", "RUST_LOG"] {
        command.env_remove(name);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let seen = Arc::clone(&screen);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            seen.0.lock().unwrap().extend_from_slice(&buffer[..length]);
            seen.1.notify_all();
        }
    });
    let mut from = 0;
    for (question, answer) in dialogue {
        let find = |screen: &Vec<u8>| {
            let text = &screen[from..];
            text.windows(question.len()).position(|window| window == question.as_bytes())
        };
        let screen = screen.1.wait_timeout_while(screen.0.lock().unwrap(), PATIENCE, |it| find(it).is_none()).unwrap().0;
        let at = find(&screen).unwrap_or_else(|| panic!("no {question:?} on the screen: {}", String::from_utf8_lossy(&screen)));
        from += at + question.len();
        drop(screen);
        // The question is on the screen before the echo is off, and nobody types within this time.
        thread::sleep(Duration::from_millis(300));
        keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    reader.join().unwrap();
    let screen = String::from_utf8_lossy(&screen.0.lock().unwrap()).into_owned();
    (status.code(), screen)
}

#[test]
fn a_password_is_asked_for_twice_when_it_is_made_and_never_shown() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let alice = world.person("alice");
    let url = server.full_url();
    let register = ["register", "--server", &url, "alice"];
    let (code, screen) = on_terminal(&alice, &register, &[("Password: ", "one secret"), ("Once more: ", "another")]);
    assert_eq!((code, screen.contains("not the same")), (Some(2), true), "{screen}");
    let (code, screen) = on_terminal(&alice, &register, &[("Password: ", "one secret"), ("Once more: ", "one secret")]);
    assert_eq!((code, screen.contains("one secret")), (Some(0), false), "{screen}");
    let second = world.person("second");
    let login = ["login", "--server", &url, "alice"];
    let (code, screen) = on_terminal(&second, &login, &[("Password: ", "\u{3}")]);
    assert_eq!((code, screen.contains("error")), (Some(130), false), "{screen}");
    let (code, screen) = on_terminal(&second, &login, &[("Password: ", "a guess")]);
    assert_eq!(code, Some(4), "{screen}");
    let (code, screen) = on_terminal(&second, &login, &[("Password: ", "one secret")]);
    assert_eq!((code, screen.contains("secret")), (Some(0), false), "{screen}");
}

#[test]
fn a_person_is_asked_before_a_large_file_and_a_program_is_not() {
    let world = World::new();
    let server = world.server("server", &["--registration", "open"]);
    let (alice, bob) = (world.registered("alice", &server), world.registered("bob", &server));
    let file = world.path("large.bin");
    fs::File::create(&file).unwrap().set_len(100_000_001).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let id = alice.run(&["send", "bob", "--file", &path(&file), "--timeout", "60s"]).ok().row()["id"].clone();
    let id = id.as_str().unwrap();
    bob.run(&["recv", "--count", "1"]).ok();
    let folder = world.path("downloads");
    fs::create_dir(&folder).unwrap();
    let target = path(&folder);
    let get = ["file", "get", id, "--output", &target];
    let question = "large.bin has 100.0 MB. Download it? [y/N] ";
    let (code, screen) = on_terminal(&bob, &get, &[(question, "no")]);
    assert_eq!((code, screen.contains("nothing was downloaded")), (Some(5), true), "{screen}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let (code, screen) = on_terminal(&bob, &get, &[(question, "y")]);
    assert_eq!((code, screen.contains("100 % of ")), (Some(0), true), "{screen}");
    assert_eq!(folder.join("large.bin").metadata().unwrap().len(), 100_000_001);
    // Away from a terminal the command itself is the wish.
    assert_eq!(bob.run(&["file", "get", id, "--output", &target, "--force"]).ok().row()["size"], 100_000_001);
}

/// Whether a program waits for standard input, as its threads say (Linux).
fn waits_for_input(child: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let mut names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.any(|name| name.trim_end() == "parlour-stdin")
}

/// Text and passwords are waited for in the same way.
#[test]
fn what_waits_for_a_line_that_does_not_come_can_be_stopped() {
    let world = World::new();
    let server = world.server("server", &[]);
    let alice = world.registered("alice", &server);
    for words in [&["send", "bob", "-"][..], &["passwd", "--password-stdin"]] {
        let mut child = alice.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let _keyboard = child.stdin.take();
        while !waits_for_input(&child) {
            assert!(child.try_wait().unwrap().is_none(), "{words:?} did not wait");
            thread::yield_now();
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        assert_eq!(finish(child, PATIENCE).code, Some(130), "{words:?}");
    }
}
