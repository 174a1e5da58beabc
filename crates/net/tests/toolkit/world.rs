//! Stations and agents as the tests want them.

use std::time::Duration;

use parlour_net::{Agent, AgentConfig, Code, Identity, PeerKey, Station, StationConfig, Target, Trust};
use tokio::sync::mpsc;

use crate::support::Proxy;

/// The identity number `n`.
pub fn identity(n: u8) -> Identity {
    Identity::from_secret(&[n; 32])
}

pub fn key(n: u8) -> PeerKey {
    identity(n).key()
}

/// The station's identity.
pub const STATION: u8 = 200;

pub fn station_config() -> StationConfig {
    StationConfig::new(identity(STATION), "127.0.0.1:0".parse().unwrap())
}

/// An agent with the identity number `n` that knows the station.
pub fn agent_config(station: &Station, n: u8) -> AgentConfig {
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(identity(n));
    config.connect.backoff.first = Duration::from_millis(5);
    config.connect.backoff.longest = Duration::from_millis(20);
    config
}

/// An agent without an identity.
pub fn stranger_config(station: &Station) -> AgentConfig {
    let mut config = agent_config(station, 0);
    config.connect.identity = None;
    config
}

/// The agent goes through a proxy.
pub async fn through_proxy(station: &Station, config: &mut AgentConfig) -> Proxy {
    let proxy = Proxy::start(station.local_addr()).await;
    config.connect.target = Target::WebSocket(format!("wss://{}", proxy.address).parse().unwrap());
    proxy
}

/// An agent whose first session has begun.
pub async fn ready(config: AgentConfig) -> Agent {
    let agent = Agent::connect(config);
    bounded(agent.ready()).await.unwrap();
    // Something has gone both ways, so that the session is worth keeping.
    let fault = bounded(agent.request::<()>("no such handler", &())).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_REQUEST);
    agent
}

/// A station and one agent, both as `set` wants them.
pub async fn pair(set: impl FnOnce(&mut StationConfig)) -> (Station, Agent) {
    let mut config = station_config();
    set(&mut config);
    let station = Station::bind(config).await.unwrap();
    let agent = ready(agent_config(&station, 1)).await;
    (station, agent)
}

/// Something that handlers and hooks report to the test.
pub fn reports<T>() -> (mpsc::UnboundedSender<T>, Reports<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Reports(receiver))
}

pub struct Reports<T>(mpsc::UnboundedReceiver<T>);

impl<T> Reports<T> {
    pub async fn next(&mut self) -> T {
        bounded(self.0.recv()).await.expect("somebody reports")
    }

    pub async fn take(&mut self, count: usize) -> Vec<T> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// What is there already.
    pub fn rest(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// Fails the test instead of hanging it. Takes calls too.
pub async fn bounded<F: IntoFuture>(future: F) -> F::Output {
    crate::support::bounded(future.into_future()).await
}
