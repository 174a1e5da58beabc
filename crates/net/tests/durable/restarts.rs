//! Receivers that stop and start again between a message and its answer.

use bytes::Bytes;
use parlour_net::DurableQueue;
use parlour_wire::frame::ContentType;

use crate::{
    bounded, open,
    receiver::{Effects, Receiver, order, tally},
    rig::Address,
    way::{Way, over_every_carrier},
};

over_every_carrier! {
    messages_take_effect_once_over_restarts_of_the_receiver,
    the_answer_of_before_the_restart_is_given_again,
}

async fn push(queue: &DurableQueue, name: &str, count: u32) {
    for number in 0..count {
        queue.action_raw(name, ContentType::BYTES, Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
    }
}

async fn messages_take_effect_once_over_restarts_of_the_receiver(way: Way) {
    let (folder, effects) = (tempfile::tempdir().unwrap(), Effects::default());
    let queue = open(&folder.path().join("outbox")).await;
    let mut receiver = Receiver::start(folder.path(), &Address::new(way), effects.clone()).await;
    let address = receiver.address.clone();
    let (link, _events) = address.connect().await;
    let _delivery = queue.attach(&link);
    for _ in 0..5 {
        push(&queue, "tally", 200).await;
        receiver.stop().await;
        receiver = Receiver::start(folder.path(), &address, effects.clone()).await;
    }
    bounded(queue.drained()).await.unwrap();
    let tally = tally(&effects, "tally");
    assert_eq!((tally.len(), tally.values().all(|count| *count == 5)), (200, true));
    let expected: Vec<_> = (0..5).flat_map(|_| 0..200_u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
    assert_eq!(order(&effects, "tally"), expected);
}

async fn the_answer_of_before_the_restart_is_given_again(way: Way) {
    let (folder, effects) = (tempfile::tempdir().unwrap(), Effects::default());
    let queue = open(&folder.path().join("outbox")).await;
    let receiver = Receiver::start(folder.path(), &Address::new(way), effects.clone()).await;
    let (link, _events) = receiver.address.connect().await;
    let delivery = queue.attach(&link);
    let ticket = queue.request_raw("hold", ContentType::TEXT, Bytes::from_static(b"once")).await.unwrap();
    bounded(receiver.service.held.acquire()).await.unwrap().forget();
    // The sender goes; the receiver finishes, and then goes too.
    drop(delivery);
    link.close().await;
    receiver.service.gate.add_permits(1);
    bounded(receiver.service.marked.acquire()).await.unwrap().forget();
    let address = receiver.address.clone();
    receiver.stop().await;

    let receiver = Receiver::start(folder.path(), &address, effects.clone()).await;
    let (link, _events) = receiver.address.connect().await;
    let _delivery = queue.attach(&link);
    let waited = bounded(ticket.raw());
    assert_eq!(&waited.await.unwrap().content[..], b"once");
    assert_eq!(tally(&effects, "hold").into_values().sum::<u32>(), 1);
}
