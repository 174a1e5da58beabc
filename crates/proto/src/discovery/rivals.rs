//! A station that notices other stations of its service, and decides who stays.
//!
//! **Older wins.** A station steps down when it hears of one that has been running for longer. Each says how long that is by its
//! own steady clock, so clocks that disagree on the time of day change nothing. An announcement takes its time to arrive, which
//! makes its sender look younger than it is; so the oldest station never steps down for its age, and two never step down for
//! each other. If two started within that time of each other, neither looks older, and both stay for a while; then the lower
//! key wins (with one key, the lower start number). A station that steps down is silent from then on, so only those who stayed
//! are left to this second rule; and a station that is older by more than any such time never falls under it.
//!
//! How long a station has been running is its own claim: who holds an accepted key can claim any age. So only named keys
//! can make a station step down.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use parlour_wire::announce::{Nonce, Query};

use super::finder::{Accept, Asks, Counts, Finder, FinderConfig, FinderInput, FinderOutput, Found, Ignored};

/// How long two stations that look equally old stay beside each other, counted from when one noticed the other. Twice what
/// hearing of each other and asking may take if the first tries are lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Stations whose ages differ by more than this are told apart by their ages, however slow the network.
const NEARLY_EQUAL: Duration = Duration::from_secs(2);
/// A station asks who is there when it starts, a few times in case one is lost, and then only when it hears of somebody.
const ASKS: Asks = Asks { first: Duration::from_secs(1), longest: Duration::from_secs(4), count: Some(3) };

/// What stations of one service do about each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Both stay; the application is told.
    BothStay(Accept),
    /// The older one stays, the younger one steps down. Only these keys count, and the station's own.
    OlderWins(BTreeSet<[u8; 32]>),
}

/// What a station is to do about a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stay: the other one steps down, or both stay, or it cannot be told yet.
    Stay,
    /// Step down. Nothing follows.
    StepDown,
}

/// What there is to tell of rivals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RivalNews {
    /// Another station offers the same service.
    Noticed {
        /// The other one.
        rival: Found,
        /// What to do.
        verdict: Verdict,
    },
    /// It no longer does.
    Gone([u8; 32]),
}

/// What the machine wants done, or has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RivalsOutput {
    /// Ask the whole network.
    Ask(Query),
    /// For the application.
    News(RivalNews),
}

#[derive(Clone, Debug)]
struct Rival {
    found: Found,
    /// When it said how old it is.
    heard: Instant,
    noticed: Instant,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Rivals {
    finder: Finder,
    /// Whether the younger one steps down.
    older_wins: bool,
    key: [u8; 32],
    boot: [u8; 8],
    started: Instant,
    rivals: BTreeMap<[u8; 32], Rival>,
    stepped_down: bool,
    out: VecDeque<RivalsOutput>,
}

impl Rivals {
    /// Looks for rivals of the station with this key and start, which began at `started`. The seed is secret and fresh.
    #[must_use]
    pub fn new(policy: Policy, service: String, (key, boot): ([u8; 32], [u8; 8]), started: Instant, seed: [u8; 32]) -> Self {
        let (older_wins, accept) = match policy {
            Policy::BothStay(accept) => (false, accept),
            Policy::OlderWins(mut keys) => {
                keys.insert(key);
                (true, Accept::Keys(keys))
            }
        };
        let config = FinderConfig { service, accept, own_boot: Some(boot), asks: ASKS };
        Self {
            finder: Finder::new(config, seed, started),
            older_wins,
            key,
            boot,
            started,
            rivals: BTreeMap::new(),
            stepped_down: false,
            out: VecDeque::new(),
        }
    }

    /// Takes note of what happened.
    ///
    /// # Errors
    /// [`Ignored`] for an announcement without effect; it is counted too.
    pub fn handle(&mut self, input: FinderInput, now: Instant) -> Result<(), Ignored> {
        if self.stepped_down {
            return Ok(());
        }
        let result = self.finder.handle(input, now);
        while let Some(output) = self.finder.poll() {
            match output {
                FinderOutput::Ask(query) => self.out.push_back(RivalsOutput::Ask(query)),
                FinderOutput::Found(found) => self.on_found(found, now),
                FinderOutput::Gone(key) => {
                    self.rivals.remove(&key);
                    self.out.push_back(RivalsOutput::News(RivalNews::Gone(key)));
                }
            }
        }
        self.lose_patience(now);
        result
    }

    fn on_found(&mut self, found: Found, now: Instant) {
        let noticed = self.rivals.get(&found.key).map_or(now, |rival| rival.noticed);
        let rival = Rival { found, heard: now, noticed };
        self.judge(&rival, now);
        self.rivals.insert(rival.found.key, rival);
    }

    /// Tells what is to be done about a rival.
    fn judge(&mut self, rival: &Rival, now: Instant) {
        let older = rival.found.age > now.saturating_duration_since(self.started);
        let verdict = if self.older_wins && older { Verdict::StepDown } else { Verdict::Stay };
        self.tell(rival.found.clone(), verdict);
    }

    fn tell(&mut self, rival: Found, verdict: Verdict) {
        if !self.stepped_down {
            self.stepped_down = verdict == Verdict::StepDown;
            self.out.push_back(RivalsOutput::News(RivalNews::Noticed { rival, verdict }));
        }
    }

    /// Who has stayed beside us for so long did not think that we are older.
    fn lose_patience(&mut self, now: Instant) {
        let winner = self.equals().find(|rival| rival.noticed + PATIENCE <= now).map(|rival| rival.found.clone());
        if let Some(winner) = winner {
            self.tell(winner, Verdict::StepDown);
        }
    }

    /// The rivals that win by the second rule, if they stay long enough.
    fn equals(&self) -> impl Iterator<Item = &Rival> {
        let own = (self.key, self.boot);
        self.rivals.values().filter(move |rival| {
            let own_age = rival.heard.saturating_duration_since(self.started);
            self.older_wins && (rival.found.key, rival.found.boot) < own && own_age.abs_diff(rival.found.age) <= NEARLY_EQUAL
        })
    }

    /// What to do next, if anything.
    #[must_use]
    pub fn poll(&mut self) -> Option<RivalsOutput> {
        self.out.pop_front()
    }

    /// When it wants a tick.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.stepped_down {
            return None;
        }
        let patience = self.equals().map(|rival| rival.noticed + PATIENCE);
        patience.chain(self.finder.deadline()).min()
    }

    /// Whether this nonce is in a query of ours.
    #[must_use]
    pub fn has_asked(&self, nonce: &Nonce) -> bool {
        self.finder.has_asked(nonce)
    }

    /// What was ignored so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        self.finder.counts()
    }

    /// Counts something that was ignored before it got here.
    pub fn count(&mut self, ignored: Ignored) {
        self.finder.count(ignored);
    }
}
