//! Where what is said, and who may say it: subjects, key-value buckets and streams of one NATS account, which is one
//! fleet.
//!
//! A bucket `B` is the stream `KV_B` over the subjects `$KV.B.>`, as NATS clients have it (ADR-8).

use super::Name;

/// What is offered to hosts: [`ANNOUNCED`], and each bundle by its version.
pub const POLICY: &str = "detector-policy";
/// The state of each host, by its name.
pub const HOSTS: &str = "detector-hosts";
/// The VMs of each host in pages, by its name and the page's number, and its open findings in pages of their own
/// ([`open_page`]).
pub const VMS: &str = "detector-vms";
/// What begins the last token of a page of open findings; one of VMs is a number alone.
const OPEN: &str = "open-";
/// Findings as they open, change and close.
pub const FINDINGS: &str = "detector-findings";
/// Records of the hosts' audits.
pub const AUDIT: &str = "detector-audit";

/// The key of the announcement in [`POLICY`].
pub const ANNOUNCED: &str = "announced";
/// The key of the roll-out in [`POLICY`].
pub const ROLL_OUT: &str = "roll-out";
/// Where every host hears of an announcement at once. Nothing is kept there: who was away asks for [`ANNOUNCED`].
pub const NEWS: &str = "detector.news";

/// The stream that a bucket is.
pub fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key of a bucket.
pub fn key(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The key of a bundle in [`POLICY`].
pub fn bundle(version: u64) -> String {
    format!("bundle.{version}")
}

/// Where a host asks for the last message under a key of [`POLICY`]. Each replica of the stream answers, so that no one
/// server is asked by all hosts; one that is behind does so with what was there before, which a host hears again.
pub fn ask(policy_key: &str) -> String {
    format!("$JS.API.DIRECT.GET.{}.{}", stream_of(POLICY), key(POLICY, policy_key))
}

/// The key of a page of VMs in [`VMS`].
pub fn vm_page(host: &Name, number: u32) -> String {
    format!("{host}.{number}")
}

/// The key of a page of open findings in [`VMS`]: where hosts may speak whose credentials were made before there were any.
pub fn open_page(host: &Name, number: u32) -> String {
    format!("{host}.{OPEN}{number}")
}

/// What is under a subject of [`VMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paged {
    Vms(u32),
    Open(u32),
}

/// Whose page is under a subject of [`VMS`], and which.
pub fn paged(subject: &str) -> Option<(&str, Paged)> {
    let mut tokens = subject.rsplit('.');
    let (page, host) = (tokens.next()?, tokens.next()?);
    let paged = match page.strip_prefix(OPEN) {
        Some(number) => Paged::Open(number.parse().ok()?),
        None => Paged::Vms(page.parse().ok()?),
    };
    Some((host, paged))
}

pub fn finding(host: &Name) -> String {
    format!("detector.finding.{host}")
}

pub fn audit(host: &Name) -> String {
    format!("detector.audit.{host}")
}

/// Where a host takes commands of a monitor, by request and reply. No other monitor may speak there, so that the subject
/// says who asks.
pub fn command(host: &Name, monitor: &Name) -> String {
    format!("detector.command.{host}.{monitor}")
}

/// Where a host listens to all of them.
pub fn commands(host: &Name) -> String {
    format!("detector.command.{host}.*")
}

/// Which monitor asks, if it is one whose answer goes to where that monitor alone listens.
pub fn asker(subject: &str, reply: &str) -> Option<Name> {
    let (_, name) = subject.rsplit_once('.')?;
    let monitor = name.parse().ok()?;
    let inbox = Holder::Monitor(Name::clone(&monitor)).inbox();
    let behind = reply.strip_prefix(&inbox)?.strip_prefix('.')?;
    (!behind.is_empty()).then_some(monitor)
}

/// What a bucket or stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: &'static str,
    /// Of a stream; a bucket has its own.
    pub subjects: Option<&'static str>,
    /// Messages that are kept under one subject. So whoever speaks too much pushes out what they said themselves.
    pub each: i64,
    /// Bytes of a message.
    pub longest: i32,
    /// For how many days; 0 for ever.
    pub days: u64,
    /// How much all of it may be on the disk, in bytes: no place takes the room of another.
    pub bytes: i64,
    /// What makes room where that is full: what was said first, or else nothing new is taken.
    pub gives_way: bool,
}

/// Every place that is kept.
pub const PLACES: [Place; 5] = [
    // Who comes later asks for what was offered long ago.
    Place {
        name: POLICY,
        subjects: None,
        each: 1,
        longest: LONGEST,
        days: 0,
        bytes: GIB,
        gives_way: true,
    },
    Place {
        name: HOSTS,
        subjects: None,
        each: 1,
        longest: LONGEST_STATE,
        days: STATE_DAYS,
        bytes: GIB,
        gives_way: false,
    },
    Place {
        name: VMS,
        subjects: None,
        each: 1,
        longest: LONGEST_STATE,
        days: STATE_DAYS,
        bytes: 2 * GIB,
        gives_way: false,
    },
    Place {
        name: FINDINGS,
        subjects: Some("detector.finding.*"),
        each: 10_000,
        longest: LONGEST_STATE,
        days: 30,
        bytes: 4 * GIB,
        gives_way: true,
    },
    Place {
        name: AUDIT,
        subjects: Some("detector.audit.*"),
        each: 100_000,
        longest: LONGEST_STATE,
        days: 30,
        bytes: 8 * GIB,
        gives_way: true,
    },
];

/// NATS takes messages of up to 1 MiB where nobody says otherwise; headers count.
const LONGEST: i32 = 1_000_000;
const LONGEST_STATE: i32 = 256 << 10;
const GIB: i64 = 1 << 30;
/// For how long the state of a host is kept that says nothing more. A host says all of it anew well within.
const STATE_DAYS: u64 = 7;

/// For whom credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Host(Name),
    /// Sees all, offers bundles and sends commands.
    Monitor(Name),
    /// Makes buckets and streams, and offers bundles; for people, and for no program that runs all the time.
    Steward,
}

/// What whoever holds credentials may do; all else is refused by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    /// May answer what comes to it, so many seconds long: once for each message.
    pub answers_for: Option<u64>,
}

impl Holder {
    /// The prefix of the subjects by which answers come. Nobody else may listen there.
    pub fn inbox(&self) -> String {
        match self {
            Self::Host(name) => format!("_INBOX.host.{name}"),
            Self::Monitor(name) => format!("_INBOX.monitor.{name}"),
            Self::Steward => "_INBOX.steward".to_owned(),
        }
    }

    /// As a server and its logs show it.
    pub fn title(&self) -> String {
        match self {
            Self::Host(name) => format!("host {name}"),
            Self::Monitor(name) => format!("monitor {name}"),
            Self::Steward => "steward".to_owned(),
        }
    }

    pub fn permissions(&self) -> Permissions {
        let inbox = format!("{}.>", self.inbox());
        let own = |text: &str| text.to_owned();
        match self {
            Self::Host(name) => Permissions {
                publish: vec![
                    key(HOSTS, name.as_str()),
                    key(VMS, &format!("{name}.*")),
                    finding(name),
                    audit(name),
                    ask(">"),
                ],
                subscribe: vec![inbox, commands(name), own(NEWS)],
                answers_for: Some(60),
            },
            Self::Monitor(name) => Permissions {
                publish: [
                    format!("detector.command.*.{name}"),
                    own("$JS.API.INFO"),
                    own("$JS.API.STREAM.INFO.*"),
                    own("$JS.API.STREAM.MSG.GET.*"),
                    own("$JS.API.DIRECT.GET.>"),
                    own("$JS.API.CONSUMER.>"),
                    own("$JS.ACK.>"),
                    own("$JS.FC.>"),
                ]
                .into(),
                subscribe: vec![inbox, own(NEWS)],
                answers_for: None,
            },
            Self::Steward => Permissions {
                publish: vec![own("$JS.API.>"), own("$JS.FC.>"), key(POLICY, ">"), own(NEWS)],
                subscribe: vec![inbox],
                answers_for: None,
            },
        }
    }
}
