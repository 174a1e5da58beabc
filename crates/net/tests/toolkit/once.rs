//! A request takes effect once, also when it is sent again because its session was lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parlour_net::{
    Access, Agent, Answer, Ask, Code, Codecs, ContentType, Context, DedupeLimits, Fault, Link, LinkSessionId, OpenRequests,
    Origin, Station,
};
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

use crate::{
    support::{BOUND, Proxy},
    world::{Reports, agent_config, bounded, key, ready, reports, station_config, through_proxy},
};

/// A station that counts, behind a proxy, with a grace that is over at once.
struct Scene {
    station: Station,
    agent: Agent,
    proxy: Proxy,
    runs: Arc<AtomicU32>,
    /// Handlers that have begun.
    begun: Reports<u32>,
    /// Lets handlers end.
    gate: Arc<Semaphore>,
    /// Sessions that have ended.
    ended: Reports<Code>,
    /// Sessions that have begun.
    connected: Reports<LinkSessionId>,
}

pub fn counting(
    runs: &Arc<AtomicU32>,
    begun: UnboundedSender<u32>,
    gate: &Arc<Semaphore>,
) -> impl Fn(Context, u32) -> futures_util::future::BoxFuture<'static, Result<u32, Fault>> + Send + Sync + use<> {
    let (runs, gate) = (Arc::clone(runs), Arc::clone(gate));
    move |_cx, n| {
        let (runs, begun, gate) = (Arc::clone(&runs), begun.clone(), Arc::clone(&gate));
        Box::pin(async move {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            begun.send(n).unwrap();
            gate.acquire().await.unwrap().forget();
            Ok(1000 * run + n)
        })
    }
}

async fn scene(dedupe: DedupeLimits) -> Scene {
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (begun_sender, begun) = reports();
    let (end, ended) = reports();
    let (up, connected) = reports();
    let mut config = station_config();
    config.listen.grace = Duration::from_millis(20);
    config.dedupe = dedupe;
    config.handlers.on_request("count", counting(&runs, begun_sender.clone(), &gate)).allow(Access::Authenticated);
    let book = counting(&runs, begun_sender, &gate);
    // What it does is done when another one that it asks does not answer.
    let book = config.handlers.on_request("book", move |cx, n: u32| {
        let booked = book(cx, n);
        async move { booked.await.and_then(|_| Err::<u32, _>(Fault::new(Code::TIMED_OUT, "booked, and nobody was told"))) }
    });
    book.allow(Access::Authenticated);
    config.hooks.on_end(move |_peer, reason| {
        let _ = end.send(reason.code);
        async {}
    });
    config.hooks.on_connect(move |peer| {
        let _ = up.send(peer.session());
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let mut config = agent_config(&station, 1);
    let proxy = through_proxy(&station, &mut config).await;
    let agent = ready(config).await;
    let mut scene = Scene { station, agent, proxy, runs, begun, gate, ended, connected };
    scene.connected.next().await;
    scene
}

impl Scene {
    /// Takes the session away.
    async fn lose(&mut self) {
        self.proxy.set_open(false);
        self.proxy.cut();
        assert_eq!(self.ended.next().await, Code::LINK_LOST);
    }

    async fn come_back(&mut self) {
        self.proxy.set_open(true);
        self.connected.next().await;
    }

    /// What is sent again in the new session has come.
    async fn resent(&self) {
        // It goes before what is asked now.
        bounded(self.agent.request::<()>("no such handler", &())).await.unwrap_err();
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_request_that_comes_again_while_it_runs_joins_the_first_run() {
    let mut scene = scene(DedupeLimits::default()).await;
    let reply = scene.agent.request::<u32>("count", &7).send();
    assert_eq!(scene.begun.next().await, 7);
    for _ in 0..3 {
        scene.lose().await;
        scene.come_back().await;
        scene.resent().await;
    }
    scene.gate.add_permits(10);
    assert_eq!(bounded(reply).await.unwrap(), 1007);
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn a_request_that_ended_while_nobody_was_there_is_answered_with_its_result() {
    let mut scene = scene(DedupeLimits::default()).await;
    let reply = scene.agent.request::<u32>("count", &7).send();
    assert_eq!(scene.begun.next().await, 7);
    scene.lose().await;
    // It ends when its session is over.
    scene.gate.add_permits(1);
    bounded(async {
        while scene.gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.come_back().await;
    assert_eq!(bounded(reply).await.unwrap(), 1007);
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn a_request_that_failed_is_not_tried_again_by_its_link_although_it_might_succeed_later() {
    let mut scene = scene(DedupeLimits::default()).await;
    let reply = scene.agent.request::<u32>("book", &7).send();
    assert_eq!(scene.begun.next().await, 7);
    scene.lose().await;
    scene.gate.add_permits(1);
    bounded(async {
        while scene.gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.come_back().await;
    assert_eq!(bounded(reply).await.unwrap_err(), Fault::new(Code::TIMED_OUT, "booked, and nobody was told"));
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn an_answer_that_was_lost_with_its_session_is_given_again() {
    let mut scene = scene(DedupeLimits::default()).await;
    // The handlers end in the turn in which they begin, while the connection breaks.
    scene.gate.add_permits(1000);
    for n in 0..30 {
        let reply = scene.agent.request::<u32>("count", &n).send();
        if n % 2 == 0 {
            assert_eq!(scene.begun.next().await, n);
        }
        scene.proxy.set_open(false);
        scene.proxy.cut();
        scene.ended.next().await;
        scene.come_back().await;
        let answer = bounded(reply).await.unwrap();
        assert_eq!((answer % 1000, scene.runs()), (n, n + 1));
        scene.begun.rest();
    }
}

#[tokio::test]
async fn a_request_takes_effect_once_although_the_station_closes_its_session_for_now() {
    let mut scene = scene(DedupeLimits::default()).await;
    let reply = scene.agent.request::<u32>("count", &7).send();
    assert_eq!(scene.begun.next().await, 7);
    for code in [Code::OVERLOADED, Code::STOPPING, Code::LINK_LOST] {
        let peer = scene.station.peer(&key(1)).unwrap();
        bounded(peer.link().close_with(Fault::new(code, "for now"))).await;
        assert_eq!(scene.ended.next().await, code);
        scene.connected.next().await;
        scene.resent().await;
    }
    scene.gate.add_permits(10);
    assert_eq!(bounded(reply).await.unwrap(), 1007);
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn an_answer_that_the_end_of_its_session_overtakes_is_given_again() {
    let mut scene = scene(DedupeLimits::default()).await;
    for n in 0..30 {
        let reply = scene.agent.request::<u32>("count", &n).send();
        assert_eq!(scene.begun.next().await, n);
        let peer = scene.station.peer(&key(1)).unwrap();
        scene.gate.add_permits(1);
        bounded(peer.link().close_with(Fault::new(Code::OVERLOADED, "for now"))).await;
        scene.ended.next().await;
        scene.connected.next().await;
        let answer = bounded(reply).await.unwrap();
        assert_eq!((answer % 1000, scene.runs()), (n, n + 1));
    }
}

#[tokio::test]
async fn a_request_that_never_arrived_takes_effect_when_it_does() {
    let mut scene = scene(DedupeLimits::default()).await;
    scene.lose().await;
    let reply = scene.agent.request::<u32>("count", &7).send();
    assert_eq!(scene.runs(), 0);
    scene.gate.add_permits(1);
    scene.come_back().await;
    assert_eq!(bounded(reply).await.unwrap(), 1007);
    assert_eq!(scene.runs(), 1);
}

#[tokio::test]
async fn requests_fail_instead_if_the_link_is_told_so() {
    let mut first = scene(DedupeLimits::default()).await;
    let mut config = agent_config(&first.station, 2);
    config.connect.link.open_requests = OpenRequests::Fail;
    let proxy = through_proxy(&first.station, &mut config).await;
    let agent = ready(config).await;
    first.connected.next().await;
    let reply = agent.request::<u32>("count", &7).send();
    first.begun.next().await;
    proxy.set_open(false);
    proxy.cut();
    first.ended.next().await;
    proxy.set_open(true);
    assert_eq!(bounded(reply).await.unwrap_err().code, Code::LINK_LOST);
    assert_eq!(first.runs(), 1);
}

fn ask(number: u64, queue: u8, n: u32) -> Ask {
    Ask {
        name: "count".to_owned(),
        content_type: ContentType::CBOR,
        content: Codecs::new().encode(ContentType::CBOR, &n).unwrap(),
        timeout: Some(BOUND),
        origin: Some(Origin { session: LinkSessionId([queue; 16]), number }),
    }
}

fn number(answer: &Answer) -> u32 {
    Codecs::new().decode(answer.content_type, &answer.content).unwrap()
}

/// Asks as a queue does: again, if the session was lost before the answer.
async fn queued(link: &Link, ask: Ask) -> u32 {
    loop {
        match bounded(link.ask(ask.clone())).await {
            Ok(answer) => return number(&answer),
            Err(fault) => assert_eq!(fault.code, Code::LINK_LOST),
        }
    }
}

#[tokio::test]
async fn requests_of_a_queue_take_effect_once_over_all_sessions_of_their_peer() {
    let mut scene = scene(DedupeLimits::default()).await;
    scene.gate.add_permits(1000);
    let link = scene.agent.link().clone();
    let first = queued(&link, ask(1, 9, 5)).await;
    assert_eq!(first, 1005);
    assert_eq!(queued(&link, ask(1, 9, 5)).await, first);
    scene.lose().await;
    scene.come_back().await;
    assert_eq!(queued(&link, ask(1, 9, 5)).await, first);
    // The next of the queue, another queue, and another peer's.
    assert_eq!(queued(&link, ask(2, 9, 5)).await, 2005);
    assert_eq!(queued(&link, ask(1, 8, 5)).await, 3005);
    let other = ready(agent_config(&scene.station, 2)).await;
    assert_eq!(queued(other.link(), ask(1, 9, 5)).await, 4005);
}

#[tokio::test]
async fn a_cancelled_request_that_came_again_cancels_the_first_run() {
    let (seen, mut sees) = reports();
    let mut config = station_config();
    config
        .handlers
        .on_request("wait", move |cx: Context, ()| {
            let seen = seen.clone();
            async move {
                seen.send("began").unwrap();
                cx.cancelled().await;
                seen.send("cancelled").unwrap();
                Ok(())
            }
        })
        .allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    let agent = ready(agent_config(&station, 1)).await;
    let wait = || Ask { name: "wait".to_owned(), content: Codecs::new().encode(ContentType::CBOR, &()).unwrap(), ..ask(1, 9, 0) };
    let (first, second) = (agent.link().ask(wait()), agent.link().ask(wait()));
    assert_eq!(sees.next().await, "began");
    drop(second);
    assert_eq!(sees.next().await, "cancelled");
    bounded(first).await.unwrap();
    assert!(sees.rest().is_empty(), "it ran once");
}

#[tokio::test]
async fn an_answer_that_fell_out_is_refused_rather_than_computed_twice() {
    let scene = scene(DedupeLimits { answers: 1, ..DedupeLimits::default() }).await;
    scene.gate.add_permits(1000);
    let link = scene.agent.link();
    bounded(link.ask(ask(1, 9, 5))).await.unwrap();
    bounded(link.ask(ask(2, 9, 5))).await.unwrap();
    assert_eq!(bounded(link.ask(ask(1, 9, 5))).await.unwrap_err().code, Code::ALREADY_EXISTS);
    assert_eq!(number(&bounded(link.ask(ask(2, 9, 5))).await.unwrap()), 2005);
    assert_eq!(scene.runs(), 2);
}

#[tokio::test]
async fn requests_of_a_stations_queue_take_effect_once_at_the_agent() {
    let station = Station::bind(station_config()).await.unwrap();
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(100)));
    let (begun, _begins) = reports();
    let mut config = agent_config(&station, 1);
    config.handlers.on_request("count", counting(&runs, begun, &gate)).allow(Access::Authenticated);
    let _agent = ready(config).await;
    let link = station.peer(&key(1)).unwrap().link().clone();
    for _ in 0..3 {
        assert_eq!(number(&bounded(link.ask(ask(1, 9, 5))).await.unwrap()), 1005);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_action_that_was_taken_in_is_carried_out_although_its_session_is_over() {
    let (done, mut dones) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let (ended, mut ends) = reports();
    let mut config = station_config();
    let waits = Arc::clone(&gate);
    config
        .handlers
        .on_action("write", move |_cx, n: u32| {
            let (gate, done) = (Arc::clone(&waits), done.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                done.send(n).unwrap();
            }
        })
        .allow(Access::Authenticated);
    config.hooks.on_end(move |_peer, _reason| {
        ended.send(()).unwrap();
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let agent = ready(agent_config(&station, 1)).await;
    for n in 0..5 {
        agent.action("write", &n).unwrap();
    }
    agent.close().await;
    ends.next().await;
    assert!(dones.rest().is_empty());
    gate.add_permits(5);
    assert_eq!(dones.take(5).await, [0, 1, 2, 3, 4]);
}
