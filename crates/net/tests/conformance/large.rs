//! Answers that are much larger than what was asked: together more than a link keeps at a time.

use bytes::Bytes;
use futures_util::future::join_all;
use parlour_net::{Answer, Link, LinkEvent, ListenConfig};
use parlour_wire::{Frame, Kind, frame::ContentType, header::Fault};

use crate::{
    over_every_carrier,
    raw::Raw,
    rig::{CLIENT, Rig, Way},
    support::{BOUND, bounded, large, next, up},
};

const CBOR: ContentType = ContentType::CBOR;
/// As large as a frame each, ten times as much as a link keeps for its peer.
const MANY: u8 = 40;

over_every_carrier! {
    many_large_answers_at_once_arrive_and_the_session_lives,
    many_large_answers_that_end_together_arrive_and_the_session_lives,
    a_server_may_ask_its_client_for_many_large_answers_at_once,
    large_answers_wait_for_a_client_that_reads_late,
}

async fn ask_many(link: &Link, name: &str) -> Vec<Result<Answer, Fault>> {
    let ask = |n: u8| link.request_raw(name.to_owned(), CBOR, Bytes::copy_from_slice(&[n]), BOUND);
    bounded(join_all((0..MANY).map(ask))).await
}

fn assert_all(answers: &[Result<Answer, Fault>]) {
    for (n, answer) in (0..MANY).zip(answers) {
        assert!(answer.as_ref().unwrap().content == large(&[n]), "answer {n}");
    }
}

async fn many_large_answers_at_once_arrive_and_the_session_lives(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (info, _) = rig.server.opened().await;
    for _ in 0..3 {
        assert_all(&ask_many(&link, "large").await);
    }
    assert_eq!(link.session(), Some(info.session));
}

async fn many_large_answers_that_end_together_arrive_and_the_session_lives(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (info, _) = rig.server.opened().await;
    let asked = tokio::spawn({
        let link = link.clone();
        async move { ask_many(&link, "large later").await }
    });
    for _ in 0..MANY {
        bounded(rig.server.held.recv()).await.unwrap();
    }
    rig.server.service.gate.add_permits(usize::from(MANY));
    assert_all(&asked.await.unwrap());
    assert_eq!(link.session(), Some(info.session));
}

async fn a_server_may_ask_its_client_for_many_large_answers_at_once(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let (link, mut events) = rig.connect().await;
    assert!(!up(&mut events).await);
    let (_, pusher) = rig.server.opened().await;
    let asked = tokio::spawn(async move { ask_many(&pusher.link(), "where").await });
    let mut ids = Vec::new();
    while ids.len() < usize::from(MANY) {
        match next(&mut events).await {
            LinkEvent::Request { id, content, .. } => ids.push((id, content)),
            other => panic!("{other:?}"),
        }
    }
    for (id, content) in ids {
        link.answer(id, Ok(Answer { content_type: CBOR, content: large(&content) })).unwrap();
    }
    assert_all(&asked.await.unwrap());
}

async fn large_answers_wait_for_a_client_that_reads_late(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    raw.greet().await;
    rig.server.opened().await;
    for n in 0..MANY {
        assert!(raw.send(&Raw::request(u64::from(n) + 1, "large", Bytes::copy_from_slice(&[n]))).await);
    }
    // Others are served meanwhile, and it reads nothing before they have been.
    let (link, _events) = rig.connect().await;
    for _ in 0..100 {
        link.request_raw("echo", CBOR, Bytes::new(), BOUND).await.unwrap();
    }
    for n in 0..MANY {
        let frame = loop {
            let frame = raw.recv().await.expect("the session lives");
            if frame.seq > 0 {
                raw.send(&Frame { id: frame.seq, ..Frame::new(Kind::ACK) }).await;
                break frame;
            }
        };
        assert_ne!(frame.kind, Kind::ERROR);
        assert!(frame.content == large(&[n]), "answer {n}");
    }
}
