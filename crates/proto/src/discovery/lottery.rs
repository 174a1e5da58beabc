//! Answers that cannot be checked at once, because more come than there is time for: a sample of them is checked a little later. It
//! is drawn by the addresses that they come from, so that it does not matter how many come from one, or which come first.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use parlour_wire::announce::Unverified;

use super::dice::Dice;

/// How long answers are collected.
const EVERY: Duration = Duration::from_millis(250);
/// Answers that are drawn then.
const DRAWN: usize = 50;
/// Addresses that take part; a network of the usual size has fewer. Bounds the memory to some hundred kilobytes.
const TICKETS: usize = 256;

/// An answer that takes part.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) announcement: Unverified,
    pub(super) from: SocketAddr,
    /// The number of the query that it answers.
    pub(super) round: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Lottery {
    /// One ticket for each address, and how many it stands for.
    tickets: BTreeMap<IpAddr, (Ticket, u32)>,
    /// Addresses that came when there were as many as take part.
    late: u32,
    due: Option<Instant>,
}

impl Lottery {
    /// When it is to be drawn, if there is anything to draw.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes a ticket. Of those of one address each has the same chance to be the one that counts, and so has each address.
    pub(super) fn put(&mut self, ticket: Ticket, dice: &mut Dice, now: Instant) {
        self.due.get_or_insert(now + EVERY);
        let address = ticket.from.ip();
        if let Some((counts, of)) = self.tickets.get_mut(&address) {
            *of = of.saturating_add(1);
            if dice.below(*of) == 0 {
                *counts = ticket;
            }
            return;
        }
        if self.tickets.len() >= TICKETS {
            self.late = self.late.saturating_add(1);
            let place = dice.below(u32::try_from(TICKETS).unwrap_or(u32::MAX).saturating_add(self.late));
            let Some(loser) = self.tickets.keys().nth(usize::try_from(place).unwrap_or(TICKETS)).copied() else { return };
            self.tickets.remove(&loser);
        }
        self.tickets.insert(address, (ticket, 1));
    }

    /// Draws if it is time, and whether some were left. Those have lost: whoever they are from will be asked again.
    pub(super) fn draw(&mut self, dice: &mut Dice, now: Instant) -> Option<(Vec<Ticket>, bool)> {
        self.due.filter(|due| *due <= now)?;
        let Self { tickets, .. } = std::mem::take(self);
        let mut left: Vec<Ticket> = tickets.into_values().map(|(ticket, _)| ticket).collect();
        let mut drawn = Vec::new();
        while drawn.len() < DRAWN && !left.is_empty() {
            let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
            let place = usize::try_from(dice.below(count)).unwrap_or(0);
            drawn.push(left.swap_remove(place));
        }
        Some((drawn, !left.is_empty()))
    }
}
