//! Joining: by a welcome, or by external commit.

use openmls::{
    group::{MlsGroup, StagedWelcome, WelcomeError},
    messages::group_info::VerifiableGroupInfo,
    prelude::{Ciphersuite, LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, Welcome as MlsWelcome},
};
use parlour_wire::{api::Welcome, limits};
use tls_codec::{Deserialize as _, Size as _};

use super::{
    Joined, Lists, PendingCommit,
    leaf::{admit_all, leaves, named},
    policy::{Policy, PolicyMember},
    record::{LAST_EPOCH, Origin, Pending, Record, Refounded, hash, stage},
    suite::{Provider, capabilities, credential, join_config, wire_suite},
    work::Work,
};
use crate::{
    error::E2eeError,
    storage::{Changes, Kind, NoRows, Overlay, StorageError},
};

/// A group joined by external commit, the commit, and the rows of the group.
type Joining = (MlsGroup, PendingCommit, Changes);

/// Nodes of the largest tree of a group: as many leaves as it may have devices and one less above them, rounded up.
const TREE_NODES: usize = 2 * limits::GROUP_DEVICES.next_power_of_two();

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

/// Refuses a tree that is larger than that of any group before its nodes are looked at: a blank one costs its sender a byte, but a node's
/// work here, so that the bound on the bytes is none on the work.
fn check_tree(info: &VerifiableGroupInfo) -> Result<(), E2eeError> {
    let Some(tree) = info.extensions().ratchet_tree().map(|extension| extension.ratchet_tree()) else { return Ok(()) };
    let filled: usize = tree.nodes().map(|node| 1 + node.tls_serialized_len()).sum();
    // What is left are blanks, and the few bytes that say how long it is.
    let blank = tree.tls_serialized_len().saturating_sub(filled);
    let fits = tree.leaves().count() <= limits::GROUP_DEVICES && tree.nodes().count() + blank <= TREE_NODES;
    if fits { Ok(()) } else { Err(E2eeError::GroupFull) }
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
        check_tree(info)?;
        if let Some(old) = old {
            if !unconfirmed && old.is_active() && record.home(&old) >= welcome.epoch {
                return Err(E2eeError::Duplicate);
            }
            self.delete_group(old)?;
        }
        let staged = builder.replace_old_group().build().map_err(|error| welcome_error(&error))?;
        let sender = staged.welcome_sender().map_err(|_| E2eeError::Malformed("welcome"))?;
        let (adder, _) = named(sender.credential())?;
        let group = staged.into_group(&self.provider).map_err(|error| welcome_error(&error))?;
        let policy = self.check_joined(&group)?;
        if let Some(refounded) = record.refounded.take().filter(|refounded| refounded.epoch == welcome.epoch) {
            check_refounded(&refounded, &policy, group.ciphersuite(), &welcome.welcome)?;
        }
        if policy.kind != welcome.kind {
            return Err(E2eeError::WrongConversation);
        }
        record.revoked = admit_all(&group, &policy, lists)?;
        record.joined_epoch = group.epoch().as_u64();
        record.set_home(&group, welcome.epoch)?;
        record.commits.clear();
        (record.left, record.repair, record.unproven) = (Vec::new(), false, false);
        if record.has_staged() {
            self.delete_staged_join()?;
        }
        record.pending = None;
        let joined = Joined {
            epoch: record.home(&group),
            members: leaves(&group)?.into_iter().map(|(_, leaf)| leaf).collect(),
            receipt_key: policy.receipt_key(),
            adder,
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
        check_tree(&info)?;
        if home_epoch < info.epoch().as_u64() || home_epoch >= LAST_EPOCH {
            return Err(E2eeError::Malformed("group info"));
        }
        // The state of before is left in its rows until the receipt comes.
        let old = self.find_group()?;
        let (group, pending, staged) = self.build_external(info, home_epoch)?;
        let policy = self.check_joined(&group)?;
        if policy.receipt_key() != *receipt_key {
            return Err(E2eeError::BadReceipt);
        }
        if let Some(old) = &old {
            check_rejoin(&record, old, &policy, home_epoch)?;
        }
        admit_all(&group, &policy, lists)?;
        self.provider.storage.put_raw(Overlay::own_key(Kind::StagedJoin, &conversation), Some(stage(&staged)));
        record.pending = Some(Pending::new(Origin::External, &pending.commit, home_epoch, policy.receipt_key()));
        self.put_record(record)?;
        if let Some(old) = old {
            self.put_group(old);
        }
        Ok(pending)
    }

    fn build_external(&self, info: VerifiableGroupInfo, parent_epoch: u64) -> Result<Joining, E2eeError> {
        let provider = Provider { crypto: self.provider.crypto, storage: Overlay::new(&NoRows) };
        let malformed = E2eeError::Malformed("group info");
        let parameters = LeafNodeParameters::builder().with_capabilities(capabilities()).build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .build_group(&provider, info, credential(self.certificate))
            .map_err(|_| malformed.clone())?
            .leaf_node_parameters(parameters)
            .load_psks(&provider.storage)
            .map_err(|_| malformed.clone())?
            .use_ratchet_tree_extension(true)
            .build(provider.crypto, provider.crypto, self.keys, |_| true)
            .map_err(|_| malformed.clone())?
            .finalize(&provider)
            .map_err(|_| malformed)?;
        let mut pending = self.describe(parent_epoch, bundle, Vec::new(), Vec::new())?;
        pending.external = true;
        Ok((group, pending, provider.storage.finish()?))
    }
}

/// Whether a group that was to be founded anew is the one of before, and this welcome the one that was announced.
fn check_refounded(refounded: &Refounded, policy: &Policy, suite: Ciphersuite, welcome: &[u8]) -> Result<(), E2eeError> {
    let announced = &refounded.refounding;
    let stayed = |member: &PolicyMember| refounded.policy.member(&member.account).is_some_and(|old| old.since == member.since);
    let same = policy.ordering == refounded.policy.ordering
        && policy.kind == refounded.policy.kind
        && policy.name == refounded.policy.name
        && policy.history == refounded.policy.history
        && policy.members.iter().all(stayed);
    let fits = announced.welcome == Some(hash(welcome)) && wire_suite(suite) == Ok(announced.suite);
    if same && fits { Ok(()) } else { Err(E2eeError::WrongConversation) }
}

/// A device that still has a state goes forward only, and into the same conversation.
fn check_rejoin(record: &Record, old: &MlsGroup, policy: &Policy, home_epoch: u64) -> Result<(), E2eeError> {
    let before = Policy::of(old)?;
    if before.ordering != policy.ordering || before.kind != policy.kind {
        return Err(E2eeError::WrongConversation);
    }
    let current = record.home(old);
    if home_epoch < current { Err(E2eeError::WrongEpoch { current, entry: home_epoch }) } else { Ok(()) }
}
