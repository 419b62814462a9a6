use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{
    Done, Global,
    args::FindingCommand,
    ask::{ask, unexpected},
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
        table(&mut output, &findings)?;
    }
    Ok(Done::Fine)
}

pub(super) fn table<W: Write>(output: &mut Output<W>, findings: &[FindingView]) -> Result<()> {
    let rows = findings
        .iter()
        .map(|finding| {
            vec![
                severity(finding.severity),
                finding.kind.as_str().into(),
                finding.title.as_str().into(),
                output.ago(finding.since).into(),
                finding.next.as_deref().unwrap_or_default().into(),
            ]
        })
        .collect();
    output.table(&["SEVERITY", "KIND", "FINDING", "SINCE", "NEXT"], rows)
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
