//! Queues and marks as a program with a station and agents uses them: with types, and with what a handler is told of its call.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parlour_net::{
    Access, Agent, AgentConfig, Ask, Code, Codecs, ContentType, Identity, Marks, MarksConfig, Origin, Station, StationConfig,
    Trust,
};

use crate::{BOUND, bounded, open};

/// A station that adds what is booked, once for each message, and answers with the sum.
async fn bank(marks: &Marks, sum: &Arc<AtomicI64>) -> Station {
    let mut config = StationConfig::new(Identity::from_secret(&[200; 32]), "127.0.0.1:0".parse().unwrap());
    let (marks, sum) = (marks.clone(), Arc::clone(sum));
    let book = config.handlers.on_request("book", move |cx, amount: i64| {
        let (marks, sum) = (marks.clone(), Arc::clone(&sum));
        async move { marks.once(&cx, async { Ok(sum.fetch_add(amount, Ordering::SeqCst) + amount) }).await }
    });
    book.allow(Access::Authenticated);
    Station::bind(config).await.unwrap()
}

async fn customer(station: &Station) -> Agent {
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(Identity::from_secret(&[1; 32]));
    let agent = Agent::connect(config);
    bounded(agent.ready()).await.unwrap();
    agent
}

async fn marks_in(folder: &Path) -> Marks {
    Marks::open(folder.join("marks"), MarksConfig::default()).await.unwrap()
}

#[tokio::test]
async fn a_queued_request_is_answered_with_its_type_and_takes_effect_once_at_whoever_has_the_marks() {
    let (folder, sum) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(0)));
    let marks = marks_in(folder.path()).await;
    let station = bank(&marks, &sum).await;
    let queue = open(&folder.path().join("outbox")).await;
    let agent = customer(&station).await;
    let delivery = queue.attach(agent.link());
    let first = bounded(queue.request("book", &5_i64)).await.unwrap();
    let origin = Origin { session: queue.id(), number: first.number() };
    assert_eq!(bounded(first.answer::<i64>()).await.unwrap(), 5);
    let second = bounded(queue.request("book", &2_i64)).await.unwrap();
    assert_eq!(bounded(second.answer::<String>()).await.unwrap_err().code, Code::INCOMPATIBLE);
    bounded(queue.drained()).await.unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 7);
    drop(delivery);
    bounded(station.stop()).await;
    marks.close().await;
    drop(marks);

    // A station that remembers nothing of its own has only the marks on disk to know the message by.
    let marks = marks_in(folder.path()).await;
    let station = bank(&marks, &sum).await;
    let agent = customer(&station).await;
    let codecs = Codecs::new();
    let book = |origin| Ask {
        name: "book".to_owned(),
        content_type: ContentType::CBOR,
        content: codecs.encode(ContentType::CBOR, &5_i64).unwrap(),
        timeout: Some(BOUND),
        origin,
    };
    for (origin, answer) in [(Some(origin), 5), (None, 12)] {
        let answered = bounded(agent.link().ask(book(origin))).await.unwrap();
        assert_eq!(codecs.decode::<i64>(answered.content_type, &answered.content).unwrap(), answer);
    }
    assert_eq!(sum.load(Ordering::SeqCst), 12);
}
