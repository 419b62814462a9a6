//! What each input changes.

use std::collections::BTreeMap;

use detector_core::model::Graces;

use super::{
    answer,
    brain::{Brain, PULSE},
    input::{Effect, Input},
    links, sources,
};
use crate::{alert::ToBrain, enforcer::Enforcer};

impl<E: Enforcer> Brain<E> {
    /// Changes the world. False when no decision depends on what has changed.
    pub(super) fn take_in(&mut self, input: Input) -> bool {
        match input {
            Input::Link(event) => links::take_in(self, event),
            Input::Source(event) => {
                let started = sources::take_in(self, event);
                self.media.refresh(&mut self.world, &started);
                self.media.forget_unused(&mut self.world);
            }
            Input::Registry(registry) => self.world.registry = registry,
            Input::Rules(rules) => self.world.rules = rules,
            Input::Leases(leases) => return self.learning.take_leases(&mut self.world, leases),
            Input::Adopt(known) => self.adopt(known),
            Input::Mode(start) => self.start_in_mode(start),
            Input::ModeKept(result) => self.mode_kept(result),
            Input::Recalled(recalled) => self.recall(recalled),
            Input::Addresses(addresses) => {
                let news = self.world.addresses != addresses;
                self.world.addresses = addresses;
                return news;
            }
            Input::Gateways(gateways) => {
                let news = self.world.gateways != gateways;
                self.world.gateways = gateways;
                return news;
            }
            Input::Evidence { file, ticket, evidence } => {
                self.media.arrived(&mut self.world, file, ticket, evidence);
            }
            Input::Altered(files) => return self.media.altered(files),
            Input::Kernel(report) => {
                self.events += 1;
                self.hear(&report);
                return false;
            }
            Input::Request { id, uid, request } => {
                answer::request(self, id, uid, request);
                return false;
            }
            Input::PolicyDiff { id, rules } => {
                answer::policy::diff(self, id, rules);
                return false;
            }
            Input::Reload { id, loaded } => return self.reload(id, *loaded),
            Input::Incoming(uuid) => {
                self.admissions.expect(uuid, self.world.now);
                return false;
            }
            Input::Guest { uuid, claims } => {
                return self.guests.take_in(&mut self.world, uuid, claims);
            }
            Input::Ended { id, uuid } => {
                let disks = self.media.released(&self.world, uuid);
                self.emit(Effect::Ends { disks, call: Some(id) });
                return false;
            }
            Input::Admit(admit) => self.admit(*admit),
            Input::HungUp(id) => {
                self.watchers.remove(&id);
                return false;
            }
            Input::Processes(scanned) => self.scanned(scanned),
            Input::Curbed(told) => self.curbed(told),
            Input::Signs(signs) => {
                let rechecked = self.enforcer.recheck_for(&signs);
                return self.looked_around(rechecked);
            }
            Input::Graces(graces) => self.world.graces = graces,
            Input::GracesLost(why) => {
                self.world.graces = Graces { begun: BTreeMap::new(), lost: Some(why) };
            }
            Input::Mitigations(mitigations) => self.recall_mitigations(mitigations),
            Input::MitigationsKept(result) => self.mitigations_kept(result),
            Input::Paused(vm, result) => self.stopped(vm, result),
            Input::Pauses(known) => self.pauses.recall(known, &self.world),
            Input::PausesKept(result) => self.pauses.kept(self.world.now, result),
            Input::Unknown(names) => self.strangers.take(self.world.now, names),
            Input::Remediations(recalled, means) => self.recall_remediations(recalled, means),
            Input::WorkflowKept { vm, revision, result } => {
                self.workflow_kept(vm, revision, result);
            }
            Input::RecordsDropped(records) => self.trail.dropped(self.world.now, records),
            Input::Remedied { vm, deed, report } => return self.remedied(vm, deed, report),
            Input::Audit(trouble) => self.trail.troubled(self.world.now, trouble),
            Input::Fleet(standing) => self.world.fleet = standing,
            Input::Clock(reading) => {
                let news = self.day.take(self.world.now, reading);
                self.world.skew = self.day.skew();
                return news;
            }
            Input::Overheard(heard) => return self.overheard(heard),
            Input::Alerts(ToBrain::News(news)) => self.alerts = news,
            Input::Alerts(ToBrain::TellAll) => {
                let told = self.findings.told().cloned().collect();
                self.emit(Effect::TellAll(told));
                return false;
            }
            Input::Tick => {
                let rechecked = self.enforcer.recheck();
                let changed = self.looked_around(rechecked);
                let looked = self.looks.look(&mut self.world, &mut self.enforcer);
                self.remember();
                if let Some(look) = self.media.look_again(&self.world, &self.remediation.at_rest())
                {
                    self.emit(look);
                }
                let silent = self.guests.forget(&mut self.world);
                return changed || looked || silent || self.settled + PULSE <= self.world.now;
            }
        }
        true
    }
}
