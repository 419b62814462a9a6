use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use detector_core::api::view::{PolicyChange, vm_status};
use detector_core::fleet::bundle::{Bundle, MAGIC, POLICY, Sealed};

use super::{args::Global, output::print, read::with_estate};
use crate::view::{self, HostPlan};

/// In whose name hosts are asked.
const WHO: &str = "detector-monitor plan";

pub(super) fn run(global: &Global, path: &Path) -> Result<ExitCode> {
    let policy = policy(path).with_context(|| path.display().to_string())?;
    with_estate(global, async |desk| {
        let plan = view::plan(desk, WHO, &policy).await;
        let rows = plan.hosts.iter().flat_map(rows);
        print(global.output, &plan, &["HOST", "VM", "IS", "WOULD BE", "ITS PORTS", "WHY"], rows)?;
        let silent = plan.hosts.iter().filter(|host| host.why.is_some()).count();
        eprintln!(
            "{} of {} VMs on {} hosts would be judged otherwise; {} would be denied ({} only after a person is asked). \
             Hosts that do not say: {silent}.",
            plan.changes,
            plan.vms,
            plan.hosts.len() - silent,
            plan.denied,
            plan.held,
        );
        Ok(match (silent, plan.changes) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        })
    })
}

/// The policy of a file that has one, alone or in a bundle. Whether somebody trusted has signed it hosts look at when
/// they are offered it.
fn policy(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)?;
    if bytes.starts_with(MAGIC.as_bytes()) {
        let mut bundle = Bundle::parse(Sealed::read(&bytes)?.text)?;
        return bundle.files.remove(POLICY).context("the bundle has no policy");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("it is neither a policy in Cedar nor a bundle"),
    }
}

fn rows(host: &HostPlan) -> Vec<Vec<String>> {
    if let Some(why) = &host.why {
        let no = String::new;
        return vec![vec![host.host.clone(), no(), no(), no(), no(), why.clone()]];
    }
    let row = |change: &PolicyChange| {
        vec![
            host.host.clone(),
            change.vm.name.clone(),
            vm_status(change.from).to_owned(),
            vm_status(change.to).to_owned(),
            change.effect.clone(),
            change.why.join("; "),
        ]
    };
    host.changes.iter().map(row).collect()
}
