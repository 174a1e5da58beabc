//! Joining: by a welcome, or by external commit.

use openmls::{
    group::{MlsGroup, StagedWelcome, WelcomeError},
    messages::group_info::VerifiableGroupInfo,
    prelude::{LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, Welcome as MlsWelcome},
};
use parlour_wire::{
    api::{ConversationKind, Welcome},
    limits,
};
use tls_codec::Deserialize as _;

use super::{
    Joined, Lists, PendingCommit,
    judge::check_policy,
    leaf::{admit_all, leaves, named},
    policy::Policy,
    record::{Origin, Pending, stage},
    suite::{capabilities, credential, join_config, wire_suite},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Kind, Overlay, StorageError},
};

fn parse_welcome(bytes: &[u8]) -> Result<MlsWelcome, E2eeError> {
    let malformed = E2eeError::Malformed("welcome");
    if bytes.len() > limits::HANDSHAKE_PAYLOAD {
        return Err(malformed);
    }
    match MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract) {
        Ok(MlsMessageBodyIn::Welcome(welcome)) => Ok(welcome),
        _ => Err(malformed),
    }
}

fn parse_group_info(bytes: &[u8]) -> Result<VerifiableGroupInfo, E2eeError> {
    let malformed = E2eeError::Malformed("group info");
    if bytes.len() > limits::HANDSHAKE_PAYLOAD {
        return Err(malformed);
    }
    match MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract) {
        Ok(MlsMessageBodyIn::GroupInfo(info)) if wire_suite(info.ciphersuite()).is_ok() => Ok(info),
        _ => Err(malformed),
    }
}

fn welcome_error(error: &WelcomeError<StorageError>) -> E2eeError {
    match error {
        WelcomeError::NoMatchingKeyPackage => E2eeError::NoKeyPackage,
        WelcomeError::StorageError(_) => E2eeError::Internal("group state"),
        _ => E2eeError::Malformed("welcome"),
    }
}

impl Work<'_> {
    pub(super) fn join(&mut self, welcome: &Welcome, lists: &dyn Lists) -> Result<Joined, E2eeError> {
        let mut record = self.take_record()?;
        let unconfirmed = record.is_pending(Origin::Create);
        let old = self.find_group()?;
        let builder = match StagedWelcome::build_from_welcome(&self.provider, &join_config(), parse_welcome(&welcome.welcome)?) {
            // The package went with the first time this welcome was used.
            Err(WelcomeError::NoMatchingKeyPackage) if old.is_some() && !unconfirmed => return Err(E2eeError::Duplicate),
            other => other.map_err(|error| welcome_error(&error))?,
        };
        let info = builder.processed_welcome().unverified_group_info();
        if info.group_id().as_slice() != welcome.conversation.0 {
            return Err(E2eeError::WrongConversation);
        }
        let mut before = None;
        if let Some(old) = old {
            if !unconfirmed && old.is_active() && record.home(&old) >= welcome.epoch {
                return Err(E2eeError::Duplicate);
            }
            if !unconfirmed && old.is_active() {
                before = Some((Policy::of(&old)?, record.left.clone(), record.home(&old)));
            }
            self.delete_group(old)?;
        }
        let staged = builder.replace_old_group().build().map_err(|error| welcome_error(&error))?;
        let sender = staged.welcome_sender().map_err(|_| E2eeError::Malformed("welcome"))?;
        let (adder, _) = named(sender.credential())?;
        let group = staged.into_group(&self.provider).map_err(|error| welcome_error(&error))?;
        let policy = self.check_joined(&group)?;
        if let Some((old, left, home)) = before
            && home + 1 == welcome.epoch
        {
            // Nothing came in between, so what the group was before says what it may be now.
            if !old.is_admin(&adder) && old.kind == ConversationKind::GROUP {
                return Err(E2eeError::NotAdmin);
            }
            check_policy(&old, &policy, &adder, &left, welcome.epoch)?;
        }
        if policy.kind != welcome.kind {
            return Err(E2eeError::WrongConversation);
        }
        record.revoked = admit_all(&group, &policy, lists)?;
        record.joined_epoch = group.epoch().as_u64();
        record.set_home(&group, welcome.epoch);
        (record.left, record.repair) = (Vec::new(), false);
        if record.has_staged() {
            self.delete_staged_join()?;
        }
        record.pending = None;
        let joined = Joined {
            epoch: record.home(&group),
            members: leaves(&group)?.into_iter().map(|(_, leaf)| leaf).collect(),
            receipt_key: policy.receipt_key(),
        };
        self.put_record(record)?;
        self.put_group(group);
        Ok(joined)
    }

    /// Whether a group is the conversation it is said to be, and this account's.
    fn check_joined(&self, group: &MlsGroup) -> Result<Policy, E2eeError> {
        wire_suite(group.ciphersuite())?;
        let policy = Policy::of(group)?;
        policy.check(&self.conversation()?, &self.certificate.get().account())?;
        Ok(policy)
    }

    pub(super) fn join_external(
        &mut self,
        group_info: &[u8],
        home_epoch: u64,
        receipt_key: &[u8; 32],
        lists: &dyn Lists,
    ) -> Result<PendingCommit, E2eeError> {
        let mut record = self.take_record()?;
        if record.pending.is_some() {
            return Err(E2eeError::CommitPending);
        }
        let conversation = self.conversation()?;
        let info = parse_group_info(group_info)?;
        if info.group_id().as_slice() != conversation.0 {
            return Err(E2eeError::WrongConversation);
        }
        // The state of before is left in its rows until the receipt comes.
        let old = self.find_group()?;
        let (group, pending) = self.build_external(info, home_epoch)?;
        let policy = self.check_joined(&group)?;
        if policy.receipt_key() != *receipt_key {
            return Err(E2eeError::BadReceipt);
        }
        admit_all(&group, &policy, lists)?;
        let staged = self.provider.storage.take();
        self.provider.storage.put_raw(Overlay::own_key(Kind::StagedJoin, &conversation), Some(stage(&staged)));
        record.pending = Some(Pending::new(Origin::External, &pending.commit, home_epoch, policy.receipt_key()));
        self.put_record(record)?;
        if let Some(old) = old {
            self.put_group(old);
        }
        Ok(pending)
    }

    fn build_external(&self, info: VerifiableGroupInfo, parent_epoch: u64) -> Result<(MlsGroup, PendingCommit), E2eeError> {
        let malformed = E2eeError::Malformed("group info");
        let parameters = LeafNodeParameters::builder().with_capabilities(capabilities()).build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .build_group(&self.provider, info, credential(self.certificate))
            .map_err(|_| malformed.clone())?
            .leaf_node_parameters(parameters)
            .load_psks(&self.provider.storage)
            .map_err(|_| malformed.clone())?
            .use_ratchet_tree_extension(true)
            .build(self.provider.crypto, self.provider.crypto, self.keys, |_| true)
            .map_err(|_| malformed.clone())?
            .finalize(&self.provider)
            .map_err(|_| malformed)?;
        let mut pending = self.describe(parent_epoch, bundle, Vec::new(), Vec::new())?;
        pending.external = true;
        Ok((group, pending))
    }
}
