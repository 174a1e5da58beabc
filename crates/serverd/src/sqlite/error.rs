//! What SQLite says, in the terms of the store.

use parlour_server::store::StoreError;
use rusqlite::{Error, ErrorCode, ffi};

/// The store's word for an SQLite error.
pub(super) fn store_error(error: &Error) -> StoreError {
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreError::Full,
            // The shared index of the write-ahead log could not grow.
            ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(error.to_string()),
            _ => StoreError::Unavailable(error.to_string()),
        },
        Error::QueryReturnedNoRows
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Whether the error lies in the one write that met it, so that the others of its batch may succeed without it.
pub(super) fn is_of_one_write(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => {
            matches!(
                failure.code,
                // Damage may lie in the pages of one conversation.
                ErrorCode::DatabaseCorrupt | ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
            )
        }
        _ => true,
    }
}

/// The error for anything asked of a store that has stopped.
pub(super) fn stopped() -> StoreError {
    StoreError::Unavailable("the store has stopped".to_owned())
}
