//! The addresses of one station, as it was heard, and which of them are kept when there are more than a station has.
//!
//! A station says where it is, or that it is where its answer comes from. That one is not signed: whoever forges addresses can play
//! the answers that it gets to a finder, from as many as it likes. It cannot be as quick as the station, which answers the same query
//! without going through anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use parlour_wire::announce::{Announcement, CarrierKind, Place};

use super::dice::Dice;

/// Addresses of one station: its endpoints as heard over a few networks. Those that are never thrown out by lot are fewer: a station
/// has at most [`parlour_wire::limits::ENDPOINTS`] of them in each of [`ROUNDS`].
const ADDRESSES: usize = 32;
/// An address is dropped when the station has answered so many queries later ones from elsewhere only.
const ROUNDS: u64 = 3;

/// Where one start of a station was heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses(BTreeMap<(CarrierKind, SocketAddr), Heard>);

/// How an address was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// The number of the last query that was answered from there.
    last: u64,
    /// The number of the last query that was answered from there first.
    first: Option<u64>,
    /// The station has signed it.
    signed: bool,
}

impl Addresses {
    /// The station has answered the query of this number.
    pub(super) fn confirm(&mut self, said: &Announcement, from: SocketAddr, round: u64, dice: &mut Dice) {
        let first = self.0.values().all(|heard| heard.last < round);
        for endpoint in &said.endpoints {
            let heard = self.0.entry((endpoint.carrier, endpoint.address(from))).or_default();
            heard.last = heard.last.max(round);
            heard.first = if first { Some(round) } else { heard.first };
            heard.signed |= matches!(endpoint.place, Place::Ip(_));
        }
        self.0.retain(|_, heard| heard.last + ROUNDS > round);
        while self.0.len() > ADDRESSES {
            self.drop_one(round, dice);
        }
    }

    pub(super) fn all(&self) -> BTreeSet<(CarrierKind, SocketAddr)> {
        self.0.keys().copied().collect()
    }

    /// Drops an address by lot: one that is not signed, and from which no query of late was answered first.
    fn drop_one(&mut self, round: u64, dice: &mut Dice) {
        let is_spare = |heard: &Heard| !heard.signed && heard.first.is_none_or(|first| first + ROUNDS <= round);
        let mut spare: Vec<_> = self.0.iter().filter(|(_, heard)| is_spare(heard)).map(|(address, _)| *address).collect();
        if spare.is_empty() {
            spare.extend(self.0.keys());
        }
        let lot = usize::try_from(dice.below(u32::try_from(spare.len()).unwrap_or(u32::MAX))).unwrap_or(0);
        self.0.remove(&spare[lot]);
    }
}
