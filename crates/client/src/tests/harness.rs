//! A world of cores and one server, in which everything happens when the test says so.

pub(super) mod bent;
mod content;
mod faults;
pub(super) mod files;
mod forge;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use parlour_e2ee::{AccountKey, BackupKey, DeviceKeys, Root};
use parlour_server::{
    Fanout, Secrets, Service, ServiceConfig, Session, Sink, SinkFull,
    store::{self, ListedDevice, Store as _, Write, memory::MemoryStore, suite::block_on},
};
use parlour_wire::{Code, address::ServerUrl, api::Registration, identity::VerifiedList, name::Name};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

use self::bent::{Asked, Bend};
use crate::{
    api::{Message, OpenOptions, Page, State},
    core::{Command, Core, Input, Now, Order, Output, Reply, Ticket},
    error::Error,
    event::Event,
    key::KeySource,
    profile::Profile,
    run,
    store::Account,
};

const FINGERPRINT: [u8; 32] = [7; 32];
pub(super) const SERVER: &str = "wss://127.0.0.1:1";

/// What is under way from the server to one session.
#[derive(Default)]
struct Inbox(Mutex<VecDeque<(Option<Asked>, Input)>>, Mutex<Option<Code>>);

impl Inbox {
    fn push(&self, asked: Option<Asked>, input: Input) {
        self.0.lock().unwrap().push_back((asked, input));
    }

    fn pop(&self) -> Option<(Option<Asked>, Input)> {
        self.0.lock().unwrap().pop_front()
    }
}

struct Pushes(Arc<Inbox>);

impl Sink for Pushes {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        self.0.push(None, Input::Push { name: name.to_owned(), content: content.to_vec() });
        Ok(())
    }

    fn close(&self, code: Code, _: &str) {
        *self.0.1.lock().unwrap() = Some(code);
    }
}

/// A client's end of its link.
struct Link {
    session: Session,
    inbox: Arc<Inbox>,
}

/// One device.
pub(super) struct Node {
    pub(super) home: TempDir,
    pub(super) core: Option<Core>,
    /// Wanted by the core.
    wanted: bool,
    link: Option<Link>,
    /// On their way to the server.
    outbox: VecDeque<Output>,
    /// To be done with files.
    transfers: VecDeque<Order>,
    /// What the server says to this device is said so instead.
    bend: Option<Bend>,
    /// What has been bent and not been handed over.
    bent: VecDeque<Input>,
    /// Requests made so far.
    asked: usize,
    pub(super) replies: BTreeMap<Ticket, Result<Reply, Error>>,
    pub(super) events: Vec<Event>,
    next: u64,
    seed: u64,
}

impl Node {
    /// Requests made so far.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }
}

/// An account that tests make without paying for a password.
pub(super) struct Person {
    pub(super) name: String,
    key: AccountKey,
    backup_key: BackupKey,
    list: VerifiedList,
}

pub(super) struct World {
    service: Service<MemoryStore>,
    pub(super) store: Arc<MemoryStore>,
    fanout: Arc<Fanout>,
    secrets: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) people: Vec<Person>,
    pub(super) rng: StdRng,
    unix_ms: u64,
    steady: Duration,
    trace: bool,
    /// Answers that the server gives instead of the true ones, by handler.
    pub(super) lies: BTreeMap<&'static str, Vec<u8>>,
    /// Requests that the server refuses before it has done anything.
    pub(super) refuses: Option<faults::Refuses>,
    /// Parts of blobs that get through before the link is lost.
    pub(super) puts: Option<usize>,
    /// Parts of blobs that have been sealed to be sent: key, place, hash.
    pub(super) sealed: Vec<([u8; 32], u32, [u8; 32])>,
    /// Devices up to which a group is hybrid, and those that it may have, for who comes into the world.
    pub(super) sizes: Option<(usize, usize)>,
}

fn service(store: &Arc<MemoryStore>, fanout: &Arc<Fanout>, secrets: &[u8]) -> Service<MemoryStore> {
    let config = ServiceConfig { registration: Registration::OPEN, version: "test".to_owned(), throttle: Default::default() };
    let secrets = Secrets::from_bytes(secrets).unwrap();
    Service::new(config, Arc::clone(store), Arc::clone(fanout), secrets, [1; 32])
}

fn up(resumed: bool, challenge: [u8; 32]) -> Input {
    Input::Up { resumed, challenge, fingerprint: FINGERPRINT, trusted_by_system: false }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let fanout = Arc::new(Fanout::new());
        let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<dyn store::Observer>));
        let mut rng = StdRng::seed_from_u64(seed);
        let secrets = Secrets::generate(&mut rng).to_bytes().to_vec();
        let service = service(&store, &fanout, &secrets);
        let (nodes, people) = (Vec::new(), Vec::new());
        let trace = std::env::var_os("PARLOUR_TRACE").is_some();
        Self {
            service,
            store,
            fanout,
            secrets,
            nodes,
            people,
            rng,
            unix_ms: 1_700_000_000_000,
            steady: Duration::ZERO,
            trace,
            lies: BTreeMap::new(),
            refuses: None,
            puts: None,
            sealed: Vec::new(),
            sizes: None,
        }
    }

    fn now(&self) -> Now {
        Now { unix_ms: self.unix_ms, steady: self.steady }
    }

    /// A profile without an account.
    pub(super) fn node(&mut self) -> usize {
        let home = tempfile::tempdir().unwrap();
        let seed = self.rng.r#gen();
        let (replies, events, outbox, transfers) = Default::default();
        let (bend, bent, core, link) = (None, VecDeque::new(), None, None);
        self.nodes.push(Node {
            home,
            core,
            wanted: false,
            link,
            outbox,
            transfers,
            bend,
            bent,
            asked: 0,
            replies,
            events,
            next: 1,
            seed,
        });
        let node = self.nodes.len() - 1;
        self.open(node);
        node
    }

    pub(super) fn open(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.seed += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&it.seed.to_be_bytes());
        let options = OpenOptions { home: it.home.path().to_owned(), key: KeySource::File, create: true };
        let mut core = Core::open(Profile::open(&options).unwrap(), seed).unwrap();
        let (folder, names) = core.kept_files().unwrap();
        run::sweep(&folder, &names);
        if let Some(sizes) = self.sizes {
            core.set_sizes_for_test(sizes);
        }
        it.core = Some(core);
    }

    /// A person with an account at the server and no device.
    pub(super) fn person(&mut self, name: &str) -> usize {
        let root = Root::generate();
        let key = AccountKey::from(&root);
        let list = key.sign_list(None, &[], &[], self.unix_ms).unwrap();
        let account = store::Account {
            id: key.account_id(),
            name: Name::parse(name).unwrap(),
            record: vec![1],
            wrapped_root: vec![1],
            device_list: list.as_bytes().to_vec(),
            list_version: 1,
            disabled: false,
            seen_ms: 0,
        };
        let write = Write::CreateAccount { account, devices: Vec::new(), invite: None, now_ms: self.unix_ms };
        block_on(self.store.apply(write)).unwrap().unwrap();
        self.people.push(Person { name: name.to_owned(), key, backup_key: root.backup_key(), list });
        self.people.len() - 1
    }

    fn publish(&mut self, person: usize, list: VerifiedList) {
        let person = &mut self.people[person];
        let devices = list.certificates().iter().map(|certificate| {
            let certificate = certificate.get();
            ListedDevice { id: certificate.device(), signature_key: certificate.signature_key }
        });
        let write = Write::ReplaceDeviceList {
            account: list.account(),
            device_list: list.as_bytes().to_vec(),
            version: list.get().version,
            devices: devices.collect(),
        };
        block_on(self.store.apply(write)).unwrap().unwrap();
        person.list = list;
    }

    /// Gives a person another device, and puts it online.
    pub(super) fn device(&mut self, person: usize) -> usize {
        let node = self.node();
        self.enrol(person, node);
        node
    }

    /// Makes a profile without an account a device of a person, and puts it online.
    pub(super) fn enrol(&mut self, person: usize, node: usize) {
        let keys = DeviceKeys::generate();
        let it = &self.people[person];
        let certificate = it.key.certify(&keys.public(), "test", self.unix_ms).unwrap();
        let list = it.key.add_device(&it.list, &certificate, self.unix_ms).unwrap();
        let server = ServerUrl { fingerprint: Some(FINGERPRINT), ..SERVER.parse().unwrap() };
        let account = Account {
            account: it.key.account_id(),
            name: it.name.clone(),
            account_key: it.key.public(),
            server: server.to_string(),
            receipt_key: Secrets::from_bytes(&self.secrets).unwrap().receipt_key(),
            device: keys.id(),
            label: "test".to_owned(),
            device_secret: Some(keys.secret()),
            certificate: certificate.as_bytes().to_vec(),
            backup_key: Some(it.backup_key.clone()),
            revoked: false,
        };
        self.publish(person, list.clone());
        let core = self.nodes[node].core.as_mut().unwrap();
        core.enrol_for_test(&account, &list);
        self.go_online(node);
    }

    /// The same for a device that knows nothing of the time before it, as after a login.
    pub(super) fn sibling(&mut self, person: usize) -> usize {
        let node = self.device(person);
        self.nodes[node].core.as_mut().unwrap().want_history_for_test();
        node
    }

    /// Takes a device from a person's list.
    pub(super) fn revoke(&mut self, person: usize, node: usize) {
        let device = self.nodes[node].core.as_ref().unwrap().device_for_test();
        self.revoke_device(person, &device);
    }

    /// The same for one whose program does not run.
    pub(super) fn revoke_device(&mut self, person: usize, device: &parlour_wire::DeviceId) {
        let it = &self.people[person];
        let list = it.key.revoke_device(&it.list, device, self.unix_ms).unwrap();
        self.publish(person, list);
    }

    pub(super) fn go_online(&mut self, node: usize) -> Ticket {
        self.command(node, Command::GoOnline)
    }

    pub(super) fn command(&mut self, node: usize, command: Command) -> Ticket {
        let ticket = Ticket(self.nodes[node].next);
        self.nodes[node].next += 1;
        self.input(node, Input::Command(ticket, command));
        ticket
    }

    /// Gives a command to a device whose clock is so far ahead.
    pub(super) fn command_at(&mut self, node: usize, ahead_ms: u64, command: Command) -> Ticket {
        self.unix_ms += ahead_ms;
        let ticket = self.command(node, command);
        self.unix_ms -= ahead_ms;
        ticket
    }

    /// Gives a command, lets everything happen that follows, and takes the reply.
    pub(super) fn ask(&mut self, node: usize, command: Command) -> Result<Reply, Error> {
        let ticket = self.command(node, command);
        for _ in 0..10_000 {
            if let Some(reply) = self.nodes[node].replies.remove(&ticket) {
                return reply;
            }
            if !self.step_any() {
                self.advance(Duration::from_millis(500));
            }
        }
        panic!("no reply");
    }

    pub(super) fn send(&mut self, node: usize, to: &str, text: &str) -> Message {
        let command = Command::Send { to: to.to_owned(), text: text.to_owned(), reply_to: None };
        match self.ask(node, command) {
            Ok(Reply::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn history(&mut self, node: usize, to: &str) -> Vec<Message> {
        let page = Page { limit: 10_000, ..Page::default() };
        match self.ask(node, Command::History { to: to.to_owned(), page }) {
            Ok(Reply::Messages(messages)) => messages,
            Err(error) if matches!(error.code, Code::USER_NOT_FOUND | Code::CONVERSATION_NOT_FOUND) => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn texts(&mut self, node: usize, with: &str) -> Vec<String> {
        self.history(node, with).into_iter().map(|message| message.text).collect()
    }

    pub(super) fn state(&mut self, node: usize, id: parlour_wire::MessageId) -> State {
        match self.ask(node, Command::Status(id)) {
            Ok(Reply::Status(status)) => status.state,
            other => panic!("{other:?}"),
        }
    }

    /// Hands an input to a core and takes its outputs.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.now();
        let Some(core) = self.nodes[node].core.as_mut() else { return };
        if self.trace {
            println!("{:?} node {node} <- {}", self.steady, brief(&format!("{input:?}")));
        }
        let outputs = core.handle(input, now);
        for output in outputs {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        if self.trace {
            println!("{:?} node {node} -> {}", self.steady, brief(&format!("{output:?}")));
        }
        let it = &mut self.nodes[node];
        match output {
            Output::Reply(ticket, result) => {
                it.replies.insert(ticket, result);
            }
            Output::Event(event) => it.events.push(event),
            Output::Connect { .. } => it.wanted = true,
            Output::Disconnect => {
                it.wanted = false;
                self.drop_link(node);
            }
            Output::Cut => self.blink(node),
            Output::Transfer(order) => it.transfers.push_back(order),
            Output::StopTransfer(id) => self.stop_transfer(node, id),
            Output::Erase(path) => run::erase(&path),
            output => it.outbox.push_back(output),
        }
    }

    fn drop_link(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.outbox.clear();
        it.bent.clear();
        if let Some(link) = it.link.take() {
            self.service.close(link.session, parlour_server::Now { unix_ms: self.unix_ms });
        }
    }

    pub(super) fn connect(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        if !it.wanted || it.link.is_some() || it.core.is_none() {
            return false;
        }
        let inbox = Arc::new(Inbox::default());
        let challenge = [self.rng.r#gen(); 32];
        let sink = Arc::new(Pushes(Arc::clone(&inbox)));
        let session = self.service.open(IpAddr::V4(Ipv4Addr::LOCALHOST), challenge, FINGERPRINT, sink);
        it.link = Some(Link { session, inbox });
        self.input(node, up(false, challenge));
        true
    }

    /// Takes the next thing from the server, without handing it over.
    pub(super) fn arriving(&mut self, node: usize) -> Option<Input> {
        let it = &mut self.nodes[node];
        loop {
            if let Some(input) = it.bent.pop_front() {
                return Some(input);
            }
            let (asked, input) = it.link.as_ref()?.inbox.pop()?;
            match &mut it.bend {
                Some(bend) => it.bent.extend(bend(asked, input)),
                None => return Some(input),
            }
        }
    }

    /// Hands over one thing from the server.
    pub(super) fn receive(&mut self, node: usize) -> bool {
        match self.arriving(node) {
            Some(input) => {
                self.input(node, input);
                true
            }
            None => self.hear_close(node),
        }
    }

    /// The server has ended the session, and everything before that has come.
    fn hear_close(&mut self, node: usize) -> bool {
        let closed = self.nodes[node].link.as_ref().and_then(|link| link.inbox.1.lock().unwrap().take());
        let Some(code) = closed else { return false };
        self.drop_link(node);
        self.input(node, Input::Down { error: Error::new(code, "closed by the server"), retry_in: Some(Duration::ZERO) });
        true
    }

    /// Brings one thing to the server.
    pub(super) fn transmit(&mut self, node: usize) -> bool {
        let now = parlour_server::Now { unix_ms: self.unix_ms };
        let it = &mut self.nodes[node];
        let Some(link) = it.link.as_mut() else {
            it.outbox.clear();
            return false;
        };
        match it.outbox.pop_front() {
            Some(Output::Request { id, name, content }) => {
                it.asked += 1;
                if let Some(code) = self.refuses.as_mut().and_then(|refuses| refuses(name, &content)) {
                    link.inbox.push(Some(Asked { name, content }), Input::Answer(id, Err(Error::new(code, "refused"))));
                    return true;
                }
                let answer = block_on(self.service.request(&mut link.session, name, &content, now));
                let answer = answer.map(|bytes| bytes.to_vec()).map_err(|failure| {
                    let fault = failure.to_wire();
                    Error::new(fault.code, fault.message)
                });
                let answer = self.lies.get(name).map_or(answer, |lie| Ok(lie.clone()));
                link.inbox.push(Some(Asked { name, content }), Input::Answer(id, answer));
                true
            }
            Some(Output::Action { name, content }) => {
                self.service.action(&mut link.session, name, &content, now);
                true
            }
            _ => false,
        }
    }

    /// Lets one thing happen somewhere; `false` if nothing is under way.
    pub(super) fn step_any(&mut self) -> bool {
        for node in 0..self.nodes.len() {
            if self.connect(node) || self.transmit(node) || self.receive(node) || self.transfer(node) {
                return true;
            }
        }
        false
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, by: Duration) {
        self.steady += by;
        self.unix_ms += u64::try_from(by.as_millis()).unwrap();
        for node in 0..self.nodes.len() {
            let due = self.nodes[node].core.as_ref().and_then(Core::deadline).is_some_and(|at| at <= self.steady);
            if due {
                self.input(node, Input::Tick);
            }
        }
    }

    /// Lets everything happen that happens by itself, timers included.
    pub(super) fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..200_000 {
            if self.step_any() {
                quiet = 0;
            } else if quiet < 40 {
                quiet += 1;
                self.advance(Duration::from_millis(500));
            } else {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}

fn brief(text: &str) -> String {
    text.chars().take(300).collect()
}
