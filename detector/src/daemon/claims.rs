//! Claims without a grant: they decide nothing, since a verdict is in force before there is one; they make
//! findings about the port that makes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::{event::EventRecord, reason::Reason};
use detector_core::{
    decide::{OF_CLAIMS, findings_of_port, kind_of_claim},
    model::{FindingKey, FindingKind, Subject, Timestamp},
};

use super::{brain::Brain, input::Effect, seen};
use crate::enforcer::Enforcer;

/// The first claim of a port is looked at when it comes, and those that follow so closely together, so
/// that no guest keeps the daemon busy, and none holds up what is told of another.
const PAUSE: Duration = Duration::from_millis(20);

/// Which ports have made claims, by ifindex. Bounded by the ports that have a slot: nobody else's claims
/// are taken in.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Ports with claims that nobody has looked at.
    new: BTreeSet<u32>,
    /// When each port has been looked at, in the last [`PAUSE`].
    looked: BTreeMap<u32, Timestamp>,
}

impl Claims {
    /// When the next port is to be looked at.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.new.iter().map(|port| self.due(*port)).min()
    }

    fn due(&self, ifindex: u32) -> Timestamp {
        self.looked.get(&ifindex).map_or(Timestamp::default(), |at| *at + PAUSE)
    }

    /// Takes the ports that are to be looked at now.
    fn take_due(&mut self, now: Timestamp) -> Vec<u32> {
        let due: Vec<_> = self.new.iter().copied().filter(|port| self.due(*port) <= now).collect();
        self.looked.retain(|_, at| now < *at + PAUSE);
        for port in &due {
            self.new.remove(port);
            self.looked.insert(*port, now);
        }
        due
    }

    /// Every port is looked at.
    pub(super) fn take_all(&mut self, now: Timestamp) {
        self.looked.retain(|_, at| now < *at + PAUSE);
        self.looked.extend(std::mem::take(&mut self.new).into_iter().map(|port| (port, now)));
    }
}

impl<E: Enforcer> Brain<E> {
    /// Takes in what the kernel reports. A claim of a kind that people have been told of is one more piece
    /// of evidence, which the next decision takes up, within a second.
    pub(super) fn hear(&mut self, report: &EventRecord) {
        if !seen::take_in(&mut self.world, report) {
            return;
        }
        let event = &report.event;
        self.learning.heard(event);
        let Some(kind) = Reason::from_code(event.claim.reason).and_then(kind_of_claim) else {
            return;
        };
        let subject = Subject::Port { ifindex: event.ifindex, instance: event.instance };
        let told = |kind| self.findings.is_open(&FindingKey { kind, subject: subject.clone() });
        if !told(kind) && !told(FindingKind::Flood) {
            self.claims.new.insert(event.ifindex);
        }
    }

    /// Tells what follows from new claims of ports. What they claim concerns nobody else, so that it is
    /// told on the ground of the decision in force, at the cost of one port and not of the host.
    pub(super) fn look_at_claims(&mut self) {
        let now = self.world.now;
        let due = self.claims.take_due(now);
        if due.is_empty() {
            return;
        }
        self.read_stale();
        for ifindex in due {
            let Some((subject, findings)) = findings_of_port(&self.world, &self.decision, ifindex)
            else {
                // What comes in by an uplink concerns the VMs of the host.
                return self.settle();
            };
            for change in self.findings.replace(now, &subject, &OF_CLAIMS, findings) {
                self.emit(Effect::Tell(change));
            }
        }
    }
}
