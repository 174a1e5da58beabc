//! Writing an archive: a conversation or a whole profile, as JSON Lines that need no Parlour to be read.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use parlour_client::{Client, Code, ConversationSummary, Error, MessageId, Page};
use serde::Serialize;
use serde_json::json;

use super::{
    CONVERSATIONS, FILES, MESSAGES,
    row::{ConversationLine, MessageLine},
};
use crate::cli::{
    args::ExportArgs,
    errors::Failure,
    messages::refresh,
    profile::{Session, closed},
};

/// Messages read from the database at a time.
const PAGE: u32 = 1000;

const README: &str = "\
This folder was written by `parlour export`. Everything in it is plain text: keep it where nobody else can read it.

conversations.jsonl   one JSON object per line for each conversation: its id, whether it is direct or a group, its name
messages.jsonl        one JSON object per line for each message, conversation by conversation, oldest first
files/                attachments that were on this machine, named by the id of their message

Keys of a message: id; conversation; with (the other person, or #group); from; outgoing (you wrote it); kind (text, file, system:
said by the program, unknown: of a kind that this version cannot show); text (CommonMark); sent_at and stored_at (RFC 3339, UTC);
reply_to (id of the message that it answers); state; edited_at; deleted; expires_at; reactions (emoji, from). The keys that end in
`account` name people by the hash of their public key, which does not change when they change their name.

`parlour import DIR` takes the messages into a profile.
";

pub(crate) async fn export(args: ExportArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    refresh(&client).await;
    let outcome = write_all(&client, &args).await;
    let messages = closed(&client, outcome).await?;
    let row = json!({"messages": messages, "files": 0, "path": args.output});
    session.output.row(&row, |_| format!("{messages} messages are in {}", args.output.display()))
}

async fn write_all(client: &Client, args: &ExportArgs) -> Result<u64, Failure> {
    let mut conversations = client.conversations().await?;
    if let Some(to) = &args.to {
        let wanted = client.conversation_with(to).await?;
        conversations.retain(|it| it.conversation == wanted);
    }
    make_folder(&args.output)?;
    fs::write(args.output.join("README.txt"), README)?;
    let mut lines = create(&args.output.join(CONVERSATIONS))?;
    for conversation in &conversations {
        line(&mut lines, &ConversationLine::from(conversation))?;
    }
    finish(lines)?;
    let mut lines = create(&args.output.join(MESSAGES))?;
    let mut count = 0;
    for conversation in &conversations {
        count += write_messages(client, conversation, &mut lines).await?;
    }
    finish(lines)?;
    Ok(count)
}

/// Writes a conversation from its beginning; what comes while this runs comes last.
async fn write_messages(client: &Client, conversation: &ConversationSummary, lines: &mut Lines) -> Result<u64, Failure> {
    let (mut last, mut count) = (first(client, conversation, lines).await?, 0);
    count += u64::from(last.is_some());
    while let Some(after) = last {
        let page = Page { limit: PAGE, after: Some(after), before: None };
        let messages = client.history_of(conversation.conversation, page).await?;
        for message in &messages {
            line(lines, &MessageLine::from(message))?;
        }
        count += messages.len() as u64;
        last = messages.last().map(|message| message.id);
    }
    Ok(count)
}

/// Writes the oldest message, by going back page by page from the newest.
async fn first(client: &Client, conversation: &ConversationSummary, lines: &mut Lines) -> Result<Option<MessageId>, Failure> {
    let mut oldest = None;
    let mut before = None;
    loop {
        let page = Page { limit: PAGE, before, after: None };
        let messages = client.history_of(conversation.conversation, page).await?;
        let Some(message) = messages.into_iter().next() else { break };
        before = Some(message.id);
        oldest = Some(message);
    }
    if let Some(message) = &oldest {
        line(lines, &MessageLine::from(message))?;
    }
    Ok(oldest.map(|message| message.id))
}

type Lines = BufWriter<File>;

fn line(lines: &mut Lines, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, row)?;
    lines.write_all(b"\n")
}

fn finish(lines: Lines) -> io::Result<()> {
    lines.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Files that only their owner reads: they hold in the clear what the profile keeps encrypted.
fn create(path: &Path) -> io::Result<Lines> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map(BufWriter::new)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::new(Code::ALREADY_EXISTS, format!("{} is not empty; nothing was written", path.display())).into());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(FILES))?;
    Ok(())
}
