//! Texts of the section `alerts`, each checked where it is read, so that a complaint names its place.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use hyper::Uri;
use lettre::message::Mailbox;
use serde::{Deserialize, Deserializer, de::Error};

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Without brackets where it is an IPv6 address.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address; expected host and port, such as \"log.example:6514\" or \
                 \"[2001:db8::1]:6514\""
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(bare) if bare.parse::<std::net::Ipv6Addr>().is_ok() => bare,
            Some(_) => return Err(wrong()),
            None => host,
        };
        let nameable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = bare.is_some() || (!host.is_empty() && host.chars().all(nameable));
        if !fits || host.len() > 253 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `http://…` or `https://…`, without a user in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub secure: bool,
    pub address: Address,
    /// Path and query, beginning with a slash. It may be a secret, so that it is not shown.
    pub path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What is wrong may hold a secret, so that it is not repeated.
        let wrong =
            || "this is no URL; expected one such as \"https://alerts.example/hook\"".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user or a password would be in logs; expected \
                        authorization_file, a file with the value of the header Authorization"
                .to_owned());
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = format!("{}:{port}", authority.host()).parse()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { secure, address, path })
    }
}

pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

pub(super) fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

pub(super) fn sink_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let nameable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 32 || !name.chars().all(nameable) {
        return Err(D::Error::custom(format_args!(
            "{name:?} is no name of a sink; expected 1 to 32 letters, digits, \".\", \"-\" or \"_\""
        )));
    }
    Ok(name)
}

pub(super) fn file<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(D::Error::custom(relative(&path)))
}

pub(super) fn optional_file<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<PathBuf>, D::Error> {
    file(from).map(Some)
}

fn relative(path: &Path) -> String {
    format!("{path:?} depends on where the daemon is started; expected a path that begins with /")
}

pub(super) fn mailbox<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked_mailbox(String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn mailboxes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    if all.is_empty() || all.len() > 32 {
        return Err(D::Error::custom("expected 1 to 32 addresses"));
    }
    all.into_iter().map(checked_mailbox).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn checked_mailbox(text: String) -> Result<String, String> {
    match text.parse::<Mailbox>() {
        Ok(_) => Ok(text),
        Err(error) => Err(format!(
            "{text:?} is no address ({error}); expected one such as \"oncall@example.org\""
        )),
    }
}
