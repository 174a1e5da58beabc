//! A station that serves files, an agent, and a folder of each.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, FileError, FileEvent, Files, FilesBuilder, Handlers, Identity, Rights, Root, Station,
    StationConfig, Transfer, Trust,
};
#[cfg(feature = "iroh")]
use parlour_net::{ConnectConfig, IrohAddr, IrohConfig, IrohEndpoint};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub use crate::{support::bounded, way::Way};

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

/// In place of an address: over QUIC, wherever there is room.
#[cfg(feature = "iroh")]
pub const QUIC: &str = "quic";

/// In place of an address: over that carrier, wherever there is room.
pub const fn anywhere(way: Way) -> &'static str {
    match way {
        Way::WebSocket => "127.0.0.1:0",
        #[cfg(feature = "iroh")]
        Way::Iroh => QUIC,
    }
}

#[cfg(feature = "iroh")]
async fn endpoint(n: u8, config: &IrohConfig) -> IrohEndpoint {
    bounded(IrohEndpoint::bind(&identity(n), config)).await.unwrap()
}

/// A station, and where agents find it.
pub struct Placed {
    pub station: Station,
    pub address: String,
    #[cfg(feature = "iroh")]
    door: Option<IrohEndpoint>,
}

impl Placed {
    /// At this address: that of a station which is no more, or one of [`anywhere`].
    pub async fn at(address: &str, mut config: StationConfig) -> Self {
        #[cfg(feature = "iroh")]
        if let Some(sockets) = sockets(address) {
            let door = endpoint(200, &sockets).await;
            config.iroh = Some(door.clone());
            let station = Station::bind(config).await.unwrap();
            return Self { station, address: door.addr().to_string(), door: Some(door) };
        }
        config.address = address.parse().unwrap();
        let station = Station::bind(config).await.unwrap();
        Self {
            address: station.local_addr().to_string(),
            station,
            #[cfg(feature = "iroh")]
            door: None,
        }
    }

    /// Stops the station and gives its place up.
    pub async fn stop(self) {
        bounded(self.station.stop()).await;
        #[cfg(feature = "iroh")]
        if let Some(door) = self.door {
            let sockets = door.bound_sockets();
            bounded(door.close()).await;
            drop((self.station, door));
            // They are closed by whichever task of the station lets go of the endpoint last.
            bounded(async {
                while sockets.iter().any(|socket| std::net::UdpSocket::bind(socket).is_err()) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
}

/// What an endpoint binds that is to be found at this address, if that is one of QUIC. Agents know no other way to a station that was
/// started again than the old one: so it has the same key, and the same ports.
#[cfg(feature = "iroh")]
fn sockets(address: &str) -> Option<IrohConfig> {
    if address == QUIC {
        return Some(IrohConfig::loopback());
    }
    let addr: IrohAddr = address.parse().ok()?;
    Some(IrohConfig { bind: addr.direct.into_iter().collect(), relays: Vec::new() })
}

/// What an agent with the identity number `n` needs to reach the station at this address.
pub async fn config_to(address: &str, n: u8) -> AgentConfig {
    #[cfg(feature = "iroh")]
    if let Ok(addr) = address.parse() {
        let own = endpoint(n, &IrohConfig::loopback()).await;
        return patient(AgentConfig::over(ConnectConfig::iroh(own, addr)));
    }
    let mut config = AgentConfig::new(format!("wss://{address}").parse().unwrap(), Trust::Key(identity(200).key()));
    config.connect.identity = Some(identity(n));
    patient(config)
}

pub fn agent_config(station: &Station, n: u8) -> AgentConfig {
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(identity(n));
    patient(config)
}

/// Comes back soon, however often it has been in vain.
fn patient(mut config: AgentConfig) -> AgentConfig {
    config.connect.backoff.first = Duration::from_millis(5);
    config.connect.backoff.longest = Duration::from_millis(20);
    config
}

pub struct World {
    pub placed: Placed,
    pub agent: Agent,
    pub files: Files,
    /// The station's folder, its root `box`.
    pub there: TempDir,
    /// The agent's folder.
    pub here: TempDir,
    pub events: mpsc::UnboundedReceiver<FileEvent>,
}

impl Deref for World {
    type Target = Placed;

    fn deref(&self) -> &Placed {
        &self.placed
    }
}

impl World {
    pub async fn new() -> Self {
        Self::over(Way::WebSocket).await
    }

    pub async fn with(set: impl FnOnce(FilesBuilder, &TempDir) -> FilesBuilder) -> Self {
        Self::over_with(Way::WebSocket, set).await
    }

    /// Over this carrier.
    pub async fn over(way: Way) -> Self {
        Self::over_with(way, |builder, there| builder.root(open_box(there))).await
    }

    pub async fn over_with(way: Way, set: impl FnOnce(FilesBuilder, &TempDir) -> FilesBuilder) -> Self {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, events) = observed(set, &there);
        let placed = Placed::at(anywhere(way), station_config(&files)).await;
        let agent = Agent::connect(config_to(&placed.address, 1).await);
        bounded(agent.ready()).await.unwrap();
        Self { placed, agent, files, there, here, events }
    }

    pub async fn another_agent(&self, n: u8) -> Agent {
        let agent = Agent::connect(config_to(&self.address, n).await);
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
