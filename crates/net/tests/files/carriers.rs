//! Files over QUIC: the same as over WebSockets.

use parlour_net::{Agent, AgentConfig, ConnectConfig, Files, IrohConfig, IrohEndpoint, Station, StationConfig};

use crate::world::{MIB, bounded, content, hash, identity, names, open_box, reached, serving};

const SIZE: u64 = 64 * MIB;

async fn endpoint(n: u8) -> IrohEndpoint {
    bounded(IrohEndpoint::bind(&identity(n), &IrohConfig::loopback())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_files_go_both_ways_and_go_on_after_a_cut() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = Files::builder().root(open_box(&there)).open().unwrap();
    let door = endpoint(200).await;
    let mut config = StationConfig::new(identity(200), "127.0.0.1:0".parse().unwrap());
    config.iroh = Some(door.clone());
    config.handlers = serving(&files);
    let _station = Station::bind(config).await.unwrap();
    let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint(1).await, door.addr())));

    let bytes = content(SIZE, 1);
    let (local, back) = (here.path().join("x"), here.path().join("back"));
    std::fs::write(&local, &bytes).unwrap();
    let push = agent.link().push(&local, "box/x");
    reached(&push, SIZE / 3).await;
    agent.link().reconnect();
    let pushed = bounded(push).await.unwrap();
    assert_eq!((pushed.bytes, pushed.hash), (SIZE, hash(&bytes)));
    assert!(std::fs::read(there.path().join("x")).unwrap() == bytes);

    let pull = agent.link().pull("box/x", &back);
    reached(&pull, SIZE / 3).await;
    agent.link().reconnect();
    let pulled = bounded(pull).await.unwrap();
    assert_eq!((pulled.hash, pulled.moved), (hash(&bytes), SIZE), "what had arrived does not come again");
    assert!(std::fs::read(&back).unwrap() == bytes);
    assert_eq!((names(there.path()), names(here.path())), (vec!["x".to_owned()], vec!["back".to_owned(), "x".to_owned()]));
}
