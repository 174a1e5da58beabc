//! Looks for the stations of a service on a local network.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use parlour_wire::announce::{Announcement, Boot, CarrierKind, Nonce, Query, Unverified};

use super::{
    addresses::Addresses,
    budget::{Budget, Firsts},
    dice::Dice,
    lottery::{Lottery, Ticket},
    window::Window,
};
use crate::later;

/// Signature checks a second for announcements that nobody asked for, at about 50 µs each.
const CHECKS_PER_SECOND: u32 = 100;
/// Signature checks a second for answers to our queries.
const ANSWERS_PER_SECOND: u32 = 200;
/// Stations in the table. When it is full, another one takes the place of one of the address that has most of them, so that whoever
/// makes up stations by the hundred crowds out its own; see [`Finder::make_room`].
const STATIONS: usize = 256;
/// Queries are at least so far apart.
const PAUSE_SHORTEST: Duration = Duration::from_millis(500);
/// How long an answer to a query may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The bounds of how long an announcement is believed, whatever it says itself.
const VALID: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Whose announcements count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Those of these keys.
    Keys(BTreeSet<[u8; 32]>),
    /// Those of anyone who signs them: the application judges the key, or asks its user.
    Anyone,
}

impl Accept {
    fn accepts(&self, key: &[u8; 32]) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(key),
            Self::Anyone => true,
        }
    }
}

/// How often a finder asks of its own accord. It also asks when it hears of a station that it cannot believe yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The pause after the first query; it doubles each time.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How many queries; `None` for no end.
    pub count: Option<u64>,
}

impl Default for Asks {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(8), count: None }
    }
}

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinderConfig {
    /// Which service.
    pub service: String,
    /// Whose announcements count.
    pub accept: Accept,
    /// Ignores the station with this start: the one that looks for others.
    pub own_boot: Option<Boot>,
    /// How often to ask.
    pub asks: Asks,
}

/// What happens to a finder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinderInput {
    /// An announcement arrived.
    Announcement {
        /// As it arrived.
        announcement: Box<Unverified>,
        /// Where it came from.
        from: SocketAddr,
    },
    /// [`Finder::deadline`] has come.
    Tick,
}

/// What a finder wants done, or has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinderOutput {
    /// Ask the whole network.
    Ask(Query),
    /// A station is there, or something about it has changed.
    Found(Found),
    /// The station of this key is no longer there: it said so, or was not heard for too long.
    Gone([u8; 32]),
}

/// A station that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// Where it can be reached.
    pub addresses: BTreeSet<(CarrierKind, SocketAddr)>,
    /// Tells this start of the station from others.
    pub boot: Boot,
    /// How long it had been running when it said so.
    pub age: Duration,
    /// Other stations of the service that it has noticed and does not step down for.
    pub rivals: Vec<Boot>,
}

impl Found {
    /// Whether `later` says something else about the station than that time has passed.
    fn is_news(&self, later: &Self) -> bool {
        self.boot != later.boot || self.name != later.name || self.addresses != later.addresses
    }
}

/// Why an announcement had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Ignored {
    /// No datagram of this protocol.
    #[error("malformed")]
    Malformed,
    /// Of another service.
    #[error("of another service")]
    OtherService,
    /// Our own.
    #[error("our own")]
    Own,
    /// By a key that is not accepted.
    #[error("by a key that is not accepted")]
    UnknownKey,
    /// Heard before.
    #[error("heard before")]
    Replayed,
    /// More than can be checked. Of answers a sample is checked later.
    #[error("more than can be checked")]
    Busy,
    /// Not signed by the key that it names.
    #[error("not signed by the key that it names")]
    BadSignature,
    /// Signed well, but it may be a recording; the station has been asked, or will be.
    #[error("possibly a recording")]
    Unconfirmed,
    /// The table is full, and no address has more stations in it than this one.
    #[error("too many stations")]
    Full,
}

/// How often announcements were ignored, by reason.
pub type Counts = BTreeMap<Ignored, u64>;

/// A query that was sent.
#[derive(Clone, Copy, Debug)]
struct Asked {
    nonce: Nonce,
    number: u64,
    at: Instant,
}

/// A station in the table.
#[derive(Clone, Debug)]
struct Entry {
    found: Found,
    confirmed: Addresses,
    window: Window,
    /// Where it answered from when it was found.
    source: IpAddr,
    /// When it answered a query last.
    answered: Instant,
    expires: Instant,
}

/// The machine.
#[derive(Clone)]
pub struct Finder {
    config: FinderConfig,
    dice: Dice,
    /// Queries that may still be answered.
    open: VecDeque<Asked>,
    stations: BTreeMap<[u8; 32], Entry>,
    /// When to ask next.
    next: Option<Instant>,
    pause: Duration,
    /// Queries so far.
    asked: u64,
    checks: Budget,
    answers: Budget,
    /// What an address that is seldom heard has beside these, so that one that floods does not make others unheard.
    firsts: Firsts,
    /// Answers beyond all that.
    lottery: Lottery,
    counts: Counts,
    out: VecDeque<FinderOutput>,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Seed and nonces stay out of logs.
        f.debug_struct("Finder").field("config", &self.config).field("stations", &self.stations.len()).finish_non_exhaustive()
    }
}

impl Finder {
    /// Begins to look; it asks at once. The seed is secret and fresh.
    #[must_use]
    pub fn new(config: FinderConfig, seed: [u8; 32], now: Instant) -> Self {
        Self {
            pause: config.asks.first,
            config,
            dice: Dice::new(seed),
            open: VecDeque::new(),
            stations: BTreeMap::new(),
            next: Some(now),
            asked: 0,
            checks: Budget::new(CHECKS_PER_SECOND, now),
            answers: Budget::new(ANSWERS_PER_SECOND, now),
            firsts: Firsts::new(now),
            lottery: Lottery::default(),
            counts: Counts::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes note of what happened.
    ///
    /// # Errors
    /// [`Ignored`] for an announcement without effect; it is counted too.
    pub fn handle(&mut self, input: FinderInput, now: Instant) -> Result<(), Ignored> {
        match input {
            FinderInput::Tick => {
                self.on_tick(now);
                Ok(())
            }
            FinderInput::Announcement { announcement, from } => {
                self.on_announcement(*announcement, from, now).inspect_err(|ignored| self.count(*ignored))
            }
        }
    }

    /// What to do next, if anything.
    #[must_use]
    pub fn poll(&mut self) -> Option<FinderOutput> {
        self.out.pop_front()
    }

    /// When it wants a tick.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.stations.values().map(|entry| entry.expires).chain(self.next).chain(self.lottery.due()).min()
    }

    /// What was ignored so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts something that was ignored before it got here.
    pub fn count(&mut self, ignored: Ignored) {
        *self.counts.entry(ignored).or_default() += 1;
    }

    /// Whether this nonce is in a query of ours.
    #[must_use]
    pub fn has_asked(&self, nonce: &Nonce) -> bool {
        self.open.iter().any(|asked| asked.nonce == *nonce)
    }

    fn on_tick(&mut self, now: Instant) {
        let gone: Vec<[u8; 32]> = self.stations.iter().filter(|(_, entry)| entry.expires <= now).map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.remove(key));
        self.draw(now);
        if self.next.is_some_and(|next| next <= now) {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Instant) {
        self.asked += 1;
        let nonce = self.dice.draw();
        // Pauses are at least half a second, so there are never more than a few.
        self.open.retain(|asked| asked.is_open(now));
        self.open.push_back(Asked { nonce, number: self.asked, at: now });
        self.out.push_back(FinderOutput::Ask(Query { service: self.config.service.clone(), nonce }));
        let again = self.config.asks.count.is_none_or(|count| self.asked < count);
        self.next = again.then(|| later(now, self.dice.shorten(self.pause).max(PAUSE_SHORTEST)));
        self.pause = self.pause.saturating_mul(2).min(self.config.asks.longest);
    }

    /// What the station of this key said when it last answered a query, and when that was.
    pub(super) fn answer_of(&self, key: &[u8; 32]) -> Option<(&Found, Instant)> {
        self.stations.get(key).map(|entry| (&entry.found, entry.answered))
    }

    /// Asks as soon as it may: a station was heard of that cannot be believed yet.
    pub(super) fn hasten(&mut self, now: Instant) {
        let soonest = self.open.back().map_or(now, |asked| now.max(asked.at + PAUSE_SHORTEST));
        self.next = Some(self.next.map_or(soonest, |next| next.min(soonest)));
    }

    fn on_announcement(&mut self, announcement: Unverified, from: SocketAddr, now: Instant) -> Result<(), Ignored> {
        self.consider(&announcement)?;
        let echoed = |echo| self.open.iter().find(|asked| asked.nonce == echo && asked.is_open(now));
        let Some(round) = announcement.claims().echo.and_then(echoed).map(|asked| asked.number) else {
            if !self.checks.take(now) {
                return Err(Ignored::Busy);
            }
            let announcement = announcement.verify().map_err(|_| Ignored::BadSignature)?;
            return self.on_unasked(announcement, from, now);
        };
        let ticket = Ticket { announcement, from, round };
        if self.answers.take(now) || self.firsts.take(from.ip(), now) {
            return self.check(ticket, now);
        }
        self.lottery.put(ticket, &mut self.dice, now);
        Err(Ignored::Busy)
    }

    /// Whether it is worth checking the signature of an announcement.
    fn consider(&self, announcement: &Unverified) -> Result<(), Ignored> {
        let claims = announcement.claims();
        if claims.service != self.config.service {
            return Err(Ignored::OtherService);
        }
        if self.config.own_boot == Some(claims.boot) {
            return Err(Ignored::Own);
        }
        if !self.config.accept.accepts(&claims.key) {
            return Err(Ignored::UnknownKey);
        }
        let known = self.stations.get(&claims.key).filter(|entry| entry.found.boot == claims.boot);
        if known.is_some_and(|entry| !entry.window.is_unseen(claims.sequence)) {
            return Err(Ignored::Replayed);
        }
        Ok(())
    }

    fn check(&mut self, ticket: Ticket, now: Instant) -> Result<(), Ignored> {
        let Ticket { announcement, from, round } = ticket;
        let announcement = announcement.verify().map_err(|_| Ignored::BadSignature)?;
        self.on_answer(announcement, from, round, now)
    }

    /// Checks some of the answers that came when there were too many. If others are left, a station may be among them.
    fn draw(&mut self, now: Instant) {
        let Some((drawn, left)) = self.lottery.draw(&mut self.dice, now) else { return };
        for ticket in drawn {
            // It may have been found meanwhile.
            let checked = self.consider(&ticket.announcement).and_then(|()| self.check(ticket, now));
            if let Err(ignored) = checked {
                self.count(ignored);
            }
        }
        if left {
            self.hasten(now);
        }
    }

    /// An answer to one of our queries: the station is there.
    fn on_answer(&mut self, said: Announcement, from: SocketAddr, round: u64, now: Instant) -> Result<(), Ignored> {
        if !self.stations.contains_key(&said.key) && said.valid_ms > 0 {
            self.make_room(from.ip())?;
        }
        let before = self.stations.get(&said.key);
        let source = before.map_or(from.ip(), |entry| entry.source);
        let same = before.filter(|entry| entry.found.boot == said.boot);
        let Some(expires) = expires(&said, now) else {
            // A goodbye of an earlier start says nothing of this one.
            if same.is_some() {
                self.remove(said.key);
            }
            return Ok(());
        };
        let mut window = same.map_or_else(Window::default, |entry| entry.window);
        window.see(said.sequence);
        // A station that is heard over several networks answers over each.
        let mut confirmed = same.map_or_else(Addresses::default, |entry| entry.confirmed.clone());
        confirmed.confirm(&said, from, round, &mut self.dice);
        let found = Found {
            key: said.key,
            name: said.name,
            addresses: confirmed.all(),
            boot: said.boot,
            age: Duration::from_millis(said.uptime_ms),
            rivals: said.rivals,
        };
        if before.is_none_or(|entry| entry.found.is_news(&found)) {
            self.out.push_back(FinderOutput::Found(found.clone()));
        }
        self.stations.insert(said.key, Entry { found, confirmed, window, source, answered: now, expires });
        Ok(())
    }

    /// Makes room for a station that answers from `source`: one of the address with most stations goes, chosen by lot. Of an address
    /// that has as many itself, no more are taken in. Anyone can make keys; on a network that does not forge addresses for everybody,
    /// one machine has few of these. Who has hundreds makes stations come and go, but each that answers is told at least.
    fn make_room(&mut self, source: IpAddr) -> Result<(), Ignored> {
        if self.stations.len() < STATIONS {
            return Ok(());
        }
        let mut of_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for entry in self.stations.values() {
            *of_address.entry(entry.source).or_default() += 1;
        }
        let most = of_address.values().copied().max().unwrap_or(0);
        if most <= of_address.get(&source).copied().unwrap_or(0) {
            return Err(Ignored::Full);
        }
        let crowd = |entry: &Entry| of_address[&entry.source] == most;
        let crowded: Vec<[u8; 32]> = self.stations.iter().filter(|(_, entry)| crowd(entry)).map(|(key, _)| *key).collect();
        let lot = usize::from(u16::from_le_bytes(self.dice.draw())) % crowded.len();
        self.remove(crowded[lot]);
        Ok(())
    }

    /// An announcement that nobody asked for: it may only continue what has been confirmed.
    fn on_unasked(&mut self, said: Announcement, from: SocketAddr, now: Instant) -> Result<(), Ignored> {
        let known = self.stations.get_mut(&said.key).filter(|entry| entry.found.boot == said.boot);
        let Some(entry) = known.filter(|entry| said.sequence > entry.window.highest()) else {
            self.hasten(now);
            return Err(Ignored::Unconfirmed);
        };
        // Nobody but the station can have said goodbye with this number.
        let Some(expires) = expires(&said, now) else {
            self.remove(said.key);
            return Ok(());
        };
        if said.name != entry.found.name || !addresses(&said, from).all(|address| entry.found.addresses.contains(&address)) {
            self.hasten(now);
            return Err(Ignored::Unconfirmed);
        }
        entry.window.see(said.sequence);
        entry.expires = expires;
        Ok(())
    }

    fn remove(&mut self, key: [u8; 32]) {
        if self.stations.remove(&key).is_some() {
            self.out.push_back(FinderOutput::Gone(key));
        }
    }
}

impl Asked {
    /// Whether an answer is in time.
    fn is_open(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= ANSWER_WITHIN
    }
}

fn addresses(said: &Announcement, from: SocketAddr) -> impl Iterator<Item = (CarrierKind, SocketAddr)> {
    said.endpoints.iter().map(move |endpoint| (endpoint.carrier, endpoint.address(from)))
}

/// Until when to believe it; `None` for a goodbye.
fn expires(said: &Announcement, now: Instant) -> Option<Instant> {
    (said.valid_ms > 0).then(|| now + Duration::from_millis(said.valid_ms.into()).clamp(VALID.0, VALID.1))
}
