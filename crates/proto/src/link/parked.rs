//! What waits until there is room for the answers to the peer's requests: the requests, and the actions that came behind them.
//!
//! Room comes when the peer acknowledges. Requests that wait are bounded as all that are open are. Actions are not, so while some wait
//! the peer is asked to keep its messages; what a peer sends all the same has them overtake the requests, though not each other.

use std::collections::VecDeque;

use parlour_wire::limits;

use super::{Event, Link, RequestId};

/// Actions that may wait: what a peer has under way when it is asked to keep the others, and what came while it was asked.
const ACTIONS: usize = 2 * limits::UNACKED_FRAMES;
/// Bytes of such actions.
const ACTION_BYTES: usize = 2 * limits::UNACKED_BYTES;
/// What an action takes beside its name and content.
const ENTRY_BYTES: usize = 128;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Requests and actions, as they came.
    events: VecDeque<Event>,
    /// Actions among them.
    actions: usize,
    action_bytes: usize,
}

impl Parked {
    fn push(&mut self, event: Event) {
        if let Some(bytes) = weight(&event) {
            self.actions += 1;
            self.action_bytes += bytes;
        }
        self.events.push_back(event);
    }

    fn remove(&mut self, at: usize) -> Option<Event> {
        let event = self.events.remove(at)?;
        if let Some(bytes) = weight(&event) {
            self.actions -= 1;
            self.action_bytes -= bytes;
        }
        Some(event)
    }

    pub(super) fn has_actions(&self) -> bool {
        self.actions > 0
    }

    fn has_requests(&self) -> bool {
        self.events.len() > self.actions
    }

    fn is_overfull(&self) -> bool {
        self.actions > ACTIONS || self.action_bytes > ACTION_BYTES
    }

    /// Forgets a request; `false` if it does not wait here.
    pub(super) fn forget(&mut self, number: u64) -> bool {
        let is_it = |event: &Event| matches!(event, Event::Request { id, .. } if id.number == number);
        self.events.iter().position(is_it).and_then(|at| self.remove(at)).is_some()
    }

    /// Takes all that waits.
    pub(super) fn take(&mut self) -> VecDeque<Event> {
        std::mem::take(self).events
    }

    /// Gives the memory of past bursts back.
    pub(super) fn shrink(&mut self) {
        self.events.shrink_to_fit();
    }
}

/// The bytes of an action.
fn weight(event: &Event) -> Option<usize> {
    match event {
        Event::Action { name, content, .. } => Some(ENTRY_BYTES + name.len() + content.len()),
        _ => None,
    }
}

impl Link {
    /// What to tell the application next. A request is told when there is room for its answer at that moment: the answers to those
    /// before it may have taken it. What came behind one that waits is not told before it, unless it answers or ends something.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        loop {
            let begins = matches!(self.events.front(), Some(Event::Up(_)));
            if !begins && let Some(event) = self.next_parked() {
                return Some(event);
            }
            let event = self.events.pop_front()?;
            match &event {
                Event::Action { .. } if self.requests.parked.has_requests() => self.requests.parked.push(event),
                Event::Request { id, .. } if id.generation == self.requests.generation => {
                    let id = *id;
                    // One that was cancelled needs no room; the event that says so is still to come.
                    let needs_room = self.requests.inbound.contains_key(&id.number);
                    if !self.requests.parked.has_requests() && (!needs_room || self.has_answer_room()) {
                        self.requests.given = self.requests.given.max(id.number);
                        return Some(event);
                    }
                    self.park(id, event);
                }
                _ => return Some(event),
            }
        }
    }

    /// What has waited long enough.
    fn next_parked(&mut self) -> Option<Event> {
        let parked = &self.requests.parked;
        let first = parked.events.front()?;
        if let Event::Request { id, .. } = first {
            let number = id.number;
            if self.has_answer_room() {
                self.requests.given = self.requests.given.max(number);
            } else if parked.is_overfull() {
                let action = parked.events.iter().position(|event| weight(event).is_some())?;
                return self.requests.parked.remove(action);
            } else {
                return None;
            }
        }
        self.requests.parked.remove(0)
    }

    /// Keeps a request back. None overtakes those that wait, or the highest number that was given would say that they were given, too:
    /// one that was cancelled behind them is never told, and neither is that it was.
    fn park(&mut self, id: RequestId, event: Event) {
        if self.requests.inbound.contains_key(&id.number) {
            self.requests.parked.push(event);
            return;
        }
        let its_end = |event: &Event| matches!(event, Event::Cancelled { id: cancelled } if *cancelled == id);
        if let Some(at) = self.events.iter().position(its_end) {
            self.events.remove(at);
        }
    }

    /// The highest number of a request of this session that the application has been given, or will be when it takes its events. To be
    /// asked when the session is over.
    pub(super) fn take_given(&mut self) -> u64 {
        let generation = self.requests.generation;
        let request = |event: &Event| match event {
            Event::Request { id, .. } if id.generation == generation => Some(*id),
            _ => None,
        };
        // What came behind requests that wait ends as they do.
        while self.requests.parked.has_requests()
            && let Some((at, id)) = self.events.iter().enumerate().find_map(|(at, event)| Some((at, request(event)?)))
            && let Some(event) = self.events.remove(at)
        {
            self.park(id, event);
        }
        let last = self.events.iter().filter_map(request).map(|id| id.number).max().unwrap_or(0);
        std::mem::take(&mut self.requests.given).max(last)
    }
}
