//! The mode, which the kernel may have changed by itself.

use detector_core::model::{ModeRecord, ObservedMode};

use super::KernelEnforcer;
use crate::bpf::{BpfError, JiffyClock};

/// The mode in these settings, at this moment.
pub(in crate::bpf) fn observed(record: ModeRecord, clock: JiffyClock) -> ObservedMode {
    ObservedMode::at(record, clock.ticks(), |ticks| clock.deadline(ticks.0))
}

impl KernelEnforcer {
    pub(super) fn set_mode(&mut self, record: &ModeRecord) -> Result<(), BpfError> {
        self.change_settings(record.write(self.settings))?;
        self.mirror.mode = Some(self.mode_now());
        Ok(())
    }

    pub(super) fn mode_now(&self) -> ObservedMode {
        observed(ModeRecord::read(&self.settings), self.clock)
    }

    /// Looks whether a mode has ended by itself since the last look.
    pub(super) fn recheck_mode(&mut self) -> bool {
        let Some(known) = &self.mirror.mode else { return false };
        let ends = |mode: &ObservedMode| (mode.lapsed, mode.maintenance.is_some());
        let before = ends(known);
        let now = self.mode_now();
        let after = ends(&now);
        // The times of day are those of now, also where somebody has set the clock.
        self.mirror.mode = Some(now);
        before != after
    }
}
