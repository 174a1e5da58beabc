//! Files that go to the server and come from it: what is to be done next, and what becomes of a message when it is done.
//!
//! A message with a file is in the history from the beginning and is encrypted when the server has the blob. Until then there is a
//! row in `uploads`. **No byte leaves before the blob's id is in that row**: the same key never seals two contents, even if the
//! file changes and the program is killed in between (see `parlour_e2ee::attachment`). A download has no row: what there is of it lies beside its
//! target under the name of the blob, and whoever asks again goes on with that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parlour_e2ee::attachment::{FileKey, Layout, Sealed};
use parlour_wire::{
    BlobId, Code, ConversationId, MessageId,
    content::{Attachment, Body, Content, safe_name},
};

use super::{
    Command, Core, Output, Reply, Ticket,
    compose::Post,
    import::NOWHERE,
    query::no_message,
    session::{Phase, Timer},
    transfer::{Fetch, LocalFile, Order, Outcome, TransferId, Transferred},
};
use crate::{
    api::{Draft, FileInfo, MessageKind, State},
    error::Error,
    event::Event,
    store::{Conversation, MessageRow, Upload},
};

/// Files that go up, or come down, at the same time. More would take from each other, and memory.
const AT_ONCE: usize = 2;
/// Pause after a failure that may pass.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before a server is asked again whose disk was full: somebody has to make room there.
const ROOM: Duration = Duration::from_secs(60);
/// Failures that are remembered for who asks late.
const FAILURES: usize = 64;

/// Files under way. Lost with the program and found again from the database.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Orders that the driver has.
    running: BTreeSet<TransferId>,
    /// What going over files gave.
    sealed: BTreeMap<MessageId, Arc<Sealed>>,
    downloads: BTreeMap<Ticket, Order>,
    failed: BTreeMap<MessageId, Error>,
}

impl Transfers {
    /// The driver does not have an order: it was taken back, or is done.
    pub(super) fn ended(&mut self, id: TransferId) {
        self.running.remove(&id);
    }

    /// Why a file was not sent.
    pub(super) fn failure(&self, message: &MessageId) -> Option<&Error> {
        self.failed.get(message)
    }
}

impl Core {
    /// Takes a message with a file from its writer.
    pub(super) fn send_file(&mut self, ticket: Ticket, to: String, draft: Draft, mut file: LocalFile) -> Result<(), Error> {
        self.signed_in()?;
        let layout = Layout::new(file.size)
            .map_err(|error| Error::new(error.code(), error.to_string()).hint("send it in parts, each as a file"))?;
        let again = Command::SendFile { to: to.clone(), draft: draft.clone(), file: file.clone() };
        let Some(target) = self.target(ticket, &to, again)? else { return Ok(()) };
        let conversation = self.conversation_of(target, draft.reply_to.as_ref())?;
        let name = safe_name(&file.path.file_name().unwrap_or_default().to_string_lossy());
        let attachment = Attachment {
            blob: NOWHERE,
            key: *FileKey::generate().as_bytes(),
            size: file.size,
            blob_size: layout.blob_size(),
            hash: [0; 32],
            content_type: content_type(&name).to_owned(),
            name,
            text: draft.text,
            thumbnail: file.thumbnail.take(),
        };
        let post = Post { in_reply_to: draft.reply_to, expires: draft.expires, ..Post::new(Body::Attachment(attachment)) };
        self.post_file(ticket, &conversation, post, |message| Upload { message, file, blob: None, whole: false })
    }

    /// Takes a message with a file that this profile has sealed.
    pub(super) fn send_kept(&mut self, ticket: Ticket, to: String, draft: Draft, attachment: Attachment) -> Result<(), Error> {
        self.signed_in()?;
        let kept = Box::new(attachment.clone());
        let again = Command::SendKept { to: to.clone(), draft: draft.clone(), attachment: kept };
        let Some(target) = self.target(ticket, &to, again)? else { return Ok(()) };
        let conversation = self.conversation_of(target, draft.reply_to.as_ref())?;
        let (blob, size) = (attachment.blob, attachment.size);
        let file = LocalFile { path: self.kept_path(&blob), size, modified_ns: 0, thumbnail: None };
        let post = Post { in_reply_to: draft.reply_to, expires: draft.expires, ..Post::new(Body::Attachment(attachment)) };
        let upload = |message| Upload { message, file, blob: Some(blob), whole: false };
        self.post_file(ticket, &conversation, post, upload)
    }

    fn post_file(
        &mut self,
        ticket: Ticket,
        conversation: &Conversation,
        post: Post,
        upload: impl FnOnce(MessageId) -> Upload,
    ) -> Result<(), Error> {
        let row = self.compose(conversation, post)?;
        // It waits for its blob; until then nobody encrypts it.
        self.store.set_sealed(&row.id, true)?;
        let upload = upload(row.id);
        if let Some(blob) = &upload.blob {
            self.store.keep_file(&row.id, blob)?;
        }
        self.store.add_upload(&upload)?;
        let message = self.shown_message(row, conversation)?;
        self.reply(ticket, Ok(Reply::Message(message)));
        Ok(())
    }

    /// Begins to bring a file here. The reply comes when it is on disk.
    pub(super) fn fetch_file(&mut self, ticket: Ticket, message: MessageId, fetch: Fetch) -> Result<(), Error> {
        self.signed_in()?;
        let row = self.store.message(&message)?.filter(|row| !row.hidden && !row.deleted);
        let row = row.ok_or_else(|| no_message(&format!("there is no message {message}")))?;
        let attachment = attachment_of(&row)
            .ok_or_else(|| Error::new(Code::FILE_NOT_FOUND, "the message carries no file").hint("`history` shows which do"))?;
        let kept = self.store.kept_file(&message)?.map(|blob| self.kept_path(&blob));
        if kept.is_none() && self.store.upload(&message)?.is_some_and(|upload| !upload.whole) {
            return Err(Error::new(Code::FILE_NOT_FOUND, "the file is not at the server yet; it lies where it was sent from"));
        }
        if kept.is_none() && row.state == State::Failed {
            return Err(Error::new(Code::FILE_NOT_FOUND, "the file was never sent; it lies where it was, if it is there at all"));
        }
        if attachment.blob == NOWHERE {
            return Err(Error::new(Code::FILE_NOT_FOUND, "the message was taken in from an export that did not hold its file"));
        }
        if fetch.limit.is_some_and(|limit| attachment.size > limit) {
            return Err(Error::new(
                Code::TOO_LARGE,
                format!("the file has {} bytes, which is more than wanted", attachment.size),
            )
            .hint("nothing was downloaded; give a higher limit to have it"));
        }
        if self.session.phase == Phase::Off && kept.is_none() {
            return Err(Error::new(Code::UNREACHABLE, "the server is not reachable, and the file is there")
                .hint("try again when the server can be reached; what is here already is kept"));
        }
        let Fetch { folder, name, force, .. } = fetch;
        // Reduced on arrival, and again here: nothing of a name that others chose leads out of the folder.
        let name = name.unwrap_or_else(|| safe_name(&attachment.name).into());
        let order = Order::Download { ticket, message, attachment: Box::new(attachment), folder, name, force, kept };
        self.transfers.downloads.insert(ticket, order);
        Ok(())
    }

    /// Gives the driver what it can do now.
    pub(super) fn pump_transfers(&mut self) -> Result<(), Error> {
        if self.session.transfers_rest {
            return Ok(());
        }
        let usable = self.session.is_usable();
        let going = |transfers: &Transfers, up: bool| {
            transfers.running.iter().filter(|id| matches!(id, TransferId::Upload(_)) == up).count()
        };
        let mut room = AT_ONCE.saturating_sub(going(&self.transfers, true));
        if room > 0 {
            let mut earlier = BTreeSet::new();
            for (upload, conversation) in self.store.uploads()? {
                let id = TransferId::Upload(upload.message);
                // Files of one conversation go up one after the other, so that they arrive in the order in which they were sent.
                let first = earlier.insert(conversation);
                let may = (usable && first && !self.session.no_room) || upload.blob.is_none();
                let can = room > 0 && may && !self.transfers.running.contains(&id);
                if can && let Some(order) = self.order_of(upload)? {
                    self.start(order);
                    room -= 1;
                }
            }
        }
        let room = AT_ONCE.saturating_sub(going(&self.transfers, false));
        let can = |order: &&Order| usable || matches!(order, Order::Download { kept: Some(_), .. });
        let waiting = self.transfers.downloads.values().filter(can);
        let waiting = waiting.filter(|order| !self.transfers.running.contains(&order.id()));
        for order in waiting.take(room).cloned().collect::<Vec<_>>() {
            self.start(order);
        }
        Ok(())
    }

    fn start(&mut self, order: Order) {
        self.transfers.running.insert(order.id());
        self.outputs.push(Output::Transfer(order));
    }

    /// What is to be done for an upload; nothing, and the row goes, if its message has been taken back.
    fn order_of(&mut self, upload: Upload) -> Result<Option<Order>, Error> {
        let Upload { message, mut file, blob, .. } = upload;
        let row = self.store.message(&message)?;
        let Some(attachment) = row.as_ref().filter(|row| !row.deleted).and_then(attachment_of) else {
            self.store.remove_upload(&message)?;
            return Ok(None);
        };
        let key = attachment.key;
        Ok(Some(match blob {
            None => Order::Seal { message, file, key },
            Some(blob) => {
                let sealed = self.transfers.sealed.get(&message).cloned();
                let kept = self.store.kept_file(&message)?.map(|blob| {
                    // The profile may lie elsewhere than when the message was written.
                    file.path = self.kept_path(&blob);
                    attachment.hash
                });
                Order::Upload { message, file, key, blob, sealed, kept }
            }
        }))
    }

    /// An order has come to its end.
    pub(super) fn transferred(&mut self, id: TransferId, outcome: Outcome) -> Result<(), Error> {
        self.transfers.ended(id);
        match (id, outcome) {
            (_, Err(error)) if error.is_transient() => {
                self.rest_transfers();
                Ok(())
            }
            (TransferId::Upload(message), Err(error)) if error.passes() => self.upload_later(&message, &error),
            (TransferId::Upload(message), Err(error)) if error.code == Code::FILE_NOT_FOUND => self.upload_forgotten(&message),
            (TransferId::Upload(message), Ok(Transferred::Sealed(sealed))) => {
                self.store.set_upload_blob(&message, &sealed.blob)?;
                self.transfers.sealed.insert(message, sealed);
                Ok(())
            }
            (TransferId::Upload(message), Ok(Transferred::Uploaded { hash })) => self.uploaded(&message, hash),
            (TransferId::Upload(message), Err(error)) => self.upload_failed(&message, error),
            (TransferId::Download(ticket), outcome) => {
                if self.transfers.downloads.remove(&ticket).is_some() {
                    let reply = outcome.and_then(|done| match done {
                        Transferred::Fetched(fetched) => Ok(Reply::Fetched(fetched)),
                        other => Err(Error::internal(format!("a download came to {other:?}"))),
                    });
                    self.reply(ticket, reply);
                }
                Ok(())
            }
            (_, Ok(other)) => Err(Error::internal(format!("an upload came to {other:?}"))),
        }
    }

    fn rest_transfers(&mut self) {
        self.session.transfers_rest = true;
        self.set_timer(Timer::Transfers, RETRY);
    }

    fn upload_later(&mut self, message: &MessageId, error: &Error) -> Result<(), Error> {
        if error.code != Code::DISK_FULL {
            self.rest_transfers();
            return Ok(());
        }
        self.server_is_full();
        // What waits for the file to go out before it waits no longer.
        self.session.dirty.extend(self.store.message(message)?.map(|row| row.conversation));
        Ok(())
    }

    /// The server has no room on its disk. Whatever goes up waits, and that is told once.
    pub(super) fn server_is_full(&mut self) {
        self.session.no_room = true;
        self.set_timer(Timer::Room, ROOM);
        if !std::mem::replace(&mut self.session.no_room_told, true) {
            let message = "the disk of the server is full; files and histories wait here until it has room";
            self.trouble(Error::new(Code::DISK_FULL, message).hint("tell who runs the server"));
        }
    }

    /// It may have room again.
    pub(super) fn look_for_room(&mut self) -> Result<(), Error> {
        self.session.no_room = false;
        self.pump_parcels()
    }

    /// The server no longer knows of an upload that was under way, so it is begun again: from where the server has it, if it has any.
    fn upload_forgotten(&mut self, message: &MessageId) -> Result<(), Error> {
        if self.gone_too_often(message) {
            return self.upload_failed(message, not_kept());
        }
        self.rest_transfers();
        Ok(())
    }

    /// The server has the blob: the message that names it can go out.
    fn uploaded(&mut self, message: &MessageId, hash: [u8; 32]) -> Result<(), Error> {
        let Some(Upload { blob: Some(blob), .. }) = self.store.upload(message)? else { return Ok(()) };
        self.store.set_upload_whole(message, true)?;
        self.session.no_room_told = false;
        self.transfers.sealed.remove(message);
        let Some(row) = self.store.message(message)?.filter(|row| !row.deleted) else { return Ok(()) };
        let Some(bytes) = &row.content else { return Ok(()) };
        let mut content = Content::from_bytes(bytes).map_err(Error::internal)?;
        let Body::Attachment(attachment) = &mut content.body else { return Ok(()) };
        (attachment.blob, attachment.hash) = (blob, hash);
        let bytes = content.to_bytes().map_err(Error::internal)?;
        self.store.set_content(message, Some(&bytes))?;
        self.store.set_sealed(message, false)?;
        self.session.dirty.insert(row.conversation);
        Ok(())
    }

    /// The server does not have the file any more, for it keeps what no message names for a while only: it goes up once more, and its
    /// message after it. Whether it is known what to send.
    pub(super) fn upload_again(&mut self, message: &MessageId) -> Result<bool, Error> {
        if self.store.upload(message)?.is_none() {
            return Ok(false);
        }
        self.store.set_upload_whole(message, false)?;
        self.store.set_sealed(message, true)?;
        Ok(true)
    }

    /// The file will never be at the server, so nobody gets its message. It stays here, to show what was not sent.
    pub(super) fn upload_failed(&mut self, message: &MessageId, error: Error) -> Result<(), Error> {
        self.store.remove_upload(message)?;
        self.transfers.sealed.remove(message);
        self.message_failed(message, error)
    }

    /// The message will never be at the server, so nobody gets it: shown as failed, with the reason told to who wrote it.
    pub(super) fn message_failed(&mut self, message: &MessageId, error: Error) -> Result<(), Error> {
        let Some(row) = self.store.message(message)?.filter(|row| !row.deleted) else { return Ok(()) };
        let what = attachment_of(&row).map_or_else(|| "a message".to_owned(), |file| format!("the file {}", file.name));
        let to = self.store.conversation(&row.conversation)?.map(|it| self.title(&it)).transpose()?.unwrap_or_default();
        let error = Error { message: format!("{what} was not sent to {to}: {}", error.message), ..error };
        self.store.set_failed(message)?;
        self.changed(message)?;
        // What waits for it goes on, as a leave of that conversation.
        self.session.dirty.insert(row.conversation);
        if self.transfers.failed.len() >= FAILURES {
            self.transfers.failed.pop_first();
        }
        self.transfers.failed.insert(*message, error.clone());
        let states = std::mem::take(&mut self.waiters.states);
        let (over, waiting): (Vec<_>, Vec<_>) = states.into_iter().partition(|(_, waited, _)| waited == message);
        self.waiters.states = waiting;
        for (ticket, _, _) in over {
            self.reply(ticket, Err(error.clone()));
        }
        self.event(Event::MessageFailed { id: *message, error: error.clone() });
        self.trouble(error);
        Ok(())
    }

    /// The writer takes back a message whose file is still going up; whether it was such a message.
    pub(super) fn drop_upload(&mut self, message: &MessageId) -> Result<bool, Error> {
        let there = self.store.upload(message)?.is_some_and(|upload| !upload.whole);
        self.store.remove_upload(message)?;
        if there {
            self.session.dirty.extend(self.store.message(message)?.map(|row| row.conversation));
            self.transfers.sealed.remove(message);
            self.outputs.push(Output::StopTransfer(TransferId::Upload(*message)));
            self.transfers.ended(TransferId::Upload(*message));
        }
        Ok(there)
    }

    fn kept_path(&self, blob: &BlobId) -> PathBuf {
        self.profile.files.join(blob.to_string())
    }

    /// A message is about to go, and with it its file if this profile keeps it.
    pub(super) fn erase_kept(&mut self, message: &MessageId) -> Result<(), Error> {
        if let Some(blob) = self.store.kept_file(message)? {
            self.outputs.push(Output::Erase(self.kept_path(&blob)));
        }
        Ok(())
    }

    /// The same for all messages of a conversation.
    pub(super) fn erase_kept_of(&mut self, conversation: &ConversationId) -> Result<(), Error> {
        let kept = self.store.kept_files_of(conversation)?;
        self.outputs.extend(kept.iter().map(|blob| Output::Erase(self.kept_path(blob))).collect::<Vec<_>>());
        Ok(())
    }

    /// Nobody waits for a download any longer.
    pub(super) fn abandon_download(&mut self, ticket: Ticket) {
        if self.transfers.downloads.remove(&ticket).is_some() {
            self.transfers.ended(TransferId::Download(ticket));
            self.outputs.push(Output::StopTransfer(TransferId::Download(ticket)));
        }
    }

    /// The link will not come back: downloads end.
    pub(super) fn fail_downloads(&mut self, error: &Error) {
        for ticket in self.transfers.downloads.keys().copied().collect::<Vec<_>>() {
            self.abandon_download(ticket);
            self.reply(ticket, Err(error.clone()));
        }
    }
}

/// The server has been sent a file too often for it to be lost by chance.
pub(super) fn not_kept() -> Error {
    Error::new(Code::SERVER_MISBEHAVED, "the server takes the file and does not have it afterwards")
}

/// The file that a message carries.
pub(super) fn attachment_of(row: &MessageRow) -> Option<Attachment> {
    if row.kind != MessageKind::File {
        return None;
    }
    match Content::from_bytes(row.content.as_deref()?).ok()?.body {
        Body::Attachment(attachment) => Some(attachment),
        _ => None,
    }
}

/// The same as it is shown.
pub(super) fn file_info(row: &MessageRow, kept: bool) -> Option<FileInfo> {
    let Attachment { name, size, content_type, thumbnail, .. } = attachment_of(row)?;
    Some(FileInfo { name, size, content_type, thumbnail, kept })
}

/// What a name's ending says about a file: a hint for who shows it, and nothing is decided by it.
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match &*ending {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}
