//! One step at work on one conversation: the provider over the caller's rows, the group and the engine's record of it.

use openmls::group::{GroupId, MlsGroup};
use openmls_rust_crypto::RustCrypto;
use parlour_wire::{codec, id::ConversationId, identity::VerifiedCertificate};

use super::{
    record::{Origin, Record},
    suite::Provider,
};
use crate::{
    device::DeviceKeys,
    error::E2eeError,
    storage::{Changes, Kind, Overlay, Rows},
};

/// What the engine keeps of a conversation in memory.
pub(super) struct Cached {
    group: MlsGroup,
    record: Record,
}

/// A step at work. Group and record are taken out to be worked on, and put back only when they are good.
pub(super) struct Work<'a> {
    pub(super) keys: &'a DeviceKeys,
    pub(super) certificate: &'a VerifiedCertificate,
    pub(super) provider: Provider<'a>,
    conversation: Option<ConversationId>,
    group: Option<MlsGroup>,
    record: Option<Record>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        keys: &'a DeviceKeys,
        certificate: &'a VerifiedCertificate,
        crypto: &'a RustCrypto,
        rows: &'a dyn Rows,
        conversation: Option<ConversationId>,
        cached: Option<Cached>,
    ) -> Self {
        let (group, record) = cached.map_or((None, None), |cached| (Some(cached.group), Some(cached.record)));
        let provider = Provider { crypto, storage: Overlay::new(rows) };
        Self { keys, certificate, provider, conversation, group, record }
    }

    /// What to keep in memory, and the write set.
    ///
    /// # Errors
    /// The store's failure, if it had one at any point of the step.
    pub(super) fn finish(self) -> Result<(Option<Cached>, Changes), E2eeError> {
        let changes = self.provider.storage.finish()?;
        let cached = match (self.group, self.record) {
            (Some(group), Some(record)) => Some(Cached { group, record }),
            _ => None,
        };
        Ok((cached, changes))
    }

    pub(super) fn conversation(&self) -> Result<ConversationId, E2eeError> {
        self.conversation.ok_or(E2eeError::Internal("a step without a conversation"))
    }

    pub(super) fn group_id(&self) -> Result<GroupId, E2eeError> {
        Ok(GroupId::from_slice(&self.conversation()?.0))
    }

    /// The group, if this device has state of it.
    pub(super) fn find_group(&mut self) -> Result<Option<MlsGroup>, E2eeError> {
        if let Some(group) = self.group.take() {
            return Ok(Some(group));
        }
        let id = self.group_id()?;
        MlsGroup::load(&self.provider.storage, &id).map_err(|_| E2eeError::Internal("group state"))
    }

    pub(super) fn take_group(&mut self) -> Result<MlsGroup, E2eeError> {
        self.find_group()?.ok_or(E2eeError::NoConversation)
    }

    pub(super) fn put_group(&mut self, group: MlsGroup) {
        self.group = Some(group);
    }

    pub(super) fn take_record(&mut self) -> Result<Record, E2eeError> {
        if let Some(record) = self.record.take() {
            return Ok(record);
        }
        let key = Overlay::own_key(Kind::Conversation, &self.conversation()?);
        match self.provider.storage.get_raw(&key)? {
            Some(bytes) => codec::decode(&bytes).map_err(|_| E2eeError::Internal("conversation row")),
            None => Ok(Record::default()),
        }
    }

    /// Puts back a record that has not changed.
    pub(super) fn keep_record(&mut self, record: Record) {
        self.record = Some(record);
    }

    /// Puts back a record that has changed.
    pub(super) fn put_record(&mut self, record: Record) -> Result<(), E2eeError> {
        let key = Overlay::own_key(Kind::Conversation, &self.conversation()?);
        let value = (record != Record::default()).then(|| codec::encode(&record));
        self.provider.storage.put_raw(key, value);
        self.record = Some(record);
        Ok(())
    }

    pub(super) fn delete_group(&self, mut group: MlsGroup) -> Result<(), E2eeError> {
        group.delete(&self.provider.storage).map_err(|_| E2eeError::Internal("deleting a group"))
    }

    pub(super) fn delete_staged_join(&self) -> Result<(), E2eeError> {
        let key = Overlay::own_key(Kind::StagedJoin, &self.conversation()?);
        self.provider.storage.put_raw(key, None);
        Ok(())
    }

    pub(super) fn clear_pending(&self, group: &mut MlsGroup) -> Result<(), E2eeError> {
        if group.pending_commit().is_none() {
            return Ok(());
        }
        group.clear_pending_commit(&self.provider.storage).map_err(|_| E2eeError::Internal("clearing a pending commit"))
    }

    pub(super) fn abandon(&mut self, parent_epoch: u64) -> Result<(), E2eeError> {
        let mut record = self.take_record()?;
        let group = self.find_group()?;
        let given_up = record.pending.take_if(|pending| pending.parent_epoch == parent_epoch);
        match (given_up.map(|pending| pending.origin), group) {
            (None, group) => {
                self.group = group;
                self.keep_record(record);
                return Ok(());
            }
            (Some(Origin::Create), Some(group)) => self.delete_group(group)?,
            (Some(Origin::Member), Some(mut group)) => {
                self.clear_pending(&mut group)?;
                self.put_group(group);
            }
            (Some(Origin::External | Origin::Refound), mut group) => {
                self.delete_staged_join()?;
                if let Some(group) = &mut group {
                    self.clear_pending(group)?;
                }
                self.group = group;
            }
            (Some(Origin::Create | Origin::Member), None) => {}
        }
        self.put_record(record)
    }

    pub(super) fn forget(&mut self) -> Result<(), E2eeError> {
        let mut record = self.take_record()?;
        if let Some(group) = self.find_group()? {
            self.delete_group(group)?;
        }
        if record.has_staged() {
            self.delete_staged_join()?;
        }
        record = Record::default();
        self.put_record(record)
    }

    pub(super) fn epoch(&mut self) -> Result<u64, E2eeError> {
        let record = self.take_record()?;
        let group = self.take_group()?;
        let epoch = record.home(&group);
        self.keep_record(record);
        self.put_group(group);
        Ok(epoch)
    }

    pub(super) fn pending(&mut self) -> Result<Option<u64>, E2eeError> {
        let record = self.take_record()?;
        let parent = record.pending.as_ref().map(|pending| pending.parent_epoch);
        self.keep_record(record);
        Ok(parent)
    }
}
