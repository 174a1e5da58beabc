//! Ratchet trees that fit the bytes of a welcome or a group info and no group: too many leaves, and blank nodes without end.

use openmls::{
    messages::group_info::VerifiableGroupInfo,
    prelude::{
        Capabilities, Ciphersuite, Credential, CredentialType, CredentialWithKey, Extension, ExtensionType, GroupId, KeyPackage,
        Lifetime, MlsGroup, MlsMessageBodyIn, MlsMessageIn, ProtocolVersion,
    },
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use parlour_e2ee::{DeviceKeys, E2eeError};
use parlour_wire::{
    api::{ConversationKind, Suite, Welcome},
    limits,
};
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

use crate::{rogue::package, room::Room};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
const OURS: u16 = 0xF150;

fn parse(info: &[u8]) -> VerifiableGroupInfo {
    let MlsMessageBodyIn::GroupInfo(info) = MlsMessageIn::tls_deserialize_exact(info).unwrap().extract() else { panic!() };
    info
}

/// With a length before it, as TLS has vectors.
fn vector(bytes: Vec<u8>) -> Vec<u8> {
    VLBytes::new(bytes).tls_serialize_detached().unwrap()
}

/// The group info with other nodes for those of its tree. Its signature does not hold any more, which is found out later.
fn with_nodes(info: &[u8], nodes: Vec<u8>) -> Vec<u8> {
    let extensions = parse(info).extensions().clone();
    let tree = |nodes| [2_u16.to_be_bytes().to_vec(), vector(vector(nodes))].concat();
    let parts = extensions.iter().map(|extension| match extension {
        Extension::RatchetTree(_) => tree(nodes.clone()),
        other => other.tls_serialize_detached().unwrap(),
    });
    let (old, new) = (extensions.tls_serialize_detached().unwrap(), vector(parts.flatten().collect()));
    let at = info.windows(old.len()).position(|window| window == old).unwrap();
    [&info[..at], &new, &info[at + old.len()..]].concat()
}

/// The nodes of a tree as they are in a group info, and the first of them.
fn nodes(info: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let info = parse(info);
    let tree = info.extensions().ratchet_tree().unwrap().ratchet_tree();
    let all = VLBytes::tls_deserialize_exact(tree.tls_serialize_detached().unwrap()).unwrap();
    let first = tree.nodes().next().unwrap().tls_serialize_detached().unwrap();
    (all.as_slice().to_vec(), [vec![1], first].concat())
}

#[test]
fn a_tree_of_a_group_info_that_no_group_has_is_not_looked_at() {
    let mut room = Room::of_suite(Suite::CLASSICAL, 2, 2);
    let second = room.accounts[1].device();
    room.clients.push(second);
    room.inside.push(false);
    let (info, home, key) = room.server.to_join();
    let mut join = |nodes: Vec<u8>| {
        let info = with_nodes(&info, nodes);
        assert!(info.len() <= limits::HANDSHAKE_PAYLOAD, "{} bytes", info.len());
        room.step(2, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, &info, home, &key, pinned))
            .err()
    };
    let (all, first) = nodes(&info);
    let blanks = |count: usize| [all.clone(), vec![0; count], first.clone()].concat();
    let leaves = |count: usize| [first.clone(), vec![0]].concat().repeat(count);
    for fits in [blanks(1), blanks(1001), leaves(limits::GROUP_DEVICES)] {
        assert_eq!(join(fits), Some(E2eeError::Malformed("group info")), "it is no tree of this group");
    }
    for too_large in [blanks(3000), blanks(450_000), leaves(limits::GROUP_DEVICES + 1)] {
        assert_eq!(join(too_large), Some(E2eeError::GroupFull));
    }
    assert_eq!(join(all), None, "the true one is taken");
}

/// Leaves of nobody: whoever makes a group can fill it with them.
fn straw(count: usize, provider: &OpenMlsRustCrypto) -> Vec<KeyPackage> {
    let one = |_| {
        let keys = DeviceKeys::generate();
        let credential = CredentialWithKey {
            credential: Credential::new(CredentialType::Other(OURS), b"straw".to_vec()),
            signature_key: keys.public().as_slice().into(),
        };
        let builder =
            KeyPackage::builder().leaf_node_capabilities(capabilities()).key_package_lifetime(Lifetime::init(0, u64::MAX));
        builder.build(SUITE, provider, &keys, credential).unwrap().key_package().clone()
    };
    (0..count).map(one).collect()
}

fn capabilities() -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&[SUITE]),
        Some(&[ExtensionType::Unknown(OURS)]),
        Some(&[]),
        Some(&[CredentialType::Other(OURS)]),
    )
}

/// What a device says to a welcome into a group with so many other devices.
fn invited_among(others: usize) -> E2eeError {
    let mut room = Room::of_suite(Suite::CLASSICAL, 1, 2);
    let victim = package(&room.member(1));
    let (provider, keys) = (OpenMlsRustCrypto::default(), DeviceKeys::generate());
    let credential = CredentialWithKey {
        credential: Credential::new(CredentialType::Other(OURS), b"straw".to_vec()),
        signature_key: keys.public().as_slice().into(),
    };
    let mut group = MlsGroup::builder()
        .with_group_id(GroupId::from_slice(&room.conversation().0))
        .ciphersuite(SUITE)
        .with_capabilities(capabilities())
        .use_ratchet_tree_extension(true)
        .build(&provider, &keys, credential)
        .unwrap();
    let mut add = |packages: Vec<KeyPackage>| {
        let builder = group.commit_builder().force_self_update(false).propose_adds(packages);
        let builder = builder.load_psks(provider.storage()).unwrap();
        let built = builder.build(provider.rand(), provider.crypto(), &keys, |_| true).unwrap();
        let (_, welcome, _) = built.stage_commit(&provider).unwrap().into_messages();
        group.merge_pending_commit(&provider).unwrap();
        welcome.unwrap().tls_serialize_detached().unwrap()
    };
    add(straw(others - 1, &provider));
    let welcome = add(vec![victim]);
    assert!(welcome.len() <= limits::HANDSHAKE_PAYLOAD, "{} bytes", welcome.len());
    let welcome = Welcome {
        conversation: room.conversation(),
        kind: ConversationKind::GROUP,
        seq: 1,
        hash: [0; 32],
        welcome,
        members: vec![room.id(0), room.id(1)],
        epoch: 2,
    };
    let pinned = room.lists();
    room.clients[1].join(&welcome, &pinned).unwrap_err()
}

#[test]
fn a_welcome_into_a_group_of_too_many_is_refused_by_its_number() {
    assert_ne!(invited_among(limits::GROUP_DEVICES - 1), E2eeError::GroupFull, "only who they are is wrong");
    assert_eq!(invited_among(limits::GROUP_DEVICES), E2eeError::GroupFull);
}
