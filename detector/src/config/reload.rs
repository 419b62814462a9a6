//! What of a configuration can change while the daemon runs.

use super::Config;

pub use detector_core::api::view::Kept;

/// What becomes of a key whose value has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It holds from the reload on.
    Live,
    /// It holds from the next start on, for this reason.
    AtStart(&'static str),
    /// It is not looked at any more, for this reason.
    Never(&'static str),
}

struct Key {
    name: &'static str,
    fate: Fate,
    differs: fn(&Config, &Config) -> bool,
    take: fn(&mut Config, &Config),
}

macro_rules! keys {
    ($($fate:expr => $($($part:ident).+),+;)*) => {
        &[$($(Key {
            name: stringify!($($part).+),
            fate: $fate,
            differs: |a, b| a.$($part).+ != b.$($part).+,
            take: |running, wanted| running.$($part).+.clone_from(&wanted.$($part).+),
        },)+)*]
    };
}

/// Every key of the configuration. A path says which daemon it is.
const KEYS: &[Key] = keys! {
    Fate::Live =>
        modes, network.bridges, network.uplinks, network.trusted, network.protected,
        network.closed_devices, network.known_senders,
        policy.default_rule, policy.unknown_port_grace, policy.quarantine, policy.revoked,
        policy.revoked_grace, learning.adopt, learning.adopt_for, admission.on_timeout,
        admission.denied, flood.above, flood.after, flood.below, flood.calm, sandbox.bridge, sandbox.create,
        sandbox.rule, sandbox.addresses, sandbox.protected, sandbox.services,
        mitigation.guard, mitigation.max_vms, mitigation.max_percent, mitigation.window,
        registry.trusted_keys, registry.require_signature, metrics.textfile, metrics.interval,
        alerts.outbox_mib, alerts.overdue, alerts.timeout, alerts.journald, alerts.file, alerts.syslog,
        alerts.webhook, alerts.alertmanager, alerts.email;
    Fate::AtStart("it counts from the start on") => alerts.settle;
    Fate::Never("the mode is changed with `detector enforce` and `detector observe`") => mode;
    Fate::AtStart("whoever has become a user stays it") => user;
    Fate::AtStart("it says which daemon this is") =>
        paths.pins, paths.state, paths.socket, paths.templates, paths.inventory, paths.policy;
    Fate::AtStart("connections are made at the start") =>
        libvirt.uri, libvirt.uris, libvirt.metadata, libvirt.metadata_of, libvirt.guest_agents;
    Fate::AtStart("evidence that has been read is of the old kind") => policy.evidence;
    Fate::AtStart("libvirt's connections wait accordingly") => admission.timeout;
    Fate::AtStart("the scan has begun with it") =>
        scan.interval, scan.grace, scan.records, scan.ignored;
    Fate::AtStart("who keeps VMs from running on has begun with it") => mitigation.unknown_processes;
    Fate::AtStart("files are followed from the start on") => learning.leases;
    Fate::AtStart("images are opened within it") => registry.image_dirs;
    Fate::AtStart("the programs are loaded with it") => stamp;
    Fate::AtStart("the socket is made with it") =>
        api.group, roles.view, roles.operate, roles.administer;
    Fate::AtStart("remediations are begun by it") => remediation.approvals;
    Fate::AtStart("the audit is opened with it") => audit.retention, audit.max_megabytes;
    Fate::AtStart("VMs are remediated as it says from the start on") =>
        remediation.pool, remediation.shutdown_grace, remediation.force, remediation.contain,
        remediation.replacement_pool, remediation.cloning, remediation.provisioners;
    Fate::AtStart("who speaks to the fleet has begun with it") =>
        fleet.servers, fleet.name, fleet.host, fleet.credentials, fleet.authority, fleet.trusted_keys,
        fleet.role, fleet.interval;
};

/// What a reload changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What holds from now on.
    pub next: Config,
    /// The keys that hold a new value.
    pub changed: Vec<&'static str>,
    pub kept: Vec<Kept>,
}

/// Compares what holds with what is wanted. What cannot change stays as it is.
pub fn plan(running: &Config, wanted: &Config) -> Plan {
    let mut plan = Plan { next: running.clone(), changed: Vec::new(), kept: Vec::new() };
    for key in KEYS.iter().filter(|key| (key.differs)(running, wanted)) {
        let mut keep = |restart, why: &str| {
            plan.kept.push(Kept { key: key.name.to_owned(), restart, why: why.to_owned() });
        };
        match key.fate {
            Fate::Live => {
                (key.take)(&mut plan.next, wanted);
                plan.changed.push(key.name);
            }
            Fate::AtStart(why) => keep(true, why),
            Fate::Never(why) => keep(false, why),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EXAMPLE;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("c.toml")).unwrap()
    }

    /// The keys of the example, as the table names them.
    fn documented() -> Vec<String> {
        let mut section = String::new();
        let mut found = Vec::new();
        for line in EXAMPLE.lines().map(|line| line.trim_start_matches('#')) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, _)) = line.split_once(" = ")
                && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                found.push(match section.as_str() {
                    "" => key.to_owned(),
                    // These stand for one key: the table is taken as a whole.
                    "modes" | "stamp" => section.clone(),
                    section => format!("{section}.{key}"),
                });
            }
        }
        // Receivers are sections, of which it has none.
        let named = EXAMPLE.split("[[").skip(1).filter_map(|rest| rest.split_once("]]"));
        found.extend(named.map(|(name, _)| name.to_owned()));
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn every_key_has_its_fate() {
        let mut named: Vec<_> = KEYS.iter().map(|key| key.name.replace(' ', "")).collect();
        named.sort();
        assert_eq!(named, documented());
    }

    #[test]
    fn what_can_change_does_and_what_cannot_is_named_and_stays() {
        let running = parse("[network]\nuplinks = [\"eth0\"]\n[paths]\nstate = \"/s\"");
        let wanted = parse(
            "mode = \"enforce\"\n[network]\nuplinks = [\"eth1\"]\n[paths]\nstate = \"/t\"\n\
             [flood]\nabove = 5000\n[stamp]\ncarrier = \"tc-index\"",
        );
        let plan = plan(&running, &wanted);
        assert_eq!(plan.changed, ["network.uplinks", "flood.above"]);
        let kept: Vec<_> = plan.kept.iter().map(|k| (k.key.as_str(), k.restart)).collect();
        assert_eq!(kept, [("mode", false), ("paths.state", true), ("stamp", true)]);
        let mut expect = running.clone();
        expect.network.uplinks = vec!["eth1".to_owned()];
        expect.flood.above = 5000;
        assert_eq!(plan.next, expect);
        assert_eq!(super::plan(&plan.next, &plan.next).next, plan.next);
    }
}
