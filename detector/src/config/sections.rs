use std::{net::IpAddr, path::PathBuf, time::Duration};

use detector_common::{
    addr::Mac,
    quarantine::QuarantineMode,
    settings::Mode,
    stamp::{Carrier, Stamp},
};
use detector_core::model::{AddressRule, Digest, EvidenceLevel, FloodLimits, Revoked};
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    Alerts, AuditKeys, FleetKeys, Learning, Libvirt, MitigationKeys, RemediationKeys, Roles,
    Sandbox, text::duration,
};

/// The configuration of a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// SHA-256 of the text of the file, where it was read from one.
    #[serde(skip)]
    pub text: Option<Digest>,
    #[serde(with = "ModeText")]
    pub mode: Mode,
    /// The user that everything runs as which needs no privileges.
    pub user: Option<String>,
    /// The section `[[modes]]`.
    pub modes: Vec<ModeKeys>,
    pub paths: Paths,
    pub network: Network,
    pub libvirt: Libvirt,
    pub policy: PolicyKeys,
    pub admission: Admission,
    pub scan: Scan,
    pub flood: Flood,
    pub sandbox: Sandbox,
    /// The bits by which a frame shows that a guard has vetted it.
    #[serde(deserialize_with = "stamp")]
    pub stamp: Stamp,
    pub api: Api,
    pub roles: Roles,
    pub learning: Learning,
    pub registry: RegistryKeys,
    pub alerts: Alerts,
    pub metrics: Metrics,
    pub audit: AuditKeys,
    pub mitigation: MitigationKeys,
    pub remediation: RemediationKeys,
    pub fleet: FleetKeys,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            text: None,
            mode: Mode::Observe,
            user: None,
            modes: Vec::new(),
            paths: Paths::default(),
            network: Network::default(),
            libvirt: Libvirt::default(),
            policy: PolicyKeys::default(),
            admission: Admission::default(),
            scan: Scan::default(),
            flood: Flood::default(),
            sandbox: Sandbox::default(),
            stamp: Stamp::default(),
            api: Api::default(),
            roles: Roles::default(),
            learning: Learning::default(),
            registry: RegistryKeys::default(),
            alerts: Alerts::default(),
            metrics: Metrics::default(),
            audit: AuditKeys::default(),
            mitigation: MitigationKeys::default(),
            remediation: RemediationKeys::default(),
            fleet: FleetKeys::default(),
        }
    }
}

/// The mode of bridges or of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeKeys {
    /// A pattern of bridges, or …
    pub bridge: Option<String>,
    /// … name or UUID of a VM.
    pub vm: Option<String>,
    #[serde(with = "ModeText")]
    pub mode: Mode,
}

/// Where things are; all absolute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Directory on a bpffs; the daemon appends the schema version.
    pub pins: PathBuf,
    pub state: PathBuf,
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// Directory of template manifests.
    pub templates: PathBuf,
    /// The static inventory; there is none when the file is absent.
    pub inventory: PathBuf,
    /// The policy; the built-in one when the file is absent.
    pub policy: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            pins: "/sys/fs/bpf/detector".into(),
            state: "/var/lib/detector".into(),
            socket: "/run/detector/detector.sock".into(),
            templates: "/etc/detector/templates.d".into(),
            inventory: "/etc/detector/inventory.toml".into(),
            policy: "/etc/detector/policy.cedar".into(),
        }
    }
}

/// Patterns of interface names: `*` and `?` stand for any characters and any one, a leading `!`
/// excludes; the last pattern that matches settles it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    pub bridges: Vec<String>,
    pub uplinks: Vec<String>,
    pub trusted: Vec<String>,
    /// Addresses that no port may learn, besides the host's own.
    pub protected: Vec<IpAddr>,
    /// Devices with macvtaps out of which only known senders speak.
    pub closed_devices: Vec<String>,
    /// Those that the host does not know by its own devices.
    #[serde(deserialize_with = "senders")]
    pub known_senders: Vec<Mac>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            bridges: vec!["*".to_owned()],
            uplinks: Vec::new(),
            trusted: Vec::new(),
            protected: Vec::new(),
            closed_devices: Vec::new(),
            known_senders: Vec::new(),
        }
    }
}

fn senders<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Mac>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let read = |text: &String| {
        let mac = text.parse::<Mac>().ok().filter(|mac| !mac.is_group() && *mac != Mac::ZERO);
        let expected = "expected a sender's, such as \"02:42:ac:11:00:02\"";
        mac.ok_or_else(|| D::Error::custom(format!("{text:?} is no station's MAC; {expected}")))
    };
    texts.iter().map(read).collect()
}

/// The section `policy`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyKeys {
    pub evidence: EvidenceLevel,
    pub default_rule: AddressRule,
    /// At most a day.
    #[serde(deserialize_with = "duration")]
    pub unknown_port_grace: Duration,
    /// The mode of quarantines.
    #[serde(with = "QuarantineText")]
    pub quarantine: QuarantineMode,
    /// What a revocation does to VMs in force.
    pub revoked: Revoked,
    /// At most 30 days.
    #[serde(deserialize_with = "duration")]
    pub revoked_grace: Duration,
}

impl Default for PolicyKeys {
    fn default() -> Self {
        Self {
            evidence: EvidenceLevel::Digest,
            default_rule: AddressRule::Any,
            unknown_port_grace: Duration::from_secs(1),
            quarantine: QuarantineMode::Drop,
            revoked: Revoked::Quarantine,
            revoked_grace: Duration::ZERO,
        }
    }
}

/// What the hook that libvirt runs at the start of a VM does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// How long it waits for a verdict: more than zero, at most ten minutes.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    pub on_timeout: OnRefusal,
    pub denied: OnRefusal,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            on_timeout: OnRefusal::Mute,
            denied: OnRefusal::Mute,
        }
    }
}

/// From when on a port floods.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// Refused frames a second at which a flood begins.
    pub above: u64,
    /// For how long they have to come; at most an hour.
    #[serde(deserialize_with = "duration")]
    pub after: Duration,
    /// Refused frames a second below which it ends; at most `above`.
    pub below: u64,
    /// For how long there have to be so few; at most an hour.
    #[serde(deserialize_with = "duration")]
    pub calm: Duration,
}

impl Default for Flood {
    fn default() -> Self {
        let FloodLimits { above, after, below, calm } = FloodLimits::DEFAULT;
        Self { above, after, below, calm }
    }
}

/// What becomes of the start of a VM that has not been approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefusal {
    /// It starts, and its ports neither send nor receive.
    Mute,
    /// It does not start.
    Refuse,
}

/// How the host's processes are looked through for VMs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scan {
    /// Zero for no scan; otherwise at least 100 milliseconds and at most an hour.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// How long a process may be there that no inventory knows; at most a day.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// Directories in which managers record the process of each VM, as `NAME.pid`.
    pub records: Vec<PathBuf>,
    /// Programs that hold taps or devices of VMs and are none.
    pub ignored: Vec<PathBuf>,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            grace: Duration::from_secs(3),
            records: ["qemu", "lxc", "ch"].map(|d| format!("/run/libvirt/{d}").into()).to_vec(),
            ignored: Vec::new(),
        }
    }
}

/// The mask and value that stand for "not configured" depend on the carrier, which has 32 or 16
/// bits.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StampKeys {
    #[serde(with = "CarrierText")]
    carrier: Carrier,
    mask: Option<u32>,
    value: Option<u32>,
}

impl Default for StampKeys {
    fn default() -> Self {
        Self { carrier: Carrier::Mark, mask: None, value: None }
    }
}

fn stamp<'de, D: Deserializer<'de>>(from: D) -> Result<Stamp, D::Error> {
    let StampKeys { carrier, mask, value } = StampKeys::deserialize(from)?;
    let default = match carrier {
        Carrier::Mark => Stamp::DEFAULT,
        Carrier::TcIndex => Stamp::IN_TC_INDEX,
    };
    Ok(Stamp { carrier, mask: mask.unwrap_or(default.mask), value: value.unwrap_or(default.value) })
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// A group whose members may use the socket besides root.
    pub group: Option<String>,
}

/// The section `registry`: whose manifests are taken, and what is read of images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryKeys {
    /// Public keys of minisign.
    pub trusted_keys: Vec<String>,
    pub require_signature: bool,
    /// Directories in which a backing file may lie, besides that of the image that names it.
    pub image_dirs: Vec<PathBuf>,
}

impl Default for RegistryKeys {
    fn default() -> Self {
        Self {
            trusted_keys: Vec::new(),
            require_signature: false,
            image_dirs: vec!["/var/lib/libvirt/images".into()],
        }
    }
}

/// Where metrics are written to, for an exporter that reads files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A file that ends in `.prom`; none is written when the key is absent.
    pub textfile: Option<PathBuf>,
    /// How often; a second to an hour.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { textfile: None, interval: Duration::from_secs(15) }
    }
}

#[derive(Deserialize)]
#[serde(remote = "Mode", rename_all = "kebab-case")]
enum ModeText {
    Observe,
    Enforce,
}

#[derive(Deserialize)]
#[serde(remote = "QuarantineMode", rename_all = "kebab-case")]
enum QuarantineText {
    Drop,
    Sandbox,
}

#[derive(Deserialize)]
#[serde(remote = "Carrier", rename_all = "kebab-case")]
enum CarrierText {
    Mark,
    TcIndex,
}
