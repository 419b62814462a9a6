use std::collections::BTreeMap;

use detector_core::fleet::{
    Name,
    message::Time,
    roll_out::{Heard, Stage},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Missing, now};
use crate::desk::Desk;

/// Where the roll-out of a bundle stands that was begun last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RollOutView {
    /// The bundle, by its number.
    pub version: u64,
    /// What all hosts were to have before.
    pub before: Option<u64>,
    pub by: String,
    #[schema(value_type = String, format = DateTime)]
    pub begun: Time,
    /// `spreading` until every host of the wave goes by it, `soaking` while they do so without harm, `halted` or `done`.
    pub stage: String,
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    /// Which wave it is in, from 1 on, or was stopped in.
    pub wave: usize,
    pub waves: usize,
    /// The bundle that was offered since it was over, by its number.
    pub superseded_by: Option<u64>,
    /// Why it was stopped.
    pub why: Option<String>,
    /// Hosts that are to go by it by now, and spoke when it began. Of one that was stopped those that go by it yet.
    pub hosts: u64,
    pub going_by_it: u64,
    /// Hosts that are to and do not, or are silent. Of one that was stopped those that have not gone back.
    pub waiting: Vec<String>,
    /// Hosts that do not take it, or not give it back.
    pub refused: Vec<RefusalRow>,
    /// VMs that have lost their network since, on the hosts that go by it, …
    pub cut_off: u64,
    /// … and how many may.
    pub most: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusalRow {
    pub host: String,
    pub why: String,
}

/// # Errors
///
/// There has been none.
pub fn roll_out(desk: &Desk) -> Result<RollOutView, Missing> {
    let estate = desk.estate();
    let Some(roll_out) = &estate.roll_out else {
        return Err(Missing::NotFound("No bundle has been rolled out".to_owned()));
    };
    let heard = |(name, host): (&String, &crate::estate::Host)| {
        let heard = Heard { at: host.heard?, state: host.state.clone()? };
        Some((name.parse::<Name>().ok()?, heard))
    };
    let hosts: BTreeMap<_, _> = estate.hosts.iter().filter_map(heard).collect();
    let progress = roll_out.progress(&hosts, now());
    let (stage, since, why) = match &roll_out.stage {
        Stage::Spreading { since, .. } => ("spreading", *since, None),
        Stage::Soaking { since, .. } => ("soaking", *since, None),
        Stage::Halted { at, why, .. } => ("halted", *at, Some(why.clone())),
        Stage::Done { at } => ("done", *at, None),
    };
    let later = estate.offered.filter(|offered| *offered > roll_out.version.number);
    let refusal = |(host, why): (Name, String)| RefusalRow { host: host.to_string(), why };
    Ok(RollOutView {
        version: roll_out.version.number,
        before: roll_out.before.map(|before| before.number),
        by: roll_out.by.clone(),
        begun: roll_out.begun,
        stage: stage.to_owned(),
        since,
        wave: roll_out.wave().saturating_add(1),
        waves: roll_out.plan.wave_count(),
        superseded_by: later.filter(|_| !roll_out.is_under_way()),
        why,
        hosts: progress.hosts,
        going_by_it: progress.going_by_it,
        waiting: progress.waiting.iter().map(Name::to_string).collect(),
        refused: progress.refused.into_iter().map(refusal).collect(),
        cut_off: progress.cut_off,
        most: roll_out.plan.most,
    })
}

impl RollOutView {
    /// Whether somebody should look at it: it is under way, or was stopped and nothing else was offered since.
    pub fn is_news(&self) -> bool {
        self.stage != "done" && self.superseded_by.is_none()
    }
}
