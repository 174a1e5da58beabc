//! Who is there, as the server says; and enough key packages at the server for others to reach this device.

use parlour_wire::{
    api::{self, KeyPackagesPublish, PresenceAnswer, PresenceWatch, Suite},
    limits,
};

use super::{
    Core,
    session::{Pending, Stock},
};
use crate::{api::Presence, error::Error, event::Event};

/// Below so many one-time key packages at the server, it gets new ones.
const FEW: u32 = 10;
/// Contacts of whom only the account is known, from an import, and whose names are asked for at a time.
const NAMELESS: usize = 32;
/// So many it has then. Each costs a key generation here and 3 KB there; the last-resort package covers a rush.
const ENOUGH: u32 = 20;

impl Core {
    /// Asks about all contacts when there is one that has not been asked about in this session. The server watches for those of
    /// the last request only, so all are named each time.
    pub(super) fn watch_presence(&mut self) -> Result<(), Error> {
        if !self.session.synced || self.session.inflight.values().any(|pending| matches!(pending, Pending::Presence)) {
            return Ok(());
        }
        if !self.session.contacts_dirty {
            return Ok(());
        }
        self.session.contacts_dirty = false;
        let contacts = self.store.contacts()?;
        let absent = &self.session.absent;
        let nameless = contacts.iter().filter(|contact| contact.name.is_empty() && !absent.contains(&contact.account));
        for account in nameless.map(|contact| contact.account).take(NAMELESS).collect::<Vec<_>>() {
            self.look_up_account(account)?;
        }
        let contacts = contacts.into_iter().map(|contact| contact.account);
        let accounts: Vec<_> = contacts.take(limits::PRESENCE_ACCOUNTS).collect();
        if accounts.is_empty() {
            return Ok(());
        }
        self.request(&PresenceWatch { accounts }, Pending::Presence)
    }

    pub(super) fn presence_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(bytes) => {
                let answer: PresenceAnswer = parlour_wire::decode(&bytes)?;
                for presence in answer.presence {
                    self.session.watched.insert(presence.account);
                    self.take_presence(&presence)?;
                }
            }
            Err(error) => tracing::debug!(%error, "nothing is known about who is there"),
        }
        Ok(())
    }

    pub(super) fn take_presence(&mut self, presence: &api::Presence) -> Result<(), Error> {
        let Some(mut contact) = self.store.contact(&presence.account)? else { return Ok(()) };
        let is = if presence.online { Presence::Online } else { Presence::Offline };
        let was = self.session.presence.insert(presence.account, is);
        let seen_ms = if presence.online { self.now.unix_ms.max(presence.seen_ms) } else { presence.seen_ms };
        if seen_ms > contact.seen_ms {
            contact.seen_ms = seen_ms;
            self.store.update_contact(&contact)?;
        }
        if was != Some(is) {
            self.event(Event::Presence { account: presence.account, presence: is, seen_ms: contact.seen_ms });
        }
        Ok(())
    }

    /// Leaves key packages of each suite at the server when few are left. If this step is lost, the packages are never seen by
    /// anyone; if the answer is lost, some may be there twice over, up to the server's limit.
    pub(super) fn pump_key_packages(&mut self) -> Result<(), Error> {
        let short = |(suite, stock): (&Suite, &Stock)| {
            let left = stock.left.filter(|left| *left < FEW || !stock.last_resort)?;
            Some((*suite, left, *stock))
        };
        let short: Vec<_> = self.session.stocks.iter().filter_map(short).collect();
        short.into_iter().try_for_each(|(suite, left, stock)| self.publish(suite, left, stock))
    }

    /// This database has not the keys of the packages that are at the server: it is an older copy of itself. Once a session, so that
    /// nobody keeps a device busy by invitations that nobody could open.
    pub(super) fn replace_key_packages(&mut self) {
        for suite in [Suite::HYBRID, Suite::CLASSICAL] {
            if self.session.replaced.insert(suite) {
                self.session.stocks.insert(suite, Stock { left: Some(0), last_resort: false, replace: true });
            }
        }
    }

    fn publish(&mut self, suite: Suite, left: u32, stock: Stock) -> Result<(), Error> {
        let now_ms = self.now.unix_ms;
        let count = ENOUGH.saturating_sub(left) as usize;
        let (engine, store) = self.engine()?;
        let step = engine.key_packages(store, suite, count, now_ms).map_err(Error::internal)?;
        self.store.apply(&step.changes)?;
        let one_time = step.output.iter().map(|package| package.clone().into()).collect();
        let mut last_resort = None;
        if !stock.last_resort {
            let (engine, store) = self.engine()?;
            let step = engine.last_resort_key_package(store, suite, now_ms).map_err(Error::internal)?;
            self.store.apply(&step.changes)?;
            last_resort = Some(step.output.clone());
        }
        self.session.stocks.entry(suite).or_default().left = None;
        self.request(&KeyPackagesPublish { one_time, last_resort, suite, replace: stock.replace }, Pending::Publish(suite))
    }

    pub(super) fn published(&mut self, suite: Suite, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => {
                self.session.stocks.insert(suite, Stock { left: Some(ENOUGH), last_resort: true, replace: false });
            }
            // The next authentication tells how many there are.
            Err(error) => tracing::debug!(%error, "key packages were not taken"),
        }
        Ok(())
    }
}
