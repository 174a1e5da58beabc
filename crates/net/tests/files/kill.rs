//! Processes that are killed in the middle of a transfer: this binary starts itself as the other end.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use parlour_net::{Agent, Files, KeepAlive, StationConfig};

use crate::{
    over_every_carrier,
    support::BOUND,
    world::{MIB, Placed, Way, World, anywhere, bounded, config_to, content, hash, identity, open_root, parts, reached, serving},
};

const SIZE: u64 = 256 * MIB;
/// Says to a process of this binary what it is to be.
const ROLE: &str = "PARLOUR_FILES_ROLE";
const FOLDER: &str = "PARLOUR_FILES_FOLDER";
const ADDRESS: &str = "PARLOUR_FILES_ADDRESS";
/// A silent peer is given up soon, and a slow machine is not.
const WATCHFUL: KeepAlive = KeepAlive { idle: Duration::from_millis(500), interval: Duration::from_millis(500), fails: 6 };

over_every_carrier! {
    a_push_goes_on_by_itself_when_the_receiver_was_killed_and_comes_back,
    a_sender_that_was_killed_goes_on_where_the_receiver_is,
    a_receiver_that_was_killed_goes_on_where_it_was,
}

/// A station with a root `box`.
async fn station_in(folder: &Path, address: &str) -> Placed {
    let files = Files::builder().root(open_root(folder)).open().unwrap();
    let mut config = StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap());
    config.handlers = serving(&files);
    Placed::at(address, config).await
}

/// Another process, killed when it is dropped.
pub struct Child {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
    pub address: String,
}

impl Child {
    /// A station with a root `box`. Its files may be no larger than `limit`, if there is one.
    pub fn serving(folder: &Path, address: &str, limit: Option<u64>) -> Self {
        let mut child = Self::start("station", folder, address, limit);
        child.address = child.says("serving ");
        child
    }

    /// An agent that copies files both ways, and says how much its heap has grown.
    pub fn asking(folder: &Path, address: &str) -> Self {
        Self::start("asker", folder, address, None)
    }

    fn start(role: &str, folder: &Path, address: &str, limit: Option<u64>) -> Self {
        let binary = std::env::current_exe().unwrap();
        let arguments = ["--exact", "kill::the_other_process", "--nocapture", "--test-threads=1"];
        let mut command = match limit {
            None => Command::new(&binary),
            Some(limit) => {
                let mut shell = Command::new("sh");
                // The signal is ignored, so that writing fails as on a full disk instead.
                shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", limit / 512)).arg(&binary);
                shell
            }
        };
        command.args(arguments).env(ROLE, role).env(FOLDER, folder).env(ADDRESS, address);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = process.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines, address: address.to_owned() }
    }

    /// Waits for a line with this word, and gives what follows it.
    pub fn says(&self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(BOUND).expect("the other process speaks");
            if let Some((_, rest)) = line.split_once(word) {
                return rest.to_owned();
            }
        }
    }

    pub async fn agent(&self, n: u8) -> Agent {
        Agent::connect(config_to(&self.address, n).await)
    }

    fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.address.clone()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test of its own: what the processes do that the tests here start. Without a role it has nothing to do.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let address = std::env::var(ADDRESS).unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "station" => {
                let placed = station_in(&folder, &address).await;
                println!("serving {}", placed.address);
                placed.station.stopped().await;
            }
            "asker" => {
                let agent = Agent::connect(config_to(&address, 1).await);
                bounded(agent.ready()).await.unwrap();
                let grown = crate::memory::grown(&agent, &folder, || async { crate::heap::held() }).await;
                println!("grown {}", serde_json::to_string(&grown).unwrap());
            }
            role => {
                let agent = Agent::connect(config_to(&address, 1).await);
                let transfer = match role {
                    "pusher" => agent.link().push(folder.join("x"), "box/x"),
                    _ => agent.link().pull("box/x", folder.join("x")),
                };
                let mut progress = transfer.progress();
                progress.wait_for(|progress| progress.done >= SIZE / 4).await.unwrap();
                println!("moved a quarter");
                let copied = transfer.await.unwrap();
                println!("copied {}", copied.moved);
            }
        }
    });
}

async fn a_push_goes_on_by_itself_when_the_receiver_was_killed_and_comes_back(way: Way) {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = content(SIZE, 1);
    let local = here.path().join("x");
    std::fs::write(&local, &bytes).unwrap();
    let child = Child::serving(there.path(), anywhere(way), None);
    let mut config = config_to(&child.address, 1).await;
    // Over QUIC nothing but its silence tells that a process was killed.
    config.connect.link.keep_alive = Some(WATCHFUL);
    let agent = Agent::connect(config);
    let transfer = agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 4).await;
    let address = child.kill();
    assert!(!there.path().join("x").exists(), "killed in the middle");
    assert_eq!(parts(there.path()).len(), 1);
    let _child = Child::serving(there.path(), &address, None);
    let copied = bounded(transfer).await.unwrap();
    assert_eq!(copied.hash, hash(&bytes));
    assert!(copied.moved < SIZE + SIZE / 8, "no more came again than was under way: {}", copied.moved);
    assert!(std::fs::read(there.path().join("x")).unwrap() == bytes);
    assert!(parts(there.path()).is_empty());
}

async fn killed_and_started_again(role: &str, way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    let (source, target) = match role {
        "pusher" => (world.here.path().join("x"), world.there("x")),
        _ => (world.there("x"), world.here.path().join("x")),
    };
    std::fs::write(&source, &bytes).unwrap();
    let address = world.address.clone();
    let start = || Child::start(role, world.here.path(), &address, None);
    let child = start();
    let child = tokio::task::spawn_blocking(move || {
        child.says("moved a quarter");
        child.kill();
    });
    bounded(child).await.unwrap();
    assert!(!target.exists(), "killed in the middle");
    let child = start();
    let moved = bounded(tokio::task::spawn_blocking(move || child.says("copied "))).await.unwrap();
    assert!(moved.parse::<u64>().unwrap() <= SIZE - SIZE / 4 + 4 * MIB, "{moved}");
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert!(parts(target.parent().unwrap()).is_empty());
}

async fn a_sender_that_was_killed_goes_on_where_the_receiver_is(way: Way) {
    killed_and_started_again("pusher", way).await;
}

async fn a_receiver_that_was_killed_goes_on_where_it_was(way: Way) {
    killed_and_started_again("puller", way).await;
}
