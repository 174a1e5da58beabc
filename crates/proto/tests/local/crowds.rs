//! Whoever forges addresses plays a station's answers from many: the true ones stay in the list, and it stays short.

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use parlour_proto::discovery::{Accept, Announcer, Finder, FinderOutput, Profile};
use parlour_wire::announce::{CarrierKind, Endpoint, Nonce, Place};

use crate::support::{INTERVAL, SERVICE, Station, address, epoch, hear, look_with, ms, outputs, tick};

/// More addresses than are kept of one station.
const FORGED: u8 = 40;

type Told = BTreeSet<(CarrierKind, SocketAddr)>;

fn forged(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, n], 4000))
}

/// The station's answers to a query come from everywhere but from the station. Gives each list of addresses that is told.
fn play(finder: &mut Finder, station: &mut Station, nonce: Nonce, now: Instant) -> Vec<Told> {
    let mut told = Vec::new();
    for n in 0..FORGED {
        let answer = station.answer(nonce, now);
        hear(finder, &answer, forged(n), now).unwrap();
        told.extend(found(finder));
    }
    told
}

fn answer(finder: &mut Finder, station: &mut Station, nonce: Nonce, now: Instant) -> Vec<Told> {
    let answer = station.answer(nonce, now);
    hear(finder, &answer, station.address, now).unwrap();
    found(finder)
}

fn found(finder: &mut Finder) -> Vec<Told> {
    let told = outputs(finder).into_iter().filter_map(|output| match output {
        FinderOutput::Found(found) => Some(found.addresses),
        _ => None,
    });
    told.collect()
}

/// The station's next query, a while later: what it may answer in a second is not used up then.
fn next_query(finder: &mut Finder, now: &mut Instant) -> Nonce {
    loop {
        *now = finder.deadline().unwrap().max(*now + ms(1000));
        if let Some(nonce) = tick(finder, *now) {
            return nonce;
        }
    }
}

#[test]
fn an_address_from_which_a_station_answers_first_is_not_crowded_out() {
    let mut now = epoch();
    let mut station = Station::new(1, now);
    // Behind all others, in the order of addresses.
    station.address = address("192.168.7.1:4000");
    let mut finder = look_with(Accept::Keys([station.key()].into()), [1; 32], now);
    for round in 0..10 {
        let nonce = next_query(&mut finder, &mut now);
        let mut told = answer(&mut finder, &mut station, nonce, now);
        told.extend(play(&mut finder, &mut station, nonce, now));
        assert!(!told.is_empty() || round > 0);
        assert!(told.iter().all(|told| told.contains(&station.endpoint()) && told.len() <= 32), "{told:?}");
    }
    // The attack is over; what it has left goes.
    let mut last = Told::new();
    for _ in 0..4 {
        let nonce = next_query(&mut finder, &mut now);
        last = answer(&mut finder, &mut station, nonce, now).pop().unwrap_or(last);
    }
    assert_eq!(last, [station.endpoint()].into());
}

#[test]
fn an_address_that_a_station_signs_is_not_crowded_out_however_late_it_answers() {
    let mut now = epoch();
    let mut station = Station::new(1, now);
    let own = Endpoint { place: Place::Ip(address("192.168.7.1:1").ip()), ..Endpoint::websocket(7443) };
    let endpoints = vec![Endpoint::websocket(7444), own];
    let profile = Profile { key: station.key(), service: SERVICE.into(), name: "station".into(), endpoints };
    station.announcer = Announcer::new(profile, INTERVAL, [5; 32], now);
    let mut finder = look_with(Accept::Keys([station.key()].into()), [1; 32], now);
    for _ in 0..10 {
        let nonce = next_query(&mut finder, &mut now);
        let told = play(&mut finder, &mut station, nonce, now);
        let signed = (CarrierKind::WEBSOCKET, address("192.168.7.1:7443"));
        assert!(told.iter().all(|told| told.contains(&signed) && told.len() <= 32), "{told:?}");
    }
}

#[test]
fn a_true_address_is_in_the_list_nearly_always_though_others_are_always_quicker() {
    let mut now = epoch();
    let mut station = Station::new(1, now);
    station.address = address("192.168.7.1:4000");
    let mut finder = look_with(Accept::Keys([station.key()].into()), [1; 32], now);
    let (mut rounds, mut last) = (0, Told::new());
    for _ in 0..20 {
        let nonce = next_query(&mut finder, &mut now);
        let mut told = play(&mut finder, &mut station, nonce, now);
        told.extend(answer(&mut finder, &mut station, nonce, now));
        last = told.pop().unwrap_or(last);
        rounds += usize::from(last.contains(&station.endpoint()));
    }
    assert!(rounds >= 15, "it is in the list after {rounds} of 20 rounds");
}
