//! Plain types: what is known about the host, its VMs and their images.

mod adoption;
mod evidence;
mod finding;
mod guest;
mod learned;
mod link;
mod load;
mod observed;
mod policy;
mod posture;
mod process;
mod quarantine;
mod template;
mod time;
pub(crate) mod vm;
mod world;

pub use adoption::{Adoption, AdoptionRules, Neighbour};
pub use evidence::{Chain, Digest, DigestParseError, Evidence, Layer};
pub use finding::{Finding, FindingKey, FindingKind, Severity, Subject};
pub use guest::GuestClaims;
pub use learned::{KnownLease, Learned};
pub use link::{Link, LinkKind};
pub use load::{FloodLimits, Load};
pub use observed::{Observed, ObservedInterface, Passage, Shield};
pub use policy::{AddressRule, EvidenceLevel, Policy, Revoked};
pub use posture::{Firmware, LaunchSecurity, Posture, TpmKind};
pub use process::{
    Attachment, AttachmentKind, HeldTap, Holds, ProcessId, Processes, Program, Recognised, Says,
    VmProcess,
};
pub use quarantine::{Quarantine, QuarantineTarget, UnknownScope};
pub use template::{
    FirmwareKind, Image, ImageFormat, Registry, Rejected, SecurityProfile, Template, TemplateStatus,
};
pub use time::Timestamp;
pub use vm::{ImageFile, Medium, MediumRole, MediumSource, Nic, NicSettings, PowerState, Vm};
pub use world::{Health, Seen, Source, Unsettled, World};
