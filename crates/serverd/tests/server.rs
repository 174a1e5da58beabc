//! The server program as its users meet it: over sockets, with a data directory, from start to stop.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use bytes::Bytes;
use parlour_net::{ConnectConfig, Events, Link, LinkEvent, Trust};
use parlour_serverd::{
    Running, StartError,
    config::{Certificate, Config, RawConfig},
    invite, start,
};
use parlour_wire::{
    Code,
    address::InviteLink,
    api::{Call, RegisterStart, Registration, ServerInfo, ServerInfoAnswer},
    decode, encode,
    frame::ContentType,
    name::Name,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Bounds a wait for something that happens at once unless it never does.
const BOUND: Duration = Duration::from_secs(30);

fn config(dir: &Path) -> Config {
    RawConfig { data: Some(dir.to_owned()), ..RawConfig::default() }.resolve().unwrap()
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it happens in time")
}

async fn end(running: Running) {
    running.stop();
    bounded(running.join()).await;
}

/// A GET to the admin listener: status and body.
async fn get(running: &Running, path: &str) -> (u16, String) {
    let address = running.admin.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    bounded(stream.read_to_string(&mut response)).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn connect(running: &Running) -> (Link, Events) {
    Link::connect(ConnectConfig::new(running.server_url().clone(), Trust::FirstUse))
}

async fn ask<C: Call>(link: &Link, call: &C) -> Result<C::Answer, Code> {
    match link.request_raw(C::NAME, ContentType::CBOR, Bytes::from(encode(call)), BOUND).await {
        Ok(answer) => Ok(decode(&answer.content).unwrap()),
        Err(fault) => Err(fault.code),
    }
}

async fn info(running: &Running) -> ServerInfoAnswer {
    let (link, _events) = connect(running);
    let info = ask(&link, &ServerInfo {}).await.unwrap();
    link.close().await;
    info
}

/// The value of a metric without labels, or with exactly these.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn a_server_is_healthy_and_counts_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(config(dir.path())).await.unwrap();
    assert_eq!(get(&running, "/healthz").await.0, 200);
    assert_eq!(get(&running, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(&running, "/other").await.0, 404);
    let (link, _events) = connect(&running);
    let answer = ask(&link, &ServerInfo {}).await.unwrap();
    assert_eq!(answer.registration, Registration::OPEN);
    let (status, text) = get(&running, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with("# EOF")) {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").trim_start_matches("# UNIT ");
        assert!(name.starts_with("parlour_"), "{line}");
    }
    assert_eq!(metric(&text, "parlour_connections"), Some(1.0));
    assert_eq!(metric(&text, "parlour_sessions"), Some(1.0));
    assert_eq!(metric(&text, r#"parlour_requests_total{name="server.info",code="ok"}"#), Some(1.0));
    assert!(metric(&text, "parlour_store_fsyncs_total").unwrap() >= 2.0, "the secrets and the probe");
    assert_eq!(metric(&text, "parlour_store_commit_duration_seconds_count"), metric(&text, "parlour_store_fsyncs_total"));
    link.close().await;
    end(running).await;
}

#[tokio::test]
async fn stopping_tells_clients_and_frees_everything() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(config(dir.path())).await.unwrap();
    let (admin, server) = (running.admin.clone(), running.server_url().authority());
    let (link, mut events) = connect(&running);
    ask(&link, &ServerInfo {}).await.unwrap();
    end(running).await;
    let told = bounded(async {
        loop {
            match events.next().await {
                Some(LinkEvent::Down { fault, .. }) if fault.code == Code::STOPPING => break true,
                Some(_) => {}
                None => break false,
            }
        }
    })
    .await;
    assert!(told, "the client is told that the server stops");
    for address in [admin.strip_prefix("http://").unwrap(), &server] {
        assert!(TcpStream::connect(address).await.is_err(), "{address} still listens");
    }
    assert!(!dir.path().join("parlour.db-wal").exists(), "the database is closed properly");
    end(start(config(dir.path())).await.expect("the directory is free")).await;
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(config(dir.path())).await.unwrap();
    let error = start(config(dir.path())).await.unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&dir.path().display().to_string()));
    assert_eq!(get(&running, "/readyz").await.0, 200, "the first is not disturbed");
    end(running).await;
}

#[tokio::test]
async fn a_restart_keeps_keys_certificate_and_port() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(config(dir.path())).await.unwrap();
    let (before, url) = (info(&running).await, running.server_url().clone());
    end(running).await;
    let running = start(config(dir.path())).await.unwrap();
    assert_eq!(*running.server_url(), url);
    assert_eq!(info(&running).await.receipt_key, before.receipt_key);
    end(running).await;
}

#[tokio::test]
async fn what_is_in_the_data_directory_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let running = start(config(&data)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["key.pem", "parlour.db", "parlour.db-wal"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    end(running).await;
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_said_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut port = config(&dir.path().join("port"));
    port.listen = taken.local_addr().unwrap();
    let error = start(port).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { address } if address == taken.local_addr().unwrap()), "{error:?}");

    // The kernel lets nobody make directories there, not even root.
    let error = start(config(Path::new("/sys/parlour-test"))).await.unwrap_err();
    assert!(matches!(error, StartError::ReadOnly { .. }), "{error:?}");

    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = start(config(&file)).await.unwrap_err();
    assert!(matches!(error, StartError::Data { .. }), "{error:?}");

    let mut certificate = config(&dir.path().join("certificate"));
    certificate.certificate = Certificate::Files { cert: dir.path().join("none.pem"), key: file.clone() };
    let error = start(certificate).await.unwrap_err();
    assert!(matches!(&error, StartError::Certificate { path, .. } if path.ends_with("none.pem")), "{error:?}");

    let corrupt = config(&dir.path().join("corrupt"));
    std::fs::create_dir(&corrupt.data).unwrap();
    std::fs::write(corrupt.data.join("parlour.db"), vec![7; 8192]).unwrap();
    let error = start(corrupt).await.unwrap_err();
    assert!(matches!(error, StartError::Corrupt { .. }), "{error:?}");

    let mut full = config(&dir.path().join("full"));
    full.store_max_pages = Some(3);
    let error = start(full).await.unwrap_err();
    assert!(matches!(error, StartError::DiskFull { .. }), "{error:?}");
    assert!(!error.hint().is_empty());
}

#[tokio::test]
async fn a_server_without_room_is_not_ready_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.store_max_pages = Some(256);
    let running = start(small).await.unwrap();
    assert_eq!(get(&running, "/readyz").await.0, 200);
    // Another process takes the room: the bound is the server's connection's, so this one may pass it.
    let other = rusqlite::Connection::open(dir.path().join("parlour.db")).unwrap();
    other.execute("INSERT INTO setting (key, value) VALUES ('ballast', zeroblob(1048576))", ()).unwrap();
    assert_eq!(get(&running, "/readyz").await, (503, "the store cannot take writes\n".to_owned()));
    assert_eq!(get(&running, "/healthz").await.0, 200, "alive all the same");
    assert_eq!(info(&running).await.registration, Registration::OPEN, "reading goes on");
    other.execute("DELETE FROM setting WHERE key = 'ballast'", ()).unwrap();
    assert_eq!(get(&running, "/readyz").await.0, 200);
    let (_, text) = get(&running, "/metrics").await;
    assert_eq!(metric(&text, "parlour_store_failed_writes_total"), Some(1.0), "the probe, and nothing that needs no room");
    end(running).await;
}

#[tokio::test]
async fn an_invitation_made_beside_the_server_lets_somebody_in() {
    let dir = tempfile::tempdir().unwrap();
    assert!(invite(dir.path(), 1, BOUND).unwrap_err().to_string().contains("no server"));
    let mut closed = config(dir.path());
    closed.registration = Registration::INVITE;
    let running = start(closed).await.unwrap();
    let made = invite(dir.path(), 1, BOUND).unwrap();
    let over = invite(dir.path(), 1, Duration::ZERO).unwrap();
    let link: InviteLink = made.link.parse().unwrap();
    assert_eq!((&link.server, &link.token), (running.server_url(), &made.token));
    let (client, _events) = connect(&running);
    let register = async |token: Option<&str>| {
        let name = Name::parse("alice").unwrap();
        ask(&client, &RegisterStart { name, invite: token.map(str::to_owned), request: vec![0; 32] }).await.unwrap_err()
    };
    assert_eq!(register(None).await, Code::INVITE_REQUIRED);
    assert_eq!(register(Some("0123")).await, Code::INVITE_UNKNOWN);
    assert_eq!(register(Some(&over.token)).await, Code::INVITE_EXPIRED);
    assert_eq!(register(Some(&made.token)).await, Code::BAD_REQUEST, "past the invitation; these bytes are no OPAQUE request");
    client.close().await;
    end(running).await;
}

#[tokio::test]
async fn a_stranger_that_hangs_up_leaves_no_session_behind() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(config(dir.path())).await.unwrap();
    let url = running.server_url().clone();
    // A program of its own, which ends without a word.
    let program = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stranger = program.spawn(async move {
        let (link, events) = Link::connect(ConnectConfig::new(url, Trust::FirstUse));
        let answer = ask(&link, &ServerInfo {}).await;
        (link, events, answer)
    });
    let (_link, _events, answer) = bounded(stranger).await.unwrap();
    assert!(answer.is_ok());
    assert_eq!(metric(&get(&running, "/metrics").await.1, "parlour_sessions"), Some(1.0));
    program.shutdown_background();
    bounded(async { while metric(&get(&running, "/metrics").await.1, "parlour_sessions") != Some(0.0) {} }).await;
    end(running).await;
}
