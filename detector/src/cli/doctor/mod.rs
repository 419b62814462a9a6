//! Whether this host can be guarded, and how to mend what stands in the way. One file for each check; none
//! changes anything.

mod addresses;
mod bpffs;
mod clock;
mod configuration;
mod conflicts;
mod daemon;
mod disk;
mod hook;
mod kernel;
mod libvirt;
mod netfilter;
mod permissions;
mod pins;
mod privileges;
mod sandbox;
mod uplinks;
mod vhost;

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{
    Done, Global, ask,
    output::{Output, Text, Tone},
};
use crate::config::Config;

/// What a check has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Ok,
    /// It could not be looked at, such as without root.
    Unknown,
    /// It works, and not as well as it could.
    Warning,
    /// Something does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Advice {
    check: &'static str,
    status: Status,
    /// What is the case.
    what: String,
    /// How to mend it.
    mend: Option<String>,
}

/// What checks need to know.
struct Patient<'a> {
    global: &'a Global,
    /// The defaults, where it cannot be read.
    config: Config,
    /// Why it cannot be read.
    refused: Option<String>,
}

/// Looks at one thing, or at several of a kind.
type Check = fn(&Patient<'_>) -> Vec<Finding>;

/// The checks, in the order in which they are told.
const CHECKS: &[(&str, Check)] = &[
    ("config", configuration::check),
    ("privileges", privileges::check),
    ("kernel", kernel::check),
    ("sandbox", sandbox::check),
    ("bpffs", bpffs::check),
    ("pins", pins::check),
    ("daemon", daemon::check),
    ("libvirt", libvirt::check),
    ("hook", hook::check),
    ("uplinks", uplinks::check),
    ("conflicts", conflicts::check),
    ("netfilter", netfilter::check),
    ("addresses", addresses::check),
    ("vhost", vhost::check),
    ("permissions", permissions::check),
    ("disk", disk::check),
    ("clock", clock::check),
];

/// What a check says, before it has the check's name.
struct Finding {
    status: Status,
    what: String,
    mend: Option<String>,
}

fn fine(what: impl Into<String>) -> Finding {
    Finding { status: Status::Ok, what: what.into(), mend: None }
}

fn unknown(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { status: Status::Unknown, what: what.into(), mend: Some(mend.into()) }
}

fn warning(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { status: Status::Warning, what: what.into(), mend: Some(mend.into()) }
}

fn problem(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { status: Status::Problem, what: what.into(), mend: Some(mend.into()) }
}

pub(super) fn run(global: &Global) -> Result<Done> {
    let (config, refused) = match ask::config(global) {
        Ok(config) => (config, None),
        Err(error) => (Config::default(), Some(format!("{error:#}"))),
    };
    let patient = Patient { global, config, refused };
    let named = |(check, look): &(&'static str, Check)| {
        let check = *check;
        let name = move |Finding { status, what, mend }| Advice { check, status, what, mend };
        look(&patient).into_iter().map(name).collect::<Vec<_>>()
    };
    let all: Vec<_> = CHECKS.iter().flat_map(named).collect();
    print(&mut Output::new(global), &all)?;
    let mended = all.iter().all(|advice| advice.status <= Status::Unknown);
    Ok(if mended { Done::Fine } else { Done::Report })
}

#[derive(Serialize)]
struct Document<'a> {
    checks: &'a [Advice],
}

fn print<W: Write>(output: &mut Output<W>, all: &[Advice]) -> Result<()> {
    if output.is_json() {
        return output.json(&Document { checks: all });
    }
    for advice in all {
        let (word, tone) = match advice.status {
            Status::Ok => ("", Tone::Plain),
            Status::Unknown => ("not known: ", Tone::Plain),
            Status::Warning => ("", Tone::Attention),
            Status::Problem => ("", Tone::Bad),
        };
        output.field(advice.check, Text(format!("{word}{}", advice.what), tone))?;
        if let Some(mend) = &advice.mend {
            output.field("", format!("→ {mend}"))?;
        }
    }
    let count = |status| all.iter().filter(|advice| advice.status == status).count();
    let counted = [(Status::Problem, "problem"), (Status::Warning, "warning")]
        .map(|(status, what)| (count(status), what))
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
    let counted: Vec<_> = counted.collect();
    output.line("")?;
    match counted.as_slice() {
        [] => output.line(&output.toned("Nothing stands in the way.", Tone::Good)),
        some => output.line(&output.toned(&some.join(", "), Tone::Attention)),
    }
}

#[cfg(test)]
mod tests;
