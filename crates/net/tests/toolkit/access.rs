//! Who may call what: denied unless allowed, and asked at every call.

use parlour_net::{Access, Admission, AgentError, Code, ConnectError, Handlers, KeySet, Station};

use crate::world::{agent_config, bounded, key, pair, ready, reports, station_config, stranger_config};

fn handlers(handlers: &mut Handlers, keys: &KeySet) {
    handlers.on_request("silent", |_cx, ()| async { Ok(()) });
    handlers.on_request("nobody", |_cx, ()| async { Ok(()) }).allow(Access::Deny);
    handlers.on_request("anyone", |_cx, ()| async { Ok(()) }).allow(Access::Anyone);
    handlers.on_request("known", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
    handlers.on_request("listed", |_cx, ()| async { Ok(()) }).allow(Access::Keys(keys.clone()));
}

#[tokio::test]
async fn nobody_may_call_without_a_rule_and_the_others_whom_the_rule_names() {
    let keys = KeySet::from([key(1)]);
    let mut config = station_config();
    config.listen.admit = Admission::Anyone;
    handlers(&mut config.handlers, &keys);
    let station = Station::bind(config).await.unwrap();
    let listed = ready(agent_config(&station, 1)).await;
    let known = ready(agent_config(&station, 2)).await;
    let stranger = ready(stranger_config(&station)).await;
    let no = Some(Code::FORBIDDEN);
    let who = Some(Code::NOT_AUTHENTICATED);
    for (name, expected) in [
        ("silent", [no, no, no]),
        ("nobody", [no, no, no]),
        ("anyone", [None, None, None]),
        ("known", [None, None, who]),
        ("listed", [None, no, who]),
    ] {
        for (agent, expected) in [&listed, &known, &stranger].into_iter().zip(expected) {
            let answer = agent.request::<()>(name, &()).await;
            assert_eq!(answer.err().map(|fault| fault.code), expected, "{name} {:?}", agent.link());
        }
    }
}

#[tokio::test]
async fn a_rule_is_asked_at_every_call() {
    let keys = KeySet::default();
    let (_station, agent) = pair(|config| handlers(&mut config.handlers, &keys)).await;
    assert_eq!(agent.request::<()>("listed", &()).await.unwrap_err().code, Code::FORBIDDEN);
    keys.insert(key(1));
    agent.request::<()>("listed", &()).await.unwrap();
    keys.remove(&key(1));
    assert_eq!(agent.request::<()>("listed", &()).await.unwrap_err().code, Code::FORBIDDEN);
}

#[tokio::test]
async fn an_action_that_is_not_allowed_does_nothing() {
    let (ran, mut runs) = reports();
    let (_station, agent) = pair(|config| {
        for (name, access) in [("denied", Access::Deny), ("allowed", Access::Authenticated)] {
            let ran = ran.clone();
            config
                .handlers
                .on_action(name, move |_cx, ()| {
                    ran.send(name).unwrap();
                    async {}
                })
                .allow(access);
        }
    })
    .await;
    agent.action("denied", &()).unwrap();
    agent.action("unheard-of", &()).unwrap();
    agent.request::<()>("denied", &()).await.unwrap_err();
    agent.request::<()>("allowed", &()).await.unwrap();
    assert_eq!(runs.rest(), ["allowed"]);
}

#[tokio::test]
async fn a_request_that_is_sent_as_an_action_does_nothing() {
    let (ran, mut runs) = reports();
    let (_station, agent) = pair(|config| {
        config
            .handlers
            .on_request("count", move |_cx, n: u32| {
                ran.send(n).unwrap();
                async { Ok(()) }
            })
            .allow(Access::Authenticated);
    })
    .await;
    agent.action("count", &1).unwrap();
    agent.request::<()>("count", &2).await.unwrap();
    assert_eq!(runs.rest(), [2]);
}

#[tokio::test]
async fn the_rules_of_an_agent_hold_for_its_station() {
    let station = Station::bind(station_config()).await.unwrap();
    let keys = KeySet::from([key(77)]);
    let mut config = agent_config(&station, 1);
    handlers(&mut config.handlers, &keys);
    let _agent = ready(config).await;
    let peer = station.peer(&key(1)).unwrap();
    assert_eq!(peer.request::<()>("silent", &()).await.unwrap_err().code, Code::FORBIDDEN);
    assert_eq!(peer.request::<()>("listed", &()).await.unwrap_err().code, Code::FORBIDDEN);
    peer.request::<()>("known", &()).await.unwrap();
    keys.insert(station.key());
    peer.request::<()>("listed", &()).await.unwrap();
}

#[tokio::test]
async fn a_station_lets_in_whoever_shows_a_key_unless_it_is_told_otherwise() {
    let station = Station::bind(station_config()).await.unwrap();
    let stranger = parlour_net::Agent::connect(stranger_config(&station));
    let AgentError::Connect(ConnectError::Refused(fault)) = bounded(stranger.ended()).await else { panic!("refused") };
    assert_eq!(fault.code, Code::NOT_AUTHENTICATED);
    assert_eq!(bounded(stranger.request::<()>("any", &())).await.unwrap_err().code, Code::LINK_LOST);
}
