//! What stations and drones say to each other: ordinary types of serde.

use serde::{Deserialize, Serialize};

/// Action of a drone, ten times a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Telemetry {
    /// Counts from 1.
    pub(crate) number: u64,
    pub(crate) battery: f32,
    pub(crate) position: (f64, f64),
}

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
    /// How much later than ordered.
    pub(crate) late_us: u64,
    /// How wrong the drone's idea of the station's clock may be.
    pub(crate) error_us: u64,
}

/// What the station has counted of a drone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// As the drone says at the end.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Returns to the session.
    pub(crate) resumed: u64,
}
