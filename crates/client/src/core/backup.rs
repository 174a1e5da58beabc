//! The backup at the server: packs of messages as blobs, and an index of them, sealed under a key that comes from the account's root.
//! Opt-in. One device of the account, the keeper, writes it: everything once, from then on what has changed.
//!
//! A server that gives an old index is noticed by every profile that has heard of a newer one, since account and version are bound
//! into the seal. A device that knows nothing yet, with no other device left to ask, cannot notice; it says of when the backup is.

use std::time::Duration;

use minicbor::{Decode, Encode, bytes::ByteVec};
use parlour_wire::{
    Code, DeviceId,
    api::{BackupAnswer, BackupDelete, BackupGet, BackupSet},
    codec::bounded,
    limits,
};

use super::{
    Core, Reply, Ticket,
    own::{self, Meaning, PackRef, Sync},
    pack::{self, Pack},
    session::{Pending, Timer},
    sweep::Sweep,
};
use crate::{
    api::{BackupState, BackupStatus},
    error::Error,
    event::Event,
    store::{BackupRow, Packable, Parcel, Purpose, Wanted},
};

/// Setting: the device that writes the backup; empty: there is none.
pub(super) const KEEPER: &str = "backup.keeper";
/// Setting: the version that the keeper wrote last.
pub(super) const VERSION: &str = "backup.version";

/// What has changed waits so long for company.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// So many changed messages do not wait.
const MANY: u64 = 500;
/// More packs than this do not fit the index.
const INDEX: usize = 3_000;
/// Registers looked up at a time, each of which may be as long as a message.
const REGISTERS: usize = 64;
/// Pause after a request that may work later.
const RETRY: Duration = Duration::from_secs(5);
/// Versions set by somebody else in between, before one is told that it does not work.
const TRIES: u32 = 3;

/// What the sealed index says.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Index {
    /// Who wrote it.
    #[n(0)]
    keeper: DeviceId,
    /// When, by the keeper's clock.
    #[n(1)]
    made_ms: u64,
    /// The packs, the newest last.
    #[n(2)]
    packs: Vec<PackRef>,
}

/// A run of the keeper.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The index is on its way.
    setting: bool,
    tries: u32,
    /// Packs whose content this run packs anew before anything else.
    pub(super) sweep: Sweep,
}

impl Core {
    /// Makes this device the keeper, with everything to be written.
    pub(super) fn backup_on(&mut self, ticket: Ticket) -> Result<(), Error> {
        let device = self.signed_in()?.device;
        self.backup_key()?;
        if !self.store.backup()?.keeper {
            self.store.begin_backup()?;
        }
        self.agree(&Meaning::Setting(KEEPER.to_owned(), device.0.to_vec()))?;
        self.backup_now(ticket)
    }

    /// Deletes the backup and writes it no longer.
    pub(super) fn backup_off(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.signed_in()?;
        if self.needs_server(ticket, super::Command::BackupOff)? {
            self.request(&BackupDelete {}, Pending::BackupDelete(ticket))?;
        }
        Ok(())
    }

    pub(super) fn backup_deleted(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => {}
            Err(error) if error.code == Code::FILE_NOT_FOUND => {}
            Err(error) => {
                self.reply(ticket, Err(error));
                return Ok(());
            }
        }
        self.store.end_backup()?;
        // The server counts from the beginning again.
        let row = self.store.backup()?;
        self.store.set_backup(&BackupRow { version: 0, ..row })?;
        self.session.backup_run = None;
        self.agree(&Meaning::Setting(KEEPER.to_owned(), Vec::new()))?;
        self.agree(&Meaning::Setting(VERSION.to_owned(), 0_u64.to_be_bytes().to_vec()))?;
        self.reply(ticket, Ok(Reply::Done));
        Ok(())
    }

    /// Replies when the backup holds everything that this device has.
    pub(super) fn backup_now(&mut self, ticket: Ticket) -> Result<(), Error> {
        if !self.store.backup()?.keeper {
            return Err(Error::new(Code::FORBIDDEN, "this device does not write the account's backup")
                .hint("`backup on` makes it the one that does"));
        }
        if self.needs_server(ticket, super::Command::BackupNow)? {
            self.waiters.backup.push(ticket);
            self.begin_backup_run()?;
        }
        Ok(())
    }

    pub(super) fn backup_status(&self) -> Result<Reply, Error> {
        let device = self.signed_in()?.device;
        let row = self.store.backup()?;
        let keeper = self.backup_keeper()?;
        let state = match keeper {
            Some(keeper) if keeper == device && row.keeper => BackupState::Here,
            Some(keeper) if keeper != device && self.is_sibling(&keeper)? => BackupState::Elsewhere(keeper),
            _ => BackupState::Off,
        };
        let packs = self.store.backup_packs()?;
        let named = || packs.iter().filter(|(_, named)| *named);
        Ok(Reply::Backup(BackupStatus {
            state,
            version: row.version,
            saved_ms: row.saved_ms,
            pending: if row.keeper { self.store.backup_dirty()? } else { 0 },
            bytes: named().map(|(pack, _)| u64::from(pack.size)).sum(),
            packs: named().count(),
            trouble: row.trouble,
        }))
    }

    fn backup_keeper(&self) -> Result<Option<DeviceId>, Error> {
        let register = self.store.register(own::Kind::SETTING, KEEPER.as_bytes())?;
        Ok(register.and_then(|register| DeviceId::try_from(register.value.as_slice()).ok()))
    }

    fn backup_key(&self) -> Result<parlour_e2ee::BackupKey, Error> {
        let key = self.signed_in()?.backup_key.clone();
        key.ok_or_else(|| Error::internal("a device without the backup's key"))
    }

    /// Another device says who writes the backup.
    pub(super) fn backup_keeper_changed(&mut self, value: &[u8]) -> Result<(), Error> {
        let this = self.signed_in()?.device;
        if self.store.backup()?.keeper && value != this.0 {
            self.store.end_backup()?;
            self.session.backup_run = None;
        }
        Ok(())
    }

    /// Another device says which version it wrote; an older one is not the backup any more.
    pub(super) fn backup_version_told(&mut self, value: &[u8]) -> Result<(), Error> {
        let Ok(version) = value.try_into().map(u64::from_be_bytes) else { return Ok(()) };
        let row = self.store.backup()?;
        if version == 0 || version > row.version {
            self.store.set_backup(&BackupRow { version, ..row })?;
        }
        Ok(())
    }

    /// Begins or continues what the keeper has to do, if it is time.
    pub(super) fn tend_backup(&mut self) -> Result<(), Error> {
        let row = self.store.backup()?;
        if !row.keeper || !self.session.is_usable() || !self.session.synced {
            return Ok(());
        }
        // Packs that no index names are what a run before the last loss of the link has left.
        let unnamed = self.store.backup_packs()?.iter().any(|(_, named)| !named);
        let begun = unnamed || self.session.backup_run.is_some() || self.store.has_parcel(Purpose::Backup)?;
        let dirty = self.store.backup_dirty()?;
        let age = self.now.unix_ms.saturating_sub(row.saved_ms);
        let due = u128::from(age) >= EVERY.as_millis();
        // What has just been refused is not offered again at once.
        let fresh = row.trouble.is_none();
        if (begun && (fresh || due)) || (dirty >= MANY && fresh) || (dirty > 0 && due) {
            return self.begin_backup_run();
        }
        self.set_timer(Timer::Backup, EVERY);
        Ok(())
    }

    fn begin_backup_run(&mut self) -> Result<(), Error> {
        if self.session.backup_run.is_none() {
            self.session.backup_run = Some(Run { sweep: self.plan_sweep()?, ..Run::default() });
        }
        self.pump_backup()
    }

    /// The next step of a run: a pack, or the index when all packs are at the server.
    pub(super) fn pump_backup(&mut self) -> Result<(), Error> {
        let Some(run) = &mut self.session.backup_run else { return Ok(()) };
        if run.setting {
            return Ok(());
        }
        if self.store.has_parcel(Purpose::Backup)? {
            return self.pump_parcels();
        }
        if self.pump_sweep()? {
            return Ok(());
        }
        let mut pack = Pack { agreed: self.take_registers_for_backup()?, ..Pack::default() };
        // The oldest go first and the newest pack is the last of the index; within a pack the newest stand first.
        let mut size: usize = pack.agreed.iter().map(|agreed| agreed.len()).sum();
        let fits = |row: &Packable| -> bool {
            let fits = size <= pack::BYTES;
            size += row.message.size();
            fits
        };
        let rows: Vec<_> = self.store.packable_dirty(pack::MESSAGES)?.into_iter().take_while(fits).collect();
        for row in rows.into_iter().rev() {
            self.store.clean_backup_message(row.position)?;
            pack.push(row.conversation, row.message);
        }
        if pack.is_empty() {
            self.store.clean_backup_rest()?;
            return self.set_backup_index();
        }
        let parcel = self.parcel(&pack, Purpose::Backup, 0);
        self.store.add_parcel(&parcel)?;
        self.pump_parcels()
    }

    /// Takes as many registers as one pack has room for, beside one message.
    fn take_registers_for_backup(&self) -> Result<Vec<ByteVec>, Error> {
        let (mut agreed, mut size) = (Vec::new(), 0);
        while size <= pack::BYTES && agreed.len() < pack::AGREED {
            let registers = own::batch(&mut self.store.registers_for_backup(REGISTERS)?.into());
            if registers.is_empty() {
                break;
            }
            registers.iter().try_for_each(|register| self.store.clean_backup_register(register))?;
            let bytes = Sync { registers, ..Sync::default() }.to_bytes();
            size += bytes.len();
            agreed.push(bytes.into());
        }
        Ok(agreed)
    }

    pub(super) fn backup_pack_sent(&mut self, pack: &PackRef) -> Result<(), Error> {
        self.store.add_backup_pack(pack)?;
        self.begin_backup_run()
    }

    /// The server does not take a pack. If it only has no room, what the others hold stays, and this one is packed anew some time later.
    pub(super) fn backup_pack_refused(&mut self, parcel: &Parcel, error: Error) -> Result<(), Error> {
        if error.code == Code::QUOTA {
            let pack = Pack::open(&parcel.pack.blob, &parcel.pack.key, &parcel.bytes)?;
            self.unpack(&pack)?;
        }
        self.backup_failed(error)
    }

    fn set_backup_index(&mut self) -> Result<(), Error> {
        let account = self.signed_in()?;
        let (id, keeper) = (account.account, account.device);
        let packs: Vec<PackRef> = self.store.backup_packs()?.into_iter().map(|(pack, _)| pack).collect();
        if packs.len() > INDEX {
            let message = format!("it would have {} packs, and its index names {INDEX} at most", packs.len());
            return self.backup_failed(Error::new(Code::QUOTA, message));
        }
        let version = self.store.backup()?.version + 1;
        let blobs = packs.iter().map(|pack| pack.blob).collect();
        let index = parlour_wire::encode(&Index { keeper, made_ms: self.now.unix_ms, packs });
        let index = self.backup_key()?.seal(&id, version, &index);
        if let Some(run) = &mut self.session.backup_run {
            run.setting = true;
        }
        self.request(&BackupSet { version, index, blobs }, Pending::BackupSet(version))
    }

    pub(super) fn backup_set(&mut self, version: u64, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => {
                let packs: Vec<PackRef> = self.store.backup_packs()?.into_iter().map(|(pack, _)| pack).collect();
                self.store.backup_named(&packs)?;
                let (row, saved_ms) = (self.store.backup()?, self.now.unix_ms);
                self.store.set_backup(&BackupRow { version, saved_ms, trouble: None, ..row })?;
                self.session.backup_run = None;
                self.agree(&Meaning::Setting(VERSION.to_owned(), version.to_be_bytes().to_vec()))?;
                for ticket in std::mem::take(&mut self.waiters.backup) {
                    let reply = self.backup_status();
                    self.reply(ticket, reply);
                }
                self.tend_backup()
            }
            // Another device, or this one before its answer was lost, has written in between.
            Err(error) if error.code == Code::STALE_LIST => {
                let tries = self.session.backup_run.as_ref().map_or(0, |run| run.tries) + 1;
                if tries > TRIES {
                    return self.backup_failed(error);
                }
                self.session.backup_run = Some(Run { setting: true, tries, ..Run::default() });
                self.request(&BackupGet {}, Pending::BackupVersion)
            }
            Err(error) if error.is_transient() => {
                self.backup_later();
                Ok(())
            }
            Err(error) => self.backup_failed(error),
        }
    }

    /// The run goes on where it is, after a pause.
    pub(super) fn backup_later(&mut self) {
        if let Some(run) = &mut self.session.backup_run {
            run.setting = false;
        }
        self.set_timer(Timer::Parcels, RETRY);
    }

    /// Which version there is, after it was not the one that was thought. What it names and this device has not written, a later copy
    /// of this profile or another keeper has: it stays in the backup, and is taken in here too.
    pub(super) fn backup_version(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let answer = match result {
            Ok(bytes) => Some(parlour_wire::decode::<BackupAnswer>(&bytes)?),
            Err(error) if error.code == Code::FILE_NOT_FOUND => None,
            Err(error) if error.is_transient() => {
                self.backup_later();
                return Ok(());
            }
            Err(error) => return self.backup_failed(error),
        };
        let row = self.store.backup()?;
        match answer {
            None => self.store.set_backup(&BackupRow { version: 0, ..row })?,
            Some(answer) if answer.version < row.version => return self.backup_failed(older(answer.version, row.version)),
            Some(answer) => {
                let index = match self.open_index(&answer) {
                    Ok(index) => index,
                    Err(error) => return self.backup_failed(error),
                };
                let own = self.store.backup_blobs()?;
                let unknown = index.packs.iter().any(|pack| !own.contains(&pack.blob));
                self.store.set_backup(&BackupRow { version: answer.version, ..row })?;
                if unknown {
                    self.store.adopt_backup_packs(&index.packs)?;
                    self.store.make_old()?;
                    self.restore_index(answer.version, &index)?;
                    self.pump_intake()?;
                }
            }
        }
        if let Some(run) = &mut self.session.backup_run {
            run.setting = false;
        }
        self.pump_backup()
    }

    /// A run has ended without a new index. What is not in it stays noted, and the next run tries again.
    pub(super) fn backup_failed(&mut self, error: Error) -> Result<(), Error> {
        self.session.backup_run = None;
        let message = format!("the backup could not be written: {}", error.message);
        let error = Error { message, ..error };
        if self.store.backup()?.keeper {
            if error.code != Code::QUOTA {
                // Which packs got there is doubtful: everything is written again.
                self.store.begin_backup()?;
            }
            self.set_timer(Timer::Backup, EVERY);
            let row = self.store.backup()?;
            let saved_ms = self.now.unix_ms;
            self.store.set_backup(&BackupRow { saved_ms, trouble: Some(error.message.clone()), ..row })?;
        }
        for ticket in std::mem::take(&mut self.waiters.backup) {
            self.reply(ticket, Err(error.clone()));
        }
        self.trouble(error);
        Ok(())
    }

    /// Asks for the backup, to restore it.
    pub(super) fn ask_backup(&mut self) -> Result<(), Error> {
        if self.session.backup_asked || !self.session.is_usable() {
            return Ok(());
        }
        self.session.backup_asked = true;
        self.request(&BackupGet {}, Pending::BackupGet(None))
    }

    /// The same because the owner wants it.
    pub(super) fn restore_backup(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.backup_key()?;
        if self.needs_server(ticket, super::Command::RestoreBackup)? {
            self.session.backup_asked = true;
            self.request(&BackupGet {}, Pending::BackupGet(Some(ticket)))?;
        }
        Ok(())
    }

    pub(super) fn backup_answered(&mut self, ticket: Option<Ticket>, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let outcome = match result {
            Ok(bytes) => match self.begin_restore(&parlour_wire::decode(&bytes)?) {
                // The disk here, not that of the server.
                Err(error) if error.is_local() => return Err(error),
                outcome => outcome,
            },
            Err(error) if error.code == Code::FILE_NOT_FOUND => {
                Err(Error::new(error.code, "the account has no backup at the server")
                    .hint("`backup on` on a device that has the history makes one"))
            }
            Err(error) => Err(error),
        };
        match (outcome, ticket) {
            (Ok(()), Some(ticket)) => self.waiters.history.push(ticket),
            (Ok(()), None) => {}
            (Err(error), Some(ticket)) => self.reply(ticket, Err(error)),
            (Err(error), None) if error.code == Code::FILE_NOT_FOUND => self.nobody_left()?,
            (Err(error), None) => {
                self.session.backup_asked = !error.is_transient();
                self.trouble(error);
            }
        }
        self.pump_intake()
    }

    /// There is no backup, and if there are no other devices either, there is nothing to be had.
    fn nobody_left(&mut self) -> Result<(), Error> {
        if self.has_siblings()? { Ok(()) } else { self.store.want(None) }
    }

    fn begin_restore(&mut self, answer: &BackupAnswer) -> Result<(), Error> {
        let row = self.store.backup()?;
        if answer.version < row.version {
            return Err(older(answer.version, row.version));
        }
        let index = self.open_index(answer)?;
        if !row.keeper {
            self.store.set_backup(&BackupRow { version: answer.version, ..row })?;
        }
        self.restore_index(answer.version, &index)
    }

    /// What a sealed index says, if it is this account's and of the version that the server says.
    fn open_index(&self, answer: &BackupAnswer) -> Result<Index, Error> {
        let account = self.signed_in()?.account;
        let opened = self.backup_key()?.open(&account, answer.version, &answer.index).map_err(|error| {
            Error::new(Code::SERVER_MISBEHAVED, format!("{error}: the server gave something else than this account's backup"))
        })?;
        let index: Index = parlour_wire::decode(&opened)?;
        bounded("packs", index.packs.len(), limits::BACKUP_BLOBS)?;
        if index.packs.iter().any(|pack| pack.size as usize > pack::SEALED) {
            return Err(Error::new(Code::SERVER_MISBEHAVED, "the index of the backup names packs that cannot be"));
        }
        Ok(index)
    }

    fn restore_index(&mut self, version: u64, index: &Index) -> Result<(), Error> {
        let parts = u32::try_from(index.packs.len()).unwrap_or(u32::MAX);
        let ask = self.store.wanted()?.and_then(|wanted| wanted.ask);
        let at_ms = self.now.unix_ms;
        self.session.intake = None;
        self.store.want(Some(&Wanted { ask, at_ms, giver: None, from_backup: true, parts: Some(parts), taken: 0 }))?;
        for (number, pack) in (0_u32..).zip(index.packs.iter().rev()) {
            self.store.add_intake(number, Some(pack))?;
        }
        self.event(Event::RestoringBackup { version, made_ms: index.made_ms, packs: index.packs.len() });
        Ok(())
    }
}

fn older(given: u64, known: u64) -> Error {
    let message = format!("the server gave version {given} of the backup, and this profile knows of version {known}");
    Error::new(Code::SERVER_MISBEHAVED, message).hint("ask who runs the server; nothing of it was taken in")
}
