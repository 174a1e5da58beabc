//! `send --file`, `file get`, and the bar that shows how far a file is.

use std::{
    cell::RefCell,
    fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use parlour_client::{
    Client, Code, Draft, Error, Event, Events, FetchOptions, Fetched, FileInfo, Message, MessageId, Preview, State,
};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::{
    args::{FileAction, FileArgs, FileGetArgs},
    errors::Failure,
    messages::find,
    output::{Output, plain, seconds},
    profile::{Session, closed, try_online},
};

/// `file get`.
#[derive(Serialize)]
struct FetchedRow {
    path: PathBuf,
    size: u64,
    /// BLAKE3, hex.
    blake3: String,
}

pub(crate) async fn file(args: FileArgs, session: &Session) -> Result<(), Failure> {
    let FileAction::Get(args) = args.action;
    let client = session.open()?;
    let outcome = if args.thumbnail { thumbnail(&client, args).await } else { get(&client, args, &session.output).await };
    let outcome = outcome.map_err(Failure::from);
    let Fetched { path, size, hash } = closed(&client, outcome).await?;
    let row = FetchedRow { path, size, blake3: hex::encode(hash) };
    session.output.row(&row, |output| {
        format!("{} {}", plain(&row.path.display().to_string()), output.dim(&format!("{size} bytes, BLAKE3 {}", row.blake3)))
    })
}

/// The size in bytes above which a person at a terminal is asked first.
const ASK_ABOVE: u64 = 100_000_000;

/// Asks whether a large file is wanted: somebody else chose its size. A program says so beforehand, with `--limit`.
fn agreed(file: &FileInfo, args: &FileGetArgs) -> Result<(), Error> {
    let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !somebody || args.yes || args.limit.is_some() || file.size <= ASK_ABOVE {
        return Ok(());
    }
    // Where nothing can be written nothing can be read either: the answer is no.
    let _ = write!(io::stderr(), "{} has {}. Download it? [y/N] ", plain(&file.name), size(file.size));
    let mut answer = String::new();
    let _ = io::stdin().lock().take(16).read_line(&mut answer);
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::new(Code::CANCELLED, "nothing was downloaded").hint("`--yes` does not ask"))
}

/// Writes the small picture that came with a message.
async fn thumbnail(client: &Client, args: FileGetArgs) -> Result<Fetched, Error> {
    let id = find(client, &args.id).await?;
    let file = client.message(id).await?.file;
    let file =
        file.ok_or_else(|| Error::new(Code::FILE_NOT_FOUND, "the message carries no file").hint("`history` shows which do"))?;
    let bytes = file.thumbnail.ok_or_else(|| {
        Error::new(Code::FILE_NOT_FOUND, "no small picture came with the file").hint("leave out --thumbnail for the file itself")
    })?;
    let name = format!("{}.thumbnail.{}", file.name, ending(&bytes));
    let output = args.output.unwrap_or_default();
    let path = if output.as_os_str().is_empty() || output.is_dir() { output.join(name) } else { output };
    let mut options = fs::OpenOptions::new();
    let options = if args.force { options.write(true).create(true).truncate(true) } else { options.write(true).create_new(true) };
    let written = options.open(&path).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(Code::FILE_EXISTS, format!("{} is there already", path.display()))
            .hint("name another file, or replace it with --force"),
        _ => Error::new(Code::READ_ONLY, format!("cannot write {}: {error}", path.display())).hint("name another place"),
    })?;
    Ok(Fetched { path, size: bytes.len() as u64, hash: *blake3::hash(&bytes).as_bytes() })
}

/// What a picture begins with says which it is.
fn ending(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        _ => "jpg",
    }
}

async fn get(client: &Client, args: FileGetArgs, output: &Output) -> Result<Fetched, Error> {
    let id = find(client, &args.id).await?;
    let file = client.message(id).await?.file;
    if let Some(file) = &file {
        agreed(file, &args)?;
    }
    let mut events = client.events();
    if !file.is_some_and(|file| file.kept)
        && let Some(reason) = try_online(client, args.timeout).await?
    {
        return Err(Error::new(Code::UNREACHABLE, format!("the server has the file and was not reached ({})", reason.message)));
    }
    let options = FetchOptions { output: args.output, force: args.force, limit: args.limit };
    let work = client.fetch_file(id, options);
    let what = "the file came no further; what is there is kept, and the same command goes on with it";
    watched(work, &mut events, id, args.timeout, what, output).await
}

/// Sends the files of a message, the text beside the first, and notes each when it is on disk.
pub(crate) async fn send(
    client: &Client,
    to: &str,
    files: &[PathBuf],
    preview: Preview,
    mut draft: Draft,
    written: &RefCell<Vec<Message>>,
) -> Result<(), Error> {
    for file in files {
        let message = client.send_file(to, file, preview, draft.clone()).await?;
        written.borrow_mut().push(message);
        draft.text.clear();
    }
    Ok(())
}

/// Waits until a message with a file has come as far as `state`, for as long as its file goes on.
pub(crate) async fn wait_state(
    client: &Client,
    events: &mut Events,
    id: MessageId,
    state: State,
    timeout: Duration,
    output: &Output,
) -> Result<State, Error> {
    let work = client.wait_state(id, state, FOR_EVER);
    watched(
        work,
        events,
        id,
        timeout,
        "the file came no further; it goes on while a command is online, and `parlour recv --follow` stays",
        output,
    )
    .await
}

/// Longer than anybody waits; the end comes from the time without progress.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Does some work with a file for as long as it makes progress, and shows that.
async fn watched<T>(
    work: impl Future<Output = Result<T, Error>>,
    events: &mut Events,
    id: MessageId,
    timeout: Duration,
    what: &str,
    output: &Output,
) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    let mut bar = Bar::new(output);
    let mut over = Box::pin(sleep_until(Instant::now() + timeout));
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            () = &mut over => return Err(Error::new(Code::TIMED_OUT, format!("after {} without progress: {what}", seconds(timeout)))),
            event = events.next() => match event {
                Some(Event::FileProgress { message, done, total, .. }) if message == id => {
                    over.as_mut().reset(Instant::now() + timeout);
                    bar.show(done, total);
                }
                Some(_) => {}
                None => return Err(Error::new(Code::INTERNAL, "the client has stopped")),
            },
        }
    }
}

/// A line on standard error that shows how far a file is; on a terminal, to people.
struct Bar {
    wanted: bool,
    shown: Option<u64>,
}

const WIDTH: u64 = 30;

impl Bar {
    fn new(output: &Output) -> Self {
        Self { wanted: !output.json && io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, done: u64, total: u64) {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        if self.wanted && self.shown != Some(percent) {
            self.shown = Some(percent);
            // Nobody is left to see a bar on a standard error that is closed.
            let _ = write!(io::stderr(), "\r{}", line(percent, total));
        }
    }
}

fn line(percent: u64, total: u64) -> String {
    let full = (percent * WIDTH / 100) as usize;
    format!("[{}{}] {percent:3} % of {}", "#".repeat(full), " ".repeat(WIDTH as usize - full), size(total))
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KB", "MB"] {
        if value < 1000.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_say_them() {
        for (bytes, said) in [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 KB"), (10_485_760, "10.5 MB"), (4 << 30, "4.3 GB")]
        {
            assert_eq!(size(bytes), said);
        }
    }

    #[test]
    fn a_bar_fills() {
        assert_eq!(line(0, 1000), format!("[{}]   0 % of 1.0 KB", " ".repeat(30)));
        assert_eq!(line(100, 1000), format!("[{}] 100 % of 1.0 KB", "#".repeat(30)));
    }
}
