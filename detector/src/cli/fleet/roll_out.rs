//! A bundle in waves.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use anyhow::{Result, bail};
use detector_core::fleet::{
    Name,
    roll_out::{ALL, Plan, Progress, RollOut, Stage},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::{RollOutCommand, StartArgs, Steward, bundle};
use crate::{
    audit::{Via, Who},
    cli::{
        Done, Global,
        output::{Output, Text, Tone},
    },
    escape::escape,
    fleet::{connection::ConnectionError, desk::Desk},
};

/// Hosts that are named where there are many.
const FEW: usize = 5;

pub(super) fn run(global: &Global, command: RollOutCommand) -> Result<Done> {
    match command {
        RollOutCommand::Start(args) => start(global, args),
        RollOutCommand::Continue { at } => {
            let (over, progress) = at_desk(&Steward::of(&at)?, async |mut desk| {
                desk.drive(Teller::new().tell()).await
            })?;
            ended(global, &over, &progress)
        }
        RollOutCommand::Status { at } => {
            let (roll_out, progress) = at_desk(&Steward::of(&at)?, async |desk| {
                let roll_out = desk.roll_out().await?;
                let progress = roll_out
                    .as_ref()
                    .map(|roll_out| roll_out.progress(desk.hosts(), Timestamp::now()));
                Ok((roll_out, progress.unwrap_or_default()))
            })?;
            show(global, roll_out.as_ref(), &progress)?;
            Ok(Done::Fine)
        }
        RollOutCommand::Halt { at, reason } => {
            let why = format!("{} has stopped it: {reason}", person());
            let (over, progress) = at_desk(&Steward::of(&at)?, async |mut desk| {
                desk.halt(&why).await?;
                desk.drive(Teller::new().tell()).await
            })?;
            if Output::new(global).is_json() {
                show(global, Some(&over), &progress)?;
            } else {
                println!("It is stopped, and the hosts that took it go back to what they had.");
            }
            Ok(Done::Fine)
        }
    }
}

fn start(global: &Global, args: StartArgs) -> Result<Done> {
    let StartArgs { bundle, at, canary, mut wave, soak, patience, most, late, dry_run } = args;
    if wave.last() != Some(&ALL) {
        wave.push(ALL);
    }
    let (soak, patience) = (soak.as_secs(), patience.as_secs());
    let plan = Plan { canaries: canary, waves: wave, soak, patience, most, late };
    plan.check()?;
    let bytes = bundle::read(&bundle)?;
    let (steward, version) = bundle::offered(&bytes, &at)?;
    let begun = at_desk(&steward, async |mut desk| {
        let planned = match desk.plan((version, plan), person()).await? {
            Ok(planned) => planned,
            Err(bad) => return Ok(Err(bad)),
        };
        if dry_run {
            return Ok(Ok((planned.roll_out, Progress::default())));
        }
        desk.begin(&bytes, &planned).await?;
        desk.drive(Teller::new().tell()).await.map(Ok)
    })?;
    let (roll_out, progress) = begun?;
    if dry_run {
        waves(global, &roll_out)?;
        return Ok(Done::Fine);
    }
    ended(global, &roll_out, &progress)
}

/// Which hosts are in which wave.
fn waves(global: &Global, roll_out: &RollOut) -> Result<()> {
    let mut output = Output::new(global);
    let mut before: Vec<Name> = Vec::new();
    let mut all = Vec::new();
    for wave in 0..roll_out.plan.wave_count() {
        let stage = Stage::Spreading { wave, since: roll_out.begun };
        let announcement = RollOut { stage, ..roll_out.clone() }.announcement();
        let is_in = |host: &&Name| announcement.version_for(host) == Some(roll_out.version);
        let hosts: Vec<_> = roll_out.baseline.keys().filter(is_in).cloned().collect();
        let new: Vec<_> = hosts.iter().filter(|host| !before.contains(host)).cloned().collect();
        all.push(new);
        before = hosts;
    }
    if output.is_json() {
        return output.json(&all);
    }
    let row = |(wave, hosts): (usize, &Vec<Name>)| {
        vec![(wave + 1).to_string().into(), hosts.len().to_string().into(), few(hosts).into()]
    };
    output.table(&["WAVE", "HOSTS", "NAMES"], all.iter().enumerate().map(row).collect())
}

fn few(hosts: &[Name]) -> String {
    let mut names: Vec<_> = hosts.iter().take(FEW).map(Name::to_string).collect();
    if hosts.len() > FEW {
        names.push(format!("and {} more", hosts.len() - FEW));
    }
    names.join(", ")
}

#[derive(Serialize)]
struct Shown<'a> {
    roll_out: Option<&'a RollOut>,
    progress: &'a Progress,
}

fn show(global: &Global, roll_out: Option<&RollOut>, progress: &Progress) -> Result<()> {
    let mut output = Output::new(global);
    if output.is_json() {
        return output.json(&Shown { roll_out, progress });
    }
    let Some(roll_out) = roll_out else {
        println!(
            "No bundle has been rolled out; begin with `detector fleet policy roll-out start`."
        );
        return Ok(());
    };
    output.field("Version", roll_out.version.number.to_string())?;
    let before =
        roll_out.before.map_or_else(|| "none".to_owned(), |before| before.number.to_string());
    output.field("Before", before)?;
    output.field("Begun", format!("{} by {}", roll_out.begun, roll_out.by))?;
    let tone = match roll_out.stage {
        Stage::Halted { .. } => Tone::Attention,
        _ => Tone::Plain,
    };
    output.field("Stage", Text(stage(roll_out), tone))?;
    let is_stopped = matches!(roll_out.stage, Stage::Halted { .. });
    if is_stopped {
        output.field("Not gone back", hosts(progress.hosts))?;
    } else {
        let of = hosts(progress.hosts);
        output.field("Go by it", format!("{} of {of}", progress.going_by_it))?;
    }
    if !progress.waiting.is_empty() {
        output.field("Waiting for", few(&progress.waiting))?;
    }
    for (host, why) in progress.refused.iter().take(FEW) {
        output.field("Refused", format!("{host}: {why}"))?;
    }
    output
        .field("VMs cut off", format!("{} of {} that may", progress.cut_off, roll_out.plan.most))?;
    Ok(())
}

fn hosts(number: u64) -> String {
    if number == 1 { "1 host".to_owned() } else { format!("{number} hosts") }
}

fn stage(roll_out: &RollOut) -> String {
    let (wave, waves) = (roll_out.wave() + 1, roll_out.plan.wave_count());
    match &roll_out.stage {
        Stage::Spreading { .. } => format!("wave {wave} of {waves}: until its hosts go by it"),
        Stage::Soaking { since, .. } => {
            format!("wave {wave} of {waves}: without harm since {since}")
        }
        Stage::Halted { at, why, .. } => {
            format!("stopped in wave {wave} of {waves} at {at}: {why}")
        }
        Stage::Done { at } => format!("every host is to go by it since {at}"),
    }
}

fn ended(global: &Global, roll_out: &RollOut, progress: &Progress) -> Result<Done> {
    let is_json = Output::new(global).is_json();
    if is_json {
        show(global, Some(roll_out), progress)?;
    }
    if let Stage::Halted { why, .. } = &roll_out.stage {
        bail!("{why}; the hosts that took version {} go back", roll_out.version.number);
    }
    if !is_json {
        println!("Version {} is for every host.", roll_out.version.number);
    }
    Ok(Done::Fine)
}

/// Says how a roll-out goes, in lines, and on a terminal with what moves.
struct Teller {
    bar: ProgressBar,
    said: String,
}

impl Teller {
    fn new() -> Self {
        if !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), said: String::new() };
        }
        let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} hosts, {msg}");
        let bar =
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, said: String::new() }
    }

    fn tell(mut self) -> impl FnMut(&RollOut, &Progress, Option<&ConnectionError>) {
        move |roll_out, progress, error| {
            let stage = error.map_or_else(|| stage(roll_out), |error| format!("waiting: {error}"));
            if stage != self.said {
                let line = format!("version {}, {}", roll_out.version.number, escape(&stage));
                if self.bar.is_hidden() {
                    eprintln!("{line}");
                } else {
                    self.bar.println(line);
                }
                self.said = stage;
            }
            let Progress { hosts, going_by_it, cut_off, waiting, .. } = progress;
            self.bar.set_length(*hosts);
            self.bar.set_position(*going_by_it);
            let waiting = if waiting.is_empty() {
                String::new()
            } else {
                format!(", waiting for {}", few(waiting))
            };
            self.bar.set_message(format!("{cut_off} VMs cut off{waiting}"));
            if !roll_out.is_under_way() {
                self.bar.finish_and_clear();
            }
        }
    }
}

/// Does something where hosts are heard.
fn at_desk<T, F>(steward: &Steward, work: impl FnOnce(Desk) -> F) -> Result<T>
where
    F: Future<Output = Result<T, ConnectionError>>,
{
    steward.speak(async |client| work(Desk::open(client, &steward.fleet).await?).await)
}

/// Whoever has logged in.
fn person() -> String {
    match Who::this(Via::Start) {
        Who::Person(person) => {
            person.login_user.or(person.user).unwrap_or_else(|| format!("uid {}", person.uid))
        }
        _ => "somebody".to_owned(),
    }
}
