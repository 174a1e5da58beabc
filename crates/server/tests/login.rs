//! Stories of registration, login by password, its change, and of those who guess.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_server::{
    Failure, Rejection, ServiceConfig,
    store::Write,
    throttle::{Rate, ThrottleConfig},
};
use parlour_wire::{Code, api, api::Registration, name::Name};
use support::{Person, World, config};

#[test]
fn somebody_registers_and_comes_back_with_name_and_password() {
    let mut world = World::new();
    let alice = Person::new("alice", 1);
    let mut link = world.link();
    world.register(&mut link, &alice, None).unwrap();
    assert_eq!(world.refused(&mut link, &api::Sync { after: None }), Code::NOT_AUTHENTICATED, "a password is not a device");
    assert_eq!(world.ask(&mut link, &api::DevicesGet {}).unwrap().device_list, alice.list);

    let mut link = world.link();
    let answer = world.login(&mut link, &alice.name, &alice.password).unwrap();
    assert_eq!((answer.wrapped_root, answer.device_list), (vec![0x22; 72], alice.list.clone()));
    let answer = world.ask(&mut link, &api::AccountByName { name: alice.name.clone() }).unwrap();
    assert_eq!((answer.name, answer.device_list), (alice.name.clone(), alice.list.clone()));
    let counters = world.service.counters();
    assert_eq!((counters.sessions, counters.logins_ok, counters.logins_failed), (2, 1, 0));
}

#[test]
fn a_wrong_password_and_an_unknown_name_answer_alike() {
    let mut world = World::new();
    world.person("alice", 1);
    for name in ["alice", "nobody"] {
        let mut link = world.link();
        let failure = world.login(&mut link, &Name::parse(name).unwrap(), "guess").unwrap_err();
        let Failure::Rejected(rejection) = failure else { panic!("{failure}") };
        assert_eq!((rejection.code, rejection.text), (Code::WRONG_PASSWORD, "wrong name or password"), "{name}");
        assert_eq!(world.refused(&mut link, &api::DevicesGet {}), Code::NOT_AUTHENTICATED);
    }
    assert_eq!(world.service.counters().logins_failed, 2);
}

#[test]
fn a_login_is_finished_once_on_its_own_link_and_in_time() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let mut link = world.link();
    let (login, ke3) = world.login_start(&mut link, &alice.name, &alice.password).unwrap();
    let finish = api::LoginFinish { login, finalization: ke3.unwrap() };
    let mut other = world.link();
    assert_eq!(world.refused(&mut other, &finish), Code::BAD_REQUEST);
    world.ask(&mut link, &finish).unwrap();
    assert_eq!(world.refused(&mut link, &finish), Code::BAD_REQUEST);

    let (login, ke3) = world.login_start(&mut link, &alice.name, &alice.password).unwrap();
    world.now_ms += 60_001;
    let late = api::LoginFinish { login, finalization: ke3.unwrap() };
    assert_eq!(world.refused(&mut link, &late), Code::TIMED_OUT);
}

#[test]
fn logins_under_way_on_one_link_are_bounded() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let mut link = world.link();
    let begun: Vec<_> = (0..5).map(|_| world.login_start(&mut link, &alice.name, &alice.password).unwrap()).collect();
    let results = begun.into_iter().map(|(login, ke3)| {
        world.ask(&mut link, &api::LoginFinish { login, finalization: ke3.unwrap() }).map(|_| ()).map_err(|f| f.code())
    });
    assert_eq!(results.collect::<Vec<_>>(), [Err(Code::BAD_REQUEST), Ok(()), Ok(()), Ok(()), Ok(())], "the oldest fell out");
}

#[test]
fn one_link_is_one_account() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    let (bob, _) = world.person("bob", 1);
    let failure = world.login(&mut phones[0], &bob.name, &bob.password).unwrap_err();
    assert_eq!(failure.code(), Code::FORBIDDEN);
    world.login(&mut phones[0], &alice.name, &alice.password).unwrap();
    let failure = world.register(&mut phones[0], &Person::new("carol", 1), None).unwrap_err();
    assert_eq!(failure.code(), Code::FORBIDDEN);
    let auth = bob.auth(0, &phones[0].challenge);
    assert_eq!(world.refused(&mut phones[0], &auth), Code::FORBIDDEN);
}

#[test]
fn a_taken_name_is_said_at_once_and_again_at_the_end() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let mut link = world.link();
    assert_eq!(world.register(&mut link, &alice, None).unwrap_err().code(), Code::NAME_TAKEN);

    let (first, mut second) = (Person::new("bob", 1), Person::new("bobby", 1));
    second.name = first.name.clone();
    let (mut a, mut b) = (world.link(), world.link());
    let (upload_a, upload_b) =
        (world.register_start(&mut a, &first, None).unwrap(), world.register_start(&mut b, &second, None).unwrap());
    world.ask(&mut b, &second.finish(upload_b, None)).unwrap();
    assert_eq!(world.refused(&mut a, &first.finish(upload_a, None)), Code::NAME_TAKEN);
    assert_eq!(world.refused(&mut a, &api::DevicesGet {}), Code::NOT_AUTHENTICATED);
}

#[test]
fn a_registration_is_begun_before_it_is_finished() {
    let mut world = World::new();
    let alice = Person::new("alice", 1);
    let mut link = world.link();
    let upload = world.register_start(&mut link, &alice, None).unwrap();
    let mut other = world.link();
    assert_eq!(world.refused(&mut other, &alice.finish(upload.clone(), None)), Code::BAD_REQUEST);
    let elsewhere = api::RegisterFinish { name: Name::parse("alicia").unwrap(), ..alice.finish(upload.clone(), None) };
    assert_eq!(world.refused(&mut link, &elsewhere), Code::BAD_REQUEST);
    assert_eq!(world.refused(&mut link, &alice.finish(upload, None)), Code::BAD_REQUEST, "used up by the try before");
    let upload = world.register_start(&mut link, &alice, None).unwrap();
    world.now_ms += 60_001;
    assert_eq!(world.refused(&mut link, &alice.finish(upload, None)), Code::TIMED_OUT);
}

#[test]
fn a_first_device_list_is_verified() {
    let mut world = World::new();
    let mut alice = Person::new("alice", 1);
    let good = alice.list.clone();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let second = alice.next_list(vec![support::phone_key("alice", 5)]);
    for (list, code) in [(bad, Code::BAD_REQUEST), (second, Code::BAD_REQUEST), (vec![], Code::BAD_REQUEST)] {
        let mut link = world.link();
        let upload = world.register_start(&mut link, &alice, None).unwrap();
        let finish = api::RegisterFinish { device_list: list, ..alice.finish(upload, None) };
        assert_eq!(world.refused(&mut link, &finish), code);
    }
    let mut link = world.link();
    let upload = world.register_start(&mut link, &alice, None).unwrap();
    world.ask(&mut link, &api::RegisterFinish { device_list: good, ..alice.finish(upload, None) }).unwrap();
}

#[test]
fn an_invitation_opens_the_door_as_often_as_it_says() {
    let mut world = World::with(ServiceConfig { registration: Registration::INVITE, ..config() });
    world.invite("token", 1, world.now_ms + 1000);
    world.invite("old", 9, world.now_ms);
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 1));
    let mut link = world.link();
    let long = "x".repeat(1000);
    for (invite, code) in [
        (None, Code::INVITE_REQUIRED),
        (Some("other"), Code::INVITE_UNKNOWN),
        (Some(long.as_str()), Code::INVITE_UNKNOWN),
        (Some("old"), Code::INVITE_EXPIRED),
    ] {
        assert_eq!(world.register(&mut link, &alice, invite).unwrap_err().code(), code, "{invite:?}");
    }
    let mut late = world.link();
    let upload = world.register_start(&mut late, &bob, Some("token")).unwrap();
    world.register(&mut link, &alice, Some("token")).unwrap();
    let finish = bob.finish(upload, Some("token"));
    assert_eq!(world.refused(&mut late, &finish), Code::INVITE_USED_UP, "checked at the end too");
    assert_eq!(world.register(&mut late, &bob, Some("token")).unwrap_err().code(), Code::INVITE_USED_UP);
}

#[test]
fn a_closed_server_registers_nobody_at_either_step() {
    let mut world = World::with(ServiceConfig { registration: Registration::CLOSED, ..config() });
    let alice = Person::new("alice", 1);
    let mut link = world.link();
    assert_eq!(world.register(&mut link, &alice, Some("token")).unwrap_err().code(), Code::REGISTRATION_CLOSED);
    assert_eq!(world.refused(&mut link, &alice.finish(vec![1; 192], None)), Code::REGISTRATION_CLOSED);
    let info = world.ask(&mut link, &api::ServerInfo {}).unwrap();
    assert_eq!((info.registration, info.now_ms, info.login_parameters), (Registration::CLOSED, world.now_ms, 1));
    assert_eq!(info.version, "parlour test");
}

#[test]
fn on_a_closed_server_an_administrator_prepares_an_account_for_one_name() {
    for registration in [Registration::CLOSED, Registration::INVITE] {
        let mut world = World::with(ServiceConfig { registration, ..config() });
        let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 1));
        let token = "n0123";
        let hash = parlour_server::account_token_hash(&alice.name, token);
        world.write(Write::CreateInvite { token: hash, uses: 1, expires_ms: world.now_ms + 1000 });
        let mut link = world.link();
        assert_eq!(world.register(&mut link, &bob, Some(token)).unwrap_err().code(), Code::INVITE_UNKNOWN);
        world.register(&mut link, &alice, Some(token)).unwrap();
        let mut other = world.link();
        assert_eq!(world.register(&mut other, &alice, Some(token)).unwrap_err().code(), Code::INVITE_USED_UP);
    }
}

#[test]
fn a_changed_password_ends_the_other_sessions_and_the_old_password() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 2);
    let (_, bobs) = world.person("bob", 1);
    let mut elsewhere = world.link();
    world.login(&mut elsewhere, &alice.name, &alice.password).unwrap();
    let mut half = world.link();
    let (login, ke3) = world.login_start(&mut half, &alice.name, &alice.password).unwrap();

    assert_eq!(world.change_password(&mut phones[0], &alice, "new").unwrap_err().code(), Code::NOT_AUTHENTICATED);
    world.login(&mut phones[0], &alice.name, &alice.password).unwrap();
    world.change_password(&mut phones[0], &alice, "new").unwrap();

    assert_eq!(phones[0].inbox.closed(), None);
    world.ask(&mut phones[0], &api::Sync { after: None }).unwrap();
    for link in [&mut phones[1], &mut elsewhere] {
        assert_eq!(link.inbox.closed(), Some(Code::LINK_LOST));
        assert_eq!(world.refused(link, &api::DevicesGet {}), Code::LINK_LOST);
    }
    assert_eq!(bobs[0].inbox.closed(), None);
    let finish = api::LoginFinish { login, finalization: ke3.unwrap() };
    assert_eq!(world.refused(&mut half, &finish), Code::WRONG_PASSWORD, "begun with the old password");
    assert_eq!(world.refused(&mut half, &api::DevicesGet {}), Code::NOT_AUTHENTICATED);

    let mut link = world.link();
    assert_eq!(world.login(&mut link, &alice.name, &alice.password).unwrap_err().code(), Code::WRONG_PASSWORD);
    assert_eq!(world.login(&mut link, &alice.name, "new").unwrap().wrapped_root, vec![0x33; 72]);
    world.online(&alice, 1);
}

#[test]
fn passwords_survive_a_restart_of_the_server() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let mut world = world.again(config());
    let mut link = world.link();
    world.login(&mut link, &alice.name, &alice.password).unwrap();
}

fn throttled(world: &mut World, name: &Name, password: &str, address: [u8; 4]) -> Result<(), Option<u64>> {
    let mut link = world.link_from(address.into());
    match world.login(&mut link, name, password) {
        Ok(_) => Ok(()),
        Err(Failure::Rejected(Rejection { code: Code::RATE_LIMITED, retry_after_ms, .. })) => Err(retry_after_ms),
        Err(failure) if failure.code() == Code::WRONG_PASSWORD => Err(None),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn guesses_are_throttled_per_name_known_or_not_but_devices_stay_in() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    for name in [alice.name.clone(), Name::parse("nobody").unwrap()] {
        for n in 0..10 {
            assert_eq!(throttled(&mut world, &name, "guess", [10, 1, 0, n]), Err(None));
        }
        let quarter = 15 * 60 * 1000;
        assert_eq!(throttled(&mut world, &name, "guess", [10, 1, 1, 1]), Err(Some(quarter)), "{name}");
    }
    assert_eq!(throttled(&mut world, &alice.name, &alice.password, [10, 1, 1, 1]), Err(Some(15 * 60 * 1000)));
    world.ask(&mut phones[0], &api::Sync { after: None }).unwrap();
    world.online(&alice, 0);
    world.now_ms += 15 * 60 * 1000;
    assert_eq!(throttled(&mut world, &alice.name, &alice.password, [10, 1, 1, 1]), Ok(()));
    assert_eq!(throttled(&mut world, &alice.name, "guess", [10, 1, 1, 1]), Err(None), "who knows the password starts afresh");
    assert_eq!(world.service.counters().throttled, 3);
}

#[test]
fn a_try_counts_when_it_starts() {
    let mut world = World::new();
    let (alice, _) = world.person("alice", 1);
    let mut link = world.link();
    for _ in 0..10 {
        world.login_start(&mut link, &alice.name, "guess").unwrap();
    }
    assert_eq!(world.login_start(&mut link, &alice.name, "guess").unwrap_err().code(), Code::RATE_LIMITED);
}

#[test]
fn guesses_and_registrations_are_throttled_per_address() {
    let throttle = ThrottleConfig {
        login_per_address: Rate::new(3, 1000),
        register_per_address: Rate::new(2, 5000),
        ..ThrottleConfig::default()
    };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    for n in 0..3 {
        let name = Name::parse(&format!("user{n}")).unwrap();
        assert_eq!(throttled(&mut world, &name, "guess", [10, 9, 9, 9]), Err(None));
    }
    let name = Name::parse("user9").unwrap();
    assert_eq!(throttled(&mut world, &name, "guess", [10, 9, 9, 9]), Err(Some(1000)));
    assert_eq!(throttled(&mut world, &name, "guess", [10, 9, 9, 8]), Err(None));

    for n in 0..2 {
        let mut link = world.link_from([10, 7, 7, 7].into());
        world.register(&mut link, &Person::new(&format!("p{n}"), 1), None).unwrap();
    }
    let mut link = world.link_from([10, 7, 7, 7].into());
    let failure = world.register(&mut link, &Person::new("p3", 1), None).unwrap_err();
    assert_eq!(failure.to_wire().retry_after_ms, Some(5000));
    assert_eq!(failure.code(), Code::RATE_LIMITED);
}

#[test]
fn look_ups_need_a_login_and_are_throttled() {
    let throttle = ThrottleConfig { lookups_per_account: Rate::new(2, 1000), ..ThrottleConfig::default() };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (alice, mut phones) = world.person("alice", 1);
    let by_name = api::AccountByName { name: alice.name.clone() };
    let mut stranger = world.link();
    assert_eq!(world.refused(&mut stranger, &by_name), Code::NOT_AUTHENTICATED);
    assert_eq!(world.ask(&mut phones[0], &by_name).unwrap().device_list, alice.list);
    let nobody = api::AccountById { account: Person::new("nobody", 0).id() };
    assert_eq!(world.refused(&mut phones[0], &nobody), Code::USER_NOT_FOUND);
    assert_eq!(world.refused(&mut phones[0], &api::AccountById { account: alice.id() }), Code::RATE_LIMITED);
    world.now_ms += 1000;
    assert_eq!(world.ask(&mut phones[0], &api::AccountById { account: alice.id() }).unwrap().name, alice.name);
}

#[test]
fn guesses_by_others_do_not_keep_a_device_from_changing_the_password() {
    let mut world = World::new();
    let (alice, mut phones) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    for n in 0..10 {
        assert_eq!(throttled(&mut world, &alice.name, "guess", [10, 1, 0, n]), Err(None));
    }
    assert!(world.login(&mut bobs[0], &alice.name, "guess").is_err_and(|failure| failure.code() == Code::RATE_LIMITED));
    world.login(&mut phones[0], &alice.name, &alice.password).unwrap();
    world.change_password(&mut phones[0], &alice, "another").unwrap();

    // What a stolen phone may try is bounded like everything else.
    for _ in 0..10 {
        assert_eq!(world.login(&mut bobs[0], &bob.name, "guess").unwrap_err().code(), Code::WRONG_PASSWORD);
    }
    assert_eq!(world.login(&mut bobs[0], &bob.name, "guess").unwrap_err().code(), Code::RATE_LIMITED);
}

#[test]
fn a_session_is_kept_once_it_is_somebodys_or_about_to_be() {
    let mut world = World::new();
    let (alice, phones) = world.person("alice", 1);
    let kept = |world: &World, link: &support::Link| world.service.is_kept(link.session.as_ref().unwrap(), world.now());
    assert!(kept(&world, &phones[0]));
    let mut link = world.link();
    assert!(!kept(&world, &link));
    world.ask(&mut link, &api::ServerInfo {}).unwrap();
    let auth = api::DeviceAuth { signature: [1; 64], ..alice.auth(0, &link.challenge) };
    assert_eq!(world.refused(&mut link, &auth), Code::NOT_AUTHENTICATED);
    assert!(!kept(&world, &link), "asking makes nobody somebody");
    let (login, _) = world.login_start(&mut link, &alice.name, "guess").unwrap();
    assert!(kept(&world, &link));
    world.refused(&mut link, &api::LoginFinish { login, finalization: vec![1; 64] });
    assert!(!kept(&world, &link));
    world.register_start(&mut link, &Person::new("carol", 1), None).unwrap();
    assert!(kept(&world, &link));
    world.now_ms += 60_001;
    assert!(!kept(&world, &link), "it took too long");
    world.login(&mut link, &alice.name, &alice.password).unwrap();
    world.now_ms += 600_000;
    assert!(kept(&world, &link));
}
