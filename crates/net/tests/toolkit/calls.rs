//! Requests and actions with types, both ways: answers, faults, progress, cancelling, deadlines.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parlour_net::{
    Access, Agent, Blob, Code, Codec, CodecError, Codecs, ContentType, Context, Fault, Progress, Raw, Reader, Value, refuse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::world::{agent_config, bounded, pair, ready, reports, station_config};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Order {
    Land,
    Fly { height: f64, over: Vec<(i32, i32)> },
    Say(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    id: u64,
    orders: Vec<Order>,
    notes: BTreeMap<String, Option<bool>>,
    shape: Blob,
}

fn flight() -> Flight {
    Flight {
        id: u64::MAX,
        orders: vec![Order::Land, Order::Fly { height: 2.5, over: vec![(-1, 7)] }, Order::Say("grüß".to_owned())],
        notes: [("a".to_owned(), None), ("b".to_owned(), Some(true))].into(),
        shape: vec![0, 255].into(),
    }
}

/// CBOR, turned round: nothing else reads it.
struct Reversed;

const REVERSED: ContentType = ContentType(130);

impl Codec for Reversed {
    fn encode(&self, value: Value<'_>) -> Result<Vec<u8>, CodecError> {
        let mut content = serde_json::to_vec(&value).map_err(CodecError::new)?;
        content.reverse();
        Ok(content)
    }

    fn decode(&self, content: &[u8], reader: Reader<'_>) -> Result<(), CodecError> {
        let turned: Vec<u8> = content.iter().rev().copied().collect();
        reader.read(&mut serde_json::Deserializer::from_slice(&turned))
    }
}

#[tokio::test]
async fn values_survive_the_way_in_every_content_type() {
    let (_station, agent) = pair(|config| {
        config.codecs = Codecs::new().with(REVERSED, Reversed);
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_request("flight", |_cx, flight: Flight| async move { Ok(flight) });
        config.handlers.on_request("text", |_cx, text: String| async move { Ok(text) });
        config.handlers.on_request("bytes", |_cx, bytes: Vec<u8>| async move { Ok(bytes) });
        config.handlers.on_request("nothing", |_cx, ()| async move { Ok(()) });
        config.handlers.on_request_raw("raw", |_cx, raw: Raw| async move { Ok(raw) });
    })
    .await;
    let link = agent.link().clone();
    for content_type in [ContentType::CBOR, ContentType::JSON] {
        assert_eq!(link.request::<Flight>("flight", &flight()).content_type(content_type).await.unwrap(), flight());
        assert_eq!(link.request::<String>("text", &"t").content_type(content_type).await.unwrap(), "t");
        assert_eq!(link.request::<Vec<u8>>("bytes", &[0_u8, 9]).content_type(content_type).await.unwrap(), [0, 9]);
    }
    for content_type in [ContentType::CBOR, ContentType::JSON, ContentType::TEXT, ContentType::BYTES] {
        link.request::<()>("nothing", &()).content_type(content_type).await.unwrap();
    }
    assert_eq!(link.request::<String>("text", &"grüß").content_type(ContentType::TEXT).await.unwrap(), "grüß");
    assert_eq!(link.request::<Vec<u8>>("bytes", &[0_u8, 255]).content_type(ContentType::BYTES).await.unwrap(), [0, 255]);
    // The answer is in the type of the request.
    let raw = link.request_raw("raw", ContentType(77), vec![1].into(), crate::support::BOUND).await.unwrap();
    assert_eq!((raw.content_type, &raw.content[..]), (ContentType(77), &[1][..]));
}

#[tokio::test]
async fn a_content_type_of_the_user_goes_both_ways_if_both_ends_know_it() {
    let mut config = station_config();
    config.codecs = Codecs::new().with(REVERSED, Reversed);
    config.handlers.on_request("flight", |_cx, flight: Flight| async move { Ok(flight) }).allow(Access::Authenticated);
    let station = parlour_net::Station::bind(config).await.unwrap();
    let mut knowing = agent_config(&station, 1);
    knowing.codecs = Codecs::new().with(REVERSED, Reversed).with_default(REVERSED);
    let knowing = ready(knowing).await;
    assert_eq!(knowing.request::<Flight>("flight", &flight()).await.unwrap(), flight());

    let ignorant = ready(agent_config(&station, 2)).await;
    let fault = ignorant.request::<Flight>("flight", &flight()).content_type(REVERSED).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    let fault = knowing.request::<Flight>("flight", &flight()).content_type(ContentType(131)).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    let sent = ignorant.link().request_raw("flight", ContentType(131), vec![1].into(), crate::support::BOUND).await;
    let fault = sent.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    assert!(fault.message.contains("131"), "{fault}");
}

#[tokio::test]
async fn what_goes_wrong_is_named() {
    let (_station, agent) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_request("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) });
        config.handlers.on_request("fail", |_cx, ()| async move { Err::<(), _>(refuse(Code::QUOTA, "enough for today")) });
        config.handlers.on_action("log", |_cx, _: String| async {});
    })
    .await;
    let fault = agent.request::<i64>("substract", &(1, 2)).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_REQUEST);
    let fault = agent.request::<i64>("add", &("one", "two")).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    assert!(!fault.message.is_empty());
    let fault = agent.request::<i64>("add", &(1, 2, 3)).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    let fault = agent.request::<()>("fail", &()).await.unwrap_err();
    assert_eq!((fault.code, &*fault.message), (Code::QUOTA, "enough for today"));
    let fault = agent.request::<String>("add", &(1, 2)).await.unwrap_err();
    assert_eq!(fault.code, Code::INCOMPATIBLE, "a number is no string");
    let fault = agent.request::<i64>("add", &(1, 2)).content_type(ContentType::TEXT).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST, "text holds no pair");
    let long = "x".repeat(200);
    let fault = agent.request::<i64>(&long, &()).await.unwrap_err();
    assert_eq!(fault.code, Code::BAD_REQUEST);
    let large = vec![0_u8; 2 * 1024 * 1024];
    assert_eq!(agent.action("log", &String::from_utf8(large).unwrap()).unwrap_err().code, Code::TOO_LARGE);
    assert_eq!(agent.request::<i64>("add", &(1, 2)).await.unwrap(), 3, "the link lives on");
}

#[tokio::test]
async fn a_panic_in_a_handler_is_answered_and_the_link_lives_on() {
    let (_station, agent) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_request("now", |_cx, ()| async move {
            assert!(!std::hint::black_box(true), "at once");
            Ok(())
        });
        config.handlers.on_request("later", |_cx, ()| async move {
            tokio::task::yield_now().await;
            assert!(!std::hint::black_box(true), "later");
            Ok(())
        });
        config.handlers.on_action("act", |_cx, ()| async move {
            tokio::task::yield_now().await;
            assert!(!std::hint::black_box(true), "in an action");
        });
        config.handlers.on_request("fine", |_cx, ()| async move { Ok(7) });
    })
    .await;
    for name in ["now", "later"] {
        let fault = agent.request::<()>(name, &()).await.unwrap_err();
        assert_eq!(fault.code, Code::INTERNAL, "{name}");
        assert!(!fault.message.contains(name), "nothing of the inside is told");
    }
    agent.action("act", &()).unwrap();
    assert_eq!(agent.request::<u8>("fine", &()).await.unwrap(), 7);
}

#[tokio::test]
async fn both_ends_ask_and_act() {
    let (heard, mut hears) = reports();
    let (station, first) = pair(|config| {
        config
            .handlers
            .on_request("twice", |cx: Context, n: u32| async move { cx.link().request::<u32>("once", &n).await })
            .allow(Access::Authenticated);
    })
    .await;
    let mut config = agent_config(&station, 2);
    config.handlers.allow_by_default(Access::Authenticated);
    config.handlers.on_request("once", |_cx, n: u32| async move { Ok(2 * n) });
    config.handlers.on_action("hear", move |cx: Context, text: String| {
        heard.send((cx.peer().key(), text)).unwrap();
        async {}
    });
    let agent = ready(config).await;
    let peer = station.peer(&crate::world::key(2)).unwrap();
    assert_eq!(peer.request::<u32>("once", &21).await.unwrap(), 42);
    peer.action("hear", &"hello").unwrap();
    assert_eq!(hears.next().await, (Some(station.key()), "hello".to_owned()));
    // A handler asks the one back that asks it.
    assert_eq!(agent.request::<u32>("twice", &5).await.unwrap(), 10);
    let fault = first.request::<u32>("twice", &5).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_REQUEST, "the fault of the one that was asked back");
}

#[tokio::test]
async fn an_action_can_be_asked_for_and_is_answered_when_it_is_done() {
    let gate = Arc::new(Semaphore::new(0));
    let (done, mut dones) = reports();
    let opened = Arc::clone(&gate);
    let (_station, agent) = pair(|config| {
        config
            .handlers
            .on_action("paint", move |_cx, colour: String| {
                let (gate, done) = (Arc::clone(&opened), done.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    done.send(colour).unwrap();
                }
            })
            .allow(Access::Authenticated);
    })
    .await;
    let reply = agent.request::<()>("paint", &"red").send();
    assert!(dones.rest().is_empty());
    gate.add_permits(1);
    reply.await.unwrap();
    assert_eq!(dones.rest(), ["red"]);
}

#[tokio::test]
async fn progress_is_told_both_ways() {
    async fn count(cx: Context, to: u64) -> Result<u64, Fault> {
        for n in 1..=to {
            cx.progress(n, Some(to));
            // Lets the report leave before the next one.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(to)
    }
    let (station, _) = pair(|config| {
        config.handlers.on_request("count", count).allow(Access::Authenticated);
    })
    .await;
    let mut config = agent_config(&station, 2);
    config.handlers.on_request("count", count).allow(Access::Authenticated);
    let agent = ready(config).await;
    for link in [agent.link().clone(), station.peer(&crate::world::key(2)).unwrap().link().clone()] {
        let (told, mut tells) = reports();
        let counted = bounded(link.request::<u64>("count", &5).on_progress(move |at| told.send(at).unwrap())).await.unwrap();
        let tells = tells.rest();
        assert_eq!(counted, 5);
        assert!(!tells.is_empty() && tells.iter().all(|at| at.total == Some(5)), "{tells:?}");
        assert!(tells.is_sorted_by_key(|at: &Progress| at.done), "{tells:?}");
    }
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler_both_ways() {
    let (seen, mut sees) = reports();
    let handler = move |cx: Context, ()| {
        let seen = seen.clone();
        async move {
            seen.send("began").unwrap();
            cx.cancelled().await;
            assert!(cx.is_cancelled());
            seen.send("cancelled").unwrap();
            Ok(())
        }
    };
    let (station, _) = pair(|config| {
        config.handlers.on_request("wait", handler.clone()).allow(Access::Authenticated);
    })
    .await;
    let mut config = agent_config(&station, 2);
    config.handlers.on_request("wait", handler).allow(Access::Authenticated);
    let agent = ready(config).await;
    for link in [agent.link().clone(), station.peer(&crate::world::key(2)).unwrap().link().clone()] {
        let reply = link.request::<()>("wait", &()).without_deadline().send();
        assert_eq!(sees.next().await, "began");
        drop(reply);
        assert_eq!(sees.next().await, "cancelled");
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_handler_knows_it() {
    let (seen, mut sees) = reports();
    let (_station, agent) = pair(|config| {
        config
            .handlers
            .on_request("wait", move |cx: Context, ()| {
                let seen = seen.clone();
                async move {
                    let deadline = cx.deadline();
                    cx.cancelled().await;
                    seen.send(deadline.is_some()).unwrap();
                    Ok(())
                }
            })
            .allow(Access::Authenticated);
    })
    .await;
    let fault = agent.request::<()>("wait", &()).deadline(Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    assert!(sees.next().await);
}

#[tokio::test]
async fn calls_that_cannot_leave_wait_and_fail_at_their_deadline() {
    let (station, agent) = pair(|_| {}).await;
    station.stop().await;
    let fault = agent.request::<()>("any", &()).deadline(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(fault.code, Code::TIMED_OUT);
    agent.close().await;
    assert_eq!(agent.request::<()>("any", &()).await.unwrap_err().code, Code::LINK_LOST);
    assert_eq!(agent.action("any", &()).unwrap_err().code, Code::LINK_LOST);
    assert_eq!(agent.ready().await.unwrap_err(), parlour_net::AgentError::Closed);
}

#[tokio::test]
async fn a_link_closes_with_its_last_agent_and_a_station_stops_with_its_last_handle() {
    let (left, mut leaves) = reports();
    let (station, agent) = pair(|config| {
        config.hooks.on_end(move |_peer, _reason| {
            left.send(()).unwrap();
            async {}
        });
    })
    .await;
    let clone = agent.clone();
    drop(agent);
    assert!(clone.link().is_up());
    drop(clone);
    leaves.next().await;
    let second: Agent = ready(agent_config(&station, 2)).await;
    drop(station);
    assert!(
        bounded(async {
            loop {
                if !second.link().is_up() {
                    return true;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    );
}

#[test]
#[should_panic(expected = "library's own")]
fn a_reserved_name_cannot_be_registered() {
    parlour_net::Handlers::new().on_action("parlour.mine", |_cx, ()| async {});
}

#[test]
#[should_panic(expected = "already")]
fn a_name_cannot_be_registered_twice() {
    let mut handlers = parlour_net::Handlers::new();
    handlers.on_action("mine", |_cx, ()| async {});
    handlers.on_request("mine", |_cx, ()| async { Ok(()) });
}
