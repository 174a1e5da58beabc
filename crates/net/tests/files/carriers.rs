//! Files over QUIC: the same as over WebSockets.

use crate::world::{MIB, Way, World, bounded, content, hash, names, reached};

const SIZE: u64 = 64 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_files_go_both_ways_and_go_on_after_a_cut() {
    let world = World::over(Way::Iroh).await;
    let bytes = content(SIZE, 1);
    let (local, back) = (world.here("x", &bytes), world.here.path().join("back"));
    let push = world.agent.link().push(&local, "box/x");
    reached(&push, SIZE / 3).await;
    world.agent.link().reconnect();
    let pushed = bounded(push).await.unwrap();
    assert_eq!((pushed.bytes, pushed.hash), (SIZE, hash(&bytes)));
    assert!((SIZE..SIZE + SIZE / 3).contains(&pushed.moved), "no more came again than was under way: {}", pushed.moved);
    assert!(std::fs::read(world.there("x")).unwrap() == bytes);

    let pull = world.agent.link().pull("box/x", &back);
    reached(&pull, SIZE / 3).await;
    world.agent.link().reconnect();
    let pulled = bounded(pull).await.unwrap();
    assert_eq!((pulled.hash, pulled.moved), (hash(&bytes), SIZE), "what had arrived does not come again");
    assert!(std::fs::read(&back).unwrap() == bytes);
    assert_eq!(
        (names(world.there.path()), names(world.here.path())),
        (vec!["x".to_owned()], vec!["back".to_owned(), "x".to_owned()])
    );
}
