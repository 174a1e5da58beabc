//! Putting a server together, and taking it apart again.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    thread::JoinHandle as Thread,
    time::Duration,
};

use parlour_net::{KeepAlive, LinkConfig, ListenConfig, Listener, PemPair, ServerIdentity};
use parlour_server::{
    BlobRoom, Fanout, Now, Secrets, SecretsError, Service, ServiceConfig,
    store::{Store as _, StoreError, Write, Written},
    throttle::{Rate, ThrottleConfig},
};
use parlour_wire::address::ServerUrl;
use rand::{RngCore as _, rngs::OsRng};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    adapter::Adapter,
    admin::{self, Admin},
    blobs::{self, DiskBlobs},
    config::{Certificate, Config},
    data_dir::{DataDir, Record},
    dispatch::Dispatcher,
    error::StartError,
    invite::unix_ms,
    metrics::Metrics,
    sqlite::{self, Options, SqliteStore},
};

/// How often entries are looked for that need not be kept.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// Entries that one write deletes, so that other writes do not wait long.
const RETENTION_BATCH: u32 = 2000;
/// Looks at conversations, a few thousand each, that retention takes every time even if it finds nothing.
const RETENTION_LOOKS: u32 = 50;
/// How often, and after which pauses, the end looks whether the store is its own.
const LOOKS: u32 = 200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// How long the admin listener may take to end.
const ADMIN_END: Duration = Duration::from_secs(2);

/// A server that runs. Dropping it stops the server, without waiting for the end.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect: `wss://HOST:PORT`.
    pub url: String,
    /// SHA-256 of the certificate, hex.
    pub fingerprint: String,
    /// Where health and metrics are served: `http://IP:PORT`.
    pub admin: String,
    server: ServerUrl,
    stop: watch::Sender<bool>,
    end: JoinHandle<()>,
}

impl Running {
    /// Where clients connect, with the certificate's fingerprint.
    #[must_use]
    pub fn server_url(&self) -> &ServerUrl {
        &self.server
    }

    /// Begins to stop: no more connections, requests in flight are answered, every client is told to go.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end: everything acknowledged is on disk and the data directory is free.
    ///
    /// # Panics
    /// If the server did, which is a bug.
    pub async fn join(self) {
        if let Err(error) = self.end.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Starts a server. It accepts clients when this returns.
///
/// # Errors
/// [`StartError`], with a hint.
pub async fn start(config: Config) -> Result<Running, StartError> {
    raise_file_limit();
    let data = Arc::new(DataDir::claim(&config.data)?);
    let identity = identity(&data, &config)?;
    let metrics = Metrics::new();
    let fanout = Arc::new(Fanout::new());
    let (observer, fanning) =
        Dispatcher::start(Arc::clone(&fanout), Arc::clone(&metrics)).map_err(|error| StartError::data(&config.data, &error))?;
    let store = Arc::new(open_store(&data, &config, observer, &metrics).await?);
    let secrets = Secrets::load(&*store, &mut OsRng).await.map_err(|error| secrets_error(&config.data, error))?;
    let room = open_blobs(&data, &config, &store).await?;
    let service = Arc::new(Service::with_blobs(service_config(&config), Arc::clone(&store), fanout, secrets, seed(), room));
    let counted = Arc::downgrade(&service);
    metrics.scrape(move || counted.upgrade().map(|service| service.counters()).unwrap_or_default());

    let listener = listen(config.listen, data.recorded().map(|record| record.port), &identity).await?;
    let address = listener.local_addr().map_err(|error| StartError::listen(config.listen, &error))?;
    let admin_listener = TcpListener::bind(config.admin).await.map_err(|error| StartError::listen(config.admin, &error))?;
    let admin = admin_listener.local_addr().map_err(|error| StartError::listen(config.admin, &error))?;
    let server =
        ServerUrl { host: public_host(&config, address), port: address.port(), fingerprint: Some(identity.fingerprint()) };
    let admin = format!("http://{admin}");
    data.record(&Record { url: server.to_string(), admin: admin.clone(), port: address.port() })?;

    let (stop, stopping) = watch::channel(false);
    let parts = Parts {
        adapter: Arc::new(Adapter::new(Arc::clone(&service), Arc::clone(&metrics), Arc::clone(&data))),
        service,
        listen: listen_config(&config),
        retention: config.retention,
        store,
        metrics,
        fanning,
        data,
    };
    tracing::info!(url = %server.without_fingerprint(), %admin, "listening");
    Ok(Running {
        url: server.without_fingerprint().to_string(),
        fingerprint: hex::encode(identity.fingerprint()),
        admin,
        server,
        end: tokio::spawn(parts.run(listener, admin_listener, stopping)),
        stop,
    })
}

/// What a server consists of while it runs.
struct Parts {
    service: Arc<Service<SqliteStore>>,
    adapter: Arc<Adapter>,
    listen: ListenConfig,
    retention: Option<Duration>,
    store: Arc<SqliteStore>,
    metrics: Arc<Metrics>,
    fanning: Thread<()>,
    data: Arc<DataDir>,
}

impl Parts {
    async fn run(self, listener: Listener, admin_listener: TcpListener, stopping: watch::Receiver<bool>) {
        let (ended, end) = watch::channel(false);
        let admin = Admin { metrics: self.metrics, store: Arc::clone(&self.store), stopping: stopping.clone() };
        let mut serving_admin = tokio::spawn(admin::serve(admin_listener, admin, end));
        let retaining = tokio::spawn(retain(Arc::clone(&self.store), self.service, self.retention));

        listener.serve(self.adapter, self.listen, stopping).await;

        ended.send_replace(true);
        if tokio::time::timeout(ADMIN_END, &mut serving_admin).await.is_err() {
            serving_admin.abort();
            let _aborted = serving_admin.await;
        }
        retaining.abort();
        let _aborted = retaining.await;
        close(self.store, self.fanning, self.data).await;
        tracing::info!("stopped");
    }
}

/// Carries out the writes that wait, closes the database, and lets go of the data directory.
async fn close(store: Arc<SqliteStore>, fanning: Thread<()>, data: Arc<DataDir>) {
    // Whoever has ended may not have let go of everything yet.
    for _ in 0..LOOKS {
        if Arc::strong_count(&store) == 1 {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let closing = spawn_blocking(move || {
        // A session that did not end in time holds the store; the last one closes it.
        if let Some(store) = Arc::into_inner(store) {
            drop(store);
            if fanning.join().is_err() {
                tracing::error!("the fan-out thread panicked");
            }
        }
        drop(data);
    });
    if closing.await.is_err() {
        tracing::error!("closing the store panicked");
    }
}

async fn open_store(data: &DataDir, config: &Config, observer: Dispatcher, metrics: &Metrics) -> Result<SqliteStore, StartError> {
    let path = data.file(sqlite::FILE);
    let options = Options { max_pages: config.store_max_pages, meter: metrics.store.clone(), ..Options::default() };
    // Going through a long write-ahead log takes a while.
    let opened = spawn_blocking(move || SqliteStore::open_with(&path, Arc::new(observer), options)).await;
    Ok(opened.expect("opening a store does not panic")?)
}

/// Opens the folder of blobs. Files that the store does not know are left over from a crash, and go.
async fn open_blobs(data: &DataDir, config: &Config, store: &SqliteStore) -> Result<BlobRoom, StartError> {
    let (folder, room) = (data.file("blobs"), config.blob_room);
    let failed = |error: io::Error| StartError::data(&config.data, &error);
    let opening = spawn_blocking({
        let folder = folder.clone();
        move || DiskBlobs::open(&folder, room).and_then(|opened| Ok((opened, blobs::listed(&folder)?)))
    });
    let (opened, listed) = opening.await.expect("opening a folder does not panic").map_err(failed)?;
    let failed_store = |error: StoreError| secrets_error(&config.data, error.into());
    let unknown = store.unknown_blobs(listed.blobs).await.map_err(failed_store)?;
    let orphans = store.unknown_uploads(listed.uploads).await.map_err(failed_store)?;
    let sweeping = spawn_blocking(move || {
        unknown.iter().try_for_each(|blob| blobs::delete(&folder, blob))?;
        orphans.iter().try_for_each(|upload| blobs::delete_part(&folder, upload))
    });
    sweeping.await.expect("deleting files does not panic").map_err(failed)?;
    Ok(BlobRoom { bytes: Arc::new(opened), quota: config.blob_quota })
}

fn service_config(config: &Config) -> ServiceConfig {
    let bounded = ThrottleConfig::default();
    let (entries_per_account, entry_kib_per_account) = (Rate::UNBOUNDED, Rate::UNBOUNDED);
    let throttle =
        if config.limits.writing { bounded } else { ThrottleConfig { entries_per_account, entry_kib_per_account, ..bounded } };
    let version = concat!("parlour/", env!("CARGO_PKG_VERSION")).to_owned();
    ServiceConfig { registration: config.registration, version, throttle }
}

fn listen_config(config: &Config) -> ListenConfig {
    ListenConfig {
        link: LinkConfig { keep_alive: Some(KeepAlive::PATIENT), ..LinkConfig::default() },
        grace: config.session_grace,
        max_sessions: config.limits.sessions,
        handshake_timeout: config.limits.handshake,
        max_connections: config.limits.connections,
        stop_timeout: config.limits.drain,
        ..ListenConfig::default()
    }
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    seed
}

fn secrets_error(path: &Path, error: SecretsError) -> StartError {
    let path = path.to_owned();
    match error {
        SecretsError::Unreadable => StartError::Secrets(error.to_string()),
        SecretsError::Store(StoreError::Full) => StartError::DiskFull { path },
        SecretsError::Store(StoreError::Corrupt(reason)) => StartError::Corrupt { path, reason },
        SecretsError::Store(StoreError::Unavailable(reason)) => StartError::Data { path, reason },
        SecretsError::Store(StoreError::Overloaded) => StartError::Data { path, reason: error.to_string() },
    }
}

/// The certificate that the configuration names, or the server's own, which is made at the first start.
fn identity(data: &DataDir, config: &Config) -> Result<ServerIdentity, StartError> {
    let (cert, key) = match &config.certificate {
        Certificate::Files { cert, key } => (cert.clone(), key.clone()),
        Certificate::SelfSigned => {
            let (cert, key) = (data.file("certificate.pem"), data.file("key.pem"));
            if !cert.exists() || !key.exists() {
                make_certificate(data, config)?;
            }
            (cert, key)
        }
    };
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| StartError::Certificate { path: path.to_owned(), reason: error.to_string() })
    };
    ServerIdentity::load(&read(&cert)?, &read(&key)?)
        .map_err(|error| StartError::Certificate { path: cert, reason: error.to_string() })
}

fn make_certificate(data: &DataDir, config: &Config) -> Result<(), StartError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let listen = config.listen.ip();
    let own = config.host.clone().or_else(|| (!listen.is_unspecified()).then(|| listen.to_string()));
    names.extend(own.filter(|own| !names.contains(own)));
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&names)
        .map_err(|error| StartError::Certificate { path: data.file("certificate.pem"), reason: error.to_string() })?;
    // The key first: a certificate without its key would be made again, and clients have pinned the one they saw.
    data.write("key.pem", key_pem.as_bytes())?;
    data.write("certificate.pem", cert_pem.as_bytes())
}

/// Listens. Where any port will do, the one of last time is best: clients know it.
async fn listen(address: SocketAddr, last: Option<u16>, identity: &ServerIdentity) -> Result<Listener, StartError> {
    if address.port() == 0
        && let Some(port) = last
        && let Ok(listener) = Listener::bind(SocketAddr::new(address.ip(), port), identity.clone()).await
    {
        return Ok(listener);
    }
    Listener::bind(address, identity.clone()).await.map_err(|error: io::Error| StartError::listen(address, &error))
}

/// What clients are told as the host.
fn public_host(config: &Config, address: SocketAddr) -> String {
    match (&config.host, address.ip()) {
        (Some(host), _) => host.clone(),
        (None, IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        (None, IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        (None, ip) => ip.to_string(),
    }
}

/// Deletes what need not be kept, from time to time.
async fn retain(store: Arc<SqliteStore>, service: Arc<Service<SqliteStore>>, keep: Option<Duration>) {
    let keep_ms = keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let mut times = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        times.tick().await;
        let now = Now { unix_ms: unix_ms() };
        let before_ms = keep_ms.map(|keep_ms| now.unix_ms.saturating_sub(keep_ms));
        // Without retention only conversations that have ended have anything to delete.
        let retained = retain_before(&store, before_ms.unwrap_or(0)).await;
        if let Err(error) = retained.and(service.collect_blobs(before_ms, now).await) {
            tracing::warn!(%error, "retention has to wait");
        }
    }
}

async fn retain_before(store: &SqliteStore, before_ms: u64) -> Result<(), StoreError> {
    let mut looks = 0;
    loop {
        let written = store.apply(Write::Retain { before_ms, limit: RETENTION_BATCH }).await?;
        let more = matches!(written, Ok(Written::Deleted(deleted)) if deleted >= u64::from(RETENTION_BATCH));
        looks += 1;
        if !more && looks >= RETENTION_LOOKS {
            return Ok(());
        }
    }
}

/// Every connection is an open file; the usual soft limit is far below the hard one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
