//! What a drone tells of itself at a fixed rate. It knows neither links nor drones, so that a test can look at its rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

/// Telemetry a second, at most, whatever a drone is told.
const FASTEST: u32 = 1000;

/// Action of a drone, at every beat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Telemetry {
    /// Counts from 1.
    pub(crate) number: u64,
    /// Counts what was due, from 1: larger than the number by the beats that were left out.
    pub(crate) beat: u64,
    pub(crate) battery: f32,
    pub(crate) position: (f64, f64),
}

/// What a drone is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Telemetry a second; 0 before the configuration has come.
    pub(crate) hz: u32,
    pub(crate) landed: bool,
}

/// What was told in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) telemetry: u64,
    /// Beats that were left out.
    pub(crate) skipped: u64,
}

/// Sends telemetry until the drone has landed, or `send` says that nobody listens any more.
pub(crate) async fn report<F: Future<Output = bool>>(
    mut orders: watch::Receiver<Orders>,
    mut send: impl FnMut(Telemetry) -> F,
) -> Told {
    let mut told = Told::default();
    let mut last = 0;
    while let Some(hz) = rate(&mut orders).await {
        let mut pace = Pace::new(hz, last + 1);
        while orders.borrow().hz == hz {
            let beat = pace.beat().await;
            if orders.borrow().landed {
                return told;
            }
            told.skipped += beat - last - 1;
            last = beat;
            told.telemetry += 1;
            let (number, battery) = (told.telemetry, 1.0 - told.telemetry as f32 / 1e4);
            let position = (47.0 + number as f64 * 1e-6, 8.0);
            if !send(Telemetry { number, beat, battery, position }).await {
                return told;
            }
        }
    }
    told
}

/// The rate, once it is known; `None` for who has landed.
async fn rate(orders: &mut watch::Receiver<Orders>) -> Option<u32> {
    let orders = *orders.wait_for(|orders| orders.landed || orders.hz > 0).await.ok()?;
    (!orders.landed).then_some(orders.hz)
}

/// Beats at fixed moments, the first at once: however long what is done at a beat takes, it does not put off those after it. Where it
/// takes longer than from one to the next, the next comes late and those that are over as well by then do not come: what they would
/// have told is old.
struct Pace {
    start: Instant,
    period: Duration,
    first: u64,
    interval: Interval,
}

impl Pace {
    fn new(hz: u32, first: u64) -> Self {
        let (start, period) = (Instant::now(), Duration::from_secs(1) / hz.min(FASTEST));
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { start, period, first, interval }
    }

    /// Waits for the next beat; its number.
    async fn beat(&mut self) -> u64 {
        let due = self.interval.tick().await.saturating_duration_since(self.start);
        // A beat may be due some nanoseconds after its moment, never before it.
        let periods = due.as_nanos() / self.period.as_nanos();
        self.first + u64::try_from(periods).unwrap_or(u64::MAX - self.first)
    }
}
