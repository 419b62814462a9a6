use std::{collections::BTreeSet, path::PathBuf};

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

/// An approved image, or rather the set of images that a VM of it boots from. Several versions share an
/// id; each has a status of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub id: String,
    pub version: Option<String>,
    pub os: Option<String>,
    pub status: TemplateStatus,
    /// Why it has this status, in a person's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it got this status, as its manifest says.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// The template admits nobody from this moment on.
    pub expires: Option<Timestamp>,
    pub images: Vec<Image>,
    #[serde(default)]
    pub profile: SecurityProfile,
    /// Grows with every change of the manifest.
    #[serde(default)]
    pub serial: Option<u64>,
    /// The trusted key by which the manifest is signed.
    #[serde(default)]
    pub signed_by: Option<String>,
}

impl Template {
    /// A template without images, of which nothing else is known.
    pub fn new(id: impl Into<String>, status: TemplateStatus) -> Self {
        Self {
            id: id.into(),
            version: None,
            os: None,
            status,
            reason: None,
            since: None,
            expires: None,
            images: Vec::new(),
            profile: SecurityProfile::default(),
            serial: None,
            signed_by: None,
        }
    }

    /// What people call it: `ID`, or `ID@VERSION` where it has a version.
    pub fn name(&self) -> String {
        match &self.version {
            None => self.id.clone(),
            Some(version) => format!("{}@{version}", self.id),
        }
    }

    /// A name that no other version has: `ID@` where it has no version.
    pub fn exact_name(&self) -> String {
        format!("{}@{}", self.id, self.version.as_deref().unwrap_or(""))
    }

    /// Whether the name is its own: `ID` names every version of a template, `ID@VERSION` one, `ID@`
    /// the one without a version.
    pub fn is_named(&self, name: &str) -> bool {
        name == self.id
            || name.strip_prefix(self.id.as_str()).and_then(|rest| rest.strip_prefix('@'))
                == Some(self.version.as_deref().unwrap_or(""))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateStatus {
    Approved,
    /// Still admitted, with a finding.
    Deprecated,
    Revoked,
    /// Nobody has approved it yet: it admits nobody.
    Draft,
}

impl TemplateStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Deprecated => "deprecated",
            Self::Revoked => "revoked",
            Self::Draft => "draft",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub role: MediumRole,
    pub sha256: Digest,
    /// How the image is read, for people: its digest is that of the whole file either way.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// Where the image is kept, for it to be hashed again. Nothing is admitted by it.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

impl Image {
    pub const fn new(role: MediumRole, sha256: Digest) -> Self {
        Self { role, sha256, format: None, path: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    Raw,
    Qcow2,
}

impl ImageFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What the VMs of a template have to be like, and what they may have. What is `None` is left to the
/// policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityProfile {
    /// The kind of firmware that they boot by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareKind>,
    /// Whether secure boot has to be on; `false` asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Whether they have to have a TPM; `false` asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<bool>,
    /// Whether they may have devices of the host (PCI, USB, mediated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_devices: Option<bool>,
    /// Whether they may have memory that others see (ivshmem, shared memory backing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory: Option<bool>,
    /// Whether they may mount directories of the host (virtiofs, 9p).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_directories: Option<bool>,
    /// Whether settings may reach the hypervisor that the VM's manager has not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_arguments: Option<bool>,
    /// The only kinds of device that they may have, by libvirt's name of the element: `disk`,
    /// `interface`, `graphics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<BTreeSet<String>>,
}

impl SecurityProfile {
    /// Whether it leaves everything to the policy.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    Bios,
    Efi,
}

/// An entry of a file that was refused while the rest of the file, and the other files, hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejected {
    /// File, and line or entry where there is one.
    pub place: String,
    /// What is wrong and what was expected.
    pub why: String,
}
