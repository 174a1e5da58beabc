//! Stations with keys, and datagrams as the network carries them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer, SigningKey};
use parlour_proto::discovery::{
    Accept, Announcer, AnnouncerInput, Asks, Finder, FinderConfig, FinderInput, FinderOutput, Ignored, Profile, Say, To,
};
use parlour_wire::announce::{
    Announcement, CarrierKind, Datagram, Endpoint, Nonce, Place, Query, announcement_datagram, signed_message,
};

pub(crate) const SERVICE: &str = "fleet";
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "only a starting point: time is moved by hand")]
pub(crate) fn epoch() -> Instant {
    // Far enough from the machine's start that a station can have run for days.
    Instant::now() + Duration::from_secs(1_000_000)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The datagram of an announcement that a key signs, whatever key it names.
pub(crate) fn sign(secret: &SigningKey, announcement: &Announcement) -> Vec<u8> {
    let bytes = announcement.to_bytes().unwrap();
    let signature = secret.sign(&signed_message(&bytes)).to_bytes();
    announcement_datagram(bytes, signature)
}

pub(crate) struct Station {
    pub(crate) secret: SigningKey,
    pub(crate) announcer: Announcer,
    pub(crate) address: SocketAddr,
}

impl Station {
    pub(crate) fn new(number: u8, now: Instant) -> Self {
        Self::started(number, 1, now)
    }

    /// The same station, started for the given time: its boot number differs from that of every other start.
    pub(crate) fn started(number: u8, start: u8, now: Instant) -> Self {
        let secret = SigningKey::from_bytes(&[number; 32]);
        let profile = Profile {
            key: secret.verifying_key().to_bytes(),
            service: SERVICE.to_owned(),
            name: format!("station {number}"),
            endpoints: vec![Endpoint { carrier: CarrierKind::WEBSOCKET, place: Place::Sender, port: 7443 }],
        };
        let mut seed = [number; 32];
        seed[0] = start;
        let announcer = Announcer::new(profile, INTERVAL, seed, now);
        Self { secret, announcer, address: SocketAddr::from(([10, 0, 0, number], 4000)) }
    }

    pub(crate) fn key(&self) -> [u8; 32] {
        self.secret.verifying_key().to_bytes()
    }

    /// Where links go.
    pub(crate) fn endpoint(&self) -> (CarrierKind, SocketAddr) {
        (CarrierKind::WEBSOCKET, SocketAddr::new(self.address.ip(), 7443))
    }

    pub(crate) fn says(&mut self, input: AnnouncerInput, now: Instant) -> Vec<Say> {
        self.announcer.handle(input, now);
        std::iter::from_fn(|| self.announcer.poll()).collect()
    }

    /// The datagram with which it answers a nonce.
    pub(crate) fn answer(&mut self, nonce: Nonce, now: Instant) -> Vec<u8> {
        let query = Query { service: SERVICE.to_owned(), nonce };
        let from = address("10.0.0.200:5000");
        let said = self.says(AnnouncerInput::Query { query, from }, now);
        assert_eq!(said[0].to, To::One(from));
        sign(&self.secret, &said[0].announcement)
    }

    /// What it tells everyone at its next turn.
    pub(crate) fn announce(&mut self, now: Instant) -> Vec<u8> {
        let said = self.says(AnnouncerInput::Tick, now);
        assert_eq!(said.first().map(|say| say.to), Some(To::Everyone), "it is its turn");
        sign(&self.secret, &said[0].announcement)
    }
}

pub(crate) fn look_for(accept: Accept, now: Instant) -> Finder {
    look_with(accept, [77; 32], now)
}

pub(crate) fn look_with(accept: Accept, seed: [u8; 32], now: Instant) -> Finder {
    let config = FinderConfig { service: SERVICE.to_owned(), accept, own_boot: None, asks: Asks::default() };
    Finder::new(config, seed, now)
}

pub(crate) fn outputs(finder: &mut Finder) -> Vec<FinderOutput> {
    std::iter::from_fn(|| finder.poll()).collect()
}

/// Lets a finder do what is due; the nonce if it asks.
pub(crate) fn tick(finder: &mut Finder, now: Instant) -> Option<Nonce> {
    finder.handle(FinderInput::Tick, now).unwrap();
    outputs(finder).into_iter().find_map(|output| match output {
        FinderOutput::Ask(query) => Some(query.nonce),
        _ => None,
    })
}

pub(crate) fn hear(finder: &mut Finder, datagram: &[u8], from: SocketAddr, now: Instant) -> Result<(), Ignored> {
    match Datagram::decode(datagram) {
        Ok(Datagram::Announcement(announcement)) => finder.handle(FinderInput::Announcement { announcement, from }, now),
        Ok(Datagram::Query(_)) => Ok(()),
        Err(_) => Err(Ignored::Malformed),
    }
}
