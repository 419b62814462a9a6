use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{
    Done, Global,
    args::FindingCommand,
    ask::{ask, unexpected},
    escape::escape,
    output::{Output, Text, Tone},
};
use crate::api::{Reply, Request, view::FindingView};
use detector_core::model::Severity;

pub(super) fn run(global: &Global, command: &FindingCommand) -> Result<Done> {
    let FindingCommand::List = command;
    let findings = match ask(global, Request::FindingList {})? {
        Reply::Findings(findings) => findings,
        other => return unexpected(&other),
    };
    let mut output = Output::new(global);
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            findings: &'a [FindingView],
        }
        output.json(&List { findings: &findings })?;
    } else {
        table(&mut output, &findings, Detail::All)?;
    }
    Ok(Done::Fine)
}

/// How much is said of each finding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What it is.
    Title,
    /// And the command that says more.
    Next,
    /// And its evidence.
    All,
}

pub(super) fn table<W: Write>(
    output: &mut Output<W>,
    findings: &[FindingView],
    detail: Detail,
) -> Result<()> {
    if findings.is_empty() {
        return output.line("none");
    }
    let ages: Vec<_> = findings.iter().map(|finding| output.ago(finding.since)).collect();
    let kinds = findings.iter().map(|finding| finding.kind.as_str().len());
    let (kind, age) = (widest(kinds, "KIND"), widest(ages.iter().map(String::len), "SINCE"));
    let header = format!("{:<8}  {:<kind$}  {:<age$}  FINDING", "SEVERITY", "KIND", "SINCE");
    output.title(&header)?;
    for (finding, since) in findings.iter().zip(&ages) {
        let Text(name, tone) = severity(finding.severity);
        let name = output.toned(&format!("{name:<8}"), tone);
        let prefix = format!("{name}  {:<kind$}  {since:<age$}  ", finding.kind.as_str());
        output.item(&prefix, &escape(&finding.title))?;
        for line in more(finding, detail) {
            output.item(&" ".repeat(8 + kind + age + 6), &escape(&line))?;
        }
    }
    Ok(())
}

fn widest(lengths: impl Iterator<Item = usize>, header: &str) -> usize {
    lengths.max().unwrap_or(0).max(header.len())
}

/// What is said below the title.
fn more(finding: &FindingView, detail: Detail) -> Vec<String> {
    let mut lines = Vec::new();
    if detail == Detail::All {
        // The title says some of it.
        let news = finding.evidence.iter().filter(|(_, value)| !finding.title.contains(value));
        lines.extend(news.map(|(name, value)| format!("{name}: {value}")));
    }
    if detail != Detail::Title {
        lines.extend(finding.next.iter().map(|command| format!("> {command}")));
    }
    lines
}

pub(super) fn severity(severity: Severity) -> Text {
    let (name, tone) = match severity {
        Severity::Info => ("info", Tone::Plain),
        Severity::Low => ("low", Tone::Plain),
        Severity::Medium => ("medium", Tone::Attention),
        Severity::High => ("high", Tone::Bad),
        Severity::Critical => ("critical", Tone::Bad),
    };
    Text(name.to_owned(), tone)
}
