use crate::model::{Image, ImageFormat, MediumRole, SecurityProfile, Template, TemplateStatus};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::moment;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateView {
    pub id: String,
    pub version: Option<String>,
    pub os: Option<String>,
    /// `draft`, `approved`, `deprecated`, `revoked`, or `expired`.
    pub status: String,
    /// Why it has this status.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it got this status.
    #[serde(default)]
    pub since: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// Grows with every change of its manifest.
    #[serde(default)]
    pub serial: Option<u64>,
    /// The trusted key by which its manifest is signed.
    #[serde(default)]
    pub signed_by: Option<String>,
    pub images: Vec<ImageView>,
    /// What its VMs have to be like; what is absent is left to the policy.
    #[serde(default)]
    pub profile: SecurityProfile,
    /// VMs that descend from it.
    pub vms: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    pub role: MediumRole,
    pub sha256: String,
    /// `raw` or `qcow2`, where the manifest says.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// Where it is kept.
    #[serde(default)]
    pub path: Option<String>,
}

impl TemplateView {
    /// A template with the VMs that descend from it, as it stands at this moment.
    pub fn of(template: &Template, vms: Vec<String>, now: crate::model::Timestamp) -> Self {
        Self {
            id: template.id.clone(),
            version: template.version.clone(),
            os: template.os.clone(),
            status: standing(template, now).to_owned(),
            reason: template.reason.clone(),
            since: template.since.map(moment),
            expires: template.expires.map(moment),
            serial: template.serial,
            signed_by: template.signed_by.clone(),
            images: template.images.iter().map(ImageView::from).collect(),
            profile: template.profile.clone(),
            vms,
        }
    }

    /// `ID`, or `ID@VERSION` where it has a version.
    pub fn name(&self) -> String {
        match &self.version {
            None => self.id.clone(),
            Some(version) => format!("{}@{version}", self.id),
        }
    }
}

impl From<&Image> for ImageView {
    fn from(image: &Image) -> Self {
        Self {
            role: image.role,
            sha256: image.sha256.to_string(),
            format: image.format,
            path: image.path.as_ref().map(|path| path.display().to_string()),
        }
    }
}

/// The status of a template at this moment, in a word.
pub fn standing(template: &Template, now: crate::model::Timestamp) -> &'static str {
    let expired = template.expires.is_some_and(|at| at <= now);
    match template.status {
        TemplateStatus::Approved | TemplateStatus::Deprecated if expired => "expired",
        status => status.as_str(),
    }
}
