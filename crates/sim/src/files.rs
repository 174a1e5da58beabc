//! Files, in wide histories: people send and fetch them, and what the driver of a client does with them is done here, in the time of the
//! simulation and over its links.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use parlour_client::{
    Draft, Error, Fetched,
    core::{Command, Fetch, Input, LocalFile, Order, Outcome, Reply, Ticket, TransferId, Transferred},
};
use parlour_e2ee::attachment::{CHUNK, FileKey, Opener, Resealer, Sealed, Sealer};
use parlour_wire::{
    Code, MessageId,
    api::{BlobBegin, BlobGet, BlobPut, Call},
    content::Attachment,
};
use rand::{Rng as _, RngCore as _, seq::SliceRandom as _};

use crate::{
    check::Shelf,
    faults::Sabotage,
    ledger::{Said, Verdict},
    world::World,
};

/// Largest file, in bytes: a few chunks.
const LARGEST: usize = 5 * CHUNK / 2;
/// How long all files together may take at the end.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

impl World {
    /// Sends a file like no other, with a text like no other beside it.
    pub(crate) fn send_file(&mut self, node: usize, to: String) {
        self.counts.messages += 1;
        self.counts.files += 1;
        let text = format!("message {} of node {node}", self.counts.messages);
        let mut content = vec![0; self.rng.gen_range(1..LARGEST)];
        self.rng.fill_bytes(&mut content);
        let path = self.folder(node, "out").join(format!("{}.bin", self.counts.messages));
        fs::write(&path, &content).expect("room for a file");
        self.ledger.files.insert(text.clone(), *blake3::hash(&content).as_bytes());
        self.tell(format!("node {node} sends {} bytes to {to}: {text}", content.len()));
        let file = LocalFile { path, size: content.len() as u64, modified_ns: 0, thumbnail: None };
        let draft = Draft { text: text.clone(), ..Draft::default() };
        self.promise(node, Command::SendFile { to, draft, file }, text);
    }

    /// Fetches the file of some message, whatever comes of it.
    pub(crate) fn fetch_some(&mut self, node: usize) {
        let messages = self.some_messages(node);
        let files: Vec<_> = messages.iter().filter(|message| message.file.is_some() && !message.deleted).collect();
        if let Some(id) = files.choose(&mut self.rng).map(|message| message.id) {
            self.tell(format!("node {node} fetches the file of {id}"));
            self.fetch(node, id);
        }
    }

    fn fetch(&mut self, node: usize, id: MessageId) -> Ticket {
        let folder = self.folder(node, "in");
        let fetch = Fetch { folder, name: Some(id.to_string().into()), force: true, limit: None };
        self.command(node, Command::FetchFile { id, fetch })
    }

    fn folder(&self, node: usize, name: &str) -> PathBuf {
        let folder = self.nodes[node].place(name);
        fs::create_dir_all(&folder).expect("room for a folder");
        folder
    }

    /// A client wants something done with a file: it takes its time.
    pub(crate) fn order(&mut self, node: usize, order: Order) {
        let at = self.now + self.latency();
        self.nodes[node].transfers.push_back((at, order));
    }

    pub(crate) fn stop_order(&mut self, node: usize, id: TransferId) {
        self.nodes[node].transfers.retain(|(_, order)| order.id() != id);
    }

    /// Does what has had its time.
    pub(crate) fn transfer(&mut self, node: usize) {
        let Some((_, order)) = self.nodes[node].transfers.pop_front() else { return };
        let id = order.id();
        let outcome = self.perform(node, order);
        self.input(node, Input::Transferred(id, outcome));
    }

    fn perform(&mut self, node: usize, order: Order) -> Outcome {
        match order {
            Order::Seal { file, key, .. } => Ok(Transferred::Sealed(Arc::new(seal(&read(&file)?, key)?))),
            Order::Upload { file, key, blob, .. } => {
                let content = read(&file)?;
                let sealed = seal(&content, key)?;
                if sealed.blob != blob {
                    return Err(Error::new(Code::SOURCE_CHANGED, "another file"));
                }
                self.upload(node, &content, key, &sealed)
            }
            Order::Download { attachment, folder, name, .. } => {
                let content = self.download(node, &attachment)?;
                let path = folder.join(name);
                fs::write(&path, content).expect("room for a file");
                Ok(Transferred::Fetched(Fetched { path, size: attachment.size, hash: attachment.hash }))
            }
        }
    }

    /// Brings a file to the server from where the server has it; sometimes only a part gets through.
    fn upload(&mut self, node: usize, content: &[u8], key: [u8; 32], sealed: &Sealed) -> Outcome {
        let resealer = Resealer::new(&FileKey::from_bytes(key), sealed);
        let layout = resealer.layout();
        let begun = self.ask(node, &BlobBegin { blob: sealed.blob, size: layout.blob_size() })?;
        let mut complete = begun.complete;
        let mut chunk = layout.chunk_at(begun.received).min(layout.chunks() - 1);
        while !complete {
            if self.rng.gen_bool(0.1) {
                return Err(Error::new(Code::LINK_LOST, "cut in the middle"));
            }
            let mut data = chunk_of(content, chunk).to_vec();
            resealer.seal(chunk, &mut data).map_err(broken)?;
            let put = BlobPut { blob: sealed.blob, offset: layout.sealed_range(chunk).start, data };
            complete = self.ask(node, &put)?.complete;
            chunk += 1;
        }
        Ok(Transferred::Uploaded { hash: sealed.hash })
    }

    fn download(&mut self, node: usize, attachment: &Attachment) -> Result<Vec<u8>, Error> {
        if self.sabotage == Some(Sabotage::Misplace) && *self.misplaced.get_or_insert(attachment.blob) == attachment.blob {
            return Err(Error::new(Code::FILE_NOT_FOUND, "it has been misplaced"));
        }
        let mut opener = Opener::new(attachment).map_err(broken)?;
        let (mut content, mut offset) = (Vec::new(), 0);
        while let Some(wanted) = opener.wanted() {
            let length = u32::try_from(wanted).map_err(broken)?;
            let mut data = self.ask(node, &BlobGet { blob: attachment.blob, offset, length })?.data;
            offset += data.len() as u64;
            opener.take(&mut data).map_err(broken)?;
            content.append(&mut data);
        }
        opener.finish().map_err(broken)?;
        Ok(content)
    }

    /// A request of the driver, which goes beside those of the core.
    fn ask<C: Call>(&mut self, node: usize, call: &C) -> Result<C::Answer, Error> {
        let unix_ms = self.unix_ms();
        let away = || Error::new(Code::LINK_LOST, "nothing gets through");
        let link = self.nodes[node].link.as_mut().filter(|link| link.standstill.is_none()).ok_or_else(away)?;
        let answer = self.home.request(&mut link.session, C::NAME, &parlour_wire::encode(call), unix_ms);
        let answer = answer.map_err(|failure| {
            let fault = failure.to_wire();
            Error::new(fault.code, fault.message)
        })?;
        Ok(parlour_wire::decode(&answer)?)
    }
}

/// What this version itself has made, or nobody has changed, does not fit.
fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(Code::INTERNAL, error.to_string())
}

fn read(file: &LocalFile) -> Result<Vec<u8>, Error> {
    fs::read(&file.path).map_err(|_| Error::new(Code::SOURCE_CHANGED, "gone"))
}

fn chunk_of(content: &[u8], chunk: u32) -> &[u8] {
    content.chunks(CHUNK).nth(chunk as usize).unwrap_or_default()
}

fn seal(content: &[u8], key: [u8; 32]) -> Result<Sealed, Error> {
    let mut sealer = Sealer::new(&FileKey::from_bytes(key), content.len() as u64).map_err(broken)?;
    let mut chunk = 0;
    while sealer.wanted().is_some() {
        sealer.take(&mut chunk_of(content, chunk).to_vec()).map_err(broken)?;
        chunk += 1;
    }
    sealer.finish().map_err(broken)
}

/// The file of every message that the server has can be had by every device that has the message, and is the one that was sent.
pub(crate) fn fetched(world: &mut World, shelf: &Shelf, said: &[Said], verdict: &mut Verdict) {
    let mut wanted = Vec::new();
    for said in said {
        let Some(hash) = world.ledger.files.get(&said.text).copied() else { continue };
        let Some(room) = shelf.rooms.get(&said.conversation) else { continue };
        let Some(seq) = room.messages.get(&said.id) else { continue };
        for (node, _) in shelf.readers(room).filter(|(_, since)| since < seq) {
            let message = shelf.message(node, said.conversation, &said.id);
            if message.is_some_and(|message| !message.deleted) {
                wanted.push((node, said.id, hash));
            }
        }
    }
    let asked: Vec<_> = wanted.into_iter().map(|(node, id, hash)| (node, world.fetch(node, id), id, hash)).collect();
    world.run_for(PATIENCE);
    for (node, ticket, id, hash) in asked {
        let reply = world.nodes[node].replies.remove(&ticket);
        let same = |path: &PathBuf| fs::read(path).is_ok_and(|content| *blake3::hash(&content).as_bytes() == hash);
        match reply {
            Some(Ok(Reply::Fetched(fetched))) if same(&fetched.path) => {}
            other => verdict.lost.push(format!("the file of {id} cannot be had on node {node}: {other:?}")),
        }
    }
}
