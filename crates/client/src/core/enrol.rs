//! Registration, login, recovery, password change and revocation: flows of several requests that end in one transaction.
//!
//! A flow lives in memory only. Cut short, it leaves nothing behind here; at the server it leaves at most an account that a
//! login with the same password brings in, or the new password of a recovery, which can be begun again.
//!
//! `secrets`: the flows of a device that is there already, and what replaces password and recovery code.

mod secrets;

use parlour_e2ee::{
    AccountError, AccountKey, DeviceKeys, ExportKey, Login as OpaqueLogin, Parameters, PasswordError, RecoveryCode,
    Registration as OpaqueRegistration, Root,
};
use parlour_wire::{
    Code,
    api::{
        DevicesUpdate, LoginFinish, LoginFinishAnswer, LoginStart, OpaqueAnswer, RegisterFinish, RegisterStart, ServerInfo,
        ServerInfoAnswer,
    },
    identity::{VerifiedCertificate, VerifiedList},
    limits,
    name::Name,
};
use zeroize::Zeroizing;

use super::{
    Core, Output, Reply, Ticket,
    session::{Pending, Phase},
};
use crate::{
    api::{Login, Recover, Register, SignedIn},
    error::Error,
    event::Event,
    store::Account,
};

/// What is under way.
pub(super) struct Flow {
    ticket: Ticket,
    goal: Goal,
    name: Name,
    password: Zeroizing<String>,
    label: String,
    server: parlour_wire::address::ServerUrl,
    receipt_key: [u8; 32],
    parameters: Parameters,
    stage: Stage,
    /// The account's device list, between its coming and its use.
    list: Option<VerifiedList>,
    /// Times that the device list was changed under our hands.
    tries: u32,
}

impl Flow {
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Whether the record to be replaced is that of the recovery code.
    fn sets_recovery(&self) -> bool {
        matches!(self.goal, Goal::SetRecovery { .. })
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("name", &self.name).finish_non_exhaustive()
    }
}

enum Goal {
    Register {
        invite: Option<String>,
    },
    Login,
    /// The flow's password is the recovery code; `new` is gone once the server has it.
    Recover {
        new: Option<Zeroizing<String>>,
        keep_devices: bool,
    },
    ChangePassword {
        new: Zeroizing<String>,
    },
    SetRecovery {
        code: RecoveryCode,
    },
    Revoke {
        device: parlour_wire::DeviceId,
    },
}

impl Goal {
    /// Whether the flow logs in by recovery code.
    fn is_recovery(&self) -> bool {
        matches!(self, Self::Recover { .. })
    }

    /// Whether the flow brings a device in; otherwise there is one, and the flow must leave its session alone.
    fn enrols(&self) -> bool {
        matches!(self, Self::Register { .. } | Self::Login | Self::Recover { .. })
    }
}

enum Stage {
    Connecting,
    Info,
    RegisterStart(Box<OpaqueRegistration>),
    RegisterFinish(Box<Account>, VerifiedList),
    LoginStart(Box<OpaqueLogin>),
    LoginFinish(ExportKey),
    ListUpdate(Option<Box<Account>>, VerifiedList),
    PasswordStart(Box<OpaqueRegistration>, Root),
    PasswordFinish(Root),
    /// Waits for the authentication of the new device.
    Authenticating {
        pinned_now: bool,
    },
}

/// Try again that often when another device changes the list at the same time.
const LIST_TRIES: u32 = 3;

impl Core {
    pub(super) fn register(&mut self, ticket: Ticket, register: Register) -> Result<(), Error> {
        let Register { server, name, password, invite, label } = register;
        self.enrol(ticket, Goal::Register { invite }, server, &name, password, label)
    }

    pub(super) fn login(&mut self, ticket: Ticket, login: Login) -> Result<(), Error> {
        let Login { server, name, password, label } = login;
        self.enrol(ticket, Goal::Login, server, &name, password, label)
    }

    pub(super) fn recover(&mut self, ticket: Ticket, recover: Recover) -> Result<(), Error> {
        let Recover { server, name, code, password, label, keep_devices } = recover;
        let code = RecoveryCode::parse(&code).map_err(|error| {
            Error::new(error.code(), error.to_string())
                .hint("type it as it was printed; upper or lower case and hyphens do not matter")
        })?;
        if password.is_empty() {
            return Err(Error::new(Code::USAGE, "an empty password protects nothing"));
        }
        self.enrol(ticket, Goal::Recover { new: Some(password), keep_devices }, server, &name, code.plain(), label)
    }

    fn enrol(
        &mut self,
        ticket: Ticket,
        goal: Goal,
        server: parlour_wire::address::ServerUrl,
        name: &str,
        password: Zeroizing<String>,
        label: String,
    ) -> Result<(), Error> {
        if let Ok(account) = self.signed_in() {
            let message = format!("this profile already has the account {} and its device", account.name);
            return Err(Error::new(Code::ALREADY_EXISTS, message).hint("log out first, or use another profile with --home"));
        }
        let name = parse_name(name)?;
        if let Some(account) = &self.account
            && (matches!(goal, Goal::Register { .. }) || account.name != name.as_str())
        {
            let message = format!("this profile holds the history of {}", account.name);
            return Err(Error::new(Code::ALREADY_EXISTS, message).hint("log in as the same account, or use another profile"));
        }
        if label.len() > limits::LABEL {
            return Err(Error::new(Code::USAGE, "the device's name is too long"));
        }
        self.one_flow_at_a_time()?;
        self.session.reset();
        self.session.phase = Phase::Connecting;
        self.outputs.push(Output::Connect { server: server.clone(), first_use: true });
        let (receipt_key, parameters, stage, tries) = ([0; 32], Parameters::CURRENT, Stage::Connecting, 0);
        let list = None;
        self.session.flow =
            Some(Flow { ticket, goal, name, password, label, server, receipt_key, parameters, stage, list, tries });
        Ok(())
    }

    fn one_flow_at_a_time(&self) -> Result<(), Error> {
        match &self.session.flow {
            Some(_) => Err(Error::new(Code::USAGE, "another login or registration is under way")),
            None => Ok(()),
        }
    }

    /// The link is there: asks the server what it is.
    pub(super) fn enrol_link_up(&mut self) -> Result<(), Error> {
        match self.session.flow.take() {
            Some(flow) if matches!(flow.stage, Stage::Authenticating { .. }) => {
                self.session.flow = Some(flow);
                self.authenticate()
            }
            Some(flow) if !flow.goal.enrols() => {
                self.reply(flow.ticket, Err(Error::new(Code::LINK_LOST, "the connection was lost; nothing was changed")));
                self.authenticate()
            }
            Some(flow) => self.go_on(flow, Stage::Info, &ServerInfo {}),
            None => Ok(()),
        }
    }

    fn go_on<C: parlour_wire::api::Call>(&mut self, mut flow: Flow, stage: Stage, call: &C) -> Result<(), Error> {
        flow.stage = stage;
        self.session.flow = Some(flow);
        self.request(call, Pending::Enrol)
    }

    pub(super) fn enrol_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let Some(mut flow) = self.session.flow.take() else { return Ok(()) };
        let stage = std::mem::replace(&mut flow.stage, Stage::Connecting);
        let ticket = flow.ticket;
        let outcome = match (result, stage) {
            (Err(error), Stage::ListUpdate(..)) if error.code == Code::STALE_LIST && flow.tries < LIST_TRIES => {
                flow.tries += 1;
                self.login_start(flow)
            }
            (Err(error), _) => Err(error),
            (Ok(bytes), stage) => self.enrol_next(flow, stage, &bytes),
        };
        let Err(error) = outcome else { return Ok(()) };
        self.give_up_link();
        if error.is_local() {
            return Err(error);
        }
        self.reply(ticket, Err(error));
        Ok(())
    }

    /// A failed registration or login leaves no connection behind; a failed password change leaves it alone.
    fn give_up_link(&mut self) {
        self.session.flow = None;
        if self.session.phase != Phase::Ready {
            self.session.reset();
            self.session.phase = Phase::Off;
            self.outputs.push(Output::Disconnect);
        }
    }

    fn enrol_next(&mut self, flow: Flow, stage: Stage, bytes: &[u8]) -> Result<(), Error> {
        match stage {
            Stage::Info => self.info_known(flow, &parlour_wire::decode(bytes)?),
            Stage::RegisterStart(registration) => self.register_finish(flow, *registration, &parlour_wire::decode(bytes)?),
            Stage::RegisterFinish(account, list) => self.enrolled(flow, *account, &list),
            Stage::LoginStart(login) => self.login_finish(flow, *login, &parlour_wire::decode(bytes)?),
            Stage::LoginFinish(export_key) => self.root_opens(flow, &export_key, &parlour_wire::decode(bytes)?),
            Stage::ListUpdate(Some(account), list) => self.enrolled(flow, *account, &list),
            Stage::ListUpdate(None, list) => {
                self.pin_list(&list)?;
                self.take_out_ended()?;
                self.reply(flow.ticket, Ok(Reply::Done));
                Ok(())
            }
            Stage::PasswordStart(registration, root) => {
                self.password_finish(flow, *registration, root, &parlour_wire::decode(bytes)?)
            }
            Stage::PasswordFinish(root) => self.password_set(flow, root),
            Stage::Connecting | Stage::Authenticating { .. } => Err(Error::internal("an answer that nobody asked for")),
        }
    }

    fn info_known(&mut self, mut flow: Flow, info: &ServerInfoAnswer) -> Result<(), Error> {
        flow.parameters = Parameters::from_wire(info.login_parameters).map_err(password)?;
        flow.receipt_key = info.receipt_key;
        let Goal::Register { invite } = &flow.goal else { return self.login_start(flow) };
        let (registration, request) = OpaqueRegistration::start(&flow.name, &flow.password).map_err(password)?;
        let start = RegisterStart { name: flow.name.clone(), invite: invite.clone(), request };
        self.go_on(flow, Stage::RegisterStart(Box::new(registration)), &start)
    }

    fn register_finish(&mut self, flow: Flow, registration: OpaqueRegistration, answer: &OpaqueAnswer) -> Result<(), Error> {
        let registered = registration.finish(&answer.response, flow.parameters).map_err(password)?;
        let root = Root::generate();
        let wrapped_root = root.wrap(&registered.export_key, &flow.name);
        let key = AccountKey::from(&root);
        let (account, certificate) = self.new_device(&flow, &root)?;
        let list = key.first_list(&certificate, self.now.unix_ms).map_err(account_error)?;
        let Goal::Register { invite } = &flow.goal else { return Err(Error::internal("not a registration")) };
        let finish = RegisterFinish {
            name: flow.name.clone(),
            invite: invite.clone(),
            upload: registered.upload,
            wrapped_root,
            device_list: list.as_bytes().to_vec(),
        };
        self.go_on(flow, Stage::RegisterFinish(Box::new(account), list), &finish)
    }

    /// Keys and certificate of this device under an account's key.
    fn new_device(&mut self, flow: &Flow, root: &Root) -> Result<(Account, VerifiedCertificate), Error> {
        let key = AccountKey::from(root);
        let keys = DeviceKeys::generate();
        let certificate = key.certify(&keys.public(), &flow.label, self.now.unix_ms).map_err(account_error)?;
        let fingerprint = (!self.session.trusted_by_system).then_some(self.session.fingerprint);
        let server = parlour_wire::address::ServerUrl { fingerprint, ..flow.server.clone() };
        let account = Account {
            account: key.account_id(),
            name: flow.name.to_string(),
            account_key: key.public(),
            server: server.to_string(),
            receipt_key: flow.receipt_key,
            device: keys.id(),
            label: flow.label.clone(),
            device_secret: Some(keys.secret()),
            certificate: certificate.as_bytes().to_vec(),
            backup_key: Some(root.backup_key()),
            revoked: false,
        };
        Ok((account, certificate))
    }

    fn login_start(&mut self, flow: Flow) -> Result<(), Error> {
        let (login, request) = OpaqueLogin::start(&flow.name, &flow.password).map_err(password)?;
        let start = LoginStart { name: flow.name.clone(), request, recovery: flow.goal.is_recovery() };
        self.go_on(flow, Stage::LoginStart(Box::new(login)), &start)
    }

    fn login_finish(&mut self, flow: Flow, login: OpaqueLogin, answer: &OpaqueAnswer) -> Result<(), Error> {
        let logged_in = login.finish(&answer.response, flow.parameters).map_err(|error| match error {
            PasswordError::Wrong if flow.goal.is_recovery() => {
                Error::new(error.code(), "wrong recovery code, or no such user, or the account never had a code")
            }
            error => password(error),
        })?;
        let finish = LoginFinish { login: answer.login, finalization: logged_in.ke3 };
        self.go_on(flow, Stage::LoginFinish(logged_in.export_key), &finish)
    }

    /// Password or code has opened the account: the root is checked against the device list.
    fn root_opens(&mut self, flow: Flow, export_key: &ExportKey, answer: &LoginFinishAnswer) -> Result<(), Error> {
        let root = Root::unwrap(&answer.wrapped_root, export_key, &flow.name).map_err(account_error)?;
        let id = AccountKey::from(&root).account_id();
        let list = VerifiedList::parse(&answer.device_list)?;
        if list.account() != id {
            return Err(Error::new(Code::SERVER_MISBEHAVED, "the server sent the device list of another account"));
        }
        if self.account.as_ref().is_some_and(|known| known.account != id) {
            return Err(Error::new(Code::KEY_CHANGED, "the account of this name is another one than this profile's"));
        }
        if self.store.list(&id)?.is_some_and(|known| known.get().version > list.get().version) {
            return Err(Error::new(
                Code::SERVER_MISBEHAVED,
                "the server sent an older device list of the account than it had before",
            ));
        }
        self.root_known(flow, root, &list)
    }

    /// Does what the flow is for.
    fn root_known(&mut self, mut flow: Flow, root: Root, list: &VerifiedList) -> Result<(), Error> {
        let key = AccountKey::from(&root);
        let now_ms = self.now.unix_ms;
        match &mut flow.goal {
            Goal::ChangePassword { new } => {
                let new = new.clone();
                self.password_start(flow, root, &new, list)
            }
            Goal::SetRecovery { code } => {
                let code = code.plain();
                self.password_start(flow, root, &code, list)
            }
            Goal::Recover { new, .. } if new.is_some() => {
                let new = new.take().unwrap_or_default();
                self.password_start(flow, root, &new, list)
            }
            Goal::Recover { keep_devices: false, .. } => {
                let (account, certificate) = self.new_device(&flow, &root)?;
                let next = key.only_device(list, &certificate, now_ms).map_err(account_error)?;
                self.update_list(flow, Some(Box::new(account)), next)
            }
            Goal::Revoke { device } => {
                if list.certificate(device).is_none() {
                    return Err(Error::new(Code::DEVICE_NOT_FOUND, format!("the account has no device {device}")));
                }
                let next = key.revoke_device(list, device, now_ms).map_err(account_error)?;
                self.update_list(flow, None, next)
            }
            Goal::Login | Goal::Register { .. } | Goal::Recover { .. } => {
                if list.certificates().len() >= limits::DEVICES_PER_ACCOUNT {
                    return Err(Error::new(Code::QUOTA, "the account has as many devices as it may")
                        .hint("end one on another device with `devices revoke`"));
                }
                let (account, certificate) = self.new_device(&flow, &root)?;
                let next = key.add_device(list, &certificate, now_ms).map_err(account_error)?;
                self.update_list(flow, Some(Box::new(account)), next)
            }
        }
    }

    fn update_list(&mut self, flow: Flow, account: Option<Box<Account>>, next: VerifiedList) -> Result<(), Error> {
        let update = DevicesUpdate { device_list: next.as_bytes().to_vec() };
        self.go_on(flow, Stage::ListUpdate(account, next), &update)
    }

    /// The server knows this device: keeps it, and authenticates as it.
    fn enrolled(&mut self, flow: Flow, account: Account, list: &VerifiedList) -> Result<(), Error> {
        self.store.set_account(&account)?;
        self.load_account()?;
        self.pin_list(list)?;
        if !matches!(flow.goal, Goal::Register { .. }) {
            self.want_history()?;
        }
        let pinned_now = flow.server.fingerprint.is_none() && !self.session.trusted_by_system;
        self.session.flow = Some(Flow { stage: Stage::Authenticating { pinned_now }, ..flow });
        if let Some(who) = self.whoami()? {
            self.event(Event::SignedIn(who));
        }
        self.authenticate()
    }

    /// The new device is authenticated: the flow is over.
    pub(super) fn enrol_ready(&mut self) -> Result<(), Error> {
        let Some(flow) = self.session.flow.take() else { return Ok(()) };
        let Stage::Authenticating { pinned_now } = flow.stage else {
            self.session.flow = Some(flow);
            return Ok(());
        };
        let who = self.whoami()?.ok_or_else(|| Error::internal("signed in without an account"))?;
        self.reply(flow.ticket, Ok(Reply::SignedIn(SignedIn { who, pinned_now })));
        Ok(())
    }

    /// The link failed under a flow. A device that the server knows already stays; it authenticates when it can.
    pub(super) fn enrol_failed(&mut self, error: Error) {
        let Some(flow) = self.session.flow.take() else { return };
        self.reply(flow.ticket, Err(error));
        if self.session.phase != Phase::Off && self.signed_in().is_err() {
            self.give_up_link();
        }
    }
}

fn parse_name(name: &str) -> Result<Name, Error> {
    Name::parse(name).map_err(|_| {
        Error::new(Code::USAGE, format!("{name:?} cannot be a user name"))
            .hint("letters, digits, - and . work; spaces and @ # / : do not; at most 64 bytes")
    })
}

fn password(error: PasswordError) -> Error {
    match error {
        PasswordError::Wrong => Error::new(error.code(), "wrong password, or no such user"),
        PasswordError::Malformed => Error::new(Code::SERVER_MISBEHAVED, "the server's side of the login cannot be right"),
        PasswordError::UnknownParameters => {
            Error::new(error.code(), "the server uses login parameters that this version does not know")
                .hint("use a newer version of this program")
        }
        error => Error::new(error.code(), error.to_string()),
    }
}

fn account_error(error: AccountError) -> Error {
    match error {
        AccountError::Unwrap => Error::new(Code::SERVER_MISBEHAVED, "the account's root secret does not open"),
        error => Error::new(error.code(), error.to_string()),
    }
}
