//! Records for people.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::{
    audit::{Kind, Record, Who},
    cli::output::{Output, Text, Tone},
};

pub(in crate::cli) fn list<W: Write>(output: &mut Output<W>, records: &[Record]) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            records: &'a [Record],
        }
        return output.json(&List { records });
    }
    let rows = records
        .iter()
        .map(|record| {
            vec![
                record.seq.to_string().into(),
                record.at.strftime("%F %TZ").to_string().into(),
                kind(record.entry.kind),
                subject(record).into(),
                change(record).into(),
                who(&record.entry.who).into(),
                record.entry.why.as_str().into(),
            ]
        })
        .collect();
    output.table(&["SEQ", "WHEN", "KIND", "ABOUT", "CHANGE", "WHO", "WHY"], rows)
}

pub(in crate::cli) fn show<W: Write>(output: &mut Output<W>, line: &str, hash: &str) -> Result<()> {
    let record: Record = serde_json::from_str(line)?;
    if output.is_json() {
        let mut value: Value = serde_json::from_str(line)?;
        value["hash"] = hash.into();
        return output.json(&value);
    }
    output.field("Record", record.seq.to_string())?;
    output.field("Written", format!("{} ({})", record.at, output.ago(record.at)))?;
    output.field("Kind", kind(record.entry.kind))?;
    output.field("About", subject(&record))?;
    output.field("Change", change(&record))?;
    output.field("Who", who(&record.entry.who))?;
    if let Who::Person(person) = &record.entry.who {
        output.field(
            "Process",
            format!("{} {}", person.pid, person.command.as_deref().unwrap_or("")),
        )?;
        if let Some(uid) = person.login_uid {
            let name = person.login_user.as_deref().unwrap_or("");
            output.field("Logged in", format!("uid {uid} {name}"))?;
        }
    }
    if !record.entry.why.is_empty() {
        output.field("Why", record.entry.why.as_str())?;
    }
    if let Some(of) = record.entry.of {
        output.field("Outcome of", of.to_string())?;
    }
    for (name, texts) in &record.entry.evidence {
        for (number, text) in texts.iter().enumerate() {
            output.field(if number == 0 { name } else { "" }, text.as_str())?;
        }
    }
    output.field("Follows", record.prev.as_str())?;
    output.field("Hash", hash)
}

/// Whether the subject goes by this name or id.
pub(super) fn is_about(record: &Record, about: &str) -> bool {
    record
        .entry
        .subject
        .as_ref()
        .is_some_and(|subject| subject.id == about || subject.name.as_deref() == Some(about))
}

fn kind(kind: Kind) -> Text {
    let tone = match kind {
        Kind::ChainBroken | Kind::RecordsLost | Kind::OrdersRefused => Tone::Bad,
        Kind::Quarantine | Kind::ActionFailed | Kind::Denied => Tone::Attention,
        _ => Tone::Plain,
    };
    Text(kind.name(), tone)
}

fn subject(record: &Record) -> String {
    record.entry.subject.as_ref().map_or_else(String::new, |subject| {
        format!("{} {}", subject.of, subject.name.as_ref().unwrap_or(&subject.id))
    })
}

fn change(record: &Record) -> String {
    match (&record.entry.from, &record.entry.to) {
        (Some(from), Some(to)) => format!("{from} -> {to}"),
        (None, Some(to)) => to.clone(),
        (_, None) => String::new(),
    }
}

fn who(who: &Who) -> String {
    match who {
        Who::Daemon => "daemon".to_owned(),
        Who::User { uid } => format!("uid {uid}"),
        Who::Fleet { monitor, user, .. } => format!("{user} (fleet, {monitor})"),
        Who::Person(person) => {
            let user = person.user.clone().unwrap_or_else(|| format!("uid {}", person.uid));
            match &person.login_user {
                Some(login) if *login != user => format!("{user} ({login})"),
                _ => user,
            }
        }
    }
}
