//! A queue from a driver to its application. The driver never waits on it: it looks at its length and stops reading.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// Items for which room is kept when the queue is empty.
const KEPT: usize = 64;

/// What takes room in a queue.
pub(crate) trait Weigh {
    /// In bytes, beside the item itself.
    fn weight(&self) -> usize;

    /// Whether it is news that should not wait long behind others.
    fn is_news(&self) -> bool {
        false
    }
}

/// What speaks for taking more from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Nothing.
    None,
    /// News wait in it.
    News,
    /// Nothing more will come.
    Closed,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    /// News among the items.
    news: usize,
    /// Nothing more will come.
    closed: bool,
    /// Nobody listens.
    abandoned: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    arrived: AtomicWaker,
    taken: AtomicWaker,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that runs under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that fills the queue.
#[derive(Debug)]
pub(crate) struct Filler<T: Weigh>(Arc<Shared<T>>);

/// The end that empties the queue.
#[derive(Debug)]
pub(crate) struct Taker<T>(Arc<Shared<T>>);

pub(crate) fn queue<T: Weigh>() -> (Filler<T>, Taker<T>) {
    let state = Mutex::new(State { items: VecDeque::new(), weight: 0, news: 0, closed: false, abandoned: false });
    let shared = Arc::new(Shared { state, arrived: AtomicWaker::new(), taken: AtomicWaker::new() });
    (Filler(Arc::clone(&shared)), Taker(shared))
}

impl<T: Weigh> Filler<T> {
    pub(crate) fn push(&self, item: T) {
        let mut state = self.0.lock();
        if state.abandoned {
            return;
        }
        let is_news = item.is_news();
        state.weight += item.weight();
        state.news += usize::from(is_news);
        state.items.push_back(item);
        // Whoever put the first one in has woken the other end; it takes all, or waits for news.
        let first = state.items.len() == 1;
        drop(state);
        if first || is_news {
            self.0.arrived.wake();
        }
    }

    /// As [`Filler::push`], for news that make the ones before worthless: of a row of such that nobody has taken, the first and the
    /// last are kept.
    pub(crate) fn push_latest(&self, item: T, is_such: fn(&T) -> bool) {
        let mut state = self.0.lock();
        if state.items.iter().rev().take(2).filter(|waiting| is_such(waiting)).count() == 2
            && let Some(last) = state.items.pop_back()
        {
            state.weight -= last.weight();
            state.news -= usize::from(last.is_news());
        }
        drop(state);
        self.push(item);
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().items.len()
    }

    /// Whether fewer than `items` wait, of less than `weight`. If not, the task is woken when some are taken.
    pub(crate) fn poll_below(&self, cx: &mut Context<'_>, items: usize, weight: usize) -> bool {
        let below = |state: &State<T>| state.items.len() < items && state.weight < weight;
        if below(&self.0.lock()) {
            return true;
        }
        self.0.taken.register(cx.waker());
        below(&self.0.lock())
    }
}

impl<T: Weigh> Drop for Filler<T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.arrived.wake();
    }
}

impl<T: Weigh> Taker<T> {
    /// The next item; `None` when the queue is closed and empty.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.take() {
            return Poll::Ready(Some(item));
        }
        self.0.arrived.register(cx.waker());
        match self.take() {
            None if !self.0.lock().closed => Poll::Pending,
            // What was pushed between the look above and the closing is still there.
            None => Poll::Ready(self.take()),
            some => Poll::Ready(some),
        }
    }

    /// What speaks for taking more. With nothing, the task is woken when that changes.
    pub(crate) fn poll_urgency(&self, cx: &mut Context<'_>) -> Urgency {
        self.0.arrived.register(cx.waker());
        let state = self.0.lock();
        match (state.closed, state.news) {
            (true, _) => Urgency::Closed,
            (false, 0) => Urgency::None,
            (false, _) => Urgency::News,
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.0.lock();
        let item = state.items.pop_front()?;
        state.weight -= item.weight();
        state.news -= usize::from(item.is_news());
        if state.items.is_empty() && state.items.capacity() > KEPT {
            state.items = VecDeque::new();
        }
        drop(state);
        self.0.taken.wake();
        Some(item)
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        (state.items, state.weight, state.news) = (VecDeque::new(), 0, 0);
        drop(state);
        self.0.taken.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    impl Weigh for u32 {
        fn weight(&self) -> usize {
            usize::try_from(*self).unwrap()
        }
    }

    fn is_odd(item: &u32) -> bool {
        item % 2 == 1
    }

    #[test]
    fn of_a_row_of_news_that_nobody_takes_the_first_and_the_last_are_kept() {
        let (filler, taker) = queue();
        filler.push(2);
        (0..1000).for_each(|n| filler.push_latest(2 * n + 1, is_odd));
        filler.push(4);
        filler.push_latest(7, is_odd);
        assert_eq!((filler.waiting(), taker.0.lock().weight), (5, 2 + 1 + 1999 + 4 + 7));
        let mut next = || std::future::poll_fn(|cx| taker.poll_next(cx)).now_or_never().flatten();
        assert_eq!(std::iter::from_fn(&mut next).collect::<Vec<_>>(), [2, 1, 1999, 4, 7]);
        // What has been taken does not count.
        filler.push_latest(9, is_odd);
        assert_eq!(next(), Some(9));
    }
}
