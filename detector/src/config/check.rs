mod sandbox;

use std::{os::unix::ffi::OsStrExt, path::Path, time::Duration};

use detector_common::stamp::Stamp;

use super::{Config, Flood, Libvirt, Metrics, RemediationKeys, Scan, alerts, fleet, roles};
use crate::registry::Trust;

/// What is wrong with a configuration, and with which key of it.
pub(super) struct Complaint {
    pub(super) key: &'static [&'static str],
    pub(super) message: String,
}

pub(super) type Checked = Result<(), Complaint>;

/// `IFNAMSIZ` less its terminator.
const MAX_INTERFACE_NAME: usize = 15;

/// `sun_path` of `unix(7)` less its terminator.
const MAX_SOCKET_PATH: usize = 107;

/// Each has two threads of its own, or three.
const MAX_CONNECTIONS: usize = 16;

const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_REVOKED_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MIN_SCAN: Duration = Duration::from_millis(100);
const MAX_SCAN: Duration = Duration::from_secs(60 * 60);
const MAX_FLOOD: Duration = Duration::from_secs(60 * 60);
const MIN_ADOPTED: Duration = Duration::from_secs(60);
const MAX_ADOPTED: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_ADMISSION: Duration = Duration::from_secs(10 * 60);
const MIN_METRICS: Duration = Duration::from_secs(1);
const MAX_METRICS: Duration = Duration::from_secs(60 * 60);

/// Checks what the types do not say.
pub(super) fn check(config: &Config) -> Checked {
    let paths = &config.paths;
    absolute(&["paths", "pins"], &paths.pins)?;
    absolute(&["paths", "state"], &paths.state)?;
    absolute(&["paths", "socket"], &paths.socket)?;
    absolute(&["paths", "templates"], &paths.templates)?;
    absolute(&["paths", "inventory"], &paths.inventory)?;
    absolute(&["paths", "policy"], &paths.policy)?;
    ensure(
        paths.socket.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH,
        &["paths", "socket"],
        || {
            format!(
                "the path is too long for a Unix socket; expected at most {MAX_SOCKET_PATH} bytes"
            )
        },
    )?;
    for path in &config.learning.leases {
        absolute(&["learning", "leases"], path)?;
    }
    ensure(
        (MIN_ADOPTED..=MAX_ADOPTED).contains(&config.learning.adopt_for),
        &["learning", "adopt_for"],
        || "expected \"1m\" to \"7days\"; to adopt nothing, set adopt = []".to_owned(),
    )?;
    for path in &config.registry.image_dirs {
        absolute(&["registry", "image_dirs"], path)?;
    }
    for keys in &config.modes {
        ensure(keys.bridge.is_some() != keys.vm.is_some(), &["modes"], || {
            "expected either bridge = \"PATTERN\" or vm = \"NAME\" in each [[modes]]".to_owned()
        })?;
        let bridge: Vec<_> = keys.bridge.clone().into_iter().collect();
        patterns(&["modes"], &bridge)?;
        ensure(!bridge.iter().any(|pattern| pattern.starts_with('!')), &["modes"], || {
            "a pattern here does not exclude: name the bridges that are meant".to_owned()
        })?;
    }
    patterns(&["network", "bridges"], &config.network.bridges)?;
    patterns(&["network", "uplinks"], &config.network.uplinks)?;
    patterns(&["network", "trusted"], &config.network.trusted)?;
    patterns(&["network", "closed_devices"], &config.network.closed_devices)?;
    libvirt(&config.libvirt)?;
    config.audit.check()?;
    remediation(config)?;
    config.remediation.check()?;
    config.mitigation.check()?;
    ensure(
        config.policy.unknown_port_grace <= MAX_GRACE,
        &["policy", "unknown_port_grace"],
        || "expected at most one day (\"1day\")".to_owned(),
    )?;
    ensure(config.policy.revoked_grace <= MAX_REVOKED_GRACE, &["policy", "revoked_grace"], || {
        "expected at most 30 days (\"30days\")".to_owned()
    })?;
    ensure(
        !config.admission.timeout.is_zero() && config.admission.timeout <= MAX_ADMISSION,
        &["admission", "timeout"],
        || "expected more than zero and at most ten minutes (\"10m\")".to_owned(),
    )?;
    let registry = &config.registry;
    Trust::new(&registry.trusted_keys, registry.require_signature)
        .map_err(|message| Complaint { key: &["registry", "trusted_keys"], message })?;
    ensure(
        !registry.require_signature || !registry.trusted_keys.is_empty(),
        &["registry", "require_signature"],
        || {
            "nobody's signature counts; expected registry.trusted_keys with at least one key"
                .to_owned()
        },
    )?;
    scan(&config.scan)?;
    flood(&config.flood)?;
    sandbox::check(config)?;
    alerts::check(&config.alerts)?;
    metrics(&config.metrics)?;
    stamp(config.stamp)?;
    roles::check(&config.roles)?;
    fleet::check(&config.fleet)?;
    ensure(config.api.group.as_deref() != Some(""), &["api", "group"], || {
        "expected the name of a group; leave the key out for root alone".to_owned()
    })
}

fn libvirt(libvirt: &Libvirt) -> Checked {
    const URIS: &[&str] = &["libvirt", "uris"];
    let Libvirt { uri, uris, metadata_of, .. } = libvirt;
    if !uri.is_empty() {
        connection(&["libvirt", "uri"], uri)?;
    }
    uris.iter().try_for_each(|uri| connection(URIS, uri))?;
    ensure(uris.len() <= MAX_CONNECTIONS, URIS, || {
        format!("{} connections; expected at most {MAX_CONNECTIONS}", uris.len())
    })?;
    let twice = uris.iter().enumerate().find(|(place, uri)| uris[..*place].contains(uri));
    ensure(twice.is_none(), URIS, || {
        "a connection is listed twice; expected each once".to_owned()
    })?;
    let stranger = metadata_of.keys().find(|uri| !libvirt.uris().contains(uri));
    ensure(stranger.is_none(), &["libvirt", "metadata_of"], || {
        format!("there is no connection {stranger:?}; expected one of {:?}", libvirt.uris())
    })?;
    ensure(
        uris.is_empty() || uri.is_empty() || uri == Libvirt::URI || uris.contains(uri),
        &["libvirt", "uri"],
        || {
            "there are `uris` too, which stand in its place; expected it among them, or one of the two keys"
            .to_owned()
        },
    )
}

fn connection(key: &'static [&'static str], uri: &str) -> Checked {
    ensure(uri.contains("://"), key, || {
        format!(
            "{uri:?} is no connection URI; expected one such as \"qemu:///system\", or uri = \"\" for no libvirt"
        )
    })?;
    ensure(!uri.contains('\0'), key, || "a connection URI has no NUL character in it".to_owned())
}

fn scan(scan: &Scan) -> Checked {
    let Scan { interval, grace, records, ignored } = scan;
    ensure(
        interval.is_zero() || (*interval >= MIN_SCAN && *interval <= MAX_SCAN),
        &["scan", "interval"],
        || "expected \"100ms\" to \"1h\", or \"0s\" for no scan".to_owned(),
    )?;
    ensure(*grace <= MAX_GRACE, &["scan", "grace"], || {
        "expected at most one day (\"1day\")".to_owned()
    })?;
    records.iter().try_for_each(|path| absolute(&["scan", "records"], path))?;
    ignored.iter().try_for_each(|path| absolute(&["scan", "ignored"], path))
}

fn flood(flood: &Flood) -> Checked {
    ensure(flood.above > 0, &["flood", "above"], || {
        "expected at least 1 frame a second, or every port floods".to_owned()
    })?;
    ensure(flood.below > 0 && flood.below <= flood.above, &["flood", "below"], || {
        format!("expected 1 to {} frames a second, which is flood.above", flood.above)
    })?;
    for (key, span) in
        [(&["flood", "after"] as &[_], flood.after), (&["flood", "calm"], flood.calm)]
    {
        ensure(span <= MAX_FLOOD, key, || "expected at most one hour (\"1h\")".to_owned())?;
    }
    Ok(())
}

fn metrics(metrics: &Metrics) -> Checked {
    const TEXTFILE: &[&str] = &["metrics", "textfile"];
    if let Some(path) = &metrics.textfile {
        absolute(TEXTFILE, path)?;
        let is_read = path.extension().is_some_and(|extension| extension == "prom");
        ensure(is_read, TEXTFILE, || {
            format!("{path:?} is read by nobody; expected a name that ends in .prom")
        })?;
    }
    let interval = (MIN_METRICS..=MAX_METRICS).contains(&metrics.interval);
    ensure(interval, &["metrics", "interval"], || "expected \"1s\" to \"1h\"".to_owned())
}

fn stamp(stamp: Stamp) -> Checked {
    stamp.check().map_err(|error| Complaint {
        key: if error.is_in_mask() { &["stamp", "mask"] } else { &["stamp", "value"] },
        message: error.to_string(),
    })
}

pub(super) fn absolute(key: &'static [&'static str], path: &Path) -> Checked {
    ensure(path.is_absolute(), key, || {
        format!(
            "{path:?} depends on where the daemon is started; expected a path that begins with /"
        )
    })
}

fn patterns(key: &'static [&'static str], patterns: &[String]) -> Checked {
    for pattern in patterns {
        let name = pattern.strip_prefix('!').unwrap_or(pattern);
        let literal = name.bytes().filter(|byte| *byte != b'*').count();
        let nameable =
            |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':' | '!');
        ensure(!name.is_empty() && name.chars().all(nameable), key, || {
            format!(
                "{pattern:?} matches no interface name; expected a pattern such as \"br*\" or \"!virbr0\""
            )
        })?;
        ensure(literal <= MAX_INTERFACE_NAME, key, || {
            format!(
                "{pattern:?} matches no interface name, which has at most {MAX_INTERFACE_NAME} bytes"
            )
        })?;
    }
    Ok(())
}

pub(super) fn ensure(
    holds: bool,
    key: &'static [&'static str],
    message: impl FnOnce() -> String,
) -> Checked {
    if holds { Ok(()) } else { Err(Complaint { key, message: message() }) }
}

fn remediation(config: &Config) -> Checked {
    let (approvals, most) = (config.remediation.approvals, RemediationKeys::MOST_APPROVALS);
    ensure((1..=most).contains(&approvals), &["remediation", "approvals"], || {
        format!("{approvals} is no number of people who approve; expected 1 to {most}")
    })
}
