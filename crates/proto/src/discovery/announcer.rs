//! A station that tells a local network that it is there.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use parlour_wire::{
    DecodeError,
    announce::{Announcement, Boot, Endpoint, Nonce, Query},
    limits,
};

use super::{budget::Budget, dice::Dice};
use crate::later;

/// Answers a second: enough for a fleet that is switched on at once to find its station within a few tries, and too few to make
/// of a station a cannon against somebody whose address a query forges (a query is short, an answer may be a kilobyte).
const ANSWERS_PER_SECOND: u32 = 50;

/// How often a station may tell everyone that it is there. More often than it answers would be a flood, and who announces itself more
/// seldom would not be believed for three times as long: a finder believes nothing for longer than ten minutes.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(180);

/// What a station says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The station's Ed25519 public key.
    pub key: [u8; 32],
    /// Which service it offers.
    pub service: String,
    /// What its owner calls it.
    pub name: String,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
}

/// What happens to an announcer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncerInput {
    /// Somebody asks.
    Query {
        /// What for.
        query: Query,
        /// Where the answer goes.
        from: SocketAddr,
    },
    /// These starts of other stations have been noticed, and the station stays beside them (see [`super::Rivals`]).
    Rivals(Vec<Boot>),
    /// [`Announcer::deadline`] has come.
    Tick,
    /// The station stops: it says goodbye, and nothing after it.
    Stop,
}

/// Whom an announcement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The whole network.
    Everyone,
    /// Who asked.
    One(SocketAddr),
}

/// An announcement to sign and send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// Whom it is for.
    pub to: To,
    /// What to say.
    pub announcement: Announcement,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Announcer {
    profile: Profile,
    interval: Duration,
    boot: Boot,
    rivals: Vec<Boot>,
    started: Instant,
    sequence: u64,
    /// When everyone is told next; `None` after the goodbye.
    next: Option<Instant>,
    answers: Budget,
    dice: Dice,
    out: VecDeque<Say>,
}

impl Announcer {
    /// A station that has just started. It announces itself at once, and then every `interval`, less a random part of up to a
    /// quarter. The seed is secret and fresh.
    #[must_use]
    pub fn new(profile: Profile, interval: Duration, seed: [u8; 32], now: Instant) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            profile,
            interval,
            boot: Boot(dice.draw()),
            rivals: Vec::new(),
            started: now,
            sequence: 0,
            next: Some(now),
            answers: Budget::new(ANSWERS_PER_SECOND, now),
            dice,
            out: VecDeque::new(),
        }
    }

    /// Whether what it would say can be said.
    ///
    /// # Errors
    /// [`DecodeError`] naming what is out of bounds: a part of the profile, or the interval, which is 20 milliseconds at least and three
    /// minutes at most.
    pub fn check(&self) -> Result<(), DecodeError> {
        if !INTERVALS.contains(&self.interval) {
            return Err(DecodeError::Invalid("interval"));
        }
        let mut trial = self.clone();
        trial.say(To::Everyone, None, self.valid(), self.started);
        trial.poll().map_or(Ok(()), |say| say.announcement.to_bytes().map(drop))
    }

    /// Tells this start of the station from all others.
    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// When it started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Takes note of what happened. Queries for other services, and more of them than can be answered, are ignored.
    pub fn handle(&mut self, input: AnnouncerInput, now: Instant) {
        let Some(next) = self.next else { return };
        match input {
            AnnouncerInput::Query { query, from } => {
                if query.service == self.profile.service && self.answers.take(now) {
                    self.say(To::One(from), Some(query.nonce), self.valid(), now);
                }
            }
            AnnouncerInput::Rivals(mut rivals) => {
                rivals.truncate(limits::ANNOUNCED_RIVALS);
                self.rivals = rivals;
            }
            AnnouncerInput::Tick if next <= now => {
                self.say(To::Everyone, None, self.valid(), now);
                self.next = Some(later(now, self.dice.shorten(self.interval)));
            }
            AnnouncerInput::Tick => {}
            AnnouncerInput::Stop => {
                self.next = None;
                self.out.clear();
                self.say(To::Everyone, None, Duration::ZERO, now);
            }
        }
    }

    /// What to say next, if anything.
    #[must_use]
    pub fn poll(&mut self) -> Option<Say> {
        self.out.pop_front()
    }

    /// When it wants a tick.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Two announcements may be lost before anybody thinks that the station is gone.
    fn valid(&self) -> Duration {
        self.interval.saturating_mul(3).saturating_add(Duration::from_secs(1))
    }

    fn say(&mut self, to: To, echo: Option<Nonce>, valid: Duration, now: Instant) {
        self.sequence += 1;
        let Profile { key, service, name, endpoints } = self.profile.clone();
        let announcement = Announcement {
            key,
            service,
            name,
            endpoints,
            boot: self.boot,
            sequence: self.sequence,
            uptime_ms: u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX),
            valid_ms: u32::try_from(valid.as_millis()).unwrap_or(u32::MAX),
            echo,
            rivals: self.rivals.clone(),
        };
        self.out.push_back(Say { to, announcement });
    }
}
