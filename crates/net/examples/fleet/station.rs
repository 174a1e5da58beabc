//! The station on the ground: lets its drones in, counts what they say, and gives orders.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlour_net::{
    Access, Admission, Handlers, Hooks, Identity, KeySet, PeerKey, Station, StationConfig,
    clock::Clock,
    discovery::{Announce, AnnounceConfig, Endpoint, Network},
};
use tokio::sync::Notify;

use crate::{
    Result, expect,
    messages::{Entry, Landed, Started},
    say,
    telemetry::Telemetry,
};

/// What the station announces itself as.
pub(crate) const SERVICE: &str = "org.example.drones";

/// A station with what it knows of its drones.
pub(crate) struct Ground {
    pub(crate) station: Station,
    announce: Announce,
    log: Arc<Log>,
}

/// What the station has counted of a drone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// The last beat of its telemetry.
    pub(crate) beat: u64,
    pub(crate) away: bool,
    /// Returns to the session.
    pub(crate) resumed: u64,
    pub(crate) logbook: Vec<Entry>,
    pub(crate) started: Option<Started>,
    /// What the drone itself says.
    pub(crate) landed: Option<Landed>,
}

/// What is known, and a bell for whoever waits for more.
#[derive(Default)]
struct Log {
    drones: Mutex<BTreeMap<PeerKey, Report>>,
    news: Notify,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerKey, Report>> {
        self.drones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is let in has a key.
    fn note(&self, key: Option<PeerKey>, change: impl FnOnce(&mut Report)) {
        change(self.lock().entry(key.expect("the admission asks for keys")).or_default());
        self.news.notify_waiters();
    }

    async fn wait_until(&self, happened: impl Fn(&BTreeMap<PeerKey, Report>) -> bool) -> Vec<Report> {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let drones = self.lock().clone();
            if happened(&drones) {
                return drones.into_values().collect();
            }
            news.await;
        }
    }
}

impl Ground {
    pub(crate) async fn open(keys: KeySet) -> Result<Self> {
        let identity = Identity::generate()?;
        let log = Arc::new(Log::default());
        let mut config = StationConfig::new(identity.clone(), "127.0.0.1:0".parse()?);
        config.listen.admit = Admission::Keys(keys);
        listen(&mut config.handlers, &log);
        watch(&mut config.hooks, &log);
        let station = Station::bind(config).await?;

        let endpoint = Endpoint::websocket(station.local_addr().port());
        let mut config = AnnounceConfig::new(SERVICE, "ground", vec![endpoint]);
        config.network = Network::Unicast { bind: "127.0.0.1:0".parse()?, targets: Vec::new() };
        let announce = Announce::start(&identity, config)?;
        Ok(Self { station, announce, log })
    }

    /// Where drones ask for the announcement.
    pub(crate) fn announced_at(&self) -> Result<SocketAddr> {
        self.announce.local_addr().ok_or_else(|| "announced by multicast".into())
    }

    pub(crate) async fn wait_for(&self, drones: usize) {
        self.log.wait_until(|reports| reports.len() == drones).await;
    }

    /// Waits until the loss of a connection has been noticed.
    pub(crate) async fn wait_for_loss(&self) {
        self.log.wait_until(|reports| reports.values().any(|report| report.away)).await;
    }

    /// Waits until somebody has come back to its session.
    pub(crate) async fn wait_for_return(&self) {
        self.log.wait_until(|reports| reports.values().any(|report| report.resumed > 0)).await;
    }

    /// Waits until so many have started; who, and how.
    pub(crate) async fn wait_for_starts(&self, count: usize) -> Vec<(String, Started)> {
        let started = |report: &Report| report.started.is_some();
        let reports = self.log.wait_until(|reports| reports.values().filter(|report| started(report)).count() >= count).await;
        reports.into_iter().filter_map(|report| Some((report.name, report.started?))).collect()
    }

    /// Waits until this much telemetry has come from everybody.
    pub(crate) async fn wait_for_telemetry(&self, count: u64) {
        self.log.wait_until(|reports| reports.values().all(|report| report.received >= count)).await;
    }

    /// Has all drones land, and gives what was counted of each once everything that it says it has sent is there, or more.
    pub(crate) async fn finish(&self, drones: usize) -> Result<Vec<Report>> {
        let sent = self.station.broadcast("land", &())?;
        expect(sent.reached == drones, "the order to land reaches every drone")?;
        let complete = |report: &Report| {
            report
                .landed
                .is_some_and(|landed| report.logbook.len() as u32 >= landed.entries && report.received >= landed.telemetry)
        };
        Ok(self.log.wait_until(|reports| reports.values().all(complete)).await)
    }
}

/// What drones may say to their station.
fn listen(handlers: &mut Handlers, log: &Arc<Log>) {
    handlers.allow_by_default(Access::Authenticated);
    handlers.tell_time(Clock::system());

    let own = Arc::clone(log);
    handlers.on_action("telemetry", move |cx, telemetry: Telemetry| {
        own.note(cx.peer().key(), |report| {
            let next = report.received + report.lost + 1;
            report.doubled += u64::from(telemetry.number < next);
            report.lost += telemetry.number.saturating_sub(next);
            report.received += u64::from(telemetry.number >= next);
            report.beat = telemetry.beat;
        });
        async {}
    });

    let own = Arc::clone(log);
    handlers.on_action("log", move |cx, entry: Entry| {
        own.note(cx.peer().key(), |report| report.logbook.push(entry));
        async {}
    });

    let own = Arc::clone(log);
    handlers.on_action("started", move |cx, started: Started| {
        own.note(cx.peer().key(), |report| report.started = Some(started));
        async {}
    });

    let own = Arc::clone(log);
    handlers.on_action("landed", move |cx, landed: Landed| {
        own.note(cx.peer().key(), |report| report.landed = Some(landed));
        async {}
    });
}

/// What the station wants to be told about its drones.
fn watch(hooks: &mut Hooks, log: &Arc<Log>) {
    let own = Arc::clone(log);
    hooks.on_first_connect(move |peer| {
        own.note(peer.key(), |report| report.name = peer.agent().to_owned());
        async {}
    });
    let own = Arc::clone(log);
    hooks.on_disconnect(move |peer, reason| {
        say(format!("the station has lost {}: {reason}", peer.agent()));
        own.note(peer.key(), |report| report.away = true);
        async {}
    });
    let own = Arc::clone(log);
    hooks.on_resume(move |peer| {
        say(format!("{} is back in its session", peer.agent()));
        own.note(peer.key(), |report| (report.away, report.resumed) = (false, report.resumed + 1));
        async {}
    });
}
