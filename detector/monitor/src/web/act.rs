//! What people have done, from the page and by the JSON interface.

use axum::{
    Extension, Form, Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use detector_core::{
    api::{
        Request, Role,
        schema::{ModeSpec, TargetSpec},
    },
    model::Digest,
    remediate::Outcome,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App, page,
    session::{Identity, Note, lock},
};
use crate::source::AskError;

/// The longest reason in characters.
const LONGEST_REASON: usize = 300;

/// Something to be done.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Action {
    /// `quarantine`, `sandbox`, `release`, `acknowledge`, `remediate`, `approve`, `reject` or `abort`.
    action: String,
    /// `vm:UUID`, `mac:MAC` or `port:NAME`; of `acknowledge` the finding's identifier.
    target: String,
    /// Why; it goes into the host's audit.
    reason: String,
    /// Names it: where it is sent twice, it is done once.
    #[serde(default = "Uuid::new_v4")]
    id: Uuid,
    /// Of `remediate`: `patched`, `template` or `replaced`.
    #[serde(default)]
    outcome: String,
    /// The template of that.
    #[serde(default)]
    template: String,
    /// Of `approve`: SHA-256 digests, with commas between them.
    #[serde(default)]
    digests: String,
}

#[derive(Deserialize)]
pub(super) struct Sent {
    csrf: String,
    host: String,
    /// Where to go back to.
    #[serde(default)]
    back: String,
    #[serde(flatten)]
    action: Action,
}

/// Why nothing was done.
enum Undone {
    Bad(String),
    Forbidden(String),
    Failed(AskError),
}

impl Action {
    /// As a daemon is asked.
    fn request(&self) -> Result<Request, Undone> {
        let bad = |why: &str| Undone::Bad(why.to_owned());
        let reason = self.reason.trim().to_owned();
        if reason.is_empty() {
            return Err(bad("A reason is needed: it goes into the audit."));
        }
        if reason.chars().count() > LONGEST_REASON {
            return Err(bad("The reason is too long."));
        }
        let target = || {
            Ok(match self.target.split_once(':') {
                Some(("vm", name)) => TargetSpec::Vm(name.to_owned()),
                Some(("mac", mac)) => TargetSpec::Mac(mac.to_owned()),
                Some(("port", name)) => TargetSpec::Port(name.to_owned()),
                _ => return Err(bad("What is it about? Expected vm:UUID, mac:MAC or port:NAME.")),
            })
        };
        let vm = || match target()? {
            TargetSpec::Vm(name) => Ok(name),
            _ => Err(bad("Only a VM is remediated.")),
        };
        let quarantine = |mode| {
            let (target, reason) = (target()?, reason.clone());
            Ok(Request::QuarantineAdd { target, reason, mode: Some(mode) })
        };
        match self.action.as_str() {
            "quarantine" => quarantine(ModeSpec::Drop),
            "sandbox" => quarantine(ModeSpec::Sandbox),
            "release" => Ok(Request::QuarantineRelease { target: target()?, reason }),
            "acknowledge" => Ok(Request::FindingAck { id: self.target.clone(), reason }),
            "remediate" => {
                let template = self.template.trim().to_owned();
                let outcome = match (self.outcome.as_str(), template.is_empty()) {
                    ("patched", _) => Outcome::Patched { provisioner: None },
                    ("template", false) => Outcome::Template { template },
                    ("replaced", false) => Outcome::Replaced { template },
                    ("template" | "replaced", true) => return Err(bad("Which template?")),
                    _ => return Err(bad("How is it to come back?")),
                };
                let (digests, alike) = (Vec::new(), false);
                Ok(Request::RemediateStart { vm: vm()?, outcome, reason, digests, alike })
            }
            "approve" => {
                let texts = self.digests.split(',').map(str::trim).filter(|text| !text.is_empty());
                let digests: Option<Vec<Digest>> =
                    texts.map(|text| serde_json::from_value(text.into()).ok()).collect();
                let digests = digests.filter(|all| !all.is_empty());
                let digests = digests.ok_or_else(|| bad("Which digests are approved?"))?;
                Ok(Request::RemediateApprove { vm: vm()?, digests, reason })
            }
            "reject" => Ok(Request::RemediateReject { vm: vm()?, reason }),
            "abort" => Ok(Request::RemediateAbort { vm: vm()?, reason }),
            _ => Err(bad("No such action.")),
        }
    }

    /// What has been done, for people.
    fn done(&self) -> &'static str {
        match self.action.as_str() {
            "quarantine" => "It is in quarantine: it neither sends nor receives.",
            "sandbox" => "It is in quarantine, and speaks with the sandbox only.",
            "release" => "The quarantine is lifted.",
            "acknowledge" => "It is noted that somebody sees to it.",
            "remediate" => "The remediation has begun.",
            "approve" => "Your approval counts.",
            "reject" => "It does not come back.",
            _ => "The remediation is aborted.",
        }
    }
}

async fn carry_out(
    app: &App,
    identity: &Identity,
    host: &str,
    action: &Action,
) -> Result<(), Undone> {
    let request = action.request()?;
    let needed = Role::needed_for(&request);
    let user = identity.user.as_str();
    if identity.role < needed {
        tracing::warn!(user, host, action = ?action.action, "refused for lack of a role");
        let (own, needed) = (identity.role.as_str(), needed.as_str());
        let why = format!("This takes the role {needed}, and yours is {own}.");
        return Err(Undone::Forbidden(why));
    }
    tracing::info!(user, host, action = ?action.action, target = ?action.target, "asked");
    let who = format!("{user} ({})", identity.role.as_str());
    let asked = app.desk.ask_once(action.id, (host, &who), request).await;
    asked.map(drop).map_err(Undone::Failed)
}

pub(super) async fn from_page(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Form(sent): Form<Sent>,
) -> Response {
    if !identity.has_sent(&sent.csrf) {
        return page::refused(&app, &identity, "The form was too old. Please try again.");
    }
    let note = match carry_out(&app, &identity, &sent.host, &sent.action).await {
        Ok(()) => Note { good: true, text: sent.action.done().to_owned() },
        Err(Undone::Forbidden(why)) => return page::refused(&app, &identity, &why),
        Err(Undone::Bad(text)) => Note { good: false, text },
        Err(Undone::Failed(error)) => Note { good: false, text: error.to_string() },
    };
    lock(&app.sessions).leave(&identity, note);
    Redirect::to(own_path(&sent.back)).into_response()
}

/// A page of ours, whatever a form says.
fn own_path(back: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?=&".contains(&byte);
    let is_own = back.starts_with('/') && !back.starts_with("//") && back.bytes().all(plain);
    if is_own { back } else { "/" }
}

/// What came of an action.
#[derive(Serialize, ToSchema)]
pub(super) struct Acted {
    done: bool,
    /// What has been done, or why nothing was.
    message: String,
}

/// Has something done on a host.
#[utoipa::path(
    post, path = "/api/v1/hosts/{host}/actions", tag = "acting",
    params(("host" = String, Path), ("x-csrf-token" = String, Header, description = "As `GET /api/v1/session` says")),
    request_body = Action,
    responses((status = 200, body = Acted), (status = 400, body = Acted), (status = 403, body = Acted),
        (status = 409, description = "The host refuses", body = Acted), (status = 502, description = "It does not answer", body = Acted)),
)]
pub(super) async fn by_json(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(host): Path<String>,
    headers: HeaderMap,
    Json(action): Json<Action>,
) -> Response {
    let token = headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
    let outcome = if token.is_some_and(|token| identity.has_sent(token)) {
        carry_out(&app, &identity, &host, &action).await
    } else {
        Err(Undone::Forbidden(
            "The header x-csrf-token has to say what `GET /api/v1/session` says.".to_owned(),
        ))
    };
    let (status, message) = match outcome {
        Ok(()) => (StatusCode::OK, action.done().to_owned()),
        Err(Undone::Bad(why)) => (StatusCode::BAD_REQUEST, why),
        Err(Undone::Forbidden(why)) => (StatusCode::FORBIDDEN, why),
        Err(Undone::Failed(error)) => {
            let status = match error {
                AskError::NoHost(_) => StatusCode::NOT_FOUND,
                AskError::Refused(_) => StatusCode::CONFLICT,
                _ => StatusCode::BAD_GATEWAY,
            };
            (status, error.to_string())
        }
    };
    (status, Json(Acted { done: status == StatusCode::OK, message })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let digest = "0".repeat(64);
        let cases = [
            (
                "quarantine",
                "vm:a",
                "",
                "",
                r#"{"quarantine-add":{"target":{"vm":"a"},"reason":"r","mode":"drop"}}"#,
            ),
            (
                "sandbox",
                "port:3/1",
                "",
                "",
                r#"{"quarantine-add":{"target":{"port":"3/1"},"reason":"r","mode":"sandbox"}}"#,
            ),
            (
                "release",
                "mac:52:54:00:00:00:01",
                "",
                "",
                r#"{"quarantine-release":{"target":{"mac":"52:54:00:00:00:01"},"reason":"r"}}"#,
            ),
            ("acknowledge", "00ff", "", "", r#"{"finding-ack":{"id":"00ff","reason":"r"}}"#),
            (
                "remediate",
                "vm:a",
                "patched",
                "",
                r#"{"remediate-start":{"vm":"a","outcome":{"patched":{"provisioner":null}},"reason":"r"}}"#,
            ),
            ("abort", "vm:a", "", "", r#"{"remediate-abort":{"vm":"a","reason":"r"}}"#),
            (
                "approve",
                "vm:a",
                "",
                &digest,
                &format!(
                    r#"{{"remediate-approve":{{"vm":"a","digests":["{digest}"],"reason":"r"}}}}"#
                ),
            ),
            ("approve", "vm:a", "", "", ""),
            ("approve", "vm:a", "", "00", ""),
            ("remediate", "vm:a", "template", "", ""),
            ("remediate", "mac:a", "patched", "", ""),
            ("release", "a", "", "", ""),
            ("reload", "vm:a", "", "", ""),
        ];
        for (action, target, outcome, digests, expect) in cases {
            let action = Action {
                action: action.to_owned(),
                target: target.to_owned(),
                reason: " r ".to_owned(),
                id: Uuid::nil(),
                outcome: outcome.to_owned(),
                template: String::new(),
                digests: digests.to_owned(),
            };
            let request =
                action.request().ok().map(|request| serde_json::to_string(&request).unwrap());
            assert_eq!(request.unwrap_or_default(), expect, "{action:?}");
            let without = Action { reason: " ".to_owned(), ..action };
            assert!(matches!(without.request(), Err(Undone::Bad(_))));
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        let cases = [
            ("/vms?status=denied&page=1", true),
            ("/hosts/a/vms/00000000-0000-4000-8000-000000000001", true),
            ("", false),
            ("https://evil.example/", false),
            ("//evil.example/", false),
            ("/\\evil.example/", false),
            ("/a\r\nset-cookie: x", false),
        ];
        for (back, expect) in cases {
            assert_eq!(own_path(back) == back, expect, "{back}");
        }
    }
}
