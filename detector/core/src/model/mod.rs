//! Plain types: what is known about the host, its VMs and their images.

mod adoption;
mod births;
mod dhcp;
mod evidence;
mod finding;
mod fleet;
mod guest;
mod learned;
mod link;
mod load;
mod mitigation;
mod mode;
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
pub use births::Births;
pub use dhcp::DhcpPrint;
pub use evidence::{Chain, Digest, DigestParseError, Evidence, Layer};
pub use finding::{
    Category, Class, Finding, FindingKey, FindingKind, Severity, Subject, Technique,
};
pub use fleet::{FleetStanding, RefusedOffer, Told};
pub use guest::GuestClaims;
pub use learned::{KnownLease, Learned};
pub use link::{Link, LinkKind};
pub use load::{FloodLimits, Load};
pub use mitigation::{BlastLimits, Hold, Mitigations, Recorded, Word};
pub use mode::{
    Deed, Maintenance, ModeRecord, ModeRefusal, ModeRequest, ObservedMode, Ticks, mode_text,
};
pub use observed::{Observed, ObservedInterface, Passage, Shield};
pub use policy::{
    AddressRule, EvidenceLevel, ModeRule, ModeScope, Policy, Revoked, SandboxRules, SandboxService,
    ServiceKind, ShutDown,
};
pub use posture::{Firmware, LaunchSecurity, Posture, TpmKind};
pub use process::{
    Attachment, AttachmentKind, Curb, Curbed, HeldTap, Holds, ProcessId, Processes, Program,
    Recognised, Says, VmProcess,
};
pub use quarantine::{Quarantine, QuarantineTarget, UnknownScope};
pub use template::{
    FirmwareKind, Image, ImageFormat, Registry, Rejected, SecurityProfile, Template, TemplateStatus,
};
pub use time::{Skew, Timestamp, Today};
pub use vm::{ImageFile, Medium, MediumRole, MediumSource, Nic, NicSettings, PowerState, Vm};
pub use world::{Graces, Health, RefusedFrame, Seen, Source, Unsettled, World};
