//! What is said of each requirement to people. The policy decides which are met; of those that the
//! built-in policy has, one function each knows what was found.

mod profile;

use super::{
    Outcome, Requirement,
    approval::{Approval, approval},
    lineage::{Lineage, Origin, Standing},
    policy::{NO_PERMIT, Rule, Rules, Verdict},
    text::{bounded, quoted, quoted_path},
};
use crate::model::{EvidenceLevel, MediumRole, Policy, Registry, Today, Vm};

/// What the requirements look at.
pub(super) struct Case<'a> {
    pub(super) vm: &'a Vm,
    pub(super) lineage: &'a Lineage<'a>,
    pub(super) policy: &'a Policy,
    pub(super) registry: &'a Registry,
    pub(super) today: Today,
    /// Whether a grant of the VM is in force; asked for revoked templates only.
    pub(super) in_force: bool,
}

/// Says what was found of a requirement.
type Say = fn(&Case<'_>) -> Requirement;

/// The requirements of the built-in policy, and those that it shows how to ask, by the @id of their rules.
const KNOWN: [(&str, Say); 9] = [
    ("media-listed", media_listed),
    ("no-network-boot", no_network_boot),
    ("media-local", media_local),
    ("media-readable", media_readable),
    ("template-registered", template_registered),
    ("evidence-sufficient", evidence_sufficient),
    ("template-approved", template_approved),
    ("template-unexpired", template_unexpired),
    ("variables-known", variables_known),
];

/// Every requirement with what was found, also behind one that fails, so that one reading shows all
/// there is to mend. In the order of the policy; what a profile could ask and does not is left out.
pub(super) fn describe(case: &Case<'_>, rules: &Rules, verdict: &Verdict) -> Vec<Requirement> {
    let mut all: Vec<_> = verdict
        .rules
        .iter()
        .filter_map(|of| {
            let rule = rules.rule(&of.id);
            let known = KNOWN.iter().find(|(id, _)| *id == of.id).map(|(_, say)| say(case));
            let known = match profile::say(&of.id, case) {
                Some(profile::Said::NothingAsked(outcome)) if outcome == of.outcome => return None,
                Some(profile::Said::Asked(said)) => Some(said),
                _ => known,
            };
            let sentence = rule.map_or("", |rule| &rule.sentence);
            let said = match (verdict.errors.get(&of.id), known) {
                (Some(error), _) => erroneous(&of.id, error),
                // A rule of the same name that asks for something else has its own words.
                (None, Some(known)) if known.outcome == of.outcome => known,
                _ => in_its_words(&of.id, of.outcome, rule),
            };
            Some(Requirement { sentence: sentence.to_owned(), ..said })
        })
        .collect();
    if verdict.permitted != Outcome::Met {
        let mut errors = verdict.errors.iter();
        let said = match errors.find(|(id, _)| all.iter().all(|one| one.id != **id)) {
            Some((id, error)) => Requirement { id: NO_PERMIT.to_owned(), ..erroneous(id, error) },
            None => requirement(
                NO_PERMIT,
                verdict.permitted,
                match verdict.permitted {
                    Outcome::Failed => "No rule of the policy permits the VM to join.",
                    _ => "Whether a rule of the policy permits the VM to join is not known yet.",
                },
                "Look which rules permit what (`detector policy show`).",
            ),
        };
        all.push(said);
    }
    all
}

/// What the rule itself says.
fn in_its_words(id: &str, outcome: Outcome, rule: Option<&Rule>) -> Requirement {
    let sentence = rule.map_or("", |rule| rule.sentence.as_str());
    let finding = match outcome {
        Outcome::Met => format!("Met: {sentence}"),
        Outcome::Failed => format!("Not met: {sentence}"),
        Outcome::Unknown => format!("Not known yet: {sentence}"),
    };
    let finding = if finding.ends_with('.') { finding } else { finding + "." };
    let remedy = match rule {
        Some(rule) if outcome != Outcome::Met => rule.remedy.as_str(),
        _ => "",
    };
    requirement(id, outcome, finding, remedy)
}

fn erroneous(id: &str, error: &str) -> Requirement {
    let finding = format!("The rule {id} cannot be evaluated, which denies: {}.", bounded(error));
    failed(id, finding, "Correct the rule (`detector policy check`).")
}

fn media_listed(case: &Case<'_>) -> Requirement {
    const ID: &str = "media-listed";
    match case.vm.media.iter().filter(|medium| medium.role != MediumRole::Variables).count() {
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
        Standing::Proven(_) if case.lineage.born => {
            met(ID, "What it boots from was approved for this VM alone.")
        }
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
        // Only looked at where a word is enough.
        Standing::Proven(_) if let Some((disk, origin)) = case.lineage.snapshot => met(
            ID,
            format!(
                "{} was written to; its manager says that it is a snapshot of {}, which is an image of the \
                 template, and a source's word suffices.",
                quoted_path(disk),
                quoted_path(origin)
            ),
        ),
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
    match approval(template, case.policy, case.today, case.in_force) {
        Approval::Admits(finding) => met(ID, finding),
        Approval::Keeps { finding, remedy } => unknown(ID, finding, &remedy),
        Approval::Refuses { finding, remedy } => failed(ID, finding, &remedy),
    }
}

fn template_unexpired(case: &Case<'_>) -> Requirement {
    const ID: &str = "template-unexpired";
    let Some(template) = case.lineage.template() else { return no_template(ID) };
    let Some(expires) = template.expires else {
        return met(ID, "The template's approval does not expire.");
    };
    let name = quoted(&template.id);
    match case.today.has_come(expires) {
        Some(false) => met(ID, "The template's approval has not expired."),
        Some(true) => failed(
            ID,
            format!("The approval of template {name} has expired."),
            "Rebuild the VM from a current template, or renew the approval in the manifest.",
        ),
        None => unknown(
            ID,
            format!(
                "Whether the approval of template {name} has expired is not known: the host's \
                 clock has been set."
            ),
            CLOCK,
        ),
    }
}

fn variables_known(case: &Case<'_>) -> Requirement {
    const ID: &str = "variables-known";
    const REMEDY: &str = "Have them made anew from the template's (`virsh start --reset-nvram`), which is \
                          registered as an image with the role firmware.";
    match case.lineage.variables(case.vm) {
        Some(Origin::None) => met(ID, "Its firmware stores no variables."),
        Some(Origin::Template(path)) => {
            met(ID, format!("The variables in {} are the template's.", quoted_path(path)))
        }
        Some(Origin::Certificate(path)) => met(
            ID,
            format!(
                "A certificate of birth says that the variables in {} were the template's.",
                quoted_path(path)
            ),
        ),
        Some(Origin::Open(why)) => unknown(
            ID,
            format!("Where its firmware's variables come from is not known yet: {}.", bounded(why)),
            REMEDY,
        ),
        Some(Origin::Foreign(Some((path, digest)))) => failed(
            ID,
            format!(
                "The variables in {} (sha256 {digest}) are not the template's, and nothing says that they \
                 were when the VM ran for the first time.",
                quoted_path(path)
            ),
            REMEDY,
        ),
        Some(Origin::Foreign(None)) => failed(
            ID,
            "Its firmware's variables cannot be read on this host, so that nothing ties them to its \
             template.",
            REMEDY,
        ),
        None => failed(ID, "Nobody says whether its firmware stores variables.", REMEDY),
    }
}

const REGISTER: &str = "Rebuild the VM from a registered template, or register what it boots: an \
                        [[image]] with role and sha256 for each medium, in one manifest.";

const CLOCK: &str =
    "Set the host's clock right; if it is right, say so: `detector clock confirm --reason '…'`.";

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
    Requirement {
        id: id.to_owned(),
        outcome,
        sentence: String::new(),
        finding: finding.into(),
        remedy: remedy.to_owned(),
    }
}
