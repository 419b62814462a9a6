use std::{io::Write, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    Done, Global,
    args::AlertCommand,
    ask::{ask, ask_patiently, unexpected},
    finding,
    output::{Output, Text, Tone},
};
use crate::api::{
    Reply, Request,
    view::{AlertEntry, AlertStatus, SinkView, Tried},
};

/// Longer than the daemon waits for receivers.
const TEST: Duration = Duration::from_secs(20);

pub(super) fn run(global: &Global, command: &AlertCommand) -> Result<Done> {
    match command {
        AlertCommand::Status => match ask(global, Request::AlertStatus {})? {
            Reply::AlertStatus(found) => status(&mut Output::new(global), &found),
            other => unexpected(&other),
        },
        AlertCommand::List => match ask(global, Request::AlertList {})? {
            Reply::AlertEntries(found) => list(&mut Output::new(global), &found),
            other => unexpected(&other),
        },
        AlertCommand::Test { sink } => {
            let request = Request::AlertTest { sink: sink.clone() };
            match ask_patiently(global, request, TEST)? {
                Reply::AlertsTried(tried) => test(&mut Output::new(global), &tried),
                other => unexpected(&other),
            }
        }
    }
}

pub(super) fn status<W: Write>(output: &mut Output<W>, found: &AlertStatus) -> Result<Done> {
    let fails = found.not_kept.is_some() || found.sinks.iter().any(|s| s.failing_since.is_some());
    let done = if fails { Done::Report } else { Done::Fine };
    if output.is_json() {
        output.json(found)?;
        return Ok(done);
    }
    let kept = match &found.not_kept {
        Some(why) => Text(format!("no: {why}"), Tone::Bad),
        None => Text("yes".to_owned(), Tone::Good),
    };
    output.field("Open", found.open.to_string())?;
    output.field("Kept", kept)?;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    output.field("Outbox", format!("{} of {}", mib(found.size), mib(found.most)))?;
    output.heading("Receivers")?;
    if found.sinks.is_empty() {
        output.line("none; docs/alerts.md says how to configure one")?;
    } else {
        let header = ["NAME", "KIND", "WAITING", "DELIVERED", "LOST", "LAST", "STATE", "TARGET"];
        let rows = found.sinks.iter().map(|sink| row(output, sink)).collect();
        output.table(&header, rows)?;
    }
    for sink in &found.sinks {
        if let Some(error) = &sink.error {
            output.field(&sink.name, error.as_str())?;
        }
    }
    if !found.suppressions.is_empty() {
        output.heading("Suppressed")?;
        let rows = found.suppressions.iter().map(|one| {
            let until = one.mark.until.map_or_else(String::new, |until| output.ahead(until));
            let cells = [one.what.clone(), until, one.mark.who(), one.mark.why.clone()];
            cells.into_iter().map(Text::from).collect()
        });
        let rows = rows.collect();
        output.table(&["WHAT", "ENDS", "BY", "WHY"], rows)?;
    }
    Ok(done)
}

fn row<W: Write>(output: &Output<W>, sink: &SinkView) -> Vec<Text> {
    let state = match sink.failing_since {
        Some(since) => Text(format!("fails since {}", output.ago(since)), Tone::Bad),
        None if sink.waiting > 0 => Text("busy".to_owned(), Tone::Attention),
        None => Text("fine".to_owned(), Tone::Good),
    };
    let last = sink.last_delivery.map_or_else(|| "never".to_owned(), |at| output.ago(at));
    let lost = sink.refused + sink.dropped;
    let tone = if lost > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        Text::from(sink.name.as_str()),
        Text::from(sink.kind.as_str()),
        Text::from(sink.waiting.to_string()),
        Text::from(sink.delivered.to_string()),
        Text(lost.to_string(), tone),
        Text::from(last),
        state,
        Text::from(sink.target.as_str()),
    ]
}

pub(super) fn list<W: Write>(output: &mut Output<W>, entries: &[AlertEntry]) -> Result<Done> {
    #[derive(Serialize)]
    struct List<'a> {
        alerts: &'a [AlertEntry],
    }
    if output.is_json() {
        output.json(&List { alerts: entries })?;
    } else if entries.is_empty() {
        output.line("nothing waits")?;
    } else {
        let rows = entries.iter().map(|entry| {
            vec![
                Text::from(entry.sink.as_str()),
                Text::from(output.ago(entry.at)),
                Text::from(entry.event.as_str()),
                finding::severity(entry.severity),
                Text::from(entry.tries.to_string()),
                Text::from(entry.finding.as_str()),
                Text::from(entry.title.as_str()),
            ]
        });
        let rows = rows.collect();
        output.table(&["SINK", "SINCE", "EVENT", "SEVERITY", "TRIES", "ID", "FINDING"], rows)?;
    }
    Ok(Done::Fine)
}

pub(super) fn test<W: Write>(output: &mut Output<W>, tried: &[Tried]) -> Result<Done> {
    #[derive(Serialize)]
    struct List<'a> {
        tried: &'a [Tried],
    }
    if output.is_json() {
        output.json(&List { tried })?;
    } else {
        for one in tried {
            let Tried { sink, target, error, milliseconds } = one;
            let what = match error {
                None => Text(format!("taken by {target} in {milliseconds} ms"), Tone::Good),
                Some(why) => Text(format!("not taken by {target}: {why}"), Tone::Bad),
            };
            output.field(sink, what)?;
        }
    }
    match tried.iter().filter(|one| one.error.is_some()).count() {
        0 => Ok(Done::Fine),
        failed => bail!("{failed} of {} receivers did not take the test alert", tried.len()),
    }
}
