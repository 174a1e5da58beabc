//! Offers of a history: a pack of earlier messages for an account that came into a conversation later.

use minicbor::Decoder;

use super::{
    Attachment, Body,
    codec::{Out, Written, array, bad, bytes_of, skipped},
    part,
};
use crate::{
    codec::DecodeError,
    id::{AccountId, MessageId},
};

/// Content type of an offer.
pub(super) const HISTORY: &str = "application/vnd.parlour.history";
const FIELDS: u64 = 5;

/// A pack of earlier messages: an attachment like any other, to be taken in instead of shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryOffer {
    /// For whom.
    pub account: AccountId,
    /// The pack.
    pub pack: Attachment,
    /// How many messages it holds.
    pub messages: u32,
    /// The oldest message in it.
    pub oldest: MessageId,
    /// The newest message in it.
    pub newest: MessageId,
}

impl HistoryOffer {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        let pack = self.pack.to_part()?;
        let mut out = bytes_of(|e| self.write(e));
        out.extend_from_slice(&pack);
        Ok(out)
    }

    fn write(&self, e: &mut Out<'_>) -> Written {
        e.array(FIELDS)?.bytes(self.account.as_bytes())?.u32(self.messages)?;
        e.bytes(self.oldest.as_bytes())?.bytes(self.newest.as_bytes())?;
        Ok(())
    }

    /// Fields that later versions add at the end are skipped.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let fields = array(&mut d)?;
        if fields < FIELDS {
            return Err(DecodeError::Malformed);
        }
        let account = AccountId::try_from(d.bytes().map_err(bad)?)?;
        let messages = d.u32().map_err(bad)?;
        let oldest = MessageId::try_from(d.bytes().map_err(bad)?)?;
        let newest = MessageId::try_from(d.bytes().map_err(bad)?)?;
        let Body::Attachment(pack) = part::from_bytes(skipped(&mut d)?)? else {
            return Err(DecodeError::Invalid("offer of a history"));
        };
        for _ in FIELDS..fields {
            skipped(&mut d)?;
        }
        if d.position() != bytes.len() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { account, pack, messages, oldest, newest })
    }
}
