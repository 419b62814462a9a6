//! `detector policy`.

mod args;
pub(super) mod diff;
mod faults;
mod test;

use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use detector_core::decide::{
    Outcome, VmStatus,
    policy::{DEFAULT, RuleEffect, Rules, SCHEMA},
};
use serde::Serialize;

pub(super) use args::PolicyCommand;

use super::{
    Done, Global,
    ask::{ask, config, unexpected},
    escape::escape,
    output::{Output, Text, Tone},
    vm,
};
use crate::{
    api::{
        Reply, Request,
        view::{PolicyView, VmView},
    },
    config::text::ReadError,
    policy::{PolicyError, read},
};

pub(super) fn run(global: &Global, command: &PolicyCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        PolicyCommand::Check { file } => {
            let path = match file {
                Some(file) => file.clone(),
                None => config(global)?.paths.policy,
            };
            check(&mut output, &path, file.is_some())?;
            Ok(Done::Fine)
        }
        PolicyCommand::Test { cases, policy } => {
            let rules = match policy {
                Some(policy) => load(policy)?,
                None => configured(&config(global)?.paths.policy)?,
            };
            // Whoever tries a policy may not read the configuration.
            let limits = config(global).unwrap_or_default().mitigation.limits();
            test::run(&mut output, &rules, cases, limits)
        }
        PolicyCommand::Explain { vm } => match ask(global, Request::VmShow { name: vm.clone() })? {
            Reply::Vm(vm) => {
                explain(&mut output, &vm)?;
                let fine = matches!(vm.status, VmStatus::Approved | VmStatus::Off);
                Ok(if fine { Done::Fine } else { Done::Report })
            }
            other => unexpected(&other),
        },
        PolicyCommand::Diff { file } => {
            let text = load(file)?.text().to_owned();
            match ask(global, Request::PolicyDiff { text })? {
                Reply::PolicyDiff(diff) => diff::print(&mut output, &diff),
                other => unexpected(&other),
            }
        }
        PolicyCommand::Show => match ask(global, Request::PolicyShow {})? {
            Reply::Policy(policy) => {
                show(&mut output, &policy)?;
                Ok(Done::Fine)
            }
            other => unexpected(&other),
        },
        PolicyCommand::Default => verbatim(DEFAULT),
        PolicyCommand::Schema => verbatim(SCHEMA),
    }
}

/// A file of our own, as it is.
fn verbatim(text: &str) -> Result<Done> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Done::Fine)
}

/// A policy, or what is wrong with it, as text for people.
fn load(path: &Path) -> Result<Rules> {
    read(path).or_else(|error| bail!(faults::describe(&error)))
}

/// The configured policy; without the file, the built-in one.
fn configured(path: &Path) -> Result<Rules> {
    match read(path) {
        Err(PolicyError::Unreadable { why: ReadError::Absent, .. }) => {
            Rules::parse(DEFAULT).or_else(|_| bail!("the built-in policy cannot be read"))
        }
        Err(error) => bail!(faults::describe(&error)),
        Ok(rules) => Ok(rules),
    }
}

/// Whether a policy is valid. Only one that was not named may be absent.
fn check<W: Write>(output: &mut Output<W>, path: &Path, named: bool) -> Result<()> {
    let rules = match read(path) {
        Err(PolicyError::Unreadable { why: ReadError::Absent, .. }) if !named => {
            if output.is_json() {
                return faults::json(output, true, &[]);
            }
            let path = escape(&path.display().to_string());
            return output.line(&format!("There is no {path}: the built-in policy is in force."));
        }
        Err(error) => {
            if output.is_json()
                && let PolicyError::Invalid { faults, .. } = &error
            {
                faults::json(output, false, faults)?;
            }
            bail!(faults::describe(&error));
        }
        Ok(rules) => rules,
    };
    if output.is_json() {
        return faults::json(output, true, rules.warnings());
    }
    for warning in rules.warnings() {
        output.line(&escape_lines(&faults::warning(path, rules.text(), warning)))?;
    }
    let path = escape(&path.display().to_string());
    output.line(&format!("{path}: a valid policy of {} rules.", rules.list().len()))
}

fn escape_lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

fn show<W: Write>(output: &mut Output<W>, policy: &PolicyView) -> Result<()> {
    if output.is_json() {
        return output.json(policy);
    }
    output.field("Policy", policy.origin.as_deref().unwrap_or("built in"))?;
    for refused in &policy.refused {
        output.field("Refused", Text(refused.clone(), Tone::Bad))?;
    }
    output.line("")?;
    let rows = policy.rules.iter().map(|rule| {
        let effect = match rule.effect {
            RuleEffect::Permit => "permit",
            RuleEffect::Forbid => "forbid unless",
        };
        let value = match (rule.grace, rule.address_rule) {
            (Some(seconds), _) => {
                let span = std::time::Duration::from_secs(seconds);
                format!(" {}", humantime::format_duration(span))
            }
            (None, Some(rule)) => format!(" {}", rule.as_str()),
            (None, None) => String::new(),
        };
        vec![
            rule.id.as_str().into(),
            format!("{}{value}", rule.action).into(),
            effect.into(),
            rule.sentence.as_str().into(),
        ]
    });
    output.table(&["RULE", "ACTION", "EFFECT", "ASKS"], rows.collect())
}

pub(super) fn explain<W: Write>(output: &mut Output<W>, vm: &VmView) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Explained<'a> {
            vm: &'a str,
            uuid: uuid::Uuid,
            status: &'a str,
            /// Those that decided.
            rules: &'a [String],
            requirements: &'a [detector_core::decide::Requirement],
        }
        return output.json(&Explained {
            vm: &vm.name,
            uuid: vm.uuid,
            status: crate::api::view::vm_status(vm.status),
            rules: &vm.rules,
            requirements: &vm.requirements,
        });
    }
    output.field("VM", vm.name.as_str())?;
    output.field("Status", vm::status(vm.status))?;
    let rules = if vm.rules.is_empty() { "none".to_owned() } else { vm.rules.join(", ") };
    output.field("Decided by", rules)?;
    for one in &vm.requirements {
        let (mark, tone) = match one.outcome {
            Outcome::Met => ("met", Tone::Good),
            Outcome::Failed => ("FAILED", Tone::Bad),
            Outcome::Unknown => ("unknown", Tone::Attention),
        };
        output.line("")?;
        let mark = output.toned(mark, tone);
        output.line(&format!("{} {mark}", escape(&one.id)))?;
        for (name, text) in
            [("asks ", &one.sentence), ("found", &one.finding), ("do   ", &one.remedy)]
        {
            if !text.is_empty() {
                output.item(&format!("  {name} "), &escape(text))?;
            }
        }
    }
    Ok(())
}
