//! Small packs of the backup are swept together into few full ones, some at a time: the server gives them back, what is in them is noted
//! as if it had just changed, and the next index leaves them out. So a backup that fills its quota needs no more room than one pack.

use std::collections::VecDeque;

use parlour_wire::{
    Code,
    api::{BlobData, BlobGet},
    id::BlobId,
    limits,
};

use super::{
    Core,
    own::{PackRef, Sync},
    pack::{self, Pack},
    session::Pending,
};
use crate::error::Error;

/// More packs than this are swept together, if most of them are far from full.
const PACKS: usize = if cfg!(test) { 8 } else { 200 };

/// Packs that are to be swept together.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    packs: VecDeque<PackRef>,
    /// What there is of the first.
    bytes: Vec<u8>,
    /// More of it has been asked for.
    asked: bool,
}

/// Whether packs hold so little that few full ones would do.
fn are_crumbs(packs: &[PackRef]) -> bool {
    let messages: usize = packs.iter().map(|pack| pack.messages as usize).sum();
    let bytes: usize = packs.iter().map(|pack| pack.size as usize).sum();
    let full = (messages / pack::MESSAGES).max(bytes / pack::BYTES);
    packs.len() > PACKS && packs.len() > 4 * full
}

/// The oldest of the small ones, together no more than fits one.
fn crumbs(packs: Vec<PackRef>) -> VecDeque<PackRef> {
    let (mut messages, mut bytes) = (0, 0);
    let small = |pack: &PackRef| (pack.messages as usize) < pack::MESSAGES / 2 && (pack.size as usize) < pack::BYTES / 2;
    let fits = |pack: &PackRef| {
        messages += pack.messages as usize;
        bytes += pack.size as usize;
        messages <= pack::MESSAGES && bytes <= pack::BYTES
    };
    packs.into_iter().filter(small).take_while(fits).collect()
}

impl Core {
    /// What a run that begins has to sweep together. Not while something is on its way here: what is packed is what is here.
    pub(super) fn plan_sweep(&self) -> Result<Sweep, Error> {
        let packs: Vec<_> = self.store.backup_packs()?.into_iter().map(|(pack, _)| pack).collect();
        if !are_crumbs(&packs) || self.store.wanted()?.is_some() {
            return Ok(Sweep::default());
        }
        let packs = crumbs(packs);
        Ok(if packs.len() > 1 { Sweep { packs, ..Sweep::default() } } else { Sweep::default() })
    }

    /// Asks for the next of the packs that are swept together; whether there is one.
    pub(super) fn pump_sweep(&mut self) -> Result<bool, Error> {
        let Some(sweep) = self.session.backup_run.as_mut().map(|run| &mut run.sweep) else { return Ok(false) };
        let Some(PackRef { blob, .. }) = sweep.packs.front().copied() else { return Ok(false) };
        if !std::mem::replace(&mut sweep.asked, true) {
            let get = BlobGet { blob, offset: sweep.bytes.len() as u64, length: limits::BLOB_CHUNK as u32 };
            self.request(&get, Pending::Crumb(blob))?;
        }
        Ok(true)
    }

    pub(super) fn crumb_answered(&mut self, blob: &BlobId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let Some(sweep) = self.session.backup_run.as_mut().map(|run| &mut run.sweep) else { return Ok(()) };
        let Some(pack) = sweep.packs.front().copied().filter(|pack| pack.blob == *blob) else { return Ok(()) };
        sweep.asked = false;
        let part = match result {
            Ok(bytes) => parlour_wire::decode::<BlobData>(&bytes)?.data,
            Err(error) if error.is_transient() => {
                self.backup_later();
                return Ok(());
            }
            Err(error) => return self.crumb_lost(&error),
        };
        sweep.bytes.extend_from_slice(&part);
        let (there, size) = (sweep.bytes.len(), pack.size as usize);
        if there < size && !part.is_empty() {
            return self.pump_backup();
        }
        let bytes = std::mem::take(&mut sweep.bytes);
        match Pack::open(blob, &pack.key, &bytes) {
            Ok(opened) => {
                sweep.packs.pop_front();
                // What is packed anew is what is here, and this one may have been left out when the backup was taken over.
                self.take_pack(opened.clone())?;
                self.unpack(&opened)?;
                self.store.sweep_backup_pack(blob)?;
                self.pump_backup()
            }
            Err(error) => self.crumb_lost(&Error::new(Code::SERVER_MISBEHAVED, error.to_string())),
        }
    }

    /// A pack of the backup cannot be had or read, so the backup lacks what is in it: everything is written again.
    fn crumb_lost(&mut self, error: &Error) -> Result<(), Error> {
        tracing::warn!(%error, "a pack of the backup is lost");
        if let Some(run) = &mut self.session.backup_run {
            run.sweep = Sweep::default();
        }
        self.store.begin_backup()?;
        self.pump_backup()
    }

    /// What is in a pack is not in the backup after all, or not for long.
    pub(super) fn unpack(&self, pack: &Pack) -> Result<(), Error> {
        for message in &pack.messages {
            self.store.unpack_for_backup(&message.id)?;
        }
        for agreed in &pack.agreed {
            for register in Sync::from_bytes(agreed)?.registers {
                self.store.unpack_register_for_backup(&register)?;
            }
        }
        Ok(())
    }
}
