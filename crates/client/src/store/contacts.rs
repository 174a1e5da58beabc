//! Contacts, by account.

use std::sync::Arc;

use parlour_wire::{AccountId, name::Name};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::error::Error;

/// Whom the owner of the profile calls what, in the order of the petnames.
pub(super) type Petnames = Arc<[(AccountId, String)]>;

/// A contact as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct ContactRow {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) petname: Option<String>,
    pub(crate) blocked: bool,
    pub(crate) verified: bool,
    pub(crate) added: bool,
    pub(crate) seen_ms: u64,
    pub(crate) claimed: Option<AccountId>,
    /// On no list: taken from it, or a member of a group only.
    pub(crate) removed: bool,
}

const COLUMNS: &str = "account, name, petname, blocked, verified, added, seen_ms, claimed, removed";

fn read(row: &Row<'_>) -> rusqlite::Result<ContactRow> {
    Ok(ContactRow {
        account: AccountId(row.get(0)?),
        name: row.get(1)?,
        petname: row.get(2)?,
        blocked: row.get(3)?,
        verified: row.get(4)?,
        added: row.get(5)?,
        seen_ms: uint(row.get(6)?),
        claimed: row.get::<_, Option<[u8; 32]>>(7)?.map(AccountId),
        removed: row.get(8)?,
    })
}

impl Store {
    pub(crate) fn contact(&self, account: &AccountId) -> Result<Option<ContactRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM contacts WHERE account = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([account.0], read).optional()?)
    }

    /// The contact of a petname, or else of a server name. Two accounts can have had one server name; the one added by hand
    /// goes first.
    pub(crate) fn contact_by_name(&self, petname: &str, name: &str) -> Result<Option<ContactRow>, Error> {
        if let Some(account) = self.account_by_petname(petname)? {
            return self.contact(&account);
        }
        let sql = format!("SELECT {COLUMNS} FROM contacts WHERE removed = 0 AND name = ?1 ORDER BY added DESC, rowid LIMIT 1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([name], read).optional()?)
    }

    /// Somebody who is on no list any more, by the name that they had at the server, with whom there is a conversation.
    pub(crate) fn contact_before(&self, name: &str) -> Result<Option<ContactRow>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM contacts WHERE removed = 1 AND name = ?1 AND account IN (SELECT peer FROM conversations)
             ORDER BY rowid DESC LIMIT 1"
        );
        Ok(self.conn.prepare_cached(&sql)?.query_row([name], read).optional()?)
    }

    /// Who was given this petname, or, if nobody was, one that is the same name written otherwise.
    pub(crate) fn account_by_petname(&self, petname: &str) -> Result<Option<AccountId>, Error> {
        let petnames = self.petnames()?;
        if let Some((account, _)) = petnames.iter().find(|(_, given)| given == petname) {
            return Ok(Some(*account));
        }
        let Ok(name) = Name::parse(petname) else { return Ok(None) };
        Ok(petnames.iter().find(|(_, given)| is_written_as(given, name.as_str())).map(|(account, _)| *account))
    }

    /// Whether somebody else was given this server name as a petname, however it is written.
    pub(crate) fn is_petname_of_another(&self, name: &str, account: &AccountId) -> Result<bool, Error> {
        Ok(self.petnames()?.iter().any(|(other, given)| other != account && is_written_as(given, name)))
    }

    /// All that were given. Kept in memory, because they are looked at for each name that is shown.
    fn petnames(&self) -> Result<Petnames, Error> {
        if let Some(petnames) = &*self.petnames.borrow() {
            return Ok(Arc::clone(petnames));
        }
        let petnames: Petnames = self.read_petnames()?.into();
        *self.petnames.borrow_mut() = Some(Arc::clone(&petnames));
        Ok(petnames)
    }

    fn read_petnames(&self) -> Result<Vec<(AccountId, String)>, Error> {
        let mut statement =
            self.conn.prepare_cached("SELECT account, petname FROM contacts WHERE petname >= '' ORDER BY petname")?;
        let rows = statement.query_map([], |row| Ok((AccountId(row.get(0)?), row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(crate) fn contacts(&self) -> Result<Vec<ContactRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM contacts WHERE removed = 0 ORDER BY coalesce(petname, name), account");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Makes a contact of an account if there is none; whether it is new.
    pub(crate) fn know(&self, account: &AccountId, name: &str) -> Result<bool, Error> {
        let sql = "INSERT OR IGNORE INTO contacts (account, name) VALUES (?1, ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute(params![account.0, name])? == 1)
    }

    /// Keeps the name of somebody who shares a group with this account, without making a contact of them.
    pub(crate) fn know_of(&self, account: &AccountId) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO contacts (account, name, removed) VALUES (?1, '', 1)";
        self.conn.prepare_cached(sql)?.execute([account.0])?;
        Ok(())
    }

    /// Takes a petname from everybody but one.
    pub(crate) fn free_petname(&self, petname: &str, but: &AccountId) -> Result<(), Error> {
        self.petnames.take();
        let sql = "UPDATE contacts SET petname = NULL WHERE petname = ?1 AND account <> ?2";
        self.conn.prepare_cached(sql)?.execute(params![petname, but.0])?;
        Ok(())
    }

    /// Puts somebody on the list whom the owner of this profile has named, or who has written; whether they were not on it.
    pub(crate) fn list_contact(&self, account: &AccountId) -> Result<bool, Error> {
        let sql = "UPDATE contacts SET removed = 0 WHERE account = ?1 AND removed = 1";
        Ok(self.conn.prepare_cached(sql)?.execute([account.0])? == 1)
    }

    pub(crate) fn update_contact(&self, contact: &ContactRow) -> Result<(), Error> {
        self.petnames.take();
        let sql = "UPDATE contacts SET name = ?2, petname = ?3, blocked = ?4, verified = ?5, added = ?6, seen_ms = ?7,
            claimed = ?8, removed = removed AND NOT ?6 WHERE account = ?1";
        self.conn.prepare_cached(sql)?.execute(params![
            contact.account.0,
            contact.name,
            contact.petname,
            contact.blocked,
            contact.verified,
            contact.added,
            int(contact.seen_ms),
            contact.claimed.map(|account| account.0),
        ])?;
        Ok(())
    }

    /// Takes a contact from the list. A row is left, because the conversation with them would bring them back at the next sync, and
    /// its name, because the conversation stays; adding them again lists them again.
    pub(crate) fn forget_contact(&self, account: &AccountId) -> Result<(), Error> {
        self.petnames.take();
        let sql = "UPDATE contacts SET petname = NULL, blocked = 0, verified = 0, added = 0, claimed = NULL,
            removed = 1 WHERE account = ?1";
        self.conn.prepare_cached(sql)?.execute([account.0])?;
        Ok(())
    }
}

/// Whether a petname, kept as its owner wrote it, is this server name.
fn is_written_as(petname: &str, name: &str) -> bool {
    if petname.is_ascii() {
        return petname.eq_ignore_ascii_case(name);
    }
    Name::parse(petname).is_ok_and(|petname| petname.as_str() == name)
}
