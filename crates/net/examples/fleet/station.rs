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
    messages::{Report, Started, Telemetry},
};

/// What the station announces itself as.
pub(crate) const SERVICE: &str = "org.example.drones";

/// A station with what it knows of its drones.
pub(crate) struct Ground {
    pub(crate) station: Station,
    announce: Announce,
    log: Arc<Log>,
}

/// What has happened, and a bell for whoever waits for more.
#[derive(Default)]
struct Log {
    facts: Mutex<Facts>,
    news: Notify,
}

#[derive(Clone, Default)]
struct Facts {
    drones: BTreeMap<PeerKey, Report>,
    away: usize,
    starts: Vec<Started>,
    landed: usize,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
        self.news.notify_waiters();
    }

    async fn wait_until(&self, happened: impl Fn(&Facts) -> bool) -> Facts {
        loop {
            let news = self.news.notified();
            let facts = self.lock().clone();
            if happened(&facts) {
                return facts;
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
        count(&mut config.handlers, &log);
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
        self.log.wait_until(|facts| facts.drones.len() == drones).await;
    }

    pub(crate) async fn wait_for_away(&self) {
        self.log.wait_until(|facts| facts.away == 1).await;
    }

    pub(crate) async fn wait_for_back(&self) {
        self.log.wait_until(|facts| facts.away == 0).await;
    }

    pub(crate) async fn wait_for_starts(&self, count: usize) -> Vec<Started> {
        self.log.wait_until(|facts| facts.starts.len() >= count).await.starts
    }

    /// Has all drones land, and gives what was counted of each.
    pub(crate) async fn finish(&self, drones: usize) -> Result<BTreeMap<PeerKey, Report>> {
        let sent = self.station.broadcast("land", &())?;
        expect(sent.reached == drones, "the order to land reaches every drone")?;
        Ok(self.log.wait_until(|facts| facts.landed == drones).await.drones)
    }
}

/// What drones may say to their station.
fn count(handlers: &mut Handlers, log: &Arc<Log>) {
    handlers.allow_by_default(Access::Authenticated);
    handlers.tell_time(Clock::system());

    let own = Arc::clone(log);
    handlers.on_action("telemetry", move |cx, telemetry: Telemetry| {
        if let Some(key) = cx.peer().key() {
            own.note(|facts| {
                let report = facts.drones.entry(key).or_default();
                let next = report.received + report.lost + 1;
                report.doubled += u64::from(telemetry.number < next);
                report.lost += telemetry.number.saturating_sub(next);
                report.received += u64::from(telemetry.number >= next);
            });
        }
        async {}
    });

    let own = Arc::clone(log);
    handlers.on_action("started", move |_cx, started: Started| {
        own.note(|facts| facts.starts.push(started));
        async {}
    });

    let own = Arc::clone(log);
    handlers.on_action("landed", move |cx, sent: u64| {
        if let Some(key) = cx.peer().key() {
            own.note(|facts| {
                facts.drones.entry(key).or_default().sent = sent;
                facts.landed += 1;
            });
        }
        async {}
    });
}

/// What the station wants to be told about its drones.
fn watch(hooks: &mut Hooks, log: &Arc<Log>) {
    let own = Arc::clone(log);
    hooks.on_first_connect(move |peer| {
        if let Some(key) = peer.key() {
            own.note(|facts| {
                facts.drones.insert(key, Report::default());
            });
        }
        async {}
    });
    let own = Arc::clone(log);
    hooks.on_disconnect(move |peer, reason| {
        println!("the station has lost {}: {reason}", peer.agent());
        own.note(|facts| facts.away += 1);
        async {}
    });
    let own = Arc::clone(log);
    hooks.on_resume(move |peer| {
        if let Some(key) = peer.key() {
            own.note(|facts| {
                facts.away = facts.away.saturating_sub(1);
                facts.drones.entry(key).or_default().resumed += 1;
            });
        }
        async {}
    });
}
