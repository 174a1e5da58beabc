//! How often stations announce themselves and finders ask, whatever they are told.

use std::time::Duration;

use parlour_proto::discovery::{
    Accept, Announcer, AnnouncerInput, Asks, Finder, FinderConfig, FinderInput, FinderOutput, Profile,
};
use parlour_wire::{DecodeError, announce::Endpoint};

use crate::support::{SERVICE, Station, epoch, hear, look_for, ms, outputs, tick};

/// A station that announces itself so often.
fn every(interval: Duration) -> Station {
    let now = epoch();
    let mut station = Station::new(1, now);
    let endpoints = vec![Endpoint::websocket(7443)];
    let profile = Profile { key: station.key(), service: SERVICE.into(), name: "station".into(), endpoints };
    station.announcer = Announcer::new(profile, interval, [5; 32], now);
    station
}

#[test]
fn an_interval_that_would_flood_the_network_or_not_be_believed_is_refused() {
    for interval in [Duration::ZERO, ms(19), Duration::from_secs(181), Duration::MAX] {
        let mut station = every(interval);
        assert_eq!(station.announcer.check(), Err(DecodeError::Invalid("interval")), "{interval:?}");
        // It does not break who has not looked.
        station.says(AnnouncerInput::Tick, epoch());
    }
}

#[test]
fn a_station_that_is_not_heard_for_three_times_its_interval_is_gone_however_long_that_is() {
    for interval in [ms(20), Duration::from_secs(5), Duration::from_secs(180)] {
        let mut station = every(interval);
        station.announcer.check().unwrap();
        let now = epoch();
        let mut finder = look_for(Accept::Anyone, now);
        let nonce = tick(&mut finder, now).unwrap();
        let answer = station.answer(nonce, now);
        hear(&mut finder, &answer, station.address, now).unwrap();
        outputs(&mut finder);
        let gone = now + interval * 3 + ms(1000);
        let mut told = Vec::new();
        while told.is_empty() {
            let at = finder.deadline().unwrap();
            assert!(at <= gone, "{interval:?}");
            finder.handle(FinderInput::Tick, at).unwrap();
            told = outputs(&mut finder).into_iter().filter(|output| !matches!(output, FinderOutput::Ask(_))).collect();
            assert!(told.is_empty() || at == gone, "{interval:?}");
        }
        assert_eq!(told, [FinderOutput::Gone(station.key())]);
    }
}

#[test]
fn a_finder_asks_whatever_pauses_it_is_given() {
    let now = epoch();
    for first in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
        for longest in [Duration::ZERO, Duration::from_secs(8), Duration::MAX] {
            let asks = Asks { first, longest, count: None };
            let config = FinderConfig { service: SERVICE.to_owned(), accept: Accept::Anyone, own_boot: None, asks };
            let mut finder = Finder::new(config, [3; 32], now);
            let mut at = now;
            for _ in 0..3 {
                assert!(tick(&mut finder, at).is_some());
                let next = finder.deadline().unwrap();
                assert!(next >= at + ms(500), "{first:?} {longest:?}");
                at = next;
            }
        }
    }
}
