//! The mode: what the host starts with, what people change, and what is kept of it.

use std::time::{Duration, Instant};

use detector_common::settings::{Cause, Mode};
use detector_core::model::{
    Deed, Finding, FindingKey, FindingKind, ModeRecord, ModeRequest, ObservedMode, Severity,
    Subject, Timestamp,
};

use super::{brain::Brain, input::Effect};
use crate::{
    api::{ApiError, ErrorCode},
    enforcer::Enforcer,
    mode::Kept,
};

/// How long whoever changes the mode, and everybody else, waits for what has to be in force before it.
const FOR_A_CHANGE: Duration = Duration::from_secs(5);

/// What is known of the mode at the start.
#[derive(Clone, Debug)]
pub struct Start {
    /// What was confirmed last, or why that cannot be read.
    pub kept: Result<Option<Kept>, String>,
    /// What whoever starts the daemon wants, and who that is.
    pub wanted: Option<(Mode, u32)>,
}

/// What has been kept of the mode.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    last: Option<Kept>,
    /// Why what is kept is not the mode that was confirmed last.
    trouble: Option<(Timestamp, String)>,
}

impl<E: Enforcer> Brain<E> {
    /// Where nothing is pinned, the host has been restarted, or this is the first start: it gets the mode that
    /// was confirmed last, or else the configured one. What is pinned counts before both.
    pub(super) fn start_in_mode(&mut self, start: Start) {
        let now = self.world.now;
        let kept = start.kept.unwrap_or_else(|why| {
            self.keeping.trouble = Some((now, why));
            None
        });
        if self.world.observed.mode.is_none() {
            self.world.asked = kept.clone().map(Kept::record);
        }
        self.keeping.last = kept;
        self.want_at_the_start(start.wanted);
        // What is pinned beside others may be the waiting's own.
        self.await_succession(self.keeping.last.clone().map(Kept::record));
    }

    fn want_at_the_start(&mut self, wanted: Option<(Mode, u32)>) {
        let now = self.world.now;
        let Some((mode, uid)) = wanted else { return };
        // What holds already is not said again, so that it stays known who has said it.
        let deed = Deed::new(now, uid, Cause::Operator, "detector run --mode");
        let record = ModeRecord::confirmed(mode, deed);
        let holds = match &self.world.observed.mode {
            Some(observed) if !self.enforcer.has_predecessors() => Kept::of(&observed.record),
            _ => self.keeping.last.clone(),
        };
        if holds.is_none_or(|holds| holds.mode != mode) {
            self.world.asked = Some(record);
        }
    }

    /// Changes the mode in a person's name.
    pub(super) fn change_mode(
        &mut self,
        change: ModeRequest,
        reason: &str,
        uid: u32,
    ) -> Result<&ObservedMode, ApiError> {
        // Time alone may have changed it.
        self.end_waiting();
        self.observe();
        self.settle();
        let Some(from) = self.world.observed.mode.clone() else {
            let message = "no mode is in force yet: try again";
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        };
        let longest = ModeRequest::LONGEST_REASON;
        if reason.len() > longest {
            let message = format!("--reason is longer than {longest} bytes: say it in fewer words");
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        let end = self
            .enforcer
            .ticks_after(change.seconds())
            .map_err(|error| ApiError::new(ErrorCode::EnforcementFailed, error.0))?;
        let deed = Deed::new(self.world.now, uid, Cause::Operator, reason);
        let record = change
            .apply(&from, deed, end)
            .map_err(|refusal| ApiError::new(ErrorCode::BadRequest, refusal.0))?;
        self.world.asked = Some(record.clone());
        let begun = Instant::now();
        self.settle();
        // What comes before a change of the mode may be more than one portion.
        while self.executor.is_interrupted() && begun.elapsed() < FOR_A_CHANGE {
            self.settle();
        }
        // What has failed is not tried behind the caller's back.
        self.world.asked = None;
        match &self.world.observed.mode {
            Some(holds) if holds.record == record => {
                tracing::warn!(
                    uid,
                    ?change,
                    from = from.effective().as_str(),
                    to = holds.effective().as_str(),
                    reason,
                    "the mode was changed"
                );
                Ok(holds)
            }
            _ if self.executor.is_interrupted() => Err(ApiError::new(
                ErrorCode::Unavailable,
                "the host is busy, and the mode is what it was: try again",
            )),
            _ => Err(ApiError::new(
                ErrorCode::EnforcementFailed,
                "the kernel refused, and the mode is what it was: detector finding list says why",
            )),
        }
    }

    /// Ends what was asked for once it is in force, and has what is confirmed kept.
    pub(super) fn follow_mode(&mut self) {
        let Some(observed) = &self.world.observed.mode else { return };
        if self.world.asked.as_ref() == Some(&observed.record) {
            self.world.asked = None;
        }
        if self.is_succeeding() {
            return;
        }
        let Some(kept) = Kept::of(&observed.record) else { return };
        if self.keeping.last.as_ref() != Some(&kept) {
            self.keeping.last = Some(kept.clone());
            self.emit(Effect::KeepMode(kept));
        }
    }

    /// Whether what was to be kept has been.
    pub(super) fn mode_kept(&mut self, result: Result<(), String>) {
        let now = self.world.now;
        self.keeping.trouble = result.err().map(|why| (now, why));
    }

    /// What to tell of the keeping.
    pub(super) fn mode_findings(&self) -> Option<Finding> {
        let (since, why) = self.keeping.trouble.clone()?;
        let mode = self.mode().map_or("none", Mode::as_str);
        Some(Finding {
            key: FindingKey {
                kind: FindingKind::EnforcementImpaired,
                subject: Subject::Place("mode.json".to_owned()),
            },
            severity: Severity::High,
            title: format!(
                "The mode is {mode}, and a restart of the host may lead to another: what was confirmed \
                 last cannot be kept or read."
            ),
            evidence: vec![("why".to_owned(), why)],
            next: Some("detector status".to_owned()),
            since,
        })
    }
}
