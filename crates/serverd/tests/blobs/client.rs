//! Accounts that are in the store before the server starts, and their links.

#![allow(dead_code, reason = "each test uses its part")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use parlour_net::{ConnectConfig, Events, Link, LinkEvent, Trust};
use parlour_server::store::{Account, Committed, ListedDevice, Observer, Store as _, Write};
use parlour_serverd::{
    Running,
    config::{Config, RawConfig},
    sqlite::{FILE, SqliteStore},
    start,
};
use parlour_wire::{
    AccountId, Code, DeviceId, address::ServerUrl, api, api::Call, decode, encode, frame::ContentType, identity, name::Name,
};

const BOUND: Duration = Duration::from_secs(60);

struct Deaf;

impl Observer for Deaf {
    fn committed(&self, _: Vec<Committed>) {}
}

pub(crate) fn config(dir: &Path) -> Config {
    RawConfig { data: Some(dir.to_owned()), ..RawConfig::default() }.resolve().unwrap()
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn device(n: u8) -> DeviceId {
    DeviceId::of_key(&key(n).verifying_key().to_bytes())
}

/// Accounts 1 and 2 with a device each.
pub(crate) async fn populate(data: &Path) {
    let store = SqliteStore::open(&data.join(FILE), Arc::new(Deaf)).unwrap();
    for n in [1, 2] {
        let account = Account {
            id: AccountId([n; 32]),
            name: Name::parse(&format!("user{n}")).unwrap(),
            record: vec![],
            wrapped_root: vec![],
            device_list: vec![n],
            list_version: 1,
            disabled: false,
            seen_ms: 0,
        };
        let devices = vec![ListedDevice { id: device(n), signature_key: key(n).verifying_key().to_bytes() }];
        store.apply(Write::CreateAccount { account, devices, invite: None, now_ms: 0 }).await.unwrap().unwrap();
    }
}

pub(crate) async fn stop(running: Running) {
    running.stop();
    tokio::time::timeout(BOUND, running.join()).await.expect("it ends in time");
}

pub(crate) async fn restart(running: Running, data: &Path) -> Running {
    stop(running).await;
    start(config(data)).await.unwrap()
}

/// The authenticated link of an account's device.
pub(crate) struct Client {
    link: Link,
    _events: Events,
}

impl Client {
    pub(crate) async fn connect(running: &Running, n: u8) -> Self {
        Self::reach(running.server_url().clone(), n).await
    }

    pub(crate) async fn reach(url: ServerUrl, n: u8) -> Self {
        let (link, mut events) = Link::connect(ConnectConfig::new(url, Trust::FirstUse));
        let (challenge, fingerprint) = loop {
            match events.next().await.expect("the server is there") {
                LinkEvent::Up { challenge, fingerprint, .. } => break (challenge, fingerprint),
                LinkEvent::Down { fault, .. } => panic!("{fault:?}"),
                _ => {}
            }
        };
        let (account, device) = (AccountId([n; 32]), device(n));
        let bytes = identity::auth_bytes(&challenge, &fingerprint, &account, &device);
        let signature = key(n).sign(&[identity::AUTH_CONTEXT, &bytes].concat()).to_bytes();
        let client = Self { link, _events: events };
        client.ask(&api::DeviceAuth { account, device, signature }).await.unwrap();
        client
    }

    pub(crate) async fn ask<C: Call>(&self, call: &C) -> Result<C::Answer, Code> {
        match self.link.request_raw(C::NAME, ContentType::CBOR, Bytes::from(encode(call)), BOUND).await {
            Ok(answer) => Ok(decode(&answer.content).unwrap()),
            Err(fault) => Err(fault.code),
        }
    }
}
