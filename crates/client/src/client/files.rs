//! Files, for callers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use parlour_wire::{
    Code, MessageId,
    content::{Attachment, safe_name},
    limits,
};

use super::Client;
use crate::{
    api::{Draft, FetchOptions, Fetched, Imported, Message, Preview},
    core::{Command, Fetch, LocalFile, Reply},
    error::Error,
    run,
};

impl Client {
    /// Sends a file, with the text of `draft` beside it. When this returns, the message is safe on disk; the file is read from where it
    /// lies when the server can be reached, also after a restart, and the message goes out when the server has it whole. A file
    /// that changes before that is not sent ([`Self::wait_state`] fails with `source_changed`).
    ///
    /// [`crate::Event::FileProgress`] tells how far it is.
    ///
    /// # Errors
    /// `file_not_found`, `path_refused` for what is no file, `too_large`; and those of [`Self::send`].
    pub async fn send_file(&self, to: &str, path: &Path, preview: Preview, draft: Draft) -> Result<Message, Error> {
        let path = path.to_owned();
        let mut file = run::blocking(move || local_file(&path)).await?;
        if preview == Preview::Thumbnail {
            let (path, size) = (file.path.clone(), file.size);
            // A picture that brings its decoder down has no thumbnail.
            file.thumbnail = run::blocking(move || Ok(run::thumbnail(&path, size))).await.unwrap_or_default();
        }
        let command = Command::SendFile { to: to.to_owned(), draft, file };
        reply!(self.ask(command).await, Reply::Message(message) => message)
    }

    /// Brings the file of a message here: into a file beside its target, which is checked, put on disk and renamed. Dropping the future stops
    /// it; what is there is kept, and the next call with the same folder goes on with it. A lost link is waited for.
    ///
    /// # Errors
    /// `message_not_found`; `file_not_found`, also if the server does not have it any more; `file_exists` without `force`; `too_large` above the
    /// limit; `hash_mismatch` and `size_mismatch` for what is not the file that was sent; `disk_full`, `unreachable`.
    pub async fn fetch_file(&self, id: MessageId, options: FetchOptions) -> Result<Fetched, Error> {
        let fetch = run::blocking(move || place(options)).await?;
        reply!(self.ask(Command::FetchFile { id, fetch }).await, Reply::Fetched(fetched) => fetched)
    }
}

/// Longest text that is sent as a file of its own accord, in bytes. It is in memory as a whole, several times over.
const LONG_TEXT: usize = 16 << 20;
/// So much of it stands beside the file, in bytes: enough to see what it is.
const BEGINNING: usize = 500;

/// Writes a text that no message holds. It lies in no file of its owner's, so the profile keeps it, sealed, and it goes out from there.
pub(super) async fn write_long(client: &Client, to: &str, draft: Draft) -> Result<Message, Error> {
    let Draft { text, reply_to, expires } = draft;
    let size = text.len();
    if size > LONG_TEXT {
        let message = format!("the text has {size} bytes; one that is not in a file may have {LONG_TEXT}");
        return Err(Error::new(Code::TOO_LARGE, message).hint("put it into a file, and send that"));
    }
    let named = Attachment { text: format!("{} …", beginning(&text)), ..run::named("text/markdown", "message.md".to_owned()) };
    let (folder, draft) = (client.driver.files.clone(), Draft { text: String::new(), reply_to, expires });
    let attachment = Box::new(run::blocking(move || run::keep_text(&text, &folder, named)).await?);
    let kept = client.driver.files.join(attachment.blob.to_string());
    let command = Command::SendKept { to: to.to_owned(), draft, attachment };
    let reply = client.ask(command).await;
    // The core refused it. When it has gone, or nobody waits for its reply, there may be a message; if there is none, the file goes when
    // the profile is opened again.
    if reply.as_ref().is_err_and(|error| error.code != Code::CANCELLED) {
        run::blocking(move || {
            run::erase(&kept);
            Ok(())
        })
        .await?;
    }
    reply!(reply, Reply::Message(message) => message)
}

/// What stands beside a text that is a file. It ends with a word, so that a cut name is not somebody else's.
fn beginning(text: &str) -> &str {
    let head = &text[..text.floor_char_boundary(BEGINNING)];
    if text[head.len()..].starts_with(char::is_whitespace) {
        return head.trim_end();
    }
    // Where no spaces are written, a name is still told by its sign. What is longer than any name is cut anywhere.
    let end = head.rfind(|c: char| c.is_whitespace() || c == '@');
    let end = end.filter(|end| head.len() - end <= 1 + 2 * limits::NAME);
    head[..end.unwrap_or(head.len())].trim_end()
}

/// Copies the files of messages that are to be taken in and are not here yet into the profile.
pub(super) async fn keep(client: &Client, messages: &[Imported]) -> Result<BTreeMap<MessageId, Attachment>, Error> {
    let with_file = messages.iter().filter_map(|it| Some((it.id, it.file.as_ref()?, it.file.as_ref()?.source.as_ref()?)));
    let ids = with_file.clone().map(|(id, ..)| id).collect();
    let missing = reply!(client.ask(Command::Missing(ids)).await, Reply::Ids(ids) => ids)?;
    let mut kept = BTreeMap::new();
    for (id, file, source) in with_file.filter(|(id, ..)| missing.contains(id)) {
        let source = source.clone();
        let local = run::blocking(move || local_file(&source)).await?;
        let named = run::named(&file.content_type, safe_name(&file.name));
        kept.insert(id, run::keep(local, client.driver.files.clone(), named).await?);
    }
    Ok(kept)
}

fn local_file(path: &Path) -> Result<LocalFile, Error> {
    let failed = |error: std::io::Error| run::file_error("read", path, &error);
    let no_file =
        || Error::new(Code::PATH_REFUSED, format!("{} is not a file", path.display())).hint("pack a folder into one file");
    // What cannot even be opened, such as a socket, is not a file either.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(no_file());
    }
    // Opened once now, so that a file that may not be read is refused here and not later.
    let metadata = run::open_at_once(path).and_then(|file| file.metadata()).map_err(failed)?;
    if !metadata.is_file() {
        return Err(no_file());
    }
    let path = std::path::absolute(path).map_err(failed)?;
    Ok(LocalFile { path, size: metadata.len(), modified_ns: run::modified_ns(&metadata), thumbnail: None })
}

/// The folder and, if it is chosen here, the name that a file goes to.
fn place(options: FetchOptions) -> Result<Fetch, Error> {
    let FetchOptions { output, force, limit } = options;
    let output = output.unwrap_or_else(|| PathBuf::from("."));
    let failed = |error: std::io::Error| run::file_error("write to", &output, &error);
    let (folder, name) = if output.is_dir() {
        (output.clone(), None)
    } else {
        let name =
            output.file_name().ok_or_else(|| Error::new(Code::PATH_REFUSED, format!("{} names no file", output.display())))?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (folder.to_owned(), Some(name.to_owned()))
    };
    let folder = std::fs::canonicalize(folder).map_err(failed)?;
    Ok(Fetch { folder, name, force, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_text_ends_with_a_word() {
        let words = format!("{} @bobby and so on", "x".repeat(BEGINNING - 5));
        assert_eq!(beginning(&words), "x".repeat(BEGINNING - 5), "not @bob");
        let whole = format!("{} @bob and so on", "x".repeat(BEGINNING - 5));
        assert_eq!(beginning(&whole), format!("{} @bob", "x".repeat(BEGINNING - 5)));
        assert_eq!(beginning(&"x".repeat(BEGINNING + 1)), "x".repeat(BEGINNING), "one long word");
        let signs = "梨".repeat(BEGINNING);
        assert_eq!(beginning(&signs), "梨".repeat(BEGINNING / 3));
        assert_eq!(beginning(&format!("梨 {signs}")).len(), 499, "a title does not stand alone");
        assert_eq!(beginning(&format!("{}，@bobby", "梨".repeat(164))), format!("{}，", "梨".repeat(164)));
        assert_eq!(beginning(&format!("{}\n\n\nword", "x ".repeat(249))), "x ".repeat(249).trim_end());
    }
}
