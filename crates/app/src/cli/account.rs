//! `register`, `login`, `logout`, `passwd`, `whoami`, `registration`, `devices`.

use parlour_client::{Client, Code, Device, DeviceId, Error, InviteLink, Login, Register, ServerUrl, SignedIn, WhoAmI};
use serde_json::json;

use super::{
    args::{DevicesAction, DevicesArgs, LoginArgs, PasswdArgs, RegisterArgs, RegistrationArgs},
    errors::{Failure, usage},
    output::{Output, Time, plain},
    profile::{CONNECT, Session, closed, no_account, with_client, with_secret},
    rows::{AccountRow, DeviceRow, RegistrationRow, SignedInRow},
    secret,
};

/// How long a new device waits for the account's earlier history. What is not here by then comes the next time that both are online.
const HISTORY: std::time::Duration = std::time::Duration::from_secs(20);

pub(crate) async fn register(args: RegisterArgs, session: &Session) -> Result<(), Failure> {
    let (server, invite) = invitation(args.server, args.invite)?;
    let password = secret::chosen_password(args.password.password_stdin).await?;
    let client = session.open_or_make(args.make.passphrase)?;
    let request = Register { server, name: args.name, password, invite, label: args.make.device };
    let outcome = settled(&client, client.register(request).await).await;
    let signed_in = closed(&client, outcome).await?;
    welcome(&signed_in, "registered", &session.output)
}

pub(crate) async fn login(args: LoginArgs, session: &Session) -> Result<(), Failure> {
    let password = secret::password(args.password.password_stdin).await?;
    let client = session.open_or_make(args.make.passphrase)?;
    let request = Login { server: args.server, name: args.name, password, label: args.make.device };
    let outcome = settled(&client, client.login(request).await).await;
    let signed_in = closed(&client, outcome).await?;
    welcome(&signed_in, "logged in", &session.output)
}

/// Stays until this device can be written to and has joined the account's conversations. The account is there in any case; what
/// is left over happens the next time that this device is online.
pub(super) async fn settled(client: &Client, outcome: Result<SignedIn, Error>) -> Result<SignedIn, Failure> {
    let signed_in = outcome?;
    let _ = client.wait_synced(CONNECT).await;
    let _ = client.wait_history(HISTORY).await;
    Ok(signed_in)
}

/// Whether two addresses cannot be of one server. One server can be reached by several names, but has one certificate.
fn contradicts(one: &ServerUrl, other: &ServerUrl) -> bool {
    one.fingerprint.is_some() && other.fingerprint.is_some() && one.fingerprint != other.fingerprint
}

/// Where to register and with which token. A link holds both; an address given beside it goes before the link's.
fn invitation(server: Option<ServerUrl>, invite: Option<String>) -> Result<(ServerUrl, Option<String>), Error> {
    let link = invite.as_deref().and_then(|invite| invite.parse::<InviteLink>().ok());
    match (server, link) {
        (Some(server), Some(link)) if contradicts(&server, &link.server) => {
            Err(usage(format!("the invitation is for another server, {}", link.server))
                .hint("leave out --server, or ask for a link of that server"))
        }
        (Some(server), Some(link)) => Ok((server, Some(link.token))),
        (None, Some(link)) => Ok((link.server, Some(link.token))),
        (Some(server), None) => Ok((server, invite)),
        (None, None) => Err(usage("a token does not say which server it is for").hint("give --server URL, or the whole link")),
    }
}

pub(super) fn welcome(signed_in: &SignedIn, done: &str, output: &Output) -> Result<(), Failure> {
    let who = &signed_in.who;
    if signed_in.pinned_now {
        output.note(&format!(
            "note: this is the first connection to {}; its certificate is remembered, and a change will be refused.\n      \
             Compare its fingerprint with the one that the server's administrator sees.",
            who.server
        ));
    }
    output.row(&SignedInRow::from(signed_in), |output| {
        format!("{done} as {} at {}\ndevice {}", output.bold(&plain(&who.name)), who.server, who.device)
    })
}

pub(crate) async fn logout(session: &Session) -> Result<(), Failure> {
    let who = with_client(session, async |client: &Client| {
        let who = who(client).await?;
        client.logout().await?;
        Ok(who)
    })
    .await?;
    let row = json!({"account": who.name, "device": who.device.to_string(), "logged_out": true});
    session.output.row(&row, |_| format!("{} is logged out here; history and contacts stay", plain(&who.name)))
}

pub(crate) async fn passwd(args: PasswdArgs, session: &Session) -> Result<(), Failure> {
    let ask = async || secret::password_change(args.password_stdin).await;
    let who = with_secret(session, ask, async |client: &Client, (old, new)| {
        client.change_password(old, new).await?;
        who(client).await
    })
    .await?;
    let row = json!({"account": who.name, "password_changed": true});
    session.output.row(&row, |_| "the password is changed; the sessions of other devices have ended".to_owned())
}

pub(crate) async fn whoami(session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    let outcome = who(&client).await;
    let who = closed(&client, outcome).await?;
    session.output.row(&AccountRow::from(&who), |output| {
        let key = hex::encode(who.account_key);
        let name = output.bold(&plain(&who.name));
        format!(
            "{name} at {}\ndevice  {} ({})\naccount {}\nkey     {key}",
            who.server,
            who.device,
            plain(&who.label),
            who.account
        )
    })
}

async fn who(client: &Client) -> Result<WhoAmI, Failure> {
    match client.whoami().await {
        Some(who) => Ok(who),
        None => Err(no_account(client).await.into()),
    }
}

pub(crate) async fn registration(args: RegistrationArgs, session: &Session) -> Result<(), Failure> {
    let facts = Client::server_info(&args.server, args.timeout).await?;
    session.output.row(&RegistrationRow::from(&facts), |_| {
        format!("registration is {}\nserver  {}\nversion {}", facts.registration.word(), facts.server, plain(&facts.version))
    })
}

pub(crate) async fn devices(args: DevicesArgs, session: &Session) -> Result<(), Failure> {
    match args.action {
        None => list_devices(session).await,
        Some(DevicesAction::Revoke { device, password }) => {
            let unknown = || Error::new(Code::DEVICE_NOT_FOUND, format!("`{device}` is no device of this account"));
            let id: DeviceId = device.parse().map_err(|_| unknown())?;
            let ask = async || secret::password(password.password_stdin).await;
            with_secret(session, ask, async |client: &Client, password| Ok(client.revoke_device(id, password).await?)).await?;
            let row = json!({"device": id.to_string(), "revoked": true});
            session.output.row(&row, |_| format!("device {id} is revoked"))
        }
    }
}

async fn list_devices(session: &Session) -> Result<(), Failure> {
    let devices = with_client(session, async |client: &Client| Ok(client.devices().await?)).await?;
    for device in &devices {
        session.output.row(&DeviceRow::from(device), |output| device_line(device, output))?;
    }
    Ok(())
}

fn device_line(device: &Device, output: &Output) -> String {
    let seen = match Time::known(device.seen_ms) {
        _ if device.this => "this device".to_owned(),
        _ if device.online => "online".to_owned(),
        Some(time) => format!("last seen {}", time.short()),
        None => "never seen".to_owned(),
    };
    format!("{}  {}  {}", device.id, output.bold(&plain(&device.label)), output.dim(&seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_a_token_or_a_link_with_its_server() {
        let server: ServerUrl = "wss://a.example:1".parse().expect("an address");
        let link = Some("parlour://join/b.example:2?token=00ff".to_owned());
        let of =
            |server: Option<&ServerUrl>, invite| invitation(server.cloned(), invite).map(|(server, token)| (server.host, token));
        let token = Some("00ff".to_owned());
        assert_eq!(of(Some(&server), token.clone()), Ok(("a.example".to_owned(), token.clone())));
        assert_eq!(of(None, link.clone()), Ok(("b.example".to_owned(), token.clone())));
        assert_eq!(of(Some(&server), link), Ok(("a.example".to_owned(), token.clone())));
        assert_eq!(of(None, token).map_err(|error| error.code), Err(Code::USAGE));
        let [one, other] = ["a", "b"].map(|digit| digit.repeat(64));
        let pinned: ServerUrl = format!("wss://c.example:1#{one}").parse().expect("an address");
        let of_that = |fingerprint| Some(format!("parlour://join/b.example:2?token=00ff#{fingerprint}"));
        assert!(of(Some(&pinned), of_that(one)).is_ok(), "another name of the same server");
        assert_eq!(of(Some(&pinned), of_that(other)).map_err(|error| error.code), Err(Code::USAGE));
    }
}
