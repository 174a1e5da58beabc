//! Queues and marks as a program with a station and agents uses them: with types, and with what a handler is told of its call.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parlour_net::{
    Access, Agent, AgentConfig, Ask, Code, Codecs, ContentType, Context, Identity, Marks, MarksConfig, Origin, Station,
    StationConfig, Trust,
};

use crate::{BOUND, bounded, open};

/// The station's door for agents that come over QUIC, if they do.
#[cfg(feature = "iroh")]
type Quic = Option<parlour_net::IrohEndpoint>;
#[cfg(not(feature = "iroh"))]
type Quic = Option<std::convert::Infallible>;

/// A station that adds what is booked, and what is given, once for each message. It answers who books with the sum.
async fn bank(marks: &Marks, sum: &Arc<AtomicI64>, quic: &Quic) -> Station {
    let mut config = StationConfig::new(Identity::from_secret(&[200; 32]), "127.0.0.1:0".parse().unwrap());
    #[cfg(feature = "iroh")]
    config.iroh.clone_from(quic);
    #[cfg(not(feature = "iroh"))]
    let _ = quic;
    let add = {
        let (marks, sum) = (marks.clone(), Arc::clone(sum));
        move |cx: Context, amount: i64| {
            let (marks, sum) = (marks.clone(), Arc::clone(&sum));
            async move { marks.once(&cx, async { Ok(sum.fetch_add(amount, Ordering::SeqCst) + amount) }).await }
        }
    };
    let give = add.clone();
    config.handlers.on_request("book", add).allow(Access::Authenticated);
    let give = config.handlers.on_action("give", move |cx, amount: i64| {
        let given = give(cx, amount);
        async move {
            given.await.unwrap();
        }
    });
    give.allow(Access::Authenticated);
    Station::bind(config).await.unwrap()
}

async fn customer(station: &Station, quic: &Quic) -> Agent {
    let identity = Identity::from_secret(&[1; 32]);
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    #[cfg(feature = "iroh")]
    if let Some(door) = quic {
        let own = parlour_net::IrohEndpoint::bind(&identity, &parlour_net::IrohConfig::loopback()).await.unwrap();
        config = AgentConfig::over(parlour_net::ConnectConfig::iroh(own, door.addr()));
    }
    #[cfg(not(feature = "iroh"))]
    let _ = quic;
    config.connect.identity = Some(identity);
    let agent = Agent::connect(config);
    bounded(agent.ready()).await.unwrap();
    agent
}

async fn marks_in(folder: &Path) -> Marks {
    Marks::open(folder.join("marks"), MarksConfig::default()).await.unwrap()
}

#[tokio::test]
async fn a_queued_call_is_answered_with_its_type_and_takes_effect_once_at_whoever_has_the_marks() {
    takes_effect_once(None).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn over_quic_a_queued_call_is_answered_with_its_type_and_takes_effect_once_at_whoever_has_the_marks() {
    let config = parlour_net::IrohConfig::loopback();
    takes_effect_once(Some(parlour_net::IrohEndpoint::bind(&Identity::from_secret(&[200; 32]), &config).await.unwrap())).await;
}

async fn takes_effect_once(quic: Quic) {
    let (folder, sum) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(0)));
    let marks = marks_in(folder.path()).await;
    let station = bank(&marks, &sum, &quic).await;
    let queue = open(&folder.path().join("outbox")).await;
    let agent = customer(&station, &quic).await;
    let delivery = queue.attach(agent.link());
    let first = bounded(queue.request("book", &5_i64)).await.unwrap();
    let origin = Origin { session: queue.id(), number: first.number() };
    assert_eq!(bounded(first.answer::<i64>()).await.unwrap(), 5);
    let second = bounded(queue.request("book", &2_i64)).await.unwrap();
    assert_eq!(bounded(second.answer::<String>()).await.unwrap_err().code, Code::INCOMPATIBLE);
    // Nobody answers an action: that its handler has ended is what the queue waits for.
    bounded(queue.action("give", &3_i64)).await.unwrap();
    bounded(queue.drained()).await.unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 10);
    drop(delivery);
    // Over QUIC it would find the next station, and take the place of the agent that shows the same key there.
    bounded(agent.close()).await;
    bounded(station.stop()).await;
    marks.close().await;
    drop(marks);

    // A station that remembers nothing of its own has only the marks on disk to know the message by.
    let marks = marks_in(folder.path()).await;
    let station = bank(&marks, &sum, &quic).await;
    let agent = customer(&station, &quic).await;
    let codecs = Codecs::new();
    let book = |origin| Ask {
        name: "book".to_owned(),
        content_type: ContentType::CBOR,
        content: codecs.encode(ContentType::CBOR, &5_i64).unwrap(),
        timeout: Some(BOUND),
        origin,
    };
    for (origin, answer) in [(Some(origin), 5), (None, 15)] {
        let answered = bounded(agent.link().ask(book(origin))).await.unwrap();
        assert_eq!(codecs.decode::<i64>(answered.content_type, &answered.content).unwrap(), answer);
    }
    assert_eq!(sum.load(Ordering::SeqCst), 15);
}
