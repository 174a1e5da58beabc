//! Stations of one service notice each other, over a network that delays and loses, in virtual time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use parlour_proto::discovery::{
    Accept, AnnouncerInput, FinderInput, Ignored, Policy, RivalNews, Rivals, RivalsOutput, To, Verdict,
};
use parlour_wire::announce::{Announcement, Boot, Datagram, Endpoint, Nonce, Query};
use proptest::prelude::*;

use crate::support::{SERVICE, Station, epoch, ms, sign};

/// A station that looks for rivals.
struct Side {
    station: Station,
    rivals: Rivals,
    news: Vec<RivalNews>,
    stepped_down: bool,
}

impl Side {
    fn new(number: u8, policy: Policy, now: Instant) -> Self {
        Self::of(Station::new(number, now), number, policy, now)
    }

    fn of(station: Station, number: u8, policy: Policy, now: Instant) -> Self {
        let own = (station.key(), station.announcer.boot());
        let rivals = Rivals::new(policy, SERVICE.to_owned(), own, now, [number; 32]);
        Self { station, rivals, news: Vec::new(), stepped_down: false }
    }

    fn deadline(&self) -> Option<Instant> {
        self.station.announcer.deadline().into_iter().chain(self.rivals.deadline()).min()
    }

    /// Gives an input to both machines, and returns the datagrams that come of it.
    fn handle(&mut self, datagram: Option<(Datagram, SocketAddr)>, now: Instant) -> Vec<(To, Vec<u8>)> {
        match datagram {
            None => {
                self.station.announcer.handle(AnnouncerInput::Tick, now);
                self.rivals.handle(FinderInput::Tick, now).unwrap();
            }
            Some((Datagram::Query(query), from)) => {
                if !self.rivals.has_asked(&query.nonce) {
                    self.station.announcer.handle(AnnouncerInput::Query { query, from }, now);
                }
            }
            Some((Datagram::Announcement(announcement), from)) => {
                let input = FinderInput::Announcement { announcement, from };
                let _ = self.rivals.handle(input, now);
            }
        }
        self.station.announcer.handle(AnnouncerInput::Rivals(self.rivals.beside()), now);
        let mut out = Vec::new();
        while let Some(output) = self.rivals.poll() {
            match output {
                RivalsOutput::Ask(query) => out.push((To::Everyone, query.to_datagram().unwrap())),
                RivalsOutput::News(news) => {
                    if matches!(&news, RivalNews::Noticed { verdict: Verdict::StepDown, .. }) {
                        self.stepped_down = true;
                        self.station.announcer.handle(AnnouncerInput::Stop, now);
                    }
                    self.news.push(news);
                }
            }
        }
        while let Some(say) = self.station.announcer.poll() {
            out.push((say.to, sign(&self.station.secret, &say.announcement)));
        }
        out
    }
}

/// A network that delays every datagram on its own, and loses some, but no more in a row on one way than it is told.
struct Network {
    now: Instant,
    sides: Vec<Side>,
    /// When a station is switched on.
    planned: Vec<(Instant, u8, Policy)>,
    /// Datagrams under way, by arrival and a number that keeps them apart.
    under_way: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    lost_in_a_row: BTreeMap<(SocketAddr, SocketAddr), u32>,
    longest: Duration,
    loss_percent: u8,
    most_in_a_row: u32,
    seed: u64,
}

impl Network {
    fn new(planned: Vec<(Instant, u8, Policy)>, now: Instant) -> Self {
        Self {
            now,
            sides: Vec::new(),
            planned,
            under_way: BTreeMap::new(),
            sent: 0,
            lost_in_a_row: BTreeMap::new(),
            longest: ms(1),
            loss_percent: 0,
            most_in_a_row: 2,
            seed: 1,
        }
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn send(&mut self, from: SocketAddr, out: Vec<(To, Vec<u8>)>) {
        for (to, datagram) in out {
            let to: Vec<SocketAddr> = match to {
                To::One(to) => vec![to],
                To::Everyone => self.sides.iter().map(|side| side.station.address).collect(),
            };
            for to in to {
                let lost = self.random() % 100 < u64::from(self.loss_percent);
                let in_a_row = self.lost_in_a_row.entry((from, to)).or_default();
                if lost && *in_a_row < self.most_in_a_row {
                    *in_a_row += 1;
                    continue;
                }
                *in_a_row = 0;
                let delay = self.longest.mul_f64((self.random() % 1000) as f64 / 1000.0);
                self.sent += 1;
                self.under_way.insert((self.now + delay, self.sent), (from, to, datagram.clone()));
            }
        }
    }

    /// Runs until a time.
    fn run(&mut self, until: Instant) {
        loop {
            let switch = self.planned.iter().map(|(at, ..)| *at).min();
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let deadline = self.sides.iter().filter_map(Side::deadline).min();
            let next = switch.into_iter().chain(arrival).chain(deadline).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if switch == Some(next) {
                let which = self.planned.iter().position(|(at, ..)| *at == next).unwrap();
                let (_, number, policy) = self.planned.remove(which);
                self.sides.push(Side::new(number, policy, self.now));
            } else if arrival == Some(next) {
                let (_, (from, to, datagram)) = self.under_way.pop_first().unwrap();
                let datagram = Datagram::decode(&datagram).unwrap();
                if let Some(side) = self.sides.iter_mut().find(|side| side.station.address == to) {
                    let out = side.handle(Some((datagram, from)), self.now);
                    self.send(to, out);
                }
            } else {
                let side = self.sides.iter_mut().find(|side| side.deadline() == deadline).unwrap();
                let address = side.station.address;
                let out = side.handle(None, self.now);
                self.send(address, out);
            }
        }
        self.now = until;
    }

    fn side(&self, number: u8) -> &Side {
        self.sides.iter().find(|side| side.station.address.ip() == std::net::Ipv4Addr::new(10, 0, 0, number)).unwrap()
    }

    fn staying(&self) -> Vec<&Side> {
        self.sides.iter().filter(|side| !side.stepped_down).collect()
    }
}

fn keys(numbers: &[u8]) -> std::collections::BTreeSet<[u8; 32]> {
    numbers.iter().map(|number| Station::new(*number, epoch()).key()).collect()
}

fn older_wins(numbers: &[u8]) -> Policy {
    Policy::OlderWins(keys(numbers))
}

#[test]
fn the_younger_station_steps_down_and_the_older_one_is_told() {
    let start = epoch();
    let policy = older_wins(&[1, 2]);
    for (older, younger) in [(1, 2), (2, 1)] {
        let planned = vec![(start, older, policy.clone()), (start + ms(30_000), younger, policy.clone())];
        let mut network = Network::new(planned, start);
        network.run(start + ms(31_000));
        assert!(network.side(younger).stepped_down, "within its first second");
        network.run(start + ms(120_000));
        let older = network.side(older);
        assert!(!older.stepped_down);
        assert!(matches!(&older.news[..], [RivalNews::Noticed { verdict: Verdict::Stay, .. }, RivalNews::Gone(_)] | []));
    }
}

#[test]
fn who_has_stepped_down_is_silent_and_hears_when_the_winner_is_gone() {
    let start = epoch();
    let policy = older_wins(&[1, 2]);
    let planned = vec![(start, 1, policy.clone()), (start + ms(30_000), 2, policy.clone())];
    let mut network = Network::new(planned, start);
    network.run(start + ms(31_000));
    let told = network.side(2).news.len();
    assert!(network.side(2).stepped_down);
    network.run(start + ms(200_000));
    assert_eq!(network.side(2).news.len(), told, "the winner is there all the time");
    // It crashes without a word.
    let winner = network.side(1).station.key();
    network.sides.retain(|side| side.station.key() != winner);
    let sent = network.sent;
    network.run(start + ms(260_000));
    assert_eq!(network.side(2).news[told..], [RivalNews::Gone(winner)]);
    assert_eq!(network.sent, sent, "it says nothing meanwhile");
}

#[test]
fn both_stay_if_that_is_the_policy_and_both_know() {
    let start = epoch();
    let stay = || Policy::BothStay(Accept::Anyone);
    let mut network = Network::new(vec![(start, 1, stay()), (start + ms(30_000), 2, stay())], start);
    network.run(start + ms(120_000));
    assert_eq!(network.staying().len(), 2);
    for side in &network.sides {
        assert!(matches!(&side.news[..], [RivalNews::Noticed { verdict: Verdict::Stay, .. }]), "{:?}", side.news);
    }
}

#[test]
fn a_rival_with_a_key_that_is_not_listed_moves_nobody() {
    let start = epoch();
    let planned = vec![(start, 9, older_wins(&[1, 9])), (start + ms(30_000), 1, older_wins(&[1]))];
    let mut network = Network::new(planned, start);
    network.run(start + ms(120_000));
    let side = network.side(1);
    assert!(!side.stepped_down && side.news.is_empty());
    assert!(side.rivals.counts()[&Ignored::UnknownKey] > 0);
}

#[test]
fn a_recording_of_an_older_station_moves_nobody() {
    let start = epoch();
    let mut old = Station::new(2, start);
    let mut recorded = vec![old.answer([5; 16], start)];
    for _ in 0..20 {
        let at = old.announcer.deadline().unwrap();
        recorded.push(old.announce(at));
    }
    let now = start + ms(300_000);
    let mut side = Side::new(1, older_wins(&[1, 2]), now);
    for (n, datagram) in recorded.iter().enumerate() {
        let at = now + ms(500 * n as u64);
        let datagram = Datagram::decode(datagram).unwrap();
        let out = side.handle(Some((datagram, old.address)), at);
        assert!(out.iter().all(|(to, _)| *to == To::Everyone));
        side.handle(None, at);
    }
    assert!(!side.stepped_down && side.news.is_empty());
    assert_eq!(side.rivals.counts()[&Ignored::Unconfirmed], 21);
}

#[test]
fn two_that_start_at_once_agree_on_the_lower_key() {
    let start = epoch();
    let policy = older_wins(&[1, 2]);
    let mut network = Network::new(vec![(start, 1, policy.clone()), (start, 2, policy)], start);
    network.longest = ms(100);
    network.run(start + ms(60_000));
    let staying = network.staying();
    assert_eq!(staying.len(), 1);
    assert_eq!(Some(staying[0].station.key()), keys(&[1, 2]).first().copied());
}

#[test]
fn one_identity_on_two_machines_is_noticed_too() {
    let start = epoch();
    let mut network = Network::new(vec![(start, 1, older_wins(&[]))], start);
    network.run(start + ms(30_000));
    let station = Station { address: SocketAddr::from(([10, 0, 0, 101], 4000)), ..Station::started(1, 2, network.now) };
    let clone = Side::of(station, 101, older_wins(&[]), network.now);
    network.sides.push(clone);
    network.run(start + ms(60_000));
    assert!(!network.sides[0].stepped_down && network.sides[1].stepped_down);
}

#[test]
fn a_station_does_not_answer_itself() {
    let start = epoch();
    let mut side = Side::new(1, older_wins(&[]), start);
    let asked = side.handle(None, start).into_iter().find_map(|(_, datagram)| match Datagram::decode(&datagram) {
        Ok(Datagram::Query(query)) => Some(query),
        _ => None,
    });
    let address = side.station.address;
    assert_eq!(side.handle(Some((Datagram::Query(asked.unwrap()), address)), start), []);
    let other = Query { service: SERVICE.to_owned(), nonce: [3; 16] };
    assert_eq!(side.handle(Some((Datagram::Query(other), address)), start).len(), 1);
}

/// A station and one whose key wins against its own, which says what the test wants it to say.
struct Equals {
    side: Side,
    other: Station,
    sequence: u64,
}

impl Equals {
    fn new(now: Instant) -> Self {
        let [low, high] = if keys(&[1]) < keys(&[2]) { [1, 2] } else { [2, 1] };
        Self { side: Side::new(high, older_wins(&[1, 2]), now), other: Station::new(low, now), sequence: 0 }
    }

    /// Lets the station ask, and the other one answer with this age and these rivals.
    fn answer(&mut self, age: Duration, rivals: Vec<Boot>) -> Instant {
        let (now, nonce) = loop {
            let now = self.side.deadline().expect("it goes on");
            let asked = self.side.handle(None, now).into_iter().find_map(|(_, datagram)| match Datagram::decode(&datagram) {
                Ok(Datagram::Query(query)) => Some(query.nonce),
                _ => None,
            });
            if let Some(nonce) = asked {
                break (now, nonce);
            }
            // What it hears of, it asks.
            self.say(None, ms(0), vec![], now);
        };
        self.say(Some(nonce), age, rivals, now);
        now
    }

    fn say(&mut self, echo: Option<Nonce>, age: Duration, rivals: Vec<Boot>, now: Instant) {
        self.sequence += 1;
        let announcement = Announcement {
            key: self.other.key(),
            service: SERVICE.to_owned(),
            name: format!("said {}", self.sequence),
            endpoints: vec![Endpoint::websocket(7443)],
            boot: self.other.announcer.boot(),
            sequence: self.sequence,
            uptime_ms: u64::try_from(age.as_millis()).unwrap(),
            valid_ms: 60_000,
            echo,
            rivals,
        };
        let datagram = Datagram::decode(&sign(&self.other.secret, &announcement)).unwrap();
        self.side.handle(Some((datagram, self.other.address)), now);
    }
}

#[test]
fn an_equal_wins_only_after_a_while_and_if_it_says_that_it_stays() {
    let start = epoch();
    let mut equals = Equals::new(start);
    let own = equals.side.station.announcer.boot();
    let stays = || vec![Boot([4; 8]), own];
    assert!(equals.answer(ms(0), stays()) < start + ms(10_000));
    assert!(!equals.side.stepped_down, "it has only been noticed");
    while equals.answer(ms(0), vec![Boot([4; 8])]) < start + ms(40_000) {}
    assert!(!equals.side.stepped_down, "nobody has said that it stays beside this one");
    equals.answer(ms(0), stays());
    assert!(equals.side.stepped_down);
}

#[test]
fn who_has_said_that_it_stays_does_not_find_the_other_one_older_later() {
    let start = epoch();
    let mut equals = Equals::new(start);
    let now = equals.answer(ms(0), vec![]);
    assert_eq!(equals.side.rivals.beside(), [equals.other.announcer.boot()]);
    // The same start, and it would win by its age.
    equals.answer(ms(1_000_000), vec![]);
    assert!(!equals.side.stepped_down);
    // Another start is another station.
    equals.other = Station { address: equals.other.address, ..Station::started(3, 2, now) };
    equals.other.secret = Station::new(if keys(&[1]) < keys(&[2]) { 1 } else { 2 }, now).secret;
    equals.answer(ms(1_000_000), vec![]);
    assert!(equals.side.stepped_down);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_any_stations_exactly_one_stays_and_it_is_the_oldest(
        starts in prop_oneof![
            proptest::collection::vec(0u64..60_000, 2..5),
            proptest::collection::vec(0u64..600, 2..5),
            proptest::collection::vec(0u64..5, 2..5),
        ],
        longest in 1u64..400,
        loss_percent in 0u8..30,
        seed in any::<u64>(),
    ) {
        let start = epoch();
        let numbers: Vec<u8> = (1..=starts.len() as u8).collect();
        let planned = starts.iter().zip(&numbers).map(|(at, number)| (start + ms(*at), *number, older_wins(&numbers))).collect();
        let mut network = Network::new(planned, start);
        (network.longest, network.loss_percent, network.seed) = (ms(longest), loss_percent, seed);
        network.run(start + ms(180_000));
        let staying = network.staying();
        prop_assert_eq!(staying.len(), 1, "starts {:?}", starts);
        let first = start + ms(*starts.iter().min().unwrap());
        let ahead = staying[0].station.announcer.started() - first;
        prop_assert!(ahead <= ms(2_000), "{ahead:?} younger than the oldest");
    }

    #[test]
    fn whatever_is_lost_two_never_step_down_for_each_other(
        apart in prop_oneof![0u64..5, 0u64..600, 0u64..20_000],
        longest in 1u64..2_000,
        loss_percent in 0u8..=100,
        seed in any::<u64>(),
    ) {
        let start = epoch();
        let planned = vec![(start, 1, older_wins(&[1, 2])), (start + ms(apart), 2, older_wins(&[1, 2]))];
        let mut network = Network::new(planned, start);
        (network.longest, network.loss_percent, network.most_in_a_row, network.seed) =
            (ms(longest), loss_percent, u32::MAX, seed);
        network.run(start + ms(120_000));
        prop_assert!(!network.staying().is_empty());
    }
}
