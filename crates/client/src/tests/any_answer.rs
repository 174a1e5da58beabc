//! A server that answers anything with garbage, with half of it, with nothing, or with a refusal, to one kind of request after the other,
//! while people do everything that makes such requests. What they do comes to an end, and when the server behaves again, all is there.

use std::rc::Rc;

use parlour_wire::Code;
use zeroize::Zeroizing;

use super::{
    groups::{change, create, members, people},
    harness::{SERVER, World, bent::replies},
    recovery::{login, registered},
};
use crate::{
    api::Register,
    core::{Command, GroupCommand, Reply, Ticket},
    error::Error,
};

type Lie = Rc<dyn Fn(Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error>>;
/// People who do things of one sort, in a world of this seed, while answers of this name are lies.
type Story = fn(u64, &'static str, &Lie);

/// Requests, each with the story in which it is made.
const ASKED: [(&str, Story); 31] = [
    ("device.auth", talk),
    ("sync", talk),
    ("conversation.read", talk),
    ("conversation.send", talk),
    ("conversation.commit", talk),
    ("conversation.group_info", talk),
    ("keys.claim", talk),
    ("keys.publish", talk),
    ("account.by_name", talk),
    ("account.by_id", talk),
    ("presence.watch", talk),
    ("cursors.set", talk),
    ("devices.get", talk),
    ("group.by_name", talk),
    ("blob.begin", keep),
    ("blob.put", keep),
    ("blob.get", keep),
    ("backup.set", keep),
    ("backup.get", keep),
    ("backup.delete", keep),
    ("conversation.leave", part),
    ("conversation.leaves", part),
    ("server.info", enrol),
    ("register.start", enrol),
    ("register.finish", enrol),
    ("login.start", enrol),
    ("login.finish", enrol),
    ("password.start", enrol),
    ("password.finish", enrol),
    ("devices.update", enrol),
    ("device.logout", enrol),
];

fn bend(world: &mut World, node: usize, name: &'static str, lie: &Lie) -> Rc<std::cell::Cell<usize>> {
    let lie = Rc::clone(lie);
    let told = Rc::new(std::cell::Cell::new(0));
    let count = Rc::clone(&told);
    world.bend(
        node,
        replies(name, move |_, answer| {
            count.set(count.get() + 1);
            lie(answer)
        }),
    );
    told
}

fn send(to: &str, text: &str) -> Command {
    Command::Send { to: to.into(), text: text.into(), reply_to: None }
}

/// Everybody gets through to everybody, and hears no more than that once.
fn talks_again(world: &mut World, name: &str, pairs: [(usize, &str); 2], texts: &[&str]) {
    for (node, with) in pairs {
        let tally = world.tally(node, with);
        let broken = tally.keys().any(|text| text.contains("broke the log"));
        for text in texts {
            let count = tally.get(*text).copied().unwrap_or(0);
            assert!(count == 1 || (broken && count == 0), "{name}: node {node} {tally:?} {:?}", world.troubles(node));
        }
    }
}

/// Two people who write to each other, make a group, and look at devices.
fn talk(seed: u64, name: &'static str, lie: &Lie) {
    let (mut world, nodes) = people(seed, &["alice", "bob", "carol"]);
    let [a, b, _] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    for node in [a, b] {
        bend(&mut world, node, name, lie);
    }
    for node in [a, b] {
        world.cut(node);
    }
    world.go_on(a, 5);
    world.command(a, send("bob", "two"));
    world.command(b, send("alice", "three"));
    world.command(a, Command::Group(create("club", &["bob", "carol"])));
    world.command(a, Command::Devices);
    let requests = world.go_on(a, 20);
    assert!(requests < 1000, "{name}: {requests} requests");
    world.straighten();
    world.send(a, "bob", "four");
    world.settle();
    world.send(b, "alice", "five");
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        let tally = world.tally(node, with);
        let once = |text: &&str| tally.get(*text).is_none_or(|count| *count == 1);
        assert!(["one", "two", "three"].iter().all(once), "{name}: {tally:?}");
    }
    talks_again(&mut world, name, [(a, "bob"), (b, "alice")], &["four", "five"]);
}

/// A history is handed over to another device, kept in a backup, and taken from it.
fn keep(seed: u64, name: &'static str, lie: &Lie) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(b, "alice", "one");
    world.settle();
    world.ask(a, Command::BackupOn).unwrap();
    let new = world.sibling(alice);
    let told = [a, new].map(|node| bend(&mut world, node, name, lie));
    world.send(a, "bob", "two");
    let now = world.command(a, Command::BackupNow);
    let restore = world.command(new, Command::RestoreBackup);
    let mut requests = world.go_on(a, 20);
    let off = (name == "backup.delete").then(|| world.command(a, Command::BackupOff));
    requests += world.go_on(a, 10);
    assert!(told.iter().any(|told| told.get() > 0), "{name}: nobody was lied to");
    assert!(requests < 300, "{name}: {requests} requests");
    world.straighten();
    assert!(world.nodes[a].replies.contains_key(&now) && world.nodes[new].replies.contains_key(&restore), "{name}");
    assert!(off.is_none_or(|off| world.nodes[a].replies.contains_key(&off)), "{name}");
    // Packs that went with a backup which is thought to be there are missed once, and written again.
    let mut on = world.ask(a, Command::BackupOn);
    if on.is_err() && off.is_some() {
        on = world.ask(a, Command::BackupOn);
    }
    assert!(on.is_ok(), "{name}: {on:?}");
    // After a deletion versions begin anew, which is refused where nobody has heard of the deletion.
    assert!(off.is_some() || world.ask(new, Command::RestoreBackup).is_ok(), "{name}");
    world.send(b, "alice", "three");
    world.settle();
    talks_again(&mut world, name, [(a, "bob"), (new, "bob")], &["one", "two", "three"]);
}

/// Somebody leaves a group, and a device comes in that has not read so.
fn part(seed: u64, name: &'static str, lie: &Lie) {
    let (mut world, nodes) = people(seed, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    // Nobody is there to take out who leaves.
    for node in [a, b] {
        world.stop(node);
    }
    bend(&mut world, c, name, lie);
    world.command(c, Command::Group(GroupCommand::Leave("club".to_owned())));
    let mut requests = world.go_on(c, 10);
    let new = world.node();
    let told = bend(&mut world, new, name, lie);
    world.enrol(0, new);
    requests += world.go_on(new, 10);
    assert!(name != "conversation.leaves" || told.get() > 0, "{name}: nobody was lied to");
    assert!(requests < 300, "{name}: {requests} requests");
    for node in [a, b] {
        world.open(node);
        world.go_online(node);
    }
    world.straighten();
    world.send(b, "#club", "without her, or not");
    world.settle();
    let gone = members(&mut world, a, "#club").iter().all(|(member, _)| member != "carol");
    let refused = members_or_none(&mut world, c);
    for node in [b, new] {
        let there = members(&mut world, node, "#club").iter().any(|(member, _)| member == "carol");
        assert_eq!(there, !gone, "{name}: node {node} knows it otherwise");
    }
    assert!(gone || !refused, "{name}: carol thinks that she has left");
    talks_again(&mut world, name, [(a, "#club"), (new, "#club")], &["without her, or not"]);
}

/// Whether a device is in the group no more.
fn members_or_none(world: &mut World, node: usize) -> bool {
    match world.ask(node, Command::Group(GroupCommand::List)) {
        Ok(Reply::Groups(groups)) => groups.is_empty(),
        other => panic!("{other:?}"),
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// Accounts and devices are made and ended, a password is changed.
fn enrol(seed: u64, name: &'static str, lie: &Lie) {
    let mut world = World::new(seed);
    let (a, b) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    let (second, c) = (world.node(), world.node());
    let told = [a, second, c].map(|node| bend(&mut world, node, name, lie));
    let register = |label: &str| {
        let (server, name, invite) = (SERVER.parse().unwrap(), "carol".to_owned(), None);
        Command::Register(Register { server, name, password: secret("correct horse"), invite, label: label.to_owned() })
    };
    let mut given: Vec<(usize, Ticket)> = vec![(c, world.command(c, register("first")))];
    given.push((second, world.command(second, login("alice", "correct horse"))));
    let mut requests = world.go_on(a, 5);
    given.push((second, world.command(second, Command::Logout)));
    let change = Command::ChangePassword { old: secret("correct horse"), new: secret("battery") };
    given.push((a, world.command(a, change)));
    requests += world.go_on(a, 5) + world.go_on(c, 1) + world.go_on(second, 1);
    assert!(told.iter().any(|told| told.get() > 0), "{name}: nobody was lied to");
    assert!(requests < 100, "{name}: {requests} requests");
    for (node, ticket) in given {
        assert!(world.nodes[node].replies.contains_key(&ticket), "{name}: a command of node {node} has no reply");
    }
    world.straighten();
    let third = world.node();
    let alice = ["correct horse", "battery"].iter().any(|password| world.ask(third, login("alice", password)).is_ok());
    assert!(alice, "{name}: neither the old nor the new password opens the account");
    let fourth = world.node();
    let carol = world.ask(c, Command::WhoAmI) != Ok(Reply::WhoAmI(None))
        || world.ask(fourth, register("again")).is_ok()
        || world.ask(fourth, login("carol", "correct horse")).is_ok();
    assert!(carol, "{name}: carol has no account and cannot make one");
    world.send(b, "alice", "one");
    world.settle();
    talks_again(&mut world, name, [(a, "bob"), (third, "bob")], &["one"]);
}

fn with_everything(from: u64, lies: &[Lie], applies: impl Fn(&str, usize) -> bool) {
    for (seed, (name, story)) in (from..).zip(ASKED) {
        for (n, lie) in lies.iter().enumerate() {
            if applies(name, n) {
                story(seed, name, lie);
            }
        }
    }
}

#[test]
fn garbage_in_the_place_of_any_answer_is_told_and_leaves_everything_whole() {
    let half = |answer: Result<Vec<u8>, Error>| {
        answer.map(|mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        })
    };
    with_everything(100, &[Rc::new(|_| Ok(vec![0xff; 64])), Rc::new(half), Rc::new(|_| Ok(Vec::new()))], |_, _| true);
}

#[test]
fn a_refusal_in_the_place_of_any_answer_leaves_everything_whole() {
    let codes = [Code::INTERNAL, Code::FORBIDDEN, Code::STALE_EPOCH, Code::NOT_MEMBER, Code::CONVERSATION_NOT_FOUND];
    let lies = codes.map(|code| -> Lie { Rc::new(move |_| Err(Error::new(code, "no"))) });
    with_everything(200, &lies, |name, n| name != "device.auth" || codes[n] == Code::INTERNAL);
}
