//! Where the broker is, as people write it.

use dvs_domain::failure::{Failure, FailureCode};
use std::fmt;
use std::net::Ipv6Addr;

/// A broker's address: host, port, and whether the connection is encrypted. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    tls: bool,
}

impl BrokerUrl {
    /// The port of unencrypted MQTT (IANA).
    pub const PORT: u16 = 1883;
    /// The port of MQTT over TLS (IANA).
    pub const TLS_PORT: u16 = 8883;

    /// Reads `host`, `host:port`, or a URL of the schemes `mqtt`, `tcp`, `mqtts` and `ssl`. An IPv6 address
    /// stands in brackets where a port follows.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for anything else, also for a user or password in the address;
    /// [`FailureCode::Unsupported`] for an encrypted connection in a build without the feature `tls`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text.contains('@') {
            // What stands before it is a secret, and is not repeated.
            return Err(Failure::new(
                FailureCode::BadRequest,
                "the broker's address must not hold a user or a password",
            )
            .with_hint("give them in a file or in the environment; others can read a command line"));
        }
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "mqtt" | "tcp" => (false, rest),
                "mqtts" | "ssl" => (true, rest),
                _ => return Err(refuse(text, "has an unknown scheme")),
            },
        };
        let authority = if rest.len() < text.len() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        let (host, port) = split(authority).ok_or_else(|| refuse(text, "is no broker's address"))?;
        let port = match port {
            None if tls => Self::TLS_PORT,
            None => Self::PORT,
            Some(digits) => parse_port(digits).ok_or_else(|| refuse(text, "has no port from 1 to 65535"))?,
        };
        if !is_host(host) {
            return Err(refuse(text, "is no broker's address"));
        }
        if tls && !cfg!(feature = "tls") {
            return Err(Failure::new(
                FailureCode::Unsupported,
                format!("broker `{text}`: this build cannot encrypt connections"),
            )
            .with_hint("build DVS with the cargo feature `tls`, or use an address with `mqtt://`"));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// The host's name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(formatter, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Host and port, the host without brackets.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => is_ipv6(host).then_some((host, Some(port))),
            None => (after.is_empty() && is_ipv6(host)).then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        Some((_, port)) if port.contains(':') => is_ipv6(authority).then_some((authority, None)),
        Some((host, port)) => Some((host, Some(port))),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| only_digits && *port != 0)
}

fn is_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    is_ipv6(host) || (!host.is_empty() && host.len() <= 255 && host.bytes().all(plain))
}

/// An IPv6 address, also one with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "zone"));
    let zone_is_plain = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric());
    zone_is_plain && address.parse::<Ipv6Addr>().is_ok()
}

fn refuse(text: &str, what: &str) -> Failure {
    let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    Failure::new(FailureCode::BadRequest, format!("broker `{shown}` {what}"))
        .with_hint("write it as `host`, `host:port`, or a URL such as `mqtt://host:1883` or `mqtts://host`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("localhost", "mqtt://localhost:1883"),
            ("broker.example:2883", "mqtt://broker.example:2883"),
            ("10.0.0.1", "mqtt://10.0.0.1:1883"),
            ("my_host:1", "mqtt://my_host:1"),
            ("mqtt://h", "mqtt://h:1883"),
            ("MQTT://h/", "mqtt://h:1883"),
            ("tcp://h:65535", "mqtt://h:65535"),
            ("::1", "mqtt://[::1]:1883"),
            ("[::1]", "mqtt://[::1]:1883"),
            ("[fe80::1%eth0]:1884", "mqtt://[fe80::1%eth0]:1884"),
            ("tcp://[2001:db8::1]:1884", "mqtt://[2001:db8::1]:1884"),
        ] {
            let url = BrokerUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!(BrokerUrl::parse(shown).unwrap(), url);
            assert!(!url.is_tls());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            " ",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "h:1:2",
            "h ",
            "h/",
            "h/x",
            "mqtt://",
            "mqtt:///x",
            "mqtt://h/topic",
            "mqtt://h?x=1",
            "mqtt://h#f",
            "http://h",
            "ws://h",
            "://h",
            "[::1",
            "[h]:1883",
            "[::1]x",
            "[::1]:",
            "[fe80::1%]:1",
            "hö",
            "h\n",
            "a,b",
        ] {
            let refused = BrokerUrl::parse(text).unwrap_err();
            assert_eq!(refused.code(), FailureCode::BadRequest, "{text:?}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for text in ["mqtt://me:secret@h", "me:secret@h:1883", "mqtts://secret@h"] {
            let refused = BrokerUrl::parse(text).unwrap_err();
            assert_eq!(refused.code(), FailureCode::BadRequest);
            assert!(!refused.chain().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn encrypted_connections_depend_on_the_build() {
        for text in ["mqtts://h", "ssl://h:8883", "SSL://h/"] {
            let parsed = BrokerUrl::parse(text);
            if cfg!(feature = "tls") {
                let url = parsed.unwrap();
                assert_eq!((url.port(), url.is_tls()), (BrokerUrl::TLS_PORT, true));
            } else {
                assert_eq!(parsed.unwrap_err().code(), FailureCode::Unsupported);
            }
        }
    }
}
