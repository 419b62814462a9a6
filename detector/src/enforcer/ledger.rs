//! What the enforcer says of what it was asked to do: in its own log, and to the journal past everybody else, so that
//! whoever has taken the brain over cannot keep it from being said. They can drown it, as far as the journal lets them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use detector_common::quarantine::Cause;
use detector_core::model::{ModeRecord, Quarantine};
use tokio::time::Instant;

use super::{Refusals, warden::Refusal};
use crate::{escape::escape, journal};

/// By which `journalctl MESSAGE_ID=…` finds what the enforcer says.
const MESSAGE_ID: &str = "0b1f6d0c2f5d4a3e8c7a95e1b6d2f480";
/// Refusals are told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// What whoever has seen an interface as it was is refused is refused no more after this.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How long it is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// How many are.
const MOST_DOUBTS: usize = 4096;

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 256;

/// What has been refused, and what of it nobody has been told.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where the journal listens.
    journal: PathBuf,
    refused: u64,
    told: u64,
    told_at: Option<Instant>,
    /// Why it was refused last.
    why: String,
    /// What may have been seen as it was a moment ago, and when that was.
    doubts: BTreeMap<String, Instant>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::of(journal::SOCKET.into())
    }
}

impl Ledger {
    fn of(journal: PathBuf) -> Self {
        let (why, doubts) = (String::new(), BTreeMap::new());
        Self { journal, refused: 0, told: 0, told_at: None, why, doubts }
    }

    /// Takes a refusal in; it is an incident where nobody gives such an order by mistake.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant, incidents: &mut Refusals) {
        let (Refusal::Certain(why) | Refusal::Perhaps(why)) = refusal else { return };
        // A name in it may be as long as an order.
        let why: String = why.chars().take(LONGEST_REASON).collect();
        if matches!(refusal, Refusal::Perhaps(_)) && !self.persists(&why, now) {
            return;
        }
        self.refused += 1;
        self.why = escape(&why);
        incidents.note(self.why.clone());
    }

    /// Whether it has been asked for before, so long ago that nobody can have meant well by it.
    fn persists(&mut self, why: &str, now: Instant) -> bool {
        if let Some(first) = self.doubts.get_mut(why) {
            let since = now.saturating_duration_since(*first);
            if since > MEMORY {
                *first = now;
            }
            return (A_MOMENT..=MEMORY).contains(&since);
        }
        if self.doubts.len() >= MOST_DOUBTS {
            self.doubts.retain(|_, first| now.saturating_duration_since(*first) <= MEMORY);
        }
        // So many at a time are nobody's mistake either.
        let room = self.doubts.len() < MOST_DOUBTS;
        if room {
            self.doubts.insert(why.to_owned(), now);
        }
        !room
    }

    /// Says what has been refused since it was said last.
    pub(super) fn tell(&mut self, now: Instant) {
        if self.refused == self.told || self.told_at.is_some_and(|at| now < at + TELL_EVERY) {
            return;
        }
        (self.told, self.told_at) = (self.refused, Some(now));
        let Self { refused, why, .. } = self;
        tracing::error!(refused, why, "the enforcer has refused orders, all in all so many");
        let message = format!(
            "the enforcer has refused orders of the process that decides, {refused} so far, which only one gives that \
             has been tampered with: {why}"
        );
        self.say(2, "refused", message);
    }

    /// A quarantine is lifted that was in force.
    pub(super) fn lifted(&self, quarantine: &Quarantine) {
        let target = quarantine.target;
        let by = match quarantine.cause {
            Cause::Operator => format!("the user {}", quarantine.uid),
            Cause::Verdict => "a verdict".to_owned(),
        };
        let reason = escape(&quarantine.note);
        tracing::info!(?target, by, %reason, "a quarantine is lifted");
        let message = format!("a quarantine is lifted: {target:?}, imposed by {by}: {reason}");
        self.say(5, "lifted", message);
    }

    /// What a person has imposed becomes something else, in a person's name, by the brain's word.
    pub(super) fn exchanged(&self, before: &Quarantine, now: &Quarantine) {
        let target = now.target;
        tracing::info!(?target, from = ?before.mode, to = ?now.mode, uid = now.uid, "a quarantine is another one");
        let message = format!(
            "a quarantine is another one: {target:?}, imposed by the user {}: {:?}, by the user {}: {:?}",
            before.uid, before.mode, now.uid, now.mode
        );
        self.say(5, "exchanged", message);
    }

    pub(super) fn mode_changed(&self, mode: &ModeRecord) {
        tracing::info!(?mode, "the mode is changed");
        self.say(5, "mode", format!("the mode is changed: {}", escape(&format!("{mode:?}"))));
    }

    /// Says it to the journal, where there is one: what is said there carries the user and the process that say it, as
    /// the kernel knows them.
    fn say(&self, priority: u8, what: &str, message: String) {
        let fields = [
            ("MESSAGE", message),
            ("MESSAGE_ID", MESSAGE_ID.to_owned()),
            ("PRIORITY", priority.to_string()),
            ("SYSLOG_IDENTIFIER", "detector-enforcer".to_owned()),
            ("DETECTOR_ENFORCER", what.to_owned()),
        ];
        // It is in the log of this process as well.
        let _ = journal::send(&self.journal, &journal::entry(fields));
    }
}

#[cfg(test)]
mod tests {
    use detector_common::quarantine::QuarantineMode;
    use detector_core::model::QuarantineTarget;

    use super::*;

    /// Whatever the brain keeps to itself.
    #[test]
    fn what_takes_protection_away_is_told_to_the_journal() {
        use std::os::unix::net::UnixDatagram;

        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        journal.set_nonblocking(true).unwrap();
        let heard = || {
            let mut entry = vec![0; 4096];
            let length = journal.recv(&mut entry).ok()?;
            Some(String::from_utf8_lossy(&entry[..length]).into_owned())
        };
        let (mut ledger, now) = (Ledger::of(socket), Instant::now());
        let target = QuarantineTarget::Mac(detector_common::addr::Mac([2, 0, 0, 0, 0, 1]));
        let since = detector_core::model::Timestamp(1);
        ledger.lifted(&Quarantine::new(target, since, Cause::Operator, 1000, "incident\n42"));
        let told = heard().unwrap();
        for part in ["detector-enforcer", "lifted", "the user 1000", "incident\\n42", MESSAGE_ID] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let before = Quarantine::new(target, since, Cause::Operator, 1000, "");
        ledger.exchanged(&before, &Quarantine { mode: QuarantineMode::Sandbox, ..before.clone() });
        assert!(heard().unwrap().contains("by the user 1000: Sandbox"));
        ledger.tell(now);
        assert_eq!(heard(), None, "nothing was refused");
        for number in 0..1000 {
            let refusal = Refusal::Certain(format!("order {number}"));
            ledger.refused(&refusal, now, &mut Refusals::default());
            ledger.tell(now);
        }
        let told = heard().unwrap();
        assert!(told.contains("order 0") && told.contains("PRIORITY"), "{told}");
        assert_eq!(heard(), None, "once a second");
        ledger.tell(now + TELL_EVERY);
        let told = heard().unwrap();
        assert!(told.contains("1000 so far") && told.contains("order 999"), "{told}");
    }

    #[test]
    fn what_may_be_a_mistake_is_none_when_it_goes_on() {
        let start = Instant::now();
        let after = |seconds: f32| start + Duration::from_secs_f32(seconds);
        let perhaps = |number: usize| Refusal::Perhaps(format!("interface {number}"));
        let mut ledger = Ledger::default();
        let mut refuse = |refusal: &Refusal, now| {
            let mut incidents = Refusals::default();
            ledger.refused(refusal, now, &mut incidents);
            incidents.count
        };
        let cases = [
            ("nobody asks so by mistake", Refusal::Certain("no".to_owned()), 0.0, 1),
            ("it could not be judged", Refusal::Blind("no".to_owned()), 0.0, 0),
            ("an interface has just changed", perhaps(1), 0.0, 0),
            ("tried again at once", perhaps(1), 0.2, 0),
            ("another one", perhaps(2), 0.3, 0),
            ("tried again when it is known", perhaps(1), 1.5, 1),
            ("and again", perhaps(1), 2.0, 1),
            ("much later, the same index", perhaps(2), 90.0, 0),
            ("and at once", perhaps(2), 90.5, 0),
            ("and on", perhaps(2), 92.0, 1),
        ];
        for (what, refusal, at, expect) in cases {
            assert_eq!(refuse(&refusal, after(at)), expect, "{what}");
        }
        let flood =
            (0..MOST_DOUBTS + 10).map(|number| refuse(&perhaps(1000 + number), after(93.0)));
        assert!((10..100).contains(&flood.sum::<u64>()), "a flood is no mistake");

        let mut ledger = Ledger::default();
        let mut incidents = Refusals::default();
        let long = "x".repeat(1 << 20);
        ledger.refused(&Refusal::Perhaps(long.clone()), start, &mut incidents);
        ledger.refused(&Refusal::Certain(long), start, &mut incidents);
        assert_eq!(ledger.why.len(), LONGEST_REASON);
        assert!(
            ledger.doubts.keys().all(|why| why.len() == LONGEST_REASON),
            "a name may be as long as an order"
        );
    }
}
