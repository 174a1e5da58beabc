//! What the demonstration plays on: a temporary folder, a server, people; and how a step is timed and told.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::PathBuf,
    time::{Duration, Instant},
};

use parlour_client::{Client, Code, Error, Event, KeySource, Login, Message, OpenOptions, Page, Register, ServerUrl};
use parlour_serverd::{Running, config::RawConfig};
use serde::Serialize;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::bug;
use crate::cli::{Failure, output::Output};

/// How long anything on this machine may take before it counts as not happening.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks for what need not be new.
const LOOK: Duration = Duration::from_millis(50);

/// What a step found that should not be; or what it can say when all is well.
pub(super) type Checked<T = String> = Result<T, String>;

/// One step, as told.
#[derive(Serialize)]
struct StepRow<'a> {
    step: &'a str,
    ok: bool,
    detail: &'a str,
    ms: u64,
}

/// The stage.
pub(super) struct Stage {
    output: Output,
    folder: TempDir,
    server: Option<Running>,
    /// The server's address, once it has started; it keeps its port over a restart.
    url: Option<ServerUrl>,
    people: BTreeMap<&'static str, Client>,
    steps: u32,
}

impl Stage {
    /// An empty stage.
    pub(super) fn new(output: Output) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("parlour-demo-").tempdir();
        let folder = folder.map_err(|error| Error::new(Code::READ_ONLY, format!("cannot make a temporary folder: {error}")))?;
        Ok(Self { output, folder, server: None, url: None, people: BTreeMap::new(), steps: 0 })
    }

    /// How many steps have been played.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Plays one step and tells how it went.
    #[expect(clippy::disallowed_methods, reason = "a face is a driver; the time is only shown")]
    pub(super) async fn step(&mut self, step: &str, scene: impl AsyncFnOnce(&mut Self) -> Checked) -> Result<(), Failure> {
        let start = Instant::now();
        let outcome = match tokio::time::timeout(4 * PATIENCE, scene(self)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("did not end within {} s", 4 * PATIENCE.as_secs())),
        };
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps += 1;
        let (ok, detail) = match &outcome {
            Ok(detail) => (true, detail.as_str()),
            Err(difference) => (false, difference.as_str()),
        };
        let row = StepRow { step, ok, detail, ms };
        self.output.row(&row, |output| {
            let mark = if ok { "ok  " } else { "FAIL" };
            format!("{mark} {} {}\n     {detail}", output.bold(step), output.dim(&format!("({ms} ms)")))
        })?;
        outcome.map(|_| ()).map_err(|difference| bug(step, &difference))
    }

    /// Starts the server, on the same port as before if it ran before.
    pub(super) async fn start_server(&mut self) -> Checked<ServerUrl> {
        let listen = self.url.as_ref().map_or_else(|| "127.0.0.1:0".to_owned(), ServerUrl::authority);
        let raw = RawConfig { data: Some(self.folder.path().join("server")), listen: Some(listen), ..RawConfig::default() };
        let config = raw.resolve().map_err(told)?;
        let running = parlour_serverd::start(config).await.map_err(told)?;
        let url = running.server_url().clone();
        self.server = Some(running);
        self.url = Some(url.clone());
        Ok(url)
    }

    /// Stops the server as SIGTERM does.
    pub(super) async fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            server.join().await;
        }
    }

    /// A place in the stage's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's address.
    pub(super) fn url(&self) -> Checked<ServerUrl> {
        self.url.clone().ok_or_else(|| "no server has been started".to_owned())
    }

    /// Somebody who is on the stage.
    pub(super) fn person(&self, name: &str) -> Checked<Client> {
        self.people.get(name).cloned().ok_or_else(|| format!("{name} is not there"))
    }

    /// Opens a profile of the given name; makes it if there is none.
    fn profile(&self, folder: &str) -> Checked<Client> {
        let home: PathBuf = self.folder.path().join(folder);
        Client::open(OpenOptions { home, key: KeySource::File, create: true }).map_err(told)
    }

    /// Registers somebody.
    pub(super) async fn register(&mut self, name: &'static str) -> Checked<()> {
        let client = self.profile(name)?;
        let outcome = client.register(self.registration(name)?).await;
        self.people.insert(name, client);
        outcome.map(|_| ()).map_err(told)
    }

    /// Tries to register `name` from a profile of its own; gives the code of the refusal.
    pub(super) async fn refused_registration(&self, name: &str) -> Checked<Code> {
        let client = self.profile("stranger")?;
        let outcome = client.register(self.registration(name)?).await;
        client.close().await.map_err(told)?;
        outcome.map_or_else(|error| Ok(error.code), |_| Err(format!("{name} could register a second time")))
    }

    fn registration(&self, name: &str) -> Checked<Register> {
        let label = "demo".to_owned();
        Ok(Register { server: self.url()?, name: name.to_owned(), password: password(name), invite: None, label })
    }

    /// Logs in as `name` on the profile `folder`, which joins the stage under that name.
    pub(super) async fn login(
        &mut self,
        folder: &'static str,
        name: &str,
        password: Zeroizing<String>,
    ) -> Checked<Result<(), Code>> {
        let client = self.profile(folder)?;
        let login = Login { server: self.url()?, name: name.to_owned(), password, label: "second".to_owned() };
        match client.login(login).await {
            Ok(_) => {
                self.people.insert(folder, client);
                Ok(Ok(()))
            }
            Err(error) => {
                client.close().await.map_err(told)?;
                Ok(Err(error.code))
            }
        }
    }

    /// Takes somebody off the stage, as a program that ends.
    pub(super) async fn leave(&mut self, name: &str) -> Checked<()> {
        match self.people.remove(name) {
            Some(client) => client.close().await.map_err(told),
            None => Err(format!("{name} is not there")),
        }
    }

    /// Brings somebody back, as a program that starts.
    pub(super) async fn return_(&mut self, name: &'static str) -> Checked<Client> {
        let client = self.profile(name)?;
        self.people.insert(name, client.clone());
        client.go_online().await.map_err(told)?;
        Ok(client)
    }

    /// Sends everybody home.
    pub(super) async fn clear(&mut self) {
        for client in std::mem::take(&mut self.people).into_values() {
            // The profiles vanish with the folder.
            let _ = client.close().await;
        }
        self.stop_server().await;
    }
}

/// Everybody's password in this play.
pub(super) fn password(name: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("the password of {name}"))
}

/// An error as the difference of a step.
pub(super) fn told(error: impl Display) -> String {
    error.to_string()
}

/// Checks that what is found is what is expected.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Checked<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

/// Reads `count` messages that somebody has not seen yet, and marks them as seen.
pub(super) async fn read(who: &Client, count: usize) -> Checked<Vec<Message>> {
    let mut events = who.events();
    let mut read: Vec<Message> = Vec::new();
    let all = async {
        loop {
            let unshown = who.unshown(None, 500).await.map_err(told)?;
            let ids: Vec<_> = unshown.iter().map(|message| message.id).collect();
            who.mark_shown(&ids).await.map_err(told)?;
            read.extend(unshown);
            if read.len() >= count {
                return Ok(());
            }
            while !matches!(events.next().await, Some(Event::Message(_) | Event::Missed(_) | Event::Synced) | None) {}
        }
    };
    let outcome: Result<Checked<()>, _> = tokio::time::timeout(PATIENCE, all).await;
    match outcome {
        Ok(done) => done.map(|()| read),
        Err(_) => Err(format!("{} of {count} messages came within {} s", read.len(), PATIENCE.as_secs())),
    }
}

/// Waits until a device has a text of a conversation, seen or not: what one device has shown is new on none of the account's others.
pub(super) async fn holds(who: &Client, with: &str, text: &str) -> Checked<()> {
    let page = Page { limit: 500, ..Page::default() };
    let there = async {
        while !who.history(with, page).await.map_err(told)?.iter().any(|message| message.text == text) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, there)
        .await
        .unwrap_or_else(|_| Err(format!("{text:?} did not come within {} s", PATIENCE.as_secs())))
}
