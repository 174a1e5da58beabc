//! The storage provider that OpenMLS sees: every method of the trait, each one row (or one list) of the [`Overlay`].

use openmls_traits::storage::{CURRENT_VERSION as V, StorageProvider, traits};

use super::{
    overlay::{Kind, Overlay, StorageError, row_key},
    past,
};

/// The group's rows that are written, read and deleted whole.
macro_rules! group_rows {
    ($($kind:ident, $entity:ident: $write:ident, $read:ident;)*) => {
        $(
            fn $write<G: traits::GroupId<V>, E: traits::$entity<V>>(&self, group: &G, value: &E) -> Result<(), StorageError> {
                self.write(Kind::$kind, group, value)
            }

            fn $read<G: traits::GroupId<V>, E: traits::$entity<V>>(&self, group: &G) -> Result<Option<E>, StorageError> {
                self.read(Kind::$kind, group)
            }
        )*
    };
}

macro_rules! group_deletes {
    ($($kind:ident: $delete:ident;)*) => {
        $(
            fn $delete<G: traits::GroupId<V>>(&self, group: &G) -> Result<(), StorageError> {
                self.delete(Kind::$kind, group)
            }
        )*
    };
}

impl StorageProvider<V> for Overlay<'_> {
    type Error = StorageError;

    group_rows! {
        JoinConfig, MlsGroupJoinConfig: write_mls_join_config, mls_group_join_config;
        Tree, TreeSync: write_tree, tree;
        InterimTranscriptHash, InterimTranscriptHash: write_interim_transcript_hash, interim_transcript_hash;
        Context, GroupContext: write_context, group_context;
        ConfirmationTag, ConfirmationTag: write_confirmation_tag, confirmation_tag;
        ResumptionPsks, ResumptionPskStore: write_resumption_psk_store, resumption_psk_store;
        OwnLeafIndex, LeafNodeIndex: write_own_leaf_index, own_leaf_index;
        EpochSecrets, GroupEpochSecrets: write_group_epoch_secrets, group_epoch_secrets;
    }

    group_deletes! {
        JoinConfig: delete_group_config;
        OwnLeafNodes: delete_own_leaf_nodes;
        Tree: delete_tree;
        InterimTranscriptHash: delete_interim_transcript_hash;
        Context: delete_context;
        ConfirmationTag: delete_confirmation_tag;
        GroupState: delete_group_state;
        ResumptionPsks: delete_all_resumption_psk_secrets;
        OwnLeafIndex: delete_own_leaf_index;
        EpochSecrets: delete_group_epoch_secrets;
    }

    fn write_message_secrets<G: traits::GroupId<V>, S: traits::MessageSecrets<V>>(
        &self,
        group: &G,
        secrets: &S,
    ) -> Result<(), StorageError> {
        past::write(self, group, secrets)
    }

    fn message_secrets<G: traits::GroupId<V>, S: traits::MessageSecrets<V>>(&self, group: &G) -> Result<Option<S>, StorageError> {
        past::read(self, group)
    }

    fn delete_message_secrets<G: traits::GroupId<V>>(&self, group: &G) -> Result<(), StorageError> {
        past::delete(self, group)
    }

    // The type parameters of these two are the other way round than those of their siblings.
    fn write_group_state<S: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        group: &G,
        state: &S,
    ) -> Result<(), StorageError> {
        self.write(Kind::GroupState, group, state)
    }

    fn group_state<S: traits::GroupState<V>, G: traits::GroupId<V>>(&self, group: &G) -> Result<Option<S>, StorageError> {
        self.read(Kind::GroupState, group)
    }

    fn append_own_leaf_node<G: traits::GroupId<V>, L: traits::LeafNode<V>>(
        &self,
        group: &G,
        leaf: &L,
    ) -> Result<(), StorageError> {
        self.append(row_key(Kind::OwnLeafNodes, group)?, leaf)
    }

    fn own_leaf_nodes<G: traits::GroupId<V>, L: traits::LeafNode<V>>(&self, group: &G) -> Result<Vec<L>, StorageError> {
        self.read_list(&row_key(Kind::OwnLeafNodes, group)?)
    }

    fn queue_proposal<G: traits::GroupId<V>, R: traits::ProposalRef<V>, P: traits::QueuedProposal<V>>(
        &self,
        group: &G,
        reference: &R,
        proposal: &P,
    ) -> Result<(), StorageError> {
        self.write_any(row_key(Kind::Proposal, &(group, reference))?, proposal)?;
        self.append(row_key(Kind::ProposalRefs, group)?, reference)
    }

    fn queued_proposal_refs<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(&self, group: &G) -> Result<Vec<R>, StorageError> {
        self.read_list(&row_key(Kind::ProposalRefs, group)?)
    }

    fn queued_proposals<G: traits::GroupId<V>, R: traits::ProposalRef<V>, P: traits::QueuedProposal<V>>(
        &self,
        group: &G,
    ) -> Result<Vec<(R, P)>, StorageError> {
        self.queued_proposal_refs::<G, R>(group)?
            .into_iter()
            .map(|reference| {
                let proposal = self.read_any(&row_key(Kind::Proposal, &(group, &reference))?)?;
                proposal.map(|proposal| (reference, proposal)).ok_or(StorageError::Missing)
            })
            .collect()
    }

    fn remove_proposal<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        group: &G,
        reference: &R,
    ) -> Result<(), StorageError> {
        self.put_raw(row_key(Kind::Proposal, &(group, reference))?, None);
        let key = row_key(Kind::ProposalRefs, group)?;
        let removed = ciborium::Value::serialized(reference).map_err(|_| StorageError::Encode)?;
        let mut references: Vec<ciborium::Value> = self.read_list(&key)?;
        references.retain(|other| *other != removed);
        self.write_any(key, &references)
    }

    fn clear_proposal_queue<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(&self, group: &G) -> Result<(), StorageError> {
        for reference in self.queued_proposal_refs::<G, R>(group)? {
            self.put_raw(row_key(Kind::Proposal, &(group, reference))?, None);
        }
        self.delete(Kind::ProposalRefs, group)
    }

    fn write_signature_key_pair<P: traits::SignaturePublicKey<V>, S: traits::SignatureKeyPair<V>>(
        &self,
        public: &P,
        pair: &S,
    ) -> Result<(), StorageError> {
        self.write(Kind::SignatureKeys, public, pair)
    }

    fn signature_key_pair<P: traits::SignaturePublicKey<V>, S: traits::SignatureKeyPair<V>>(
        &self,
        public: &P,
    ) -> Result<Option<S>, StorageError> {
        self.read(Kind::SignatureKeys, public)
    }

    fn delete_signature_key_pair<P: traits::SignaturePublicKey<V>>(&self, public: &P) -> Result<(), StorageError> {
        self.delete(Kind::SignatureKeys, public)
    }

    fn write_encryption_key_pair<P: traits::EncryptionKey<V>, K: traits::HpkeKeyPair<V>>(
        &self,
        public: &P,
        pair: &K,
    ) -> Result<(), StorageError> {
        self.write(Kind::EncryptionKeys, public, pair)
    }

    fn encryption_key_pair<K: traits::HpkeKeyPair<V>, P: traits::EncryptionKey<V>>(
        &self,
        public: &P,
    ) -> Result<Option<K>, StorageError> {
        self.read(Kind::EncryptionKeys, public)
    }

    fn delete_encryption_key_pair<P: traits::EncryptionKey<V>>(&self, public: &P) -> Result<(), StorageError> {
        self.delete(Kind::EncryptionKeys, public)
    }

    fn write_encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>, K: traits::HpkeKeyPair<V>>(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
        pairs: &[K],
    ) -> Result<(), StorageError> {
        self.write_any(row_key(Kind::EpochEncryptionKeys, &(group, epoch, leaf))?, &pairs)
    }

    fn encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>, K: traits::HpkeKeyPair<V>>(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<Vec<K>, StorageError> {
        self.read_list(&row_key(Kind::EpochEncryptionKeys, &(group, epoch, leaf))?)
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>>(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<(), StorageError> {
        self.put_raw(row_key(Kind::EpochEncryptionKeys, &(group, epoch, leaf))?, None);
        Ok(())
    }

    fn write_key_package<R: traits::HashReference<V>, K: traits::KeyPackage<V>>(
        &self,
        reference: &R,
        package: &K,
    ) -> Result<(), StorageError> {
        self.write(Kind::KeyPackage, reference, package)
    }

    fn key_package<R: traits::HashReference<V>, K: traits::KeyPackage<V>>(
        &self,
        reference: &R,
    ) -> Result<Option<K>, StorageError> {
        self.read(Kind::KeyPackage, reference)
    }

    fn delete_key_package<R: traits::HashReference<V>>(&self, reference: &R) -> Result<(), StorageError> {
        self.delete(Kind::KeyPackage, reference)
    }

    fn write_psk<I: traits::PskId<V>, P: traits::PskBundle<V>>(&self, id: &I, psk: &P) -> Result<(), StorageError> {
        self.write(Kind::Psk, id, psk)
    }

    fn psk<P: traits::PskBundle<V>, I: traits::PskId<V>>(&self, id: &I) -> Result<Option<P>, StorageError> {
        self.read(Kind::Psk, id)
    }

    fn delete_psk<I: traits::PskId<V>>(&self, id: &I) -> Result<(), StorageError> {
        self.delete(Kind::Psk, id)
    }
}
