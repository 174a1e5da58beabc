//! Somebody who does not use our engine: key packages and external commits made by hand, with certificates that do not hold.

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, Credential, CredentialType, CredentialWithKey, ExtensionType, KeyPackage,
    LeafNodeParameters, Lifetime, MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use parlour_e2ee::{DeviceKeys, E2eeError, Member, Opened, PendingCommit};
use parlour_wire::api::DeviceKeyPackage;
use tls_codec::{Deserialize as _, Serialize as _};

use crate::world::{Account, Pair, Server};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;
const OURS: CredentialType = CredentialType::Other(0xF150);

fn capabilities() -> Capabilities {
    Capabilities::new(
        None,
        Some(&[SUITE]),
        Some(&[ExtensionType::Unknown(0xF150), ExtensionType::LastResort]),
        None,
        Some(&[OURS, CredentialType::Basic]),
    )
}

fn credential(credential: Credential, keys: &DeviceKeys) -> CredentialWithKey {
    CredentialWithKey { credential, signature_key: keys.public().as_slice().into() }
}

fn package(keys: &DeviceKeys, who: Credential) -> DeviceKeyPackage {
    let provider = OpenMlsRustCrypto::default();
    let bundle = KeyPackage::builder()
        .leaf_node_capabilities(capabilities())
        .key_package_lifetime(Lifetime::init(0, u64::MAX))
        .build(SUITE, &provider, keys, credential(who, keys))
        .unwrap();
    DeviceKeyPackage { device: keys.id(), package: bundle.key_package().tls_serialize_detached().unwrap() }
}

fn external(info: &[u8], keys: &DeviceKeys, who: Credential) -> Vec<u8> {
    let provider = OpenMlsRustCrypto::default();
    let MlsMessageBodyIn::GroupInfo(info) = MlsMessageIn::tls_deserialize_exact(info).unwrap().extract() else {
        panic!("a group info");
    };
    let (_, bundle) = MlsGroup::external_commit_builder()
        .with_config(MlsGroupJoinConfig::builder().use_ratchet_tree_extension(true).build())
        .build_group(&provider, info, credential(who, keys))
        .unwrap()
        .leaf_node_parameters(LeafNodeParameters::builder().with_capabilities(capabilities()).build())
        .load_psks(provider.storage())
        .unwrap()
        .build(provider.rand(), provider.crypto(), keys, |_| true)
        .unwrap()
        .finalize(&provider)
        .unwrap();
    bundle.into_messages().0.tls_serialize_detached().unwrap()
}

/// A certificate that Bob's account key has not signed, for a device that calls itself Bob's.
fn forged(bob: &Account, keys: &DeviceKeys) -> Credential {
    let good = bob.key.certify(&keys.public(), "forged", 1).unwrap();
    let mut bytes = good.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    Credential::new(OURS, bytes)
}

/// The certificate of Bob's real device, shown by somebody with another key.
fn stolen(pair_bob: &crate::world::Client) -> Credential {
    Credential::new(OURS, pair_bob.certificate.as_bytes().to_vec())
}

fn accept(pair: &mut Pair, commit: Vec<u8>) -> parlour_wire::log::Entry {
    let pending = PendingCommit {
        conversation: pair.conversation(),
        parent_epoch: 1,
        commit,
        welcome: None,
        group_info: vec![],
        added: vec![],
        removed: vec![],
        external: true,
        change: None,
    };
    pair.server.accept(&pending)
}

#[test]
fn a_package_with_a_forged_or_stolen_certificate_is_refused() {
    let (mut alice, mut bob) = (Account::new(), Account::new());
    let (mut a, b) = (alice.device(), bob.device());
    let server = Server::new(&alice.id(), &bob.id());
    let intruder = DeviceKeys::generate();
    let basic: Credential = BasicCredential::new(b.certificate.as_bytes().to_vec()).into();
    for who in [forged(&bob, &intruder), stolen(&b), basic] {
        let add = Member { list: bob.list(), packages: vec![package(&intruder, who)] };
        let new = server.new_conversation(vec![add]);
        assert_eq!(a.step(|engine, rows| engine.create(rows, &new)).unwrap_err(), E2eeError::BadCertificate);
    }
}

#[test]
fn an_external_commit_with_a_forged_or_stolen_certificate_is_refused() {
    for forge in [true, false] {
        let mut pair = Pair::new(1, 1);
        let pinned = pair.lists();
        let intruder = DeviceKeys::generate();
        let who = if forge { forged(&pair.bob, &intruder) } else { stolen(&pair.b[0]) };
        let commit = external(&pair.server.group_info, &intruder, who);
        let entry = accept(&mut pair, commit);
        let void = Opened::Void { committer: None, why: E2eeError::BadCertificate };
        assert_eq!(pair.a[0].open(&entry, &pinned), Ok(void));
        let a = &mut pair.a[0];
        assert_eq!(a.engine.members(&a.disk, &entry.conversation).unwrap().len(), 2);
    }
}

#[test]
fn an_external_commit_of_a_stranger_is_refused() {
    let mut pair = Pair::new(1, 1);
    let mut carol = Account::new();
    let c = carol.device();
    let mut pinned = pair.lists();
    pinned.insert(carol.id(), carol.list());
    let who = Credential::new(OURS, c.certificate.as_bytes().to_vec());
    let commit = external(&pair.server.group_info, &DeviceKeys::from_secret(&c.secret), who);
    let entry = accept(&mut pair, commit);
    assert_eq!(
        pair.a[0].open(&entry, &pinned),
        Ok(Opened::Void { committer: None, why: E2eeError::NotMember { account: carol.id() } })
    );
}

#[test]
fn an_external_commit_of_an_unlisted_device_is_refused() {
    let mut pair = Pair::new(1, 1);
    let pinned = pair.lists();
    let unlisted = pair.bob.unlisted_device();
    let who = Credential::new(OURS, unlisted.certificate.as_bytes().to_vec());
    let commit = external(&pair.server.group_info, &DeviceKeys::from_secret(&unlisted.secret), who);
    let entry = accept(&mut pair, commit);
    assert_eq!(pair.a[0].open(&entry, &pinned), Err(E2eeError::UnknownDevice { account: pair.bob.id() }));
}

#[test]
fn a_revoked_device_that_forces_its_way_in_is_never_sent_anything() {
    let mut pair = Pair::new(1, 1);
    let stolen = pair.bob.device();
    pair.bob.revoke(&stolen.id());
    let pinned = pair.lists();
    let who = Credential::new(OURS, stolen.certificate.as_bytes().to_vec());
    let commit = external(&pair.server.group_info, &DeviceKeys::from_secret(&stolen.secret), who);
    let entry = accept(&mut pair, commit);
    pair.a[0].open(&entry, &pinned).unwrap();
    let (id, conversation) = (pair.server.next_id(), pair.conversation());
    let sent = pair.a[0].step(|engine, rows| engine.encrypt(rows, &conversation, id, b"secret"));
    assert_eq!(sent.unwrap_err(), E2eeError::RevokedDevice { account: pair.bob.id(), device: stolen.id() });
    let out = stolen.id();
    let removal = pair.a[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[out], &pinned)).unwrap();
    let entry = pair.server.accept(&removal);
    pair.a[0].open(&entry, &pinned).unwrap();
    assert!(pair.a[0].step(|engine, rows| engine.encrypt(rows, &conversation, id, b"secret")).is_ok());
}
