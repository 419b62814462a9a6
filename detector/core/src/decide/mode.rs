//! Which mode the host should be in, and what follows for quarantines.

use std::collections::BTreeMap;

use detector_common::settings::{Cause, Mode};
use wildmatch::WildMatch;

use super::quarantines::DAEMON;
use crate::model::{
    Deed, Link, LinkKind, ModeRecord, ModeRule, ModeScope, Quarantine, QuarantineTarget, Vm, World,
};

impl World {
    /// The mode that holds, or is about to.
    pub fn mode(&self) -> Mode {
        match (&self.asked, &self.observed.mode) {
            (Some(asked), _) => asked.mode,
            (None, Some(observed)) => observed.effective(),
            (None, None) => self.policy.mode,
        }
    }

    /// Whether enforcing is provisional.
    pub fn is_on_trial(&self) -> bool {
        match (&self.asked, &self.observed.mode) {
            (Some(asked), _) => asked.mode == Mode::Enforce && asked.until.is_some(),
            (None, Some(observed)) => {
                observed.effective() == Mode::Enforce && observed.is_provisional()
            }
            (None, None) => false,
        }
    }

    /// Whether denials are findings only.
    pub fn is_under_maintenance(&self) -> bool {
        match &self.asked {
            Some(asked) => asked.maintenance.is_some(),
            None => self.observed.mode.as_ref().is_some_and(|mode| mode.maintenance.is_some()),
        }
    }
}

/// The modes of bridges and VMs. Where they contradict each other the stricter one holds.
impl World {
    /// The mode of an interface of this bridge, which these VMs speak through.
    pub(super) fn mode_on<'a>(
        &self,
        bridge: Option<&str>,
        vms: impl IntoIterator<Item = &'a Vm>,
    ) -> Mode {
        match self.mode() {
            Mode::Observe => Mode::Observe,
            Mode::Enforce => self.local(bridge, vms),
        }
    }

    /// The mode of a VM: that of its strictest port.
    pub fn mode_of(&self, vm: &Vm) -> Mode {
        if self.is_observed(vm) { Mode::Observe } else { self.mode() }
    }

    /// Whether a VM is observed also where the host enforces, on all its ports.
    pub fn is_observed(&self, vm: &Vm) -> bool {
        if self.policy.modes.is_empty() {
            return false;
        }
        let guarded = |name: &str| {
            let link = self.links.values().find(|link| link.name == name)?;
            self.observed.interfaces.contains_key(&link.ifindex).then_some(link)
        };
        let ports = vm.nics.iter().filter_map(|nic| guarded(nic.port.as_deref()?));
        let modes: Vec<_> = ports.map(|link| self.local(self.bridge_of(link), [vm])).collect();
        if modes.is_empty() {
            // On which bridge it will speak is not known yet, and until then it is mute.
            return !self.said(None, [vm]).contains(&Mode::Enforce);
        }
        !modes.contains(&Mode::Enforce)
    }

    /// The bridge, or the datapath of Open vSwitch, that an interface belongs to, be it as its port.
    pub(super) fn bridge_of<'a>(&'a self, link: &'a Link) -> Option<&'a str> {
        let bridge = match link.master {
            Some(master) => self.links.get(&master)?,
            None => link,
        };
        let switches = matches!(bridge.kind, LinkKind::Bridge | LinkKind::OpenVSwitch);
        switches.then_some(bridge.name.as_str())
    }

    /// What is said of bridge and VMs, and nothing of the host.
    pub(super) fn local<'a>(
        &self,
        bridge: Option<&str>,
        vms: impl IntoIterator<Item = &'a Vm>,
    ) -> Mode {
        let said = self.said(bridge, vms);
        let observed = !said.is_empty() && !said.contains(&Mode::Enforce);
        if observed { Mode::Observe } else { Mode::Enforce }
    }

    /// Each word that is about the bridge or one of the VMs.
    fn said<'a>(&self, bridge: Option<&str>, vms: impl IntoIterator<Item = &'a Vm>) -> Vec<Mode> {
        let rules = &self.policy.modes;
        if rules.is_empty() {
            return Vec::new();
        }
        let vms: Vec<_> = vms.into_iter().collect();
        let is_about = |rule: &&ModeRule| match &rule.of {
            ModeScope::Bridge(pattern) => {
                bridge.is_some_and(|bridge| WildMatch::new(pattern).matches(bridge))
            }
            ModeScope::Vm(name) => {
                vms.iter().any(|vm| vm.name == *name || name.parse() == Ok(vm.uuid))
            }
        };
        rules.iter().filter(is_about).map(|rule| rule.mode).collect()
    }
}

/// What should be pinned. A provisional mode that is over has become the other one by itself: that is written
/// down, so that it stays known without a clock.
pub(super) fn wanted(world: &World) -> ModeRecord {
    if let Some(asked) = &world.asked {
        return asked.clone();
    }
    let Some(observed) = &world.observed.mode else {
        let deed = Deed::new(world.now, DAEMON, Cause::Configured, "");
        return ModeRecord::confirmed(world.policy.mode, deed);
    };
    let mut record = observed.record.clone();
    if observed.maintenance.is_none() {
        record.maintenance = None;
    }
    if observed.lapsed {
        record.mode = observed.effective();
        record.until = None;
        let since = observed.until.unwrap_or(record.deed.since);
        record.deed = Deed { cause: Cause::Lapsed, since, ..record.deed };
    }
    record
}

/// What becomes of quarantines that were imposed while enforcing was provisional: confirmed with it, or lifted
/// with it. A person's are none of them.
pub(super) fn settle(quarantines: &mut BTreeMap<QuarantineTarget, Quarantine>, world: &World) {
    match world.mode() {
        Mode::Enforce if world.is_on_trial() => {}
        Mode::Enforce => quarantines.values_mut().for_each(|one| one.provisional = false),
        Mode::Observe => quarantines.retain(|_, one| !one.provisional),
    }
}
