//! Running the real binary: a server on a temporary folder, people with profiles, and what they print.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each test binary uses a part")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// No command of a test takes as long as this; a command that does is hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, away from the environment of whoever runs the tests.
pub fn parlour(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlour"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["PARLOUR_HOME", "PARLOUR_PASSWORD", "PARLOUR_PASSPHRASE", "RUST_LOG", "NO_COLOR", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The JSON objects on standard output; there is nothing else.
    pub fn rows(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?} in {self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The only row.
    pub fn row(&self) -> Value {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "{self:?}");
        rows.remove(0)
    }

    /// Checks that it went well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Checks that it failed with this status and error code, told as one JSON object with a message and a hint.
    #[track_caller]
    pub fn fails(&self, status: i32, code: &str) -> Value {
        assert_eq!(self.code, Some(status), "{self:?}");
        let error: Value = serde_json::from_str(self.stderr.trim()).unwrap_or_else(|_| panic!("no JSON object: {self:?}"));
        assert_eq!(error["error"]["code"], code, "{self:?}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{self:?}");
        error["error"].clone()
    }
}

/// Runs a command to its end, with `input` on standard input.
pub fn run(mut command: Command, input: &str) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends before it has read everything closes the pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    finish(child, PATIENCE)
}

/// Waits for a command to end; one that does not within `patience` is killed, and its status is `None`.
pub fn finish(child: Child, patience: Duration) -> Done {
    let pid = pid(&child);
    let (sender, receiver) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = sender.send(());
        output
    });
    if receiver.recv_timeout(patience).is_err() {
        // It may end by itself at this very moment.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let output = waiting.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_child(child)
}

/// A folder with people and servers in it.
pub struct World {
    folder: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("parlour-test-").tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a server on the data folder `name`.
    pub fn server(&self, name: &str, args: &[&str]) -> Server {
        Server::start(&self.path(name), args)
    }

    /// Somebody with a profile of their own.
    pub fn person(&self, name: &str) -> Person {
        Person { home: self.path(&format!("home-{name}")), name: name.to_owned() }
    }

    /// Somebody who is registered.
    pub fn registered(&self, name: &str, server: &Server) -> Person {
        let person = self.person(name);
        person.register(server, &[]).ok();
        person
    }
}

/// A server process.
pub struct Server {
    child: Option<Child>,
    log: Option<JoinHandle<String>>,
    data: PathBuf,
    pub url: String,
    pub fingerprint: String,
    pub admin: String,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(data: &Path, args: &[&str]) -> Self {
        let mut command = parlour(&["--json", "serve", "--data", data.to_str().unwrap()]);
        let mut child = command.args(args).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the server does not start: {}", log.join().unwrap());
        }
        let row: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(row["event"], "listening");
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let (url, fingerprint, admin) = (text("url"), text("fingerprint"), text("admin"));
        Self { child: Some(child), log: Some(log), data: data.to_owned(), url, fingerprint, admin }
    }

    /// The address with its fingerprint.
    pub fn full_url(&self) -> String {
        format!("{}#{}", self.url, self.fingerprint)
    }

    /// Where it listens.
    pub fn authority(&self) -> &str {
        self.url.strip_prefix("wss://").unwrap()
    }

    pub fn invite(&self, args: &[&str]) -> Value {
        let mut command = parlour(&["invite", "--json", "--data", self.data.to_str().unwrap()]);
        command.args(args);
        run(command, "").ok().row()
    }

    /// Ends it as a power failure would.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.check_log();
    }

    /// Ends it as a service manager would.
    pub fn stop(mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(pid(&child), rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        self.check_log();
        status
    }

    /// A client's mistake, a lost connection or a restart is never an ERROR.
    fn check_log(&mut self) {
        let log = self.log.take().unwrap().join().unwrap();
        assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "the server's log:\n{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Somebody with a profile.
pub struct Person {
    pub home: PathBuf,
    pub name: String,
}

impl Person {
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = parlour(&["--json", "--home", self.home.to_str().unwrap()]);
        command.args(args);
        command
    }

    /// Runs a command with `--json`.
    pub fn run(&self, args: &[impl AsRef<OsStr>]) -> Done {
        run(self.command(args), "")
    }

    /// Runs a command with `--json` and something on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        run(self.command(args), input)
    }

    pub fn password(&self) -> String {
        format!("the password of {}", self.name)
    }

    pub fn register(&self, server: &Server, args: &[&str]) -> Done {
        let (url, input) = (server.full_url(), format!("{}\n", self.password()));
        let mut words = vec!["register", "--server", &url, &self.name, "--password-stdin"];
        words.extend(args);
        self.run_with(&words, &input)
    }

    /// Logs in on this profile under a name.
    pub fn login(&self, server: &Server, name: &str, password: &str) -> Done {
        self.run_with(&["login", "--server", &server.full_url(), name, "--password-stdin"], &format!("{password}\n"))
    }

    /// Sends a text; gives the row.
    pub fn send(&self, to: &str, text: &str) -> Value {
        self.run(&["send", to, text]).ok().row()
    }

    /// The texts of new messages.
    pub fn recv(&self, args: &[&str]) -> Vec<Value> {
        let mut words = vec!["recv"];
        words.extend(args);
        self.run(&words).ok().rows()
    }

    pub fn history(&self, with: &str) -> Vec<Value> {
        self.run(&["history", with, "--limit", "100000"]).ok().rows()
    }
}

/// The `text` of every row.
pub fn texts(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
}

/// A disk of its own, in memory.
pub struct Disk(pub PathBuf);

impl Disk {
    /// Mounts a small disk at `path`; `None` if this user may not.
    pub fn of_two_megabytes(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(path).output();
        mounted.ok()?.status.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
