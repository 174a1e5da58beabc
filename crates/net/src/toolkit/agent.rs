//! The end of a fleet that connects: a link with handlers and hooks.

mod task;

use std::{fmt, sync::Arc};

use parlour_proto::link::{KeepAlive, OpenRequests, Unsent};
use parlour_wire::{Code, address::ServerUrl, header::Fault};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    call::Call,
    codec::Codecs,
    dedupe::DedupeLimits,
    dispatch::Shared,
    fleet::{FLEET, FleetSecret},
    handlers::{Handlers, Registry},
    hooks::{Hooks, Line},
    ledger::Ledger,
    peer::Peer,
};
use crate::{
    connect::{ConnectConfig, ConnectError, Target},
    identity::PeerKey,
    link::Link,
    tls::Trust,
};
use task::{Standing, Task};

/// Settings of an [`Agent`].
///
/// ```
/// use std::time::Duration;
/// use parlour_net::{AgentConfig, Identity, OpenRequests, PeerKey, Trust};
///
/// # fn example(station: PeerKey) -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = AgentConfig::new("wss://station.local:7443".parse()?, Trust::Key(station));
/// config.connect.identity = Some(Identity::load_or_create("rover.key")?);
/// config.connect.link.agent = "rover/1.4".to_owned();
/// // Rather hear that an answer is lost than have the request asked again.
/// config.connect.link.open_requests = OpenRequests::Fail;
/// config.connect.backoff.longest = Duration::from_secs(5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AgentConfig {
    /// How the station is reached and known, who the agent is, and the settings of the link.
    pub connect: ConnectConfig,
    /// What the agent does for its station.
    pub handlers: Handlers,
    /// What it wants to be told.
    pub hooks: Hooks,
    /// The content types.
    pub codecs: Codecs,
    /// If set, nothing is said to the station, and nothing taken from it, before both have proven that they know the secret. A
    /// station that is not known yet is then connected to with [`Trust::FirstUse`]; the agent stays with its key.
    pub fleet: Option<FleetSecret>,
    /// How much is remembered of requests that may come again.
    pub dedupe: DedupeLimits,
}

impl AgentConfig {
    /// An agent without a name of its own (set [`ConnectConfig::identity`]) and without handlers. It notices a dead station within
    /// seconds. When a session is lost, what was not sent yet and requests without an answer go into the next one.
    #[must_use]
    pub fn new(url: ServerUrl, trust: Trust) -> Self {
        Self::over(ConnectConfig::new(url, trust))
    }

    /// As [`AgentConfig::new`], over whichever carrier `connect` says.
    ///
    /// ```no_run
    /// # async fn example(addr: parlour_net::IrohAddr) -> Result<(), Box<dyn std::error::Error>> {
    /// use parlour_net::{Agent, AgentConfig, ConnectConfig, Identity, IrohConfig, IrohEndpoint};
    ///
    /// let endpoint = IrohEndpoint::bind(&Identity::generate()?, &IrohConfig::default()).await?;
    /// let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint, addr)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn over(mut connect: ConnectConfig) -> Self {
        connect.link.keep_alive = Some(KeepAlive::FLEET);
        connect.link.open_requests = OpenRequests::Resend;
        connect.link.unsent = Unsent::Keep;
        Self {
            connect,
            handlers: Handlers::new(),
            hooks: Hooks::new(),
            codecs: Codecs::new(),
            fleet: None,
            dedupe: DedupeLimits::default(),
        }
    }
}

/// Why an agent has given up.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AgentError {
    /// The station cannot be reached, is not the right one, or has refused the agent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The station knows another secret than the agent, which it does not let in.
    #[error("the station refused the fleet's secret: {}", .0.message)]
    SecretRefused(Fault),
    /// The station has not proven that it knows the fleet's secret. Nothing was said to it.
    #[error("the station did not prove that it knows the fleet's secret")]
    NotOfTheFleet,
    /// The agent was closed.
    #[error("the link is closed")]
    Closed,
}

impl From<AgentError> for Fault {
    fn from(error: AgentError) -> Self {
        let text = error.to_string();
        match error {
            AgentError::Connect(error) => error.fault(),
            AgentError::SecretRefused(fault) => Self::new(fault.code, text),
            AgentError::NotOfTheFleet => Self::new(Code::NOT_AUTHENTICATED, text),
            AgentError::Closed => Self::new(Code::LINK_LOST, text),
        }
    }
}

/// What an agent has to prove, and to have proven.
struct Credentials {
    fleet: Option<FleetSecret>,
    /// The agent's own key.
    key: Option<PeerKey>,
    /// The configuration says who the station is.
    known: bool,
}

/// The end that connects: by itself, and again after every loss. Clones share it; when the last one is gone, the link closes.
///
/// ```no_run
/// # async fn example(config: parlour_net::AgentConfig) -> Result<(), Box<dyn std::error::Error>> {
/// use parlour_net::Agent;
///
/// let agent = Agent::connect(config);
/// // Calls wait for the station, within their deadlines. Whoever wants to know whether there is one asks:
/// let station = agent.ready().await?;
/// println!("connected to {:?}", station.key());
/// agent.action("battery", &0.8)?;
/// agent.close().await;
/// # Ok(())
/// # }
/// ```
///
/// See [`crate::Station`] for both ends together.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    standing: watch::Receiver<Standing>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.link.port.close(Fault::new(Code::CANCELLED, "closed by the peer"));
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("link", &self.inner.link).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts an agent on the current Tokio runtime. Calls may be made at once; they wait for the station.
    #[must_use]
    pub fn connect(config: AgentConfig) -> Self {
        let AgentConfig { mut connect, handlers, hooks, codecs, fleet, dedupe } = config;
        connect.link.keep_remains = true;
        if fleet.is_some() {
            connect.link.capabilities.push(FLEET.to_owned());
        }
        let key = match &connect.target {
            Target::WebSocket(_) => connect.identity.as_ref().map(crate::Identity::key),
            #[cfg(feature = "iroh")]
            Target::Iroh { endpoint, .. } => Some(endpoint.key()),
        };
        let known = connect.trust != Trust::FirstUse;
        let (link, events) = Link::connect_guarded(connect, fleet.is_some());
        let link = link.with_codecs(codecs.clone());
        let shared = Arc::new(Shared { registry: Registry::new(handlers, codecs), ledger: Arc::new(Ledger::new(dedupe)) });
        let (sender, standing) = watch::channel(Standing::Coming);
        let line = Line::new(Arc::new(hooks));
        tokio::spawn(Task::new((link.clone(), events), shared, line, sender, Credentials { fleet, key, known }));
        Self { inner: Arc::new(Inner { link, standing }) }
    }

    /// The link to the station. It is closed when the last [`Agent`] is gone, whoever still holds the link.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.inner.link
    }

    /// Waits until the station has been reached and is known to be the right one. From then on it gives the station at once, also
    /// while the link is down. It waits for as long as that takes; [`Link::trouble`] says why
    /// there is no link meanwhile.
    ///
    /// # Errors
    /// [`AgentError`] if that will not happen any more.
    pub async fn ready(&self) -> Result<Peer, AgentError> {
        let mut standing = self.inner.standing.clone();
        let found = standing.wait_for(|standing| !matches!(standing, Standing::Coming)).await;
        match found.as_deref() {
            Ok(Standing::Here(peer)) => Ok(peer.clone()),
            Ok(Standing::Gone(error)) => Err(error.clone()),
            Ok(Standing::Coming) | Err(_) => Err(AgentError::Closed),
        }
    }

    /// Waits until the agent has given up or was closed, and says why.
    pub async fn ended(&self) -> AgentError {
        let mut standing = self.inner.standing.clone();
        let found = standing.wait_for(|standing| matches!(standing, Standing::Gone(_))).await;
        match found.as_deref() {
            Ok(Standing::Gone(error)) => error.clone(),
            _ => AgentError::Closed,
        }
    }

    /// As [`Link::request`].
    pub fn request<'a, T: DeserializeOwned>(&'a self, name: &'a str, args: &'a impl Serialize) -> Call<'a, T> {
        self.link().request(name, args)
    }

    /// As [`Link::action`].
    ///
    /// # Errors
    /// As [`Link::action`].
    pub fn action(&self, name: &str, args: &impl Serialize) -> Result<(), Fault> {
        self.link().action(name, args)
    }

    /// Tells the station that the agent goes, after what was asked and sent before, as far as there is room for it. Requests
    /// without an answer fail. Handlers that are under way may go on for five seconds. A link that does not work at that moment is
    /// not waited for, and what waits for it is given up: who has just begun waits until the agent is [`Agent::ready`].
    pub async fn close(&self) {
        self.link().close().await;
        self.ended().await;
    }
}
