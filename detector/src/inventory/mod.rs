//! Where the VMs of this host are known from.
//!
//! An [`Inventory`] sends [`SourceEvent`]s: [`LibvirtSource`] from a thread of its own, [`FileSource`] from a
//! task. There may be several of each. What they say is merged where decisions are made.

pub mod file;
mod libvirt;
mod nic;
pub mod xml;

use std::collections::BTreeMap;

use detector_common::addr::Mac;
use detector_core::model::{
    Health, NicSettings, PowerState, Rejected, Source, Timestamp, Unsettled, Vm,
};
use uuid::Uuid;

pub use file::FileSource;
pub(crate) use libvirt::Client;
pub use libvirt::{Agents, Connection, LibvirtSource, NotDone, Power, Suspender, Told};
pub use xml::MetadataTrust;

/// Somewhere that VMs are known from, which says so by itself.
pub trait Inventory: Send {
    /// What its events are signed with: the URI of libvirt, the path of a file.
    fn name(&self) -> &str;

    /// Whether it reports what runs now, so that the ports it names go with their interfaces.
    fn is_live(&self) -> bool;

    /// Asks for a snapshot soon. It does not wait.
    fn resync(&self);
}

/// What a source has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEvent {
    /// [`Inventory::name`].
    pub source: String,
    pub update: Update,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few are under way at a time, and most are a VM")]
pub enum Update {
    /// Everything it knows. The source answers (again).
    Snapshot { vms: Vec<Vm>, overlays: BTreeMap<Mac, NicSettings>, refused: Vec<Refused> },
    /// One VM is there, or is different.
    Changed(Vm),
    /// The guest of one VM has stopped here to go on elsewhere.
    Departed(Uuid),
    /// One VM is no longer defined.
    Gone(Uuid),
    /// One VM cannot be understood; what was known of it stays.
    Refused(Refused),
    /// The source does not answer; what it said stays.
    Lost { why: String },
}

/// A VM or entry that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which VM, where that much is known.
    pub vm: Option<Uuid>,
    /// Which NICs it may have settings for.
    pub nics: Unsettled,
    pub rejected: Rejected,
}

impl Update {
    /// Brings what is known of a source up to date.
    pub fn apply(self, source: &mut Source, now: Timestamp) {
        match self {
            Self::Snapshot { vms, overlays, refused } => {
                let mut before = std::mem::take(&mut source.vms);
                source.vms = vms.into_iter().map(|vm| (vm.uuid, vm)).collect();
                source.outdated = refused.iter().filter_map(|refused| refused.vm).collect();
                for vm in &source.outdated {
                    if let Some(known) = before.remove(vm) {
                        source.vms.entry(*vm).or_insert(known);
                    }
                }
                let mut settings = std::mem::replace(&mut source.overlays, overlays);
                source.unsettled = Unsettled::default();
                for nics in refused.iter().map(|refused| &refused.nics) {
                    keep_settings(source, &mut settings, nics);
                }
                source.rejected = refused.into_iter().map(|refused| refused.rejected).collect();
                source.health = Health::Healthy;
            }
            Self::Changed(vm) => {
                forget_refusal(source, vm.uuid);
                source.vms.insert(vm.uuid, vm);
            }
            Self::Departed(uuid) => {
                if let Some(vm) = source.vms.get_mut(&uuid) {
                    vm.power = PowerState::InTransit;
                }
            }
            Self::Gone(uuid) => {
                forget_refusal(source, uuid);
                source.vms.remove(&uuid);
            }
            Self::Refused(Refused { vm, rejected, .. }) => {
                source.outdated.extend(vm);
                source.rejected.retain(|other| other.place != rejected.place);
                source.rejected.push(rejected);
            }
            Self::Lost { why } => {
                let since = match source.health {
                    Health::Lost { since, .. } => since,
                    Health::Healthy => now,
                };
                source.health = Health::Lost { since, why };
            }
        }
    }
}

/// The place of a refusal that concerns one VM of a manager ends with its UUID.
fn place_of(source: &str, vm: Uuid) -> String {
    format!("{source}, domain {vm}")
}

/// What is known of the settings for a NIC stays when they cannot be read any more.
fn keep_settings(source: &mut Source, before: &mut BTreeMap<Mac, NicSettings>, nics: &Unsettled) {
    let Unsettled::Nics(nics) = nics else {
        source.unsettled = Unsettled::Any;
        return;
    };
    for nic in nics {
        match (before.remove(nic), &mut source.unsettled) {
            (Some(settings), _) => {
                source.overlays.entry(*nic).or_insert(settings);
            }
            (None, Unsettled::Nics(unsettled)) => {
                unsettled.insert(*nic);
            }
            (None, Unsettled::Any) => {}
        }
    }
}

fn forget_refusal(source: &mut Source, vm: Uuid) {
    source.outdated.remove(&vm);
    let end = place_of("", vm);
    source.rejected.retain(|rejected| !rejected.place.ends_with(&end));
}

#[cfg(test)]
mod tests;
