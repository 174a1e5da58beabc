//! What goes wrong, and how it is mended.

use std::time::Duration;

use bytes::Bytes;
use parlour_client::core::Input;
use parlour_wire::{
    Code,
    api::{Call as _, Entries, Notice as _, Send, Stored},
    log::EntryKind,
};
use rand::Rng as _;

use crate::{home::Home, link::Standstill, world::World};

/// Something that breaks a promise on purpose, to see that the check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The server acknowledges a message and does not keep it.
    Swallow,
    /// A message is damaged on its way to one device.
    Garble,
    /// Somebody's program sends one message twice.
    Repeat,
    /// The server has a file no more.
    Misplace,
}

impl Sabotage {
    /// The answer to a message that is not kept.
    pub(crate) fn swallows(plan: &mut Option<Self>, home: &Home, name: &str, content: &[u8]) -> Option<Bytes> {
        if *plan != Some(Self::Swallow) || name != Send::NAME {
            return None;
        }
        let send: Send = parlour_wire::decode(content).ok()?;
        let (seq, previous) = home.log(|log| log.rooms.get(&send.conversation).map(|room| room.head))?;
        *plan = None;
        let stored = Stored { seq: seq + 1, stored_ms: 1, previous, receipt: None };
        Some(parlour_wire::encode(&stored).into())
    }

    /// What arrives, perhaps with a bit that is wrong.
    pub(crate) fn garbles(plan: &mut Option<Self>, input: Input) -> Input {
        let Input::Push { name, content } = &input else { return input };
        if *plan != Some(Self::Garble) || name != Entries::NAME {
            return input;
        }
        let Ok(mut entries) = parlour_wire::decode::<Entries>(content) else { return input };
        let Some(entry) = entries.entries.iter_mut().find(|entry| entry.kind == EntryKind::MESSAGE) else { return input };
        if let Some(last) = entry.payload.last_mut() {
            *last ^= 1;
            *plan = None;
        }
        Input::Push { name: name.clone(), content: parlour_wire::encode(&entries) }
    }
}

impl World {
    /// Lets something go wrong, sometimes.
    pub(crate) fn go_wrong(&mut self) {
        let node = self.rng.gen_range(0..self.nodes.len());
        match self.rng.gen_range(0..100) {
            0..10 => {
                self.counts.cuts += u64::from(self.nodes[node].link.is_some());
                self.tell(format!("node {node} loses its session"));
                self.lose_link(node, Code::LINK_LOST);
            }
            10..20 => self.part(),
            20..28 => {
                let back = self.away();
                self.tell(format!("node {node} dies"));
                self.crash(node, Some(back));
            }
            28..40 => {
                self.tell(format!("node {node} dies in its next step"));
                self.nodes[node].dying = self.nodes[node].core.is_some();
            }
            40..44 => self.crash_server(),
            44..52 => self.copy(node),
            52..56 => self.roll_back(node),
            _ => {}
        }
    }

    fn away(&mut self) -> Duration {
        match self.rng.gen_range(0..10) {
            0 => Duration::from_secs(self.rng.gen_range(10..400)),
            1..4 => Duration::from_secs(self.rng.gen_range(1..20)),
            _ => Duration::from_millis(self.rng.gen_range(1..1000)),
        }
    }

    /// A program dies; it starts again after a while.
    pub(crate) fn crash(&mut self, node: usize, back: Option<Duration>) {
        if self.nodes[node].core.is_none() {
            return;
        }
        self.counts.crashes += 1;
        let back = back.unwrap_or_else(|| Duration::from_millis(self.rng.gen_range(1..2000)));
        self.drop_link(node);
        let opens = self.now + back;
        self.nodes[node].kill(opens);
        self.ledger.forget(node);
    }

    /// The server dies, and starts again after a while.
    fn crash_server(&mut self) {
        self.counts.server_crashes += 1;
        self.tell("the server dies".to_owned());
        self.home_opens = self.now + self.away();
        for node in 0..self.nodes.len() {
            self.lose_link(node, Code::LINK_LOST);
        }
        self.home.crash();
    }

    /// Nothing gets through to some devices for a while.
    fn part(&mut self) {
        let until = self.now + self.away() + self.away();
        let behind: Vec<_> = (0..self.nodes.len()).filter(|_| self.rng.gen_bool(0.4)).collect();
        self.counts.partitions += u64::from(!behind.is_empty());
        self.tell(format!("nothing gets through to {behind:?} until {:.3}", until.as_secs_f64()));
        for node in behind {
            let noticed_at = self.now + Duration::from_millis(self.rng.gen_range(0..20_000));
            let now = self.now;
            let it = &mut self.nodes[node];
            it.away_until = it.away_until.max(until);
            if let Some(link) = &mut it.link {
                let since = link.standstill.map_or(now, |still| still.since);
                let noticed = link.standstill.is_some_and(|still| still.noticed);
                let until = link.standstill.map_or(until, |still| still.until.max(until));
                link.standstill = Some(Standstill { since, until, noticed_at, noticed });
            }
        }
    }

    /// Somebody ends their program properly, copies the files of their profile and goes on.
    fn copy(&mut self, node: usize) {
        if self.nodes[node].revoked {
            return;
        }
        self.tell(format!("node {node} is copied"));
        self.crash(node, Some(Duration::ZERO));
        let now = self.now;
        self.nodes[node].take_copy(now);
    }

    /// The files of a profile are replaced by their older copy.
    fn roll_back(&mut self, node: usize) {
        if self.nodes[node].revoked || self.nodes[node].copy.is_none() {
            return;
        }
        self.crash(node, Some(Duration::from_millis(100)));
        if let Some(at) = self.nodes[node].put_back() {
            self.counts.rollbacks += 1;
            self.tell(format!("node {node} is put back to its copy of {:.3}", at.as_secs_f64()));
            self.ledger.undo(node, at);
        }
    }

    /// Everything works again from here on.
    pub(crate) fn mend(&mut self) {
        self.tell("everything is mended".to_owned());
        let now = self.now;
        self.home_opens = now;
        for node in &mut self.nodes {
            node.away_until = now;
            node.dying = false;
            node.opens_at = node.opens_at.map(|at| at.min(now));
            if let Some(still) = node.link.as_mut().and_then(|link| link.standstill.as_mut()) {
                still.until = still.until.min(now);
            }
        }
    }

    pub(crate) fn sabotage(&mut self, plan: Option<Sabotage>) {
        if let Some(plan) = plan {
            self.tell(format!("somebody will {plan:?}"));
        }
        self.sabotage = plan;
    }
}
