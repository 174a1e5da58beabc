//! The toolkit from end to end on loopback: stations, agents, handlers, hooks, and what goes wrong between them.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod access;
mod awaited;
mod broadcast;
mod calls;
#[cfg(feature = "iroh")]
mod carriers;
mod codecs;
mod fleet;
mod flood;
mod full;
mod hooks;
mod large;
mod left;
mod once;
mod order;
#[path = "../support/mod.rs"]
mod support;
mod world;

#[test]
fn handles_may_be_shared_and_sent() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<parlour_net::Link>();
    shared::<parlour_net::Station>();
    shared::<parlour_net::Agent>();
    shared::<parlour_net::Peer>();
    shared::<parlour_net::Context>();
    shared::<parlour_net::Codecs>();
    shared::<parlour_net::FleetSecret>();
}

#[test]
fn calls_may_be_awaited_on_any_thread() {
    fn sent<T: Send>(_: T) {}
    fn from_anywhere(agent: parlour_net::Agent) {
        sent(async move {
            let list = vec![1, 2];
            agent.request::<i64>("sum", &list).deadline(support::BOUND).on_progress(|_| {}).await?;
            agent.link().send("say", &"hello").await
        });
    }
    let _ = from_anywhere;
}

#[test]
fn stations_and_agents_notice_a_dead_peer_within_seconds_unless_told_otherwise() {
    let seconds = std::time::Duration::from_secs;
    let fleet = parlour_net::KeepAlive { idle: seconds(1), interval: seconds(3), fails: 5 };
    let agent = parlour_net::AgentConfig::new("wss://localhost:1".parse().unwrap(), parlour_net::Trust::Key(world::key(1)));
    assert_eq!(parlour_net::KeepAlive::FLEET, fleet);
    assert_eq!(world::station_config().listen.link.keep_alive, Some(fleet));
    assert_eq!(agent.connect.link.keep_alive, Some(fleet));
}
