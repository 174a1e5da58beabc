//! Packs on their way to the server and from it, one at a time in each direction. What goes up is in the database until the server has
//! it whole; what comes down is kept in memory and asked for again after a loss, since a pack is small.

use std::time::Duration;

use parlour_wire::{
    Code, DecodeError, MessageId,
    api::{BlobBegin, BlobData, BlobGet, BlobProgress, BlobPut},
    id::BlobId,
    limits,
};

use super::{
    Core,
    own::PackRef,
    pack::Pack,
    session::{Pending, Timer},
};
use crate::{
    error::Error,
    store::{Parcel, Purpose},
};

/// Pause after a request that may work later.
const RETRY: Duration = Duration::from_secs(2);

/// Answers that bring a pack no further before it is given up: a server may lose its memory, but not again and again.
const TRIES: u32 = 3;

/// A pack that is being sent.
#[derive(Debug)]
pub(super) struct Upload {
    parcel: Parcel,
    /// How many of its bytes have been given.
    given: usize,
}

/// Where a pack comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A part of this account's own history, from another device or the backup.
    Own(u32),
    /// What a member of a group offers in this message.
    Shared(MessageId),
}

/// A pack that is being fetched.
#[derive(Debug)]
pub(super) struct Intake {
    source: Source,
    pack: PackRef,
    bytes: Vec<u8>,
}

impl Intake {
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self.source, Source::Shared(_))
    }
}

impl Core {
    /// Sends the next pack, unless one is under way.
    pub(super) fn pump_parcels(&mut self) -> Result<(), Error> {
        if !self.session.is_usable() || self.session.upload.is_some() || self.session.no_room {
            return Ok(());
        }
        let Some(parcel) = self.store.first_parcel()? else { return Ok(()) };
        let PackRef { blob, size, .. } = parcel.pack;
        self.session.upload = Some(Upload { parcel, given: 0 });
        self.request(&BlobBegin { blob, size: u64::from(size) }, Pending::Upload(blob))
    }

    /// An answer has brought a pack no further: the error to give it up with, if that was once too often in this session.
    fn balked(&mut self, blob: BlobId) -> Option<Error> {
        let count = self.session.balked.entry(blob).or_default();
        *count = count.saturating_add(1);
        if *count < TRIES {
            return None;
        }
        let error = Error::new(Code::SERVER_MISBEHAVED, "the server takes what it is sent and has not got it");
        Some(error.hint("ask who runs the server; it is tried again later"))
    }

    pub(super) fn upload_answered(&mut self, blob: &BlobId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let Some(upload) = self.session.upload.take() else { return Ok(()) };
        let Upload { parcel, given } = upload;
        if parcel.pack.blob != *blob {
            return Ok(());
        }
        let progress: BlobProgress = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) if error.code == Code::DISK_FULL => {
                self.server_is_full();
                self.parcel_waits(&parcel, error);
                return Ok(());
            }
            Err(error) if error.passes() => {
                self.set_timer(Timer::Parcels, RETRY);
                return Ok(());
            }
            // Something was damaged on its way to the disk there, or the server has forgotten what it had of it, or says so.
            Err(error) if matches!(error.code, Code::HASH_MISMATCH | Code::FILE_NOT_FOUND) => {
                if let Some(error) = self.balked(*blob) {
                    return self.parcel_refused(&parcel, error);
                }
                self.set_timer(Timer::Parcels, RETRY);
                return Ok(());
            }
            Err(error) => return self.parcel_refused(&parcel, error),
        };
        if progress.complete {
            return self.parcel_sent(&parcel);
        }
        let size = parcel.bytes.len();
        let from = usize::try_from(progress.received).unwrap_or(usize::MAX).min(size);
        if (from < given || from == size)
            && let Some(error) = self.balked(*blob)
        {
            return self.parcel_refused(&parcel, error);
        }
        let to = size.min(from + limits::BLOB_CHUNK);
        let put = BlobPut { blob: *blob, offset: from as u64, data: parcel.bytes[from..to].to_vec() };
        self.session.upload = Some(Upload { parcel, given: to });
        self.request(&put, Pending::Upload(*blob))
    }

    /// A pack stays here for a while. Nobody is kept waiting for the backup so long; it goes on by itself.
    fn parcel_waits(&mut self, parcel: &Parcel, error: Error) {
        if parcel.purpose == Purpose::Backup {
            let error = Error { message: format!("the backup is not complete yet: {}", error.message), ..error };
            for ticket in std::mem::take(&mut self.waiters.backup) {
                self.reply(ticket, Err(error.clone()));
            }
        }
    }

    /// A pack is at the server. Those that a message will name are kept until it does: the server does not keep them for ever.
    fn parcel_sent(&mut self, parcel: &Parcel) -> Result<(), Error> {
        self.session.balked.remove(&parcel.pack.blob);
        self.session.no_room_told = false;
        match parcel.purpose {
            Purpose::Backup => self.store.drop_parcel(&parcel.pack.blob)?,
            Purpose::Handover(_) | Purpose::Share(_) => self.store.parcel_sent(&parcel.pack.blob)?,
        }
        if parcel.again {
            self.look_at_everything()?;
            return self.pump_parcels();
        }
        match parcel.purpose {
            Purpose::Handover(ask) => self.part_sent(&ask, parcel)?,
            Purpose::Backup => self.backup_pack_sent(&parcel.pack)?,
            Purpose::Share(entry) => self.share_sent(&entry, parcel)?,
        }
        self.pump_parcels()
    }

    fn parcel_refused(&mut self, parcel: &Parcel, error: Error) -> Result<(), Error> {
        self.session.balked.remove(&parcel.pack.blob);
        self.store.drop_parcel(&parcel.pack.blob)?;
        match parcel.purpose {
            Purpose::Handover(ask) => {
                self.part_refused(&ask)?;
                self.trouble(Error { message: format!("a history could not be handed over: {}", error.message), ..error });
            }
            Purpose::Backup => self.backup_pack_refused(parcel, error)?,
            Purpose::Share(entry) => self.share_refused(&entry, &error)?,
        }
        self.pump_parcels()
    }

    /// Fetches the next pack that is wanted, unless one is under way.
    pub(super) fn pump_intake(&mut self) -> Result<(), Error> {
        if !self.session.is_usable() || self.session.intake.is_some() {
            return Ok(());
        }
        let (source, pack) = match self.store.next_intake()? {
            Some((number, pack)) => (Source::Own(number), pack),
            None => {
                self.check_history_end()?;
                let Some(offer) = self.store.first_offer()? else { return Ok(()) };
                (Source::Shared(offer.id), offer.pack)
            }
        };
        self.session.intake = Some(Intake { source, pack, bytes: Vec::new() });
        self.fetch(pack.blob, 0)
    }

    fn fetch(&mut self, blob: BlobId, offset: u64) -> Result<(), Error> {
        self.request(&BlobGet { blob, offset, length: limits::BLOB_CHUNK as u32 }, Pending::Intake(blob, offset))
    }

    pub(super) fn intake_answered(
        &mut self,
        (blob, offset): (&BlobId, u64),
        result: Result<Vec<u8>, Error>,
    ) -> Result<(), Error> {
        // What another pack was asked for, that has been given up meanwhile, says nothing about this one.
        let asked = |intake: &mut Intake| intake.pack.blob == *blob && intake.bytes.len() as u64 == offset;
        let Some(mut intake) = self.session.intake.take_if(asked) else { return Ok(()) };
        let data: BlobData = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) if error.is_transient() => {
                self.set_timer(Timer::Parcels, RETRY);
                return Ok(());
            }
            Err(error) => return self.intake_failed(intake.source, &error),
        };
        let size = intake.pack.size as usize;
        let fits = data.size == u64::from(intake.pack.size) && intake.bytes.len() + data.data.len() <= size;
        if !fits || data.data.is_empty() {
            let error = Error::new(Code::SERVER_MISBEHAVED, "it has another size than the device that made it said");
            return self.intake_failed(intake.source, &error);
        }
        intake.bytes.extend_from_slice(&data.data);
        if intake.bytes.len() < size {
            let offset = intake.bytes.len() as u64;
            self.session.intake = Some(intake);
            return self.fetch(*blob, offset);
        }
        match Pack::open(blob, &intake.pack.key, &intake.bytes) {
            Ok(pack) => match intake.source {
                Source::Own(number) => {
                    let taken = self.take_pack(pack)?;
                    self.part_taken(number, taken)?;
                }
                Source::Shared(offer) => self.take_shared(&offer, pack)?,
            },
            Err(DecodeError::Invalid("blob of a pack")) => {
                let error = Error::new(Code::SERVER_MISBEHAVED, "the server gave other bytes for it");
                self.intake_failed(intake.source, &error)?;
            }
            Err(error) => self.intake_failed(intake.source, &Error::new(Code::SERVER_MISBEHAVED, error.to_string()))?,
        }
        self.pump_intake()
    }

    /// A part that cannot be had is left out and said so; what is older may still come.
    fn intake_failed(&mut self, source: Source, error: &Error) -> Result<(), Error> {
        let message = format!("a part of the history could not be taken in: {}", error.message);
        self.trouble(Error { message, ..error.clone() });
        match source {
            Source::Own(number) => self.part_taken(number, 0)?,
            Source::Shared(offer) => self.store.drop_offer(&offer)?,
        }
        self.pump_intake()
    }
}
