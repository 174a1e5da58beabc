//! News of transfers that take long.

use std::sync::Arc;

use parlour_net::{Agent, FileStage, Target, Way};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::world::{MIB, World, agent_config, bounded, content, hash};

const SIZE: u64 = 64 * MIB;
/// What one piece of the way takes, in bytes.
const PIECE: usize = 4096;
/// Pieces in so many bytes.
const fn pieces(bytes: u64) -> usize {
    bytes as usize / PIECE
}

/// Passes as many pieces on as it is allowed to.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, allowed: Arc<Semaphore>) {
    let mut piece = [0; PIECE];
    while let Ok(size @ 1..) = from.read(&mut piece).await {
        allowed.acquire().await.unwrap().forget();
        if to.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_that_take_long_are_told_of_with_growing_bytes_whichever_way_they_go() {
    let mut world = World::new().await;
    let bytes = content(SIZE, 1);
    let local = world.here("in", &bytes);
    std::fs::write(world.there("out"), &bytes).unwrap();
    // How fast the files come along is up to what has been told of them.
    let allowed = Arc::new(Semaphore::new(pieces(4 * MIB)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = agent_config(&world.station, 2);
    config.connect.target = Target::WebSocket(format!("wss://{}", listener.local_addr().unwrap()).parse().unwrap());
    let (slow, station) = (Arc::clone(&allowed), world.station.local_addr());
    tokio::spawn(async move {
        while let Ok((inner, _)) = listener.accept().await {
            let outer = TcpStream::connect(station).await.unwrap();
            let ((from, back), (answers, to)) = (split(inner), split(outer));
            tokio::spawn(pass(from, to, Arc::clone(&slow)));
            tokio::spawn(pass(answers, back, Arc::clone(&slow)));
        }
    });
    let agent = Agent::connect(config);
    let push = agent.link().push(&local, "box/in");
    let pull = agent.link().pull("box/out", world.here.path().join("back"));
    let mut told: [Vec<u64>; 2] = Default::default();
    while told.iter().any(|told| told.len() < 3) {
        let event = bounded(world.events.recv()).await.unwrap();
        let told = match event.way {
            Way::In => &mut told[0],
            Way::Out => &mut told[1],
        };
        match event.stage {
            FileStage::Begun => assert!(told.is_empty(), "it has not been lost"),
            FileStage::Moving(progress) => {
                assert_eq!(progress.total, Some(SIZE));
                assert!(told.last() <= Some(&progress.done), "{told:?} {progress:?}");
                if told.last() != Some(&progress.done) {
                    told.push(progress.done);
                }
                allowed.add_permits(pieces(4 * MIB));
            }
            stage => panic!("{stage:?} before it has been told of three times"),
        }
    }
    allowed.add_permits(pieces(16 * SIZE));
    for transfer in [push, pull] {
        assert_eq!(bounded(transfer).await.unwrap().hash, hash(&bytes));
    }
}
