//! Who is who: keys are proven on both sides, decide who is let in, and sessions belong to them.

use bytes::Bytes;
use parlour_net::{Admission, ConnectConfig, ConnectError, KeySet, Link, LinkEvent, ListenConfig, Trust};
use parlour_wire::{Code, Kind, frame::ContentType, header::Fault};

use crate::{
    over_every_carrier,
    raw::{Raw, resume},
    rig::{CLIENT, Rig, Way, client_key, failure, identity},
    support::{BOUND, Seen, bounded, next, up},
};

over_every_carrier! {
    both_sides_see_the_key_of_the_other,
    a_server_with_another_key_than_the_expected_one_is_not_believed,
    a_server_is_believed_as_long_as_its_key_is_in_the_set,
    only_keys_of_the_set_are_admitted_and_the_others_are_told_why,
    a_stolen_token_is_of_no_use_without_the_key,
    a_session_is_resumed_by_its_key_and_token,
}

async fn both_sides_see_the_key_of_the_other(way: Way) {
    let mut rig = Rig::start(way, ListenConfig { admit: Admission::Authenticated, ..ListenConfig::default() }).await;
    for client in [CLIENT, CLIENT + 1] {
        let config = rig.config(client).await;
        assert_eq!(client_key(&config), identity(client).key());
        let (_link, mut events) = Link::connect(config);
        match next(&mut events).await {
            LinkEvent::Up { peer_key, .. } => assert_eq!(peer_key, Some(rig.key)),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.server.opened().await.0.peer_key, Some(identity(client).key()));
    }
}

async fn a_server_with_another_key_than_the_expected_one_is_not_believed(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let expected = identity(1).key();
    let (link, mut events) = Link::connect(rig.config_for(CLIENT, expected).await);
    // The handshake of iroh does not tell which key it has seen.
    let seen = (way == Way::WebSocket).then_some(rig.key);
    let error = failure(&mut events).await;
    assert_eq!(error, ConnectError::WrongKey { expected: Some(expected), seen });
    assert_eq!(error.code(), Code::KEY_CHANGED);
    assert_eq!(events.next().await, None);
    let fault = link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap_err();
    assert_eq!(fault.code, Code::LINK_LOST);
}

async fn a_server_is_believed_as_long_as_its_key_is_in_the_set(way: Way) {
    let rig = Rig::start(way, ListenConfig::default()).await;
    let keys = KeySet::from([identity(1).key(), rig.key, identity(2).key()]);
    let config = ConnectConfig { trust: Trust::Keys(keys.clone()), ..rig.config(CLIENT).await };
    let (link, mut events) = Link::connect(config);
    assert!(!up(&mut events).await);
    // A session in which nothing was said is not kept.
    link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
    link.reconnect();
    assert!(up(&mut events).await);
    assert!(keys.remove(&rig.key));
    link.reconnect();
    assert_eq!(failure(&mut events).await, ConnectError::WrongKey { expected: None, seen: Some(rig.key) });
}

async fn only_keys_of_the_set_are_admitted_and_the_others_are_told_why(way: Way) {
    let keys = KeySet::from([identity(1).key()]);
    let rig = Rig::start(way, ListenConfig { admit: Admission::Keys(keys.clone()), ..ListenConfig::default() }).await;
    let (link, mut events) = Link::connect(rig.config(1).await);
    assert!(!up(&mut events).await);
    let (_second, mut refused) = Link::connect(rig.config(2).await);
    let error = failure(&mut refused).await;
    assert!(matches!(&error, ConnectError::Refused(Fault { code: Code::FORBIDDEN, .. })), "{error:?}");
    assert!(keys.insert(identity(2).key()));
    let (_second, mut admitted) = Link::connect(rig.config(2).await);
    assert!(!up(&mut admitted).await);
    assert!(keys.remove(&identity(1).key()));
    // Who is connected stays so; who comes back does not.
    link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
    link.reconnect();
    assert!(matches!(failure(&mut events).await, ConnectError::Refused(Fault { code: Code::FORBIDDEN, .. })));
}

async fn a_stolen_token_is_of_no_use_without_the_key(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let mut owner = Raw::connect(&rig, CLIENT).await;
    let welcome = owner.greet().await;
    owner.send(&owner.action(1)).await;
    let (info, _) = rig.server.opened().await;
    assert!(matches!(rig.server.next().await, Seen::Action(_)));

    let mut thief = Raw::connect(&rig, CLIENT + 1).await;
    thief.send(&resume(&welcome, 0)).await;
    let given = thief.welcome().await;
    assert!(!given.resumed);
    assert_ne!((given.session, given.token), (welcome.session, welcome.token));
    let (fresh, _) = rig.server.opened().await;
    assert_ne!((fresh.session, fresh.challenge), (info.session, info.challenge));
    assert_eq!(fresh.peer_key, Some(identity(CLIENT + 1).key()));
    // The owner has noticed nothing.
    owner.send(&owner.action(2)).await;
    assert!(matches!(rig.server.next().await, Seen::Action(_)));

    if way == Way::WebSocket {
        let mut nobody = Raw::anonymous(&rig).await;
        nobody.send(&resume(&welcome, 0)).await;
        assert!(!nobody.welcome().await.resumed);
        assert_eq!(rig.server.opened().await.0.peer_key, None);
        owner.send(&owner.action(3)).await;
        assert!(matches!(rig.server.next().await, Seen::Action(_)));
    }
}

async fn a_session_is_resumed_by_its_key_and_token(way: Way) {
    let mut rig = Rig::start(way, ListenConfig::default()).await;
    let mut first = Raw::connect(&rig, CLIENT).await;
    let welcome = first.greet().await;
    first.send(&first.action(1)).await;
    rig.server.opened().await;
    assert!(matches!(rig.server.next().await, Seen::Action(_)));
    let mut wrong = welcome.clone();
    wrong.token[31] ^= 1;
    let mut guess = Raw::connect(&rig, CLIENT).await;
    guess.send(&resume(&wrong, 0)).await;
    assert!(!guess.welcome().await.resumed);
    let mut second = Raw::connect(&rig, CLIENT).await;
    second.send(&resume(&welcome, 0)).await;
    let again = second.welcome().await;
    assert_eq!((again.resumed, again.session, again.received), (true, welcome.session, 1));
    while let Some(frame) = first.recv().await {
        assert_eq!(frame.kind, Kind::ACK);
    }
}

#[tokio::test]
async fn a_client_without_a_key_is_told_that_it_needs_one() {
    let keys = KeySet::from([identity(1).key()]);
    for admit in [Admission::Authenticated, Admission::Keys(keys)] {
        let rig = Rig::start(Way::WebSocket, ListenConfig { admit, ..ListenConfig::default() }).await;
        let config = ConnectConfig { identity: None, ..rig.config(CLIENT).await };
        let (_link, mut events) = Link::connect(config);
        let error = bounded(failure(&mut events)).await;
        assert!(matches!(&error, ConnectError::Refused(Fault { code: Code::NOT_AUTHENTICATED, .. })), "{error:?}");
    }
}
