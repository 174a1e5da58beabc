//! A station and an agent in this process, with the handlers that the loads call.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use parlour_net::{Access, Agent, AgentConfig, Fault, Identity, Station, StationConfig, Trust};

use super::calls::Ask;

/// Both ends of a link.
pub(super) struct Ends {
    pub(super) station: Station,
    pub(super) agent: Agent,
}

impl Ends {
    /// Starts both, and waits until they are connected.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut config = StationConfig::new(Identity::generate()?, ([127, 0, 0, 1], 0).into());
        let handlers = &mut config.handlers;
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
        let station = Station::bind(config).await?;

        let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
        config.connect.identity = Some(Identity::generate()?);
        let agent = Agent::connect(config);
        agent.ready().await.context("the station is not reached")?;
        Ok(Self { station, agent })
    }

    pub(super) async fn stop(self) {
        self.agent.close().await;
        self.station.stop().await;
    }
}
