//! Server addresses: `wss://host:port#FINGERPRINT`, where the fingerprint (SHA-256 of the certificate, hex) is optional.

use std::{fmt, str::FromStr};

use crate::codec::DecodeError;

/// The port of a server address that names none.
pub const DEFAULT_PORT: u16 = 7443;

/// Where a server is and, if known, which certificate it shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    /// Host name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// SHA-256 of the DER certificate that the server must show.
    pub fingerprint: Option<[u8; 32]>,
}

impl ServerUrl {
    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// The same address without its fingerprint.
    #[must_use]
    pub fn without_fingerprint(&self) -> Self {
        Self { fingerprint: None, ..self.clone() }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wss://{}", self.authority())?;
        match self.fingerprint {
            Some(fingerprint) => write!(f, "#{}", hex::encode(fingerprint)),
            None => Ok(()),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let invalid = DecodeError::Invalid("server address");
        let rest = text.trim().strip_prefix("wss://").ok_or(invalid)?;
        let (location, fingerprint) = match rest.split_once('#') {
            Some((location, hex)) => (location, Some(parse_fingerprint(hex)?)),
            None => (rest, None),
        };
        let location = location.strip_suffix("/v1/link").unwrap_or(location).trim_end_matches('/');
        let (host, port) = split_authority(location).ok_or(invalid)?;
        // With a bracket in it, the host would be written as something else.
        if host.is_empty() || host.contains(['/', '@', ' ', '?', '[', ']']) {
            return Err(invalid);
        }
        Ok(Self { host, port, fingerprint })
    }
}

/// An invitation with the server that it is for: `parlour://join/HOST:PORT?token=TOKEN#FINGERPRINT`. The fingerprint is optional
/// as in [`ServerUrl`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InviteLink {
    /// Where to register.
    pub server: ServerUrl,
    /// What to show there.
    pub token: String,
}

impl fmt::Display for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parlour://join/{}?token={}", self.server.authority(), self.token)?;
        match self.server.fingerprint {
            Some(fingerprint) => write!(f, "#{}", hex::encode(fingerprint)),
            None => Ok(()),
        }
    }
}

impl FromStr for InviteLink {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let invalid = DecodeError::Invalid("invitation link");
        let rest = text.trim().strip_prefix("parlour://join/").ok_or(invalid)?;
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (location, token) = rest.split_once("?token=").ok_or(invalid)?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(invalid);
        }
        let server: ServerUrl = format!("wss://{location}").parse()?;
        let fingerprint = fragment.map(parse_fingerprint).transpose()?;
        Ok(Self { server: ServerUrl { fingerprint, ..server }, token: token.to_owned() })
    }
}

fn split_authority(location: &str) -> Option<(String, u16)> {
    if let Some(bracketed) = location.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host.to_owned(), port.parse().ok()?)),
            None if port.is_empty() => Some((host.to_owned(), DEFAULT_PORT)),
            None => None,
        };
    }
    match location.rsplit_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((location.to_owned(), DEFAULT_PORT)),
    }
}

/// Reads a fingerprint: 64 hex digits, colons allowed.
///
/// # Errors
/// [`DecodeError::Invalid`] for anything else.
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32], DecodeError> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let mut fingerprint = [0; 32];
    hex::decode_to_slice(digits, &mut fingerprint).map_err(|_| DecodeError::Invalid("certificate fingerprint"))?;
    Ok(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text() {
        let fingerprint = "ab".repeat(32);
        for text in [
            "wss://chat.example:7443".to_owned(),
            format!("wss://127.0.0.1:9000#{fingerprint}"),
            format!("wss://[::1]:9000#{fingerprint}"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().map(|url| url.to_string()), Ok(text));
        }
        assert_eq!("wss://chat.example/".parse::<ServerUrl>().map(|url| url.port), Ok(DEFAULT_PORT));
    }

    #[test]
    fn invitation_links_survive_text() {
        let fingerprint = "ab".repeat(32);
        for text in
            [format!("parlour://join/[::1]:9000?token=00ff#{fingerprint}"), "parlour://join/a.example:7443?token=x1".to_owned()]
        {
            assert_eq!(text.parse::<InviteLink>().map(|link| link.to_string()), Ok(text));
        }
        for text in [
            "parlour://join/a",
            "parlour://join/a?token=",
            "parlour://join/?token=1",
            "wss://a?token=1",
            "parlour://join/a?token=1&x",
        ] {
            assert!(text.parse::<InviteLink>().is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        let brackets = ["wss://a]:b:1", "wss://[a[]:1", "wss://[[::1]:1", "wss://[a", "wss://[a]1"];
        let others = ["", "http://x", "wss://", "wss://:1", "wss://a:99999", "wss://a#12", "wss://u@h:1", "wss://a/b"];
        for text in brackets.into_iter().chain(others) {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}
