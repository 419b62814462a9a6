use detector_core::{
    api::{
        Reply, Request,
        view::{PolicyView as Policy, TemplateView},
    },
    fleet::message::Time,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Missing, word};
use crate::desk::Desk;

/// A template of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TemplateRow {
    /// `ID` or `ID@VERSION`.
    pub name: String,
    pub id: String,
    pub os: Option<String>,
    pub status: String,
    pub reason: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Time>,
    pub signed_by: Option<String>,
    /// Digests of its images.
    pub images: Vec<String>,
    /// Names of the VMs that descend from it.
    pub vms: Vec<String>,
}

/// The policy of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PolicyView {
    /// The file that it was read from; null for the built-in policy.
    pub origin: Option<String>,
    pub rules: Vec<RuleRow>,
    /// As Cedar.
    pub text: String,
    /// Why the file is not what is in force; empty when it is.
    pub refused: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleRow {
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    pub action: String,
    pub sentence: String,
    pub remedy: String,
}

/// # Errors
///
/// The host is not known, or does not answer.
pub async fn templates(desk: &Desk, host: &str, who: &str) -> Result<Vec<TemplateRow>, Missing> {
    match desk.ask((host, who), Request::TemplateList {}).await? {
        Reply::Templates(all) => Ok(all.into_iter().map(template).collect()),
        _ => Err(Missing::Other),
    }
}

fn template(view: TemplateView) -> TemplateRow {
    TemplateRow {
        name: view.name(),
        id: view.id,
        os: view.os,
        status: view.status,
        reason: view.reason,
        expires: view.expires,
        signed_by: view.signed_by,
        images: view.images.into_iter().map(|image| image.sha256).collect(),
        vms: view.vms,
    }
}

/// # Errors
///
/// The host is not known, or does not answer.
pub async fn policy(desk: &Desk, host: &str, who: &str) -> Result<PolicyView, Missing> {
    let Reply::Policy(view) = desk.ask((host, who), Request::PolicyShow {}).await? else {
        return Err(Missing::Other);
    };
    let Policy { origin, rules, text, refused, .. } = *view;
    let rules = rules.into_iter().map(|rule| RuleRow {
        effect: word(rule.effect),
        id: rule.id,
        action: rule.action,
        sentence: rule.sentence,
        remedy: rule.remedy,
    });
    Ok(PolicyView { origin, rules: rules.collect(), text, refused })
}
