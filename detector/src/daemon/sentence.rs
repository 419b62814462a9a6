//! The daemon in one sentence, for whoever looks at the service.

use detector_common::port::flags;
use detector_core::model::{Health, ObservedMode};

use super::brain::Brain;
use crate::enforcer::Enforcer;

impl<E: Enforcer> Brain<E> {
    /// What it does, and what needs attention. Sources have names that an administrator has given them.
    pub(super) fn sentence(&self) -> String {
        let observed = &self.world.observed;
        let mode = observed.mode.as_ref().map_or("No mode yet".to_owned(), mode);
        let guests = || observed.interfaces.values().filter(|one| one.slot.role().is_guest());
        let isolated = guests().filter(|one| one.slot.has(flags::ISOLATED)).count();
        let mut parts = vec![format!("{mode}: {}", counted(guests().count(), "port"))];
        if isolated > 0 {
            parts.push(format!("{isolated} isolated"));
        }
        let findings = self.findings.open().len();
        if findings > 0 {
            parts.push(format!("{} open", counted(findings, "finding")));
        }
        let lost = |health: &Health| matches!(health, Health::Lost { .. });
        for (name, _) in self.world.sources.iter().filter(|(_, source)| lost(&source.health)) {
            parts.push(format!("{name} lost"));
        }
        if !self.is_configured() {
            parts.push("configuration refused".to_owned());
        }
        parts.join(", ")
    }
}

fn mode(observed: &ObservedMode) -> String {
    let mode = match observed.effective() {
        detector_common::settings::Mode::Observe => "Observing",
        detector_common::settings::Mode::Enforce => "Enforcing",
    };
    let standing = if observed.is_provisional() { " for now" } else { "" };
    format!("{mode}{standing}")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
