//! The world: lets one thing happen at a time, always the next one in virtual time.

use std::{sync::Arc, time::Duration};

use parlour_client::{
    Error, Event,
    core::{Command, Core, Input, Now, Output, Reply, RequestId, Ticket, sim::Admission},
};
use parlour_e2ee::DeviceKeys;
use parlour_wire::{BlobId, Code, address::ServerUrl};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use zeroize::Zeroizing;

use crate::{
    Plan,
    faults::Sabotage,
    home::{FINGERPRINT, Home},
    ledger::Ledger,
    link::{GRACE, Inbox, Link, REQUEST},
    node::Node,
    people::{NAMES, Person},
};

const SERVER: &str = "wss://127.0.0.1:1";
/// 2023-11-14; any will do.
const BEGINNING_MS: u64 = 1_700_000_000_000;

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that happened one after the other.
    pub steps: u64,
    /// Messages that a device said it keeps.
    pub messages: u64,
    /// Files among them.
    pub files: u64,
    /// Edits, reactions and deletes.
    pub changes: u64,
    /// Things that people wanted changed about groups.
    pub group_changes: u64,
    /// Programs of people that died.
    pub crashes: u64,
    /// Crashes of the server.
    pub server_crashes: u64,
    /// Sessions that were lost.
    pub cuts: u64,
    /// Times in which nothing got through to some devices.
    pub partitions: u64,
    /// Older copies of a profile that were put in its place.
    pub rollbacks: u64,
    /// Devices that came or were ended.
    pub devices: u64,
    /// Groups that were founded anew.
    pub foundings: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.files += other.files;
        self.changes += other.changes;
        self.group_changes += other.group_changes;
        self.crashes += other.crashes;
        self.server_crashes += other.server_crashes;
        self.cuts += other.cuts;
        self.partitions += other.partitions;
        self.rollbacks += other.rollbacks;
        self.devices += other.devices;
        self.foundings += other.foundings;
    }
}

/// What happens next somewhere, in the order of precedence at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Opens,
    Noticed,
    Mended,
    Connects,
    ToServer,
    ToClient,
    GivenUp(RequestId),
    Tick,
    Transfers,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) home: Home,
    /// The server does not run before.
    pub(crate) home_opens: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) people: Vec<Person>,
    pub(crate) rng: StdRng,
    pub(crate) now: Duration,
    pub(crate) counts: Counts,
    pub(crate) ledger: Ledger,
    pub(crate) trace: Vec<String>,
    pub(crate) sabotage: Option<Sabotage>,
    /// What the server has no more.
    pub(crate) misplaced: Option<BlobId>,
    /// See [`Plan::wide`].
    pub(crate) wide: bool,
    /// See [`Plan::small`].
    small: bool,
    loud: bool,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let home = Home::new(&mut rng);
        Self {
            home,
            home_opens: Duration::ZERO,
            nodes: Vec::new(),
            people: Vec::new(),
            rng,
            now: Duration::ZERO,
            counts: Counts::default(),
            ledger: Ledger::default(),
            trace: Vec::new(),
            sabotage: None,
            misplaced: None,
            wide: plan.wide,
            small: plan.small,
            loud: plan.loud,
        }
    }

    /// People come, each with a device or two.
    pub(crate) fn settle_in(&mut self) {
        let people = self.rng.gen_range(2..=NAMES.len());
        let unix_ms = self.unix_ms();
        for name in &NAMES[..people] {
            let person = Person::new(name, &self.home, &mut self.rng, unix_ms);
            self.people.push(person);
        }
        for person in 0..people {
            for nth in 0..self.rng.gen_range(1..=2) {
                self.add_device(person, nth > 0);
            }
        }
        self.run_for(Duration::from_secs(30));
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        BEGINNING_MS + u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes down what somebody did or what went wrong.
    pub(crate) fn tell(&mut self, text: String) {
        let line = format!("{:>9.3} {text}", self.now.as_secs_f64());
        self.whisper(&line);
        self.trace.push(line);
    }

    fn whisper(&self, line: &str) {
        if self.loud {
            eprintln!("{line}");
        }
    }

    /// Gives an account another device, and puts it online.
    pub(crate) fn add_device(&mut self, person: usize, wants_history: bool) {
        let secret = Zeroizing::new(self.rng.r#gen::<[u8; 32]>());
        let keys = DeviceKeys::from_secret(&secret);
        let unix_ms = self.unix_ms();
        let owner = &mut self.people[person];
        let certificate = owner.add(&self.home, &keys, unix_ms);
        let server = ServerUrl { fingerprint: Some(FINGERPRINT), ..SERVER.parse().expect("an address") };
        let admission = Admission {
            name: owner.name.to_owned(),
            server,
            receipt_key: self.home.receipt_key(),
            device_secret: keys.secret(),
            certificate,
            list: owner.list().clone(),
            backup_key: Zeroizing::new(*owner.backup_key.as_bytes()),
            wants_history,
        };
        let mut node = Node::new(person, keys.id(), self.rng.r#gen(), self.small);
        let core = node.core.as_mut().expect("it has just been opened");
        core.admit(admission).expect("a new profile");
        self.nodes.push(node);
        self.deliver_pushes();
        self.command(self.nodes.len() - 1, Command::GoOnline);
    }

    /// How long something is on its way.
    pub(crate) fn latency(&mut self) -> Duration {
        match self.rng.gen_range(0..100) {
            0 => Duration::from_millis(self.rng.gen_range(1000..8000)),
            1..8 => Duration::from_millis(self.rng.gen_range(100..1000)),
            _ => Duration::from_millis(self.rng.gen_range(1..40)),
        }
    }

    /// Lets everything happen that happens in a span of time.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, node, happening)) = self.next().filter(|(at, ..)| *at <= end) {
            self.now = self.now.max(at);
            self.counts.steps += 1;
            self.happen(node, happening);
            self.deliver_pushes();
        }
        self.now = end;
    }

    /// Whether nothing will happen by itself before `end`.
    pub(crate) fn is_quiet_until(&self, end: Duration) -> bool {
        self.next().is_none_or(|(at, ..)| at > end)
    }

    fn next(&self) -> Option<(Duration, usize, Happening)> {
        let all = self.nodes.iter().enumerate();
        let due = all.filter_map(|(at, node)| self.due(node).map(|(when, what)| (when, at, what)));
        due.min_by_key(|(when, at, what)| (*when, *at, *what))
    }

    fn due(&self, node: &Node) -> Option<(Duration, Happening)> {
        if node.core.is_none() {
            return node.opens_at.map(|at| (at, Happening::Opens));
        }
        let tick = node.core.as_ref().and_then(Core::deadline).map(|at| (at, Happening::Tick));
        let tick = tick.into_iter().chain(node.transfers.front().map(|(at, _)| (*at, Happening::Transfers))).min();
        let Some(link) = &node.link else {
            let connects = node.wanted.then(|| (node.away_until.max(self.home_opens), Happening::Connects));
            return tick.into_iter().chain(connects).min();
        };
        let given_up = link.asked.iter().map(|(id, at)| (*at, Happening::GivenUp(*id))).min();
        let carried = match link.standstill {
            Some(still) if !still.noticed && still.noticed_at < still.until => vec![(still.noticed_at, Happening::Noticed)],
            Some(still) => vec![(still.until, Happening::Mended)],
            None => {
                let out = link.to_server.front().map(|(at, _)| (*at, Happening::ToServer));
                let back = link.to_client.front().map(|(at, _)| (*at, Happening::ToClient));
                let over =
                    (link.to_client.is_empty() && link.inbox.closed().is_some()).then_some((self.now, Happening::ToClient));
                out.into_iter().chain(back).chain(over).collect()
            }
        };
        tick.into_iter().chain(given_up).chain(carried).min()
    }

    fn happen(&mut self, node: usize, happening: Happening) {
        match happening {
            Happening::Opens => {
                self.nodes[node].open();
                self.command(node, Command::GoOnline);
            }
            Happening::Connects => self.connect(node),
            Happening::ToServer => self.carry_up(node),
            Happening::ToClient => self.carry_down(node),
            Happening::Noticed => self.notice(node),
            Happening::Mended => self.mend_link(node),
            Happening::GivenUp(id) => self.give_up(node, id),
            Happening::Tick => self.input(node, Input::Tick),
            Happening::Transfers => self.transfer(node),
        }
    }

    fn connect(&mut self, node: usize) {
        let (inbox, challenge) = (Arc::new(Inbox::default()), self.rng.r#gen());
        let session = self.home.open(challenge, Arc::clone(&inbox) as Arc<dyn parlour_server::Sink>);
        self.nodes[node].link = Some(Link::new(session, inbox));
        self.input(node, Input::Up { resumed: false, challenge, fingerprint: FINGERPRINT, trusted_by_system: false });
    }

    fn carry_up(&mut self, node: usize) {
        let (now, unix_ms) = (self.now, self.unix_ms());
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        match link.to_server.pop_front() {
            Some((_, Output::Request { id, name, content })) => {
                let spent = &mut self.nodes[node].spent;
                if let Some((conversation, _, epoch)) = self.home.log(|log| spent.see(log, name, &content)) {
                    self.ledger.reused(format!("node {node} uses a key again in {conversation}, epoch {epoch}"));
                }
                let swallowed = Sabotage::swallows(&mut self.sabotage, &self.home, name, &content);
                let link = self.nodes[node].link.as_mut().expect("it is there");
                let answer = match swallowed {
                    Some(answer) => Ok(answer),
                    None => self.home.request(&mut link.session, name, &content, unix_ms).map_err(|failure| failure.to_wire()),
                };
                if let Err(fault) = &answer
                    && matches!(fault.code, Code::INTERNAL | Code::BAD_REQUEST)
                {
                    self.ledger.trouble(format!("the server answers {name} with {}: {}", fault.code, fault.message));
                }
                let answer = answer.map(|bytes| bytes.to_vec()).map_err(|fault| Error::new(fault.code, fault.message));
                let inbox = Arc::clone(&self.nodes[node].link.as_ref().expect("it is there").inbox);
                inbox.say(Input::Answer(id, answer));
            }
            Some((_, Output::Action { name, content })) => self.home.action(&mut link.session, name, &content, unix_ms),
            Some(_) | None => debug_assert!(false, "nothing else is sent at {now:?}"),
        }
    }

    fn carry_down(&mut self, node: usize) {
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        let Some((_, input)) = link.to_client.pop_front() else {
            if let Some(code) = link.inbox.closed() {
                self.lose_link(node, code);
            }
            return;
        };
        match &input {
            Input::Answer(id, _) if link.asked.remove(id).is_none() => return,
            Input::Push { .. } if link.inbox.arrived() => self.home.drained(&link.session),
            _ => {}
        }
        let input = Sabotage::garbles(&mut self.sabotage, input);
        self.input(node, input);
    }

    /// The ends find out that nothing gets through.
    fn notice(&mut self, node: usize) {
        let unix_ms = self.unix_ms();
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        if let Some(still) = &mut link.standstill {
            still.noticed = true;
        }
        self.home.connection(&mut link.session, false, unix_ms);
        let error = Error::new(Code::LINK_LOST, "nothing is heard");
        self.input(node, Input::Down { error, retry_in: Some(Duration::from_secs(1)) });
    }

    /// Things get through again: the session goes on, or is lost if that took too long.
    fn mend_link(&mut self, node: usize) {
        let unix_ms = self.unix_ms();
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        let Some(still) = link.standstill.take() else { return };
        if still.until - still.since > GRACE {
            return self.lose_link(node, Code::LINK_LOST);
        }
        if still.noticed {
            self.home.connection(&mut link.session, true, unix_ms);
            let up = Input::Up { resumed: true, challenge: [0; 32], fingerprint: FINGERPRINT, trusted_by_system: false };
            self.input(node, up);
        }
    }

    fn give_up(&mut self, node: usize, id: RequestId) {
        let withdrawn = self.rng.gen_bool(0.5);
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        link.asked.remove(&id);
        if withdrawn {
            link.withdraw(id);
        }
        self.input(node, Input::Answer(id, Err(Error::new(Code::TIMED_OUT, "no answer within the deadline"))));
    }

    /// A link goes with all that is in it; the device hears of it.
    pub(crate) fn lose_link(&mut self, node: usize, code: Code) {
        let Some(link) = self.nodes[node].link.take() else { return };
        let asked: Vec<_> = link.asked.keys().copied().collect();
        self.home.close(link.session, self.unix_ms());
        let error = Error::new(code, "the session is over");
        // Answers to what was under way come before the next session or not at all.
        if self.rng.gen_bool(0.5) {
            for id in asked {
                self.input(node, Input::Answer(id, Err(error.clone())));
            }
        }
        self.input(node, Input::Down { error, retry_in: Some(Duration::from_secs(1)) });
        let pause = Duration::from_millis(self.rng.gen_range(50..3000));
        self.nodes[node].away_until = self.nodes[node].away_until.max(self.now + pause);
    }

    /// Drops the link of a program that is dead, or the links to a server that is.
    pub(crate) fn drop_link(&mut self, node: usize) {
        if let Some(link) = self.nodes[node].link.take() {
            self.home.close(link.session, self.unix_ms());
        }
    }

    /// Puts what the server says on its way.
    fn deliver_pushes(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(link) = &self.nodes[node].link else { continue };
            for input in link.inbox.take() {
                let at = self.now + self.latency();
                if let Some(link) = &mut self.nodes[node].link {
                    link.deliver(at, input);
                }
            }
        }
    }

    /// Gives a command; its reply is taken when it comes.
    pub(crate) fn command(&mut self, node: usize, command: Command) -> Ticket {
        let ticket = Ticket(self.nodes[node].next);
        self.nodes[node].next += 1;
        self.input(node, Input::Command(ticket, command));
        ticket
    }

    /// Gives a command whose reply is a promise, and writes the promise down when it comes. The ticket is in the book before the
    /// command runs, because most replies are at once.
    pub(crate) fn promise(&mut self, node: usize, command: Command, text: String) {
        let ticket = Ticket(self.nodes[node].next);
        self.ledger.asked(node, ticket, text);
        self.command(node, command);
    }

    /// Gives a command that is answered at once, from what is on the device.
    pub(crate) fn look(&mut self, node: usize, command: Command) -> Option<Reply> {
        let ticket = self.command(node, command);
        self.nodes[node].replies.remove(&ticket)?.ok()
    }

    /// Hands an input to a core and does what it wants done.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let now = Now { unix_ms: self.unix_ms(), steady: self.now };
        let Some(core) = self.nodes[node].core.as_mut() else { return };
        if self.loud {
            eprintln!("{:>9.3} {node} <- {}", self.now.as_secs_f64(), brief(&format!("{input:?}")));
        }
        let outputs = core.handle(input, now);
        for output in &outputs {
            if let Output::Request { name, content, .. } = output {
                self.nodes[node].spent.make(name, content);
            }
        }
        if std::mem::take(&mut self.nodes[node].dying) {
            return self.crash(node, None);
        }
        for output in outputs {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        if self.loud {
            eprintln!("{:>9.3} {node} -> {}", self.now.as_secs_f64(), brief(&format!("{output:?}")));
        }
        match output {
            Output::Reply(ticket, result) => self.reply(node, ticket, result),
            Output::Event(event) => self.event(node, &event),
            Output::Connect { .. } => self.nodes[node].wanted = true,
            Output::Disconnect => {
                self.nodes[node].wanted = false;
                self.drop_link(node);
            }
            Output::Cut => {}
            Output::Transfer(order) => self.order(node, order),
            Output::StopTransfer(id) => self.stop_order(node, id),
            output => self.send(node, output),
        }
    }

    fn reply(&mut self, node: usize, ticket: Ticket, result: Result<Reply, Error>) {
        if let Err(error) = &result
            && error.code == Code::INTERNAL
        {
            self.ledger.trouble(format!("node {node} replies {}", error.message));
        }
        if !self.ledger.claim(node, ticket, &result, self.now) {
            self.nodes[node].replies.insert(ticket, result);
        }
    }

    fn event(&mut self, node: usize, event: &Event) {
        if let Event::Trouble(error) = event
            && matches!(error.code, Code::INTERNAL | Code::SERVER_MISBEHAVED)
        {
            self.tell(format!("node {node} is in trouble: {}", error.message));
            self.ledger.trouble(format!("node {node}: {}", error.message));
        }
    }

    fn send(&mut self, node: usize, output: Output) {
        let at = self.now + self.latency();
        let Some(link) = self.nodes[node].link.as_mut() else { return };
        if let Output::Request { id, .. } = &output {
            link.asked.insert(*id, self.now + REQUEST);
        }
        link.send(at, output);
    }
}

fn brief(text: &str) -> String {
    text.chars().take(400).collect()
}
