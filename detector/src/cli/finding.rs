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
use crate::api::{
    Reply, Request,
    view::{FindingView, Mark},
};
use detector_core::model::Severity;

pub(super) fn run(global: &Global, command: &FindingCommand) -> Result<Done> {
    match command {
        FindingCommand::List => match ask(global, Request::FindingList {})? {
            Reply::Findings(findings) => list(&mut Output::new(global), &findings),
            other => unexpected(&other),
        },
        FindingCommand::Show { id } => {
            match ask(global, Request::FindingShow { id: id.clone() })? {
                Reply::Finding(finding) => show(&mut Output::new(global), &finding),
                other => unexpected(&other),
            }
        }
        FindingCommand::Ack { id, reason } => {
            let (id, reason) = (id.clone(), reason.clone());
            mark(global, Request::FindingAck { id, reason }, "acknowledged")
        }
        FindingCommand::Suppress { what, lasts, reason } => {
            let (what, reason) = (what.clone(), reason.clone());
            let request = Request::FindingSuppress { what, reason, seconds: lasts.as_secs() };
            mark(global, request, "suppressed")
        }
        FindingCommand::Unsuppress { what } => mark(
            global,
            Request::FindingUnsuppress { what: what.clone() },
            "not suppressed any more",
        ),
    }
}

pub(super) fn list<W: Write>(output: &mut Output<W>, findings: &[FindingView]) -> Result<Done> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            findings: &'a [FindingView],
        }
        output.json(&List { findings })?;
    } else {
        table(output, findings, Detail::All)?;
    }
    Ok(Done::Fine)
}

pub(super) fn show<W: Write>(output: &mut Output<W>, finding: &FindingView) -> Result<Done> {
    if output.is_json() {
        output.json(finding)?;
        return Ok(Done::Fine);
    }
    let class = finding.kind.class();
    output.field("ID", finding.id.as_str())?;
    output.field("Finding", finding.title.as_str())?;
    output.field("Severity", severity(finding.severity))?;
    output.field("Kind", format!("{} ({})", finding.kind.as_str(), class.category.as_str()))?;
    if let Some(technique) = class.technique {
        output.field("Technique", format!("{technique} ({})", technique.tactic_name))?;
    }
    output.field("Since", output.when(finding.since))?;
    for (name, mark) in marks(finding) {
        output.field(name, told(output, mark))?;
    }
    output.field("Means", class.meaning)?;
    output.field("Advice", class.advice)?;
    output.heading("Evidence")?;
    for (name, value) in &finding.evidence {
        output.item(&format!("{}: ", escape(name)), &escape(value))?;
    }
    if let Some(command) = &finding.next {
        output.heading("Next")?;
        output.line(&escape(command))?;
    }
    Ok(Done::Fine)
}

fn mark(global: &Global, request: Request, done: &str) -> Result<Done> {
    let marked = match ask(global, request)? {
        Reply::Marked(marked) => marked,
        other => return unexpected(&other),
    };
    let mut output = Output::new(global);
    if output.is_json() {
        output.json(&marked)?;
        return Ok(Done::Fine);
    }
    let until =
        marked.mark.until.map_or_else(String::new, |until| format!(", {}", output.when(until)));
    output.line(&escape(&format!("{}: {done}{until}", marked.what)))?;
    if let Some(why) = &marked.not_kept {
        let warning = format!("this does not outlast a restart of the daemon: {}", escape(why));
        output.line(&output.toned(&warning, Tone::Bad))?;
    }
    Ok(Done::Fine)
}

fn marks(finding: &FindingView) -> impl Iterator<Item = (&'static str, &Mark)> {
    let acknowledged = finding.acknowledged.iter().map(|mark| ("Acknowledged", mark));
    acknowledged.chain(finding.suppressed.iter().map(|mark| ("Suppressed", mark)))
}

fn told<W: Write>(output: &Output<W>, mark: &Mark) -> String {
    let until =
        mark.until.map_or_else(String::new, |until| format!(", ends {}", output.ahead(until)));
    format!("by {}, {}{until}: {}", mark.who(), output.ago(mark.at), mark.why)
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
    let id = widest(findings.iter().map(|finding| finding.id.len()), "ID");
    let header =
        format!("{:<8}  {:<id$}  {:<kind$}  {:<age$}  FINDING", "SEVERITY", "ID", "KIND", "SINCE");
    output.title(&header)?;
    for (finding, since) in findings.iter().zip(&ages) {
        let Text(name, tone) = severity(finding.severity);
        let name = output.toned(&format!("{name:<8}"), tone);
        let prefix = format!(
            "{name}  {:<id$}  {:<kind$}  {since:<age$}  ",
            finding.id,
            finding.kind.as_str()
        );
        output.item(&prefix, &escape(&finding.title))?;
        let marks: Vec<_> =
            marks(finding).map(|(name, mark)| format!("{name} {}", told(output, mark))).collect();
        for line in marks.into_iter().chain(more(finding, detail)) {
            output.item(&" ".repeat(8 + id + kind + age + 8), &escape(&line))?;
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
