//! What the status of a template says about the VMs that descend from it.

use super::{
    ports,
    text::{bounded, moment, quoted},
};
use crate::model::{Policy, Revoked, Template, TemplateStatus, Timestamp, Today, Vm, World};

/// In sentences for people.
pub(super) enum Approval {
    Admits(String),
    /// What is in force stays, and nothing new is admitted.
    Keeps {
        finding: String,
        remedy: String,
    },
    Refuses {
        finding: String,
        remedy: String,
    },
}

/// `in_force` is whether a grant of the VM is: a revocation need not cut those off at once, but admits
/// nobody new from its first moment on.
pub(super) fn approval(
    template: &Template,
    policy: &Policy,
    today: Today,
    in_force: bool,
) -> Approval {
    let name = quoted(&template.name());
    match template.status {
        TemplateStatus::Approved => Approval::Admits(format!("Template {name} is approved.")),
        TemplateStatus::Deprecated => {
            Approval::Admits(format!("Template {name} is deprecated and still admitted."))
        }
        TemplateStatus::Draft => Approval::Refuses {
            finding: format!("Template {name} is a draft, which nobody has approved."),
            remedy: "Approve it (`detector template approve`), or rebuild the VM from an approved \
                     template."
                .to_owned(),
        },
        TemplateStatus::Revoked => {
            let revoked = format!("Template {name} is revoked{}", because(template));
            match end(template, policy) {
                End::Never if in_force => Approval::Keeps {
                    finding: format!("{revoked}. The policy lets its VMs keep what is in force."),
                    remedy: "Rebuild the VM from an approved template.".to_owned(),
                },
                End::At(end) if in_force && today.has_come(end) != Some(true) => {
                    let end = moment(end);
                    Approval::Keeps {
                        finding: format!("{revoked}. Its VMs keep what is in force until {end}."),
                        remedy: format!("Rebuild the VM from an approved template before {end}."),
                    }
                }
                _ => Approval::Refuses {
                    finding: format!("{revoked}."),
                    remedy: "Rebuild the VM from an approved template.".to_owned(),
                },
            }
        }
    }
}

/// When VMs of a revoked template lose what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Now,
    At(Timestamp),
    Never,
}

/// When VMs of a revoked template lose what is in force. Where nobody says when it was revoked there is
/// no grace.
pub(super) fn end(template: &Template, policy: &Policy) -> End {
    match (policy.revoked, template.since) {
        (Revoked::Finding, _) => End::Never,
        (Revoked::Quarantine, None) => End::Now,
        (Revoked::Quarantine, Some(since)) => End::At(since + policy.revoked_grace),
    }
}

/// Whether a grant of the VM is in force.
pub(super) fn is_in_force(vm: &Vm, world: &World) -> bool {
    vm.nics.iter().any(|nic| {
        let links = world.links.values().filter(|link| Some(&link.name) == nic.port.as_ref());
        let mut held = links.filter_map(|link| world.observed.interfaces.get(&link.ifindex));
        held.any(|held| ports::held_macs(held).any(|mac| mac == nic.mac))
    })
}

/// The reason that the manifest gives, where it gives one.
fn because(template: &Template) -> String {
    template.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", bounded(reason)))
}
