//! Login by password and its change. The server sees neither the password nor the root secret that it opens.

use std::sync::atomic::Ordering;

use parlour_wire::{
    AccountId, Code,
    api::{Done, LoginFinish, LoginFinishAnswer, LoginStart, OpaqueAnswer, PasswordFinish, PasswordStart},
};
use rand::RngCore as _;

use super::{Ask, session::PendingLogin};
use crate::{
    Failure, Fault, Rejection,
    opaque::{Opaque, Purpose},
    store::{Account, Opener, Refusal, Store, Write},
};

const WRONG_PASSWORD: Rejection = Rejection::new(Code::WRONG_PASSWORD, "wrong name or password");

fn record_hash(record: &[u8]) -> [u8; 32] {
    *blake3::hash(record).as_bytes()
}

/// Does the same for a name that is known and one that is not: one look into the store, one answer of OPAQUE.
pub(super) async fn login_start<S: Store>(ask: Ask<S>, call: LoginStart) -> Result<OpaqueAnswer, Failure> {
    let name = call.name.as_str();
    let throttles = &ask.core.throttles;
    throttles.login_from(ask.session.address, ask.now_ms).map_err(Rejection::rate_limited)?;
    let account = match ask.who.device {
        // Strangers pay before the store is asked.
        None => {
            throttles.login(name, None, ask.now_ms).map_err(Rejection::rate_limited)?;
            ask.core.store.account_by_name(&call.name).await?
        }
        Some((own, device)) => {
            let account = ask.core.store.account_by_name(&call.name).await?;
            let device = account.as_ref().is_some_and(|account| account.id == own).then_some(device);
            throttles.login(name, device, ask.now_ms).map_err(Rejection::rate_limited)?;
            account
        }
    };
    let opened = opened_by(&ask, account, call.recovery).await?;
    let record = opened.as_ref().map(|(_, record)| record.as_slice());
    let mut rng = ask.core.rng();
    let purpose = Purpose::of(call.recovery);
    let Ok((state, response)) = ask.core.secrets.opaque.login(&mut rng, name.as_bytes(), purpose, record, &call.request) else {
        let broken = record.is_some_and(|record| !Opaque::is_record(record));
        return Err(if broken { broken_record() } else { Rejection::bad("not an OPAQUE login request").into() });
    };
    let number = rng.next_u64();
    let known = opened.map(|(account, record)| (account, record_hash(&record)));
    let (name, recovery, started_ms) = (call.name, call.recovery, ask.now_ms);
    ask.session.begin_login(PendingLogin { number, name, recovery, known, state, started_ms });
    Ok(OpaqueAnswer { response, login: number })
}

/// The record against which a login runs, and whose it is. For a recovery code there is one more look into the store, for
/// unknown names too.
async fn opened_by<S: Store>(
    ask: &Ask<S>,
    account: Option<Account>,
    recovery: bool,
) -> Result<Option<(AccountId, Vec<u8>)>, Failure> {
    if !recovery {
        return Ok(account.map(|account| (account.id, account.record)));
    }
    let id = account.map(|account| account.id);
    let opener = ask.core.store.recovery(id.unwrap_or(AccountId([0; AccountId::LEN]))).await?;
    Ok(id.zip(opener.map(|opener| opener.record)))
}

fn broken_record() -> Failure {
    Fault::Broken("a password file in the store cannot be read").into()
}

pub(super) async fn login_finish<S: Store>(ask: Ask<S>, call: LoginFinish) -> Result<LoginFinishAnswer, Failure> {
    let pending = ask.session.take_login(call.login, ask.now_ms)?;
    let proven = Opaque::finish(pending.name.as_str().as_bytes(), &pending.state, &call.finalization);
    let Some((id, record)) = proven.ok().and(pending.known) else {
        ask.core.metrics.logins_failed.fetch_add(1, Ordering::Relaxed);
        return Err(WRONG_PASSWORD.into());
    };
    ask.session.set_password(id)?;
    ask.core.fanout.enter_account(&ask.session, id);
    // Read after the session has entered: whoever changes the password from here on ends it.
    match check_login(&ask, id, pending.recovery, record).await {
        Ok((account, wrapped_root)) => {
            ask.core.throttles.logged_in(pending.name.as_str());
            ask.core.metrics.logins_ok.fetch_add(1, Ordering::Relaxed);
            Ok(LoginFinishAnswer { wrapped_root, device_list: account.device_list })
        }
        Err(failure) => {
            ask.core.metrics.logins_failed.fetch_add(1, Ordering::Relaxed);
            ask.core.fanout.forget(&ask.session, ask.now_ms);
            Err(failure)
        }
    }
}

/// The account may be gone, or its password another one, since the login began.
async fn check_login<S: Store>(
    ask: &Ask<S>,
    id: AccountId,
    recovery: bool,
    record: [u8; 32],
) -> Result<(Account, Vec<u8>), Failure> {
    let account = ask.core.store.account(id).await?.ok_or(WRONG_PASSWORD)?;
    let opener = if recovery {
        ask.core.store.recovery(id).await?.ok_or(WRONG_PASSWORD)?
    } else {
        Opener { record: account.record.clone(), wrapped_root: account.wrapped_root.clone() }
    };
    if record_hash(&opener.record) != record {
        return Err(WRONG_PASSWORD.into());
    }
    if account.disabled {
        return Err(disabled().into());
    }
    Ok((account, opener.wrapped_root))
}

pub(super) const fn disabled() -> Rejection {
    Rejection::new(Code::DISABLED, "the account has been disabled by an administrator")
}

async fn own_account<S: Store>(ask: &Ask<S>, id: AccountId) -> Result<Account, Failure> {
    Ok(ask.core.store.account(id).await?.ok_or(Refusal::NoAccount)?)
}

pub(super) async fn change_start<S: Store>(ask: Ask<S>, call: PasswordStart) -> Result<OpaqueAnswer, Failure> {
    let account = own_account(&ask, ask.password()?).await?;
    let purpose = Purpose::of(call.recovery);
    let response = ask.core.secrets.opaque.register(account.name.as_str().as_bytes(), purpose, &call.request);
    let response = response.map_err(|_| Rejection::bad("not an OPAQUE registration request"))?;
    Ok(OpaqueAnswer { response, login: 0 })
}

pub(super) async fn change_finish<S: Store>(ask: Ask<S>, call: PasswordFinish) -> Result<Done, Failure> {
    let account = ask.password()?;
    let record = Opaque::record(&call.upload).map_err(|_| Rejection::bad("not an OPAQUE registration upload"))?;
    let write = Write::ReplacePassword { account, recovery: call.recovery, record, wrapped_root: call.wrapped_root };
    ask.core.apply(write).await??;
    if !call.recovery {
        ask.core.fanout.end_others(&account, &ask.session, ask.now_ms);
    }
    Ok(Done {})
}
