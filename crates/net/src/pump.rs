//! Moves frames between a machine and its carrier, and keeps its timer. Both ends of a link are built on it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

pub(crate) use parlour_proto::later;
use parlour_proto::link::{Command, Input, Link as Machine, LinkError, Output};
use parlour_wire::header::Fault;
use tokio::{task::JoinHandle, time::Sleep};

use crate::carrier::{Carrier, CarrierError};

/// Frames that one turn reads at most, so that reading never starves writing.
const READ_BATCH: usize = 64;
/// Bytes that one turn reads or writes before the other direction and the application have theirs.
const TURN_BYTES: usize = 256 * 1024;
/// How long a closed connection may take to say goodbye.
pub(crate) const GOODBYE: Duration = Duration::from_secs(3);

/// Bytes that a closed connection may still say unheard.
const DISCARDED: usize = 1024 * 1024;

/// A request of this name panics in the driver, as nothing should.
#[cfg(test)]
pub(crate) const PANIC: &str = "panic";

/// The clock of the drivers: the one place in this crate that reads it.
#[expect(clippy::disallowed_methods, reason = "drivers give the machines their time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What came of writing.
#[must_use]
pub(crate) struct Written {
    /// There is more, and the connection takes more.
    pub(crate) more: bool,
    /// Why the machine has given the connection up, if it has. A session hears the same from its machine as the reason of the loss; a
    /// client, whose greeting may have come to nothing, hears it only here.
    pub(crate) given_up: Option<Fault>,
}

impl From<bool> for Written {
    fn from(more: bool) -> Self {
        Self { more, given_up: None }
    }
}

/// A machine with the connection it has at the moment.
pub(crate) struct Pump {
    pub(crate) machine: Machine,
    carrier: Option<Box<dyn Carrier>>,
    /// Nothing more is read: what comes cannot be understood.
    deaf: bool,
    /// The connection that says goodbye, if one does.
    farewell: Option<JoinHandle<()>>,
    timer: Alarm,
}

impl Pump {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, carrier: None, deaf: false, farewell: None, timer: Alarm::default() }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.carrier.is_some()
    }

    /// See [`Carrier::round_trip`].
    pub(crate) fn round_trip(&mut self) -> Option<Duration> {
        self.carrier.as_mut().and_then(|carrier| carrier.round_trip())
    }

    /// Takes a carrier in place of the one before, if any.
    pub(crate) fn connect(&mut self, carrier: Box<dyn Carrier>, now: Instant) {
        self.lose(now);
        self.carrier = Some(carrier);
        self.deaf = false;
        self.handle(Input::Connected, now);
    }

    /// Drops the connection at once.
    pub(crate) fn lose(&mut self, now: Instant) {
        if self.carrier.take().is_some() {
            self.handle(Input::Lost, now);
        }
    }

    /// Gives the machine an input whose failure is the peer's and has been dealt with by the machine.
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        if let Err(error) = self.try_handle(input, now) {
            tracing::debug!(%error, "link");
        }
    }

    /// Gives the machine an input that it may refuse.
    pub(crate) fn try_handle(&mut self, input: Input, now: Instant) -> Result<(), LinkError> {
        #[cfg(test)]
        if matches!(&input, Input::Command(Command::Request { name, .. }) if name == PANIC) {
            panic!("a test wants it");
        }
        self.machine.handle(input, now)
    }

    /// Reads frames into the machine if the application has room for what comes. `true` if there may be more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, room: bool, now: Instant) -> bool {
        self.machine.set_paused(!room, now);
        if !room {
            return false;
        }
        // Who is told to go has nothing to say that matters.
        if self.deaf || self.machine.is_closing() {
            return false;
        }
        let mut bytes = 0;
        for _ in 0..READ_BATCH {
            let Some(carrier) = &mut self.carrier else { return false };
            match carrier.poll_recv(cx) {
                Poll::Ready(Ok(frame)) => {
                    bytes += frame.content.len();
                    self.handle(Input::Frame(frame), now);
                    bytes += self.machine.take_unpacked();
                    if bytes >= TURN_BYTES {
                        return true;
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.fail(&error, now);
                    return true;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    fn fail(&mut self, error: &CarrierError, now: Instant) {
        tracing::debug!(%error, "carrier");
        match error.fault() {
            Some(fault) => {
                self.deaf = true;
                self.handle(Input::Command(Command::Close(fault)), now);
            }
            None => self.lose(now),
        }
    }

    /// Writes what the machine has to say, as far as the connection takes it, and flushes once.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Written {
        let mut bytes = 0;
        let more = loop {
            let Some(carrier) = &mut self.carrier else { return false.into() };
            match carrier.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "carrier");
                    self.lose(now);
                    return false.into();
                }
                Poll::Pending => {
                    // The machine can give up a connection that takes no more frames.
                    let given_up = self.machine.poll_disconnect();
                    if given_up.is_some() {
                        self.retire();
                    }
                    return Written { more: false, given_up };
                }
            }
            if bytes >= TURN_BYTES {
                break true;
            }
            self.machine.hold_chunks(!carrier.takes_chunks());
            match self.machine.poll_transmit() {
                Some(Output::Send(frame)) => {
                    bytes += frame.content.len();
                    if let Err(error) = carrier.send(&frame) {
                        tracing::error!(%error, kind = frame.kind.0, "a frame of ours cannot be encoded");
                        self.lose(now);
                        return false.into();
                    }
                }
                Some(Output::Disconnect(reason)) => {
                    self.retire();
                    return Written { more: false, given_up: Some(reason) };
                }
                Some(Output::Event(_)) | None => break false,
            }
        };
        let more = match self.carrier.as_mut().map(|carrier| carrier.poll_flush(cx)) {
            Some(Poll::Ready(Err(error))) => {
                tracing::debug!(%error, "carrier");
                self.lose(now);
                false
            }
            // Chunks that were held back have room now, and nobody would say so later.
            Some(Poll::Ready(Ok(()))) => more || self.machine.holds_chunks(),
            Some(Poll::Pending) | None => more,
        };
        more.into()
    }

    /// Lets the connection say goodbye on its own.
    fn retire(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            self.farewell = Some(tokio::spawn(goodbye(carrier)));
        }
    }

    /// Ready when the last connection has said goodbye: the peer has read everything, or the time for it is over. What ends before
    /// that may take the last words with it.
    pub(crate) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(farewell) = &mut self.farewell {
            // One that has failed is over, too.
            drop(ready!(Pin::new(farewell).poll(cx)));
            self.farewell = None;
        }
        Poll::Ready(())
    }

    /// Ticks the machine if it is time.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.timer.is_over(now) {
            self.handle(Input::Tick, now);
        }
    }

    /// Makes sure that the task wakes at the machine's deadline, or at one of the caller's.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>, own: Option<Instant>) {
        let machine = self.machine.deadline().map(|(deadline, _)| deadline);
        if let Some(deadline) = machine.into_iter().chain(own).min() {
            self.timer.arm(cx, deadline);
        }
    }
}

/// Closes a connection that nobody reads any more, within bounds.
pub(crate) async fn goodbye(mut carrier: Box<dyn Carrier>) {
    let close = async {
        std::future::poll_fn(|cx| carrier.poll_close(cx)).await?;
        // To close a socket in which unread bytes lie is to reset it, and the goodbye might not be read.
        let mut discarded = 0;
        while discarded < DISCARDED {
            discarded += std::future::poll_fn(|cx| carrier.poll_discard(cx)).await?;
        }
        Ok::<(), CarrierError>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(GOODBYE, close).await {
        tracing::trace!(%error, "closing a connection");
    }
}

/// A timer that is only moved when its deadline comes closer. Traffic moves deadlines away all the time; then it goes off early,
/// once, and is set again.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Alarm {
    fn is_over(&mut self, now: Instant) -> bool {
        let over = self.at.is_some_and(|at| at <= now);
        if over {
            self.at = None;
        }
        over
    }

    fn arm(&mut self, cx: &mut Context<'_>, deadline: Instant) {
        if self.at.is_some_and(|at| at <= deadline) {
            return;
        }
        self.at = Some(deadline);
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc, task::Waker};

    use bytes::Bytes;
    use parlour_proto::link::{Event, LinkConfig, ServerSession};
    use parlour_wire::{Encoding, Frame, LinkSessionId, frame::ContentType};

    use super::*;

    /// Brings these frames.
    struct Feed(VecDeque<Frame>);

    impl Carrier for Feed {
        fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Frame, CarrierError>> {
            self.0.pop_front().map_or(Poll::Pending, |frame| Poll::Ready(Ok(frame)))
        }

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn send(&mut self, _frame: &Frame) -> Result<(), CarrierError> {
            Ok(())
        }

        fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_discard(&mut self, _cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
            Poll::Ready(Err(CarrierError::Closed))
        }

        fn set_limit(&mut self, _bytes: usize) {}
    }

    fn sent(machine: &mut Machine) -> impl Iterator<Item = Frame> {
        std::iter::from_fn(|| match machine.poll_transmit() {
            Some(Output::Send(frame)) => Some(frame),
            _ => None,
        })
    }

    /// What a server says that sends so many actions of zeros, compressed.
    fn said(config: &Arc<LinkConfig>, actions: usize, size: usize) -> VecDeque<Frame> {
        let mut client = Machine::client(Arc::clone(config));
        client.handle(Input::Connected, now()).unwrap();
        let grace = Duration::from_secs(60);
        let identity = ServerSession { session: LinkSessionId([1; 16]), token: [1; 32], challenge: [1; 32], grace };
        let mut server = Machine::server(Arc::clone(config), identity, now());
        server.handle(Input::Connected, now()).unwrap();
        server.handle(Input::Frame(sent(&mut client).next().unwrap()), now()).unwrap();
        for _ in 0..actions {
            let (content_type, content) = (ContentType::BYTES, Bytes::from(vec![0; size]));
            let action = Command::Action { name: "act".to_owned(), content_type, content };
            server.handle(Input::Command(action), now()).unwrap();
        }
        sent(&mut server).collect()
    }

    #[tokio::test]
    async fn a_turn_reads_no_more_than_its_share_of_what_comes_out_of_compressed_frames() {
        let config = Arc::new(LinkConfig { compression: vec![Encoding::Zstd], ..LinkConfig::default() });
        let (actions, size) = (3, 1_000_000);
        let frames = said(&config, actions, size);
        let arrived: usize = frames.iter().map(Frame::size).sum();
        assert!(frames.len() == actions + 1 && arrived < TURN_BYTES, "all of it would fit a turn as it arrives");
        let mut pump = Pump::new(Machine::client(config));
        pump.connect(Box::new(Feed(frames)), now());
        let mut cx = Context::from_waker(Waker::noop());
        let mut turns = Vec::new();
        while turns.len() < 10 {
            let more = pump.poll_read(&mut cx, true, now());
            let events = std::iter::from_fn(|| pump.machine.poll_event());
            turns.push(events.filter(|event| matches!(event, Event::Action { content, .. } if content.len() == size)).count());
            if !more {
                break;
            }
        }
        assert_eq!(turns, [1, 1, 1, 0]);
    }
}
