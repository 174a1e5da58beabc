//! Which requests of earlier sessions have been here: so that a request that comes again takes effect once.
//!
//! The table knows requests by peer and [`Origin`]. It is filled from what a lost session leaves behind, and by requests that
//! name their origin (those that are sent again, and those of a durable queue). It is pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use parlour_wire::{
    LinkSessionId,
    header::{Fault, Origin},
};

use crate::{
    Answer,
    durable::{again, is_queue},
    identity::PeerKey,
    session::stopping,
    toolkit::access::unauthenticated,
};

/// What the fixed parts of a kept answer take, in bytes.
const ENTRY_BYTES: usize = 96;
/// What is remembered of a session or queue takes at least that.
const BOOK_BYTES: usize = 256;
/// What a run of numbers takes in a map of them.
const RUN_BYTES: usize = 48;

/// How much a program remembers of requests that may come again, and for how long.
///
/// ```
/// use parlour_net::{Identity, StationConfig};
///
/// let mut config = StationConfig::new(Identity::generate()?, ([0, 0, 0, 0], 7443).into());
/// config.dedupe.peer_bytes = 1024 * 1024;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Numbers cost little and stay for [`DedupeLimits::age`]: a request whose answer fell out is answered `already_exists` instead of
/// being carried out again. Only what fell out of `age`, `origins`, `peers` or `bytes` altogether, or was known to a process that has
/// ended, is carried out again if it comes again. A peer that counts in leaps takes room for each: when that is too much, the numbers
/// between them count as carried out, too.
///
/// The peers share this memory. A station that admits any key gives it to whoever makes keys, who can crowd out what it remembers of
/// others. Where that matters, admit known keys only ([`crate::Admission::Keys`]), or set a fleet's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeLimits {
    /// Peers that are remembered. Those without a key count as one.
    pub peers: usize,
    /// Sessions and durable queues that are remembered of one peer.
    pub origins: usize,
    /// Answers that are kept for one peer.
    pub answers: usize,
    /// Bytes that are kept for one peer: answers, and what numbers take.
    pub peer_bytes: usize,
    /// Bytes that are kept for all peers together.
    pub bytes: usize,
    /// How long a session is remembered in which nothing happens. Longer than a peer goes on trying. A durable queue, which goes on
    /// for ever, is remembered as long as there is room.
    pub age: Duration,
}

impl Default for DedupeLimits {
    fn default() -> Self {
        Self {
            peers: 4096,
            origins: 64,
            answers: 1024,
            peer_bytes: 4 * 1024 * 1024,
            bytes: 64 * 1024 * 1024,
            age: Duration::from_secs(3600),
        }
    }
}

/// Separate runs of numbers that are remembered of one session or queue. Beyond, the lowest become one.
const RUNS: usize = 1024;

/// What is to be done with a request that names its origin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It has not been here. It counts as running from here on.
    Run,
    /// It is being carried out.
    Running,
    /// It has been carried out, with this result.
    Done(Result<Answer, Fault>),
    /// It has been carried out; the result fell out.
    Forgotten,
}

/// The table of one program.
#[derive(Debug, Default)]
pub(crate) struct Dedupe {
    limits: DedupeLimits,
    peers: BTreeMap<Option<PeerKey>, Ledger>,
    bytes: usize,
}

/// What is remembered of one peer.
#[derive(Debug)]
struct Ledger {
    origins: BTreeMap<LinkSessionId, Book>,
    /// Kept answers, oldest first. Some may be gone already.
    order: VecDeque<(LinkSessionId, u64)>,
    answers: usize,
    /// Of answers.
    answer_bytes: usize,
    /// In all, when it was last weighed.
    bytes: usize,
    touched: Instant,
}

/// What is remembered of one session or queue.
#[derive(Debug)]
struct Book {
    running: BTreeSet<u64>,
    done: Runs,
    answers: BTreeMap<u64, Result<Answer, Fault>>,
    touched: Instant,
}

impl Dedupe {
    pub(crate) fn new(limits: DedupeLimits) -> Self {
        Self { limits, peers: BTreeMap::new(), bytes: 0 }
    }

    /// A request has come that names its origin.
    pub(crate) fn begin(&mut self, peer: Option<PeerKey>, origin: Origin, now: Instant) -> Verdict {
        let book = self.book(peer, origin.session, now);
        if book.running.contains(&origin.number) {
            return Verdict::Running;
        }
        if let Some(result) = book.answers.get(&origin.number) {
            return Verdict::Done(result.clone());
        }
        if book.done.contains(origin.number) {
            return Verdict::Forgotten;
        }
        book.running.insert(origin.number);
        self.trim(peer);
        Verdict::Run
    }

    /// A request that runs has its result.
    pub(crate) fn finish(&mut self, peer: Option<PeerKey>, origin: Origin, result: Result<Answer, Fault>, now: Instant) {
        let known = self.peers.get(&peer).and_then(|ledger| ledger.origins.get(&origin.session));
        // What fell out meanwhile is not taken in again.
        if known.is_some_and(|book| book.running.contains(&origin.number)) {
            self.book(peer, origin.session, now).running.remove(&origin.number);
            if !result.as_ref().is_err_and(|fault| is_put_off(origin, fault)) {
                self.keep(peer, origin, result);
            }
            self.trim(peer);
        }
    }

    /// A request that runs was given up. It may have taken effect, so it is not carried out again; unless it is of a durable queue,
    /// which rather has it twice than not at all.
    pub(crate) fn give_up(&mut self, peer: Option<PeerKey>, origin: Origin) {
        if let Some(book) = self.peers.get_mut(&peer).and_then(|ledger| ledger.origins.get_mut(&origin.session))
            && book.running.remove(&origin.number)
            && !is_queue(&origin.session)
        {
            book.done.insert(origin.number, origin.number);
            self.trim(peer);
        }
    }

    /// A session was lost in which requests up to `received` were taken in, of which `answers` may not have arrived and `running`
    /// are being carried out.
    pub(crate) fn lost(
        &mut self,
        peer: Option<PeerKey>,
        (session, received): (LinkSessionId, u64),
        answers: Vec<(u64, Result<Answer, Fault>)>,
        running: &BTreeSet<u64>,
        now: Instant,
    ) {
        let book = self.book(peer, session, now);
        let is_put_off = |(number, result): &(u64, Result<Answer, Fault>)| {
            result.as_ref().is_err_and(|fault| is_put_off(Origin { session, number: *number }, fault))
        };
        let put_off = answers.iter().filter(|answer| is_put_off(answer)).map(|(number, _)| *number);
        let open: BTreeSet<u64> = running.iter().copied().chain(put_off).collect();
        let mut from = 1;
        for number in &open {
            if from < *number {
                book.done.insert(from, number - 1);
            }
            from = number.saturating_add(1);
        }
        if from <= received {
            book.done.insert(from, received);
        }
        book.running.extend(running);
        for (number, result) in answers.into_iter().filter(|(number, _)| !open.contains(number)) {
            self.keep(peer, Origin { session, number }, result);
        }
        self.trim(peer);
    }

    /// The book of an origin, opened if there is none. Makes room for it, and throws out what is too old.
    fn book(&mut self, peer: Option<PeerKey>, session: LinkSessionId, now: Instant) -> &mut Book {
        if !self.peers.contains_key(&peer) {
            self.sweep(now);
            if self.peers.len() >= self.limits.peers.max(1)
                && let Some(oldest) = self.peers.iter().min_by_key(|(_, ledger)| ledger.touched).map(|(peer, _)| *peer)
            {
                self.forget_peer(&oldest);
            }
        }
        let limits = self.limits;
        let fresh =
            || Ledger { origins: BTreeMap::new(), order: VecDeque::new(), answers: 0, answer_bytes: 0, bytes: 0, touched: now };
        let ledger = self.peers.entry(peer).or_insert_with(fresh);
        ledger.touched = now;
        if !ledger.origins.contains_key(&session) {
            ledger.sweep(now, limits.age);
            if ledger.origins.len() >= limits.origins.max(1) {
                ledger.forget_oldest();
            }
        }
        let book = ledger.origins.entry(session).or_insert_with(|| Book {
            running: BTreeSet::new(),
            done: Runs::default(),
            answers: BTreeMap::new(),
            touched: now,
        });
        book.touched = now;
        book
    }

    /// Keeps an answer, if it is not larger than all that may be kept.
    fn keep(&mut self, peer: Option<PeerKey>, origin: Origin, result: Result<Answer, Fault>) {
        let Some(ledger) = self.peers.get_mut(&peer) else { return };
        let Some(book) = ledger.origins.get_mut(&origin.session) else { return };
        book.done.insert(origin.number, origin.number);
        let size = size_of_result(&result);
        if size > self.limits.peer_bytes || book.answers.contains_key(&origin.number) {
            return;
        }
        book.answers.insert(origin.number, result);
        ledger.order.push_back((origin.session, origin.number));
        ledger.answers += 1;
        ledger.answer_bytes += size;
        while ledger.answers > self.limits.answers {
            ledger.drop_oldest_answer();
        }
    }

    /// Weighs what is remembered of a peer, and throws out what is too much, of it or of the peer with most.
    fn trim(&mut self, peer: Option<PeerKey>) {
        let Some(ledger) = self.peers.get_mut(&peer) else { return };
        self.bytes = self.bytes - ledger.bytes + ledger.weigh();
        while ledger.bytes > self.limits.peer_bytes {
            self.bytes -= match ledger.shrink() {
                0 => break,
                freed => freed,
            };
        }
        while self.bytes > self.limits.bytes {
            let largest = self.peers.values_mut().max_by_key(|ledger| ledger.bytes);
            self.bytes -= match largest.map_or(0, Ledger::shrink) {
                0 => break,
                freed => freed,
            };
        }
    }

    /// Throws out the peers that have been silent for too long.
    fn sweep(&mut self, now: Instant) {
        let age = self.limits.age;
        let old: Vec<_> = self.peers.iter().filter(|(_, ledger)| ledger.is_old(now, age)).map(|(peer, _)| *peer).collect();
        for peer in old {
            self.forget_peer(&peer);
        }
    }

    fn forget_peer(&mut self, peer: &Option<PeerKey>) {
        if let Some(ledger) = self.peers.remove(peer) {
            self.bytes -= ledger.bytes;
        }
    }
}

impl Ledger {
    fn is_old(&self, now: Instant, age: Duration) -> bool {
        self.origins.iter().all(|(session, book)| book.is_old(session, now, age))
    }

    fn sweep(&mut self, now: Instant, age: Duration) {
        let old = self.origins.iter().filter(|(session, book)| book.is_old(session, now, age));
        let old: Vec<_> = old.map(|(session, _)| *session).collect();
        for session in old {
            self.forget(&session);
        }
    }

    /// Forgets the origin in which nothing has happened for longest; rather one in which nothing runs.
    fn forget_oldest(&mut self) {
        let oldest = self.origins.iter().min_by_key(|(_, book)| (!book.running.is_empty(), book.touched));
        if let Some(session) = oldest.map(|(session, _)| *session) {
            self.forget(&session);
        }
    }

    /// Notes what all of it takes, and gives that.
    fn weigh(&mut self) -> usize {
        let books: usize = self.origins.values().map(|book| BOOK_BYTES + book.done.runs.len() * RUN_BYTES).sum();
        self.bytes = books + self.answer_bytes;
        self.bytes
    }

    /// Throws something out: an answer, or else the difference between numbers, or else a session in which nothing runs. Gives the
    /// bytes that are free again.
    fn shrink(&mut self) -> usize {
        let before = self.bytes;
        if !self.drop_oldest_answer() {
            let most = self.origins.values_mut().max_by_key(|book| book.done.runs.len());
            if let Some(book) = most.filter(|book| book.done.runs.len() > 1) {
                book.done.join();
            } else if self.origins.values().any(|book| book.running.is_empty()) {
                self.forget_oldest();
            } else {
                return 0;
            }
        }
        before - self.weigh()
    }

    fn forget(&mut self, session: &LinkSessionId) {
        let Some(book) = self.origins.remove(session) else { return };
        self.answers -= book.answers.len();
        self.answer_bytes -= book.answers.values().map(size_of_result).sum::<usize>();
        self.order.retain(|(kept, _)| kept != session);
    }

    /// `false` if there is none.
    fn drop_oldest_answer(&mut self) -> bool {
        while let Some((session, number)) = self.order.pop_front() {
            if let Some(result) = self.origins.get_mut(&session).and_then(|book| book.answers.remove(&number)) {
                self.answers -= 1;
                self.answer_bytes -= size_of_result(&result);
                return true;
            }
        }
        false
    }
}

impl Book {
    fn is_old(&self, session: &LinkSessionId, now: Instant, age: Duration) -> bool {
        self.running.is_empty() && !is_queue(session) && now.saturating_duration_since(self.touched) > age
    }
}

/// Whether a request that ended like that is carried out when it comes again.
///
/// A queue sends a message again that was put off, and must not find the refusal of the first try then. A link sends a request again
/// because the answer is lost: nobody has seen that, and its handler may have had effects before it failed. So the fault is the answer,
/// unless it says that no handler began.
fn is_put_off(origin: Origin, fault: &Fault) -> bool {
    if is_queue(&origin.session) { again(fault) } else { *fault == stopping() || *fault == unauthenticated() }
}

fn size_of_result(result: &Result<Answer, Fault>) -> usize {
    ENTRY_BYTES
        + match result {
            Ok(answer) => answer.content.len(),
            Err(fault) => fault.message.len(),
        }
}

/// A set of numbers, most of which follow each other.
#[derive(Debug, Default)]
struct Runs {
    /// Last number by first.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    /// The last run that overlaps or touches this one.
    fn touching(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let (start, end) = self.runs.range(..=last.saturating_add(1)).next_back()?;
        (end.saturating_add(1) >= first).then_some((*start, *end))
    }

    fn insert(&mut self, mut first: u64, mut last: u64) {
        // Those that overlap or touch the run become one with it.
        while let Some((start, end)) = self.touching(first, last) {
            self.runs.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.runs.insert(first, last);
        while self.runs.len() > RUNS {
            self.join();
        }
    }

    /// Makes the two lowest runs one.
    fn join(&mut self) {
        let first = self.runs.pop_first();
        let second = self.runs.pop_first();
        if let Some((start, end)) = first {
            self.runs.insert(start, second.map_or(end, |(_, end)| end));
        }
    }
}

#[cfg(test)]
mod tests;
