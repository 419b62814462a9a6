use serde::{Deserialize, Serialize};

use super::{Digest, MediumRole, Timestamp};

/// The templates in force, and what could not be read of their manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    pub templates: Vec<Template>,
    pub rejected: Vec<Rejected>,
    /// Why the manifests cannot be read, when they cannot: the templates are then those that were
    /// read last, and nothing new is admitted by them.
    #[serde(default)]
    pub lost: Option<String>,
    /// The first manifest, or entry of one, of which nothing is known: it may be the one that a VM
    /// needs, so that nobody is denied for the lack of it. What is known holds.
    #[serde(default)]
    pub incomplete: Option<String>,
}

impl Registry {
    /// Why a template that is not here may exist all the same.
    pub fn gap(&self) -> Option<&str> {
        self.lost.as_deref().or(self.incomplete.as_deref())
    }
}

/// An approved image, or rather the set of images that a VM of it boots from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub id: String,
    pub version: Option<String>,
    pub os: Option<String>,
    pub status: TemplateStatus,
    /// The template admits nobody from this moment on.
    pub expires: Option<Timestamp>,
    pub images: Vec<Image>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateStatus {
    Approved,
    /// Still admitted, with a finding.
    Deprecated,
    Revoked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub role: MediumRole,
    pub sha256: Digest,
}

/// An entry of a file that was refused while the rest of the file, and the other files, hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejected {
    /// File, and line or entry where there is one.
    pub place: String,
    /// What is wrong and what was expected.
    pub why: String,
}
