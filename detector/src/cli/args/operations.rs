//! Commands for whoever runs many hosts.

use clap::Args;

pub(super) const RELOAD: &str = "\
Examples:
  detector reload
  systemctl reload detector
  detector reload --output json | jq '.kept[].key'

Exits with 1 when the configuration cannot be used, with file and line: nothing has changed then. Exits
with 3 when something of the files is not used, or a key holds from the next start on only.";

pub(super) const HEALTH: &str = "\
Examples:
  detector health
  detector health --output json | jq -r '.degraded[].why'

Exits with 0 when it is healthy, with 3 when something is degraded, and with 1 when the daemon does not
answer.";

pub(super) const READY: &str = "\
Examples:
  detector ready
  detector ready --wait              what detector-ready.service runs, before anything that starts VMs

It looks at the kernel and asks nobody. Exits with 0 when VMs may start, with 3 when they may not yet.";

pub(super) const METRICS: &str = "\
Examples:
  detector metrics
  detector metrics | promtool check metrics

The daemon itself writes them for the textfile collector of node_exporter: metrics.textfile in the
configuration. It serves no port.";

pub(super) const DOCTOR: &str = "\
Examples:
  detector doctor                    before the first start, also without root
  detector doctor --output json | jq '.checks[] | select(.status == \"problem\")'

It changes nothing, and needs no daemon. Exits with 3 when there is something to mend.";

pub(super) const DETACH: &str = "\
Examples:
  detector detach --all              show what would be removed
  detector detach --all --yes        remove it; nothing is guarded any more

The daemon must not run. What another release has left is removed as well, so that this one can start.
Exits with 3 when there is something to remove.";

#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// Everything: there is no other way yet
    #[arg(long, required = true)]
    pub all: bool,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ReadyArgs {
    /// Wait until they may, as long as that takes
    #[arg(long)]
    pub wait: bool,
}
