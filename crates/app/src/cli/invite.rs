//! `invite`: a right to register, made beside a server that runs or not.

use parlour_client::{Code, Error, Name};
use parlour_serverd::{InviteError, StartError, config};
use serde::Serialize;

use super::{args::InviteArgs, errors::Failure, output::Time, profile::Session, serve::start_error};

#[derive(Serialize)]
struct InviteRow<'a> {
    link: &'a str,
    token: &'a str,
    uses: u32,
    expires_at: Option<Time>,
}

pub(crate) fn invite(args: &InviteArgs, session: &Session) -> Result<(), Failure> {
    let data = args.data.clone().unwrap_or_else(config::default_data_dir);
    let invite = match &args.name {
        Some(name) => {
            let name = Name::parse(name).map_err(|_| Error::new(Code::USAGE, format!("`{name}` cannot be a name")))?;
            parlour_serverd::invite_by_name(&data, &name, args.expires)
        }
        None => parlour_serverd::invite(&data, args.uses, args.expires),
    };
    let invite = invite.map_err(invite_error)?;
    let expires_at = Time::known(invite.expires_ms);
    let row = InviteRow { link: &invite.link, token: &invite.token, uses: args.uses, expires_at };
    session.output.row(&row, |output| {
        let until = expires_at.map_or_else(String::new, |time| format!(" until {}", time.short()));
        format!("{}\n{}", output.bold(&invite.link), output.dim(&format!("good for {} account(s){until}", args.uses)))
    })
}

fn invite_error(error: InviteError) -> Error {
    match error {
        InviteError::NoServer { .. } => Error::new(Code::PROFILE_NOT_FOUND, error.to_string())
            .hint("name the server's data folder with --data, and start `parlour serve` on it once"),
        InviteError::Store(error) => start_error(&StartError::from(error)),
        InviteError::Random(_) => Error::new(Code::INTERNAL, error.to_string()),
    }
}
