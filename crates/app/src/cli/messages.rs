//! `send`, `history`, `search`, `status`.

use std::{
    cell::RefCell,
    io::Read as _,
    pin::pin,
    time::{Duration, Instant},
};

use parlour_client::{Client, Code, Draft, Error, Expiry, FileInfo, Message, MessageId, MessageKind, Page, Preview, State};

use super::{
    args::{HistoryArgs, SearchArgs, SendArgs, StatusArgs},
    errors::{Failure, usage},
    files,
    output::{Output, Time, plain, seconds},
    profile::{Session, closed, try_online},
    rows::{MessageRow, SentRow, StatusRow},
    secret, stop_signal,
};

/// How long commands that answer from the local store look for something fresher first.
const REFRESH: Duration = Duration::from_secs(3);
/// More than a text may have that is sent as a file; what standard input has beyond it need not be read to know that it is too much.
const STDIN_MAX: u64 = 17 << 20;

pub(crate) async fn send(args: SendArgs, session: &Session) -> Result<(), Failure> {
    let mut stopped = pin!(stop_signal()?);
    let text = tokio::select! {
        text = text_of(&args.text) => text?,
        () = &mut stopped => return Err(Failure::Interrupted),
    };
    let client = session.open()?;
    let written = RefCell::default();
    let outcome = tokio::select! {
        outcome = deliver(&client, &args, text, &session.output, &written) => outcome,
        () = &mut stopped => return Err(interrupted(&client, &written.take(), &session.output).await),
    };
    let outcome = outcome.map_err(Failure::from).and_then(|all| {
        let mut shortfall = Ok(());
        for sent in all {
            let row = SentRow::new(&sent.message, sent.state);
            session.output.row(&row, |output| format!("{} {}", sent.state.word(), output.dim(&sent.message.id.to_string())))?;
            shortfall = sent.shortfall.map_or(shortfall, |error| Err(error.into()));
        }
        shortfall
    });
    closed(&client, outcome).await
}

/// Says what stays of a command that was stopped.
async fn interrupted(client: &Client, written: &[Message], output: &Output) -> Failure {
    if written.is_empty() {
        output.note("nothing was queued");
    }
    for message in written {
        let state = client.status(message.id).await.map_or(message.state, |status| status.state);
        let id = message.id;
        output.note(&if state == State::Queued {
            format!("queued {id}; it will be sent")
        } else {
            format!("{} {id}", state.word())
        });
        if output.json
            && let Err(failure) = output.row(&SentRow::new(message, state), |_| String::new())
        {
            return failure;
        }
    }
    Failure::Interrupted
}

/// A message that is safe on disk, and how far it came.
struct Sent {
    message: Message,
    state: State,
    /// Why it did not come as far as it should.
    shortfall: Option<Error>,
}

#[expect(clippy::disallowed_methods, reason = "a face is a driver: one deadline for connecting and sending")]
async fn deliver(
    client: &Client,
    args: &SendArgs,
    text: String,
    output: &Output,
    written: &RefCell<Vec<Message>>,
) -> Result<Vec<Sent>, Error> {
    let start = Instant::now();
    let reply_to = match &args.reply {
        Some(id) => Some(find(client, id).await?),
        None => None,
    };
    let seconds = |expire: Duration| u32::try_from(expire.as_secs()).unwrap_or(u32::MAX);
    let draft = Draft { text, reply_to, expires: args.expire.map(|expire| Expiry::After(seconds(expire))) };
    let mut events = client.events();
    let offline = try_online(client, args.timeout).await?;
    let outcome = if args.file.is_empty() {
        client.write(&args.to, draft).await.map(|message| written.borrow_mut().push(message))
    } else {
        let preview = if args.no_thumbnail { Preview::None } else { Preview::Thumbnail };
        files::send(client, &args.to, &args.file, preview, draft, written).await
    };
    outcome.map_err(|error| match (&offline, error.code) {
        // The reason for being offline says more than that we are.
        (Some(reason), Code::UNREACHABLE) => Error { message: format!("{}: {}", error.message, reason.message), ..error },
        _ => error,
    })?;
    let messages = written.borrow().clone();
    let mut all = Vec::with_capacity(messages.len());
    for message in messages {
        let left = args.timeout.saturating_sub(start.elapsed());
        // A long text is one, too.
        let reached = if message.file.is_some() && offline.is_none() {
            files::wait_state(client, &mut events, message.id, args.wait.state(), args.timeout, output).await
        } else {
            client.wait_state(message.id, args.wait.state(), left).await
        };
        all.push(match reached {
            Ok(state) => Sent { message, state, shortfall: None },
            Err(error) => {
                let state = client.status(message.id).await?.state;
                let short = || too_slow(state, args.timeout, offline.clone(), message.file.as_ref(), error);
                let shortfall = (state < args.wait.state()).then(short);
                Sent { message, state, shortfall }
            }
        });
    }
    Ok(all)
}

fn too_slow(state: State, timeout: Duration, offline: Option<Error>, file: Option<&FileInfo>, error: Error) -> Error {
    let timeout = seconds(timeout);
    let kept = match file {
        None => "the message is kept; the next command that reaches the server sends it",
        Some(FileInfo { kept: true, .. }) => {
            "the text is kept here as a file and goes up while a command is online; `parlour recv --follow` stays"
        }
        Some(_) => "the file is kept where it is and goes up while a command is online; `parlour recv --follow` stays",
    };
    match (state, offline) {
        (State::Queued, Some(reason)) if error.code.retry() => {
            let message = format!("queued: the server was not reached within {timeout} ({})", reason.message);
            Error::new(Code::UNREACHABLE, message).hint(kept)
        }
        (State::Queued, None) if error.code == Code::TIMED_OUT => {
            Error::new(Code::TIMED_OUT, format!("queued: the server did not take the message within {timeout}")).hint(kept)
        }
        (State::Stored, _) if error.code == Code::TIMED_OUT => {
            Error::new(Code::TIMED_OUT, format!("stored at the server, but not delivered within {timeout}"))
                .hint("it is delivered when a device of the recipient connects; see `parlour status ID`")
        }
        _ => error,
    }
}

pub(crate) async fn text_of(words: &[String]) -> Result<String, Error> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let read = secret::stdin(|stdin| {
        let mut bytes = Vec::new();
        stdin.take(STDIN_MAX).read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = read.await.map_err(|error| usage(format!("cannot read standard input: {error}")))?;
    // The last character may have been cut, so this goes first.
    if bytes.len() as u64 >= STDIN_MAX {
        let message = format!("standard input has {STDIN_MAX} bytes or more, more than a text may have that is in no file");
        return Err(Error::new(Code::TOO_LARGE, message).hint("put it into a file, and send that"));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|error| usage(format!("standard input is no text: {}", error.utf8_error())))?;
    // The line break that `echo` adds is not part of what is said.
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() { Err(usage("standard input is empty")) } else { Ok(text) }
}

/// The message that the user means: a whole id, which need not be here, or a unique beginning of one that is.
pub(crate) async fn find(client: &Client, text: &str) -> Result<MessageId, Error> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => client.find_message(text).await,
    }
}

pub(crate) async fn history(args: HistoryArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    refresh(&client).await;
    let outcome = page_of(&client, &args).await.map_err(Failure::from);
    let messages = closed(&client, outcome).await?;
    print(&messages, session)
}

async fn page_of(client: &Client, args: &HistoryArgs) -> Result<Vec<Message>, Error> {
    let mut page = Page { limit: args.limit, ..Page::default() };
    for (bound, given) in [(&mut page.before, &args.before), (&mut page.after, &args.after)] {
        if let Some(given) = given {
            *bound = Some(find(client, given).await?);
        }
    }
    client.history(&args.to, page).await
}

/// `search`. Only what is here is searched, so the server is not waited for.
pub(crate) async fn search(args: SearchArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    let outcome = client.search(&args.text.join(" "), args.within.as_deref(), args.limit).await.map_err(Failure::from);
    let messages = closed(&client, outcome).await?;
    print(&messages, session)
}

fn print(messages: &[Message], session: &Session) -> Result<(), Failure> {
    if messages.is_empty() {
        session.output.note("no messages");
    }
    for message in messages {
        session.output.row(&MessageRow::from(message), |output| message_line(message, output))?;
    }
    Ok(())
}

pub(crate) async fn status(args: StatusArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    refresh(&client).await;
    let outcome = async { Ok::<_, Failure>(client.status(find(&client, &args.id).await?).await?) }.await;
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
    let text = shown_text(message, output);
    let group = message.group.as_ref().map(|group| format!("{} ", plain(group))).unwrap_or_default();
    if message.group.is_some() && message.kind == MessageKind::System {
        return format!("{} {group}{}", output.dim(&time), output.dim(&text));
    }
    format!("{} {group}{}{}: {text}", output.dim(&time), output.bold(&plain(&message.sender_name)), output.dim(&mark))
}

/// What a message says and what hangs on it, for people.
fn shown_text(message: &Message, output: &Output) -> String {
    if message.deleted {
        return output.dim("deleted");
    }
    let mut text = plain(&message.text).replace('\n', "\n    ");
    if let Some(file) = &message.file {
        let file = format!("[{}, {}]", plain(&file.name), files::size(file.size));
        text = if text.is_empty() { file } else { format!("{file} {text}") };
    }
    let mut notes = Vec::new();
    if let Some(id) = message.reply_to {
        notes.push(format!("answers {id}"));
    }
    if message.edited_ms.is_some() {
        notes.push("edited".to_owned());
    }
    if message.mentions_me {
        notes.push("mentions you".to_owned());
    }
    if let Some(name) = &message.shared_by_name {
        notes.push(format!("shared by {}", plain(name)));
    }
    if let Some(at) = message.expires_ms.and_then(Time::known) {
        notes.push(format!("until {}", at.short()));
    }
    if !notes.is_empty() {
        text += &output.dim(&format!(" ({})", notes.join(", ")));
    }
    for reaction in &message.reactions {
        text += &format!("\n    {} {}", plain(&reaction.emoji), output.dim(&plain(&reaction.from)));
    }
    text
}
