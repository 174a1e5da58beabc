//! `contacts`, `key`, `verify`.

use parlour_client::{Client, Contact};
use serde_json::json;

use super::{
    args::{ContactsAction, ContactsArgs, KeyArgs, VerifyArgs},
    errors::Failure,
    output::{Output, Time, plain},
    profile::{CONNECT, Session, with_client},
    rows::{ContactRow, KeyRow, SafetyRow},
};

pub(crate) async fn contacts(args: ContactsArgs, session: &Session) -> Result<(), Failure> {
    let contacts = match args.action {
        Some(ContactsAction::Remove { to }) => return remove(&to, session).await,
        None => with_client(session, async |client: &Client| Ok(listed(client, None).await?)).await?,
        Some(ContactsAction::Search { text }) => {
            with_client(session, async |client: &Client| Ok(listed(client, Some(&text)).await?)).await?
        }
        Some(ContactsAction::Add { to }) => {
            with_client(session, async |client: &Client| Ok(vec![client.add_contact(&to).await?])).await?
        }
        Some(ContactsAction::Block { to, undo }) => {
            with_client(session, async |client: &Client| Ok(vec![client.block(&to, !undo).await?])).await?
        }
        Some(ContactsAction::Rename { to, petname }) => {
            with_client(session, async |client: &Client| Ok(vec![client.rename_contact(&to, &petname).await?])).await?
        }
    };
    if contacts.is_empty() {
        session.output.note("nobody; `parlour contacts add NAME` notes somebody, and so does a message");
    }
    for contact in &contacts {
        session.output.row(&ContactRow::from(contact), |output| contact_line(contact, output))?;
    }
    Ok(())
}

/// Contacts with the presence that the server tells, if it can be reached.
async fn listed(client: &Client, text: Option<&str>) -> Result<Vec<Contact>, parlour_client::Error> {
    // Offline, presence is unknown, and the list says so.
    let _ = client.wait_synced(CONNECT).await;
    match text {
        Some(text) => client.search_contacts(text).await,
        None => client.contacts().await,
    }
}

async fn remove(to: &str, session: &Session) -> Result<(), Failure> {
    with_client(session, async |client: &Client| Ok(client.remove_contact(to).await?)).await?;
    let row = json!({"name": to, "removed": true});
    session.output.row(&row, |_| format!("{to} is no contact; the history stays"))
}

fn contact_line(contact: &Contact, output: &Output) -> String {
    let mut facts = vec![contact.presence.word().to_owned()];
    if let Some(seen) = Time::known(contact.seen_ms) {
        facts.push(format!("last seen {}", seen.short()));
    }
    if contact.petname.is_some() {
        facts.push(format!("registered as {}", plain(&contact.name)));
    }
    for said in [&contact.display_name, &contact.status] {
        if !said.is_empty() {
            facts.push(format!("says “{}”", plain(said)));
        }
    }
    facts.extend(contact.verified.then(|| "verified".to_owned()));
    facts.extend(contact.blocked.then(|| "blocked".to_owned()));
    format!("{}  {}", output.bold(&plain(contact.shown_name())), output.dim(&facts.join(", ")))
}

pub(crate) async fn key(args: KeyArgs, session: &Session) -> Result<(), Failure> {
    let key = with_client(session, async |client: &Client| Ok(client.contact_key(&args.to).await?)).await?;
    let key = hex::encode(key);
    session.output.row(&KeyRow { name: &args.to, key: key.clone() }, |_| key)
}

pub(crate) async fn verify(args: VerifyArgs, session: &Session) -> Result<(), Failure> {
    let (number, verified) = with_client(session, async |client: &Client| {
        if args.confirm {
            client.set_verified(&args.to, true).await?;
        }
        Ok(client.safety_number(&args.to).await?)
    })
    .await?;
    session.output.row(&SafetyRow { safety_number: &number, verified }, |output| {
        let state = if verified {
            format!("{} is verified", args.to)
        } else {
            format!("compare this with {} over another way; if it is the same: parlour verify {} --confirm", args.to, args.to)
        };
        format!("{}\n{}", output.bold(&number), output.dim(&state))
    })
}
