//! Stations are found, and nobody who pretends to be one is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use parlour_proto::discovery::{Accept, AnnouncerInput, Finder, FinderOutput, Found, Ignored, To};
use parlour_wire::announce::{Announcement, Boot, CarrierKind, Endpoint, Place, Query};
use proptest::prelude::*;

use crate::support::{INTERVAL, SERVICE, Station, address, epoch, hear, look_for, look_with, ms, outputs, sign, tick};

/// A finder that accepts one station, and has found it.
fn found(now: Instant) -> (Station, Finder) {
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let nonce = tick(&mut finder, now).expect("it asks at once");
    let answer = station.answer(nonce, now);
    hear(&mut finder, &answer, station.address, now).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(_)]));
    (station, finder)
}

#[test]
fn a_station_that_answers_is_found_with_its_address_and_age() {
    let start = epoch();
    let mut station = Station::new(1, start);
    let now = start + ms(60_000);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let nonce = tick(&mut finder, now).unwrap();
    let answer = station.answer(nonce, now);
    hear(&mut finder, &answer, station.address, now).unwrap();
    let expected = Found {
        key: station.key(),
        name: "station 1".to_owned(),
        addresses: [(CarrierKind::WEBSOCKET, address("10.0.0.1:7443"))].into(),
        boot: station.announcer.boot(),
        age: ms(60_000),
        rivals: vec![],
    };
    assert_eq!(outputs(&mut finder), [FinderOutput::Found(expected)]);
}

#[test]
fn a_station_is_gone_when_it_says_so_or_is_not_heard() {
    let now = epoch();
    let (mut station, mut finder) = found(now);
    let goodbye = station.says(AnnouncerInput::Stop, now)[0].clone();
    assert_eq!(goodbye.to, To::Everyone);
    hear(&mut finder, &sign(&station.secret, &goodbye.announcement), station.address, now).unwrap();
    assert_eq!(outputs(&mut finder), [FinderOutput::Gone(station.key())]);
    assert!(station.says(AnnouncerInput::Tick, now + ms(60_000)).is_empty(), "it has stopped");

    let (station, mut finder) = found(now);
    let mut gone = Vec::new();
    let mut at = now;
    while gone.is_empty() {
        at = finder.deadline().unwrap();
        assert!(at < now + ms(60_000));
        finder.handle(parlour_proto::discovery::FinderInput::Tick, at).unwrap();
        gone = outputs(&mut finder).into_iter().filter(|output| !matches!(output, FinderOutput::Ask(_))).collect();
    }
    assert_eq!(gone, [FinderOutput::Gone(station.key())]);
    assert_eq!(at, now + INTERVAL * 3 + ms(1000), "as long as it said it is valid");
}

#[test]
fn a_station_that_goes_on_announcing_itself_stays_found() {
    let now = epoch();
    let (mut station, mut finder) = found(now);
    for _ in 0..20 {
        let at = station.announcer.deadline().unwrap().max(now);
        let announcement = station.announce(at);
        hear(&mut finder, &announcement, station.address, at).unwrap();
        tick(&mut finder, at);
    }
    assert!(outputs(&mut finder).is_empty());
}

#[test]
fn what_nobody_asked_for_is_believed_only_after_it_was_asked_for() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Anyone, now);
    tick(&mut finder, now);
    let announcement = station.announce(now);
    assert_eq!(hear(&mut finder, &announcement, station.address, now), Err(Ignored::Unconfirmed));
    let soon = finder.deadline().unwrap();
    assert!(soon <= now + ms(500), "it asks at the next occasion");
    let nonce = tick(&mut finder, soon).unwrap();
    let answer = station.answer(nonce, soon);
    hear(&mut finder, &answer, station.address, soon).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(_)]));
}

#[test]
fn what_is_not_signed_by_an_accepted_key_is_ignored() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let mut stranger = Station::new(2, now);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let nonce = tick(&mut finder, now).unwrap();

    let by_stranger = stranger.answer(nonce, now);
    assert_eq!(hear(&mut finder, &by_stranger, stranger.address, now), Err(Ignored::UnknownKey));

    let query = Query { service: SERVICE.to_owned(), nonce };
    let genuine = station.says(AnnouncerInput::Query { query, from: station.address }, now)[0].announcement.clone();
    let named = sign(&stranger.secret, &genuine);
    assert_eq!(hear(&mut finder, &named, stranger.address, now), Err(Ignored::BadSignature));

    let mut moved = sign(&station.secret, &genuine);
    let port = moved.windows(2).position(|bytes| bytes == 7443u16.to_be_bytes()).expect("the port is in it");
    moved[port..port + 2].copy_from_slice(&6666u16.to_be_bytes());
    assert_eq!(hear(&mut finder, &moved, station.address, now), Err(Ignored::BadSignature));

    let other = sign(&station.secret, &Announcement { service: "other".to_owned(), ..genuine.clone() });
    assert_eq!(hear(&mut finder, &other, station.address, now), Err(Ignored::OtherService));

    assert!(outputs(&mut finder).is_empty(), "nothing of all this had an effect");
    hear(&mut finder, &sign(&station.secret, &genuine), station.address, now).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(_)]));
    assert_eq!(finder.counts()[&Ignored::BadSignature], 2);
}

#[test]
fn a_recording_has_no_effect_from_wherever_it_is_played() {
    let now = epoch();
    let attacker = address("10.0.0.66:4000");
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let nonce = tick(&mut finder, now).unwrap();
    let answer = station.answer(nonce, now);
    let announcement = station.announce(now);
    hear(&mut finder, &answer, station.address, now).unwrap();
    hear(&mut finder, &announcement, station.address, now).unwrap();
    outputs(&mut finder);
    for datagram in [&answer, &announcement] {
        for from in [attacker, station.address] {
            assert_eq!(hear(&mut finder, datagram, from, now), Err(Ignored::Replayed));
        }
    }
    // The next announcement arrives from the attacker, who keeps the station's own from arriving.
    let at = station.announcer.deadline().unwrap();
    let diverted = station.announce(at);
    assert_eq!(hear(&mut finder, &diverted, attacker, at), Err(Ignored::Unconfirmed));

    // To one who was not there, and has asked something else.
    let mut other = look_with(Accept::Anyone, [78; 32], at);
    tick(&mut other, at);
    for datagram in [&answer, &announcement, &diverted] {
        assert_eq!(hear(&mut other, datagram, attacker, at), Err(Ignored::Unconfirmed));
    }
    assert!(outputs(&mut other).is_empty());
}

#[test]
fn an_answer_that_comes_too_late_is_no_answer() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Anyone, now);
    let nonce = tick(&mut finder, now).unwrap();
    let answer = station.answer(nonce, now);
    assert_eq!(hear(&mut finder, &answer, station.address, now + ms(5_001)), Err(Ignored::Unconfirmed));
}

#[test]
fn what_an_earlier_start_of_a_station_said_is_not_held_against_the_next() {
    let now = epoch();
    let (mut before, mut finder) = found(now);
    let last = before.announce(now);
    let at = finder.deadline().unwrap();
    let goodbye = before.says(AnnouncerInput::Stop, at)[0].announcement.clone();
    let goodbye = sign(&before.secret, &goodbye);

    let mut after = Station::started(1, 2, at);
    assert_ne!(after.announcer.boot(), before.announcer.boot());
    let nonce = tick(&mut finder, at).unwrap();
    let answer = after.answer(nonce, at);
    hear(&mut finder, &answer, after.address, at).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(found)] if found.boot == after.announcer.boot()));
    for recording in [&last, &goodbye] {
        assert_eq!(hear(&mut finder, recording, before.address, at), Err(Ignored::Unconfirmed));
    }
    assert!(outputs(&mut finder).is_empty(), "it is still there");
}

#[test]
fn a_station_heard_over_two_networks_has_both_addresses_until_one_falls_silent() {
    let now = epoch();
    let (mut station, mut finder) = found(now);
    let other = address("192.168.7.1:4000");
    let endpoints = |finder: &mut Finder| match &outputs(finder)[..] {
        [] => None,
        [FinderOutput::Found(found)] => Some(found.addresses.iter().map(|(_, address)| *address).collect::<Vec<_>>()),
        more => panic!("{more:?}"),
    };
    let both = [address("10.0.0.1:7443"), address("192.168.7.1:7443")];
    for round in 0..5 {
        let at = finder.deadline().unwrap();
        let nonce = tick(&mut finder, at).unwrap();
        for from in [station.address, other] {
            let answer = station.answer(nonce, at);
            hear(&mut finder, &answer, from, at).unwrap();
        }
        assert_eq!(endpoints(&mut finder).as_deref(), (round == 0).then_some(&both[..]), "told once");
    }
    let mut rounds = 0;
    let left = loop {
        let at = finder.deadline().unwrap();
        let nonce = tick(&mut finder, at).unwrap();
        let answer = station.answer(nonce, at);
        hear(&mut finder, &answer, other, at).unwrap();
        rounds += 1;
        assert!(rounds < 10, "both are still told");
        if let Some(left) = endpoints(&mut finder) {
            break left;
        }
    };
    assert_eq!((left, rounds), (vec![both[1]], 3));
}

#[test]
fn a_flood_costs_a_bounded_number_of_signature_checks_and_hides_no_answer() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let genuine = Announcement {
        key: station.key(),
        service: SERVICE.to_owned(),
        name: "station 1".to_owned(),
        endpoints: vec![Endpoint { carrier: CarrierKind::WEBSOCKET, place: Place::Sender, port: 7443 }],
        boot: Boot([9; 8]),
        sequence: 1,
        uptime_ms: 0,
        valid_ms: 60_000,
        echo: None,
        rivals: vec![],
    };
    let stranger = SigningKey::from_bytes(&[2; 32]);
    let flood: Vec<Vec<u8>> = (1..=1000).map(|sequence| sign(&stranger, &Announcement { sequence, ..genuine.clone() })).collect();
    for second in 0..3 {
        for (n, datagram) in flood.iter().enumerate() {
            let at = now + Duration::from_secs(second) + ms(n as u64);
            hear(&mut finder, datagram, address("10.0.0.66:1"), at).unwrap_err();
        }
    }
    let counts = finder.counts().clone();
    assert_eq!(counts.values().sum::<u64>(), 3000);
    assert!(counts[&Ignored::BadSignature] <= 400, "{counts:?}: a second's worth to start with, and one for each second");
    assert!(finder.deadline().unwrap() <= now, "no forgery has delayed or hastened the first query");

    let at = now + ms(3000);
    let nonce = tick(&mut finder, at).unwrap();
    for datagram in &flood {
        hear(&mut finder, datagram, address("10.0.0.66:1"), at).unwrap_err();
    }
    let answer = station.answer(nonce, at);
    hear(&mut finder, &answer, station.address, at).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(_)]));
}

#[test]
fn the_table_of_stations_is_bounded() {
    let now = epoch();
    let mut finder = look_for(Accept::Anyone, now);
    let (mut found, mut ignored) = (0, BTreeMap::new());
    let mut at = now;
    for second in 0..3u8 {
        at = now + Duration::from_secs(4 * u64::from(second));
        let nonce = tick(&mut finder, at).unwrap();
        for number in 0..150u8 {
            let mut secret = [second; 32];
            secret[0] = number;
            let mut station = Station::new(1, now);
            station.secret = SigningKey::from_bytes(&secret);
            let query = Query { service: SERVICE.to_owned(), nonce };
            let mut said = station.says(AnnouncerInput::Query { query, from: station.address }, at)[0].announcement.clone();
            said.key = station.key();
            match hear(&mut finder, &sign(&station.secret, &said), station.address, at) {
                Ok(()) => found += 1,
                Err(reason) => *ignored.entry(reason).or_insert(0) += 1,
            }
        }
        outputs(&mut finder);
    }
    assert_eq!((found, ignored), (256, BTreeMap::from([(Ignored::Full, 194)])));
    let gone = at + ms(16_001);
    let mut left = 0;
    finder.handle(parlour_proto::discovery::FinderInput::Tick, gone).unwrap();
    left += outputs(&mut finder).iter().filter(|output| matches!(output, FinderOutput::Gone(_))).count();
    assert_eq!(left, 256, "and makes room again");
}

/// An answer by a key of its own to this query.
fn stranger(number: u16, nonce: parlour_wire::announce::Nonce, now: Instant) -> Vec<u8> {
    let mut secret = [99; 32];
    secret[..2].copy_from_slice(&number.to_le_bytes());
    let mut station = Station::new(1, now);
    station.secret = SigningKey::from_bytes(&secret);
    let query = Query { service: SERVICE.to_owned(), nonce };
    let mut said = station.says(AnnouncerInput::Query { query, from: station.address }, now)[0].announcement.clone();
    said.key = station.key();
    sign(&station.secret, &said)
}

#[test]
fn a_stranger_who_fills_the_table_keeps_no_station_out_of_it() {
    let mut now = epoch();
    let mut finder = look_for(Accept::Anyone, now);
    for round in 0..2_u16 {
        let nonce = tick(&mut finder, now).unwrap();
        for number in 0..150 {
            let made_up = stranger(round * 150 + number, nonce, now);
            // The last of them find the table full.
            let _ = hear(&mut finder, &made_up, address("10.0.0.66:4000"), now);
        }
        outputs(&mut finder);
        now += ms(4000);
    }
    let nonce = tick(&mut finder, now).unwrap();
    let mut station = Station::new(1, now);
    let answer = station.answer(nonce, now);
    hear(&mut finder, &answer, station.address, now).unwrap();
    let told = outputs(&mut finder);
    assert!(
        matches!(&told[..], [FinderOutput::Gone(gone), FinderOutput::Found(found)]
        if found.key == station.key() && *gone != station.key()),
        "{told:?}"
    );
    // Nor do they push it out again.
    for number in 1000..1100 {
        let made_up = stranger(number, nonce, now);
        assert_eq!(hear(&mut finder, &made_up, address("10.0.0.66:4000"), now), Err(Ignored::Full));
    }
    assert!(outputs(&mut finder).is_empty());
}

#[test]
fn answers_that_cannot_be_checked_for_their_number_hide_none_of_another_address() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let mut finder = look_for(Accept::Keys([station.key()].into()), now);
    let nonce = tick(&mut finder, now).unwrap();
    // Whoever hears the query can name its nonce and the station's key, but not sign.
    let mut forged = station.answer(nonce, now);
    *forged.last_mut().unwrap() ^= 1;
    let mut reasons = BTreeSet::new();
    for _ in 0..1000 {
        reasons.insert(hear(&mut finder, &forged, address("10.0.0.66:1"), now).unwrap_err());
    }
    assert_eq!(reasons, [Ignored::BadSignature, Ignored::Busy].into());
    let answer = station.answer(nonce, now);
    hear(&mut finder, &answer, station.address, now).unwrap();
    assert!(matches!(&outputs(&mut finder)[..], [FinderOutput::Found(_)]));
}

/// Forgeries of a station's answer, by more than a hundred addresses and the station's own, as many as come in a moment; and then the
/// answer itself. Gives whether the station is found by it.
fn drown(finder: &mut Finder, station: &mut Station, answer: &[u8], now: Instant) -> bool {
    let mut forged = answer.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..10 {
        for n in 2..=255_u8 {
            assert!(hear(finder, &forged, (std::net::Ipv4Addr::new(10, 0, 0, n), 4000).into(), now).is_err());
        }
    }
    assert_eq!(hear(finder, answer, station.address, now), Err(Ignored::Busy));
    let _ = hear(finder, &forged, station.address, now);
    let mut found = false;
    finder.handle(parlour_proto::discovery::FinderInput::Tick, now + ms(250)).unwrap();
    for output in outputs(finder) {
        found |= matches!(output, FinderOutput::Found(_));
    }
    found
}

#[test]
fn a_network_full_of_forged_addresses_hides_no_station_for_long() {
    let mut now = epoch();
    let mut station = Station::new(1, now);
    let mut rounds = 0;
    for seed in 0..20 {
        let mut finder = look_with(Accept::Keys([station.key()].into()), [seed; 32], now);
        for round in 1.. {
            assert!(round <= 120, "drowned for a minute");
            let nonce = tick(&mut finder, now).expect("it asks soon again");
            let answer = station.answer(nonce, now);
            rounds += 1;
            let checked: u64 = finder.counts().get(&Ignored::BadSignature).copied().unwrap_or(0);
            let found = drown(&mut finder, &mut station, &answer, now);
            let counts = finder.counts();
            assert!(counts[&Ignored::BadSignature] - checked <= 200 + 200 + 50, "{counts:?}");
            if found {
                break;
            }
            now = finder.deadline().unwrap().max(now + ms(250));
            assert!(now <= now + ms(500));
        }
    }
    assert!(rounds <= 20 * 20, "{rounds} rounds for 20 finders");
}

#[test]
fn a_station_answers_no_more_than_it_should() {
    let now = epoch();
    let mut station = Station::new(1, now);
    let from = address("10.0.0.66:1");
    let ask = |service: &str, nonce| AnnouncerInput::Query { query: Query { service: service.to_owned(), nonce }, from };
    assert!(station.says(ask("other", [1; 16]), now).is_empty());
    let answers: usize = (0..1000u64).map(|n| station.says(ask(SERVICE, [2; 16]), now + ms(n)).len()).sum();
    assert!((50..=100).contains(&answers), "{answers}");
}

#[derive(Clone, Debug)]
enum Act {
    /// The station's turn to tell everyone, heard or lost.
    Announce { heard: bool },
    /// The finder asks; the station hears it and is heard, or not.
    Ask { heard: bool },
    /// Something that was heard before comes again, from another address or with a damaged byte.
    Replay { which: prop::sample::Index, from: u8, damage: Option<(prop::sample::Index, u8)> },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        any::<bool>().prop_map(|heard| Act::Announce { heard }),
        any::<bool>().prop_map(|heard| Act::Ask { heard }),
        (any::<prop::sample::Index>(), any::<u8>(), proptest::option::of((any::<prop::sample::Index>(), 1u8..)))
            .prop_map(|(which, from, damage)| Act::Replay { which, from, damage }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_replayed_and_damaged_only_true_addresses_are_told(acts in proptest::collection::vec(act(), 1..80)) {
        let mut now = epoch();
        let mut station = Station::new(1, now);
        let mut finder = look_for(Accept::Anyone, now);
        let mut heard: Vec<Vec<u8>> = Vec::new();
        let mut confirmed_at = None;
        for act in acts {
            match act {
                Act::Announce { heard: arrives } => {
                    now = now.max(station.announcer.deadline().unwrap());
                    let datagram = station.announce(now);
                    if arrives {
                        let _ = hear(&mut finder, &datagram, station.address, now);
                        heard.push(datagram);
                    }
                }
                Act::Ask { heard: arrives } => {
                    now = now.max(finder.deadline().unwrap());
                    if let Some(nonce) = tick(&mut finder, now) && arrives {
                        let datagram = station.answer(nonce, now);
                        prop_assert_eq!(hear(&mut finder, &datagram, station.address, now), Ok(()));
                        confirmed_at = Some(now);
                        heard.push(datagram);
                    }
                }
                Act::Replay { which, from, damage } if !heard.is_empty() => {
                    let mut datagram = which.get(&heard).clone();
                    if let Some((at, flip)) = damage {
                        *at.get_mut(&mut datagram) ^= flip;
                    }
                    let from = (std::net::Ipv4Addr::new(66, 0, 0, from), 4000).into();
                    prop_assert!(hear(&mut finder, &datagram, from, now).is_err());
                }
                Act::Replay { .. } => {}
            }
            for output in outputs(&mut finder) {
                match output {
                    FinderOutput::Found(found) => {
                        prop_assert_eq!(found.addresses, BTreeSet::from([station.endpoint()]));
                        prop_assert_eq!(found.key, station.key());
                    }
                    FinderOutput::Gone(_) => {
                        let at = confirmed_at.unwrap();
                        prop_assert!(now >= at + INTERVAL * 3, "gone though it was heard");
                    }
                    FinderOutput::Ask(_) => {}
                }
            }
        }
    }
}
