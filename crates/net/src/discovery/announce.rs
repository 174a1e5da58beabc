//! A station's end of the discovery: a task that announces, answers and watches for rivals.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ed25519_dalek::Signer;
use parlour_proto::discovery::{
    self as machine, Announcer, AnnouncerInput, FinderInput, Ignored, Profile, RivalNews, Rivals, RivalsOutput, Say, To, Verdict,
};
use parlour_wire::announce::{Datagram, Endpoint, announcement_datagram, signed_message};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{
    Accept, Found, Network, bytes_of,
    socket::{REFRESH, Sockets},
};
use crate::{
    identity::{Identity, PeerKey},
    pump::now,
};

/// What to announce, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// Which service the station offers; programs look for it by this name.
    pub service: String,
    /// What its owner calls it.
    pub name: String,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Where to announce.
    pub network: Network,
    /// How often to announce without being asked: every 20 milliseconds at most, and every three minutes at least. A station that is not
    /// heard for three times as long, and a second, counts as gone.
    pub interval: Duration,
    /// What to do about other stations of the same service.
    pub policy: Policy,
}

impl AnnounceConfig {
    /// Announces by multicast every five seconds; other stations of the service are reported, and both stay.
    #[must_use]
    pub fn new(service: impl Into<String>, name: impl Into<String>, endpoints: Vec<Endpoint>) -> Self {
        Self {
            service: service.into(),
            name: name.into(),
            endpoints,
            network: Network::default(),
            interval: Duration::from_secs(5),
            policy: Policy::BothStay(Accept::Anyone),
        }
    }
}

/// What stations of one service do about each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All stay; each knows of the others.
    BothStay(Accept),
    /// The one that has been running for longest stays, the others fall silent and tell their program. Only these keys count, and
    /// the station's own: how old a station is, is its own claim. All stations of the service should have this policy.
    OlderWins(BTreeSet<PeerKey>),
}

impl From<Policy> for machine::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::BothStay(accept) => Self::BothStay(accept.into()),
            Policy::OlderWins(keys) => Self::OlderWins(bytes_of(keys)),
        }
    }
}

/// What a station knows of other stations of its service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rivalry {
    /// Those that are there.
    pub rivals: BTreeMap<PeerKey, Found>,
    /// The one that this station has stepped down for: it has said goodbye and is silent since, but goes on listening. What else that
    /// means is for the program to decide: to close its listener, or to wait until the other one is no longer among the `rivals`
    /// and start to announce again.
    pub stepped_down_for: Option<PeerKey>,
}

/// A station that announces itself, until this is dropped.
#[derive(Debug)]
pub struct Announce {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    rivalry: watch::Receiver<Rivalry>,
    local_addr: Option<SocketAddr>,
}

impl Announce {
    /// Begins, on the current Tokio runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a service, name, endpoint or interval that cannot be announced, with the reason; what the
    /// operating system says if there is no network.
    pub fn start(identity: &Identity, config: AnnounceConfig) -> io::Result<Self> {
        let mut seeds = [[0; 32]; 2];
        for seed in &mut seeds {
            getrandom::fill(seed).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let (started, key) = (now(), identity.key().0);
        let AnnounceConfig { service, name, endpoints, network, interval, policy } = config;
        let profile = Profile { key, service: service.clone(), name, endpoints };
        let announcer = Announcer::new(profile, interval, seeds[0], started);
        announcer.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let rivals = Rivals::new(policy.into(), service, (key, announcer.boot()), started, seeds[1]);
        let sockets = Sockets::open(network)?;
        let local_addr = sockets.local_addr();
        let (stop, stopped) = oneshot::channel();
        let (rivalry_sender, rivalry) = watch::channel(Rivalry::default());
        let station = Station { identity: identity.clone(), announcer, rivals, sockets, rivalry: rivalry_sender };
        let task = tokio::spawn(station.run(stopped));
        Ok(Self { stop: Some(stop), task, rivalry, local_addr })
    }

    /// Where queries can be sent by unicast; `None` with multicast.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// The other stations of the service, and whether this one has stepped down. [`watch::Receiver::changed`] waits for news.
    #[must_use]
    pub fn rivalry(&self) -> watch::Receiver<Rivalry> {
        self.rivalry.clone()
    }

    /// Says goodbye, to those whom it announces itself to, and waits until it is said. Dropping does the same without waiting.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // A task that has ended has said goodbye, or its runtime is gone.
        drop((&mut self.task).await);
    }
}

/// The task.
struct Station {
    identity: Identity,
    announcer: Announcer,
    rivals: Rivals,
    sockets: Sockets,
    rivalry: watch::Sender<Rivalry>,
}

impl Station {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut refresh = now() + REFRESH;
        loop {
            let deadlines = [self.announcer.deadline(), self.rivals.deadline(), Some(refresh)];
            let next = deadlines.into_iter().flatten().min().unwrap_or(refresh);
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = tokio::time::sleep_until(next.into()) => {
                    if refresh <= now() {
                        self.sockets.refresh();
                        refresh = now() + REFRESH;
                    }
                    self.announcer.handle(AnnouncerInput::Tick, now());
                    self.watch(FinderInput::Tick);
                }
                (datagram, from) = self.sockets.recv() => self.hear(&datagram, from),
            }
            self.speak();
        }
        self.announcer.handle(AnnouncerInput::Stop, now());
        self.speak();
    }

    fn hear(&mut self, datagram: &[u8], from: SocketAddr) {
        match Datagram::decode(datagram) {
            // It hears itself.
            Ok(Datagram::Query(query)) if self.rivals.has_asked(&query.nonce) => {}
            Ok(Datagram::Query(query)) => self.announcer.handle(AnnouncerInput::Query { query, from }, now()),
            Ok(Datagram::Announcement(announcement)) => self.watch(FinderInput::Announcement { announcement, from }),
            Err(error) => {
                tracing::trace!(%from, %error, "no datagram of ours");
                self.rivals.count(Ignored::Malformed);
            }
        }
    }

    /// Looks at what may come from a rival.
    fn watch(&mut self, input: FinderInput) {
        if let Err(reason) = self.rivals.handle(input, now()) {
            tracing::trace!(%reason, "an announcement without effect");
        }
        self.announcer.handle(AnnouncerInput::Rivals(self.rivals.beside()), now());
        while let Some(output) = self.rivals.poll() {
            match output {
                RivalsOutput::Ask(query) => match query.to_datagram() {
                    Ok(datagram) => self.sockets.tell_everyone(&datagram),
                    Err(error) => tracing::error!(%error, "a query that cannot be sent"),
                },
                RivalsOutput::News(news) => self.on_news(news, now()),
            }
        }
    }

    fn on_news(&mut self, news: RivalNews, now: Instant) {
        match news {
            RivalNews::Noticed { rival, verdict } => {
                let key = PeerKey(rival.key);
                let steps_down = verdict == Verdict::StepDown;
                tracing::info!(%key, name = rival.name, steps_down, "another station of this service");
                if steps_down {
                    self.announcer.handle(AnnouncerInput::Stop, now);
                }
                self.rivalry.send_modify(|rivalry| {
                    rivalry.rivals.insert(key, rival.into());
                    if steps_down {
                        rivalry.stepped_down_for = Some(key);
                    }
                });
            }
            RivalNews::Gone(key) => self.rivalry.send_modify(|rivalry| drop(rivalry.rivals.remove(&PeerKey(key)))),
        }
    }

    fn speak(&mut self) {
        while let Some(Say { to, announcement }) = self.announcer.poll() {
            let datagram = match announcement.to_bytes() {
                Ok(bytes) => {
                    let signature = self.identity.signing_key().sign(&signed_message(&bytes)).to_bytes();
                    announcement_datagram(bytes, signature)
                }
                Err(error) => {
                    tracing::error!(%error, "an announcement that cannot be made");
                    continue;
                }
            };
            match to {
                To::Everyone => self.sockets.tell_everyone(&datagram),
                To::One(to) => self.sockets.tell(to, &datagram),
            }
        }
    }
}
