//! A server over the memory store, and people with phones who talk to it: real OPAQUE, real certificates, no network.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; not every file uses everything")]

pub mod store;

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialResponse, Identifiers, RegistrationResponse, Ristretto255, TripleDh, ksf::Identity,
};
use parlour_server::{
    Answering, Failure, Fanout, Now, Secrets, Service, ServiceConfig, Session, Sink, SinkFull,
    store::{Store, Write, memory::MemoryStore, suite::block_on},
    throttle::ThrottleConfig,
};
use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId, MessageId,
    api::{self, Call, Notice, Registration},
    decode, encode,
    identity::{self, Certificate, DeviceList, VerifiedList},
    log,
    name::Name,
};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

pub const NOW: u64 = 1_700_000_000_000;
pub const FINGERPRINT: [u8; 32] = [0xfe; 32];

pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
    type Ksf = Identity;
}

/// Takes pushes, as many as there is room for.
#[derive(Default)]
pub struct Inbox(Mutex<Held>);

#[derive(Default)]
struct Held {
    pushes: Vec<(&'static str, Bytes)>,
    room: Option<usize>,
    closed: Option<Code>,
}

impl Sink for Inbox {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        let mut held = self.0.lock().unwrap();
        if held.room.is_some_and(|room| held.pushes.len() >= room) {
            return Err(SinkFull);
        }
        held.pushes.push((name, content));
        Ok(())
    }

    fn close(&self, code: Code, _: &str) {
        self.0.lock().unwrap().closed = Some(code);
    }
}

impl Inbox {
    pub fn set_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    pub fn closed(&self) -> Option<Code> {
        self.0.lock().unwrap().closed
    }

    pub fn take(&self) -> Vec<(&'static str, Bytes)> {
        std::mem::take(&mut self.0.lock().unwrap().pushes)
    }

    /// The names of the pushes so far; they stay.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().pushes.iter().map(|(name, _)| *name).collect()
    }

    /// Takes the pushes, which must all be of one kind.
    pub fn all<N: Notice>(&self) -> Vec<N> {
        let take = |(name, content): (&'static str, Bytes)| {
            assert_eq!(name, N::NAME);
            decode(&content).unwrap()
        };
        self.take().into_iter().map(take).collect()
    }

    /// The numbers of all entries pushed, which must be all that was.
    pub fn seqs(&self) -> Vec<u64> {
        self.all::<api::Entries>().iter().flat_map(|push| push.entries.iter().map(|entry| entry.seq)).collect()
    }
}

/// A link to the server.
pub struct Link {
    pub session: Option<Session>,
    pub challenge: [u8; 32],
    pub inbox: Arc<Inbox>,
}

pub struct World<S: Store = MemoryStore> {
    pub service: Service<S>,
    pub store: Arc<S>,
    pub now_ms: u64,
    pub rng: StdRng,
}

pub fn config() -> ServiceConfig {
    ServiceConfig { registration: Registration::OPEN, version: "parlour test".into(), throttle: ThrottleConfig::default() }
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: ServiceConfig) -> Self {
        let fanout = Arc::new(Fanout::new());
        let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<_>));
        Self::over(config, store, fanout)
    }

    /// A second service over the same store: the server started again with another configuration.
    pub fn again(&self, config: ServiceConfig) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let secrets = block_on(Secrets::load(&*self.store, &mut rng)).unwrap();
        let service = Service::new(config, Arc::clone(&self.store), Arc::new(Fanout::new()), secrets, [9; 32]);
        Self { service, store: Arc::clone(&self.store), now_ms: self.now_ms, rng }
    }
}

impl World<store::GatedStore> {
    /// A server whose store answers when it is let.
    pub fn gated() -> Self {
        let fanout = Arc::new(Fanout::new());
        let store = Arc::new(store::GatedStore::new(&fanout));
        Self::over(config(), store, fanout)
    }
}

impl<S: Store> World<S> {
    pub fn over(config: ServiceConfig, store: Arc<S>, fanout: Arc<Fanout>) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let secrets = block_on(Secrets::load(&*store, &mut rng)).unwrap_or_else(|_| Secrets::generate(&mut rng));
        let service = Service::new(config, Arc::clone(&store), fanout, secrets, [3; 32]);
        Self { service, store, now_ms: NOW, rng }
    }

    pub fn now(&self) -> Now {
        Now { unix_ms: self.now_ms }
    }

    pub fn link(&mut self) -> Link {
        self.link_from(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
    }

    pub fn link_from(&mut self, address: IpAddr) -> Link {
        let mut challenge = [0; 32];
        self.rng.fill_bytes(&mut challenge);
        let inbox = Arc::new(Inbox::default());
        let session = self.service.open(address, challenge, FINGERPRINT, Arc::clone(&inbox) as Arc<dyn Sink>);
        Link { session: Some(session), challenge, inbox }
    }

    pub fn ask<C: Call>(&self, link: &mut Link, call: &C) -> Result<C::Answer, Failure> {
        let answering = self.service.request(link.session.as_mut().unwrap(), C::NAME, &encode(call), self.now());
        block_on(answering).map(|answer| decode(&answer).unwrap())
    }

    /// Asks, and leaves it to [`look`] when to listen.
    pub fn begin<C: Call>(&self, link: &mut Link, call: &C) -> Answering {
        self.service.request(link.session.as_mut().unwrap(), C::NAME, &encode(call), self.now())
    }

    /// Asks for what must be refused.
    pub fn refused<C: Call>(&self, link: &mut Link, call: &C) -> Code {
        match self.ask(link, call) {
            Ok(_) => panic!("{} was answered", C::NAME),
            Err(failure) => failure.code(),
        }
    }

    pub fn act<N: Notice>(&self, link: &mut Link, notice: &N) {
        self.service.action(link.session.as_mut().unwrap(), N::NAME, &encode(notice), self.now());
    }

    pub fn connection(&self, link: &mut Link, up: bool) {
        self.service.connection(link.session.as_mut().unwrap(), up, self.now());
    }

    pub fn close(&self, link: &mut Link) {
        self.service.close(link.session.take().unwrap(), self.now());
    }

    pub fn invite(&self, token: &str, uses: u32, expires_ms: u64) {
        self.write(Write::CreateInvite { token: parlour_server::invite_hash(token), uses, expires_ms });
    }

    pub fn write(&self, write: Write) {
        block_on(self.store.apply(write)).unwrap().unwrap();
    }

    /// OPAQUE registration up to the upload.
    pub fn register_start(&mut self, link: &mut Link, person: &Person, invite: Option<&str>) -> Result<Vec<u8>, Failure> {
        let password = person.password.as_bytes();
        let started = ClientRegistration::<Suite>::start(&mut self.rng, password).unwrap();
        let request = started.message.serialize().to_vec();
        let call = api::RegisterStart { name: person.name.clone(), invite: invite.map(Into::into), request };
        let response = self.ask(link, &call)?.response;
        Ok(upload(&mut self.rng, started.state, &person.name, password, &response))
    }

    pub fn register(&mut self, link: &mut Link, person: &Person, invite: Option<&str>) -> Result<(), Failure> {
        let upload = self.register_start(link, person, invite)?;
        self.ask(link, &person.finish(upload, invite)).map(|_| ())
    }

    pub fn login(&mut self, link: &mut Link, name: &Name, password: &str) -> Result<api::LoginFinishAnswer, Failure> {
        self.log_in(link, name, password, false)
    }

    /// By password or by recovery code.
    pub fn log_in(
        &mut self,
        link: &mut Link,
        name: &Name,
        password: &str,
        recovery: bool,
    ) -> Result<api::LoginFinishAnswer, Failure> {
        let (login, finalization) = self.log_in_start(link, name, password, recovery)?;
        // A client that notices the wrong password has nothing to finish with; an attacker sends something anyway.
        let finalization = finalization.unwrap_or_else(|| vec![1; 64]);
        self.ask(link, &api::LoginFinish { login, finalization })
    }

    /// The number of the login, and KE3 if the password is right.
    pub fn login_start(&mut self, link: &mut Link, name: &Name, password: &str) -> Result<(u64, Option<Vec<u8>>), Failure> {
        self.log_in_start(link, name, password, false)
    }

    pub fn log_in_start(
        &mut self,
        link: &mut Link,
        name: &Name,
        password: &str,
        recovery: bool,
    ) -> Result<(u64, Option<Vec<u8>>), Failure> {
        let started = ClientLogin::<Suite>::start(&mut self.rng, password.as_bytes()).unwrap();
        let request = started.message.serialize().to_vec();
        let answer = self.ask(link, &api::LoginStart { name: name.clone(), request, recovery })?;
        let response = CredentialResponse::deserialize(&answer.response).unwrap();
        let parameters = ClientLoginFinishParameters::new(Some(b"parlour login v1"), identifiers(name), None);
        let finished = started.state.finish(&mut self.rng, password.as_bytes(), response, parameters);
        Ok((answer.login, finished.ok().map(|finished| finished.message.serialize().to_vec())))
    }

    pub fn change_password(&mut self, link: &mut Link, person: &Person, password: &str) -> Result<(), Failure> {
        let started = ClientRegistration::<Suite>::start(&mut self.rng, password.as_bytes()).unwrap();
        let response =
            self.ask(link, &api::PasswordStart { request: started.message.serialize().to_vec(), recovery: false })?.response;
        let upload = upload(&mut self.rng, started.state, &person.name, password.as_bytes(), &response);
        self.ask(link, &api::PasswordFinish { upload, wrapped_root: vec![0x33; 72], recovery: false }).map(|_| ())
    }

    pub fn set_recovery(&mut self, link: &mut Link, person: &Person, code: &str) -> Result<(), Failure> {
        let started = ClientRegistration::<Suite>::start(&mut self.rng, code.as_bytes()).unwrap();
        let request = started.message.serialize().to_vec();
        let response = self.ask(link, &api::PasswordStart { request, recovery: true })?.response;
        let upload = upload(&mut self.rng, started.state, &person.name, code.as_bytes(), &response);
        self.ask(link, &api::PasswordFinish { upload, wrapped_root: vec![0x44; 72], recovery: true }).map(|_| ())
    }

    /// A person with an account and `phones` devices, each on a link of its own.
    pub fn person(&mut self, name: &str, phones: u8) -> (Person, Vec<Link>) {
        let person = Person::new(name, phones);
        let mut link = self.link();
        self.register(&mut link, &person, None).unwrap();
        self.close(&mut link);
        let links = (0..phones).map(|k| self.online(&person, k)).collect();
        (person, links)
    }

    pub fn online(&mut self, person: &Person, phone: u8) -> Link {
        let mut link = self.link();
        let auth = person.auth(phone, &link.challenge);
        self.ask(&mut link, &auth).unwrap();
        link
    }
}

/// Lets a request go on as far as it comes: its answer, if it is there.
pub fn look<C: Call>(_: &C, answering: &mut Answering) -> Option<Result<C::Answer, Failure>> {
    match Pin::new(answering).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer.map(|answer| decode(&answer).unwrap())),
        Poll::Pending => None,
    }
}

/// The code by which a request is refused that has its answer now.
pub fn refusal<C: Call>(call: &C, answering: &mut Answering) -> Option<Code> {
    look(call, answering).map(|answer| answer.err().expect("it was answered").code())
}

pub fn identifiers(name: &Name) -> Identifiers<'_> {
    Identifiers { client: Some(name.as_str().as_bytes()), server: Some(b"parlour") }
}

fn upload(rng: &mut StdRng, state: ClientRegistration<Suite>, name: &Name, password: &[u8], response: &[u8]) -> Vec<u8> {
    let response = RegistrationResponse::deserialize(response).unwrap();
    let parameters = ClientRegistrationFinishParameters::new(identifiers(name), None);
    state.finish(rng, password, response, parameters).unwrap().message.serialize().to_vec()
}

pub struct Person {
    pub name: Name,
    pub password: String,
    pub key: SigningKey,
    pub phones: Vec<SigningKey>,
    pub list: Vec<u8>,
}

impl Person {
    pub fn new(name: &str, phones: u8) -> Self {
        let key = SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes());
        let phones: Vec<_> = (0..phones).map(|k| phone_key(name, k)).collect();
        let list = device_list(&key, None, &phones, &[]);
        let name = Name::parse(name).unwrap();
        Self { password: format!("password of {name}"), name, key, phones, list }
    }

    pub fn id(&self) -> AccountId {
        AccountId::of_key(&self.key.verifying_key().to_bytes())
    }

    pub fn device(&self, phone: u8) -> DeviceId {
        DeviceId::of_key(&self.phones[usize::from(phone)].verifying_key().to_bytes())
    }

    /// Makes the next list from phones; those that fall out are revoked.
    pub fn next_list(&mut self, phones: Vec<SigningKey>) -> Vec<u8> {
        let id = |key: &SigningKey| DeviceId::of_key(&key.verifying_key().to_bytes());
        let kept: Vec<DeviceId> = phones.iter().map(id).collect();
        let revoked: Vec<DeviceId> = self.phones.iter().map(id).filter(|device| !kept.contains(device)).collect();
        let current = VerifiedList::parse(&self.list).unwrap();
        self.list = device_list(&self.key, Some(&current), &phones, &revoked);
        self.phones = phones;
        self.list.clone()
    }

    pub fn finish(&self, upload: Vec<u8>, invite: Option<&str>) -> api::RegisterFinish {
        let (name, invite) = (self.name.clone(), invite.map(Into::into));
        api::RegisterFinish { name, invite, upload, wrapped_root: vec![0x22; 72], device_list: self.list.clone() }
    }

    /// The statement by which a phone says that its account leaves.
    pub fn leave(&self, phone: u8, conversation: ConversationId, since: u64) -> Vec<u8> {
        let statement = log::LeaveStatement { conversation, account: self.id(), device: self.device(phone), since };
        signed(&self.phones[usize::from(phone)], log::LEAVE_CONTEXT, encode(&statement))
    }

    pub fn auth(&self, phone: u8, challenge: &[u8; 32]) -> api::DeviceAuth {
        self.auth_at(phone, challenge, &FINGERPRINT)
    }

    pub fn auth_at(&self, phone: u8, challenge: &[u8; 32], fingerprint: &[u8; 32]) -> api::DeviceAuth {
        let (account, device) = (self.id(), self.device(phone));
        let bytes = identity::auth_bytes(challenge, fingerprint, &account, &device);
        let message = [identity::AUTH_CONTEXT, &bytes].concat();
        api::DeviceAuth { account, device, signature: self.phones[usize::from(phone)].sign(&message).to_bytes() }
    }
}

pub fn phone_key(name: &str, k: u8) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(format!("{name} phone {k}").as_bytes()).as_bytes())
}

fn signed(key: &SigningKey, context: &[u8], bytes: Vec<u8>) -> Vec<u8> {
    let signature = key.sign(&[context, &bytes].concat()).to_bytes();
    identity::signed_bytes(bytes, signature)
}

pub fn device_list(key: &SigningKey, current: Option<&VerifiedList>, phones: &[SigningKey], revoked: &[DeviceId]) -> Vec<u8> {
    let account_key = key.verifying_key().to_bytes();
    let certificate = |phone: &SigningKey| {
        let signature_key = phone.verifying_key().to_bytes();
        let certificate = Certificate { account_key, signature_key, label: "phone".into(), created_ms: NOW };
        signed(key, identity::CERTIFICATE_CONTEXT, encode(&certificate)).into()
    };
    let list = DeviceList {
        account_key,
        version: current.map_or(1, |list| list.get().version + 1),
        previous: current.map_or([0; 32], VerifiedList::hash),
        devices: phones.iter().map(certificate).collect(),
        revoked: revoked.to_vec(),
        created_ms: NOW,
    };
    signed(key, identity::LIST_CONTEXT, encode(&list))
}

pub fn message_id(n: u8) -> MessageId {
    MessageId([n; 16])
}

/// The commit with which `creator` opens the direct conversation with `other`, adding their first phones.
pub fn direct(creator: &Person, other: &Person, id: u8) -> api::Commit {
    let conversation = ConversationId::direct(&creator.id(), &other.id());
    let members = vec![creator.id(), other.id()];
    api::Commit {
        create: Some(api::Create { kind: api::ConversationKind::DIRECT, members, name: None }),
        added: vec![api::Added { account: other.id(), device: other.device(0) }],
        welcome: Some(vec![id; 10]),
        ..commit(conversation, id, 0)
    }
}

pub fn commit(conversation: ConversationId, id: u8, parent_epoch: u64) -> api::Commit {
    api::Commit {
        conversation,
        id: message_id(id),
        parent_epoch,
        create: None,
        commit: vec![id; 20],
        welcome: None,
        added: vec![],
        removed: vec![],
        group_info: vec![id; 30],
        external: false,
        change: None,
    }
}

pub fn message(conversation: ConversationId, id: u8, epoch: u64) -> api::Send {
    api::Send { conversation, id: message_id(id), epoch, payload: vec![id; 40], blobs: vec![] }
}
