//! Rules about device lists, devices and key packages.

use parlour_wire::{DeviceId, api::Suite, limits};

use super::{Bench, NOW, Place, account_id, append, create_account, creation, device_id, listed, open, works};
use crate::store::{Committed, ListedDevice, Refusal, Store, Write, Written};

fn list(n: u8, version: u64, devices: Vec<ListedDevice>) -> Write {
    let device_list = vec![n, u8::try_from(version).expect("small")];
    Write::ReplaceDeviceList { account: account_id(n), device_list, version, devices }
}

async fn claimed<S: Store>(bench: &Bench<S>, n: u8) -> Vec<(DeviceId, Vec<u8>)> {
    match bench.apply(Write::ClaimKeyPackages { account: account_id(n), suite: Suite::HYBRID }).await {
        Ok(Written::KeyPackages { device_list, packages }) => {
            assert_eq!(device_list[0], n);
            packages.into_iter().map(|package| (package.device, package.package)).collect()
        }
        other => panic!("expected key packages, got {other:?}"),
    }
}

fn publish(device: DeviceId, one_time: &[&[u8]], last_resort: Option<&[u8]>) -> Write {
    let one_time = one_time.iter().map(|package| package.to_vec()).collect();
    Write::PublishKeyPackages {
        device,
        suite: Suite::HYBRID,
        one_time,
        last_resort: last_resort.map(<[u8]>::to_vec),
        replace: false,
    }
}

/// An account cannot list a device of another one.
pub async fn a_device_belongs_to_one_account<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let taken = list(2, 2, vec![listed(2, 1), listed(1, 1)]);
    assert_eq!(bench.refused(taken).await, Refusal::NoDevice);
    assert_eq!(works(bench.store.account(account_id(2)).await).expect("exists").list_version, 1);
    let Write::CreateAccount { account, invite, now_ms, .. } = create_account(3, "mallory", 1, None) else { unreachable!() };
    let thief = Write::CreateAccount { account, devices: vec![listed(1, 1)], invite, now_ms };
    assert_eq!(bench.refused(thief).await, Refusal::NoDevice);
    assert_eq!(works(bench.store.account(account_id(3)).await), None);
    assert_eq!(works(bench.store.device(device_id(1, 1)).await).expect("exists").account, account_id(1));
}

/// Versions have no gaps and no doubles.
pub async fn a_device_list_is_replaced_by_the_next_version_only<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 1).await;
    bench.heard.take();
    for version in [0, 1, 3] {
        assert_eq!(bench.refused(list(1, version, vec![listed(1, 1)])).await, Refusal::StaleList, "{version}");
    }
    assert_eq!(bench.refused(list(9, 2, vec![])).await, Refusal::NoAccount);
    assert_eq!(bench.heard.take(), []);
    bench.done(list(1, 2, vec![listed(1, 1), listed(1, 2)])).await;
    let account = works(bench.store.account(account_id(1)).await).expect("exists");
    assert_eq!((account.device_list, account.list_version), (vec![1, 2], 2));
    assert_eq!(works(bench.store.devices(account_id(1)).await).len(), 2);
    assert_eq!(bench.heard.take(), [Committed::Devices { account: account_id(1), version: 2, ended: vec![] }]);
}

/// With its key packages, cursors and welcomes.
pub async fn a_device_that_is_gone_from_the_list_ends<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 2).await;
    bench.done(publish(device_id(2, 1), &[b"a"], Some(b"z"))).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.heard.take();
    bench.done(list(2, 2, vec![listed(2, 2)])).await;
    let ended = vec![device_id(2, 1)];
    assert_eq!(bench.heard.take(), [Committed::Devices { account: account_id(2), version: 2, ended }]);
    assert_eq!(works(bench.store.device(device_id(2, 1)).await), None);
    assert_eq!(works(bench.store.devices(account_id(2)).await).len(), 1);
    assert_eq!(claimed(&bench, 2).await, []);
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Err(Refusal::NotMember));
    assert_eq!(bench.refused(Write::Append(append(1, device_id(2, 1), 2, 1))).await, Refusal::NotMember);
    assert_eq!(bench.refused(publish(device_id(2, 1), &[b"b"], None)).await, Refusal::NoDevice);
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("the account is a member");
    assert_eq!((state.cursor, state.welcome), (None, None));
}

/// Even if a later list still names it.
pub async fn a_device_that_logged_out_stays_out<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 2).await;
    bench.heard.take();
    bench.done(Write::RemoveDevice { device: device_id(1, 1) }).await;
    let ended = vec![device_id(1, 1)];
    assert_eq!(bench.heard.take(), [Committed::Devices { account: account_id(1), version: 1, ended }]);
    assert_eq!(bench.refused(Write::RemoveDevice { device: device_id(1, 1) }).await, Refusal::NoDevice);
    bench.done(list(1, 2, vec![listed(1, 1), listed(1, 2), listed(1, 3)])).await;
    assert_eq!(works(bench.store.device(device_id(1, 1)).await), None);
    let devices = works(bench.store.devices(account_id(1)).await);
    assert_eq!(devices.iter().map(|device| device.id).collect::<Vec<_>>(), [device_id(1, 2), device_id(1, 3)]);
}

/// Clocks jump; what was seen was seen.
pub async fn being_seen_never_goes_back<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 2).await;
    for (device, now_ms) in [(device_id(1, 1), NOW), (device_id(1, 1), NOW - 5), (device_id(1, 2), NOW - 9)] {
        bench.done(Write::Seen { device, now_ms }).await;
    }
    bench.done(Write::Seen { device: device_id(9, 9), now_ms: NOW }).await;
    let seen: Vec<u64> = works(bench.store.devices(account_id(1)).await).iter().map(|device| device.seen_ms).collect();
    assert_eq!(seen, [NOW, NOW - 9]);
    assert_eq!(works(bench.store.account(account_id(1)).await).expect("exists").seen_ms, NOW);
}

/// The oldest first, one for each device.
pub async fn key_packages_are_handed_out_once<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 3).await;
    bench.done(publish(device_id(1, 1), &[b"a1", b"a2"], None)).await;
    bench.done(publish(device_id(1, 2), &[b"b1"], None)).await;
    assert_eq!(works(bench.store.device(device_id(1, 1)).await).expect("exists").key_packages, 2);
    let first = [(device_id(1, 1), b"a1".to_vec()), (device_id(1, 2), b"b1".to_vec())];
    assert_eq!(claimed(&bench, 1).await, first);
    assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), b"a2".to_vec())]);
    assert_eq!(claimed(&bench, 1).await, []);
    assert_eq!(claimed(&bench, 2).await, []);
    assert_eq!(bench.refused(Write::ClaimKeyPackages { account: account_id(9), suite: Suite::HYBRID }).await, Refusal::NoAccount);
    assert_eq!(bench.refused(publish(device_id(9, 1), &[], None)).await, Refusal::NoDevice);
}

/// When the one-time ones are gone; a later one replaces it.
pub async fn the_last_resort_package_is_handed_out_again<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 1).await;
    bench.done(publish(device_id(1, 1), &[b"a"], Some(b"z"))).await;
    assert!(works(bench.store.device(device_id(1, 1)).await).expect("exists").last_resort);
    for expected in [b"a", b"z", b"z"] {
        assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), expected.to_vec())]);
    }
    bench.done(publish(device_id(1, 1), &[], Some(b"y"))).await;
    assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), b"y".to_vec())]);
    bench.done(publish(device_id(1, 1), &[b"b"], None)).await;
    for expected in [b"b", b"y"] {
        assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), expected.to_vec())]);
    }
}

/// What is above the limit is dropped; the older ones stay.
pub async fn key_packages_are_bounded<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 1).await;
    let packages: Vec<Vec<u8>> = (0..70).map(|n| vec![n]).collect();
    let packages: Vec<&[u8]> = packages.iter().map(Vec::as_slice).collect();
    bench.done(publish(device_id(1, 1), &packages, None)).await;
    bench.done(publish(device_id(1, 1), &packages, None)).await;
    let device = works(bench.store.device(device_id(1, 1)).await).expect("exists");
    assert_eq!(device.key_packages as usize, limits::KEY_PACKAGES_PER_DEVICE);
    assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), vec![0])]);
}

/// Only those of that suite, and not the last-resort one unless there is another.
pub async fn key_packages_are_replaced_when_asked<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 1).await;
    let device = device_id(1, 1);
    bench.done(publish(device, &[b"a", b"b"], Some(b"z"))).await;
    let (suite, one_time) = (Suite::CLASSICAL, vec![b"c".to_vec()]);
    bench.done(Write::PublishKeyPackages { device, suite, one_time, last_resort: None, replace: true }).await;
    let (suite, one_time) = (Suite::HYBRID, vec![b"n".to_vec()]);
    bench.done(Write::PublishKeyPackages { device, suite, one_time, last_resort: None, replace: true }).await;
    let kept = works(bench.store.device(device).await).expect("exists");
    assert_eq!((kept.key_packages, kept.classical_key_packages, kept.last_resort), (1, 1, true));
    assert_eq!(claimed(&bench, 1).await, [(device, b"n".to_vec())]);
    assert_eq!(claimed(&bench, 1).await, [(device, b"z".to_vec())]);
}

/// Counted, bounded and handed out each for itself.
pub async fn key_packages_are_kept_by_suite<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(1, 1).await;
    bench.done(publish(device_id(1, 1), &[b"a"], Some(b"z"))).await;
    let suite = Suite::CLASSICAL;
    let one_time = (0..120).map(|n| vec![1, n]).collect();
    bench.done(Write::PublishKeyPackages { device: device_id(1, 1), suite, one_time, last_resort: None, replace: false }).await;
    let device = works(bench.store.device(device_id(1, 1)).await).expect("exists");
    assert_eq!((device.key_packages, device.last_resort), (1, true));
    assert_eq!((device.classical_key_packages as usize, device.classical_last_resort), (limits::KEY_PACKAGES_PER_DEVICE, false));
    let claim = Write::ClaimKeyPackages { account: account_id(1), suite };
    let Ok(Written::KeyPackages { packages, .. }) = bench.apply(claim.clone()).await else { panic!("claimed") };
    assert_eq!(packages[0].package, [1, 0]);
    assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), b"a".to_vec())]);
    assert_eq!(claimed(&bench, 1).await, [(device_id(1, 1), b"z".to_vec())]);
    bench
        .done(Write::PublishKeyPackages {
            device: device_id(1, 1),
            suite,
            one_time: vec![],
            last_resort: Some(vec![9]),
            replace: false,
        })
        .await;
    for n in 1..100 {
        let Ok(Written::KeyPackages { packages, .. }) = bench.apply(claim.clone()).await else { panic!("claimed") };
        assert_eq!(packages[0].package, [1, n]);
    }
    let Ok(Written::KeyPackages { packages, .. }) = bench.apply(claim).await else { panic!("claimed") };
    assert_eq!(packages[0].package, [9]);
}
