//! Reports: what became of messages at a device.

use minicbor::Decoder;

use super::codec::{array, array_of, bad, bytes_of, count};
use crate::{
    codec::{DecodeError, bounded},
    id::MessageId,
    limits,
};

/// Content type of a report on messages (MIMI message status).
pub const STATUS: &str = "application/mimi-message-status";

/// What became of a message at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which message.
    pub message: MessageId,
    /// What became of it.
    pub status: Status,
}

/// States of a message at a device (MIMI message status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u8);

impl Status {
    /// Decrypted and stored.
    pub const DELIVERED: Self = Self(1);
    /// Shown to its reader.
    pub const READ: Self = Self(2);
    /// Could not be decrypted.
    pub const ERROR: Self = Self(6);
}

pub(super) fn to_bytes(reports: &[Report]) -> Result<Vec<u8>, DecodeError> {
    bounded("report", reports.len(), limits::REPORT_IDS)?;
    Ok(bytes_of(|e| {
        e.array(reports.len() as u64)?;
        for report in reports {
            e.array(2)?.bytes(report.message.as_bytes())?.u8(report.status.0)?;
        }
        Ok(())
    }))
}

pub(super) fn from_bytes(bytes: &[u8]) -> Result<Vec<Report>, DecodeError> {
    let mut d = Decoder::new(bytes);
    let count = count("report", array(&mut d)?, limits::REPORT_IDS)?;
    let mut reports = Vec::with_capacity(count);
    for _ in 0..count {
        array_of(&mut d, 2)?;
        let message = MessageId::try_from(d.bytes().map_err(bad)?)?;
        reports.push(Report { message, status: Status(d.u8().map_err(bad)?) });
    }
    if d.position() == bytes.len() { Ok(reports) } else { Err(DecodeError::Trailing) }
}
