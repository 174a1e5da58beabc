//! Messages: sealing and opening.

use openmls::{
    framing::errors::{MessageDecryptionError, SecretTreeError},
    group::{MlsGroup, ValidationError},
    prelude::{ContentType, MlsGroupStateError, MlsMessageIn, ProcessMessageError, ProcessedMessageContent, ProtocolMessage},
};
use parlour_wire::{
    id::{AccountId, ConversationId, MessageId},
    limits,
    log::Entry,
};
use tls_codec::{Deserialize as _, Serialize as _};

use super::{
    Leaf, Opened, Place, Sealed,
    leaf::{is_quarantined, named},
    record::Origin,
    work::Work,
};
use crate::{error::E2eeError, storage::StorageError};

/// Reads a protocol message and checks where it belongs.
pub(super) fn parse(payload: &[u8], conversation: &ConversationId, content: ContentType) -> Result<ProtocolMessage, E2eeError> {
    let malformed = E2eeError::Malformed("MLS message");
    let message = MlsMessageIn::tls_deserialize_exact(payload).map_err(|_| malformed.clone())?;
    let message = message.try_into_protocol_message().map_err(|_| malformed.clone())?;
    if message.group_id().as_slice() != conversation.0 {
        return Err(E2eeError::WrongConversation);
    }
    if message.content_type() == content { Ok(message) } else { Err(malformed) }
}

/// What a failure to process means to the caller; `otherwise` for all that is the fault of the message.
pub(super) fn process_error(error: ProcessMessageError<StorageError>, otherwise: E2eeError) -> E2eeError {
    match error {
        ProcessMessageError::StorageError(_) => E2eeError::Internal("group state"),
        ProcessMessageError::GroupStateError(MlsGroupStateError::UseAfterEviction) => E2eeError::Removed,
        ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(MessageDecryptionError::SecretTreeError(
            SecretTreeError::SecretReuseError,
        ))) => E2eeError::AlreadyRead,
        _ => otherwise,
    }
}

/// The devices of some accounts that are in a group.
fn members_of(group: &MlsGroup, accounts: &[AccountId]) -> impl Iterator<Item = Leaf> {
    let asked = !accounts.is_empty();
    let leaves = group.members().take_while(move |_| asked).filter_map(|member| named(&member.credential).ok());
    leaves.filter(|leaf| accounts.contains(&leaf.0))
}

/// What is authenticated with a message beside its content.
fn authenticated(id: &MessageId, place: Option<&Place>) -> Vec<u8> {
    let mut bytes = id.0.to_vec();
    bytes.extend(place.map(|place| place.to_bytes()).into_iter().flatten());
    bytes
}

/// Where the sender was, from what is authenticated with the message of that id.
fn place_in(aad: &[u8], id: &MessageId) -> Result<Option<Place>, E2eeError> {
    match aad.strip_prefix(id.0.as_slice()) {
        Some([]) => Ok(None),
        Some(place) => Place::from_bytes(place).map(Some).ok_or(E2eeError::Undecryptable),
        None => Err(E2eeError::Undecryptable),
    }
}

impl Work<'_> {
    pub(super) fn encrypt(&mut self, id: MessageId, place: Option<&Place>, content: &[u8]) -> Result<Sealed, E2eeError> {
        let record = self.take_record()?;
        if record.is_pending(Origin::Create) || record.is_pending(Origin::External) {
            return Err(E2eeError::AwaitingReceipt);
        }
        if let Some(revoked) = record.revoked.first() {
            return Err(E2eeError::RevokedDevice { account: revoked.account, device: revoked.device });
        }
        let mut group = self.take_group()?;
        if record.has_left(&self.certificate.get().account()) {
            return Err(E2eeError::Removed);
        }
        if let Some(leaf) = members_of(&group, &record.left_accounts()).next() {
            return Err(E2eeError::RevokedDevice { account: leaf.0, device: leaf.1 });
        }
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let epoch = record.home(&group);
        group.set_aad(authenticated(&id, place));
        let payload = group
            .create_message(&self.provider, self.keys, content)
            .map_err(|_| E2eeError::Internal("encrypting"))?
            .tls_serialize_detached()
            .map_err(|_| E2eeError::Internal("encoding a message"))?;
        if payload.len() > limits::ENTRY_PAYLOAD {
            return Err(E2eeError::TooLarge);
        }
        self.keep_record(record);
        self.put_group(group);
        Ok(Sealed { epoch, payload })
    }

    pub(super) fn open_message(&mut self, entry: &Entry) -> Result<Opened, E2eeError> {
        let message = parse(&entry.payload, &entry.conversation, ContentType::Application)?;
        let mut record = self.take_record()?;
        let mut group = self.take_group()?;
        let (current, of) = (group.epoch().as_u64(), message.epoch().as_u64());
        if of > current {
            return Err(E2eeError::WrongEpoch { current: record.home(&group), entry: of.saturating_add(record.ahead) });
        }
        if of < record.joined_epoch {
            return Err(E2eeError::BeforeJoin);
        }
        let unproven = record.unproven;
        let processed =
            group.process_message(&self.provider, message).map_err(|error| process_error(error, E2eeError::Undecryptable))?;
        // The sender has bound its id to the message: the server cannot show one message as another.
        let place = place_in(processed.aad(), &entry.id)?;
        let (sender, device) = named(processed.credential())?;
        let opened = match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => {
                record.unproven &= of != current;
                let revoked = is_quarantined(&record, &(sender, device));
                Opened::Message { sender, device, content: message.into_bytes(), revoked, place }
            }
            ProcessedMessageContent::OwnPrivateMessage => Opened::Own,
            _ => return Err(E2eeError::Undecryptable),
        };
        if unproven == record.unproven {
            self.keep_record(record)
        } else {
            self.put_record(record)?
        }
        self.put_group(group);
        Ok(opened)
    }
}
