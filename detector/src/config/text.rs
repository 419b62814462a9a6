//! Reading the small text files of an administrator, and pointing into them.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use nix::fcntl::OFlag;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A place in a file; lines and columns (in characters) count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub path: PathBuf,
    pub position: Option<(usize, usize)>,
}

impl Place {
    pub(crate) fn of(path: &Path, text: &str, span: Option<Range<usize>>) -> Self {
        Self { path: path.to_owned(), position: span.map(|span| position(text, span.start)) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file name may hold anything, a line feed included.
        write!(f, "{}", self.path.display().to_string().escape_debug())?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("there is no such file")]
    Absent,
    #[error("not a regular file")]
    Irregular,
    #[error("larger than {0} bytes, the most that is read of such a file")]
    TooLarge(u64),
    #[error("line {0} is not UTF-8, which TOML has to be")]
    Encoding(usize),
    #[error("cannot be read: {0}")]
    Io(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Reads a regular file (symbolic links are followed) of at most `limit` bytes as UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, ReadError> {
    // Opening a FIFO blocks and opening a device can have effects, so that the kind of the file is
    // asked of a descriptor that only names it, and the same file is opened through that.
    let named = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)?;
    if !named.metadata()?.is_file() {
        return Err(ReadError::Irregular);
    }
    let file = File::open(format!("/proc/self/fd/{}", named.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ReadError::Encoding(1 + good.iter().filter(|byte| **byte == b'\n').count())
    })
}

/// Line and column of a byte offset, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Where the value of a key stands, or its section where the key itself is left out.
pub(crate) fn span_of(text: &str, key: &[&str]) -> Option<Range<usize>> {
    let mut table = toml::de::DeTable::parse(text).ok()?.into_inner();
    let mut span = None;
    for part in key {
        let value = table.remove(*part)?;
        span = Some(value.span());
        table = match value.into_inner() {
            toml::de::DeValue::Table(inner) => inner,
            _ => break,
        };
    }
    span
}

/// A message of the TOML parser on one line.
pub(crate) fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A text such as `1m 30s`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!(
            "{text:?} is not a duration ({error}); expected a text such as \"500ms\", \"10s\" or \"1m 30s\""
        ))
    })
}

/// Texts such as `192.0.2.0/24`.
pub(crate) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let network = |text: String| {
        text.parse().map_err(|_| {
            D::Error::custom(format_args!(
                "{text:?} is no network; expected one in CIDR notation such as \"192.0.2.0/24\""
            ))
        })
    };
    texts.into_iter().map(network).collect()
}
