//! A drone: finds its station, reports to it, and does what it says.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, Files, Handlers, Identity, PeerKey, Rights, Root, ServerUrl, Trust,
    discovery::{Accept, Discovered, FindConfig, Network, find},
};

use crate::{
    Result,
    messages::{Configuration, Started, Telemetry},
    station::SERVICE,
};

pub(crate) struct Drone {
    agent: Agent,
}

/// What the handlers of a drone share with its telemetry.
#[derive(Default)]
struct State {
    /// Telemetry a second; 0 before the configuration has come.
    hz: AtomicU32,
    sent: AtomicU64,
    landed: AtomicBool,
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
    pub(crate) async fn launch(
        number: usize,
        identity: Identity,
        way: ServerUrl,
        station: PeerKey,
        folder: &Path,
    ) -> Result<Self> {
        let inbox = folder.join(format!("drone-{number}"));
        tokio::fs::create_dir(&inbox).await?;
        let files = Files::builder().root(Root::new("inbox", &inbox, Rights::Write).allow(Access::Authenticated)).open()?;

        let state = Arc::new(State::default());
        let mut config = AgentConfig::new(way, Trust::Key(station));
        config.connect.identity = Some(identity);
        config.connect.link.agent = format!("drone/{number}");
        config.connect.backoff.longest = Duration::from_millis(500);
        files.serve(&mut config.handlers);
        obey(&mut config.handlers, &state);

        let agent = Agent::connect(config);
        agent.ready().await?;
        tokio::spawn(report(agent.clone(), state));
        Ok(Self { agent })
    }

    pub(crate) async fn close(&self) {
        self.agent.close().await;
    }
}

/// What the station may ask of a drone.
fn obey(handlers: &mut Handlers, state: &Arc<State>) {
    handlers.allow_by_default(Access::Authenticated);

    let own = Arc::clone(state);
    handlers.on_request("configure", move |_cx, wanted: Configuration| {
        own.hz.store(wanted.telemetry_hz, Ordering::SeqCst);
        async move { Ok(wanted.version) }
    });

    handlers.on_action("start", |cx, start_us: u64| async move {
        let link = cx.link().clone();
        // Handlers of one peer take turns, and this one takes its time: it goes on by itself.
        tokio::spawn(async move {
            let Ok(estimate) = link.clock(8).await else { return };
            let Ok(due) = estimate.at(start_us).await else { return };
            let started = Started { late_us: micros(due.late), error_us: micros(due.error) };
            drop(link.send("started", &started).await);
        });
    });

    let own = Arc::clone(state);
    handlers.on_action("land", move |cx, ()| {
        own.landed.store(true, Ordering::SeqCst);
        let sent = own.sent.load(Ordering::SeqCst);
        async move { drop(cx.link().send("landed", &sent).await) }
    });
}

/// Sends telemetry until the drone has landed. While the station cannot be reached the link keeps it, in order.
async fn report(agent: Agent, state: Arc<State>) {
    while !state.landed.load(Ordering::SeqCst) {
        let hz = state.hz.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1000) / hz.max(10)).await;
        if hz == 0 || state.landed.load(Ordering::SeqCst) {
            continue;
        }
        let number = state.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let battery = 1.0 - number as f32 / 10_000.0;
        let telemetry = Telemetry { number, battery, position: (47.0 + number as f64 * 1e-6, 8.0) };
        if agent.link().send("telemetry", &telemetry).await.is_err() {
            return;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
