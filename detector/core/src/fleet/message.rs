//! What is said, in JSON. Within a version fields are added, never renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Name;
use crate::model::{Digest, Severity};

/// The version of messages that this build speaks.
pub const VERSION: u32 = 1;

/// The longest message in bytes that is read. (Bundles are files, and no messages.)
pub const LONGEST: usize = 256 << 10;

/// Why a message is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it has {0} bytes; expected at most {LONGEST}")]
    TooLong(usize),
    #[error("it is no message of a fleet: {0}")]
    NoMessage(String),
    #[error(
        "it has version {0}, and this release speaks {VERSION}: use releases that speak the same one"
    )]
    OtherVersion(u32),
    #[error("it is of the fleet {0}")]
    OtherFleet(Name),
    #[error("it says that it is from {0}, and came where another one speaks")]
    OtherSender(Name),
}

#[derive(Serialize)]
struct Sealed<'a, Body> {
    v: u32,
    fleet: &'a Name,
    from: &'a Name,
    body: &'a Body,
}

/// Puts something in words.
///
/// # Errors
///
/// It is longer than is read.
pub fn seal<Body: Serialize>(fleet: &Name, from: &Name, body: &Body) -> Result<Vec<u8>, Refused> {
    let sealed = Sealed { v: VERSION, fleet, from, body };
    let bytes =
        serde_json::to_vec(&sealed).map_err(|error| Refused::NoMessage(error.to_string()))?;
    if bytes.len() > LONGEST { Err(Refused::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Reads a message, and says who has sent it. `from` is who alone may speak where it came, where that is one. The
/// version is looked at before anything else, so that nothing of another one is ever misread.
///
/// # Errors
///
/// Why it is not read.
pub fn open<Body: DeserializeOwned>(
    bytes: &[u8],
    fleet: &Name,
    from: Option<&Name>,
) -> Result<(Name, Body), Refused> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    #[derive(Deserialize)]
    struct Envelope<'a> {
        fleet: Name,
        from: Name,
        #[serde(borrow)]
        body: &'a RawValue,
    }
    let no = |error: serde_json::Error| Refused::NoMessage(error.to_string());
    if bytes.len() > LONGEST {
        return Err(Refused::TooLong(bytes.len()));
    }
    let Version { v } = serde_json::from_slice(bytes).map_err(no)?;
    if v != VERSION {
        return Err(Refused::OtherVersion(v));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(no)?;
    if envelope.fleet != *fleet {
        return Err(Refused::OtherFleet(envelope.fleet));
    }
    if from.is_some_and(|from| *from != envelope.from) {
        return Err(Refused::OtherSender(envelope.from));
    }
    let body = serde_json::from_str(envelope.body.get()).map_err(no)?;
    Ok((envelope.from, body))
}

/// A moment as people write it.
pub type Time = jiff::Timestamp;

/// A host at a glance. It is said anew when it changes, and every so often, which is how long a host can be silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// When it was said, by the host's clock.
    pub at: Time,
    /// Seconds after which it is said again at the latest.
    pub every: u64,
    /// Names one life of the daemon.
    pub life: Uuid,
    pub release: String,
    pub started: Time,
    /// `observe`, `enforce` or `none`.
    pub mode: String,
    pub policy: PolicyState,
    /// VMs by status.
    pub vms: BTreeMap<String, u64>,
    /// Guest ports by status.
    pub ports: BTreeMap<String, u64>,
    /// Open findings by severity.
    pub findings: BTreeMap<String, u64>,
    /// What the host cannot see or do, in words; the first few.
    pub troubles: Vec<String>,
    /// How many pages its VMs have; what the first page says of that counts before this.
    pub pages: u32,
    /// The same of its open findings; `None` of a release that tells only what happens to findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_pages: Option<u32>,
}

/// Which bundle a host goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// `None` while it goes by its own files.
    pub in_force: Option<Version>,
    /// The last one that it was offered and does not take, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedBundle>,
    /// In what its files are not those of the bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBundle {
    pub version: u64,
    /// Of the signed text: another bundle may have the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    pub why: String,
}

/// A bundle by its number and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub number: u64,
    /// Of the signed text.
    pub sha256: Digest,
}

/// That there is a bundle; who wants it asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub version: Version,
    /// The hosts that are to take it. All are where none is named and no share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Name>,
    /// How many in a thousand of all hosts are to take it besides: those whose turn it is ([`Version::turn`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u16>,
    /// What the other hosts are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Version>,
    /// Those that no host is to go by: one that does, and that may still be given back, is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Version>,
}

impl Announcement {
    /// For every host.
    pub const fn to_all(version: Version) -> Self {
        Self { version, hosts: Vec::new(), share: None, others: None, withdrawn: Vec::new() }
    }

    /// What a host is to have.
    pub fn version_for(&self, host: &Name) -> Option<Version> {
        let all = self.hosts.is_empty() && self.share.is_none();
        let turn = || self.share.is_some_and(|share| self.version.turn(host) < share);
        let version = if all || self.hosts.contains(host) || turn() {
            Some(self.version)
        } else {
            self.others
        };
        version.filter(|version| !self.withdrawn.contains(version))
    }

    /// Whether a bundle may be announced after this. (Whether a host takes it that host judges.)
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn may_be_followed_by(&self, version: Version) -> Result<(), Unfit> {
        if self.withdrawn.contains(&version) {
            return Err(Unfit::Withdrawn(version.number));
        }
        for known in [self.version].iter().chain(&self.others).chain(&self.withdrawn) {
            if known.number > version.number {
                return Err(Unfit::Older(known.number));
            }
            if known.number == version.number && *known != version {
                return Err(Unfit::OtherText(known.number));
            }
        }
        Ok(())
    }

    /// What is announced next where a bundle is for these hosts, or for all where none is named: the others are to have what
    /// they were.
    pub fn followed_by(&self, version: Version, hosts: Vec<Name>) -> Self {
        let others = if hosts.is_empty() { None } else { self.settled() };
        let others = others.filter(|others| *others != version);
        Self { hosts, others, withdrawn: self.withdrawn.clone(), ..Self::to_all(version) }
    }

    /// What a host is to have that is told of no wave.
    pub fn settled(&self) -> Option<Version> {
        let all = self.hosts.is_empty() && self.share.is_none();
        if all { Some(self.version) } else { self.others }
    }
}

/// Why a bundle is not announced after another one: hosts would not take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("version {0} was withdrawn, and does not come back: pack this as a later version")]
    Withdrawn(u64),
    #[error("version {0} was offered before, and no host goes back: pack this as a later version")]
    Older(u64),
    #[error(
        "version {0} was offered before with another text: raise the version with every change"
    )]
    OtherText(u64),
}

impl Version {
    /// When it is a host's turn to take this bundle, in thousandths: other hosts are early with each bundle.
    pub fn turn(&self, host: &Name) -> u16 {
        // FNV-1a, which is the same everywhere and needs to hold against nobody.
        let bytes = self.sha256.0.iter().chain(host.as_str().as_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The upper bits are the well mixed ones.
        ((hash >> 32) % 1000) as u16
    }
}

/// A VM as its host knows it. Names are chosen by whoever defines VMs: escape them before they reach a terminal or page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    pub uuid: Uuid,
    pub name: String,
    /// The inventory that lists it.
    pub source: String,
    pub power: String,
    /// `approved`, `pending`, `denied`, `quarantined` or `off`.
    pub status: String,
    pub since: Option<Time>,
    /// `ID` or `ID@VERSION`.
    pub template: Option<String>,
    pub nics: Vec<NicState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicState {
    pub mac: String,
    pub port: Option<String>,
    pub status: Option<String>,
    /// Granted or learned.
    pub addresses: Vec<String>,
}

/// A finding that is open. Titles and evidence may be chosen by guests: escape them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFinding {
    /// As the host names it in commands.
    pub id: String,
    pub kind: String,
    pub severity: Severity,
    pub title: String,
    pub evidence: Vec<(String, String)>,
    pub next: Option<String>,
    pub since: Time,
    /// The VM that it is about, where it is about one.
    pub vm: Option<Uuid>,
    /// Somebody has seen to it, or nobody is to be told of it.
    pub settled: bool,
}

/// Something that has happened to a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingNews {
    /// Names this piece of news: the same however often it is sent.
    pub id: Uuid,
    /// Names the finding from its opening to its end.
    pub alert: Uuid,
    /// `opened`, `changed`, `acknowledged`, `suppressed` or `closed`.
    pub event: String,
    pub at: Time,
    /// As the host names it in commands.
    pub finding: String,
    pub kind: String,
    pub severity: Severity,
    pub title: String,
    pub since: Time,
    /// The VM that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Uuid>,
    pub evidence: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Records of a host's audit in the order of its chain, each as the very text that the chain is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    pub records: Vec<ChainedRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainedRecord {
    pub seq: u64,
    pub hash: String,
    pub line: String,
}

/// What somebody wants of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Names it: a host does the same one once, and answers it as often as it is sent.
    pub id: Uuid,
    /// The person in whose name the monitor asks.
    pub who: String,
    /// As on the host's control socket.
    pub request: Box<RawValue>,
}

/// What a host answers: one of both, each as on its control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<RawValue>>,
}
