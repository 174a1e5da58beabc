//! Every message of the API: decoding never panics, and what decodes encodes to something that decodes to the same.

use parlour_wire::{api, api::Call, decode, encode, header, log};

macro_rules! try_all {
    ($data:ident: $($type:ty),* $(,)?) => {
        $(if let Ok(value) = decode::<$type>($data) {
            assert_eq!(decode::<$type>(&encode(&value)).as_ref(), Ok(&value));
        })*
    };
}

macro_rules! check_all {
    ($data:ident: $($type:ty),* $(,)?) => {
        $(if let Ok(value) = decode::<$type>($data) {
            let _ = value.check();
        })*
    };
}

pub(crate) fn run(data: &[u8]) {
    try_all!(data:
        header::Hello, header::Resume, header::Welcome, header::Action, header::Request, header::Credit, header::Fault,
        header::Progress, header::Origin, api::ServerInfo, api::ServerInfoAnswer, api::RegisterStart, api::RegisterFinish, api::OpaqueAnswer,
        api::LoginStart, api::LoginFinish, api::LoginFinishAnswer, api::PasswordStart, api::PasswordFinish, api::DevicesUpdate,
        api::DeviceAuth, api::DeviceAuthAnswer, api::Logout, api::DevicesGet, api::DevicesGetAnswer, api::AccountByName,
        api::AccountById, api::AccountAnswer, api::KeyPackagesPublish, api::KeyPackagesClaim, api::KeyPackagesClaimAnswer,
        api::PresenceWatch, api::PresenceAnswer, api::Presence, api::DevicesChanged, api::Commit, api::Stored, api::Send,
        api::Read, api::ReadAnswer, api::GroupInfoGet, api::GroupInfoAnswer, api::Sync, api::SyncAnswer, api::Welcome,
        api::Entries, api::Lagging, api::Cursors, api::CursorsSet, api::Leave, api::GroupByName, api::Signal, api::BlobBegin,
        api::BlobProgress, api::BlobPut, api::BlobGet, api::BlobData, api::BackupSet, api::BackupGet, api::BackupAnswer,
        api::BackupDelete, log::LeaveStatement,
    );
    check_all!(data:
        api::RegisterStart, api::RegisterFinish, api::LoginStart, api::LoginFinish, api::PasswordStart, api::PasswordFinish,
        api::DevicesUpdate, api::KeyPackagesPublish, api::PresenceWatch, api::Commit, api::Send, api::Read, api::Sync,
        api::Leave, api::GroupByName, api::BlobBegin, api::BlobPut, api::BlobGet, api::BackupSet,
    );
    let _ = log::LeaveStatement::peek(data);
    let _ = log::LeaveStatement::verify(data, &[7; 32]);
}
