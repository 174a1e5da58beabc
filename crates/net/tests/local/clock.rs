//! The time of a peer over a real link, asked from either end, and from peers that tell no time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_net::{
    Access, Agent, AgentConfig, Answer, Events, Identity, Incoming, IncomingAction, Link, LinkEvent, ListenConfig, Listener,
    Pusher, ServerIdentity, SessionInfo, SessionService, Station, StationConfig, Trust,
    clock::{self, Clock, ClockError, ClockEstimate, ClockTracker},
};
use parlour_proto::clock::BadSample;
use parlour_wire::{Code, frame::ContentType, header::Fault};
use tokio::sync::{mpsc, watch};

use crate::bounded;

/// What the station's clock shows beyond that of this process, in microseconds: 100 days.
const AHEAD_US: u64 = 100 * 86_400 * 1_000_000;

type Answers = Box<dyn FnMut() -> Result<(ContentType, Bytes), Fault> + Send>;

/// Answers the request for the time, and nothing else.
struct Teller {
    answers: Mutex<Answers>,
    opened: mpsc::UnboundedSender<Pusher>,
}

impl SessionService for Teller {
    type Session = ();

    fn open(&self, _info: SessionInfo, pusher: Pusher) {
        self.opened.send(pusher).unwrap();
    }

    fn request(&self, _session: &mut (), request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        assert_eq!(request.name, clock::REQUEST);
        let answer = (self.answers.lock().unwrap())();
        Box::pin(async move { answer })
    }

    fn action(&self, _session: &mut (), _action: IncomingAction) {}

    fn close(&self, _session: ()) {}
}

/// A link to a station that answers so, with what keeps it running.
struct Linked {
    link: Link,
    events: Events,
    opened: mpsc::UnboundedReceiver<Pusher>,
    _stop: watch::Sender<bool>,
}

async fn linked(answers: impl FnMut() -> Result<(ContentType, Bytes), Fault> + Send + 'static) -> Linked {
    let identity = Identity::from_secret(&[1; 32]);
    let (opened_sender, opened) = mpsc::unbounded_channel();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerIdentity::from_identity(&identity).unwrap());
    let listener = listener.await.unwrap();
    let url = format!("wss://{}", listener.local_addr().unwrap()).parse().unwrap();
    let station = Teller { answers: Mutex::new(Box::new(answers)), opened: opened_sender };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(Arc::new(station), ListenConfig::default(), stopped));
    let (link, events) = Link::connect(parlour_net::ConnectConfig::new(url, Trust::Key(identity.key())));
    Linked { link, events, opened, _stop: stop }
}

#[expect(clippy::disallowed_methods, reason = "a driver's clock, as the tests of a driver need it")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// A clock that is 100 days ahead of this process's.
pub(crate) fn ahead() -> Clock {
    let now = instant();
    Clock::showing(Clock::system().us_at(now) + AHEAD_US, now)
}

/// The estimate is as good as it says, of this clock.
pub(crate) fn assert_within(estimate: ClockEstimate, of: Clock) {
    let now = instant();
    let truth = i128::from(of.us_at(now)) - i128::from(Clock::system().us_at(now));
    let off = (i128::from(estimate.offset_us()) - truth).unsigned_abs();
    assert!(off <= estimate.error_at(now).as_micros(), "{off} µs off, {:?} allowed", estimate.error_at(now));
}

#[tokio::test]
async fn the_offset_of_a_shifted_clock_is_found_within_its_bound() {
    let station = ahead();
    let linked = linked(move || Ok(clock::answer(&station, instant()))).await;
    let estimate = bounded(linked.link.clock(8)).await.unwrap();
    let now = instant();
    let truth = i64::try_from(station.us_at(now) - Clock::system().us_at(now)).unwrap();
    let error = i64::try_from(estimate.error_at(now).as_micros()).unwrap();
    let off = (estimate.offset_us() - truth).abs();
    assert!(off <= error, "{off} µs off, {error} allowed");
    assert!(estimate.taken().unwrap() <= now);
}

#[tokio::test]
async fn more_samples_never_make_the_bound_worse() {
    let station = ahead();
    let linked = linked(move || Ok(clock::answer(&station, instant()))).await;
    let mut tracker = ClockTracker::new(linked.link.clone());
    assert_eq!(tracker.estimate(), None);
    let first = bounded(tracker.measure(1)).await.unwrap();
    let best = bounded(tracker.measure(7)).await.unwrap();
    let now = instant();
    assert!(best.error_at(now) <= first.error_at(now));
    // Of two samples that are as good to the microsecond either may be the best a moment later.
    let estimate = tracker.estimate().unwrap();
    assert!(estimate.error_at(now) <= best.error_at(now) + Duration::from_micros(1));
}

#[tokio::test]
async fn something_is_done_when_the_stations_clock_shows_a_time_and_not_before() {
    let station = ahead();
    let linked = linked(move || Ok(clock::answer(&station, instant()))).await;
    let estimate = bounded(linked.link.clock(4)).await.unwrap();
    let start_us = station.now_us() + 50_000;
    let due = bounded(estimate.at(start_us)).await.unwrap();
    let error_us = u64::try_from(due.error.as_micros()).unwrap();
    assert!(station.now_us() + error_us >= start_us, "too early by more than the error");
    let late = bounded(estimate.at(start_us)).await.expect_err("it has passed");
    assert!(late.by <= Duration::from_secs(60));
}

#[tokio::test]
async fn a_station_asks_its_agent_for_the_time_too() {
    let mut linked = linked(|| unreachable!("the agent does not ask")).await;
    let agent = ahead();
    let pusher = bounded(linked.opened.recv()).await.unwrap();
    let link = linked.link.clone();
    let answering = tokio::spawn(async move {
        while let Some(event) = linked.events.next().await {
            if let LinkEvent::Request { id, name, .. } = event {
                assert_eq!(name, clock::REQUEST);
                let (content_type, content) = clock::answer(&agent, instant());
                link.answer(id, Ok(Answer { content_type, content })).unwrap();
            }
        }
    });
    let estimate = bounded(pusher.link().clock(4)).await.unwrap();
    let now = instant();
    let truth = i64::try_from(agent.us_at(now) - Clock::system().us_at(now)).unwrap();
    assert!((estimate.offset_us() - truth).unsigned_abs() <= u64::try_from(estimate.error_at(now).as_micros()).unwrap());
    answering.abort();
}

#[tokio::test]
async fn stations_and_agents_tell_the_time_to_whom_they_allow() {
    let (station_clock, agent_clock) = (ahead(), Clock::showing(5_000_000, instant()));
    let mut config = StationConfig::new(Identity::from_secret(&[1; 32]), "127.0.0.1:0".parse().unwrap());
    config.handlers.tell_time(station_clock).allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    let agent_with = |allowed| {
        let identity = Identity::from_secret(&[if allowed { 2 } else { 3 }; 32]);
        let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
        config.connect.identity = Some(identity.clone());
        let rule = config.handlers.tell_time(agent_clock);
        rule.allow(if allowed { Access::Anyone } else { Access::Deny });
        (Agent::connect(config), identity.key())
    };
    let (agent, key) = agent_with(true);
    bounded(agent.ready()).await.unwrap();
    assert_within(bounded(agent.link().clock(4)).await.unwrap(), station_clock);
    assert_within(bounded(station.peer(&key).unwrap().link().clock(4)).await.unwrap(), agent_clock);

    let (agent, key) = agent_with(false);
    bounded(agent.ready()).await.unwrap();
    let refused = bounded(station.peer(&key).unwrap().link().clock(4)).await;
    assert!(matches!(refused, Err(ClockError::NoAnswer(fault)) if fault.code == Code::FORBIDDEN));
}

#[tokio::test]
async fn a_peer_that_tells_no_time_is_named() {
    let answer = |bytes: &'static [u8]| move || Ok((ContentType::CBOR, Bytes::from_static(bytes)));
    let malformed = linked(answer(b"\x82\x00")).await;
    assert!(matches!(bounded(malformed.link.clock(3)).await, Err(ClockError::Malformed(_))));

    // Received at 2, answered at 1.
    let backwards = linked(answer(b"\x82\x02\x01")).await;
    let refused = bounded(backwards.link.clock(3)).await;
    assert_eq!(refused, Err(ClockError::Impossible(BadSample::PeerBackwards)));

    // Held for some 70 minutes within a moment.
    let slow = linked(answer(b"\x82\x00\x1a\xff\xff\xff\xff")).await;
    assert_eq!(bounded(slow.link.clock(3)).await, Err(ClockError::Impossible(BadSample::Impossible)));

    let beyond = linked(answer(b"\x82\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x1b\xff\xff\xff\xff\xff\xff\xff\xff")).await;
    assert_eq!(bounded(beyond.link.clock(3)).await, Err(ClockError::Impossible(BadSample::OutOfRange)));

    let fault = Fault { code: Code::UNKNOWN_REQUEST, message: "no clock here".to_owned(), retry_after_ms: None };
    let silent = linked(move || Err(fault.clone())).await;
    assert!(
        matches!(bounded(silent.link.clock(3)).await, Err(ClockError::NoAnswer(fault)) if fault.code == Code::UNKNOWN_REQUEST)
    );
}
