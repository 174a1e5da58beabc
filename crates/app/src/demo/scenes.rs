//! The steps of the demonstration. Each says what it saw, or what differs from what it should have seen.

use parlour_client::{Client, Code, Message, MessageId, State};
use zeroize::Zeroizing;

use super::stage::{Checked, PATIENCE, Stage, holds, password, read, same, told};

/// Messages of the burst in which the connection is cut.
const BURST: usize = 120;
/// After how many messages of the burst bob's connection is cut, again and again.
const CUT_EVERY: usize = 30;
/// Messages that wait for carol from each of the others.
const WAITING: usize = 10;

pub(super) async fn server_starts(stage: &mut Stage) -> Checked {
    let url = stage.start_server().await?;
    let facts = Client::server_info(&url, PATIENCE).await.map_err(told)?;
    same("registration", &facts.registration.word(), &"open")?;
    Ok(format!("{url}, registration is open"))
}

pub(super) async fn people_register(stage: &mut Stage) -> Checked {
    let mut told_of = Vec::new();
    for name in ["alice", "bob", "carol"] {
        stage.register(name).await?;
        let who = stage.person(name)?.whoami().await.ok_or_else(|| format!("{name} has no account after registering"))?;
        same("the name of the account", &who.name.as_str(), &name)?;
        told_of.push(format!("{name} is {:.12}…", who.account.to_string()));
    }
    Ok(told_of.join(", "))
}

pub(super) async fn strangers_are_refused(stage: &mut Stage) -> Checked {
    let wrong = stage.login("stranger", "alice", Zeroizing::new("a guess".to_owned())).await?;
    same("a login with a wrong password", &wrong, &Err(Code::WRONG_PASSWORD))?;
    let unknown = stage.login("stranger", "nobody", password("nobody")).await?;
    same("a login with an unknown name", &unknown, &Err(Code::WRONG_PASSWORD))?;
    let taken = stage.refused_registration("Alice").await?;
    same("a registration under a taken name", &taken, &Code::NAME_TAKEN)?;
    Ok("wrong password and unknown name look the same; Alice is alice and taken".to_owned())
}

pub(super) async fn two_people_talk(stage: &mut Stage) -> Checked {
    let (alice, bob) = (stage.person("alice")?, stage.person("bob")?);
    let question = send(&alice, "bob", "Are you there?", None).await?;
    let received = read(&bob, 1).await?;
    same("what bob reads", &texts(&received), &vec!["Are you there?".to_owned()])?;
    same("who wrote it", &received[0].sender_name.as_str(), &"alice")?;
    let answer = send(&bob, "alice", "I am. 👋", Some(question.id)).await?;
    let received = read(&alice, 1).await?;
    same("what alice reads", &texts(&received), &vec!["I am. 👋".to_owned()])?;
    same("what it answers", &received[0].reply_to, &Some(question.id))?;
    for (who, message) in [(&alice, question.id), (&bob, answer.id)] {
        who.wait_state(message, State::Delivered, PATIENCE).await.map_err(told)?;
    }
    Ok("a question and its answer, both delivered; the server saw ciphertext".to_owned())
}

pub(super) async fn safety_numbers_agree(stage: &mut Stage) -> Checked {
    let (alice, bob, carol) = (stage.person("alice")?, stage.person("bob")?, stage.person("carol")?);
    let (of_alice, _) = alice.safety_number("bob").await.map_err(told)?;
    let (of_bob, _) = bob.safety_number("alice").await.map_err(told)?;
    let (of_carol, _) = carol.safety_number("alice").await.map_err(told)?;
    same("the number on both sides", &of_alice, &of_bob)?;
    same("digits of the number", &of_alice.chars().filter(char::is_ascii_digit).count(), &60)?;
    if of_carol == of_bob {
        return Err(format!("two different people have one safety number, {of_bob}"));
    }
    alice.set_verified("bob", true).await.map_err(told)?;
    let (_, verified) = alice.safety_number("bob").await.map_err(told)?;
    same("verified after comparing", &verified, &true)?;
    Ok(of_alice)
}

pub(super) async fn offline_reader_catches_up(stage: &mut Stage) -> Checked {
    stage.leave("carol").await?;
    let mut expected = Vec::new();
    for name in ["alice", "bob"] {
        let person = stage.person(name)?;
        for number in 1..=WAITING {
            let text = format!("{name} {number}");
            send(&person, "carol", &text, None).await?;
            expected.push(text);
        }
    }
    let carol = stage.return_("carol").await?;
    let received = read(&carol, expected.len()).await?;
    for name in ["alice", "bob"] {
        let from = |text: &&String| text.starts_with(name);
        let found: Vec<_> = texts(&received).into_iter().filter(|text| from(&text)).collect();
        let sent: Vec<_> = expected.iter().filter(from).cloned().collect();
        same(&format!("what carol finds from {name}"), &found, &sent)?;
    }
    nothing_more(&carol).await?;
    Ok(format!("{} messages, in order, none of them twice", received.len()))
}

pub(super) async fn cut_connection_loses_nothing(stage: &mut Stage) -> Checked {
    let (alice, bob) = (stage.person("alice")?, stage.person("bob")?);
    let mut last = None;
    let mut cuts = 0;
    for number in 1..=BURST {
        last = Some(alice.send("bob", &format!("burst {number}"), None).await.map_err(told)?.id);
        if number % CUT_EVERY == CUT_EVERY / 2 {
            bob.cut().await.map_err(told)?;
            cuts += 1;
        }
    }
    let expected: Vec<String> = (1..=BURST).map(|number| format!("burst {number}")).collect();
    let received = read(&bob, BURST).await?;
    same("what bob reads", &texts(&received), &expected)?;
    if let Some(last) = last {
        alice.wait_state(last, State::Delivered, PATIENCE).await.map_err(told)?;
    }
    nothing_more(&bob).await?;
    Ok(format!("{BURST} messages, {cuts} cuts: nothing lost, nothing doubled, in order"))
}

pub(super) async fn server_restarts(stage: &mut Stage) -> Checked {
    let (alice, bob) = (stage.person("alice")?, stage.person("bob")?);
    let before = stage.url()?;
    stage.stop_server().await;
    let queued = alice.send("bob", "written while the server was away", None).await.map_err(told)?;
    same("its state without a server", &queued.state, &State::Queued)?;
    let after = stage.start_server().await?;
    same("the server's address and certificate", &after, &before)?;
    alice.wait_state(queued.id, State::Delivered, 2 * PATIENCE).await.map_err(told)?;
    let received = read(&bob, 1).await?;
    same("what bob reads", &texts(&received), &vec!["written while the server was away".to_owned()])?;
    nothing_more(&bob).await?;
    Ok("queued, then stored and delivered by itself".to_owned())
}

pub(super) async fn second_device_takes_part(stage: &mut Stage) -> Checked {
    let login = stage.login("alice-2", "alice", password("alice")).await?;
    same("the login", &login, &Ok(()))?;
    let (first, second, bob) = (stage.person("alice")?, stage.person("alice-2")?, stage.person("bob")?);
    same("the account of both devices", &account(&second).await?, &account(&first).await?)?;
    second.wait_synced(PATIENCE).await.map_err(told)?;
    same("devices of the account", &second.devices().await.map_err(told)?.len(), &2)?;
    let text = "for every device of alice";
    send(&bob, "alice", text, None).await?;
    same("what the first device reads", &texts(&read(&first, 1).await?), &vec![text.to_owned()])?;
    holds(&second, "bob", text).await?;
    Ok("both devices read it; the password never left them".to_owned())
}

/// Writes and waits until the server has it.
async fn send(from: &Client, to: &str, text: &str, reply_to: Option<MessageId>) -> Checked<Message> {
    let message = from.send(to, text, reply_to).await.map_err(told)?;
    from.wait_state(message.id, State::Stored, PATIENCE).await.map_err(told)?;
    Ok(message)
}

async fn account(who: &Client) -> Checked<String> {
    who.whoami().await.map(|who| who.account.to_string()).ok_or_else(|| "a device without an account".to_owned())
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.text.clone()).collect()
}

/// Checks that nothing came twice: the reader has taken all that the server has, and nothing is left unread.
async fn nothing_more(who: &Client) -> Checked<()> {
    who.wait_synced(PATIENCE).await.map_err(told)?;
    let left = who.unshown(None, 500).await.map_err(told)?;
    same("messages beyond what was sent", &texts(&left), &Vec::new())
}
