//! What the policy asks of a VM: one function for each requirement.

use super::{
    Outcome, Requirement, VmStatus,
    lineage::{Lineage, Standing},
    text::{bounded, quoted, quoted_path},
};
use crate::model::{EvidenceLevel, Policy, Registry, Template, TemplateStatus, Timestamp, Vm};

/// What the requirements look at.
pub(super) struct Case<'a> {
    pub(super) vm: &'a Vm,
    pub(super) lineage: &'a Lineage<'a>,
    pub(super) policy: &'a Policy,
    pub(super) registry: &'a Registry,
    pub(super) now: Timestamp,
}

/// Every requirement, in the order in which people read them.
const ALL: [fn(&Case<'_>) -> Requirement; 8] = [
    media_listed,
    no_network_boot,
    media_local,
    media_readable,
    template_registered,
    evidence_sufficient,
    template_approved,
    template_unexpired,
];

/// Looks at every requirement, also behind one that fails, so that one reading shows all there is
/// to mend.
pub(super) fn check(case: &Case<'_>) -> Vec<Requirement> {
    ALL.iter().map(|requirement| requirement(case)).collect()
}

/// The verdict that follows. A failure outweighs what cannot be said yet: no further evidence
/// could mend it.
pub(super) fn verdict(requirements: &[Requirement]) -> VmStatus {
    let any = |outcome| requirements.iter().any(|requirement| requirement.outcome == outcome);
    if any(Outcome::Failed) {
        VmStatus::Denied
    } else if any(Outcome::Unknown) {
        VmStatus::Pending
    } else {
        VmStatus::Approved
    }
}

fn media_listed(case: &Case<'_>) -> Requirement {
    const ID: &str = "media-listed";
    match case.vm.media.len() {
        0 if case.word_suffices() => met(ID, "The VM lists no media; its source's word suffices."),
        0 => failed(
            ID,
            "The VM lists no media, so that nothing shows what it boots.",
            "Give the VM a disk that is based on a registered template.",
        ),
        1 => met(ID, "The VM boots from 1 medium."),
        count => met(ID, format!("The VM boots from {count} media.")),
    }
}

fn no_network_boot(case: &Case<'_>) -> Requirement {
    const ID: &str = "no-network-boot";
    match case.lineage.gaps.network {
        None => met(ID, "The VM does not boot from the network."),
        Some(_) if case.word_suffices() => {
            met(ID, "The VM may boot from the network; its source's word suffices.")
        }
        Some(_) => failed(
            ID,
            "The VM may boot from the network, so that whoever answers chooses what it runs.",
            "Take the network out of the VM's boot order.",
        ),
    }
}

fn media_local(case: &Case<'_>) -> Requirement {
    const ID: &str = "media-local";
    match case.lineage.gaps.remote {
        None => met(ID, "Every medium is a file or device of this host."),
        Some(_) if case.word_suffices() => {
            met(ID, "Not every medium can be read on this host; its source's word suffices.")
        }
        Some((role, what)) => failed(
            ID,
            format!("The {} {} cannot be read on this host.", role.as_str(), quoted(what)),
            "Put the medium on a file or block device of this host.",
        ),
    }
}

fn media_readable(case: &Case<'_>) -> Requirement {
    const ID: &str = "media-readable";
    let gaps = &case.lineage.gaps;
    match (gaps.unreadable, gaps.pending) {
        (None, None) => met(ID, "Every local medium has been read."),
        _ if case.word_suffices() => {
            met(ID, "Not every medium has been read; its source's word suffices.")
        }
        (Some((path, why)), _) => unknown(
            ID,
            format!("{} cannot be read: {}.", quoted_path(path), quoted(why)),
            "Make the file readable for the daemon, backing files included.",
        ),
        (None, Some(path)) => unknown(
            ID,
            format!("{} is being read.", quoted_path(path)),
            "Wait until its digest is known.",
        ),
    }
}

fn template_registered(case: &Case<'_>) -> Requirement {
    const ID: &str = "template-registered";
    match case.lineage.standing {
        Standing::Proven(template) | Standing::Declared(_, Some(template)) => {
            met(ID, format!("Template {} is registered.", quoted(&template.id)))
        }
        Standing::Declared(id, None) => case.absent(
            ID,
            format!("The declared template {} is not registered.", quoted(id)),
            "Add a manifest with this id, or correct the VM's declaration.",
        ),
        Standing::Open => unknown(
            ID,
            "Which template covers the media is not known yet.",
            "Wait until every medium has been read.",
        ),
        Standing::None => case.absent(ID, case.unmatched(), REGISTER),
    }
}

fn evidence_sufficient(case: &Case<'_>) -> Requirement {
    const ID: &str = "evidence-sufficient";
    match case.lineage.standing {
        Standing::Proven(_) if case.lineage.level() < Some(case.policy.evidence) => failed(
            ID,
            "A certificate of birth proves the template and the policy asks for a digest.",
            "Rebuild the VM from a registered template, or set policy.evidence to \"certificate\".",
        ),
        Standing::Proven(_) => match case.lineage.certified {
            None => met(ID, "The digests of what the VM boots prove its template."),
            Some(disk) => met(
                ID,
                format!("A certificate of birth of {} proves the template.", quoted_path(disk)),
            ),
        },
        Standing::Declared(..) if case.policy.evidence == EvidenceLevel::Declared => {
            met(ID, "A source declares the template, which is what the policy asks for.")
        }
        Standing::Declared(..) => failed(
            ID,
            format!(
                "The template is only declared and the policy asks for a digest. {}",
                case.unmatched()
            ),
            REGISTER,
        ),
        Standing::Open => {
            unknown(ID, "The evidence is incomplete.", "Wait until every medium has been read.")
        }
        Standing::None => case.absent(ID, "Nothing ties the VM to a template.", REGISTER),
    }
}

fn template_approved(case: &Case<'_>) -> Requirement {
    const ID: &str = "template-approved";
    let Some(template) = case.lineage.template() else { return no_template(ID) };
    let name = quoted(&template.id);
    match template.status {
        TemplateStatus::Approved => met(ID, format!("Template {name} is approved.")),
        TemplateStatus::Deprecated => {
            met(ID, format!("Template {name} is deprecated and still admitted."))
        }
        TemplateStatus::Revoked => failed(
            ID,
            format!("Template {name} is revoked."),
            "Rebuild the VM from an approved template.",
        ),
    }
}

fn template_unexpired(case: &Case<'_>) -> Requirement {
    const ID: &str = "template-unexpired";
    let Some(template) = case.lineage.template() else { return no_template(ID) };
    if is_expired(template, case.now) {
        failed(
            ID,
            format!("The approval of template {} has expired.", quoted(&template.id)),
            "Rebuild the VM from a current template, or renew the approval in the manifest.",
        )
    } else if template.expires.is_some() {
        met(ID, "The template's approval has not expired.")
    } else {
        met(ID, "The template's approval does not expire.")
    }
}

const REGISTER: &str = "Rebuild the VM from a registered template, or register what it boots: an \
                        [[image]] with role and sha256 for each medium, in one manifest.";

fn is_expired(template: &Template, now: Timestamp) -> bool {
    template.expires.is_some_and(|at| at <= now)
}

impl Case<'_> {
    fn word_suffices(&self) -> bool {
        self.lineage.word_suffices(self.policy.evidence)
    }

    /// A template that is not in the registry: a failure, unless a manifest is not known.
    fn absent(&self, id: &str, finding: impl Into<String>, remedy: &str) -> Requirement {
        match self.registry.gap() {
            None => failed(id, finding, remedy),
            Some(why) => unknown(
                id,
                format!("{} But not every manifest is known: {}.", finding.into(), bounded(why)),
                "Mend the manifests that are refused (`detector finding list`).",
            ),
        }
    }

    /// Why no template is proven.
    fn unmatched(&self) -> String {
        let gaps = &self.lineage.gaps;
        if let Some((role, path, digest)) = gaps.foreign {
            format!(
                "The {} {} has a base of sha256 {digest}, which is no such image of a registered \
                 template.",
                role.as_str(),
                quoted_path(path)
            )
        } else if gaps.mixed {
            "Every medium is an image of some template, but no template covers them all.".to_owned()
        } else if self.vm.media.is_empty() {
            "There is no medium whose digest could prove a template.".to_owned()
        } else {
            "Not every medium has a digest that could prove a template.".to_owned()
        }
    }
}

fn no_template(id: &str) -> Requirement {
    // Without a remedy of its own: it follows from another requirement.
    unknown(id, "No template is known to judge by.", "")
}

fn met(id: &str, finding: impl Into<String>) -> Requirement {
    requirement(id, Outcome::Met, finding, "")
}

fn failed(id: &str, finding: impl Into<String>, remedy: &str) -> Requirement {
    requirement(id, Outcome::Failed, finding, remedy)
}

fn unknown(id: &str, finding: impl Into<String>, remedy: &str) -> Requirement {
    requirement(id, Outcome::Unknown, finding, remedy)
}

fn requirement(
    id: &str,
    outcome: Outcome,
    finding: impl Into<String>,
    remedy: &str,
) -> Requirement {
    Requirement { id: id.to_owned(), outcome, finding: finding.into(), remedy: remedy.to_owned() }
}
