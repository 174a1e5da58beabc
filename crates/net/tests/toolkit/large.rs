//! Handlers whose answers are together much larger than what a link keeps for its peer.

use std::sync::Arc;

use futures_util::future::join_all;
use parlour_net::{Access, Agent, Context, Fault, Handlers, Link, Station};
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

use crate::world::{agent_config, bounded, key, ready, reports, station_config};

/// Of nearly a mebibyte each, ten times as many as a link keeps.
const MANY: u8 = 40;

fn large(n: u8) -> String {
    char::from(b'0' + n).to_string().repeat(1_000_000)
}

/// Answers at once, or all together.
fn handle(handlers: &mut Handlers, gate: &Arc<Semaphore>, begun: UnboundedSender<u8>) {
    handlers.on_request("large", |_cx: Context, n: u8| async move { Ok(large(n)) }).allow(Access::Authenticated);
    let gate = Arc::clone(gate);
    handlers
        .on_request("large later", move |_cx: Context, n: u8| {
            let (gate, begun) = (Arc::clone(&gate), begun.clone());
            async move {
                begun.send(n).unwrap();
                drop(gate.acquire().await.unwrap());
                Ok(large(n))
            }
        })
        .allow(Access::Authenticated);
}

async fn ask_many(link: &Link, name: &str) -> Vec<Result<String, Fault>> {
    bounded(join_all((0..MANY).map(|n| async move { link.request::<String>(name, &n).await }))).await
}

fn assert_all(answers: Vec<Result<String, Fault>>) {
    for (n, answer) in (0..MANY).zip(answers) {
        assert!(answer.unwrap() == large(n), "answer {n}");
    }
}

async fn pair(gate: &Arc<Semaphore>, begun: &UnboundedSender<u8>) -> (Station, Agent) {
    let mut config = station_config();
    handle(&mut config.handlers, gate, begun.clone());
    let station = Station::bind(config).await.unwrap();
    let mut config = agent_config(&station, 1);
    handle(&mut config.handlers, gate, begun.clone());
    let agent = ready(config).await;
    (station, agent)
}

#[tokio::test]
async fn both_ends_may_ask_for_many_large_answers_at_once() {
    let (begun, _begins) = reports();
    let (station, agent) = pair(&Arc::new(Semaphore::new(0)), &begun).await;
    let session = agent.link().session();
    let peer = station.peer(&key(1)).unwrap();
    for _ in 0..2 {
        let (up, down) = tokio::join!(ask_many(agent.link(), "large"), ask_many(peer.link(), "large"));
        assert_all(up);
        assert_all(down);
    }
    assert_eq!(agent.link().session(), session);
}

#[tokio::test]
async fn both_ends_may_get_many_large_answers_that_end_together() {
    let (begun, mut begins) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let (station, agent) = pair(&gate, &begun).await;
    let session = agent.link().session();
    let peer = station.peer(&key(1)).unwrap();
    let open = async {
        begins.take(2 * usize::from(MANY)).await;
        gate.add_permits(1);
    };
    let (up, down, ()) = tokio::join!(ask_many(agent.link(), "large later"), ask_many(peer.link(), "large later"), open);
    assert_all(up);
    assert_all(down);
    assert_eq!(agent.link().session(), session);
}
