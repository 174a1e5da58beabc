//! What stations and drones say to each other: ordinary types of serde.

use serde::{Deserialize, Serialize};

/// Request of the station; the answer is the version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) version: u32,
    pub(crate) telemetry_hz: u32,
    pub(crate) altitude_m: f32,
}

/// Action of a drone that has started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    /// How far the station's clock is ahead of the drone's, as the drone has measured it.
    pub(crate) offset_us: i64,
    /// How wrong that may be.
    pub(crate) error_us: u64,
    /// When it was, by the clock of the machine.
    pub(crate) at_us: u64,
    /// How late that was, as the drone has measured it.
    pub(crate) late_us: u64,
    /// The time had passed before the drone was ready.
    pub(crate) missed: bool,
}

/// Action of a drone's logbook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Counts from 1.
    pub(crate) number: u32,
    pub(crate) text: String,
}

/// Action of a drone that has landed: what it has said in all.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Landed {
    pub(crate) telemetry: u64,
    /// Telemetry that was due and not sent, because what was before it took too long.
    pub(crate) skipped: u64,
    pub(crate) entries: u32,
}
