//! What people ask to be done: on record before it is done, and before it is answered what has come of it.

use std::time::Duration;

use detector_core::model::ModeRequest;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    api::{ApiError, ErrorCode, Reply, Request, peer::Peer, schema::TargetSpec},
    audit::{Asked, Entry, Kind, Subject, Who, Writer},
};

/// How long a user's name may take to be found.
const NAMES: Duration = Duration::from_secs(2);

/// Something that a person asks to be done.
#[derive(Debug)]
pub(super) struct Action {
    entry: Entry,
    /// It makes safe, or gives back what was cut off: it is done though the audit cannot be written.
    must: bool,
}

/// An action that is on record, and what is to be said of it.
#[derive(Debug)]
pub(super) struct Begun {
    action: Action,
    of: Asked,
}

type Outcome = Result<Reply, ApiError>;

/// Whether what a request asks to be done is put on record.
pub(crate) fn is_recorded(request: &Request) -> bool {
    Action::of(request).is_some()
}

impl Action {
    /// What a request asks to be done; `None` of one that only asks to be told something. Every request is here, so
    /// that no new one is forgotten.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let (name, subject, why, must) = match request {
            Request::QuarantineAdd { target, reason, .. } => {
                ("quarantine-add", subject(target), reason.clone(), true)
            }
            Request::QuarantineRelease { target, reason } => {
                ("quarantine-release", subject(target), reason.clone(), false)
            }
            Request::ModeChange { change, reason } => {
                (mode_action(change), Subject::new("host", "mode"), reason.clone(), is_way_out(change))
            }
            Request::ClockConfirm { reason, .. } => {
                ("clock-confirm", Subject::new("host", "clock"), reason.clone(), false)
            }
            Request::FindingAck { id, reason } => {
                ("finding-ack", Subject::new("finding", id), reason.clone(), false)
            }
            Request::FindingSuppress { what, reason, .. } => {
                ("finding-suppress", Subject::new("finding", what), reason.clone(), false)
            }
            Request::FindingUnsuppress { what } => {
                ("finding-unsuppress", Subject::new("finding", what), String::new(), true)
            }
            Request::Reload {} => {
                ("reload", Subject::new("host", "configuration"), String::new(), false)
            }
            Request::RemediateStart { vm, reason, .. } => {
                ("remediate-start", Subject::new("vm", vm), reason.clone(), false)
            }
            Request::RemediateApprove { vm, reason, .. } => {
                ("remediate-approve", Subject::new("vm", vm), reason.clone(), false)
            }
            Request::RemediateAbort { vm, reason } => {
                ("remediate-abort", Subject::new("vm", vm), reason.clone(), false)
            }
            Request::RemediateReject { vm, reason } => {
                ("remediate-reject", Subject::new("vm", vm), reason.clone(), false)
            }
            Request::MitigationApprove { vms, all, reason } => {
                ("mitigation-approve", held(vms, *all), reason.clone(), false)
            }
            Request::MitigationReject { vms, all, reason } => {
                ("mitigation-reject", held(vms, *all), reason.clone(), false)
            }
            Request::FindingShow { .. }
            | Request::MitigationList {}
            | Request::RemediatePlan { .. }
            | Request::RemediateStatus { .. }
            | Request::AlertStatus {}
            | Request::AlertList {}
            | Request::AlertTest { .. }
            | Request::Status {}
            | Request::Metrics {}
            | Request::ClockShow {}
            | Request::PortList { .. }
            | Request::PortShow { .. }
            | Request::VmList {}
            | Request::VmShow { .. }
            | Request::QuarantineList {}
            | Request::QuarantineShow { .. }
            | Request::QuarantineWatch {}
            | Request::EnforcePreview {}
            | Request::TemplateList {}
            | Request::TemplateShow { .. }
            | Request::FindingList {}
            | Request::ProcessList {}
            | Request::ProcessShow { .. }
            | Request::Explain { .. }
            | Request::PolicyShow {}
            | Request::PolicyDiff { .. }
            // What is answered to libvirt's hook is a decision, and recorded as one.
            | Request::Admit { .. } => return None,
        };
        let asked = serde_json::to_string(request).ok();
        let entry = Entry::new(Kind::ActionAsked, Who::Daemon)
            .on(subject)
            .change(None::<String>, name)
            .why(why)
            .because("request", asked);
        Some(Self { entry, must })
    }

    /// Puts it on record.
    ///
    /// # Errors
    ///
    /// It cannot be, and so it is not to be done.
    pub(super) async fn begin(
        mut self,
        (peer, on_behalf): (&Peer, Option<Who>),
        audit: &Writer,
    ) -> Result<Begun, ApiError> {
        let (someone, uid) = (peer.clone(), peer.uid);
        self.entry.who = match on_behalf {
            Some(who) => who,
            None => {
                let named = timeout(NAMES, spawn_blocking(move || Who::peer(&someone))).await;
                named.ok().and_then(Result::ok).unwrap_or(Who::User { uid })
            }
        };
        let now = jiff::Timestamp::now();
        match audit.action(now, self.entry.clone(), self.must).await {
            Ok(of) => Ok(Begun { action: self, of }),
            Err(why) => Err(ApiError::new(
                ErrorCode::Unavailable,
                format!(
                    "nothing was done: it cannot be put on record ({why}). What makes safe or gives back what \
                     was cut off is done all the same: `detector quarantine add`, `detector observe`, \
                     `detector break-glass`"
                ),
            )),
        }
    }
}

impl Begun {
    /// Waits for what has come of it, puts that on record, and only then answers.
    pub(super) async fn end(
        self,
        mut outcome: mpsc::Receiver<Outcome>,
        replies: mpsc::Sender<Outcome>,
        audit: &Writer,
    ) {
        let Some(outcome) = outcome.recv().await else {
            // The brain has stopped.
            return;
        };
        let result = match &outcome {
            Ok(Reply::Reloaded(view)) => view.refused.clone().map_or(Ok(()), Err),
            Ok(_) => Ok(()),
            Err(error) => Err(error.message.clone()),
        };
        let entry = self.action.entry.outcome(None, result);
        audit.outcome(jiff::Timestamp::now(), entry, self.of).await;
        let _ = replies.send(outcome).await;
    }
}

/// One VM by its name; several are in the request.
fn held(vms: &[String], all: bool) -> Subject {
    match vms {
        [one] if !all => Subject::new("vm", one),
        _ => Subject::new("host", "mitigations"),
    }
}

fn subject(target: &TargetSpec) -> Subject {
    match target {
        TargetSpec::Port(name) => Subject::new("port", name.as_str()),
        TargetSpec::Mac(mac) => Subject::new("mac", mac.as_str()),
        TargetSpec::Vm(name) => Subject::new("vm", name.as_str()),
    }
}

/// As a record names it.
pub(crate) fn mode_action(change: &ModeRequest) -> &'static str {
    match change {
        ModeRequest::Enforce { .. } => "enforce",
        ModeRequest::Confirm {} => "enforce-confirm",
        ModeRequest::Rollback {} => "enforce-rollback",
        ModeRequest::Observe {} => "observe",
        ModeRequest::BreakGlass { .. } => "break-glass",
        ModeRequest::Maintenance { .. } => "maintenance",
        ModeRequest::EndMaintenance {} => "maintenance-end",
    }
}

/// Whether it gives back what was cut off: no disk may keep people from that.
fn is_way_out(change: &ModeRequest) -> bool {
    match change {
        ModeRequest::Rollback {} | ModeRequest::Observe {} | ModeRequest::BreakGlass { .. } => true,
        ModeRequest::Enforce { .. }
        | ModeRequest::Confirm {}
        | ModeRequest::Maintenance { .. }
        | ModeRequest::EndMaintenance {} => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Role;

    #[test]
    fn what_is_done_takes_more_than_what_is_asked() {
        let cases = [
            (r#"{"status":{}}"#, Role::View),
            (r#"{"quarantine-watch":{}}"#, Role::View),
            (r#"{"policy-diff":{"text":""}}"#, Role::View),
            (r#"{"quarantine-add":{"target":{"vm":"a"},"reason":""}}"#, Role::Operate),
            (r#"{"quarantine-release":{"target":{"vm":"a"}}}"#, Role::Operate),
            (r#"{"finding-suppress":{"what":"a","reason":"","seconds":1}}"#, Role::Operate),
            (r#"{"reload":{}}"#, Role::Operate),
            (r#"{"mode-change":{"change":{"observe":{}}}}"#, Role::Administer),
            (r#"{"clock-confirm":{"says":1,"reason":""}}"#, Role::Administer),
            (r#"{"admit":{"name":"a","op":"start","xml":""}}"#, Role::Administer),
            (r#"{"remediate-plan":{"vm":"a","outcome":{"patched":{}}}}"#, Role::View),
            (r#"{"remediate-status":{}}"#, Role::View),
            (
                r#"{"remediate-start":{"vm":"a","outcome":{"patched":{}},"reason":""}}"#,
                Role::Operate,
            ),
            (
                r#"{"remediate-start":{"vm":"a","outcome":{"template":{"template":"t"}},"reason":"",
                    "digests":["0000000000000000000000000000000000000000000000000000000000000000"]}}"#,
                Role::Administer,
            ),
            (r#"{"remediate-abort":{"vm":"a","reason":""}}"#, Role::Operate),
            (r#"{"remediate-approve":{"vm":"a","digests":[],"reason":""}}"#, Role::Administer),
            (r#"{"remediate-reject":{"vm":"a","reason":""}}"#, Role::Administer),
            (r#"{"mitigation-list":{}}"#, Role::View),
            (r#"{"mitigation-approve":{"all":true,"reason":""}}"#, Role::Administer),
            (r#"{"mitigation-reject":{"vms":["a"],"reason":""}}"#, Role::Administer),
        ];
        for (text, expect) in cases {
            let request: Request = serde_json::from_str(text).unwrap();
            assert_eq!(Role::needed_for(&request), expect, "{text}");
            // Whatever is put on record as an action changes something.
            let acts = is_recorded(&request);
            assert!(!acts || expect > Role::View, "{text}");
        }
    }
}
