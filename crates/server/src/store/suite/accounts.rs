//! Rules about accounts, names, invitations and settings.

use super::{NOW, Place, an_account, create_account, device_id, listed, name, open, works};
use crate::store::{Opener, Refusal, Store, Write};

/// A name, and an account id, is taken once.
pub async fn names_are_unique<P: Place>(place: &P) {
    let bench = open(place);
    bench.done(create_account(1, "alice", 1, None)).await;
    assert_eq!(bench.refused(create_account(2, "alice", 1, None)).await, Refusal::NameTaken);
    assert_eq!(bench.refused(create_account(1, "alicia", 1, None)).await, Refusal::AccountExists);
    bench.done(create_account(2, "bob", 1, None)).await;
    assert_eq!(works(bench.store.account_by_name(&name("alicia")).await), None);
}

/// Both ways lead to all of it.
pub async fn an_account_is_found_by_name_and_by_id<P: Place>(place: &P) {
    let bench = open(place);
    bench.done(create_account(1, "alice", 2, None)).await;
    let account = an_account(1, "alice");
    assert_eq!(works(bench.store.account_by_name(&name("alice")).await), Some(account.clone()));
    assert_eq!(works(bench.store.account(account.id).await), Some(account.clone()));
    assert_eq!(works(bench.store.account_by_name(&name("bob")).await), None);
    assert_eq!(works(bench.store.account(super::account_id(9)).await), None);

    let devices = works(bench.store.devices(account.id).await);
    assert_eq!(devices.iter().map(|device| device.id).collect::<Vec<_>>(), [device_id(1, 1), device_id(1, 2)]);
    let device = works(bench.store.device(device_id(1, 2)).await).expect("it is listed");
    assert_eq!(device, devices[1]);
    assert_eq!((device.account, device.signature_key), (account.id, listed(1, 2).signature_key));
    assert_eq!((device.seen_ms, device.key_packages, device.last_resort), (0, 0, false));
    assert_eq!(works(bench.store.device(device_id(2, 1)).await), None);
}

/// Record and wrapped root change together, and nothing else does.
pub async fn a_password_is_replaced_with_its_wrapped_root<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let account = super::account_id(1);
    bench.done(password(account, false)).await;
    let mut expected = an_account(1, "user1");
    (expected.record, expected.wrapped_root) = (vec![9; 192], vec![8; 72]);
    assert_eq!(works(bench.store.account(account).await), Some(expected));
    assert_eq!(works(bench.store.account(super::account_id(2)).await), Some(an_account(2, "user2")));
    assert_eq!(bench.refused(password(super::account_id(9), false)).await, Refusal::NoAccount);
}

fn password(account: parlour_wire::AccountId, recovery: bool) -> Write {
    Write::ReplacePassword { account, recovery, record: vec![9; 192], wrapped_root: vec![8; 72] }
}

/// Neither changes the other.
pub async fn a_recovery_code_stands_beside_the_password<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let account = super::account_id(1);
    assert_eq!(works(bench.store.recovery(account).await), None);
    bench.done(password(account, true)).await;
    let opener = Some(Opener { record: vec![9; 192], wrapped_root: vec![8; 72] });
    assert_eq!(works(bench.store.recovery(account).await), opener);
    assert_eq!(works(bench.store.account(account).await), Some(an_account(1, "user1")));
    bench.done(password(account, false)).await;
    assert_eq!(works(bench.store.recovery(account).await), opener, "a new password leaves the code valid");
    let again = Write::ReplacePassword { account, recovery: true, record: vec![3], wrapped_root: vec![4] };
    bench.done(again).await;
    assert_eq!(works(bench.store.recovery(account).await), Some(Opener { record: vec![3], wrapped_root: vec![4] }));
    assert_eq!(works(bench.store.recovery(super::account_id(2)).await), None);
    assert_eq!(bench.refused(password(super::account_id(9), true)).await, Refusal::NoAccount);
}

/// As often as it allows, and no more.
pub async fn an_invitation_lasts_for_its_uses<P: Place>(place: &P) {
    let bench = open(place);
    let token = [5; 32];
    bench.done(Write::CreateInvite { token, uses: 2, expires_ms: NOW + 1000 }).await;
    assert_eq!(works(bench.store.invite(token, NOW).await), Ok(()));
    assert_eq!(works(bench.store.invite([6; 32], NOW).await), Err(Refusal::InviteUnknown));
    assert_eq!(bench.refused(create_account(1, "alice", 1, Some([6; 32]))).await, Refusal::InviteUnknown);
    bench.done(create_account(1, "alice", 1, Some(token))).await;
    bench.done(create_account(2, "bob", 1, Some(token))).await;
    assert_eq!(bench.refused(create_account(3, "carol", 1, Some(token))).await, Refusal::InviteUsedUp);
    assert_eq!(works(bench.store.invite(token, NOW).await), Err(Refusal::InviteUsedUp));
    assert_eq!(works(bench.store.account_by_name(&name("carol")).await), None);
}

/// It ends at the millisecond it names.
pub async fn an_invitation_ends_at_its_time<P: Place>(place: &P) {
    let bench = open(place);
    let token = [5; 32];
    bench.done(Write::CreateInvite { token, uses: 9, expires_ms: NOW }).await;
    assert_eq!(works(bench.store.invite(token, NOW - 1).await), Ok(()));
    assert_eq!(works(bench.store.invite(token, NOW).await), Err(Refusal::InviteExpired));
    assert_eq!(bench.refused(create_account(1, "alice", 1, Some(token))).await, Refusal::InviteExpired);
}

/// Neither the invitation nor the device ids.
pub async fn a_refused_registration_uses_up_nothing<P: Place>(place: &P) {
    let bench = open(place);
    let token = [5; 32];
    bench.done(Write::CreateInvite { token, uses: 1, expires_ms: NOW + 1000 }).await;
    bench.done(create_account(1, "alice", 1, None)).await;
    assert_eq!(bench.refused(create_account(2, "alice", 1, Some(token))).await, Refusal::NameTaken);
    assert_eq!(works(bench.store.device(device_id(2, 1)).await), None);
    bench.done(create_account(2, "bob", 1, Some(token))).await;
}

/// The first value stays.
pub async fn settings_are_set_once<P: Place>(place: &P) {
    let bench = open(place);
    assert_eq!(works(bench.store.setting("secrets").await), None);
    bench.done(Write::InitSetting { key: "secrets", value: vec![1] }).await;
    bench.done(Write::InitSetting { key: "secrets", value: vec![2] }).await;
    bench.done(Write::InitSetting { key: "other", value: vec![3] }).await;
    assert_eq!(works(bench.store.setting("secrets").await), Some(vec![1]));
    assert_eq!(works(bench.store.setting("other").await), Some(vec![3]));
}
