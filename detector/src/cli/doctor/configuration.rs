//! Whether the daemon would start with the files as they are.

use super::{Finding, Patient, fine, problem, warning};
use crate::{policy, registry::Manifests};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    if let Some(why) = &patient.refused {
        return vec![problem(
            why.clone(),
            "correct it; a daemon that runs already goes on as before, and would not start again",
        )];
    }
    let mut found = vec![fine("the configuration can be used")];
    let paths = &patient.config.paths;
    if paths.policy.exists()
        && let Err(error) = policy::read(&paths.policy)
    {
        let mend = format!("`detector policy check {}` shows each fault", paths.policy.display());
        found.push(warning(format!("the policy is not used: {}", error.all().join("; ")), mend));
    }
    match patient.config.manifests(false) {
        Ok(manifests) => found.extend(refused(manifests)),
        Err(why) => found.push(problem(why, "correct `registry.trusted_keys`")),
    }
    found
}

fn refused(mut manifests: Manifests) -> Option<Finding> {
    let registry = manifests.reload();
    let first = registry.rejected.first()?;
    let count = registry.rejected.len();
    let what = format!("{count} of the templates' manifests: {}: {}", first.place, first.why);
    Some(warning(what, "correct them; `detector finding list` names each"))
}
