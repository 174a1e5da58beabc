//! Whom a client believes on first use, and what the authorities that the system trusts have to say in it.
//!
//! The system's certificates are read from the file that `SSL_CERT_FILE` names, which a process can safely set only for its
//! children: each test runs itself again in one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;

use parlour_net::{ConnectConfig, ConnectError, Events, Link, LinkEvent, ListenConfig, ServerIdentity, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Proxy, Server, next};

const KEY: &str = "PARLOUR_TEST_AUTHORITY_KEY";
const HOST: &str = "127.0.0.1";

/// Signs certificates.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn of(key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        Self { params, key }
    }

    fn new() -> Self {
        Self::of(KeyPair::generate().unwrap())
    }

    fn identity(&self, name: &str) -> ServerIdentity {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(self.params.clone(), &self.key);
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        ServerIdentity::load(&certificate.pem(), &key.serialize_pem()).unwrap()
    }

    async fn server(&self, name: &str) -> Server {
        Server::start_as(self.identity(name), ListenConfig::default()).await
    }
}

/// In the parent: runs the test of this name in a child whose system trusts one authority, and nothing else to do. In the child:
/// that authority.
fn trusted_authority(test: &str) -> Option<Authority> {
    if let Ok(key) = std::env::var(KEY) {
        return Some(Authority::of(KeyPair::from_pem(&key).unwrap()));
    }
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.params.self_signed(&authority.key).unwrap().pem()).unwrap();
    run_in_child(test, |child| child.env("SSL_CERT_FILE", &roots).env(KEY, authority.key.serialize_pem()));
    None
}

fn run_in_child(test: &str, environment: impl FnOnce(&mut Command) -> &mut Command) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env_remove("SSL_CERT_DIR");
    let done = environment(&mut child).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{said}\n{complained}");
}

fn connect(server: &Server, through: &Proxy, trust: Trust) -> (Link, Events) {
    Link::connect(ConnectConfig { trust, ..server.config(through.address) })
}

/// Waits for the link to come up: the fingerprint, and whether the system trusts it.
async fn up(events: &mut Events) -> ([u8; 32], bool) {
    loop {
        match next(events).await {
            LinkEvent::Up { fingerprint, trusted_by_system, .. } => return (fingerprint, trusted_by_system),
            LinkEvent::Down { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn failure(events: &mut Events) -> ConnectError {
    loop {
        match next(events).await {
            LinkEvent::Failed(error) => return error,
            LinkEvent::Down { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_system_vouches_for_is_not_pinned_and_may_be_renewed() {
    let Some(authority) = trusted_authority("what_the_system_vouches_for_is_not_pinned_and_may_be_renewed") else { return };
    let (first, second) = (authority.server(HOST).await, authority.server(HOST).await);
    let other = Authority::new().server(HOST).await;
    assert_ne!(first.fingerprint, second.fingerprint);
    for trust in [Trust::FirstUse, Trust::System] {
        let relay = Proxy::start(first.address).await;
        let (_link, mut events) = connect(&first, &relay, trust);
        assert_eq!(up(&mut events).await, (first.fingerprint, true));
        relay.lead_to(second.address);
        relay.cut();
        assert_eq!(up(&mut events).await, (second.fingerprint, true));
        relay.lead_to(other.address);
        relay.cut();
        assert!(matches!(failure(&mut events).await, ConnectError::Untrusted(_)));
    }
}

#[tokio::test]
async fn what_the_system_does_not_vouch_for_is_pinned() {
    let Some(authority) = trusted_authority("what_the_system_does_not_vouch_for_is_pinned") else { return };
    let vouched = authority.server(HOST).await;
    let self_signed = Server::start(ListenConfig::default()).await;
    let elsewhere = authority.server("elsewhere.example").await;
    for pinned in [self_signed, elsewhere, Authority::new().server(HOST).await] {
        let relay = Proxy::start(pinned.address).await;
        let (_link, mut events) = connect(&pinned, &relay, Trust::FirstUse);
        assert_eq!(up(&mut events).await, (pinned.fingerprint, false));
        relay.cut();
        assert_eq!(up(&mut events).await, (pinned.fingerprint, false));
        relay.lead_to(vouched.address);
        relay.cut();
        let changed = ConnectError::CertificateChanged { expected: pinned.fingerprint, seen: vouched.fingerprint };
        assert_eq!(failure(&mut events).await, changed);
    }
}

#[tokio::test]
async fn a_given_fingerprint_counts_whatever_the_system_says() {
    let Some(authority) = trusted_authority("a_given_fingerprint_counts_whatever_the_system_says") else { return };
    let (first, second) = (authority.server(HOST).await, authority.server(HOST).await);
    let relay = Proxy::start(first.address).await;
    let (_link, mut events) = connect(&first, &relay, Trust::Fingerprint(first.fingerprint));
    assert_eq!(up(&mut events).await, (first.fingerprint, false));
    relay.lead_to(second.address);
    relay.cut();
    let changed = ConnectError::CertificateChanged { expected: first.fingerprint, seen: second.fingerprint };
    assert_eq!(failure(&mut events).await, changed);
}

#[tokio::test]
async fn a_system_without_certificates_pins_on_first_use_and_trusts_nobody() {
    if std::env::var_os(KEY).is_none() {
        let test = "a_system_without_certificates_pins_on_first_use_and_trusts_nobody";
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        return run_in_child(test, |child| child.env("SSL_CERT_FILE", &missing).env(KEY, ""));
    }
    let server = Authority::new().server(HOST).await;
    let relay = Proxy::start(server.address).await;
    let (_link, mut events) = connect(&server, &relay, Trust::FirstUse);
    assert_eq!(up(&mut events).await, (server.fingerprint, false));
    let (_link, mut events) = connect(&server, &relay, Trust::System);
    assert!(matches!(failure(&mut events).await, ConnectError::Setup(_)));
}
