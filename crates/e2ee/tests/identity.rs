//! Passwords, the root, certificates, device lists, safety numbers.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use opaque_ke::{
    CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest, RegistrationUpload, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup,
};
use parlour_e2ee::{
    AccountError, AccountKey, DeviceKeys, ExportKey, HistoryKey, Login, Parameters, PasswordError, Registration, Root,
    password::{LOGIN_CONTEXT, SERVER_IDENTITY, Suite},
    safety_number,
};
use parlour_wire::{
    id::{AccountId, BlobId, ConversationId},
    identity::{AUTH_CONTEXT, VerifiedCertificate, VerifiedList, auth_bytes, verify},
    name::Name,
};
use rand::rngs::OsRng;

struct Server {
    setup: ServerSetup<Suite>,
    record: Vec<u8>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn register(user: &Name, password: &str) -> (Server, ExportKey) {
    let setup = ServerSetup::<Suite>::new(&mut OsRng);
    let (registration, request) = Registration::start(user, password).unwrap();
    let request = RegistrationRequest::deserialize(&request).unwrap();
    let response = ServerRegistration::<Suite>::start(&setup, request, user.as_str().as_bytes()).unwrap();
    let registered = registration.finish(&response.message.serialize(), Parameters::CURRENT).unwrap();
    let record = ServerRegistration::<Suite>::finish(RegistrationUpload::deserialize(&registered.upload).unwrap());
    (Server { setup, record: record.serialize().to_vec() }, registered.export_key)
}

impl Server {
    fn parameters(user: &Name) -> ServerLoginParameters<'_, '_> {
        let identifiers = Identifiers { client: Some(user.as_str().as_bytes()), server: Some(SERVER_IDENTITY) };
        ServerLoginParameters { context: Some(LOGIN_CONTEXT), identifiers }
    }

    /// A whole login; `known` is false for a user the server does not have.
    fn login(&self, user: &Name, password: &str, known: bool) -> Result<ExportKey, PasswordError> {
        let (login, ke1) = Login::start(user, password)?;
        let record = known.then(|| ServerRegistration::<Suite>::deserialize(&self.record).unwrap());
        let request = CredentialRequest::deserialize(&ke1).unwrap();
        let id = user.as_str().as_bytes();
        let started = ServerLogin::<Suite>::start(&mut OsRng, &self.setup, record, request, id, Self::parameters(user)).unwrap();
        let logged_in = login.finish(&started.message.serialize(), Parameters::CURRENT)?;
        let ke3 = CredentialFinalization::deserialize(&logged_in.ke3).unwrap();
        started.state.finish(ke3, Self::parameters(user)).unwrap();
        Ok(logged_in.export_key)
    }
}

#[test]
fn name_and_password_alone_bring_the_root_back() {
    let alice = name("alice");
    let (server, export_key) = register(&alice, "correct horse");
    let root = Root::generate();
    let wrapped = root.wrap(&export_key, &alice);
    assert_eq!(wrapped.len(), 72);
    let export_key = server.login(&alice, "correct horse", true).unwrap();
    let back = Root::unwrap(&wrapped, &export_key, &alice).unwrap();
    assert_eq!(AccountKey::from(&back).account_id(), AccountKey::from(&root).account_id());
    assert_eq!(Root::unwrap(&wrapped, &export_key, &name("bob")).unwrap_err(), AccountError::Unwrap);
    for at in 0..wrapped.len() {
        let mut garbled = wrapped.clone();
        garbled[at] ^= 1;
        assert_eq!(Root::unwrap(&garbled, &export_key, &alice).unwrap_err(), AccountError::Unwrap);
        assert_eq!(Root::unwrap(&wrapped[..at], &export_key, &alice).unwrap_err(), AccountError::Unwrap);
    }
    let (_, other_key) = register(&alice, "correct horse");
    assert_eq!(Root::unwrap(&wrapped, &other_key, &alice).unwrap_err(), AccountError::Unwrap);
}

#[test]
fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let alice = name("alice");
    let (server, _) = register(&alice, "correct horse");
    assert_eq!(server.login(&alice, "wrong horse", true).unwrap_err(), PasswordError::Wrong);
    assert_eq!(server.login(&name("nobody"), "correct horse", false).unwrap_err(), PasswordError::Wrong);
}

#[test]
fn a_password_typed_in_another_normal_form_is_the_same() {
    let jose = name("josé");
    let (server, _) = register(&jose, "contraseñá");
    assert!(server.login(&jose, "contrasen\u{303}a\u{301}", true).is_ok());
}

#[test]
fn what_cannot_be_a_password_is_refused_before_anything_is_sent() {
    for password in ["", "tab\there", &"x".repeat(2000)] {
        assert_eq!(Registration::start(&name("alice"), password).unwrap_err(), PasswordError::Unusable);
        assert_eq!(Login::start(&name("alice"), password).unwrap_err(), PasswordError::Unusable);
    }
    assert_eq!(Parameters::from_wire(1), Ok(Parameters::CURRENT));
    assert_eq!(Parameters::from_wire(2), Err(PasswordError::UnknownParameters));
}

#[test]
fn an_answer_that_is_none_is_malformed() {
    let (registration, _) = Registration::start(&name("alice"), "correct horse").unwrap();
    assert_eq!(registration.finish(&[0; 64], Parameters::CURRENT).unwrap_err(), PasswordError::Malformed);
    let (login, _) = Login::start(&name("alice"), "correct horse").unwrap();
    assert_eq!(login.finish(b"short", Parameters::CURRENT).unwrap_err(), PasswordError::Malformed);
}

fn fixed_root(byte: u8) -> Root {
    Root::from_bytes([byte; 32].into())
}

#[test]
fn the_bytes_of_a_certificate_do_not_change() {
    let account = AccountKey::from(&fixed_root(1));
    let device = DeviceKeys::from_secret(&[2; 32]);
    let certificate = account.certify(&device.public(), "laptop", 1_700_000_000_000).unwrap();
    assert_eq!(hex::encode(certificate.as_bytes()), include_str!("golden/certificate.hex").trim());
}

#[test]
fn the_safety_number_does_not_change_and_is_the_same_from_both_sides() {
    let (a, b) = (AccountKey::from(&fixed_root(1)).public(), AccountKey::from(&fixed_root(2)).public());
    let number = safety_number(&a, &b);
    assert_eq!(number, safety_number(&b, &a));
    assert_eq!(number.digits().len(), 60);
    assert!(number.digits().bytes().all(|digit| digit.is_ascii_digit()));
    assert_eq!(number.to_string(), include_str!("golden/safety-number.txt").trim());
    assert_ne!(number, safety_number(&a, &AccountKey::from(&fixed_root(3)).public()));
}

#[test]
fn lists_grow_by_signature_and_a_revoked_device_never_returns() {
    let account = AccountKey::from(&fixed_root(1));
    let certify = |device: &DeviceKeys| account.certify(&device.public(), "a device", 1).unwrap();
    let (one, two) = (DeviceKeys::generate(), DeviceKeys::generate());
    let first = account.first_list(&certify(&one), 1).unwrap();
    let second = account.add_device(&first, &certify(&two), 2).unwrap();
    let third = account.revoke_device(&second, &one.id(), 3).unwrap();
    assert!(second.follows(&first) && third.follows(&second) && !third.follows(&first));
    assert_eq!(third.certificates().len(), 1);
    assert_eq!(VerifiedList::parse(third.as_bytes()), Ok(third.clone()));
    assert_eq!(account.add_device(&third, &certify(&one), 4), Err(AccountError::Revoked));
    assert_eq!(account.revoke_device(&third, &one.id(), 4), Err(AccountError::NoSuchDevice));
    let stranger = AccountKey::from(&fixed_root(2));
    assert_eq!(stranger.add_device(&third, &certify(&two), 4), Err(AccountError::OtherAccount));
    let of_stranger = stranger.certify(&two.public(), "a device", 1).unwrap();
    assert_eq!(account.add_device(&third, &of_stranger, 4), Err(AccountError::OtherAccount));
}

#[test]
fn a_list_holds_sixteen_devices_and_labels_are_short() {
    let account = AccountKey::from(&fixed_root(1));
    let certify = || account.certify(&DeviceKeys::generate().public(), "a device", 1).unwrap();
    let mut list = account.first_list(&certify(), 1).unwrap();
    for _ in 1..16 {
        list = account.add_device(&list, &certify(), 1).unwrap();
    }
    assert!(matches!(account.add_device(&list, &certify(), 1), Err(AccountError::Invalid(_))));
    let long = account.certify(&DeviceKeys::generate().public(), &"x".repeat(129), 1);
    assert!(matches!(long, Err(AccountError::Invalid(_))));
}

#[test]
fn a_device_signs_for_one_server_only() {
    let device = DeviceKeys::generate();
    let account = AccountKey::from(&fixed_root(1)).account_id();
    let (challenge, here, elsewhere) = ([1; 32], [2; 32], [3; 32]);
    let signature = device.sign_auth(&challenge, &here, &account);
    let check = |fingerprint| {
        let bytes = auth_bytes(&challenge, fingerprint, &account, &device.id());
        verify(&device.public(), AUTH_CONTEXT, &bytes, &signature, "authentication").is_ok()
    };
    assert!(check(&here) && !check(&elsewhere));
    assert_eq!(DeviceKeys::from_secret(&device.secret()).id(), device.id());
}

#[test]
fn nothing_that_is_secret_is_printed() {
    let root = fixed_root(1);
    let account = AccountKey::from(&root);
    let device = DeviceKeys::from_secret(&[2; 32]);
    let (registration, _) = Registration::start(&name("alice"), "hunter2hunter2").unwrap();
    let printed = format!("{root:?} {account:?} {device:?} {registration:?}");
    assert!(!printed.contains("hunter2"));
    assert!(!printed.contains(&hex::encode([2; 32])) && !printed.contains("[2, 2"));
    let parsed = VerifiedCertificate::parse(account.certify(&device.public(), "x", 1).unwrap().as_bytes());
    assert!(parsed.is_ok());
}

#[test]
fn a_sealed_key_opens_on_its_device_for_what_it_is_for() {
    let account = AccountKey::from(&Root::generate());
    let keys = [DeviceKeys::generate(), DeviceKeys::generate()];
    let certificates = keys.each_ref().map(|keys| account.certify(&keys.public(), "laptop", 1).unwrap());
    let place = HistoryKey { conversation: ConversationId::group([1; 32]), account: account.account_id(), blob: BlobId([2; 32]) };
    let sealed = place.seal(certificates[0].get(), &[9; 32]).unwrap();
    assert_eq!((sealed.device, *place.open(&keys[0], &sealed).unwrap()), (keys[0].id(), [9; 32]));
    assert!(place.open(&keys[1], &sealed).is_err(), "another device");
    for other in [
        HistoryKey { conversation: ConversationId::group([3; 32]), ..place },
        HistoryKey { account: AccountId([3; 32]), ..place },
        HistoryKey { blob: BlobId([3; 32]), ..place },
    ] {
        assert!(other.open(&keys[0], &sealed).is_err(), "{other:?}");
    }
    for byte in 0..32 {
        let mut bent = sealed.clone();
        bent.encapsulated[byte] ^= 1;
        assert!(place.open(&keys[0], &bent).is_err(), "encapsulated, {byte}");
    }
    for byte in 0..48 {
        let mut bent = sealed.clone();
        bent.ciphertext[byte] ^= 1;
        assert!(place.open(&keys[0], &bent).is_err(), "ciphertext, {byte}");
    }
    let mut weak = certificates[0].get().clone();
    weak.signature_key = [0; 32];
    assert!(place.seal(&weak, &[9; 32]).is_err(), "a key of small order");
}
