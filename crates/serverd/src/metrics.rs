//! What the server counts, in OpenMetrics. Base units, prefix `parlour_`, labels only from closed sets.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parlour_server::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What the store's writer reports. Clones share the counters.
#[derive(Clone, Debug)]
pub struct StoreMeter {
    batch: Histogram,
    commit: Histogram,
    fsyncs: Counter,
    failed: Counter,
}

impl Default for StoreMeter {
    fn default() -> Self {
        Self {
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            fsyncs: Counter::default(),
            failed: Counter::default(),
        }
    }
}

impl StoreMeter {
    /// A batch of so many writes is on disk; the commit took so long.
    pub(crate) fn committed(&self, writes: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has a few thousand writes")]
        self.batch.observe(writes as f64);
        self.commit.observe(took.as_secs_f64());
        self.fsyncs.inc();
    }

    /// So many writes met an engine that could not take them.
    pub(crate) fn failed(&self, writes: usize) {
        self.failed.inc_by(u64::try_from(writes).unwrap_or(u64::MAX));
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("store_batch_writes", "Writes that shared one transaction", self.batch.clone());
        registry.register_with_unit(
            "store_commit_duration",
            "Time to make a transaction durable",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register(
            "store_fsyncs",
            "Transactions made durable, each with one fsync of the write-ahead log",
            self.fsyncs.clone(),
        );
        registry.register("store_failed_writes", "Writes that failed because the disk is full or broken", self.failed.clone());
    }
}

/// All counters of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The store's.
    pub store: StoreMeter,
    connections: Gauge,
    resumed: Counter,
    accepted: Counter,
    service: Arc<Scrape>,
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("parlour"),
            store: StoreMeter::default(),
            connections: Gauge::default(),
            resumed: Counter::default(),
            accepted: Counter::default(),
            service: Arc::new(Scrape::default()),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("build", "The program", Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") }));
        registry.register("connections", "Connections that carry a session", self.connections.clone());
        registry.register("sessions_resumed", "Sessions that went on over another connection", self.resumed.clone());
        registry.register("messages_accepted", "Entries stored in logs", self.accepted.clone());
        registry.register_collector(Box::new(Arc::clone(&self.service)));
        self.store.register(registry);
    }

    /// Where the service's own counters are read at each scrape.
    pub(crate) fn scrape(&self, counters: impl Fn() -> Counters + Send + Sync + 'static) {
        // A server has one service; a second source would be a bug of ours and changes nothing.
        let _first = self.service.0.set(Box::new(counters));
    }

    /// The text of an OpenMetrics exposition.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String is infallible");
        out
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn resumed(&self) {
        self.resumed.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    /// Entries are in their logs.
    pub(crate) fn accepted(&self, entries: usize) {
        self.accepted.inc_by(u64::try_from(entries).unwrap_or(u64::MAX));
    }
}

type Source = Box<dyn Fn() -> Counters + Send + Sync>;

/// The counters that the service keeps itself.
#[derive(Default)]
struct Scrape(OnceLock<Source>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(source) = self.0.get() else { return Ok(()) };
        let counters = source();
        let gauges = [
            ("sessions", "Sessions, also those that wait for their client to come back", counters.sessions),
            ("devices_online", "Devices that are authenticated", counters.devices),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let totals = [
            ("messages_pushed", "Pushes handed to sessions", counters.pushes),
            ("pushes_dropped", "Pushes for which a session had no room", counters.dropped_pushes),
            ("throttled", "Requests refused because there were too many", counters.throttled),
        ];
        for (name, help, value) in totals {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let mut logins = encoder.encode_descriptor("logins", "Password logins, by result", None, MetricType::Counter)?;
        for (result, value) in [("ok", counters.logins_ok), ("failed", counters.logins_failed)] {
            ConstCounter::new(value).encode(logins.encode_family(&[("result", result)])?)?;
        }
        let mut requests =
            encoder.encode_descriptor("requests", "Requests answered, by name and code", None, MetricType::Counter)?;
        for row in counters.requests {
            let labels = [("name", row.name), ("code", row.result)];
            ConstCounter::new(row.count).encode(requests.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
