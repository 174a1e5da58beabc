//! Turns: so many at once, and the others wait in the order in which they came. Without a runtime, and without a clock.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A number of turns.
#[derive(Debug)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None while somebody waits.
    free: usize,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Turns {
    pub(crate) fn new(turns: usize) -> Self {
        Self(Mutex::new(State { free: turns, next: 0, waiting: BTreeMap::new() }))
    }

    /// Waits for a turn. It lasts as long as what this gives.
    pub(crate) fn take(&self) -> Waiting<'_> {
        Waiting { turns: self, ticket: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn has ended: it is the next one's.
    fn pass_on(&self) {
        let mut state = self.state();
        let next = state.waiting.pop_first();
        state.free += usize::from(next.is_none());
        drop(state);
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }
}

/// Waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    turns: &'a Turns,
    /// Its number; once that is not among those who wait any more, the turn is its own.
    ticket: Option<u64>,
}

impl<'a> Future for Waiting<'a> {
    type Output = Turn<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn<'a>> {
        let turns = self.turns;
        let mut state = turns.state();
        if let Some(ticket) = self.ticket {
            if let Some(waker) = state.waiting.get_mut(&ticket) {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
        } else if state.free > 0 {
            state.free -= 1;
        } else {
            let ticket = state.next;
            state.next += 1;
            state.waiting.insert(ticket, cx.waker().clone());
            self.ticket = Some(ticket);
            return Poll::Pending;
        }
        self.ticket = None;
        Poll::Ready(Turn(turns))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && self.turns.state().waiting.remove(&ticket).is_none()
        {
            self.turns.pass_on();
        }
    }
}

/// A turn, while it lives.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn look<'a>(waiting: Pin<&mut Waiting<'a>>, bell: &Arc<Bell>) -> Option<Turn<'a>> {
        match waiting.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell)))) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn rung(bell: &Bell) -> usize {
        bell.0.load(Ordering::Relaxed)
    }

    #[test]
    fn turns_are_taken_in_order_and_passed_on() {
        let (turns, bell, other) = (Turns::new(1), Arc::default(), Arc::default());
        let first = look(pin!(turns.take()), &bell).unwrap();
        let (mut second, mut third) = (pin!(turns.take()), pin!(turns.take()));
        assert!(look(second.as_mut(), &bell).is_none() && look(third.as_mut(), &other).is_none());
        drop(first);
        assert_eq!((rung(&bell), rung(&other)), (1, 0));
        assert!(look(third.as_mut(), &other).is_none(), "the turn is the second's, also before it has looked");
        assert!(look(pin!(turns.take()), &other).is_none());
        let turn = look(second, &bell).unwrap();
        drop(turn);
        assert_eq!(rung(&other), 1);
        drop(look(third, &other).unwrap());
        assert!(look(pin!(turns.take()), &bell).is_some());
    }

    #[test]
    fn who_waits_no_longer_keeps_nobody_from_a_turn() {
        let (turns, bell) = (Turns::new(1), Arc::default());
        let first = look(pin!(turns.take()), &bell).unwrap();
        let mut called = Box::pin(turns.take());
        let mut waiting = Box::pin(turns.take());
        let mut last = pin!(turns.take());
        assert!(look(called.as_mut(), &bell).is_none() && look(waiting.as_mut(), &bell).is_none());
        assert!(look(last.as_mut(), &bell).is_none());
        drop(first);
        drop(waiting);
        drop(called);
        assert!(look(last, &bell).is_some());
        assert!(look(pin!(turns.take()), &bell).is_some());
    }
}
