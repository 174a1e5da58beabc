//! A drone: finds its station, reports to it, and does what it says.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, Files, Handlers, Identity, Link, PeerKey, Rights, Root, ServerUrl, Trust,
    clock::{Clock, ClockTracker},
    discovery::{Accept, Discovered, FindConfig, Network, find},
};
use tokio::time::Instant;

use crate::{
    Result,
    logbook::Logbook,
    messages::{Configuration, Landed, Started, Telemetry},
    station::SERVICE,
};

/// How far apart the clocks of two neighbours are: nobody has set them.
const DISAGREEMENT: Duration = Duration::from_millis(170);

/// What a drone is before it flies.
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) identity: Identity,
    /// Where the station is reached.
    pub(crate) way: ServerUrl,
    pub(crate) station: PeerKey,
    /// Where it keeps its files.
    pub(crate) folder: PathBuf,
}

pub(crate) struct Drone {
    agent: Agent,
    state: Arc<State>,
}

/// What the handlers of a drone share with its telemetry.
struct State {
    clock: Clock,
    /// Telemetry a second; 0 before the configuration has come.
    hz: AtomicU32,
    landed: AtomicBool,
    logbook: OnceLock<Logbook>,
}

impl State {
    async fn note(&self, text: String) {
        if let Some(logbook) = self.logbook.get() {
            logbook.note(text).await;
        }
    }
}

/// Waits for an announcement that the station's key has signed. What others announce is ignored.
pub(crate) async fn find_station(key: PeerKey, announced_at: SocketAddr) -> Result<ServerUrl> {
    let mut config = FindConfig::new(SERVICE, Accept::Keys([key].into()));
    // On a real network the default does: multicast. One machine has nobody to multicast to.
    config.network = Network::Unicast { bind: "127.0.0.1:0".parse()?, targets: vec![announced_at] };
    let mut finder = find(config)?;
    while let Some(event) = finder.next().await {
        if let Discovered::Found(found) = event
            && let Some(url) = found.urls().into_iter().next()
        {
            return Ok(url);
        }
    }
    Err("the search has ended".into())
}

impl Drone {
    pub(crate) async fn launch(Plan { number, identity, way, station, folder }: Plan) -> Result<Self> {
        let inbox = folder.join("inbox");
        tokio::fs::create_dir_all(&inbox).await?;
        let state = Arc::new(State {
            clock: Clock::showing(u64::try_from(DISAGREEMENT.as_micros())? * (number as u64 + 1), Instant::now().into_std()),
            hz: AtomicU32::new(0),
            landed: AtomicBool::new(false),
            logbook: OnceLock::new(),
        });

        let mut config = AgentConfig::new(way, Trust::Key(station));
        config.connect.identity = Some(identity);
        config.connect.link.agent = format!("drone {number}");
        config.connect.backoff.longest = Duration::from_millis(500);
        let inbox = Root::new("inbox", &inbox, Rights::Write).allow(Access::Authenticated);
        Files::builder().root(inbox).open()?.serve(&mut config.handlers);
        obey(&mut config.handlers, &state);
        let own = Arc::clone(&state);
        config.hooks.on_disconnect(move |_station, _reason| {
            let state = Arc::clone(&own);
            async move { state.note("the station is out of reach".to_owned()).await }
        });

        let agent = Agent::connect(config);
        agent.ready().await?;
        let logbook = Logbook::open(&folder.join("logbook"), agent.link()).await?;
        state.logbook.get_or_init(|| logbook);
        tokio::spawn(report(agent.link().clone(), Arc::clone(&state)));
        Ok(Self { agent, state })
    }

    pub(crate) async fn close(&self) -> Result<()> {
        if let Some(logbook) = self.state.logbook.get() {
            logbook.close().await?;
        }
        self.agent.close().await;
        Ok(())
    }
}

/// What the station may ask of a drone.
fn obey(handlers: &mut Handlers, state: &Arc<State>) {
    handlers.allow_by_default(Access::Authenticated);

    let own = Arc::clone(state);
    handlers.on_request("configure", move |_cx, wanted: Configuration| {
        let state = Arc::clone(&own);
        async move {
            state.hz.store(wanted.telemetry_hz, Ordering::SeqCst);
            state.note(format!("took configuration {}", wanted.version)).await;
            Ok(wanted.version)
        }
    });

    let own = Arc::clone(state);
    handlers.on_action("start", move |cx, start_us: u64| {
        // Handlers of one peer take turns, and this one takes its time: it goes on by itself.
        tokio::spawn(start(cx.link().clone(), Arc::clone(&own), start_us));
        async {}
    });

    let own = Arc::clone(state);
    handlers.on_action("land", move |_cx, ()| {
        own.landed.store(true, Ordering::SeqCst);
        async {}
    });
}

/// Starts when the station's clock shows `start_us`, whatever the own one shows.
async fn start(link: Link, state: Arc<State>, start_us: u64) {
    let started = async {
        let estimate = ClockTracker::against(link.clone(), state.clock).measure(8).await?;
        let due = estimate.at(start_us).await?;
        // Nobody else could know: the drones of this example share a machine, and so the moment can be compared.
        let at_us = Clock::system().now_us();
        let started = Started { offset_us: estimate.offset_us(), error_us: u64::try_from(due.error.as_micros())?, at_us };
        link.send("started", &started).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    match started.await {
        Ok(()) => state.note("started".to_owned()).await,
        Err(error) => state.note(format!("did not start: {error}")).await,
    }
}

/// Sends telemetry until the drone has landed. While the station cannot be reached the link keeps it, in order.
async fn report(link: Link, state: Arc<State>) {
    let mut sent = 0;
    while !state.landed.load(Ordering::SeqCst) {
        let hz = state.hz.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1) / hz.max(10)).await;
        if hz == 0 {
            continue;
        }
        sent += 1;
        let telemetry = Telemetry { number: sent, battery: 1.0 - sent as f32 / 1e4, position: (47.0 + sent as f64 * 1e-6, 8.0) };
        if link.send("telemetry", &telemetry).await.is_err() {
            return;
        }
    }
    state.note("landed".to_owned()).await;
    let landed = Landed { telemetry: sent, entries: state.logbook.get().map_or(0, Logbook::entries) };
    // A link that has closed has nobody to tell.
    let _ = link.send("landed", &landed).await;
}
