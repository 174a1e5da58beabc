//! What a device does with the account's password: changes it, sets a recovery code, ends another device. And the OPAQUE
//! registration by which password and code are replaced, with the root wrapped under the new one.

use parlour_e2ee::{Parameters, RecoveryCode, Registration as OpaqueRegistration, Root};
use parlour_wire::{
    Code,
    api::{OpaqueAnswer, PasswordFinish, PasswordStart},
    identity::VerifiedList,
};
use zeroize::Zeroizing;

use super::{Flow, Goal, Stage, parse_name, password};
use crate::{
    core::{Command, Core, Reply, Ticket},
    error::Error,
};

impl Core {
    pub(in crate::core) fn change_password(
        &mut self,
        ticket: Ticket,
        old: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<(), Error> {
        self.signed_in()?;
        if self.needs_server(ticket, Command::ChangePassword { old: old.clone(), new: new.clone() })? {
            self.reauthorise(ticket, Goal::ChangePassword { new }, old)?;
        }
        Ok(())
    }

    pub(in crate::core) fn revoke_device(
        &mut self,
        ticket: Ticket,
        device: parlour_wire::DeviceId,
        password: Zeroizing<String>,
    ) -> Result<(), Error> {
        if self.signed_in()?.device == device {
            return Err(Error::new(Code::USAGE, "this is this device").hint("use `logout` to leave the account"));
        }
        if self.needs_server(ticket, Command::RevokeDevice { device, password: password.clone() })? {
            self.reauthorise(ticket, Goal::Revoke { device }, password)?;
        }
        Ok(())
    }

    pub(in crate::core) fn make_recovery_code(&mut self, ticket: Ticket, password: Zeroizing<String>) -> Result<(), Error> {
        self.signed_in()?;
        if self.needs_server(ticket, Command::MakeRecoveryCode { password: password.clone() })? {
            self.reauthorise(ticket, Goal::SetRecovery { code: RecoveryCode::generate() }, password)?;
        }
        Ok(())
    }

    /// Begins a flow on a link that is authenticated already.
    fn reauthorise(&mut self, ticket: Ticket, goal: Goal, password: Zeroizing<String>) -> Result<(), Error> {
        self.one_flow_at_a_time()?;
        let account = self.signed_in()?;
        let (name, label, server) = (parse_name(&account.name)?, account.label.clone(), self.server_url()?);
        let (receipt_key, parameters, stage, tries) = (account.receipt_key, Parameters::CURRENT, Stage::Connecting, 0);
        let list = None;
        self.login_start(Flow { ticket, goal, name, password, label, server, receipt_key, parameters, stage, list, tries })
    }

    /// Begins to put `secret` in place of the password, or of the recovery code.
    pub(super) fn password_start(&mut self, mut flow: Flow, root: Root, secret: &str, list: &VerifiedList) -> Result<(), Error> {
        let recovery = flow.sets_recovery();
        let (registration, request) = OpaqueRegistration::start(&flow.name, secret).map_err(password)?;
        flow.list = Some(list.clone());
        self.go_on(flow, Stage::PasswordStart(Box::new(registration), root), &PasswordStart { request, recovery })
    }

    pub(super) fn password_finish(
        &mut self,
        flow: Flow,
        registration: OpaqueRegistration,
        root: Root,
        answer: &OpaqueAnswer,
    ) -> Result<(), Error> {
        let registered = registration.finish(&answer.response, flow.parameters).map_err(password)?;
        let wrapped_root = root.wrap(&registered.export_key, &flow.name);
        let finish = PasswordFinish { upload: registered.upload, wrapped_root, recovery: flow.sets_recovery() };
        self.go_on(flow, Stage::PasswordFinish(root), &finish)
    }

    /// The server has the new record: the flow is over, or a recovery goes on to the devices.
    pub(super) fn password_set(&mut self, mut flow: Flow, root: Root) -> Result<(), Error> {
        match &flow.goal {
            Goal::Recover { .. } => {
                let list = flow.list.take().ok_or_else(|| Error::internal("a recovery without a device list"))?;
                self.root_known(flow, root, &list)
            }
            Goal::SetRecovery { code } => {
                self.reply(flow.ticket, Ok(Reply::RecoveryCode(code.grouped())));
                Ok(())
            }
            _ => {
                self.reply(flow.ticket, Ok(Reply::Done));
                Ok(())
            }
        }
    }
}
