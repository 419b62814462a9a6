use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::{
    args::{Command, Global},
    output::print,
    serve::{config, source},
};
use crate::{
    desk::Desk,
    view::{self, Counts, VmFilter},
};

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A fleet tells piece by piece: what is there when nothing more has come for so long is all.
const PAUSE: Duration = Duration::from_millis(1500);

pub(super) fn run(global: &Global, command: &Command) -> Result<ExitCode> {
    with_estate(global, async |desk| show(desk, global, command))
}

/// Hears what there is, and goes on with that.
pub(super) fn with_estate(
    global: &Global,
    go_on: impl AsyncFnOnce(&Desk) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let config = config(global)?;
    let (source, apart) = (source(global, &config)?, config.separate_networks);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Nobody waits here for what has to last a while before it counts: it is told at once.
        let desk = Desk::new(source, apart, 0);
        let keeper = tokio::spawn(std::sync::Arc::clone(&desk).keep());
        let mut changes = desk.changes();
        let first = timeout(PATIENCE, changes.changed()).await;
        if desk.fleet().is_some() && first.is_ok() {
            // A large fleet always has something new to say.
            let all = async { while timeout(PAUSE, changes.changed()).await.is_ok() {} };
            let _ = timeout(PATIENCE, all).await;
        }
        keeper.abort();
        if let Some(why) = desk.estate().lost.clone() {
            bail!("{why}");
        }
        if desk.estate().hosts.is_empty() {
            bail!("no host has been heard of");
        }
        go_on(&desk).await
    })
}

fn show(desk: &Desk, global: &Global, command: &Command) -> Result<ExitCode> {
    let format = global.output;
    let mut code = ExitCode::SUCCESS;
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    match command {
        Command::Hosts => {
            let hosts = view::hosts(desk);
            let rows = hosts.iter().map(|host| {
                let (mode, vms) = (optional(&host.mode), counts(&host.vms));
                vec![host.name.clone(), host.condition.clone(), mode, vms, counts(&host.findings)]
            });
            print(format, &hosts, &["HOST", "CONDITION", "MODE", "VMS", "FINDINGS"], rows)?;
        }
        Command::Vms(args) => {
            let filter = VmFilter {
                q: args.search.clone(),
                status: args.status.clone(),
                ..VmFilter::default()
            };
            let mut all = view::vms(desk, &filter);
            for page in 1..all.pages {
                all.vms.extend(view::vms(desk, &VmFilter { page, ..filter.clone() }).vms);
            }
            let rows = all.vms.iter().map(|vm| {
                let macs: Vec<_> = vm.nics.iter().map(|nic| nic.mac.as_str()).collect();
                let (uuid, template) = (vm.uuid.to_string(), optional(&vm.template));
                vec![
                    vm.host.clone(),
                    vm.name.clone(),
                    vm.status.clone(),
                    vm.power.clone(),
                    template,
                    macs.join(", "),
                    uuid,
                ]
            });
            let header = ["HOST", "VM", "STATUS", "POWER", "TEMPLATE", "MACS", "UUID"];
            print(format, &all.vms, &header, rows)?;
        }
        Command::Findings => {
            let findings = view::findings(desk);
            let rows = findings.iter().map(|one| {
                let since = one.since.strftime("%F %TZ").to_string();
                vec![
                    one.host.clone(),
                    one.id.clone(),
                    one.severity.as_str().to_owned(),
                    one.kind.clone(),
                    since,
                    one.title.clone(),
                ]
            });
            print(
                format,
                &findings,
                &["HOST", "ID", "SEVERITY", "KIND", "SINCE", "FINDING"],
                rows,
            )?;
        }
        _ => {
            let status = view::overview(desk);
            let is_well =
                status.findings.is_empty() && status.correlations.is_empty() && status.silent == 0;
            if !is_well {
                code = ExitCode::from(3);
            }
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let mut rows = vec![
                row("hosts", format!("{}, {} silent", status.hosts, status.silent)),
                row("modes", counts(&status.modes)),
                row("VMs", counts(&status.vms)),
                row("templates", counts(&status.templates)),
                row("findings", counts(&status.findings)),
            ];
            rows.extend(
                status.correlations.iter().map(|one| {
                    row(one.correlation.severity.as_str(), one.correlation.title.clone())
                }),
            );
            print(format, &status, &["", ""], rows)?;
        }
    }
    Ok(code)
}

fn counts(counts: &Counts) -> String {
    let words: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}
