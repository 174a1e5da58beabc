//! Writing an archive: a conversation or a whole profile, as JSON Lines that need no Parlour to be read.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_client::{AccountId, Client, Code, ConversationSummary, Error, FetchOptions, Message, MessageId, Page};
use serde::Serialize;
use serde_json::json;

use super::{
    CONTACTS, CONVERSATIONS, FILES, MESSAGES, PROFILE,
    row::{ContactLine, ConversationLine, MessageLine, OwnerLine},
};
use crate::cli::{
    args::ExportArgs,
    errors::Failure,
    messages::refresh,
    profile::{CONNECT, Session, closed, try_online},
};

/// Messages read from the database at a time.
const PAGE: u32 = 1000;
/// How long one file may take: the largest at a slow server.
const STALLED: Duration = Duration::from_secs(3600);

const README: &str = "\
This folder was written by `parlour export`. Everything in it is plain text: keep it where nobody else can read it.

profile.json          your name, account and settings; in an export of everything
contacts.jsonl        one JSON object per line for each contact: name, account, petname, whether blocked, whether you had compared the
                      safety number, what they say about themselves; in an export of one conversation of those in it
conversations.jsonl   one JSON object per line for each conversation: its id, whether it is direct or a group, its name
messages.jsonl        one JSON object per line for each message, conversation by conversation, oldest first
files/                the files of messages, named by the id of their message and their own name

Keys of a message: id; conversation; with (the other person, or #group); from; outgoing (you wrote it); kind (text, file, system:
said by the program, unknown: of a kind that this version cannot show); text (CommonMark); sent_at and stored_at (RFC 3339, UTC);
reply_to (id of the message that it answers); state; edited_at; deleted; expires_at; reactions (emoji, from); file (name, size,
content_type, blake3 of its bytes, path below this folder; without a path: missing says why); shared_by (the member of the group
that passed it on to you, who were not there when it was written). The keys that end in
`account` name people by the hash of their public key, which does not change when they change their name.

`parlour import DIR` takes messages, their files, petnames and blocks into a profile. What else is above is for you to read.
";

pub(crate) async fn export(args: ExportArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    // Files come from the server; without it the export says which it lacks.
    let reached = matches!(try_online(&client, CONNECT).await, Ok(None));
    refresh(&client).await;
    let outcome = write_all(&client, &args, reached).await;
    let Count { messages, files, missing } = closed(&client, outcome).await?;
    let row = json!({"messages": messages, "files": files, "files_missing": missing, "path": args.output});
    session.output.row(&row, |_| {
        let lacking = if missing == 0 {
            String::new()
        } else {
            format!(", {missing} files could not be had; the lines of their messages say why")
        };
        format!("{messages} messages and {files} files are in {}{lacking}", args.output.display())
    })
}

/// What has been written.
#[derive(Default)]
struct Count {
    messages: u64,
    files: u64,
    missing: u64,
}

/// Where messages are written, and their files.
struct Archive<'a> {
    client: &'a Client,
    lines: Lines,
    /// The folder of the files, if they are wanted.
    files: Option<PathBuf>,
    /// The server can be asked for files.
    reached: bool,
    /// Whom messages name.
    people: BTreeSet<AccountId>,
    count: Count,
}

impl Archive<'_> {
    /// Writes a message, its file first.
    async fn message(&mut self, message: &Message) -> Result<(), Failure> {
        let mut row = MessageLine::from(message);
        if let (Some(file), Some(folder)) = (&mut row.file, &self.files) {
            let kept = message.file.as_ref().is_some_and(|file| file.kept);
            let name = format!("{}-{}", message.id, file.name);
            let options = FetchOptions { output: Some(folder.join(&name)), ..FetchOptions::default() };
            let fetch = self.client.fetch_file(message.id, options);
            let patience = if self.reached || kept { STALLED } else { Duration::ZERO };
            match tokio::time::timeout(patience, fetch).await {
                Ok(Ok(fetched)) => {
                    file.path = Some(format!("{FILES}/{name}"));
                    file.blake3 = Some(hex::encode(fetched.hash));
                    self.count.files += 1;
                }
                // Nothing that is written after it would fare better.
                Ok(Err(error)) if error.code == Code::DISK_FULL => return Err(error.into()),
                Ok(Err(error)) => file.missing = Some(error.message),
                Err(_) => file.missing = Some("the server did not give it in time".to_owned()),
            }
            self.count.missing += u64::from(file.path.is_none());
        }
        self.people.extend([message.sender].into_iter().chain(message.peer).chain(message.shared_by));
        self.people.extend(message.reactions.iter().map(|reaction| reaction.account));
        self.count.messages += 1;
        Ok(line(&mut self.lines, &row)?)
    }
}

async fn write_all(client: &Client, args: &ExportArgs, reached: bool) -> Result<Count, Failure> {
    let mut conversations = client.conversations().await?;
    if let Some(to) = &args.to {
        let wanted = client.conversation_with(to).await?;
        conversations.retain(|it| it.conversation == wanted);
    }
    make_folder(&args.output)?;
    fs::write(args.output.join("README.txt"), README)?;
    if args.to.is_none() {
        write_owner(client, &args.output).await?;
    }
    let mut lines = create(&args.output.join(CONVERSATIONS))?;
    for conversation in &conversations {
        line(&mut lines, &ConversationLine::from(conversation))?;
    }
    finish(lines)?;
    let lines = create(&args.output.join(MESSAGES))?;
    let files = (!args.no_files).then(|| args.output.join(FILES));
    let mut archive = Archive { client, lines, files, reached, people: BTreeSet::new(), count: Count::default() };
    for conversation in &conversations {
        write_messages(&mut archive, conversation).await?;
    }
    finish(archive.lines)?;
    write_contacts(client, &args.output, args.to.is_some().then_some(&archive.people)).await?;
    Ok(archive.count)
}

/// Writes whose profile it is.
async fn write_owner(client: &Client, folder: &Path) -> Result<(), Failure> {
    let who = client.whoami().await.ok_or_else(|| Error::new(Code::PROFILE_NOT_FOUND, "the profile has no account"))?;
    let (profile, settings) = (client.profile(None).await?, client.settings().await?);
    let mut lines = create(&folder.join(PROFILE))?;
    let owner = OwnerLine {
        name: who.name,
        account: who.account.to_string(),
        display_name: profile.display_name,
        status: profile.status,
        read_receipts: settings.read_receipts,
        delivery_receipts: settings.delivery_receipts,
    };
    line(&mut lines, &owner)?;
    Ok(finish(lines)?)
}

/// Writes whom the profile knows, of all or of these.
async fn write_contacts(client: &Client, folder: &Path, only: Option<&BTreeSet<AccountId>>) -> Result<(), Failure> {
    let mut lines = create(&folder.join(CONTACTS))?;
    let contacts = client.contacts().await?.into_iter();
    for contact in contacts.filter(|contact| only.is_none_or(|only| only.contains(&contact.account))) {
        line(&mut lines, &ContactLine::from(&contact))?;
    }
    Ok(finish(lines)?)
}

/// Writes a conversation from its beginning; what comes while this runs comes last.
async fn write_messages(archive: &mut Archive<'_>, conversation: &ConversationSummary) -> Result<(), Failure> {
    let mut last = first(archive, conversation).await?;
    while let Some(after) = last {
        let page = Page { limit: PAGE, after: Some(after), before: None };
        let messages = archive.client.history_of(conversation.conversation, page).await?;
        for message in &messages {
            archive.message(message).await?;
        }
        last = messages.last().map(|message| message.id);
    }
    Ok(())
}

/// Writes the oldest message, by going back page by page from the newest.
async fn first(archive: &mut Archive<'_>, conversation: &ConversationSummary) -> Result<Option<MessageId>, Failure> {
    let mut oldest = None;
    let mut before = None;
    loop {
        let page = Page { limit: PAGE, before, after: None };
        let messages = archive.client.history_of(conversation.conversation, page).await?;
        let Some(message) = messages.into_iter().next() else { break };
        before = Some(message.id);
        oldest = Some(message);
    }
    if let Some(message) = &oldest {
        archive.message(message).await?;
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
        let error = Error::new(Code::ALREADY_EXISTS, format!("{} is not empty; nothing was written", path.display()));
        return Err(error.hint("name a folder that is empty or does not exist yet").into());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(FILES))?;
    Ok(())
}
