//! A drone: finds its station, reports to it, and does what it says.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, Files, Handlers, Identity, Link, PeerKey, Rights, Root, ServerUrl, Trust,
    clock::{Clock, ClockError, ClockTracker, Due, TooLate},
    discovery::{Accept, Discovered, FindConfig, Network, find},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    Result,
    logbook::Logbook,
    messages::{Configuration, Landed, Started},
    station::SERVICE,
    telemetry::{self, Orders, Told},
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
    orders: watch::Sender<Orders>,
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
            orders: watch::Sender::default(),
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
            state.orders.send_modify(|orders| orders.hz = wanted.telemetry_hz);
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
        own.orders.send_modify(|orders| orders.landed = true);
        async {}
    });
}

/// Starts when the station's clock shows `start_us`, whatever the own one shows. Who learns of it too late starts at once, since the
/// others do not wait, and says so.
async fn start(link: Link, state: Arc<State>, start_us: u64) {
    let started = async {
        let estimate = ClockTracker::against(link.clone(), state.clock).measure(8).await?;
        let (late, error, missed) = match estimate.at(start_us).await {
            Ok(Due { late, error }) => (late, error, false),
            Err(TooLate { by, error }) => (by, error, true),
        };
        // Nobody else could know: the drones of this example share a machine, and so the moment can be compared.
        let at_us = Clock::system().now_us();
        let [late_us, error_us] = [late, error].map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let offset_us = estimate.offset_us();
        Ok::<_, ClockError>(Started { offset_us, error_us, at_us, late_us, missed })
    };
    match started.await {
        Ok(started) => {
            // In this order: who has told everything that it has written may be told to land.
            state.note(if started.missed { "started late" } else { "started" }.to_owned()).await;
            // A link that has closed has nobody to tell.
            let _ = link.send("started", &started).await;
        }
        Err(error) => state.note(format!("did not start: {error}")).await,
    }
}

/// Sends telemetry until the drone has landed, and says so. While the station cannot be reached the link keeps it, in order.
async fn report(link: Link, state: Arc<State>) {
    let send = |telemetry| {
        let link = link.clone();
        async move { link.send("telemetry", &telemetry).await.is_ok() }
    };
    let Told { telemetry, skipped } = telemetry::report(state.orders.subscribe(), send).await;
    state.note("landed".to_owned()).await;
    let landed = Landed { telemetry, skipped, entries: state.logbook.get().map_or(0, Logbook::entries) };
    // A link that has closed has nobody to tell.
    let _ = link.send("landed", &landed).await;
}
