//! Devices: their list, their authentication, their key packages, and who is online.

use std::future::Future;

use parlour_wire::{
    AccountId, Code,
    api::{
        DeviceAuth, DeviceAuthAnswer, DeviceSeen, DevicesGet, DevicesGetAnswer, DevicesUpdate, Done, KeyPackagesClaim,
        KeyPackagesClaimAnswer, KeyPackagesPublish, Logout, Presence, PresenceAnswer, PresenceWatch, Suite,
    },
    codec::bounded,
    identity::{self, VerifiedList},
    limits,
};

use super::{Ask, accounts::listed, passwords::disabled};
use crate::{
    Failure, Fault, Rejection,
    store::{Device, Refusal, Store, Write, Written},
};

const REVOKED: Rejection = Rejection::new(Code::DEVICE_REVOKED, "the device has been revoked or logged out");

pub(super) async fn update<S: Store>(ask: Ask<S>, call: DevicesUpdate) -> Result<Done, Failure> {
    let id = ask.password()?;
    let next = VerifiedList::parse(&call.device_list)?;
    let account = ask.core.store.account(id).await?.ok_or(Refusal::NoAccount)?;
    if next.account() != id {
        return Err(Rejection::new(Code::FORBIDDEN, "the device list is another account's").into());
    }
    if account.device_list == call.device_list {
        return Ok(Done {});
    }
    let current = VerifiedList::parse(&account.device_list).map_err(|_| Fault::Broken("a device list in the store"))?;
    if !next.follows(&current) {
        return Err(Refusal::StaleList.into());
    }
    ask.core.throttles.entry(&id, call.device_list.len(), ask.now_ms).map_err(Rejection::rate_limited)?;
    // The store compares versions once more: another update may have come between.
    let (version, devices) = (next.get().version, listed(&next));
    let write = Write::ReplaceDeviceList { account: id, device_list: call.device_list, version, devices };
    ask.core.apply(write).await??;
    Ok(Done {})
}

async fn speaking<S: Store>(ask: &Ask<S>, call: &DeviceAuth) -> Result<Device, Failure> {
    let device = ask.core.store.device(call.device).await?;
    Ok(device.filter(|device| device.account == call.account).ok_or(REVOKED)?)
}

pub(super) async fn authenticate<S: Store>(ask: Ask<S>, call: DeviceAuth) -> Result<DeviceAuthAnswer, Failure> {
    ask.session.may_be(call.account, call.device)?;
    let device = speaking(&ask, &call).await?;
    let bytes = identity::auth_bytes(&ask.session.challenge, &ask.session.fingerprint, &call.account, &call.device);
    identity::verify(&device.signature_key, identity::AUTH_CONTEXT, &bytes, &call.signature, "authentication")
        .map_err(|_| Rejection::new(Code::NOT_AUTHENTICATED, "the signature does not verify for this link"))?;
    ask.core.fanout.enter_device(&ask.session, call.account, call.device, ask.now_ms);
    let entered = enter(&ask, &call).await;
    ask.core.fanout.loaded(&call.device);
    if entered.is_err() {
        ask.core.fanout.forget(&ask.session, ask.now_ms);
    }
    entered
}

/// What remains once the fan-out knows the device: from there on it hears of everything that ends the device, so all that is
/// read here is either current or corrected.
async fn enter<S: Store>(ask: &Ask<S>, call: &DeviceAuth) -> Result<DeviceAuthAnswer, Failure> {
    let device = speaking(ask, call).await?;
    let account = ask.core.store.account(call.account).await?.ok_or(REVOKED)?;
    if account.disabled {
        return Err(disabled().into());
    }
    let mut after = None;
    loop {
        let page = ask.core.store.conversations(call.account, call.device, after, page_limit()).await?;
        ask.core.fanout.load(&call.device, &page.0);
        match page {
            (states, true) if !states.is_empty() => after = states.last().map(|state| state.conversation),
            _ => break,
        }
    }
    ask.core.fanout.become_device(&ask.session, call.account, call.device)?;
    drop(ask.core.apply(Write::Seen { device: call.device, now_ms: ask.now_ms }));
    Ok(DeviceAuthAnswer {
        name: account.name,
        list_version: account.list_version,
        key_packages: device.key_packages,
        last_resort: device.last_resort,
        classical_key_packages: device.classical_key_packages,
        classical_last_resort: device.classical_last_resort,
    })
}

pub(super) fn page_limit() -> u32 {
    u32::try_from(limits::SYNC_PAGE).unwrap_or(u32::MAX)
}

/// The session leaves first, so that it lives to hear the answer; the device's other sessions end with it.
pub(super) async fn log_out<S: Store>(ask: Ask<S>, _: Logout) -> Result<Done, Failure> {
    let (_, device) = ask.device()?;
    ask.core.fanout.forget(&ask.session, ask.now_ms);
    ask.core.apply(Write::RemoveDevice { device }).await?.map_err(|_| REVOKED)?;
    Ok(Done {})
}

pub(super) async fn get<S: Store>(ask: Ask<S>, _: DevicesGet) -> Result<DevicesGetAnswer, Failure> {
    let id = ask.account()?;
    let account = ask.core.store.account(id).await?.ok_or(Refusal::NoAccount)?;
    let devices = ask.core.store.devices(id).await?;
    let seen = |device: &Device| DeviceSeen {
        device: device.id,
        seen_ms: device.seen_ms,
        online: ask.core.fanout.is_device_online(&device.id),
    };
    Ok(DevicesGetAnswer { device_list: account.device_list, seen: devices.iter().map(seen).collect() })
}

/// Packages are kept of the suites that groups have, and of no others.
fn check_suite(suite: Suite) -> Result<(), Rejection> {
    if [Suite::HYBRID, Suite::CLASSICAL].contains(&suite) { Ok(()) } else { Err(Rejection::bad("not a suite of groups here")) }
}

fn check_packages(call: &KeyPackagesPublish) -> Result<(), Rejection> {
    check_suite(call.suite)?;
    let packages = call.one_time.iter().map(|package| package.as_slice()).chain(call.last_resort.as_deref());
    for package in packages {
        bounded("key package", package.len(), limits::KEY_PACKAGE)?;
        if package.is_empty() {
            return Err(Rejection::bad("an empty key package"));
        }
    }
    Ok(())
}

pub(super) fn publish<S: Store>(
    ask: Ask<S>,
    call: KeyPackagesPublish,
) -> impl Future<Output = Result<Done, Failure>> + Send + 'static {
    let begun = ask.device().and_then(|(_, device)| {
        check_packages(&call)?;
        let one_time = call.one_time.into_iter().map(Vec::from).collect();
        let (suite, last_resort, replace) = (call.suite, call.last_resort, call.replace);
        Ok(ask.core.apply(Write::PublishKeyPackages { device, suite, one_time, last_resort, replace }))
    });
    async move {
        begun?.await?.map_err(|_| REVOKED)?;
        Ok(Done {})
    }
}

pub(super) async fn claim<S: Store>(ask: Ask<S>, call: KeyPackagesClaim) -> Result<KeyPackagesClaimAnswer, Failure> {
    let (account, _) = ask.device()?;
    check_suite(call.suite)?;
    // Whoever claims all of somebody's packages leaves the last-resort one for others.
    ask.core.throttles.claims.take(&account.0, ask.now_ms).map_err(Rejection::rate_limited)?;
    match ask.core.apply(Write::ClaimKeyPackages { account: call.account, suite: call.suite }).await?? {
        Written::KeyPackages { device_list, packages } => Ok(KeyPackagesClaimAnswer { device_list, packages }),
        _ => Err(Fault::Broken("a claim was answered with something else").into()),
    }
}

pub(super) async fn watch<S: Store>(ask: Ask<S>, call: PresenceWatch) -> Result<PresenceAnswer, Failure> {
    let visible = ask.core.fanout.watch(&ask.session, call.accounts);
    let mut presence = Vec::with_capacity(visible.len());
    for (account, online) in visible {
        let seen_ms = if online { ask.now_ms } else { last_seen(&ask, account).await? };
        presence.push(Presence { account, online, seen_ms });
    }
    Ok(PresenceAnswer { presence })
}

async fn last_seen<S: Store>(ask: &Ask<S>, account: AccountId) -> Result<u64, Failure> {
    Ok(ask.core.store.account(account).await?.map_or(0, |account| account.seen_ms))
}
