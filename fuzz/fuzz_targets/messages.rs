//! Every message of the API: decoding never panics, and what decodes encodes to something that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlour_wire::{api, decode, encode, header};

macro_rules! try_all {
    ($data:ident: $($type:ty),* $(,)?) => {
        $(if let Ok(value) = decode::<$type>($data) {
            assert_eq!(decode::<$type>(&encode(&value)).as_ref(), Ok(&value));
        })*
    };
}

fuzz_target!(|data: &[u8]| {
    try_all!(data:
        header::Hello, header::Resume, header::Welcome, header::Action, header::Request, header::Fault, header::Progress, header::Origin,
        header::Credit,
        api::ServerInfoAnswer, api::RegisterStart, api::RegisterFinish, api::OpaqueAnswer, api::LoginStart, api::LoginFinish,
        api::LoginFinishAnswer, api::PasswordStart, api::PasswordFinish, api::DevicesUpdate, api::DeviceAuth,
        api::DeviceAuthAnswer, api::DevicesGetAnswer, api::AccountByName, api::AccountById, api::AccountAnswer,
        api::KeyPackagesPublish, api::KeyPackagesClaim, api::KeyPackagesClaimAnswer, api::PresenceWatch, api::PresenceAnswer,
        api::Presence, api::DevicesChanged, api::Commit, api::Stored, api::Send, api::Read, api::ReadAnswer,
        api::GroupInfoGet, api::GroupInfoAnswer, api::Sync, api::SyncAnswer, api::Welcome, api::Entries, api::Cursors,
        api::CursorsSet,
    );
});
