//! How much verdicts take away: written down before it is carried out, and what people say of the rest.

use std::time::Duration;

use detector_core::model::{Mitigations, Recorded, Rejected, Timestamp, Word};
use uuid::Uuid;

use super::{
    brain::Brain,
    input::{CallId, Effect},
};
use crate::{
    api::{ApiError, ErrorCode, Reply},
    enforcer::Enforcer,
};

/// Until what could not be written down is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// How long a disk may take: nobody is let wait for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Guarding {
    writing: Option<Writing>,
    /// What people have said since.
    words: Vec<Said>,
    /// Whose word is on the disk: they are answered when it has been acted upon.
    heard: Vec<CallId>,
    retry: Option<Timestamp>,
}

#[derive(Debug)]
struct Writing {
    mitigations: Mitigations,
    callers: Vec<CallId>,
    begun: Timestamp,
}

impl Writing {
    /// Whether its disk does not answer. No other write begins before it does: they would all hang.
    fn is_late(&self, now: Timestamp) -> bool {
        self.begun + PATIENCE <= now
    }
}

/// What a person has said of VMs that are held.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) by: CallId,
    pub(super) vms: Vec<Uuid>,
    pub(super) word: Word,
}

impl Guarding {
    pub(super) fn hear(&mut self, said: Said) {
        self.words.push(said);
    }

    /// What was due when it was last looked at has been seen to.
    pub(super) fn wake_at(&self, looked: Timestamp) -> Option<Timestamp> {
        let late = self.writing.as_ref().map(|writing| writing.begun + PATIENCE);
        [self.retry, late].into_iter().flatten().filter(|at| *at > looked).min()
    }
}

impl<E: Enforcer> Brain<E> {
    /// This was written down before the start.
    pub(super) fn recall_mitigations(&mut self, mitigations: Mitigations) {
        self.world.recorded = Recorded { mitigations, lost: None };
    }

    /// Takes a disk that does not answer for one that cannot be written to, until it does.
    pub(super) fn doubt_mitigations(&mut self) {
        let now = self.world.now;
        let Some(writing) = self.guarding.writing.as_mut().filter(|writing| writing.is_late(now))
        else {
            return;
        };
        let place = "mitigations.json".to_owned();
        let lost = Some(Rejected { place, why: "its disk does not answer".to_owned() });
        let callers = std::mem::take(&mut writing.callers);
        if self.world.recorded.lost != lost {
            tracing::error!(
                "how many VMs were cut off is not written down: its disk does not answer"
            );
            self.world.recorded.lost = lost;
        }
        self.refuse(
            callers,
            "its disk does not answer: it counts as soon as it is written down, which may be never. \
             `detector quarantine add vm VM` cuts one off all the same",
        );
    }

    fn refuse(&mut self, callers: Vec<CallId>, message: &str) {
        for id in callers {
            let reply = Err(ApiError::new(ErrorCode::Unavailable, message));
            self.emit(Effect::Reply { id, reply, last: true });
        }
    }

    /// Has written down what is to be taken next, and answers whose word is in force.
    pub(super) fn keep_mitigations(&mut self) {
        for id in std::mem::take(&mut self.guarding.heard) {
            let reply = Ok(Reply::Mitigations(Box::new(self.mitigations_view())));
            self.emit(Effect::Reply { id, reply, last: true });
        }
        let now = self.world.now;
        let (said, due) = {
            let guarding = &self.guarding;
            (!guarding.words.is_empty(), guarding.retry.is_none_or(|at| at <= now))
        };
        if let Some(writing) = &self.guarding.writing {
            if writing.is_late(now) {
                let words = std::mem::take(&mut self.guarding.words);
                let message = not_done("its disk does not answer");
                self.refuse(words.into_iter().map(|said| said.by).collect(), &message);
            }
            return;
        }
        if !(said || due) {
            return;
        }
        let mut next = self.decision.mitigations.clone();
        let mut callers = Vec::new();
        for Said { by, vms, word } in std::mem::take(&mut self.guarding.words) {
            for vm in vms {
                if let Some(hold) = next.held.get_mut(&vm) {
                    hold.word = Some(word.clone());
                }
            }
            callers.push(by);
        }
        let kept = self.world.recorded.lost.is_none() && next == self.world.recorded.mitigations;
        if kept && callers.is_empty() {
            return;
        }
        self.guarding.retry = None;
        let mitigations = next.clone();
        self.guarding.writing = Some(Writing { mitigations, callers, begun: now });
        self.emit(Effect::KeepMitigations(Box::new(next)));
    }

    /// What was to be written down has been, or cannot be: then nothing more is taken without a person.
    pub(super) fn mitigations_kept(&mut self, result: Result<(), Rejected>) {
        let Some(Writing { mitigations, callers, .. }) = self.guarding.writing.take() else {
            return;
        };
        match result {
            Ok(()) => {
                let before = &self.world.recorded.mitigations.held;
                let said = mitigations.held.iter().filter(|(uuid, hold)| {
                    let before = before.get(*uuid).and_then(|hold| hold.word.as_ref());
                    hold.word.is_some() && hold.word.as_ref() != before
                });
                let said: Vec<_> = said.map(|(uuid, hold)| (*uuid, hold.clone())).collect();
                for (uuid, hold) in said {
                    self.record_word(uuid, &hold);
                }
                self.world.recorded = Recorded { mitigations, lost: None };
                self.guarding.heard.extend(callers);
            }
            Err(why) => {
                let message = not_done(&why.why);
                tracing::error!(why = why.why, "how many VMs were cut off cannot be written down");
                self.world.recorded.lost = Some(why);
                self.guarding.retry = Some(self.world.now + RETRY);
                self.refuse(callers, &message);
            }
        }
    }
}

fn not_done(why: &str) -> String {
    format!(
        "nothing was done: it cannot be written down ({why}). `detector quarantine add vm VM` cuts one off all \
         the same"
    )
}
