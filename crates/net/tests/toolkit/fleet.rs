//! A fleet with a shared secret: who knows it is let in, both ways, and nobody else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready as done};
use parlour_net::{
    Access, Admission, Agent, AgentConfig, AgentError, Code, ConnectConfig, ContentType, Context, Fault, FleetSecret, Incoming,
    IncomingAction, Link, ListenConfig, Listener, Pusher, ServerIdentity, SessionInfo, SessionService, Station, StationConfig,
    Trust,
};
use tokio::sync::{Semaphore, mpsc::UnboundedSender, watch};

use crate::world::{
    STATION, agent_config, bounded, identity, key, ready, reports, station_config, stranger_config, through_proxy,
};

fn secret(n: u8) -> FleetSecret {
    FleetSecret::from_bytes(&[n; 32])
}

fn fleet_station() -> StationConfig {
    let mut config = station_config();
    config.listen.admit = Admission::Anyone;
    config.fleet = Some(secret(1));
    config.handlers.on_request("anyone", |_cx, ()| async { Ok(()) }).allow(Access::Anyone);
    config.handlers.on_request("member", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
    config
}

/// An agent that knows the secret and nothing of the station.
fn member(mut config: AgentConfig) -> AgentConfig {
    config.connect.trust = Trust::FirstUse;
    config.fleet = Some(secret(1));
    config
}

#[tokio::test]
async fn members_know_each_other_by_the_secret_alone() {
    let (told, mut tells) = reports();
    let mut config = fleet_station();
    config.hooks.on_connect(move |peer| {
        told.send((peer.key(), peer.is_authenticated())).unwrap();
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let mut config = member(agent_config(&station, 1));
    config.handlers.on_request("of-agent", |_cx, ()| async { Ok(7) }).allow(Access::Authenticated);
    let agent = Agent::connect(config);
    bounded(agent.request::<()>("member", &())).await.unwrap();
    assert_eq!(tells.next().await, (Some(key(1)), true));
    let peer = station.peer(&key(1)).unwrap();
    assert_eq!(bounded(peer.request::<u8>("of-agent", &())).await.unwrap(), 7);
    // Also one without a key of its own.
    let nameless = Agent::connect(member(stranger_config(&station)));
    bounded(nameless.request::<()>("member", &())).await.unwrap();
    assert_eq!(tells.next().await, (None, true));
    assert_eq!(station.peers().len(), 2);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_the_station() {
    let station = Station::bind(fleet_station()).await.unwrap();
    let mut config = member(agent_config(&station, 1));
    config.fleet = Some(secret(2));
    let agent = Agent::connect(config);
    let error = bounded(agent.ended()).await;
    assert!(matches!(&error, AgentError::SecretRefused(fault) if fault.code == Code::FORBIDDEN), "{error:?}");
    assert!(station.peers().is_empty());
    assert_eq!(bounded(agent.request::<()>("anyone", &())).await.unwrap_err().code, Code::LINK_LOST);
}

#[tokio::test]
async fn a_station_without_the_secret_is_refused_by_the_agent_and_told_nothing() {
    let (heard, mut hears) = reports();
    let mut config = fleet_station();
    config.fleet = None;
    config
        .handlers
        .on_action("secret-plan", move |_cx, ()| {
            heard.send("everything").unwrap();
            async {}
        })
        .allow(Access::Anyone);
    let (left, mut leaves) = reports();
    config.hooks.on_end(move |_peer, reason| {
        left.send(reason.code).unwrap();
        async {}
    });
    let impostor = Station::bind(config).await.unwrap();
    let mut config = member(agent_config(&impostor, 1));
    config.handlers.on_request("of-agent", |_cx, ()| async { Ok(7) }).allow(Access::Anyone);
    let agent = Agent::connect(config);
    agent.action("secret-plan", &()).unwrap();
    let asked = agent.request::<()>("anyone", &()).send();
    assert_eq!(bounded(agent.ready()).await.unwrap_err(), AgentError::NotOfTheFleet);
    assert_eq!(bounded(asked).await.unwrap_err().code, Code::LINK_LOST);
    assert_eq!(leaves.next().await, Code::NOT_AUTHENTICATED);
    assert!(hears.rest().is_empty());
    assert_eq!(Fault::from(AgentError::NotOfTheFleet).code, Code::NOT_AUTHENTICATED);
}

#[tokio::test]
async fn who_does_not_prove_the_secret_is_a_stranger_and_nobodys_peer() {
    let (told, mut tells) = reports();
    let mut config = fleet_station();
    config.hooks.on_connect(move |peer| {
        told.send(peer.key()).unwrap();
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    for config in [agent_config(&station, 1), stranger_config(&station)] {
        let agent = ready(config).await;
        bounded(agent.request::<()>("anyone", &())).await.unwrap();
        let fault = bounded(agent.request::<()>("member", &())).await.unwrap_err();
        assert_eq!(fault.code, Code::NOT_AUTHENTICATED);
        assert!(station.peers().is_empty() && station.broadcast("news", &()).unwrap().reached == 0);
    }
    assert_eq!(tells.rest(), []);
}

#[tokio::test]
async fn a_fresh_session_proves_the_secret_again_before_what_is_sent_again() {
    let mut config = fleet_station();
    config.listen.grace = std::time::Duration::from_millis(20);
    let (ended, mut ends) = reports();
    config.hooks.on_end(move |_peer, _reason| {
        let _ = ended.send(());
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let mut config = member(agent_config(&station, 1));
    let proxy = through_proxy(&station, &mut config).await;
    let agent = ready(config).await;
    for _ in 0..3 {
        proxy.set_open(false);
        proxy.cut();
        ends.next().await;
        let asked: Vec<_> = (0..50).map(|_| agent.request::<()>("member", &()).send()).collect();
        proxy.set_open(true);
        for reply in asked {
            bounded(reply).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_does_not_wait_for_the_requests_that_a_lost_session_leaves() {
    let mut config = fleet_station();
    config.listen.grace = std::time::Duration::from_millis(20);
    let (begun, mut begins) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let hold = move |_cx: Context, n: u32| {
        begun.send(()).unwrap();
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(n)
        }
    };
    config.handlers.on_request("hold", hold).allow(Access::Authenticated);
    let (ended, mut ends) = reports();
    config.hooks.on_end(move |_peer, _reason| {
        let _ = ended.send(());
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let mut config = member(agent_config(&station, 1));
    let proxy = through_proxy(&station, &mut config).await;
    let agent = ready(config).await;
    // As many as may be open, so that there is no room for another one.
    let asked: Vec<_> = (0..1024_u32).map(|n| agent.request::<u32>("hold", &n).send()).collect();
    begins.take(asked.len()).await;
    proxy.set_open(false);
    proxy.cut();
    ends.next().await;
    proxy.set_open(true);
    gate.add_permits(asked.len());
    for (n, reply) in asked.into_iter().enumerate() {
        assert_eq!(bounded(reply).await.unwrap() as usize, n);
    }
    assert!(begins.rest().is_empty(), "each is carried out once");
}

#[tokio::test]
async fn a_station_that_has_lost_the_secret_is_not_told_what_a_lost_session_leaves() {
    let mut config = fleet_station();
    let (begun, mut begins) = reports();
    config
        .handlers
        .on_request("secret-plan", move |_cx, ()| {
            begun.send(()).unwrap();
            std::future::pending::<Result<(), Fault>>()
        })
        .allow(Access::Authenticated);
    config.listen.stop_timeout = std::time::Duration::from_millis(20);
    let station = Station::bind(config).await.unwrap();
    let mut config = agent_config(&station, 1);
    config.fleet = Some(secret(1));
    let proxy = through_proxy(&station, &mut config).await;
    let agent = ready(config).await;
    let asked = agent.request::<()>("secret-plan", &()).send();
    begins.next().await;
    // The same key, and so the one that the agent trusts.
    let mut config = fleet_station();
    config.fleet = None;
    let (told, mut tells) = reports();
    config
        .handlers
        .on_request("secret-plan", move |_cx, ()| {
            told.send(()).unwrap();
            async { Ok(()) }
        })
        .allow(Access::Anyone);
    let impostor = Station::bind(config).await.unwrap();
    proxy.lead_to(impostor.local_addr());
    proxy.cut();
    assert_eq!(bounded(agent.ended()).await, AgentError::NotOfTheFleet);
    assert_eq!(bounded(asked).await.unwrap_err().code, Code::LINK_LOST);
    bounded(impostor.stop()).await;
    assert!(tells.rest().is_empty());
}

/// A station that has too much to do to look at a proof.
struct Busy(UnboundedSender<String>);

impl SessionService for Busy {
    type Session = ();

    fn open(&self, _info: SessionInfo, _pusher: Pusher) {}

    fn request(&self, (): &mut (), request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        self.0.send(request.name).unwrap();
        let message = "too much to do".to_owned();
        Box::pin(done(Err(Fault { code: Code::OVERLOADED, message, retry_after_ms: Some(3_600_000) })))
    }

    fn action(&self, (): &mut (), _action: IncomingAction) {}

    fn close(&self, (): ()) {}
}

#[tokio::test]
async fn a_station_that_is_too_busy_for_a_proof_is_not_asked_again_at_once() {
    let (asked, mut asks) = reports();
    let shown = ServerIdentity::from_identity(&identity(STATION)).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), shown).await.unwrap();
    let url: parlour_net::ServerUrl = format!("wss://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(Arc::new(Busy(asked)), ListenConfig::default(), stopped));
    let _agent = Agent::connect(member(AgentConfig::new(url.clone(), Trust::FirstUse)));
    assert_eq!(asks.next().await, "parlour.fleet");
    // In the time of so many connections it could have come back as often.
    for _ in 0..20 {
        let (link, _events) = Link::connect(ConnectConfig::new(url.clone(), Trust::Key(key(STATION))));
        bounded(link.wait_up()).await.unwrap();
        bounded(link.close()).await;
    }
    assert!(asks.rest().len() <= 1, "an agent asks again and again");
}
