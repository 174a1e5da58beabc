//! The driver's side of a port: it takes what the handles have left, and tells them what has become of the link.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    task::Context,
    time::Instant,
};

use parlour_wire::{LinkSessionId, header::Fault};

use super::{ANSWER_BYTES, Call, Control, Port, Reply, State, StreamControl, closed, late};
use crate::shared::SharedDriver;

impl Port {
    /// Lets callers poll the driver.
    pub(crate) fn share(&self, driver: Arc<SharedDriver>) {
        self.shared.get_or_init(|| driver);
    }

    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    pub(crate) fn is_held(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    pub(crate) fn set_up(&self, session: LinkSessionId) {
        let mut state = self.lock();
        state.up = true;
        state.trouble = None;
        state.connection += 1;
        state.session = Some(session);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Why it does not work.
    pub(crate) fn set_trouble(&self, fault: Fault) {
        self.lock().trouble = Some(Box::new(fault));
    }

    pub(crate) fn set_far(&self, far: bool) {
        self.far.store(far, Ordering::Relaxed);
    }

    /// Whether streams begin with little under way ([`crate::allowance`]): where nobody knows, too, since more is granted later.
    pub(crate) fn is_near(&self) -> bool {
        !self.far.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self) {
        // The next connection may be by another way.
        self.set_far(false);
        let was_up = std::mem::take(&mut self.lock().up);
        if was_up {
            self.changed.notify_waiters();
        }
    }

    /// Moves calls to the end of `batch`, `most` at most. With none left: whether pushes were refused and are taken again.
    pub(crate) fn take_calls(&self, batch: &mut VecDeque<Call>, most: usize) -> bool {
        let mut state = self.lock();
        let State { calls, actions, action_bytes, .. } = &mut *state;
        let count = calls.len().min(most);
        for call in calls.drain(..count) {
            if let Call::Action(action) = &call {
                *actions -= 1;
                *action_bytes -= action.content.len();
            }
            batch.push_back(call);
        }
        let relieved = count == 0 && std::mem::take(&mut state.full);
        if state.calls.is_empty() {
            (state.earliest, state.gone) = (None, 0);
        }
        let room = state.room_wanted && state.has_room();
        if room {
            state.room_wanted = false;
            drop(state);
            self.changed.notify_waiters();
        }
        relieved
    }

    /// Puts calls back that found no room.
    pub(crate) fn give_back(&self, batch: &mut VecDeque<Call>, earliest: Option<Instant>) {
        let mut state = self.lock();
        while let Some(call) = batch.pop_back() {
            if let Call::Action(action) = &call {
                state.actions += 1;
                state.action_bytes += action.content.len();
            }
            state.calls.push_front(call);
        }
        state.earliest = state.earliest.into_iter().chain(earliest).min();
    }

    /// Whether there is progress to tell.
    pub(crate) fn has_reports(&self) -> bool {
        self.reports.load(Ordering::Acquire) > 0
    }

    pub(crate) fn take_controls(&self) -> VecDeque<Control> {
        let mut state = self.lock();
        self.reports.store(0, Ordering::Release);
        std::mem::take(&mut state.controls)
    }

    /// Moves answers to the end of `batch`.
    pub(crate) fn take_answers(&self, batch: &mut VecDeque<Reply>) {
        let waiting = &mut self.lock().answers.waiting;
        if batch.is_empty() {
            std::mem::swap(batch, waiting);
        } else {
            batch.append(waiting);
        }
    }

    /// The link has taken answers of so many bytes.
    pub(crate) fn answered(&self, bytes: usize) {
        let answers = &mut self.lock().answers;
        answers.bytes = answers.bytes.saturating_sub(bytes);
        let answerer = if answers.bytes < ANSWER_BYTES { answers.answerer.take() } else { None };
        if let Some(answerer) = answerer {
            answerer.wake();
        }
    }

    /// Why the session is to end, once there are no calls before it that find room.
    pub(crate) fn take_close(&self) -> Option<Fault> {
        self.lock().close.take()
    }

    /// When a waiting request may have waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().earliest
    }

    /// Ends the wait of requests that have waited long enough.
    pub(crate) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        if state.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let (mut earliest, mut over) = (None, Vec::new());
        state.calls.retain(|call| {
            let Call::Ask(cell) = call else { return true };
            match cell.waits_until() {
                Some(deadline) if deadline <= now => {
                    over.push(Arc::clone(cell));
                    return false;
                }
                Some(deadline) => earliest = earliest.into_iter().chain([deadline]).min(),
                None => {}
            }
            true
        });
        state.earliest = earliest;
        drop(state);
        for cell in over {
            cell.complete(Err(late()));
        }
    }

    /// Gives the memory of past bursts back.
    pub(crate) fn shrink(&self) {
        let mut state = self.lock();
        if state.calls.is_empty() {
            state.calls.shrink_to_fit();
        }
    }

    /// The link is over: nothing is taken from here on, and what waits fails.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        (state.closed, state.up) = (true, false);
        let (calls, controls) = (std::mem::take(&mut state.calls), std::mem::take(&mut state.controls));
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        if let Some(answerer) = answers.answerer {
            answerer.wake();
        }
        for call in calls {
            if let Call::Ask(cell) = call {
                cell.complete(Err(closed()));
            }
        }
        for control in controls {
            match control {
                Control::First(cell) => cell.complete(Err(closed())),
                Control::Stream(StreamControl::Sink { cell, .. }) => cell.end(Err(closed())),
                Control::Stream(StreamControl::Source { cell, .. }) => cell.end(closed()),
                _ => {}
            }
        }
        self.changed.notify_waiters();
    }
}
