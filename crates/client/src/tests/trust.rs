//! What a profile remembers of its server's certificate, and what it accepts afterwards.

use std::{path::Path, process::Command};

use parlour_net::ServerIdentity;
use parlour_wire::{Code, address::ServerUrl};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::live::{Server, WAIT, host, open, password, self_signed};
use crate::{Client, Login, Register, SignedIn};

const KEY: &str = "PARLOUR_TEST_AUTHORITY_KEY";

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

    fn identity(&self) -> ServerIdentity {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(self.params.clone(), &self.key);
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        ServerIdentity::load(&certificate.pem(), &key.serialize_pem()).unwrap()
    }
}

/// In the parent: runs the test of this name in a child whose system trusts one authority (`SSL_CERT_FILE` can safely be set only
/// for a child), and nothing else to do. In the child: that authority.
fn trusted_authority(test: &str) -> Option<Authority> {
    if let Ok(key) = std::env::var(KEY) {
        return Some(Authority::of(KeyPair::from_pem(&key).unwrap()));
    }
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.params.self_signed(&authority.key).unwrap().pem()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("tests::trust::{test}"), "--nocapture"]).env_remove("SSL_CERT_DIR");
    let done = child.env("SSL_CERT_FILE", &roots).env(KEY, authority.key.serialize_pem()).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{said}\n{complained}");
    None
}

async fn register(home: &Path, server: &ServerUrl) -> SignedIn {
    let client = open(home);
    let (name, label) = ("alice".to_owned(), "first".to_owned());
    let register = Register { server: server.clone(), name, password: password(), invite: None, label };
    let signed_in = client.register(register).await.unwrap();
    client.close().await.unwrap();
    signed_in
}

async fn login(home: &Path, server: &ServerUrl) -> SignedIn {
    let client = open(home);
    let (name, label) = ("alice".to_owned(), "second".to_owned());
    let signed_in = client.login(Login { server: server.clone(), name, password: password(), label }).await.unwrap();
    client.close().await.unwrap();
    signed_in
}

/// Connects with what the profile remembers.
async fn come_back(home: &Path) -> Result<(), Code> {
    let client = open(home);
    let outcome = match client.go_online().await {
        Ok(()) => client.wait_synced(WAIT).await,
        Err(error) => Err(error),
    };
    client.close().await.unwrap();
    outcome.map(drop).map_err(|error| error.code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_system_trusts_is_never_pinned() {
    let Some(authority) = trusted_authority("a_server_that_the_system_trusts_is_never_pinned") else { return };
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let host = host();
    let server = Server::start(&host, authority.identity(), 0).await;
    let (address, full) = (server.url.without_fingerprint(), server.url.clone());
    assert_eq!(Client::server_info(&address, WAIT).await.unwrap().server, address);
    assert_eq!(Client::server_info(&full, WAIT).await.unwrap().server, full);
    let signed_in = register(homes[0].path(), &address).await;
    assert_eq!((signed_in.pinned_now, signed_in.who.server), (false, address.clone()));
    let signed_in = login(homes[1].path(), &address).await;
    assert_eq!((signed_in.pinned_now, signed_in.who.server), (false, address.clone()));
    // Who gives a fingerprint means it.
    let signed_in = login(homes[2].path(), &full).await;
    assert_eq!((signed_in.pinned_now, signed_in.who.server), (false, full.clone()));
    server.stop().await;

    let server = Server::start(&host, authority.identity(), address.port).await;
    assert_eq!(come_back(homes[0].path()).await, Ok(()));
    assert_eq!(come_back(homes[1].path()).await, Ok(()));
    assert_eq!(come_back(homes[2].path()).await, Err(Code::CERTIFICATE_CHANGED));
    server.stop().await;

    for stranger in [self_signed(), Authority::new().identity()] {
        let server = Server::start(&host, stranger, address.port).await;
        assert_eq!(come_back(homes[0].path()).await, Err(Code::CERTIFICATE_CHANGED));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_nobody_vouches_for_is_pinned_by_registration_and_login() {
    let Some(authority) = trusted_authority("a_server_that_nobody_vouches_for_is_pinned_by_registration_and_login") else {
        return;
    };
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let host = host();
    let server = Server::start(&host, self_signed(), 0).await;
    let (address, full) = (server.url.without_fingerprint(), server.url.clone());
    let signed_in = register(homes[0].path(), &address).await;
    assert_eq!((signed_in.pinned_now, signed_in.who.server), (true, full.clone()));
    let signed_in = login(homes[1].path(), &address).await;
    assert_eq!((signed_in.pinned_now, signed_in.who.server), (true, full));
    assert_eq!(come_back(homes[0].path()).await, Ok(()));
    server.stop().await;

    // What is pinned stays pinned, also against a certificate that would have been trusted on the first connection.
    for other in [self_signed(), authority.identity()] {
        let server = Server::start(&host, other, address.port).await;
        for home in &homes {
            assert_eq!(come_back(home.path()).await, Err(Code::CERTIFICATE_CHANGED));
        }
        server.stop().await;
    }
}
