//! What records say.

use detector_common::{quarantine::Cause, settings};
use detector_core::{
    decide::{Grace, Outcome, PortDecision, PortStatus, VmDecision, VmStatus, policy::Rules},
    model::{
        Curb, Curbed, Digest, Evidence, Hold, MediumSource, ObservedMode, ProcessId, Quarantine,
        QuarantineTarget, Registry, Template, Timestamp, Vm, VmProcess, World,
    },
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    api::{
        kernel::mode_name,
        view::{AdmissionView, ModeDetail, ModeView, moment, vm_status},
    },
    audit::{Entry, Kind, Subject, Who},
    inventory::{NotDone, Power},
};

/// What is known while something is decided.
pub(super) struct Words<'a> {
    pub(super) world: &'a World,
}

impl Words<'_> {
    pub(super) fn vm(
        &self,
        uuid: Uuid,
        name: &str,
        before: Option<VmStatus>,
        decision: &VmDecision,
        policy: Option<&str>,
    ) -> Entry {
        let missing: Vec<_> = decision
            .requirements
            .iter()
            .filter(|requirement| requirement.outcome != Outcome::Met)
            .map(|requirement| format!("[{}] {}", requirement.id, requirement.finding))
            .collect();
        let why = match (missing.first(), decision.status) {
            (_, VmStatus::Off) => "it does not run",
            (Some(first), _) => first.as_str(),
            (None, _) => "it meets every requirement",
        };
        let template = decision.template.as_ref().map(|id| match &decision.template_version {
            Some(version) => format!("{id}@{version}"),
            None => id.clone(),
        });
        Entry::new(Kind::Vm, Who::Daemon)
            .on(vm(uuid, name))
            .change(before.map(vm_status), vm_status(decision.status))
            .why(why)
            .because("template", template)
            .because("media", self.media(uuid))
            .because("rules", decision.rules.iter().cloned())
            .because("not-met", missing.iter().cloned())
            .because("errors", decision.errors.iter().map(|(rule, why)| format!("{rule}: {why}")))
            .because("policy", policy)
    }

    /// What its media have shown.
    fn media(&self, uuid: Uuid) -> Vec<String> {
        let vms = self.world.sources.values().filter_map(|source| source.vms.get(&uuid));
        let files = vms.flat_map(|vm: &Vm| &vm.media).filter_map(|medium| match &medium.source {
            MediumSource::File(file) => Some(file),
            MediumSource::Remote(_) => None,
        });
        files
            .filter_map(|file| match self.world.evidence.get(file)? {
                Evidence::Chain(chain) => {
                    Some(format!("{} sha256:{}", file.path.display(), chain.digest))
                }
                Evidence::Unreadable(why) => {
                    Some(format!("{} cannot be read: {why}", file.path.display()))
                }
                Evidence::Pending => None,
            })
            .collect()
    }

    pub(super) fn port(
        &self,
        port: (u32, u32),
        name: &str,
        before: Option<PortStatus>,
        decision: &PortDecision,
    ) -> Entry {
        Entry::new(Kind::Port, Who::Daemon)
            .on(port_subject(port, name))
            .change(before.map(port_status), port_status(decision.status))
            .why(decision.why.as_str())
            .because("vm", decision.vm.map(|uuid| uuid.to_string()))
    }

    /// Of one that was imposed: what it is now. Of one that was lifted: what it was.
    pub(super) fn quarantine(&self, before: &Quarantine, now: Option<&Quarantine>) -> Entry {
        let quarantine = now.unwrap_or(before);
        let who = match (quarantine.cause, now) {
            (Cause::Operator, Some(quarantine)) => Who::User { uid: quarantine.uid },
            _ => Who::Daemon,
        };
        let subject = match quarantine.target {
            QuarantineTarget::Vm(uuid) => {
                let mut sources = self.world.sources.values();
                let name = sources.find_map(|source| source.vms.get(&uuid)).map(|vm| &vm.name);
                vm(uuid, name.map_or("", String::as_str))
            }
            QuarantineTarget::Mac(mac) => Subject::new("mac", mac.to_string()),
            QuarantineTarget::Port { ifindex, instance } => {
                let name = self.world.links.get(&ifindex).map_or("", |link| link.name.as_str());
                port_subject((ifindex, instance), name)
            }
        };
        let state = |quarantine: &Quarantine| mode_name(quarantine.mode).to_owned();
        let from = (now.is_none() || now != Some(before)).then(|| state(before));
        let cause = match quarantine.cause {
            Cause::Verdict => "verdict",
            Cause::Operator => "operator",
        };
        Entry::new(Kind::Quarantine, who)
            .on(subject)
            .change(from, now.map_or_else(|| "lifted".to_owned(), state))
            .why(quarantine.note.as_str())
            .because("cause", [cause])
            .because("since", [moment(quarantine.since).to_string()])
            .because("provisional", quarantine.provisional.then_some("until the mode is confirmed"))
    }
}

pub(super) fn mode(before: Option<&ObservedMode>, now: &ObservedMode) -> Entry {
    let words = |observed: &ObservedMode| {
        let ModeDetail { mode, standing, maintenance, .. } = ModeDetail::from(observed);
        let mode = match mode {
            ModeView::Enforce => "enforce",
            ModeView::Observe => "observe",
            ModeView::None => "none",
        };
        let maintenance = if maintenance.is_some() { ", maintenance" } else { "" };
        format!("{mode}, {standing}{maintenance}")
    };
    let detail = ModeDetail::from(now);
    let deed = &now.record.deed;
    let who = match deed.cause {
        settings::Cause::Operator if !now.lapsed => Who::User { uid: deed.uid },
        _ => Who::Daemon,
    };
    Entry::new(Kind::Mode, who)
        .on(Subject::new("host", "mode"))
        .change(before.map(words), words(now))
        .why(deed.why.as_str())
        .because("cause", [detail.cause])
        .because("until", detail.until.map(|until| until.to_string()))
        .because(
            "maintenance",
            detail.maintenance.map(|term| format!("until {}: {}", term.until, term.reason)),
        )
}

pub(super) fn grace(uuid: Uuid, name: &str, before: Option<Grace>, now: Option<Grace>) -> Entry {
    let until = |grace: Grace| format!("until {}", moment(grace.until));
    Entry::new(Kind::Grace, Who::Daemon)
        .on(vm(uuid, name))
        .change(before.map(until), now.map_or_else(|| "none".to_owned(), until))
        .why("it is denied while a grant of it is in force, and the policy grants it time")
}

pub(super) fn hold_state(hold: &Hold) -> &'static str {
    match &hold.word {
        None => "held",
        Some(word) if word.approves => "approved",
        Some(_) => "rejected",
    }
}

/// Of one that is not held any more there is no hold.
pub(super) fn held(uuid: Uuid, name: &str, before: Option<&str>, now: Option<&Hold>) -> Entry {
    let word = now.and_then(|hold| hold.word.as_ref());
    let who = word.map_or(Who::Daemon, |word| Who::User { uid: word.uid });
    let why = match (now, word) {
        (_, Some(word)) => word.why.as_str(),
        (Some(_), None) => "more VMs would be cut off than may be without a person",
        (None, None) => "it is cut off, or meets the policy, or is gone",
    };
    Entry::new(Kind::Held, who)
        .on(vm(uuid, name))
        .change(before, now.map_or("none", hold_state))
        .why(why)
        .because("fails", now.into_iter().flat_map(|hold| hold.grounds.iter().cloned()))
}

pub(super) fn unlisted(uuid: Uuid, name: &str, before: VmStatus) -> Entry {
    Entry::new(Kind::Vm, Who::Daemon)
        .on(vm(uuid, name))
        .change(Some(vm_status(before)), "unlisted")
        .why("no inventory lists it any more")
}

pub(super) fn gone(port: (u32, u32), name: &str, before: PortStatus) -> Entry {
    Entry::new(Kind::Port, Who::Daemon)
        .on(port_subject(port, name))
        .change(Some(port_status(before)), "gone")
        .why("its interface is gone, or guarded no more")
}

pub(super) fn policy(
    before: Option<String>,
    now: &str,
    rules: &Rules,
    origin: Option<&str>,
) -> Entry {
    let why = if before.is_some() { "the policy was changed" } else { "the daemon has started" };
    Entry::new(Kind::Policy, Who::Daemon)
        .on(Subject::new("file", origin.unwrap_or("built-in")))
        .change(before, now)
        .why(why)
        .because("rules", rules.list().iter().map(|rule| rule.id.clone()))
}

/// Each template that is another one than before; at the start, all of them in one record.
pub(super) fn templates(before: Option<&Registry>, now: &Registry, entries: &mut Vec<Entry>) {
    let Some(before) = before else {
        let all = now.templates.iter().map(standing);
        let entry = Entry::new(Kind::Template, Who::Daemon)
            .on(Subject::new("host", "templates"))
            .change(None::<String>, format!("{} in force", now.templates.len()))
            .why("the daemon has started");
        return entries.push(entry.because("templates", all));
    };
    let find = |registry: &Registry, name: &str| {
        registry.templates.iter().find(|one| one.exact_name() == name).cloned()
    };
    for template in &now.templates {
        let was = find(before, &template.exact_name());
        if was.as_ref() != Some(template) {
            entries.push(changed(was.as_ref(), template));
        }
    }
    for template in &before.templates {
        if find(now, &template.exact_name()).is_none() {
            let entry = Entry::new(Kind::Template, Who::Daemon)
                .on(Subject::new("template", template.name()))
                .change(Some(template.status.as_str()), "removed")
                .why("no manifest has it any more");
            entries.push(entry);
        }
    }
}

fn changed(before: Option<&Template>, now: &Template) -> Entry {
    Entry::new(Kind::Template, Who::Daemon)
        .on(Subject::new("template", now.name()))
        .change(before.map(|was| was.status.as_str()), now.status.as_str())
        .why(now.reason.clone().unwrap_or_else(|| "its manifest was changed".to_owned()))
        .because("images", now.images.iter().map(|image| format!("sha256:{}", image.sha256)))
        .because("serial", now.serial.map(|serial| serial.to_string()))
        .because("signed-by", now.signed_by.clone())
        .because("expires", now.expires.map(|at| moment(at).to_string()))
}

fn standing(template: &Template) -> String {
    format!("{} {}", template.name(), template.status.as_str())
}

pub(in crate::daemon) fn stop(
    uuid: Uuid,
    name: &str,
    (power, guest_asked): (Power, Option<Timestamp>),
    result: Option<Result<(), NotDone>>,
) -> Entry {
    let (done, asked) = match power {
        Power::Suspend => ("paused", "the policy suspends what it denies"),
        Power::ShutDown => ("shutting-down", "the policy shuts down what it denies"),
        Power::Off => ("off", "the policy shuts down what it denies"),
    };
    let (to, why) = match (result, guest_asked) {
        (None, None) => ("asked", asked.to_owned()),
        (None, Some(at)) => {
            let at = moment(at);
            ("asked", format!("{asked}; its guest was asked at {at}, and has not"))
        }
        (Some(Ok(())), _) => (done, String::new()),
        (Some(Err(NotDone::Unasked(why))), _) => ("unasked", why),
        (Some(Err(NotDone::Refused(why))), _) => ("failed", why),
    };
    Entry::new(Kind::Pause, Who::Daemon).on(vm(uuid, name)).change(None::<String>, to).why(why)
}

pub(in crate::daemon) fn admission(
    name: &str,
    uuid: Option<Uuid>,
    answer: &AdmissionView,
) -> Entry {
    let outcome = serde_json::to_value(answer.outcome).unwrap_or_default();
    let outcome = outcome.as_str().unwrap_or_default();
    let effect = if answer.start { "may start" } else { "may not start" };
    let subject = match uuid {
        Some(uuid) => vm(uuid, name),
        None => Subject::new("vm", name),
    };
    Entry::new(Kind::Admission, Who::Daemon)
        .on(subject)
        .change(None::<String>, format!("{outcome}, {effect}"))
        .why(answer.message.as_str())
}

pub(super) fn trouble(name: &str) -> &'static str {
    match name {
        "set-aside" => {
            "The audit was damaged and is set aside: see what can be read of it, then move the file away."
        }
        "broken" => "Somebody has changed the audit while the daemon wrote it.",
        "lost" => "Records of the audit are lost: they came faster than they could be written.",
        "dropped" => {
            "The audit took no records of remediations for so long that some were dropped."
        }
        "unsigned" => "The audit is written and not signed.",
        _ => "The audit cannot be written: what is decided meanwhile is kept in memory.",
    }
}

fn vm(uuid: Uuid, name: &str) -> Subject {
    let subject = Subject::new("vm", uuid.to_string());
    if name.is_empty() { subject } else { subject.named(name) }
}

fn port_subject((ifindex, instance): (u32, u32), name: &str) -> Subject {
    let subject = Subject::new("port", format!("{ifindex}/{instance}"));
    if name.is_empty() { subject } else { subject.named(name) }
}

fn port_status(status: PortStatus) -> &'static str {
    match status {
        PortStatus::Granted => "granted",
        PortStatus::Pending => "pending",
        PortStatus::Isolated => "isolated",
        PortStatus::Kept => "kept",
    }
}

/// By which records name a policy.
pub(super) fn digest(rules: &Rules) -> String {
    format!("sha256:{}", Digest(Sha256::digest(rules.text().as_bytes()).into()))
}

/// A VM that no inventory knows is to be kept from running on, or not any more, or what has come of it.
pub(in crate::daemon) fn curbed(
    id: ProcessId,
    found: Option<&VmProcess>,
    how: Option<Curb>,
    result: Option<&Curbed>,
) -> Entry {
    let (to, why) = match (result, how) {
        (Some(Curbed::Suspended), _) => ("suspended", String::new()),
        (Some(Curbed::Ended), _) => ("ended", String::new()),
        (Some(Curbed::Refused(why)), _) => ("failed", why.clone()),
        (None, Some(Curb::Suspend)) => ("asked", "what no inventory knows is suspended".to_owned()),
        (None, Some(Curb::Stop)) => ("asked", "what no inventory knows is ended".to_owned()),
        (None, None) => ("let-go", "nobody wants it to be kept from running on".to_owned()),
    };
    let subject = Subject::new("process", id.to_string());
    let subject = match found {
        Some(found) => subject.named(&found.exe),
        None => subject,
    };
    Entry::new(Kind::Pause, Who::Daemon).on(subject).change(None::<String>, to).why(why)
}
