//! What a commit brings along as the reason for what it does: in its authenticated data, so that every member judges it by the same,
//! whatever lists it has pinned and whichever entries of the log it has seen.

use minicbor::{Decode, Encode, bytes::ByteVec};
use parlour_wire::{
    api::Suite,
    codec,
    id::{AccountId, ConversationId, DeviceId},
    identity::{VerifiedCertificate, VerifiedList},
    limits,
    log::LeaveStatement,
};

use super::{Leaf, policy::Policy};
use crate::error::E2eeError;

/// That an account leaves, with what is needed to check it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Farewell {
    /// A signed [`LeaveStatement`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) statement: Vec<u8>,
    /// The certificate of the device that signed it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) certificate: Vec<u8>,
}

impl Farewell {
    /// The account that leaves, if the statement holds in that conversation: signed by a device of the account, for the time since it
    /// came in.
    pub(super) fn check(&self, conversation: &ConversationId, policy: &Policy) -> Result<AccountId, E2eeError> {
        let malformed = |_| E2eeError::Malformed("leave statement");
        let certificate = VerifiedCertificate::parse(&self.certificate).map_err(malformed)?;
        let statement = LeaveStatement::verify(&self.statement, &certificate.get().signature_key).map_err(malformed)?;
        if statement.account != certificate.get().account() {
            return Err(E2eeError::Forbidden("to leave for somebody else"));
        }
        let current = policy.member(&statement.account).is_some_and(|member| member.since == statement.since);
        if statement.conversation != *conversation || !current {
            return Err(E2eeError::Forbidden("an old leave statement, or one of another group"));
        }
        Ok(statement.account)
    }
}

/// That the group is founded anew: the commit takes everybody out, and the welcome that comes with it brings them in again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Refounding {
    #[n(0)]
    pub(super) suite: Suite,
    /// BLAKE3 of the welcome; absent if nobody is brought in by one.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) welcome: Option<[u8; 32]>,
}

/// The authenticated data of a commit, CBOR; nothing at all if there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Grounds {
    /// Signed device lists that no longer name a device which the commit takes out.
    #[n(0)]
    lists: Vec<ByteVec>,
    /// Of the accounts that have left and that the commit takes out.
    #[n(1)]
    left: Vec<Farewell>,
    #[n(2)]
    pub(super) refounding: Option<Refounding>,
}

impl Grounds {
    pub(super) fn new(lists: &[VerifiedList], left: Vec<Farewell>) -> Self {
        Self { lists: lists.iter().map(|list| list.as_bytes().to_vec().into()).collect(), left, refounding: None }
    }

    pub(super) fn of_refounding(refounding: Refounding) -> Self {
        Self { refounding: Some(refounding), ..Self::default() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        if *self == Self::default() { Vec::new() } else { codec::encode(self) }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, E2eeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let grounds: Self = codec::decode(bytes).map_err(|_| E2eeError::Malformed("grounds"))?;
        let bounded = grounds.lists.len() <= limits::GROUP_DEVICES && grounds.left.len() <= limits::GROUP_DEVICES;
        if bounded { Ok(grounds) } else { Err(E2eeError::Malformed("grounds")) }
    }

    /// The accounts that have left.
    pub(super) fn left(&self, conversation: &ConversationId, policy: &Policy) -> Result<Vec<AccountId>, E2eeError> {
        self.left.iter().map(|farewell| farewell.check(conversation, policy)).collect()
    }

    pub(super) fn lists(&self) -> Result<Vec<VerifiedList>, E2eeError> {
        self.lists.iter().map(|list| VerifiedList::parse(list).map_err(|_| E2eeError::Malformed("device list"))).collect()
    }
}

/// Whether a list says that a device of its account may speak no longer. A list from before the device says nothing: it must name it
/// among the revoked, unless there have been more of these than a list remembers.
pub(super) fn disowns(list: &VerifiedList, device: &DeviceId) -> bool {
    let revoked = &list.get().revoked;
    list.certificate(device).is_none() && (revoked.contains(device) || revoked.len() >= limits::REVOKED_PER_ACCOUNT)
}

/// The same for a leaf and several lists.
pub(super) fn is_disowned(lists: &[VerifiedList], leaf: &Leaf) -> bool {
    lists.iter().any(|list| list.account() == leaf.0 && disowns(list, &leaf.1))
}
