//! A station and an agent in this process, with the handlers that the loads call.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use parlour_net::{
    Access, Agent, AgentConfig, ConnectConfig, Fault, Files, Handlers, Identity, IrohConfig, IrohEndpoint, Rights, Root, Station,
    StationConfig, Trust,
};

use super::calls::Ask;

/// The name of the station's folder for the agent.
pub(super) const FOLDER: &str = "shared";
const OWN: &str = "own";

/// What carries the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// WebSocket over TLS.
    Tls,
    /// QUIC by iroh.
    Iroh,
}

/// Both ends of a link.
pub(super) struct Ends {
    pub(super) station: Station,
    pub(super) agent: Agent,
    folder: PathBuf,
}

impl Ends {
    /// Starts both, and waits until they are connected. Their files are below `folder`.
    pub(super) async fn start(folder: &Path, way: Way) -> anyhow::Result<Self> {
        let ends = [FOLDER, OWN].map(|name| folder.join(name));
        ends.iter().try_for_each(std::fs::create_dir_all)?;
        let [there, here] = [Identity::generate()?, Identity::generate()?];
        let mut config = StationConfig::new(there.clone(), ([127, 0, 0, 1], 0).into());
        serve(&mut config.handlers, &ends[0])?;
        let door = match way {
            Way::Tls => None,
            Way::Iroh => Some(IrohEndpoint::bind(&there, &IrohConfig::loopback()).await?),
        };
        config.iroh.clone_from(&door);
        let station = Station::bind(config).await?;
        let config = match door {
            None => {
                let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
                config.connect.identity = Some(here);
                config
            }
            Some(door) => {
                let own = IrohEndpoint::bind(&here, &IrohConfig::loopback()).await?;
                AgentConfig::over(ConnectConfig::iroh(own, door.addr()))
            }
        };
        let agent = Agent::connect(config);
        agent.ready().await.context("the station is not reached")?;
        Ok(Self { station, agent, folder: folder.to_owned() })
    }

    /// The station's folder for the agent.
    pub(super) fn shared(&self) -> PathBuf {
        self.folder.join(FOLDER)
    }

    /// The agent's folder.
    pub(super) fn own(&self) -> PathBuf {
        self.folder.join(OWN)
    }

    pub(super) async fn stop(self) {
        self.agent.close().await;
        self.station.stop().await;
    }
}

/// What the loads call at the station, and its folder.
fn serve(handlers: &mut Handlers, folder: &Path) -> anyhow::Result<()> {
    handlers.allow_by_default(Access::Authenticated);
    handlers.on_request("next", |_cx, ask: Ask| std::future::ready(Ok::<u64, Fault>(ask.number + 1)));
    handlers.on_request_raw("echo", |_cx, raw| async move { Ok(raw) });
    let noted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&noted);
    handlers.on_action("note", move |_cx, _args: Ask| {
        noted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    });
    // Comes after the actions that were sent before it, so its answer says that they are over.
    handlers.on_request("noted", move |_cx, ()| std::future::ready(Ok::<u64, Fault>(count.swap(0, Ordering::Relaxed))));
    let root = Root::new(FOLDER, folder, Rights::ReadWrite).allow(Access::Authenticated);
    Files::builder().root(root).open()?.serve(handlers);
    Ok(())
}
