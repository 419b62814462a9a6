//! `docs/kernel-support.md`: which kernels have been run, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// The latest run of a kernel.
#[derive(Serialize, Deserialize)]
struct Run {
    date: String,
    outcome: Outcome,
}

/// By series. The figures are kept beside the page, so that a run on one kernel says nothing new of
/// another.
type Runs = BTreeMap<String, Run>;

const INTRODUCTION: &str = "# Kernels

Written by `cargo xtask test --kernel SERIES`, which boots Debian's kernel of that series under QEMU and
runs the suites inside that face the kernel. A kernel that is not listed has not been run; a test that
was skipped has tested nothing. Each line is the latest run of its kernel. The machine that builds runs
every suite on its own kernel with `cargo xtask test`, and besides these the ones that need libvirt and
guests.
";

/// Puts a run in the place of the former one of its series.
pub(crate) fn write(series: &str, outcome: &Outcome) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let data = docs.join("kernel-support.json");
    let mut runs = read(&data)?;
    let outcome = serde_json::from_value(serde_json::to_value(outcome)?)?;
    runs.insert(series.to_owned(), Run { date: today()?, outcome });
    let json = serde_json::to_string_pretty(&runs)? + "\n";
    std::fs::write(&data, json).with_context(|| format!("cannot write {}", data.display()))?;
    std::fs::write(docs.join("kernel-support.md"), page(&runs)).context("cannot write the page")?;
    println!("  docs/kernel-support.md is written");
    Ok(())
}

fn read(path: &PathBuf) -> Result<Runs> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Runs::new()),
        text => serde_json::from_str(&text?)
            .with_context(|| format!("{} is not what was written there", path.display())),
    }
}

fn page(runs: &Runs) -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "\n| series | kernel | run on | programs are attached | passed | skipped | failed |\n",
    );
    page.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for (series, Run { date, outcome }) in sorted(runs) {
        let count = |of: fn(&crate::outcome::SuiteOutcome) -> u64| -> u64 {
            outcome.suites.iter().map(of).sum()
        };
        let (passed, skipped) = (count(|s| s.passed), count(|s| s.skipped.len() as u64));
        let failed = count(|s| s.failed.len() as u64);
        let kernel = &outcome.kernel;
        let attached: BTreeSet<_> = outcome.findings.iter().map(String::as_str).collect();
        let attached = attached.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            page,
            "| {series} | {kernel} | {date} | {attached} | {passed} | {skipped} | {failed} |"
        );
    }
    for (series, Run { outcome, .. }) in sorted(runs) {
        let _ = writeln!(page, "\n## {series}\n");
        let suites: Vec<_> =
            outcome.suites.iter().map(|s| format!("`{}` {}", s.name, s.passed)).collect();
        let _ = writeln!(page, "Tests that passed, by suite: {}.", suites.join(", "));
        let mut items = Vec::new();
        for suite in &outcome.suites {
            let name = &suite.name;
            items.extend(suite.failed.iter().map(|test| format!("failed: `{name}` {test}")));
            let skipped = suite.skipped.iter();
            items.extend(skipped.map(|(test, why)| format!("skipped: `{name}` {test}: {why}")));
            if !suite.whole {
                items.push(format!("failed: `{name}` did not come to its end"));
            }
        }
        items.extend(outcome.trouble.iter().map(|what| format!("failed: {what}")));
        if !items.is_empty() {
            let _ = writeln!(page, "\n- {}", items.join("\n- "));
        }
    }
    page
}

/// 5.10 comes before 6.1, and 6.1 before 6.12.
fn sorted(runs: &Runs) -> Vec<(&String, &Run)> {
    let mut all: Vec<_> = runs.iter().collect();
    all.sort_by_key(|(series, _)| {
        series.split('.').map(|number| number.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>()
    });
    all
}

fn today() -> Result<String> {
    let output = std::process::Command::new("date").args(["-u", "+%F"]).output();
    let output = output.context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_claims_what_was_run_only() {
        let mut runs = Runs::new();
        for (series, kernel) in [("6.12", "6.12.1"), ("6.1", "6.1.0-50-amd64"), ("5.10", "5.10.0")]
        {
            let mut outcome = Outcome::default();
            outcome.take(&format!("== kernel {kernel}"));
            runs.insert(series.to_owned(), Run { date: "2026-01-02".to_owned(), outcome });
        }
        let page = page(&runs);
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("| 5.10 |") < at("| 6.1 |") && at("| 6.1 |") < at("| 6.12 |"));
        assert!(!page.contains("7.2"));
    }
}
