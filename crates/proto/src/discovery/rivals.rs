//! A station that notices other stations of its service, and decides who stays.
//!
//! **Older wins.** A station steps down when it hears of one that has been running for longer. Each says how long that is by its
//! own steady clock, so clocks that disagree on the time of day change nothing. An announcement takes its time to arrive, which
//! makes its sender look younger than it is. So who steps down for its age is truly younger, and two never step down for each
//! other.
//!
//! **Equals.** Two that started within such a time of each other may both look older to themselves, and both stay. Each says in
//! its announcements beside whom it stays, and keeps to that. When a while has passed, who has the higher key (with one key, the
//! higher start number) asks once more, and steps down if the other answers that it stays.
//!
//! **All gone.** Who has stepped down goes on listening and tells when the winner is gone, whatever the reason: it was stopped, it
//! crashed, or it stepped down itself at the same moment for a third. So however unlucky several starts at once may be, no network
//! stays without a station unnoticed.
//!
//! How long a station has been running is its own claim: who holds an accepted key can claim any age. So only named keys can
//! make a station step down.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use parlour_wire::announce::{Boot, Nonce, Query};

use super::{
    dice::Dice,
    finder::{Accept, Asks, Counts, Finder, FinderConfig, FinderInput, FinderOutput, Found, Ignored},
};

/// How long equals stay beside each other, less a random part of up to a quarter. Time for who is younger to notice it, though
/// the first tries are lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an equal is asked whether it stays.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Starts of stations that are remembered as those that this one stays beside.
const REMEMBERED: usize = 64;
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
    /// Step down. Nothing follows but [`RivalNews::Gone`], so that the application can begin again when nobody is left.
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
    /// When to settle with an equal, by asking whether it stays.
    settle: Instant,
    /// When to ask next.
    ask: Instant,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Rivals {
    finder: Finder,
    /// Whether the younger one steps down.
    older_wins: bool,
    key: [u8; 32],
    boot: Boot,
    started: Instant,
    rivals: BTreeMap<[u8; 32], Rival>,
    /// Stations that this one stays beside, the last noticed first. Never taken back, even if they were gone meanwhile.
    beside: VecDeque<Boot>,
    stepped_down: bool,
    dice: Dice,
    out: VecDeque<RivalsOutput>,
}

impl Rivals {
    /// Looks for rivals of the station with this key and start, which began at `started`. The seed is secret and fresh.
    #[must_use]
    pub fn new(policy: Policy, service: String, (key, boot): ([u8; 32], Boot), started: Instant, seed: [u8; 32]) -> Self {
        let (older_wins, accept) = match policy {
            Policy::BothStay(accept) => (false, accept),
            Policy::OlderWins(mut keys) => {
                keys.insert(key);
                (true, Accept::Keys(keys))
            }
        };
        let config = FinderConfig { service, accept, own_boot: Some(boot), asks: ASKS };
        let mut dice = Dice::new(seed);
        Self {
            finder: Finder::new(config, dice.draw(), started),
            older_wins,
            key,
            boot,
            started,
            rivals: BTreeMap::new(),
            beside: VecDeque::new(),
            stepped_down: false,
            dice,
            out: VecDeque::new(),
        }
    }

    /// Takes note of what happened. What the station says afterwards must name [`Rivals::beside`].
    ///
    /// # Errors
    /// [`Ignored`] for an announcement without effect; it is counted too.
    pub fn handle(&mut self, input: FinderInput, now: Instant) -> Result<(), Ignored> {
        let result = self.finder.handle(input, now);
        if self.stepped_down {
            self.listen();
            return result;
        }
        self.settle(now);
        while let Some(output) = self.finder.poll() {
            match output {
                FinderOutput::Ask(query) => self.out.push_back(RivalsOutput::Ask(query)),
                FinderOutput::Found(found) => self.on_found(found, now),
                FinderOutput::Gone(key) => {
                    self.rivals.remove(&key);
                    self.tell(RivalNews::Gone(key));
                }
            }
        }
        result
    }

    /// Says nothing any more, and only hears whether those are still there that it knows of.
    fn listen(&mut self) {
        while let Some(output) = self.finder.poll() {
            if let FinderOutput::Gone(key) = output {
                self.out.push_back(RivalsOutput::News(RivalNews::Gone(key)));
            }
        }
    }

    fn on_found(&mut self, found: Found, now: Instant) {
        let older = found.age > now.saturating_duration_since(self.started);
        if self.older_wins && older && !self.beside.contains(&found.boot) {
            self.step_down(found);
            return;
        }
        if !self.beside.contains(&found.boot) {
            self.beside.push_front(found.boot);
            self.beside.truncate(REMEMBERED);
        }
        let known = self.rivals.get(&found.key).filter(|rival| rival.found.boot == found.boot);
        let settle = known.map_or_else(|| now + self.dice.shorten(PATIENCE), |rival| rival.settle);
        self.tell(RivalNews::Noticed { rival: found.clone(), verdict: Verdict::Stay });
        self.rivals.insert(found.key, Rival { found, settle, ask: settle });
    }

    /// Steps down for an equal with a lower key that says, asked after the time of patience, that it stays.
    fn settle(&mut self, now: Instant) {
        let stays = |rival: &&Rival| {
            self.finder.answer_of(&rival.found.key).is_some_and(|(answer, at)| {
                at >= rival.settle && answer.boot == rival.found.boot && answer.rivals.contains(&self.boot)
            })
        };
        let winner = self.winners().find(stays).map(|rival| rival.found.clone());
        if let Some(winner) = winner {
            self.step_down(winner);
            return;
        }
        let own = (self.key, self.boot);
        let older_wins = self.older_wins;
        for rival in self.rivals.values_mut().filter(|rival| older_wins && rival.outranks(own) && rival.ask <= now) {
            rival.ask = now + ASK_AGAIN;
            self.finder.hasten(now);
        }
    }

    /// The rivals that win against this station if they are equals.
    fn winners(&self) -> impl Iterator<Item = &Rival> {
        let own = (self.key, self.boot);
        self.rivals.values().filter(move |rival| self.older_wins && rival.outranks(own))
    }

    fn step_down(&mut self, winner: Found) {
        self.tell(RivalNews::Noticed { rival: winner, verdict: Verdict::StepDown });
        self.stepped_down = true;
    }

    fn tell(&mut self, news: RivalNews) {
        if !self.stepped_down {
            self.out.push_back(RivalsOutput::News(news));
        }
    }

    /// The starts of stations that this one has noticed and stays beside because it is not younger. None if both stay anyway.
    #[must_use]
    pub fn beside(&self) -> Vec<Boot> {
        if self.older_wins { self.beside.iter().copied().collect() } else { Vec::new() }
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
            return self.finder.deadline();
        }
        self.winners().map(|rival| rival.ask).chain(self.finder.deadline()).min()
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

impl Rival {
    /// Whether it wins against an equal with this key and start.
    fn outranks(&self, own: ([u8; 32], Boot)) -> bool {
        (self.found.key, self.found.boot) < own
    }
}
