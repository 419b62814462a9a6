//! The hands of a remediation: what it has done to a VM outside of the kernel.
//!
//! The engine knows this trait and nothing behind it. Every deed may be asked for again after a crash, at whatever
//! point it was, and then goes on or finds that it is done. It blocks, on a thread of its own.

use std::{collections::BTreeMap, net::IpAddr, ops::ControlFlow, path::PathBuf};

use detector_core::{
    model::{Digest, MediumRole},
    remediate::Deed,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The VM that something is done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patient {
    pub uuid: Uuid,
    /// Chosen by whoever made the VM: no path and no command is made of it.
    pub name: String,
    /// The source that lists it: libvirt's URI, where that is one.
    pub source: String,
    /// When its workflow began, in milliseconds since the Unix epoch: with the UUID it names the workflow, so that
    /// what another one has left is not taken for this one's.
    pub workflow: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Keep as evidence what the VM is now.
    Evidence { first_frames: Vec<String> },
    /// End it (in order, then by force), and move its disks and NVRAM to the pool of the sandbox. Files of
    /// templates stay where they are, though the VM names them.
    Move { templates: Vec<PathBuf> },
    /// Have a provisioner change the VM, which is known under these addresses.
    Provision { provisioner: String, addresses: Vec<IpAddr> },
    /// Make a VM from the template in its place, and archive it.
    Replace { template: String, images: Vec<TemplateImage> },
    /// Freeze or stop a VM that no port can be cut off of.
    Contain,
}

/// An image of the template that a VM is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateImage {
    pub role: MediumRole,
    pub sha256: Digest,
    pub path: PathBuf,
    pub format: Option<String>,
}

impl Order {
    pub fn deed(&self) -> Deed {
        match self {
            Self::Evidence { .. } => Deed::Evidence,
            Self::Move { .. } => Deed::Move,
            Self::Provision { .. } => Deed::Provision,
            Self::Replace { .. } => Deed::Replace,
            Self::Contain => Deed::Contain,
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of a hundred, where that can be said.
    pub percent: Option<u8>,
    /// One line; what hears it cuts and escapes it.
    pub says: String,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence for people.
    pub says: String,
    /// What else there is to keep, such as the place of a manifest: bounded by the engine.
    pub more: BTreeMap<String, String>,
    /// The VM that has taken the patient's place.
    pub successor: Option<Uuid>,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It was told to stop, and has left everything whole: as before, or as after.
    #[error("it was stopped")]
    Stopped,
    /// A person has to see to it first; then it is asked for again.
    #[error("{0}")]
    Refused(String),
}

/// Hears how far it is; where it breaks, the deed stops at the next point where nothing is lost.
pub type Hear<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Whoever carries orders out.
pub trait Hands: Send + Sync + 'static {
    /// Whether the deed can be done on this host.
    ///
    /// # Errors
    ///
    /// Why not, in a sentence for people.
    fn can(&self, deed: Deed) -> Result<(), String>;

    /// Does it; what is done already is found to be so.
    ///
    /// # Errors
    ///
    /// Nothing is lost: what was there is there, at its old place or its new one.
    fn carry_out(
        &self,
        patient: &Patient,
        order: &Order,
        hear: &mut Hear<'_>,
    ) -> Result<Done, Failed>;
}
