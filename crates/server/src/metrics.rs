//! Counters of what a server does, for whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

use parlour_wire::Code;

/// Stands for every request name that has no handler.
const UNKNOWN: &str = "unknown";

/// One column for success, one for each code of the table, one for codes that are not in it.
const COLUMNS: usize = Code::ALL.len() + 2;

/// Counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions open, authenticated or not.
    pub sessions: u64,
    /// Devices that are authenticated on a session.
    pub devices: u64,
    /// Pushes handed to sessions.
    pub pushes: u64,
    /// Pushes that a session had no room for.
    pub dropped_pushes: u64,
    /// Password logins that succeeded, registrations not counted.
    pub logins_ok: u64,
    /// Password logins that failed in the second step.
    pub logins_failed: u64,
    /// Requests refused because of their number.
    pub throttled: u64,
    /// Answered requests; those with a count of zero are left out.
    pub requests: Vec<RequestCount>,
}

/// How often a request of a name has had a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// Name of the handler, or `unknown`.
    pub name: &'static str,
    /// `ok`, or the name of the code.
    pub result: &'static str,
    /// How often.
    pub count: u64,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) sessions: AtomicU64,
    pub(crate) logins_ok: AtomicU64,
    pub(crate) logins_failed: AtomicU64,
    pub(crate) throttled: AtomicU64,
    names: &'static [&'static str],
    /// A row for each name and one for the unknown.
    results: Vec<AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        let results = (0..(names.len() + 1) * COLUMNS).map(|_| AtomicU64::new(0)).collect();
        Self {
            sessions: AtomicU64::new(0),
            logins_ok: AtomicU64::new(0),
            logins_failed: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            names,
            results,
        }
    }

    /// The row of a request's name.
    pub(crate) fn row(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or(self.names.len())
    }

    /// Counts a result; `None` is success.
    pub(crate) fn answered(&self, row: usize, code: Option<Code>) {
        let column = match code {
            None => 0,
            Some(code) => Code::ALL.iter().position(|known| *known == code).map_or(COLUMNS - 1, |at| at + 1),
        };
        self.results[row * COLUMNS + column].fetch_add(1, Ordering::Relaxed);
        if code == Some(Code::RATE_LIMITED) {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is counted here; the fan-out fills in the rest.
    pub(crate) fn snapshot(&self) -> Counters {
        let mut requests = Vec::new();
        for (at, count) in self.results.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let name = self.names.get(at / COLUMNS).copied().unwrap_or(UNKNOWN);
                let result = match at % COLUMNS {
                    0 => "ok",
                    column => Code::ALL.get(column - 1).map_or(UNKNOWN, |code| code.name()),
                };
                requests.push(RequestCount { name, result, count });
            }
        }
        Counters {
            sessions: self.sessions.load(Ordering::Relaxed),
            logins_ok: self.logins_ok.load(Ordering::Relaxed),
            logins_failed: self.logins_failed.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            requests,
            ..Counters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_by_name_and_code() {
        let metrics = Metrics::new(&["a", "b"]);
        for (name, code) in [
            ("a", None),
            ("a", None),
            ("b", Some(Code::RATE_LIMITED)),
            ("zzz", Some(Code::UNKNOWN_REQUEST)),
            ("b", Some(Code(9999))),
        ] {
            metrics.answered(metrics.row(name), code);
        }
        let counters = metrics.snapshot();
        let rows: Vec<_> = counters.requests.iter().map(|row| (row.name, row.result, row.count)).collect();
        assert_eq!(rows, [("a", "ok", 2), ("b", "rate_limited", 1), ("b", "unknown", 1), ("unknown", "unknown_request", 1)]);
        assert_eq!(counters.throttled, 1);
    }
}
