//! `react`, `edit`, `delete`: each prints the message as it is then.

use std::time::{Duration, Instant};

use parlour_client::{Client, Code, Error, Posted, State};

use super::{
    args::{DeleteArgs, EditArgs, ReactArgs},
    errors::Failure,
    messages::{find, message_line, text_of},
    output::seconds,
    profile::{Session, closed, try_online},
    rows::MessageRow,
};

pub(crate) async fn react(args: ReactArgs, session: &Session) -> Result<(), Failure> {
    change(session, args.patience.timeout, async |client: &Client| {
        let id = find(client, &args.id).await?;
        if args.remove { client.unreact(id, &args.emoji).await } else { client.react(id, &args.emoji).await }
    })
    .await
}

pub(crate) async fn edit(args: EditArgs, session: &Session) -> Result<(), Failure> {
    let text = text_of(&args.text).await?;
    change(session, args.patience.timeout, async |client: &Client| client.edit(find(client, &args.id).await?, &text).await).await
}

pub(crate) async fn delete(args: DeleteArgs, session: &Session) -> Result<(), Failure> {
    change(session, args.patience.timeout, async |client: &Client| client.delete(find(client, &args.id).await?).await).await
}

/// Makes a change, which is on disk from then on, and waits until the server has it.
async fn change(
    session: &Session,
    timeout: Duration,
    ask: impl AsyncFnOnce(&Client) -> Result<Posted, Error>,
) -> Result<(), Failure> {
    let client = session.open()?;
    let outcome = carry(&client, timeout, ask).await;
    let (posted, shortfall) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return closed(&client, Err(error.into())).await,
    };
    session.output.row(&MessageRow::from(&posted.message), |output| message_line(&posted.message, output))?;
    closed(&client, shortfall.map_or(Ok(()), |error| Err(error.into()))).await
}

#[expect(clippy::disallowed_methods, reason = "a face is a driver: one deadline for connecting and sending")]
async fn carry(
    client: &Client,
    timeout: Duration,
    ask: impl AsyncFnOnce(&Client) -> Result<Posted, Error>,
) -> Result<(Posted, Option<Error>), Error> {
    let start = Instant::now();
    let offline = try_online(client, timeout).await?;
    if offline.is_none() {
        // What is to be changed may have come a moment ago.
        let _ = client.wait_synced(timeout.saturating_sub(start.elapsed())).await;
    }
    let posted = ask(client).await?;
    for post in &posted.posts {
        let left = timeout.saturating_sub(start.elapsed());
        if let Err(error) = client.wait_state(*post, State::Stored, left).await {
            let reason = offline.map_or_else(String::new, |reason| format!(" ({})", reason.message));
            let code = if error.code == Code::TIMED_OUT && !reason.is_empty() { Code::UNREACHABLE } else { error.code };
            let message = format!("changed here; the server did not take it within {}{reason}", seconds(timeout));
            let hint = "the change is kept; the next command that reaches the server sends it";
            return Ok((posted, Some(Error::new(code, message).hint(hint))));
        }
    }
    Ok((posted, None))
}
