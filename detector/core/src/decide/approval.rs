//! What the status of a template says about the VMs that descend from it.

use super::text::{bounded, quoted};
use crate::model::{Template, TemplateStatus};

/// In sentences for people.
pub(super) enum Approval {
    Admits(String),
    Refuses { finding: String, remedy: String },
}

pub(super) fn approval(template: &Template) -> Approval {
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
        TemplateStatus::Revoked => Approval::Refuses {
            finding: format!("Template {name} is revoked{}.", because(template)),
            remedy: "Rebuild the VM from an approved template.".to_owned(),
        },
    }
}

/// The reason that the manifest gives, where it gives one.
fn because(template: &Template) -> String {
    template.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", bounded(reason)))
}
