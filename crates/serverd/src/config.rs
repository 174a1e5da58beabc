//! Configuration in two stages: [`RawConfig`] is what the file and the flags say, [`Config`] what the program does.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_server::BlobRoom;
use parlour_wire::api::Registration;
use serde::Deserialize;
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML, or has a key that does not exist or holds the wrong kind of value.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{key}: {reason}")]
    Value {
        /// Which setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a file or the command line says. Everything is optional; what is said twice is taken from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawConfig {
    /// The data directory.
    pub data: Option<PathBuf>,
    /// Where clients connect, `IP:PORT`; port 0 takes the port of last time if it is free, else any.
    pub listen: Option<String>,
    /// The host name or address that clients are told; the listen address if not given.
    pub host: Option<String>,
    /// `open`, `invite` or `closed`.
    pub registration: Option<String>,
    /// How long a session waits for its client to come back, such as `5m`.
    pub session_grace: Option<String>,
    /// How long entries are kept after every device has taken them, such as `30d`; `forever` keeps them.
    pub retention: Option<String>,
    /// How many bytes of files one account may keep, such as `1073741824`, `512MiB` or `2GiB`.
    pub blob_quota: Option<String>,
    /// PEM file with the certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// Where health and metrics are served, `IP:PORT` on the loopback.
    pub admin: Option<String>,
    /// Bounds.
    #[serde(default)]
    pub limits: RawLimits,
}

/// Bounds as the file says them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawLimits {
    /// Connections at the same time.
    pub connections: Option<usize>,
    /// Sessions at the same time, those without a connection included.
    pub sessions: Option<usize>,
    /// How long a connection may take to become a session, such as `10s`.
    pub handshake: Option<String>,
    /// How long a stop waits for requests in flight, such as `10s`.
    pub drain: Option<String>,
    /// Whether it is `bounded` how much an account writes, or `unbounded`: for loads, and servers whose accounts are all trusted.
    pub writing: Option<String>,
}

impl RawConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::Parse`] naming the key.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: error.to_string() })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: error.to_string().trim_end().to_owned() })
    }

    /// These values, and those of `below` where this says nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            data: self.data.or(below.data),
            listen: self.listen.or(below.listen),
            host: self.host.or(below.host),
            registration: self.registration.or(below.registration),
            session_grace: self.session_grace.or(below.session_grace),
            retention: self.retention.or(below.retention),
            blob_quota: self.blob_quota.or(below.blob_quota),
            cert: self.cert.or(below.cert),
            key: self.key.or(below.key),
            admin: self.admin.or(below.admin),
            limits: RawLimits {
                connections: self.limits.connections.or(below.limits.connections),
                sessions: self.limits.sessions.or(below.limits.sessions),
                handshake: self.limits.handshake.or(below.limits.handshake),
                drain: self.limits.drain.or(below.limits.drain),
                writing: self.limits.writing.or(below.limits.writing),
            },
        }
    }

    /// What the program does with it: defaults filled in, every value checked.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the setting.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let certificate = match (self.cert, self.key) {
            (None, None) => Certificate::SelfSigned,
            (Some(cert), Some(key)) => Certificate::Files { cert, key },
            (Some(_), None) => return Err(value("key", "a certificate needs its private key: give both")),
            (None, Some(_)) => return Err(value("cert", "a private key needs its certificate: give both")),
        };
        let admin = address("admin", self.admin.as_deref().unwrap_or("127.0.0.1:0"))?;
        if !admin.ip().is_loopback() {
            return Err(value("admin", "health and metrics are served on a loopback address only"));
        }
        Ok(Config {
            data: self.data.unwrap_or_else(default_data_dir),
            listen: address("listen", self.listen.as_deref().unwrap_or("127.0.0.1:0"))?,
            host: self.host.map(host).transpose()?,
            registration: registration(self.registration.as_deref().unwrap_or("open"))?,
            session_grace: duration("session-grace", self.session_grace.as_deref().unwrap_or("5m"))?,
            retention: retention(self.retention.as_deref().unwrap_or("30d"))?,
            blob_quota: self.blob_quota.map_or(Ok(BlobRoom::QUOTA), |text| size("blob-quota", &text))?,
            certificate,
            admin,
            limits: Limits {
                connections: count("limits.connections", self.limits.connections, 100_000)?,
                sessions: count("limits.sessions", self.limits.sessions, 200_000)?,
                handshake: duration("limits.handshake", self.limits.handshake.as_deref().unwrap_or("10s"))?,
                drain: duration("limits.drain", self.limits.drain.as_deref().unwrap_or("10s"))?,
                writing: match self.limits.writing.as_deref() {
                    None | Some("bounded") => true,
                    Some("unbounded") => false,
                    Some(_) => return Err(value("limits.writing", "write bounded or unbounded")),
                },
            },
            store_max_pages: None,
            blob_room: None,
        })
    }
}

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The host that clients are told, if it is not the listen address.
    pub host: Option<String>,
    /// Who may register.
    pub registration: Registration,
    /// How long a session waits for its client to come back.
    pub session_grace: Duration,
    /// How long entries are kept after every device has taken them; `None` keeps them.
    pub retention: Option<Duration>,
    /// How many bytes of files one account may keep.
    pub blob_quota: u64,
    /// The server's certificate.
    pub certificate: Certificate,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// Bounds.
    pub limits: Limits,
    /// Largest database file in pages of 4 KiB; for tests of a full disk, set by code only.
    pub store_max_pages: Option<u32>,
    /// Largest file of a blob in bytes; for tests of a full disk, set by code only.
    pub blob_room: Option<u64>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Made at the first start and kept in the data directory.
    SelfSigned,
    /// From PEM files.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Sessions at the same time, those without a connection included.
    pub sessions: usize,
    /// How long a connection may take to become a session.
    pub handshake: Duration,
    /// How long a stop waits for requests in flight.
    pub drain: Duration,
    /// Whether accounts write at a bounded pace.
    pub writing: bool,
}

/// The data directory of a server when none is named: `parlour/server` in the XDG data folder.
#[must_use]
pub fn default_data_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    base.unwrap_or_else(|| PathBuf::from(".")).join("parlour/server")
}

/// Reads a time such as `500ms`, `10s`, `5m`, `12h`, `30d`, or several of them after one another, such as `1h30m`.
///
/// # Errors
/// [`ConfigError::Value`] naming `key`.
pub fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let wrong = || value(key, &format!("`{text}` is not a time; write for example 30s, 5m, 12h or 30d"));
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// Reads a number of bytes such as `4096`, `512KiB`, `100MiB` or `1GiB`.
fn size(key: &'static str, text: &str) -> Result<u64, ConfigError> {
    let wrong = || value(key, &format!("`{text}` is not a size; write for example 512MiB or 2GiB"));
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn value(key: &'static str, reason: &str) -> ConfigError {
    ConfigError::Value { key, reason: reason.to_owned() }
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| value(key, &format!("`{text}` is not an address; write for example 127.0.0.1:7443 or [::]:7443")))
}

fn host(text: String) -> Result<String, ConfigError> {
    let wrong = text.is_empty() || text.contains(|c: char| c.is_whitespace() || "/@#?[]".contains(c));
    if wrong { Err(value("host", "a host name or IP address, without port or scheme")) } else { Ok(text) }
}

fn registration(word: &str) -> Result<Registration, ConfigError> {
    [Registration::OPEN, Registration::INVITE, Registration::CLOSED]
        .into_iter()
        .find(|registration| registration.word() == word)
        .ok_or_else(|| value("registration", &format!("`{word}` is none of open, invite, closed")))
}

fn retention(text: &str) -> Result<Option<Duration>, ConfigError> {
    if text.trim() == "forever" { Ok(None) } else { duration("retention", text).map(Some) }
}

fn count(key: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match given {
        Some(0) => Err(value(key, "at least 1")),
        given => Ok(given.unwrap_or(default)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(text: &str) -> Result<RawConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parlour.toml");
        std::fs::write(&path, text).unwrap();
        RawConfig::from_file(&path)
    }

    #[test]
    fn an_empty_configuration_has_the_documented_defaults() {
        let config = RawConfig::default().resolve().unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.registration, Registration::OPEN);
        assert_eq!(config.session_grace, Duration::from_secs(300));
        assert_eq!(config.retention, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(config.certificate, Certificate::SelfSigned);
        assert_eq!(config.blob_quota, 1 << 30);
        assert!(config.limits.writing);
        assert!(!file("[limits]\nwriting = \"unbounded\"\n").unwrap().resolve().unwrap().limits.writing);
    }

    #[test]
    fn flags_go_over_the_file() {
        let below = file("listen = \"0.0.0.0:7443\"\nregistration = \"closed\"\n[limits]\nconnections = 7\n").unwrap();
        let flags = RawConfig { registration: Some("invite".to_owned()), ..RawConfig::default() };
        let config = flags.over(below).resolve().unwrap();
        assert_eq!((config.listen.port(), config.registration, config.limits.connections), (7443, Registration::INVITE, 7));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = file("listn = \"127.0.0.1:1\"\n").unwrap_err().to_string();
        assert!(error.contains("listn"), "{error}");
        let error = file("[limits]\nconections = 1\n").unwrap_err().to_string();
        assert!(error.contains("conections"), "{error}");
    }

    #[test]
    fn wrong_values_name_their_setting() {
        let with = |change: fn(&mut RawConfig)| {
            let mut raw = RawConfig::default();
            change(&mut raw);
            raw.resolve().unwrap_err().to_string()
        };
        assert!(with(|raw| raw.listen = Some("nowhere".to_owned())).starts_with("listen:"));
        assert!(with(|raw| raw.admin = Some("0.0.0.0:1".to_owned())).starts_with("admin:"));
        assert!(with(|raw| raw.registration = Some("maybe".to_owned())).starts_with("registration:"));
        assert!(with(|raw| raw.session_grace = Some("5 minutes".to_owned())).starts_with("session-grace:"));
        assert!(with(|raw| raw.cert = Some("c".into())).starts_with("key:"));
        assert!(with(|raw| raw.limits.sessions = Some(0)).starts_with("limits.sessions:"));
        assert!(with(|raw| raw.limits.writing = Some("fast".to_owned())).starts_with("limits.writing:"));
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("2KiB", 2048), ("512 MiB", 512 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(size("x", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "1GB", "-1", "1.5GiB", "99999999TiB"] {
            assert!(size("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h30m", 5400), ("30d", 2_592_000), ("2w", 1_209_600)] {
            assert_eq!(duration("x", text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(duration("x", "250ms").unwrap(), Duration::from_millis(250));
        for text in ["", "5", "m", "5x", "-5s", "99999999999999999999d", "1.5h"] {
            assert!(duration("x", text).is_err(), "{text}");
        }
    }
}
