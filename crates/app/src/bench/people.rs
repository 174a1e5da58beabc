//! People for a load: accounts written into the server's store before it starts, and their links.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use parlour_e2ee::{AccountKey, DeviceKeys, Root};
use parlour_net::{ConnectConfig, Events, Link, LinkEvent, Trust};
use parlour_server::store::{Account, Committed, ListedDevice, Observer, Store, Write};
use parlour_serverd::sqlite::{FILE, SqliteStore};
use parlour_wire::{
    AccountId, ConversationId, MessageId,
    address::ServerUrl,
    api::{self, Call, Notice},
    encode,
    frame::ContentType,
    name::Name,
};

/// How long one request of a load may take: long enough for the worst of a loaded machine, short enough to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody with one device.
pub(crate) struct Person {
    pub(crate) account: AccountId,
    keys: DeviceKeys,
}

struct Deaf;

impl Observer for Deaf {
    fn committed(&self, _: Vec<Committed>) {}
}

/// Writes `count` accounts into the store of a data folder that no server uses. They cannot log in by password: a load
/// authenticates by device key.
pub(crate) async fn populate(data: &Path, count: usize) -> anyhow::Result<Vec<Person>> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let store = SqliteStore::open(&data.join(FILE), Arc::new(Deaf)).context("cannot open the store")?;
    let mut people = Vec::with_capacity(count);
    let mut writes = Vec::with_capacity(count);
    for index in 0..count {
        let key = AccountKey::from(&Root::generate());
        let keys = DeviceKeys::generate();
        let certificate = key.certify(&keys.public(), "bench", 1)?;
        let list = key.first_list(&certificate, 1)?;
        let account = Account {
            id: key.account_id(),
            name: Name::parse(&format!("bench{index}"))?,
            record: Vec::new(),
            wrapped_root: Vec::new(),
            device_list: list.as_bytes().to_vec(),
            list_version: 1,
            disabled: false,
            seen_ms: 0,
        };
        let devices = vec![ListedDevice { id: keys.id(), signature_key: keys.public() }];
        writes.push(store.apply(Write::CreateAccount { account, devices, invite: None, now_ms: 1 }));
        people.push(Person { account: key.account_id(), keys });
    }
    for write in writes {
        write.await?.context("an account was refused")?;
    }
    Ok(people)
}

/// An authenticated link.
pub(crate) struct Online {
    pub(crate) link: Link,
    pub(crate) events: Events,
}

impl Person {
    /// Connects and authenticates.
    pub(crate) async fn connect(&self, url: &ServerUrl) -> anyhow::Result<Online> {
        let (link, mut events) = Link::connect(ConnectConfig::new(url.clone(), Trust::FirstUse));
        loop {
            match events.next().await {
                Some(LinkEvent::Up { challenge, fingerprint, .. }) => {
                    let signature = self.keys.sign_auth(&challenge, &fingerprint, &self.account);
                    let auth = api::DeviceAuth { account: self.account, device: self.keys.id(), signature };
                    call(&link, &auth).await?;
                    return Ok(Online { link, events });
                }
                Some(LinkEvent::Down { fault, .. }) => bail!("the server cannot be reached: {}", fault.message),
                Some(_) => {}
                None => bail!("the link ended before it was up"),
            }
        }
    }

    /// The person's device, as a commit adds it.
    pub(crate) fn added(&self) -> api::Added {
        api::Added { account: self.account, device: self.keys.id() }
    }

    /// Makes the direct conversation with `other`, whose device is added by a welcome of random bytes.
    pub(crate) async fn converse(&self, link: &Link, other: &Self) -> anyhow::Result<ConversationId> {
        let conversation = ConversationId::direct(&self.account, &other.account);
        let commit = api::Commit {
            conversation,
            id: random_id(),
            parent_epoch: 0,
            create: Some(api::Create {
                kind: api::ConversationKind::DIRECT,
                members: vec![self.account, other.account],
                name: None,
            }),
            commit: vec![1; 512],
            welcome: Some(vec![2; 512]),
            added: vec![api::Added { account: other.account, device: other.keys.id() }],
            removed: Vec::new(),
            group_info: vec![3; 512],
            external: false,
            change: None,
        };
        call(link, &commit).await?;
        Ok(conversation)
    }
}

/// One request of the API.
pub(crate) async fn call<C: Call>(link: &Link, request: &C) -> anyhow::Result<C::Answer> {
    let answer = link
        .request_raw(C::NAME, ContentType::CBOR, Bytes::from(encode(request)), PATIENCE)
        .await
        .map_err(|fault| anyhow::anyhow!("{} failed: {} ({})", C::NAME, fault.message, fault.code))?;
    Ok(parlour_wire::decode(&answer.content)?)
}

/// One action of the API.
pub(crate) fn act<N: Notice>(link: &Link, action: &N) -> anyhow::Result<()> {
    link.action_raw(N::NAME, ContentType::CBOR, Bytes::from(encode(action))).context("the link takes no actions")
}

/// An id of random bytes in the form of a message id.
pub(crate) fn random_id() -> MessageId {
    let mut random = [0; 10];
    getrandom::fill(&mut random).expect("the system has randomness");
    MessageId::new(unix_ms(), &random)
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "driver")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
