//! What becomes of orders about files in the world: the driver's work, done at once, from and to real files.

use std::{fs, path::Path, sync::Arc};

use parlour_e2ee::attachment::{CHUNK, FileKey, Opener, Resealer, Sealed, Sealer};
use parlour_server::store::suite::block_on;
use parlour_wire::{
    BlobId, Code,
    api::{BlobBegin, BlobData, BlobGet, BlobPut, Call},
    content::Attachment,
};

use super::World;
use crate::{
    api::{Draft, Fetched, Message},
    core::{Command, Fetch, Input, LocalFile, Order, Outcome, Reply, TransferId, Transferred},
    error::Error,
    run::modified_ns,
};

/// A file as the client's front sees it.
pub(in crate::tests) fn local(path: &Path) -> LocalFile {
    let metadata = path.metadata().unwrap();
    LocalFile { path: path.to_owned(), size: metadata.len(), modified_ns: modified_ns(&metadata), thumbnail: None }
}

impl World {
    pub(in crate::tests) fn send_file(&mut self, node: usize, to: &str, path: &Path) -> Message {
        let (to, draft, file) = (to.to_owned(), Draft::default(), local(path));
        match self.ask(node, Command::SendFile { to, draft, file }) {
            Ok(Reply::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::tests) fn fetch_file(
        &mut self,
        node: usize,
        id: parlour_wire::MessageId,
        folder: &Path,
    ) -> Result<Fetched, Error> {
        let fetch = Fetch { folder: folder.to_owned(), name: None, force: false, limit: None };
        match self.ask(node, Command::FetchFile { id, fetch })? {
            Reply::Fetched(fetched) => Ok(fetched),
            other => panic!("{other:?}"),
        }
    }

    /// A day passes at the server, which deletes blobs that nothing names.
    pub(in crate::tests) fn forget_blobs(&mut self) {
        self.unix_ms += 25 * 3600 * 1000;
        let now = parlour_server::Now { unix_ms: self.unix_ms };
        block_on(self.service.collect_blobs(None, now)).unwrap();
    }

    /// Does the first thing that a device wants done with files.
    pub(in crate::tests) fn transfer(&mut self, node: usize) -> bool {
        let Some(outcome) = self.transferred(node) else { return false };
        self.input(node, outcome);
        true
    }

    /// The same, without handing over what came of it.
    pub(in crate::tests) fn transferred(&mut self, node: usize) -> Option<Input> {
        let order = self.nodes[node].transfers.pop_front()?;
        let id = order.id();
        Some(Input::Transferred(id, self.perform(node, order)))
    }

    pub(super) fn stop_transfer(&mut self, node: usize, id: TransferId) {
        self.nodes[node].transfers.retain(|order| order.id() != id);
    }

    fn perform(&mut self, node: usize, order: Order) -> Outcome {
        match order {
            Order::Seal { file, key, .. } => Ok(Transferred::Sealed(Arc::new(seal(&file, key)?))),
            Order::Upload { file, blob, kept: Some(hash), .. } => self.upload_kept(node, &file, blob, hash),
            Order::Upload { file, key, blob, sealed, .. } => {
                let sealed = match sealed {
                    Some(sealed) => sealed,
                    None => Arc::new(seal(&file, key)?),
                };
                if sealed.blob != blob {
                    return Err(Error::new(Code::SOURCE_CHANGED, "another file"));
                }
                self.upload(node, &file, key, &sealed)
            }
            Order::Download { attachment, folder, name, .. } => {
                let bytes = self.download(node, &attachment)?;
                let path = folder.join(name);
                fs::write(&path, bytes).unwrap();
                Ok(Transferred::Fetched(Fetched { path, size: attachment.size, hash: attachment.hash }))
            }
        }
    }

    fn upload(&mut self, node: usize, file: &LocalFile, key: [u8; 32], sealed: &Sealed) -> Outcome {
        let content = fs::read(&file.path).map_err(|_| Error::new(Code::SOURCE_CHANGED, "gone"))?;
        let resealer = Resealer::new(&FileKey::from_bytes(key), sealed);
        let layout = resealer.layout();
        let begun = self.call(node, &BlobBegin { blob: sealed.blob, size: layout.blob_size() })?;
        let mut complete = begun.complete;
        let mut chunk = layout.chunk_at(begun.received).min(layout.chunks() - 1);
        while !complete {
            if self.puts == Some(0) {
                return Err(Error::new(Code::LINK_LOST, "cut in the middle"));
            }
            self.puts = self.puts.map(|left| left - 1);
            let mut data = chunk_of(&content, chunk).to_vec();
            resealer.seal(chunk, &mut data).map_err(|_| Error::new(Code::SOURCE_CHANGED, "changed"))?;
            self.sealed.push((key, chunk, *blake3::hash(&data).as_bytes()));
            let put = BlobPut { blob: sealed.blob, offset: layout.sealed_range(chunk).start, data };
            complete = self.call(node, &put)?.complete;
            chunk += 1;
        }
        Ok(Transferred::Uploaded { hash: sealed.hash })
    }

    fn upload_kept(&mut self, node: usize, file: &LocalFile, blob: BlobId, hash: [u8; 32]) -> Outcome {
        let content = fs::read(&file.path).map_err(|_| Error::new(Code::FILE_NOT_FOUND, "gone"))?;
        let begun = self.call(node, &BlobBegin { blob, size: content.len() as u64 })?;
        let (mut complete, mut offset) = (begun.complete, usize::try_from(begun.received).unwrap());
        while !complete {
            if self.puts == Some(0) {
                return Err(Error::new(Code::LINK_LOST, "cut in the middle"));
            }
            self.puts = self.puts.map(|left| left - 1);
            let end = content.len().min(offset + CHUNK);
            let put = BlobPut { blob, offset: offset as u64, data: content[offset..end].to_vec() };
            complete = self.call(node, &put)?.complete;
            offset = end;
        }
        Ok(Transferred::Uploaded { hash })
    }

    fn download(&mut self, node: usize, attachment: &Attachment) -> Result<Vec<u8>, Error> {
        let mut opener = Opener::new(attachment).map_err(|error| Error::new(error.code(), error.to_string()))?;
        let (mut content, mut offset) = (Vec::new(), 0);
        while let Some(wanted) = opener.wanted() {
            let length = u32::try_from(wanted).unwrap();
            let BlobData { size, mut data } = self.call(node, &BlobGet { blob: attachment.blob, offset, length })?;
            if size != opener.layout().blob_size() || data.is_empty() || data.len() > wanted {
                return Err(Error::new(Code::SIZE_MISMATCH, "the server gives a file of another size"));
            }
            offset += data.len() as u64;
            opener.take(&mut data).map_err(|error| Error::new(error.code(), error.to_string()))?;
            content.append(&mut data);
        }
        opener.finish().map_err(|error| Error::new(error.code(), error.to_string()))?;
        Ok(content)
    }

    fn call<C: Call>(&mut self, node: usize, call: &C) -> Result<C::Answer, Error> {
        let now = parlour_server::Now { unix_ms: self.unix_ms };
        let Some(link) = self.nodes[node].link.as_mut() else { return Err(Error::new(Code::LINK_LOST, "away")) };
        let content = parlour_wire::encode(call);
        if let Some(code) = self.refuses.as_mut().and_then(|refuses| refuses(C::NAME, &content)) {
            return Err(Error::new(code, "refused"));
        }
        let answer = block_on(self.service.request(&mut link.session, C::NAME, &content, now));
        let answer = answer.map_err(|failure| {
            let fault = failure.to_wire();
            Error::new(fault.code, fault.message)
        })?;
        Ok(parlour_wire::decode(&answer)?)
    }
}

fn chunk_of(content: &[u8], chunk: u32) -> &[u8] {
    content.chunks(CHUNK).nth(chunk as usize).unwrap_or_default()
}

fn seal(file: &LocalFile, key: [u8; 32]) -> Result<Sealed, Error> {
    let changed = || Error::new(Code::SOURCE_CHANGED, "changed");
    let content = fs::read(&file.path).map_err(|_| changed())?;
    if content.len() as u64 != file.size {
        return Err(changed());
    }
    let mut sealer = Sealer::new(&FileKey::from_bytes(key), file.size).unwrap();
    let mut chunk = 0;
    while sealer.wanted().is_some() {
        sealer.take(&mut chunk_of(&content, chunk).to_vec()).unwrap();
        chunk += 1;
    }
    Ok(sealer.finish().unwrap())
}
