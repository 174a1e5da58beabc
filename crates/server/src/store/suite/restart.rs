//! The rule about opening a place again.

use super::{
    Bench, NOW, Place, account_id, added, append, commit, conversation_id, create_account, creation, device_id, name, open, works,
};
use parlour_wire::api::Suite;

use crate::store::{CommitWrite, Refusal, Store, Write, Written};

async fn fill<S: Store>(bench: &Bench<S>) {
    bench.done(Write::InitSetting { key: "secrets", value: vec![1] }).await;
    bench.done(Write::CreateInvite { token: [5; 32], uses: 1, expires_ms: NOW + 1000 }).await;
    bench.accounts(2, 3).await;
    bench.done(create_account(3, "carol", 1, Some([5; 32]))).await;
    bench.done(Write::RemoveDevice { device: device_id(2, 3) }).await;
    let one_time = vec![b"a".to_vec(), b"b".to_vec()];
    bench
        .done(Write::PublishKeyPackages {
            device: device_id(1, 1),
            suite: Suite::HYBRID,
            one_time,
            last_resort: Some(b"z".to_vec()),
            replace: false,
        })
        .await;
    bench.apply(Write::ClaimKeyPackages { account: account_id(1), suite: Suite::HYBRID }).await.expect("claimed");
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    bench.commit(CommitWrite { added: vec![added(2, 2)], welcome: Some(vec![1]), ..commit(1, 1, 3, 1) }).await;
    bench.send(append(1, device_id(1, 1), 4, 2)).await;
    bench.move_cursor(1, device_id(2, 1), 3).await;
    bench.done(Write::Seen { device: device_id(1, 1), now_ms: NOW }).await;
}

/// All of it, numbering and idempotence included. Says nothing about an engine that keeps nothing.
pub async fn what_was_acknowledged_survives_a_restart<P: Place>(place: &P) {
    if !P::PERSISTS {
        return;
    }
    let bench = open(place);
    fill(&bench).await;
    let before = works(bench.store.log(conversation_id(1), device_id(1, 1), 0, 100).await).expect("a member");
    let account = works(bench.store.account(account_id(1)).await);
    let states = [bench.state(1, 2, device_id(2, 1)).await, bench.state(1, 2, device_id(2, 2)).await];
    drop(bench);

    let bench = open(place);
    assert_eq!(works(bench.store.setting("secrets").await), Some(vec![1]));
    assert_eq!(works(bench.store.invite([5; 32], NOW).await), Err(Refusal::InviteUsedUp));
    assert_eq!(works(bench.store.account(account_id(1)).await), account);
    assert!(works(bench.store.account_by_name(&name("carol")).await).is_some());
    let device = works(bench.store.device(device_id(1, 1)).await).expect("exists");
    assert_eq!((device.seen_ms, device.key_packages, device.last_resort), (NOW, 1, true));
    assert_eq!(works(bench.store.device(device_id(2, 3)).await), None);
    assert_eq!(works(bench.store.log(conversation_id(1), device_id(1, 1), 0, 100).await), Ok(before.clone()));
    assert_eq!([bench.state(1, 2, device_id(2, 1)).await, bench.state(1, 2, device_id(2, 2)).await], states);
    assert_eq!(bench.seqs(1, device_id(2, 2), 0).await, Ok((vec![4], 4)));
    assert_eq!(bench.heard.take(), [], "nothing is told twice");

    let again = bench.apply(Write::Append(append(1, device_id(1, 1), 2, 1))).await;
    assert!(matches!(again, Ok(Written::Stored { stored, duplicate: true }) if stored.seq == 2));
    let stored = bench.send(append(1, device_id(1, 1), 5, 2)).await;
    assert_eq!((stored.seq, stored.previous), (5, before.entries.last().expect("entries").hash()));
    assert_eq!(bench.refused(Write::Commit(Box::new(commit(1, 1, 6, 1)))).await, Refusal::StaleEpoch);
    bench.commit(commit(1, 1, 6, 2)).await;
}
