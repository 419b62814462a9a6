use detector_core::{
    api::{
        Reply, Request,
        view::{EvidenceView, Explanation, MediumView, RemediationView},
    },
    fleet::message::Time,
    model::Severity,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{VmRow, row};
use crate::{
    desk::Desk,
    estate::{Host, News},
    view::{FindingRow, Missing, finding, no_host, word},
};

/// Events that are shown.
const MOST_EVENTS: usize = 100;

/// Everything there is to say about a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VmDetail {
    #[serde(flatten)]
    pub row: VmRow,
    /// One sentence: what and why.
    pub summary: String,
    pub requirements: Vec<RequirementRow>,
    /// The rules of the policy that decided.
    pub rules: Vec<String>,
    pub media: Vec<MediumRow>,
    /// What its manager says of the machine, and what the guest says of itself.
    pub posture: Vec<crate::view::Pair>,
    /// `drop` or `sandbox`, while it is quarantined.
    pub quarantine: Option<String>,
    pub findings: Vec<FindingRow>,
    pub remedies: Vec<Remedy>,
    pub remediation: Option<RemediationRow>,
    /// What has happened, the latest first.
    pub timeline: Vec<Event>,
    /// Why the host could not be asked, so that some of this is missing.
    pub unasked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RequirementRow {
    pub id: String,
    /// `met`, `failed` or `unknown`.
    pub outcome: String,
    pub sentence: String,
    pub finding: String,
    pub remedy: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MediumRow {
    pub role: String,
    pub source: String,
    /// `digested`, `pending`, `unreadable` or `remote`.
    pub evidence: String,
    pub sha256: Option<String>,
    pub layers: Vec<String>,
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Remedy {
    pub what: String,
    pub command: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RemediationRow {
    pub outcome: String,
    pub stage: String,
    pub waits: Option<String>,
    pub steps: Vec<StepRow>,
    pub needed: u8,
    pub approvals: usize,
    /// Digests of what it boots from, for those who approve.
    pub digests: Vec<String>,
    pub is_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StepRow {
    pub step: String,
    pub state: String,
    pub effect: String,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// `opened`, `closed`, `status`, `quarantine`, `remediation`, …, or the kind of a record of the audit.
    pub event: String,
    pub what: String,
    #[schema(value_type = Option<String>)]
    pub severity: Option<Severity>,
}

/// # Errors
///
/// No such host or VM is known.
pub async fn vm(desk: &Desk, host: &str, uuid: Uuid, who: &str) -> Result<VmDetail, Missing> {
    let mut detail = {
        let estate = desk.estate();
        let known = estate.hosts.get(host).ok_or_else(|| no_host(host))?;
        known_of(host, known, uuid)?
    };
    let subject = uuid.to_string();
    match desk.ask((host, who), Request::Explain { subject: subject.clone() }).await {
        Ok(Reply::Explanation(explanation)) => detail.explain(*explanation),
        Ok(_) => detail.unasked = Some(Missing::Other.to_string()),
        Err(error) => detail.unasked = Some(error.to_string()),
    }
    let asked = desk.ask((host, who), Request::RemediateStatus { vm: Some(subject) }).await;
    if let Ok(Reply::Remediations(all)) = asked {
        all.into_iter().for_each(|one| detail.remediate(one));
    }
    detail.remember(desk.past(host, uuid).await);
    detail.timeline.sort_by_key(|event| std::cmp::Reverse(event.at));
    detail.timeline.truncate(MOST_EVENTS);
    Ok(detail)
}

fn known_of(name: &str, host: &Host, uuid: Uuid) -> Result<VmDetail, Missing> {
    let vm = host.vms().find(|vm| vm.uuid == uuid);
    let vm = vm.ok_or_else(|| Missing::NotFound(format!("{name} has no VM {uuid}")))?;
    let about = host.findings().filter(|finding| finding.vm == Some(uuid));
    let news = host.news.iter().filter(|news| news.vm == Some(uuid)).cloned().map(event);
    Ok(VmDetail {
        row: row(name, vm),
        summary: String::new(),
        requirements: Vec::new(),
        rules: Vec::new(),
        media: Vec::new(),
        posture: Vec::new(),
        quarantine: None,
        findings: about.map(|one| finding::row(name, one, Some(&vm.name))).collect(),
        remedies: Vec::new(),
        remediation: None,
        timeline: news.collect(),
        unasked: None,
    })
}

fn event(news: News) -> Event {
    let News { at, event, what, severity, .. } = news;
    Event { at, event, what, severity }
}

impl VmDetail {
    /// What is on record says more than what was heard, and when it was.
    fn remember(&mut self, records: Vec<News>) {
        let has = |kind: &str| records.iter().any(|record| record.event == kind);
        let (verdicts, quarantines) = (has("vm"), has("quarantine"));
        self.timeline.retain(|event| match event.event.as_str() {
            "status" => !verdicts,
            "quarantine" => !quarantines,
            _ => true,
        });
        self.timeline.extend(records.into_iter().map(event));
    }

    fn explain(&mut self, explanation: Explanation) {
        self.summary = explanation.summary;
        let remedy =
            |one: detector_core::api::view::Remedy| Remedy { what: one.what, command: one.command };
        self.remedies = explanation.remedies.into_iter().map(remedy).collect();
        for quarantine in explanation.quarantines {
            self.quarantine = Some(quarantine.mode.clone());
            let what = match quarantine.cause.as_str() {
                "operator" => "A person has quarantined it",
                _ => "It was quarantined by the policy",
            };
            self.timeline.push(Event {
                at: quarantine.since,
                event: "quarantine".to_owned(),
                what: format!("{what} ({}): {}", quarantine.mode, quarantine.note),
                severity: None,
            });
        }
        let Some(vm) = explanation.vm else { return };
        self.requirements = vm
            .requirements
            .into_iter()
            .map(|one| RequirementRow {
                outcome: word(one.outcome),
                id: one.id,
                sentence: one.sentence,
                finding: one.finding,
                remedy: one.remedy,
            })
            .collect();
        self.rules = vm.rules;
        self.media = vm.media.into_iter().map(medium).collect();
        let said = [
            vm.posture.and_then(|posture| serde_json::to_value(posture).ok()),
            vm.guest.and_then(|guest| serde_json::to_value(guest).ok()),
        ];
        for (origin, value) in ["", "guest says: "].into_iter().zip(said) {
            let fields = value.as_ref().and_then(|value| value.as_object());
            for (name, value) in fields.into_iter().flatten().filter(|(_, value)| !value.is_null())
            {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let name = format!("{origin}{}", name.replace('_', " "));
                self.posture.push(crate::view::Pair { name, value });
            }
        }
    }

    fn remediate(&mut self, view: RemediationView) {
        let history = view.history.into_iter().map(|event| Event {
            at: event.at,
            event: "remediation".to_owned(),
            what: event.what,
            severity: None,
        });
        self.timeline.extend(history);
        self.remediation = Some(RemediationRow {
            outcome: view.outcome.as_str().to_owned(),
            stage: view.stage.as_str().to_owned(),
            waits: view.waits,
            needed: view.needed,
            approvals: view.counted.len(),
            digests: view.media.into_iter().filter_map(|one| one.sha256).collect(),
            is_over: view.ended.is_some(),
            steps: view
                .steps
                .into_iter()
                .map(|step| StepRow {
                    step: step.step,
                    state: step.state,
                    effect: step.effect,
                    note: step.note,
                })
                .collect(),
        });
    }
}

fn medium(view: MediumView) -> MediumRow {
    let (evidence, sha256, layers, why) = match view.evidence {
        EvidenceView::Pending => ("pending", None, Vec::new(), None),
        EvidenceView::Chain { layers, sha256, .. } => ("digested", Some(sha256), layers, None),
        EvidenceView::Unreadable(why) => ("unreadable", None, Vec::new(), Some(why)),
        EvidenceView::Remote => ("remote", None, Vec::new(), None),
    };
    let (role, evidence) = (word(view.role), evidence.to_owned());
    MediumRow { role, source: view.source, evidence, sha256, layers, why }
}
