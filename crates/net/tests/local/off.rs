//! Discovery is off until a program starts it. Seen from the outside: by the sockets that the operating system shows of a process.

use std::collections::BTreeSet;

use parlour_net::{
    Access, Agent, AgentConfig, Identity, Station, StationConfig, Trust,
    discovery::{Accept, Announce, AnnounceConfig, Endpoint, FindConfig, Network, find},
};

use crate::bounded;

/// Set in the process that has nothing else to do.
const ALONE: &str = "PARLOUR_TEST_ALONE";

/// The sockets for datagrams that this process has open.
fn datagram_sockets() -> usize {
    let mut known = BTreeSet::new();
    for table in ["udp", "udp6"] {
        // Systems without IPv6 have one table.
        let table = std::fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        known.extend(table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned)));
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let inode = |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    open.filter_map(inode).filter(|inode| known.contains(inode)).count()
}

#[test]
fn a_station_and_an_agent_open_no_socket_for_discovery_unless_it_is_started() {
    // The other tests of this process have such sockets.
    if std::env::var_os(ALONE).is_none() {
        let test = "off::a_station_and_an_agent_open_no_socket_for_discovery_unless_it_is_started";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let identity = Identity::from_secret(&[1; 32]);
        let mut config = StationConfig::new(identity.clone(), "127.0.0.1:0".parse().unwrap());
        config.handlers.on_request("here", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
        let station = Station::bind(config).await.unwrap();
        let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
        config.connect.identity = Some(Identity::from_secret(&[2; 32]));
        let agent = Agent::connect(config);
        bounded(agent.request::<()>("here", &()).into_future()).await.unwrap();
        assert_eq!(datagram_sockets(), 0, "nobody has asked for one");

        let network = || Network::Unicast { bind: "127.0.0.1:0".parse().unwrap(), targets: Vec::new() };
        let endpoints = vec![Endpoint::websocket(station.local_addr().port())];
        let config = AnnounceConfig { network: network(), ..AnnounceConfig::new("org.example.off", "station", endpoints) };
        let announce = Announce::start(&identity, config).unwrap();
        assert_eq!(datagram_sockets(), 1);
        let finder = find(FindConfig { network: network(), ..FindConfig::new("org.example.off", Accept::Anyone) }).unwrap();
        assert_eq!(datagram_sockets(), 2);
        drop(finder);
        announce.stop().await;
        bounded(async {
            while datagram_sockets() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}
