//! `send`, `history`, `status`.

use std::{
    io::{self, Read as _},
    time::{Duration, Instant},
};

use parlour_client::{Client, Code, Error, Message, MessageId, MessageKind, Page, State};

use super::{
    args::{HistoryArgs, SendArgs, StatusArgs},
    errors::{Failure, usage},
    output::{Output, Time, plain, seconds},
    profile::{Session, closed, try_online},
    rows::{MessageRow, SentRow, StatusRow},
};

/// How long commands that answer from the local store look for something fresher first.
const REFRESH: Duration = Duration::from_secs(3);
/// More than a message may hold; what standard input has beyond it need not be read to know that it is too much.
const STDIN_MAX: u64 = 1024 * 1024;

pub(crate) async fn send(args: SendArgs, session: &Session) -> Result<(), Failure> {
    let text = text_of(&args.text)?;
    let reply = args.reply.as_deref().map(message_id).transpose()?;
    let client = session.open()?;
    let outcome = deliver(&client, &args, &text, reply).await;
    let sent = match outcome {
        Ok(sent) => sent,
        Err(error) => return closed(&client, Err(error.into())).await,
    };
    let row = SentRow::new(&sent.message, sent.state);
    session.output.row(&row, |output| format!("{} {}", sent.state.word(), output.dim(&sent.message.id.to_string())))?;
    closed(&client, sent.shortfall.map_or(Ok(()), |error| Err(error.into()))).await
}

/// A message that is safe on disk, and how far it came.
struct Sent {
    message: Message,
    state: State,
    /// Why it did not come as far as it should.
    shortfall: Option<Error>,
}

#[expect(clippy::disallowed_methods, reason = "a face is a driver: one deadline for connecting and sending")]
async fn deliver(client: &Client, args: &SendArgs, text: &str, reply: Option<MessageId>) -> Result<Sent, Error> {
    let start = Instant::now();
    let offline = try_online(client, args.timeout).await?;
    let message = client.send(&args.to, text, reply).await.map_err(|error| match (&offline, error.code) {
        // The reason for being offline says more than that we are.
        (Some(reason), Code::UNREACHABLE) => Error { message: format!("{}: {}", error.message, reason.message), ..error },
        _ => error,
    })?;
    let left = args.timeout.saturating_sub(start.elapsed());
    match client.wait_state(message.id, args.wait.state(), left).await {
        Ok(state) => Ok(Sent { message, state, shortfall: None }),
        Err(error) => {
            let state = client.status(message.id).await?.state;
            let shortfall = (state < args.wait.state()).then(|| too_slow(state, args.timeout, offline, error));
            Ok(Sent { message, state, shortfall })
        }
    }
}

fn too_slow(state: State, timeout: Duration, offline: Option<Error>, error: Error) -> Error {
    let timeout = seconds(timeout);
    match (state, offline) {
        (State::Queued, Some(reason)) => {
            let message = format!("queued: the server was not reached within {timeout} ({})", reason.message);
            Error::new(Code::UNREACHABLE, message).hint("the message is kept; the next command that reaches the server sends it")
        }
        (State::Queued, None) if error.code == Code::TIMED_OUT => {
            Error::new(Code::TIMED_OUT, format!("queued: the server did not take the message within {timeout}"))
                .hint("the message is kept; the next command that reaches the server sends it")
        }
        (State::Stored, _) if error.code == Code::TIMED_OUT => {
            Error::new(Code::TIMED_OUT, format!("stored at the server, but not delivered within {timeout}"))
                .hint("it is delivered when a device of the recipient connects; see `parlour status ID`")
        }
        _ => error,
    }
}

fn text_of(words: &[String]) -> Result<String, Error> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(STDIN_MAX).read_to_string(&mut text);
    read.map_err(|error| usage(format!("standard input is no text: {error}")))?;
    // The line break that `echo` adds is not part of what is said.
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() { Err(usage("standard input is empty")) } else { Ok(text) }
}

/// An id as the user gave it. What is no id is the id of no message.
fn message_id(text: &str) -> Result<MessageId, Error> {
    text.parse().map_err(|_| Error::new(Code::MESSAGE_NOT_FOUND, format!("there is no message `{text}`")))
}

pub(crate) async fn history(args: HistoryArgs, session: &Session) -> Result<(), Failure> {
    let bound = |id: &Option<String>| id.as_deref().map(message_id).transpose();
    let page = Page { limit: args.limit, before: bound(&args.before)?, after: bound(&args.after)? };
    let client = session.open()?;
    refresh(&client).await;
    let outcome = client.history(&args.to, page).await.map_err(Failure::from);
    let messages = closed(&client, outcome).await?;
    for message in &messages {
        session.output.row(&MessageRow::from(message), |output| message_line(message, output))?;
    }
    Ok(())
}

pub(crate) async fn status(args: StatusArgs, session: &Session) -> Result<(), Failure> {
    let id = message_id(&args.id)?;
    let client = session.open()?;
    refresh(&client).await;
    let outcome = client.status(id).await.map_err(Failure::from);
    let status = closed(&client, outcome).await?;
    session.output.row(&StatusRow::from(&status), |output| {
        let devices = status.devices.iter().map(|device| {
            let at = Time::known(device.at_ms).map_or_else(String::new, Time::short);
            format!("\n  {}  {}  {}  {}", plain(&device.name), device.device, device.state.word(), output.dim(&at))
        });
        format!("{}{}", output.bold(status.state.word()), devices.collect::<String>())
    })
}

/// Takes what the server has, if it can be reached soon. The caller answers from the local store in any case, so nothing that goes
/// wrong here matters to it.
pub(crate) async fn refresh(client: &Client) {
    if let Ok(None) = try_online(client, REFRESH).await {
        let _ = client.wait_synced(REFRESH).await;
    }
}

/// A message for people.
pub(crate) fn message_line(message: &Message, output: &Output) -> String {
    let time = Time::known(message.sent_ms).map_or_else(String::new, Time::short);
    let mark = if message.outgoing { format!(" ({})", message.state.word()) } else { String::new() };
    let text = plain(&message.text).replace('\n', "\n    ");
    let group = message.group.as_ref().map(|group| format!("{} ", plain(group))).unwrap_or_default();
    if message.group.is_some() && message.kind == MessageKind::System {
        return format!("{} {group}{}", output.dim(&time), output.dim(&text));
    }
    format!("{} {group}{}{}: {text}", output.dim(&time), output.bold(&plain(&message.sender_name)), output.dim(&mark))
}
