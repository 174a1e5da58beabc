//! Who awaits an answer looks for it before it sleeps, if answers come quickly, and not otherwise.

use std::{
    future::IntoFuture,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::task::{ArcWake, waker};
use parlour_net::{Access, Agent, Station};
use tokio::sync::Semaphore;

use crate::world::{agent_config, bounded, ready, station_config};

/// Calls until one finds its link at rest; usually the first does.
const TRIES: usize = 1000;

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl ArcWake for Woken {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A station that answers `held` once it may, and an agent that looks for answers so long.
async fn pair(spin: Duration) -> (Station, Agent, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let mut config = station_config();
    let opened = Arc::clone(&gate);
    let held = move |_cx, ()| {
        let opened = Arc::clone(&opened);
        async move {
            opened.acquire().await.expect("it is not closed").forget();
            Ok::<(), parlour_net::Fault>(())
        }
    };
    config.handlers.on_request("held", held).allow(Access::Anyone);
    config.handlers.on_request("echo", |_cx, value: u64| async move { Ok(value) }).allow(Access::Anyone);
    let station = Station::bind(config).await.unwrap();
    let mut config = agent_config(&station, 1);
    config.connect.spin = spin;
    (station, ready(config).await, gate)
}

/// How often the task of a call is woken while there is no answer.
async fn woken_before_its_answer(agent: &Agent, gate: &Semaphore) -> usize {
    let woken = Arc::new(Woken::default());
    let mut call = pin!(agent.request::<()>("held", &()).into_future());
    for _ in 0..3 {
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker(Arc::clone(&woken)))).is_pending());
    }
    let before = woken.0.load(Ordering::Relaxed);
    gate.add_permits(1);
    bounded(call).await.unwrap();
    before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whose_answers_come_quickly_is_polled_until_the_answer_is_there() {
    let (_station, agent, gate) = pair(Duration::from_secs(60)).await;
    for n in 0..TRIES {
        assert_eq!(bounded(agent.request::<u64>("echo", &7)).await.unwrap(), 7);
        if n > 1 && woken_before_its_answer(&agent, &gate).await == 3 {
            return;
        }
    }
    panic!("nobody looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whose_answers_are_slower_or_who_is_told_not_to_look_sleeps() {
    for spin in [Duration::ZERO, Duration::from_nanos(1)] {
        let (_station, agent, gate) = pair(spin).await;
        for _ in 0..100 {
            assert_eq!(bounded(agent.request::<u64>("echo", &7)).await.unwrap(), 7);
            assert_eq!(woken_before_its_answer(&agent, &gate).await, 0);
        }
    }
}

/// On one thread everything waits for whoever does not let it run: the network and the other end too.
#[tokio::test]
async fn who_looks_lets_everything_else_of_its_thread_run() {
    let (_station, agent, _gate) = pair(Duration::from_secs(3600)).await;
    for n in 0..1000 {
        assert_eq!(bounded(agent.request::<u64>("echo", &n)).await.unwrap(), n);
    }
}

#[tokio::test]
async fn a_look_ends_with_its_call() {
    let (_station, agent, gate) = pair(Duration::from_secs(3600)).await;
    for n in 0..10 {
        assert_eq!(bounded(agent.request::<u64>("echo", &n)).await.unwrap(), n);
        let mut call = pin!(agent.request::<()>("held", &()).into_future());
        assert!(matches!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    }
    gate.add_permits(10);
    assert_eq!(bounded(agent.request::<u64>("echo", &11)).await.unwrap(), 11);
}
