//! A station that serves files, an agent, and a folder of each.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, FileError, FileEvent, Files, FilesBuilder, Handlers, Identity, Rights, Root, Station,
    StationConfig, Transfer, Trust,
};
#[cfg(feature = "iroh")]
use parlour_net::{ConnectConfig, IrohConfig, IrohEndpoint};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub use crate::support::bounded;

pub const MIB: u64 = 1024 * 1024;

pub fn identity(n: u8) -> Identity {
    Identity::from_secret(&[n; 32])
}

/// Bytes that look like nothing, and are the same for the same seed.
pub fn content(size: u64, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// The root that most tests use: `box`, open to whoever has shown a key.
pub fn open_box(there: &TempDir) -> Root {
    open_root(there.path())
}

pub fn open_root(folder: &Path) -> Root {
    Root::new("box", folder, Rights::ReadWrite).allow(Access::Authenticated)
}

pub fn serving(files: &Files) -> Handlers {
    let mut handlers = Handlers::new();
    files.serve(&mut handlers);
    handlers.on_request("heap", |_cx, ()| async { Ok(crate::heap::held()) }).allow(Access::Anyone);
    handlers.on_request("echo", |_cx, value: u64| async move { Ok(value) }).allow(Access::Anyone);
    handlers
}

pub fn station_config(files: &Files) -> StationConfig {
    let mut config = StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap());
    config.listen.admit = parlour_net::Admission::Anyone;
    config.handlers = serving(files);
    config
}

pub async fn station(files: &Files) -> Station {
    Station::bind(station_config(files)).await.unwrap()
}

#[cfg(feature = "iroh")]
pub async fn endpoint(n: u8) -> IrohEndpoint {
    bounded(IrohEndpoint::bind(&identity(n), &IrohConfig::loopback())).await.unwrap()
}

pub fn agent_config(station: &Station, n: u8) -> AgentConfig {
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(identity(n));
    config.connect.backoff.first = Duration::from_millis(5);
    config.connect.backoff.longest = Duration::from_millis(20);
    config
}

pub struct World {
    pub station: Station,
    pub agent: Agent,
    pub files: Files,
    /// The station's folder, its root `box`.
    pub there: TempDir,
    /// The agent's folder.
    pub here: TempDir,
    pub events: mpsc::UnboundedReceiver<FileEvent>,
    /// The station's door for agents that come over QUIC, as all do then.
    #[cfg(feature = "iroh")]
    quic: Option<IrohEndpoint>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|builder, there| builder.root(open_box(there))).await
    }

    pub async fn with(set: impl FnOnce(FilesBuilder, &TempDir) -> FilesBuilder) -> Self {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, events) = observed(set, &there);
        let station = station(&files).await;
        let agent = Agent::connect(agent_config(&station, 1));
        bounded(agent.ready()).await.unwrap();
        Self {
            station,
            agent,
            files,
            there,
            here,
            events,
            #[cfg(feature = "iroh")]
            quic: None,
        }
    }

    /// The same over QUIC.
    #[cfg(feature = "iroh")]
    pub async fn over_quic() -> Self {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, events) = observed(|builder, there| builder.root(open_box(there)), &there);
        let mut config = station_config(&files);
        let door = endpoint(200).await;
        config.iroh = Some(door.clone());
        let station = Station::bind(config).await.unwrap();
        let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint(1).await, door.addr())));
        bounded(agent.ready()).await.unwrap();
        Self { station, agent, files, there, here, events, quic: Some(door) }
    }

    /// Where it is reached over QUIC.
    #[cfg(feature = "iroh")]
    pub fn door(&self) -> parlour_net::IrohAddr {
        self.quic.as_ref().unwrap().addr()
    }

    pub async fn another_agent(&self, n: u8) -> Agent {
        #[cfg(feature = "iroh")]
        if let Some(door) = &self.quic {
            let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint(n).await, door.addr())));
            bounded(agent.ready()).await.unwrap();
            return agent;
        }
        let agent = Agent::connect(agent_config(&self.station, n));
        bounded(agent.ready()).await.unwrap();
        agent
    }

    /// Puts a file into the agent's folder.
    pub fn here(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.here.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn there(&self, name: &str) -> PathBuf {
        self.there.path().join(name)
    }

    pub async fn push(&self, local: &Path, remote: &str) -> Result<parlour_net::Copied, FileError> {
        bounded(self.agent.link().push(local, remote)).await
    }

    pub async fn pull(&self, remote: &str, local: &Path) -> Result<parlour_net::Copied, FileError> {
        bounded(self.agent.link().pull(remote, local)).await
    }
}

/// Files of a station, and what is told of them.
fn observed(
    set: impl FnOnce(FilesBuilder, &TempDir) -> FilesBuilder,
    there: &TempDir,
) -> (Files, mpsc::UnboundedReceiver<FileEvent>) {
    let (sender, events) = mpsc::unbounded_channel();
    let builder = Files::builder().on_event(move |event| drop(sender.send(event.clone())));
    (set(builder, there).open().unwrap(), events)
}

/// Waits until a transfer has come to a number of bytes.
pub async fn reached(transfer: &Transfer, bytes: u64) {
    let mut progress = transfer.progress();
    bounded(progress.wait_for(|progress| progress.done >= bytes)).await.expect("the transfer is under way");
}

/// The names of all that lies in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The part files in a folder.
pub fn parts(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.ends_with(".part")).collect()
}
