//! What the handles of both ends promise: the server asks too, progress and cancelling arrive, callers wait for room, and nobody
//! is left waiting when a link is over.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use parlour_net::{
    Answer, Ask, Asked, Events, Link, LinkConfig, LinkEvent, ListenConfig, OpenRequests, Origin, Progress, Pusher, SendError,
    Unsent,
};
use parlour_wire::{Code, frame::ContentType, header::Fault, limits};
use support::{BOUND, Proxy, Seen, Server, bounded, next, up};
use tokio::runtime::Builder;

const CBOR: ContentType = ContentType::CBOR;

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn ask(link: &Link, name: &str, content: Bytes) -> Asked {
    link.ask(Ask { name: name.to_owned(), content_type: CBOR, content, timeout: Some(BOUND), origin: None })
}

/// A link that is up, and what the server holds of it.
async fn pair(server: &mut Server) -> (Link, Events, Pusher) {
    let (link, mut events) = server.connect();
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
    (link, events, pusher)
}

#[tokio::test]
async fn the_server_asks_and_acts_and_the_client_answers_in_order() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events, pusher) = pair(&mut server).await;
    let there = pusher.link();
    assert!(there.is_up() && there.session() == link.session() && link.session() == Some(pusher.session()));
    let mut asked = Vec::new();
    for n in 0..100 {
        there.action_raw("step", ContentType::JSON, number(n)).unwrap();
        asked.push(ask(&there, "what", number(n)));
    }
    for n in 0..100 {
        let expected = LinkEvent::Action { name: "step".into(), content_type: ContentType::JSON, content: number(n) };
        assert_eq!(next(&mut events).await, expected);
        match next(&mut events).await {
            LinkEvent::Request { id, name, content_type, content, deadline, origin } => {
                assert_eq!((name.as_str(), &content, deadline.is_some(), origin), ("what", &number(n), true, None));
                link.answer(id, Ok(Answer { content_type, content })).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    for (n, asked) in (0..).zip(asked) {
        assert_eq!(bounded(asked).await.unwrap(), Answer { content_type: CBOR, content: number(n) });
    }
    let fault = Fault { code: Code::FORBIDDEN, message: "no".into(), retry_after_ms: None };
    let asked = ask(&there, "what", Bytes::new());
    let LinkEvent::Request { id, .. } = next(&mut events).await else { panic!("no request") };
    link.answer(id, Err(fault.clone())).unwrap();
    assert_eq!(bounded(asked).await, Err(fault));
}

#[tokio::test]
async fn a_server_closes_a_link_with_a_reason_and_both_ends_know() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events, pusher) = pair(&mut server).await;
    let there = pusher.link();
    let fault = Fault { code: Code::FORBIDDEN, message: "out".into(), retry_after_ms: None };
    bounded(there.close_with(fault.clone())).await;
    assert_eq!(there.action_raw("late", CBOR, Bytes::new()), Err(SendError::Closed));
    match next(&mut events).await {
        LinkEvent::Failed(error) => assert_eq!(error.fault(), fault),
        other => panic!("{other:?}"),
    }
    assert_eq!(bounded(link.wait_up()).await, Err(SendError::Closed));
    assert!(!link.is_up() && !there.is_up());
}

#[tokio::test]
async fn progress_arrives_while_the_answer_is_out() {
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let mut asked = ask(&link, "steps", number(1));
    assert_eq!(asked.progress(), None);
    let mut last = 0;
    bounded(std::future::poll_fn(|cx| {
        assert!(asked.poll_unpin(cx).is_pending());
        if let Some(Progress { done, total }) = asked.progress() {
            assert!(done >= last && total == Some(3));
            last = done;
        }
        if last == 3 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }))
    .await;
    server.service.gate.add_permits(1);
    assert_eq!(bounded(&mut asked).await.unwrap().content, number(1));
    assert_eq!(asked.progress(), Some(Progress { done: 3, total: Some(3) }));
}

#[tokio::test]
async fn progress_is_told_before_an_answer_that_is_there_at_once() {
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    server.service.gate.add_permits(100);
    for n in 0..100 {
        let mut asked = ask(&link, "steps", number(n));
        assert_eq!(bounded(&mut asked).await.unwrap().content, number(n));
        assert_eq!(asked.progress(), Some(Progress { done: 3, total: Some(3) }));
    }
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_at_the_other_end() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events, pusher) = pair(&mut server).await;
    let asked = ask(&link, "hold", number(1));
    bounded(server.held.recv()).await.unwrap();
    drop(asked);
    assert!(matches!(server.next().await, Seen::Cancelled(id) if id.number() == 1));

    let asked = ask(&pusher.link(), "what", number(2));
    let LinkEvent::Request { id: asked_id, .. } = next(&mut events).await else { panic!("no request") };
    drop(asked);
    assert_eq!(next(&mut events).await, LinkEvent::Cancelled { id: asked_id });
    // It comes too late, and harms nobody.
    link.answer(asked_id, Ok(Answer { content_type: CBOR, content: number(2) })).unwrap();
    assert_eq!(bounded(ask(&link, "echo", number(3))).await.unwrap().content, number(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_of_one_handle_wait_for_room_and_are_all_answered() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let asked: FuturesUnordered<_> = (0..10_000).map(|n| ask(&link, "hold", number(n))).collect();
    for _ in 0..limits::REQUESTS_IN_FLIGHT {
        bounded(server.held.recv()).await.unwrap();
    }
    assert!(server.held.try_recv().is_err(), "more are in flight than allowed");
    server.service.gate.add_permits(10_000);
    let answers: Vec<_> = bounded(asked.collect()).await;
    let seen: BTreeSet<_> = answers.into_iter().map(|answer| answer.unwrap().content).collect();
    assert_eq!(seen, (0..10_000).map(number).collect());
}

#[tokio::test]
async fn a_request_that_waits_for_room_keeps_its_deadline_and_leaves_no_trace() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let held: Vec<_> = (0..limits::REQUESTS_IN_FLIGHT as u32).map(|n| ask(&link, "hold", number(n))).collect();
    for _ in 0..held.len() {
        bounded(server.held.recv()).await.unwrap();
    }
    let fault = bounded(link.request_raw("hold", CBOR, number(1), Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    // Callers that go while they wait are forgotten, and those behind them get their turn.
    (0..1000).for_each(|n| drop(ask(&link, "hold", number(n))));
    let patient = ask(&link, "echo", number(7));
    drop(held);
    // The server counts them until their handlers are done.
    server.service.gate.add_permits(limits::REQUESTS_IN_FLIGHT);
    assert_eq!(bounded(patient).await.unwrap().content, number(7));
    assert!(server.held.try_recv().is_err(), "a request was made for nobody");
}

#[tokio::test]
async fn actions_wait_for_room_when_the_other_end_takes_none() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events, _pusher) = pair(&mut server).await;
    server.service.set_room(false);
    let mut sent = 0;
    while link.action_raw("note", CBOR, number(sent)).is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(link.action_raw("note", CBOR, number(sent)), Err(SendError::Full));
    assert!(sent as usize <= limits::UNACKED_FRAMES + 1024 + 64, "{sent}");
    assert!(link.ready().now_or_never().is_none());
    server.service.set_room(true);
    bounded(link.ready()).await.unwrap();
    link.action_raw("note", CBOR, number(sent)).unwrap();
    for n in 0..=sent {
        match server.next().await {
            Seen::Action(action) => assert_eq!(action.content, number(n)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_large_action_behind_a_small_one_waits_for_its_own_room() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events, _pusher) = pair(&mut server).await;
    let [small, large] = [300_000, 900_000].map(|size| Bytes::from(vec![0; size]));
    link.action_raw("note", CBOR, small.clone()).unwrap();
    assert_eq!(link.action_raw("note", CBOR, large.clone()), Err(SendError::Full));
    assert!(link.ready().now_or_never().is_none(), "there is room, but not for this one");
    bounded(async {
        while link.action_raw("note", CBOR, large.clone()).is_err() {
            link.ready().await.unwrap();
        }
    })
    .await;
    for sent in [small, large] {
        match server.next().await {
            Seen::Action(action) => assert!(action.content == sent),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_handle_outlives_its_driver_and_says_so() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events, pusher) = pair(&mut server).await;
    let there = pusher.link();
    let (asked, asked_there) = (ask(&link, "hold", number(1)), ask(&there, "what", number(1)));
    bounded(server.held.recv()).await.unwrap();
    bounded(link.close()).await;
    assert!(matches!(server.next().await, Seen::Closed | Seen::Cancelled(_)));
    for asked in [asked, asked_there] {
        assert!([Code::LINK_LOST, Code::CANCELLED].contains(&bounded(asked).await.unwrap_err().code));
    }
    for link in [&link, &there] {
        bounded(link.close()).await;
        assert_eq!(bounded(ask(link, "echo", Bytes::new())).await.unwrap_err().code, Code::LINK_LOST);
        assert_eq!(link.action_raw("note", CBOR, Bytes::new()), Err(SendError::Closed));
        assert_eq!(bounded(link.ready()).await, Err(SendError::Closed));
        assert_eq!(bounded(link.wait_up()).await, Err(SendError::Closed));
        assert!(!link.is_up());
        link.reconnect();
        let mut sink = link.sink(1024);
        assert_eq!(bounded(sink.recv()).await.unwrap_err().code, Code::LINK_LOST);
        let mut source = link.source(1, 1024);
        assert_eq!(bounded(source.send(Bytes::new(), Bytes::new())).await.unwrap_err().code, Code::LINK_LOST);
        assert_eq!(bounded(source.finish(Bytes::new())).await.unwrap_err().code, Code::LINK_LOST);
    }
}

#[tokio::test]
async fn a_pending_request_keeps_its_link() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events, _pusher) = pair(&mut server).await;
    let asked = ask(&link, "hold", number(1));
    drop(link);
    bounded(server.held.recv()).await.unwrap();
    server.service.gate.add_permits(1);
    assert_eq!(bounded(asked).await.unwrap().content, number(1));
    assert!(matches!(server.next().await, Seen::Closed));
}

#[tokio::test]
async fn what_is_too_large_or_too_long_is_refused_by_name() {
    let server = Server::start(ListenConfig::default()).await;
    let (link, _events) = server.connect();
    let (long, large) = ("n".repeat(limits::LABEL + 1), Bytes::from(vec![0; limits::FRAME]));
    assert_eq!(link.action_raw(&long, CBOR, Bytes::new()), Err(SendError::TooLarge));
    assert_eq!(link.action_raw("note", CBOR, large.clone()), Err(SendError::TooLarge));
    assert_eq!(bounded(ask(&link, &long, Bytes::new())).await.unwrap_err().code, Code::BAD_REQUEST);
    assert_eq!(bounded(ask(&link, "echo", large)).await.unwrap_err().code, Code::TOO_LARGE);
}

#[tokio::test]
async fn a_lost_session_leaves_what_is_needed_to_answer_once() {
    let link = LinkConfig { keep_remains: true, ..LinkConfig::default() };
    let config = ListenConfig { grace: Duration::from_millis(50), link, ..ListenConfig::default() };
    let mut server = Server::start(config).await;
    let proxy = Proxy::start(server.address).await;
    let mut connect = server.config(proxy.address);
    connect.link.open_requests = OpenRequests::Resend;
    let (link, mut events) = Link::connect(connect);
    assert!(!up(&mut events).await);
    let (first, _) = server.opened().await;
    let asked = ask(&link, "hold", number(1));
    bounded(server.held.recv()).await.unwrap();
    proxy.set_open(false);
    proxy.cut();
    assert!(matches!(server.next().await, Seen::Connection(false)));
    let Seen::Remains(remains) = server.next().await else { panic!("no remains") };
    assert_eq!((remains.session, remains.received, remains.answers.len(), remains.running.len()), (first.session, 1, 0, 1));
    assert!(matches!(server.next().await, Seen::Closed));
    server.service.gate.add_permits(1);
    match server.next().await {
        Seen::Late(session, 1, Ok(answer)) => assert_eq!((session, answer.content), (first.session, number(1))),
        other => panic!("{other:?}"),
    }
    proxy.set_open(true);
    assert!(!up(&mut events).await);
    bounded(server.held.recv()).await.unwrap();
    server.service.gate.add_permits(1);
    assert_eq!(bounded(asked).await.unwrap().content, number(1));
}

#[tokio::test]
async fn a_request_that_comes_again_says_where_it_was_first() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events, pusher) = pair(&mut server).await;
    let origin = Some(Origin { session: pusher.session(), number: 77 });
    let ask = Ask { name: "what".into(), content_type: CBOR, content: number(1), timeout: None, origin };
    let asked = pusher.link().ask(ask);
    match next(&mut events).await {
        LinkEvent::Request { id, origin: told, deadline, .. } => {
            assert_eq!((told, deadline), (origin, None));
            link.answer(id, Ok(Answer { content_type: CBOR, content: number(1) })).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert!(bounded(asked).await.is_ok());
}

#[tokio::test]
async fn waiting_for_a_link_ends_when_it_is_up() {
    let server = Server::start(ListenConfig::default()).await;
    let proxy = Proxy::start(server.address).await;
    proxy.set_open(false);
    let (link, mut events) = Link::connect(server.config(proxy.address));
    assert!(matches!(next(&mut events).await, LinkEvent::Down { .. }));
    assert!(!link.is_up() && link.session().is_none() && link.wait_up().now_or_never().is_none());
    proxy.set_open(true);
    bounded(link.wait_up()).await.unwrap();
    assert!(link.is_up() && link.session().is_some());
}

#[test]
fn a_small_request_is_written_by_the_caller_that_awaits_it() {
    let there = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = Builder::new_current_thread().enable_all().build().unwrap();
    let mut server = there.block_on(Server::start(ListenConfig::default()));
    let (link, _events) = here.block_on(async {
        let (link, events) = server.connect();
        bounded(link.request_raw("echo", CBOR, number(1), BOUND)).await.unwrap();
        (link, events)
    });
    // Nothing runs the tasks of this runtime meanwhile, so the link's driver has no turn of its own.
    let mut asked = Box::pin(link.request_raw("hold", CBOR, number(2), BOUND));
    assert_eq!(asked.as_mut().now_or_never(), None);
    there.block_on(bounded(server.held.recv())).unwrap();
    server.service.gate.add_permits(1);
    assert_eq!(here.block_on(bounded(asked)).unwrap().content, number(2));
    let late = here.block_on(link.request_raw("hold", CBOR, number(3), Duration::from_millis(20)));
    assert_eq!(late.unwrap_err().code, Code::TIMED_OUT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_awaited_comes_after_what_was_called_before_it() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, _events, _pusher) = pair(&mut server).await;
    for round in 0..100 {
        let asked: Vec<Asked> = (0..round % 3).map(|_| ask(&link, "echo", number(round))).collect();
        (0..round % 5).for_each(|n| link.action_raw("note", CBOR, number(n)).unwrap());
        bounded(link.request_raw("tally", CBOR, number(round), BOUND)).await.unwrap();
        for n in 0..round % 5 {
            assert!(matches!(server.seen.try_recv(), Ok(Seen::Action(action)) if action.content == number(n)), "{round}");
        }
        for asked in asked {
            assert_eq!(bounded(asked).await.unwrap().content, number(round));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_without_timers_share_a_link_that_breaks() {
    const THREADS: u32 = 4;
    const EACH: u32 = 200;
    let server = Server::start(ListenConfig::default()).await;
    let proxy = Arc::new(Proxy::start(server.address).await);
    let (link, mut events) = Link::connect(server.config(proxy.address));
    up(&mut events).await;
    let threads = (0..THREADS).map(|thread| {
        let (link, proxy) = (link.clone(), Arc::clone(&proxy));
        tokio::task::spawn_blocking(move || {
            let bare = Builder::new_current_thread().build().unwrap();
            for n in 0..EACH {
                let content = number(thread * EACH + n);
                let answer = bare.block_on(link.request_raw("tally", CBOR, content.clone(), BOUND)).unwrap();
                assert_eq!(answer.content, content);
                if thread == 0 && n % 50 == 49 {
                    proxy.cut();
                }
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        bounded(thread).await.unwrap();
    }
    let tally = server.service.tally.lock().unwrap();
    assert_eq!((tally.len(), tally.values().all(|count| *count == 1)), ((THREADS * EACH) as usize, true));
}

/// Actions that find room in the link below.
const FEW: u32 = 16;

/// A link with little room, through a proxy, and its session.
async fn cramped(server: &mut Server, unsent: Unsent) -> (Link, Events, Pusher, Proxy) {
    let proxy = Proxy::start(server.address).await;
    let mut config = server.config(proxy.address);
    config.link.unsent = unsent;
    config.link.unacked_frames = FEW as usize;
    let (link, mut events) = Link::connect(config);
    assert!(!up(&mut events).await);
    let (_, pusher) = server.opened().await;
    (link, events, pusher, proxy)
}

/// The numbers of the actions that the server was given, up to this one.
async fn acted(server: &mut Server, last: u32) -> Vec<Bytes> {
    let mut acted = Vec::new();
    while acted.last() != Some(&number(last)) {
        if let Seen::Action(action) = server.next().await {
            acted.push(action.content);
        }
    }
    acted
}

#[tokio::test]
async fn what_waits_in_front_of_a_full_link_is_dropped_with_its_session_or_kept_as_the_link_is_told() {
    for unsent in [Unsent::Drop, Unsent::Keep] {
        let mut server = Server::start(ListenConfig { grace: Duration::from_millis(20), ..ListenConfig::default() }).await;
        let (link, mut events, _, proxy) = cramped(&mut server, unsent).await;
        proxy.set_open(false);
        proxy.cut();
        while !matches!(server.next().await, Seen::Closed) {}
        while !matches!(next(&mut events).await, LinkEvent::Down { .. }) {}
        (0..3 * FEW).for_each(|n| link.action_raw("note", CBOR, number(n)).unwrap());
        let waits = ask(&link, "echo", number(0));
        proxy.set_open(true);
        assert!(!up(&mut events).await, "the session is lost");
        link.action_raw("note", CBOR, number(3 * FEW)).unwrap();
        let acted = acted(&mut server, 3 * FEW).await;
        let answer = bounded(waits).await;
        match unsent {
            Unsent::Drop => {
                assert_eq!(acted, [number(3 * FEW)]);
                assert_eq!(answer.unwrap_err().code, Code::LINK_LOST);
            }
            Unsent::Keep => {
                assert!(acted.into_iter().eq((0..=3 * FEW).map(number)));
                assert_eq!(answer.unwrap().content, number(0));
            }
        }
    }
}

#[tokio::test]
async fn what_waits_in_front_of_a_full_link_does_not_outlive_a_session_that_the_server_ends() {
    let mut server = Server::start(ListenConfig::default()).await;
    let (link, mut events, pusher, _proxy) = cramped(&mut server, Unsent::Drop).await;
    let held: Vec<_> = (0..limits::REQUESTS_IN_FLIGHT as u32).map(|n| ask(&link, "hold", number(n))).collect();
    for _ in 0..held.len() {
        bounded(server.held.recv()).await.unwrap();
    }
    let waits = ask(&link, "echo", number(0));
    link.action_raw("note", CBOR, number(1)).unwrap();
    bounded(pusher.link().close_with(Fault::new(Code::OVERLOADED, "for now"))).await;
    assert!(!up(&mut events).await);
    assert_eq!(bounded(waits).await.unwrap_err().code, Code::LINK_LOST);
    link.action_raw("note", CBOR, number(2)).unwrap();
    assert_eq!(acted(&mut server, 2).await, [number(2)]);
    drop(held);
}
