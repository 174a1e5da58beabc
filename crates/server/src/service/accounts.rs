//! What the server is, registration, and looking up users.

use std::future::{Future, ready};

use parlour_wire::{
    Code,
    api::{
        AccountAnswer, AccountById, AccountByName, Done, OpaqueAnswer, RegisterFinish, RegisterStart, Registration, ServerInfo,
        ServerInfoAnswer,
    },
    identity::VerifiedList,
    limits,
    name::Name,
};

use super::{ACCOUNT_TOKEN, Ask, account_token_hash, invite_hash};
use crate::{
    Failure, Rejection,
    opaque::{LOGIN_PARAMETERS, Opaque, Purpose},
    store::{Account, ListedDevice, Refusal, Store, Write},
};

pub(super) fn server_info<S: Store>(
    ask: Ask<S>,
    _: ServerInfo,
) -> impl Future<Output = Result<ServerInfoAnswer, Failure>> + Send + use<S> {
    ready(Ok(ServerInfoAnswer {
        registration: ask.core.config.registration,
        receipt_key: ask.core.secrets.receipt_key(),
        version: ask.core.config.version.clone(),
        now_ms: ask.now_ms,
        login_parameters: LOGIN_PARAMETERS,
    }))
}

/// The hash of the invitation that registration takes here; none if it takes none. A closed server takes only what its
/// administrator has made for this very name.
fn invitation(mode: Registration, name: &Name, invite: Option<&str>) -> Result<Option<[u8; 32]>, Rejection> {
    let named = invite.is_some_and(|token| token.starts_with(ACCOUNT_TOKEN));
    match (mode, invite) {
        (Registration::INVITE | Registration::CLOSED, Some(token)) if named && token.len() <= limits::LABEL => {
            Ok(Some(account_token_hash(name, token)))
        }
        (Registration::OPEN, _) => Ok(None),
        (Registration::INVITE, None) => Err(Rejection::new(Code::INVITE_REQUIRED, "registration needs an invitation")),
        (Registration::INVITE, Some(token)) if token.len() > limits::LABEL => Err(Refusal::InviteUnknown.into()),
        (Registration::INVITE, Some(token)) => Ok(Some(invite_hash(token))),
        _ => Err(Rejection::new(Code::REGISTRATION_CLOSED, "registration is closed here")),
    }
}

fn check_free<S: Store>(ask: &Ask<S>) -> Result<(), Rejection> {
    if ask.who.password.is_some() || ask.who.device.is_some() {
        return Err(Rejection::new(Code::FORBIDDEN, "this link belongs to an account"));
    }
    Ok(())
}

pub(super) async fn register_start<S: Store>(ask: Ask<S>, call: RegisterStart) -> Result<OpaqueAnswer, Failure> {
    check_free(&ask)?;
    ask.core.throttles.register(ask.session.address, ask.now_ms).map_err(Rejection::rate_limited)?;
    if let Some(token) = invitation(ask.core.config.registration, &call.name, call.invite.as_deref())? {
        ask.core.store.invite(token, ask.now_ms).await??;
    }
    let group = ask.core.store.group_by_name(&call.name).await?;
    if group.is_some() || ask.core.store.account_by_name(&call.name).await?.is_some() {
        return Err(Refusal::NameTaken.into());
    }
    let response = ask.core.secrets.opaque.register(call.name.as_str().as_bytes(), Purpose::Password, &call.request);
    let response = response.map_err(|_| Rejection::bad("not an OPAQUE registration request"))?;
    ask.session.begin_registration(call.name, ask.now_ms);
    Ok(OpaqueAnswer { response, login: 0 })
}

/// The devices that a list names.
pub(super) fn listed(list: &VerifiedList) -> Vec<ListedDevice> {
    let certificates = list.certificates().iter().map(|certificate| certificate.get());
    certificates.map(|certificate| ListedDevice { id: certificate.device(), signature_key: certificate.signature_key }).collect()
}

pub(super) async fn register_finish<S: Store>(ask: Ask<S>, call: RegisterFinish) -> Result<Done, Failure> {
    check_free(&ask)?;
    let invite = invitation(ask.core.config.registration, &call.name, call.invite.as_deref())?;
    ask.session.take_registration(&call.name, ask.now_ms)?;
    let list = VerifiedList::parse(&call.device_list)?;
    if list.get().version != 1 {
        return Err(Rejection::bad("the first device list has version 1").into());
    }
    let record = Opaque::record(&call.upload).map_err(|_| Rejection::bad("not an OPAQUE registration upload"))?;
    let id = list.account();
    let account = Account {
        id,
        name: call.name,
        record,
        wrapped_root: call.wrapped_root,
        device_list: call.device_list,
        list_version: 1,
        disabled: false,
        seen_ms: ask.now_ms,
    };
    let write = Write::CreateAccount { account, devices: listed(&list), invite, now_ms: ask.now_ms };
    ask.core.apply(write).await??;
    ask.session.set_password(id)?;
    ask.core.fanout.enter_account(&ask.session, id);
    Ok(Done {})
}

/// Names and ids can be guessed; nobody may do so quickly, in whatever words.
pub(super) fn check_lookups<S: Store>(ask: &Ask<S>) -> Result<(), Failure> {
    let account = ask.account()?;
    Ok(ask.core.throttles.lookups.take(&account.0, ask.now_ms).map_err(Rejection::rate_limited)?)
}

fn found(account: Option<Account>) -> Result<AccountAnswer, Failure> {
    let account = account.ok_or(Refusal::NoAccount)?;
    Ok(AccountAnswer { name: account.name, device_list: account.device_list })
}

pub(super) async fn by_name<S: Store>(ask: Ask<S>, call: AccountByName) -> Result<AccountAnswer, Failure> {
    check_lookups(&ask)?;
    let name: Name = call.name;
    found(ask.core.store.account_by_name(&name).await?)
}

pub(super) async fn by_id<S: Store>(ask: Ask<S>, call: AccountById) -> Result<AccountAnswer, Failure> {
    check_lookups(&ask)?;
    found(ask.core.store.account(call.account).await?)
}
