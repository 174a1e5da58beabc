//! What a queue delivers, in which order, and what it tells of it.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::Bytes;
use parlour_net::{DurableConfig, DurableQueue, Link, QueueError, durable::Outcome};
use parlour_wire::{Code, frame::ContentType, header::Fault};

use crate::{
    bounded, open, open_with,
    receiver::{Effects, Receiver, order, tally},
    rig::Address,
    way::{Way, over_every_carrier},
};

over_every_carrier! {
    messages_are_delivered_in_order_once_and_answered,
    large_messages_pass_without_filling_memory_or_link,
    lost_connections_and_lost_sessions_lose_and_double_nothing,
    an_answer_that_is_lost_with_its_session_does_not_let_the_message_take_effect_again,
    a_refused_message_is_reported_and_does_not_hold_up_the_rest,
    a_message_that_is_put_off_is_sent_again_and_with_a_window_of_one_keeps_its_place,
    a_delivery_that_is_dropped_leaves_the_rest_to_the_next,
    a_message_is_not_given_up_because_its_session_is_closed_for_good,
    a_delivery_ends_with_its_link_or_its_queue,
}

fn number(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(number).collect()
}

struct Setup {
    folder: tempfile::TempDir,
    receiver: Receiver,
    link: Link,
    _events: parlour_net::Events,
}

impl Setup {
    async fn new(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(folder.path(), &Address::new(way), Effects::default()).await;
        let (link, events) = receiver.address.connect().await;
        Self { folder, receiver, link, _events: events }
    }

    async fn queue(&self) -> DurableQueue {
        open(&self.folder.path().join("outbox")).await
    }

    fn effects(&self) -> &Effects {
        &self.receiver.service.effects
    }
}

async fn push(queue: &DurableQueue, name: &str, range: std::ops::Range<u32>) {
    let pushes: Vec<_> = range.map(|n| queue.action_raw(name, ContentType::BYTES, number(n))).collect();
    for push in pushes {
        push.await.unwrap();
    }
}

async fn messages_are_delivered_in_order_once_and_answered(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    push(&queue, "tally", 0..1000).await;
    let _delivery = queue.attach(&setup.link);
    push(&queue, "tally", 1000..2000).await;
    let ticket = bounded(queue.request_raw("echo", ContentType::TEXT, Bytes::from_static(b"hello"))).await.unwrap();
    let answer = bounded(ticket.raw()).await.unwrap();
    assert_eq!((answer.content_type, &answer.content[..]), (ContentType::TEXT, &b"hello"[..]));
    bounded(queue.drained()).await.unwrap();
    assert_eq!(order(setup.effects(), "tally"), numbers(0..2000));
    assert_eq!(queue.waiting().records, 0);
}

async fn large_messages_pass_without_filling_memory_or_link(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    let content = Bytes::from(vec![7; 900_000]);
    for _ in 0..20 {
        queue.action_raw("tally", ContentType::BYTES, content.clone()).await.unwrap();
    }
    let _delivery = queue.attach(&setup.link);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(tally(setup.effects(), "tally"), [(content, 20)].into());
}

async fn lost_connections_and_lost_sessions_lose_and_double_nothing(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    let _delivery = queue.attach(&setup.link);
    for round in 0..20 {
        push(&queue, "tally", round * 100..(round + 1) * 100).await;
        if round % 2 == 0 {
            setup.link.reconnect();
        } else {
            setup.receiver.forget_sessions();
        }
    }
    bounded(queue.drained()).await.unwrap();
    assert_eq!(order(setup.effects(), "tally"), numbers(0..2000));
}

async fn an_answer_that_is_lost_with_its_session_does_not_let_the_message_take_effect_again(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    let _delivery = queue.attach(&setup.link);
    push(&queue, "hold", 0..1).await;
    bounded(setup.receiver.service.held.acquire()).await.unwrap().forget();
    setup.receiver.forget_sessions();
    // The first run ends without anybody to tell; the second, if there were one, would wait for a second permit.
    setup.receiver.service.gate.add_permits(1);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(tally(setup.effects(), "hold"), [(number(0), 1)].into());
}

async fn a_refused_message_is_reported_and_does_not_hold_up_the_rest(way: Way) {
    let setup = Setup::new(way).await;
    let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let told = Arc::clone(&outcomes);
    let on_outcome = move |outcome: &Outcome| told.lock().unwrap().push(outcome.clone());
    let config = DurableConfig { on_outcome: Some(Arc::new(on_outcome)), ..DurableConfig::default() };
    let queue = open_with(&setup.folder.path().join("outbox"), config).await;
    push(&queue, "tally", 0..1).await;
    push(&queue, "forbidden", 1..2).await;
    let unknown = queue.request_raw("unknown", ContentType::BYTES, number(2)).await.unwrap();
    push(&queue, "tally", 3..4).await;
    let _delivery = queue.attach(&setup.link);
    assert_eq!(bounded(unknown.raw()).await.unwrap_err().code, Code::UNKNOWN_REQUEST);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(order(setup.effects(), "tally"), [number(0), number(3)]);
    let mut outcomes = outcomes.lock().unwrap().clone();
    outcomes.sort_by_key(|outcome| outcome.number);
    let told: Vec<_> = outcomes.iter().map(|outcome| outcome.result.as_ref().map(|_| ()).map_err(|fault| fault.code)).collect();
    assert_eq!(told, [Ok(()), Err(Code::FORBIDDEN), Err(Code::UNKNOWN_REQUEST), Ok(())]);
    assert_eq!((outcomes[1].name.as_str(), &outcomes[1].content), ("forbidden", &number(1)));
}

async fn a_message_that_is_put_off_is_sent_again_and_with_a_window_of_one_keeps_its_place(way: Way) {
    let setup = Setup::new(way).await;
    setup.receiver.service.busy.store(5, Ordering::SeqCst);
    let config = DurableConfig { window: 1, ..DurableConfig::default() };
    let queue = open_with(&setup.folder.path().join("outbox"), config).await;
    push(&queue, "busy", 0..10).await;
    let _delivery = queue.attach(&setup.link);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(order(setup.effects(), "busy"), numbers(0..10));
}

async fn a_delivery_that_is_dropped_leaves_the_rest_to_the_next(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    push(&queue, "hold", 0..1).await;
    let delivery = queue.attach(&setup.link);
    bounded(setup.receiver.service.held.acquire()).await.unwrap().forget();
    drop(delivery);
    push(&queue, "tally", 1..100).await;
    assert_eq!(queue.waiting().records, 100);
    let _delivery = queue.attach(&setup.link);
    setup.receiver.service.gate.add_permits(1);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(tally(setup.effects(), "hold"), [(number(0), 1)].into());
    assert_eq!(order(setup.effects(), "tally"), numbers(1..100));
}

async fn a_message_is_not_given_up_because_its_session_is_closed_for_good(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    push(&queue, "hold", 0..1).await;
    let running = tokio::spawn({
        let (queue, link) = (queue.clone(), setup.link.clone());
        async move { queue.run(&link).await }
    });
    bounded(setup.receiver.service.held.acquire()).await.unwrap().forget();
    let fault = Fault { code: Code::FORBIDDEN, message: "enough".to_owned(), retry_after_ms: None };
    bounded(setup.link.close_with(fault)).await;
    assert_eq!(bounded(running).await.unwrap(), Ok(()));
    assert_eq!(queue.waiting().records, 1, "the receiver has not refused it");
}

async fn a_delivery_ends_with_its_link_or_its_queue(way: Way) {
    let setup = Setup::new(way).await;
    let queue = setup.queue().await;
    let running = tokio::spawn({
        let (queue, link) = (queue.clone(), setup.link.clone());
        async move { queue.run(&link).await }
    });
    push(&queue, "tally", 0..10).await;
    bounded(queue.drained()).await.unwrap();
    setup.link.close().await;
    assert_eq!(bounded(running).await.unwrap(), Ok(()));
    push(&queue, "tally", 10..20).await;
    assert_eq!(queue.waiting().records, 10);

    let (link, _events) = Address::of_nobody(way).connect().await;
    let running = tokio::spawn({
        let queue = queue.clone();
        async move { queue.run(&link).await }
    });
    queue.close().await;
    assert_eq!(bounded(running).await.unwrap(), Err(QueueError::Closed));
    assert_eq!(queue.drained().await, Err(QueueError::Closed));
}
