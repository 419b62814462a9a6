/// A metric: its name and unit, the labels that tell its values apart, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Counters end in `_total`; all others go up and down.
    pub name: &'static str,
    pub labels: &'static [&'static str],
    /// Whether it is known without the daemon too, from the pinned maps.
    pub pinned: bool,
    pub help: &'static str,
}

const fn daemon(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, labels, pinned: false, help }
}

const fn pinned(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, labels, pinned: true, help }
}

/// All metrics, in the order in which they are printed. No label has a value that a guest chooses: ports are
/// the host's interfaces, sources are configured, and the other labels have the values that are listed in
/// docs/metrics.md.
pub const METRICS: &[Metric] = &[
    pinned("detector_up", &[], "Whether the daemon answers."),
    daemon(
        "detector_build_info",
        &["version", "schema"],
        "Release and map schema of the daemon; always 1.",
    ),
    daemon("detector_start_time_seconds", &[], "When the daemon was started, in Unix time."),
    pinned("detector_enforcing", &[], "Whether verdicts are carried out."),
    daemon(
        "detector_mode_provisional",
        &[],
        "Whether the mode ends by itself unless somebody confirms it.",
    ),
    daemon("detector_maintenance", &[], "Whether denials are findings only, for some time."),
    daemon(
        "detector_healthy",
        &[],
        "Whether the detector can do all of its work (detector health).",
    ),
    daemon(
        "detector_config_last_reload_successful",
        &[],
        "Whether the configuration could be used when it was read last.",
    ),
    daemon(
        "detector_config_reloads_total",
        &["result"],
        "Times that the configuration was read again.",
    ),
    daemon("detector_ports", &["status"], "Guest ports by what is in force on them."),
    daemon("detector_vms", &["status"], "VMs of all inventories by the verdict on them."),
    daemon("detector_gates", &["role"], "Bridges and uplinks with a gate."),
    pinned("detector_quarantines", &[], "Quarantines in force."),
    daemon("detector_vms_held", &[], "VMs that fail the policy and keep what they have."),
    daemon(
        "detector_vms_recently_cut_off",
        &[],
        "VMs that verdicts have cut off or stopped within the time that the limit is about.",
    ),
    daemon("detector_templates", &[], "Templates that are registered."),
    daemon("detector_findings", &["kind", "severity"], "Open findings."),
    daemon("detector_source_up", &["source"], "Whether the inventory source answers."),
    daemon("detector_source_vms", &["source"], "VMs that the inventory source lists."),
    daemon(
        "detector_source_rejected_entries",
        &["source"],
        "Entries of the inventory source that were refused.",
    ),
    daemon(
        "detector_kernel_events_total",
        &[],
        "Events of the kernel programs that the daemon has read.",
    ),
    daemon("detector_turns_total", &[], "Turns of the daemon's loop."),
    daemon("detector_turns_seconds_total", &[], "Time that the turns of the daemon's loop took."),
    pinned(
        "detector_port_frames_total",
        &["port", "role", "direction"],
        "Frames that the interface has carried.",
    ),
    pinned(
        "detector_port_refused_frames_total",
        &["port", "role", "direction", "reason"],
        "Frames that were refused, or would be while only observed.",
    ),
    pinned(
        "detector_port_events_lost_total",
        &["port"],
        "Events of the port that the ring buffer had no room for.",
    ),
    pinned(
        "detector_port_events_held_total",
        &["port"],
        "Events of the port that its budget has held back.",
    ),
];
