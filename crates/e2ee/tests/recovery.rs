//! Recovery codes, the key of the backup, and the list that a recovery signs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use parlour_e2ee::{AccountKey, BackupError, DeviceKeys, RecoveryCode, RecoveryCodeError, Root};
use zeroize::Zeroizing;

#[test]
fn a_code_is_read_however_a_person_types_it() {
    for _ in 0..200 {
        let code = RecoveryCode::generate();
        let printed = code.grouped();
        assert_eq!(printed.len(), 28 + 6);
        assert!(printed.split('-').all(|group| group.len() == 4 && group.chars().all(|c| c.is_ascii_alphanumeric())));
        let misread = printed.replace('0', "o").replace('1', "l").to_lowercase();
        for typed in [printed.to_string(), printed.replace('-', ""), printed.replace('-', " "), format!("  {misread}\n")] {
            assert_eq!(RecoveryCode::parse(&typed), Ok(code.clone()), "{typed}");
        }
        assert_eq!(RecoveryCode::parse(&printed).unwrap().plain(), code.plain());
    }
    assert_ne!(RecoveryCode::generate(), RecoveryCode::generate());
}

#[test]
fn one_wrong_character_or_two_swapped_ones_are_noticed() {
    let code = RecoveryCode::generate().plain().to_string();
    let alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for at in 0..code.len() {
        for other in alphabet.chars().filter(|c| !code[at..].starts_with(*c)) {
            let typed = format!("{}{other}{}", &code[..at], &code[at + 1..]);
            assert_eq!(RecoveryCode::parse(&typed), Err(RecoveryCodeError::Check), "{typed}");
        }
    }
    for at in 0..code.len() - 1 {
        let (a, b) = (&code[at..=at], &code[at + 1..at + 2]);
        if a != b {
            let typed = format!("{}{b}{a}{}", &code[..at], &code[at + 2..]);
            assert_eq!(RecoveryCode::parse(&typed), Err(RecoveryCodeError::Check), "{typed}");
        }
    }
}

#[test]
fn what_is_no_code_is_named() {
    assert_eq!(RecoveryCode::parse(""), Err(RecoveryCodeError::Length(0)));
    assert_eq!(RecoveryCode::parse("ABCD-EFGH"), Err(RecoveryCodeError::Length(8)));
    assert_eq!(RecoveryCode::parse(&"0".repeat(1_000_000)), Err(RecoveryCodeError::Length(1_000_000)));
    assert_eq!(RecoveryCode::parse("ABCU"), Err(RecoveryCodeError::Character('U')));
    assert_eq!(RecoveryCode::parse("Ž"), Err(RecoveryCodeError::Character('Ž')));
}

#[test]
fn a_backup_opens_for_its_account_and_version_only() {
    let root = Root::from_bytes(Zeroizing::new([5; 32]));
    let (account, other) = (AccountKey::from(&root).account_id(), AccountKey::from(&Root::generate()).account_id());
    let key = root.backup_key();
    let sealed = key.seal(&account, 3, b"index");
    assert_eq!(*key.open(&account, 3, &sealed).unwrap(), b"index");
    assert_eq!(root.backup_key().as_bytes(), key.as_bytes());
    assert_eq!(key.open(&account, 4, &sealed).unwrap_err(), BackupError);
    assert_eq!(key.open(&other, 3, &sealed).unwrap_err(), BackupError);
    assert_eq!(Root::generate().backup_key().open(&account, 3, &sealed).unwrap_err(), BackupError);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(key.open(&account, 3, &changed).unwrap_err(), BackupError);
        assert_eq!(key.open(&account, 3, &sealed[..at]).unwrap_err(), BackupError);
    }
}

#[test]
fn a_recovery_leaves_one_device_and_the_others_never_come_back() {
    let key = AccountKey::from(&Root::generate());
    let certify = || key.certify(&DeviceKeys::generate().public(), "device", 1).unwrap();
    let (first, second, new) = (certify(), certify(), certify());
    let list = key.first_list(&first, 1).unwrap();
    let list = key.add_device(&list, &second, 2).unwrap();
    let recovered = key.only_device(&list, &new, 3).unwrap();
    assert!(recovered.follows(&list));
    assert_eq!(recovered.certificates().len(), 1);
    assert!(recovered.certificate(&new.get().device()).is_some());
    for old in [&first, &second] {
        assert!(recovered.get().revoked.contains(&old.get().device()));
        assert!(key.add_device(&recovered, old, 4).is_err());
    }
}
