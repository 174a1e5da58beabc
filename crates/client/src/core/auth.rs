//! The link's life, authentication as a device, and the end of a device.

use std::time::Duration;

use parlour_e2ee::{DeviceKeys, Engine};
use parlour_wire::{
    Code,
    api::{DeviceAuth, DeviceAuthAnswer, DevicesGet, Logout, Suite},
    code::Blame,
    identity::VerifiedCertificate,
};

use super::{
    Core, Input, Output, Reply, Ticket,
    session::{Pending, Phase, Stock, Timer},
};
use crate::{api::WhoAmI, error::Error, event::Event, store::Account};

/// Pause after a server refused authentication for a reason that may pass.
const RETRY: Duration = Duration::from_secs(2);
/// The same after it said that it is broken: somebody has to mend it.
const RETRY_BROKEN: Duration = Duration::from_secs(30);

/// Codes that say that this device is no longer part of its account.
pub(super) fn ends_device(code: Code) -> bool {
    code == Code::DEVICE_REVOKED
}

/// When to try again after a refusal; `None`: it stands.
fn retry_after(error: &Error) -> Option<Duration> {
    let broken = error.code.traits().is_some_and(|traits| traits.blame == Blame::Ours);
    if error.is_transient() { Some(RETRY) } else { broken.then_some(RETRY_BROKEN) }
}

/// The engine of the device in an account row; `None` for a device that has logged out.
pub(super) fn engine(account: &Account) -> Result<Option<Engine>, Error> {
    let Some(keys) = device_keys(account) else { return Ok(None) };
    let certificate = VerifiedCertificate::parse(&account.certificate).map_err(Error::internal)?;
    Engine::new(keys, certificate).map(Some).map_err(Error::internal)
}

fn device_keys(account: &Account) -> Option<DeviceKeys> {
    account.device_secret.as_ref().map(|secret| DeviceKeys::from_secret(secret))
}

impl Core {
    pub(super) fn whoami(&self) -> Result<Option<WhoAmI>, Error> {
        let Ok(account) = self.signed_in() else { return Ok(None) };
        Ok(Some(WhoAmI {
            name: account.name.clone(),
            account: account.account,
            account_key: account.account_key,
            device: account.device,
            label: account.label.clone(),
            server: self.server_url()?,
        }))
    }

    pub(super) fn go_online(&mut self, ticket: Ticket) -> Result<(), Error> {
        let server = self.server_url()?;
        if self.session.phase == Phase::Off {
            self.session.phase = Phase::Connecting;
            self.outputs.push(Output::Connect { server, first_use: false });
        }
        self.waiters.online.push(ticket);
        Ok(())
    }

    /// `certificate` is its fingerprint and whether the system's authorities vouch for it.
    pub(super) fn link_up(&mut self, resumed: bool, challenge: [u8; 32], certificate: ([u8; 32], bool)) -> Result<(), Error> {
        if self.session.phase == Phase::Off {
            return Ok(());
        }
        self.session.carrier = true;
        if resumed && self.session.phase == Phase::Ready {
            self.event(Event::Online { resumed });
            self.resume()?;
            self.run_parked()?;
            return self.look_at_everything();
        }
        if resumed && self.session.phase == Phase::Up {
            // The proof of who this is may have run out of time while there was no carrier, and nothing else would give it again.
            let under_way = self.session.inflight.values().any(|pending| matches!(pending, Pending::Auth))
                || self.session.timers.contains_key(&Timer::Restart)
                || self.session.flow.is_some();
            return if under_way { Ok(()) } else { self.authenticate() };
        }
        self.session.reset();
        self.session.phase = Phase::Up;
        self.session.challenge = challenge;
        (self.session.fingerprint, self.session.trusted_by_system) = certificate;
        if self.session.flow.is_some() { self.enrol_link_up() } else { self.authenticate() }
    }

    /// Goes on with a session that has its carrier again. Answers and pushes that came with the last of it may have been taken behind its
    /// loss, when nothing more was asked for.
    fn resume(&mut self) -> Result<(), Error> {
        for account in std::mem::take(&mut self.session.unasked) {
            self.look_up_account(account)?;
        }
        self.pump_parcels()?;
        self.tend_history()?;
        self.tend_shares()?;
        self.tend_backup()
    }

    pub(super) fn link_down(&mut self, error: &Error, retry_in: Option<Duration>) -> Result<(), Error> {
        if self.session.phase == Phase::Off {
            return Ok(());
        }
        // A session outlives the loss of its carrier; who waits for it waits until a try to restore it has failed.
        let restoring = self.session.phase == Phase::Ready && self.session.carrier && retry_in.is_some();
        self.session.carrier = false;
        if retry_in.is_none() {
            self.session.reset();
            self.session.phase = Phase::Off;
        }
        self.event(Event::Offline { error: error.clone(), retry_in });
        if restoring {
            return Ok(());
        }
        self.fail_waiters(error);
        self.fail_parked(error);
        if self.session.phase != Phase::Ready {
            self.enrol_failed(error.clone());
        }
        Ok(())
    }

    pub(super) fn authenticate(&mut self) -> Result<(), Error> {
        let Some(account) = self.account.clone() else { return Ok(()) };
        let Some(keys) = device_keys(&account) else { return Ok(()) };
        let signature = keys.sign_auth(&self.session.challenge, &self.session.fingerprint, &account.account);
        let auth = DeviceAuth { account: account.account, device: account.device, signature };
        self.request(&auth, Pending::Auth)
    }

    pub(super) fn auth_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let answer: DeviceAuthAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) => {
                let retry_in = retry_after(&error);
                if let Some(retry_in) = retry_in {
                    self.set_timer(Timer::Restart, retry_in);
                } else {
                    self.session.phase = Phase::Off;
                    self.outputs.push(Output::Disconnect);
                }
                self.event(Event::Offline { error: error.clone(), retry_in });
                self.fail_waiters(&error);
                self.fail_parked(&error);
                self.enrol_failed(error);
                return Ok(());
            }
        };
        self.session.phase = Phase::Ready;
        let stock = |left, last_resort| Stock { left: Some(left), last_resort, replace: false };
        self.session.stocks.insert(Suite::HYBRID, stock(answer.key_packages, answer.last_resort));
        let classical = stock(answer.classical_key_packages, answer.classical_last_resort);
        self.session.stocks.insert(Suite::CLASSICAL, classical);
        let account = self.signed_in()?.account;
        let known = self.store.list(&account)?.map_or(0, |list| list.get().version);
        if answer.list_version > known {
            self.look_up_account(account)?;
        }
        self.event(Event::Online { resumed: false });
        self.enrol_ready()?;
        self.start_sync()?;
        self.run_parked()
    }

    fn run_parked(&mut self) -> Result<(), Error> {
        let parked = std::mem::take(&mut self.session.parked);
        parked.into_iter().try_for_each(|(ticket, command)| self.rerun(ticket, command))
    }

    /// Begins again after a step that did not reach the disk, or an authentication that may work later.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        match self.session.phase {
            Phase::Ready if self.session.carrier => self.start_sync(),
            Phase::Up if self.session.carrier && self.session.flow.is_none() => self.authenticate(),
            _ => Ok(()),
        }
    }

    /// Runs a command that has waited for something. What it refuses is its own reply and leaves the rest of the step alone:
    /// commands refuse before they write.
    pub(super) fn rerun(&mut self, ticket: Ticket, command: super::Command) -> Result<(), Error> {
        match self.dispatch(Input::Command(ticket, command)) {
            Err(error) if !error.is_local() => {
                self.reply(ticket, Err(error));
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Whether a command that needs the server can go on: `Ok(true)`: yes; `Ok(false)`: it has been parked until this client
    /// is online.
    pub(super) fn needs_server(&mut self, ticket: Ticket, command: super::Command) -> Result<bool, Error> {
        if self.session.is_usable() {
            return Ok(true);
        }
        if self.session.phase == Phase::Off || (self.session.phase == Phase::Connecting && self.waiters.online.is_empty()) {
            return Err(Error::new(Code::UNREACHABLE, "the server is not reachable, and this needs it; nothing was queued")
                .hint("try again when the server can be reached"));
        }
        self.session.parked.push((ticket, command));
        Ok(false)
    }

    fn fail_parked(&mut self, error: &Error) {
        for (ticket, _) in std::mem::take(&mut self.session.parked) {
            let error = Error { message: format!("{}; nothing was queued", error.message), ..error.clone() };
            self.reply(ticket, Err(error));
        }
    }

    pub(super) fn logout(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.signed_in()?;
        if self.needs_server(ticket, super::Command::Logout)? {
            self.request(&Logout {}, Pending::Logout(ticket))?;
        }
        Ok(())
    }

    pub(super) fn logout_answered(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => {
                self.signed_out(false, Error::new(Code::DEVICE_REVOKED, "this device has been logged out"))?;
                self.reply(ticket, Ok(Reply::Done));
            }
            Err(error) => self.reply(ticket, Err(error)),
        }
        Ok(())
    }

    /// This device is no longer part of its account, by its own doing or because it was `revoked`: deletes its secrets, keeps what
    /// people wrote.
    pub(super) fn signed_out(&mut self, revoked: bool, reason: Error) -> Result<(), Error> {
        self.store.forget_device(revoked)?;
        self.load_account()?;
        self.session.phase = Phase::Off;
        self.session.reset();
        self.outputs.push(Output::Disconnect);
        self.fail_waiters(&reason);
        self.fail_parked(&reason);
        self.enrol_failed(reason.clone());
        self.event(Event::SignedOut { reason });
        Ok(())
    }

    pub(super) fn ask_devices(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.signed_in()?;
        if self.session.is_usable() {
            return self.request(&DevicesGet {}, Pending::Devices(ticket));
        }
        self.reply_devices(ticket, &[])
    }
}
