//! A bundle comes to a fleet in waves: to the hosts that are named first, then to growing shares of all, and on only
//! while it does no harm. What has become of it is one value that anybody can go on with.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Name,
    message::{Announcement, HostState, Time, Version},
};
pub use plan::{BadPlan, Plan};

/// All hosts, in thousandths.
pub const ALL: u16 = 1000;
/// Bundles that a fleet remembers to have withdrawn.
const MOST_WITHDRAWN: usize = 8;
/// Nobody breaks a soak of which they have watched less: who has only begun to look may not have heard of every host yet,
/// and those who drive beside them have.
const BREAKS_AFTER: Duration = Duration::from_secs(10);
/// So often one host may break the soaks of a wave …
const MOST_BROKEN: u8 = 3;
/// … and so often all hosts together.
const MOST_BREAKS: u8 = 16;
/// Hosts that are remembered of those that have broken soaks, and of those that were missing before.
const MOST_BREAKERS: usize = 64;
const MOST_MISSING: usize = 128;
/// Characters of the reason why one was stopped.
const LONGEST_REASON: usize = 512;
/// So many times the span in which a host speaks at the latest, and it is silent.
const SILENT: i32 = 3;
/// How a host counts VMs that have no network (see [`HostState::vms`]).
const CUT_OFF: [&str; 2] = ["denied", "quarantined"];

/// A roll-out, whoever drives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollOut {
    pub version: Version,
    /// What all hosts were to have before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Version>,
    /// What was withdrawn before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Version>,
    pub plan: Plan,
    /// Who has begun it.
    pub by: String,
    pub begun: Time,
    /// VMs without network when it began, of each host that spoke then. Those are waited for.
    pub baseline: BTreeMap<Name, u64>,
    /// The same of hosts that were silent, as far as they had said it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<Name, u64>,
    /// How often hosts went missing in a soak of this wave, so that it began anew: as many of them as are remembered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub broken: BTreeMap<Name, u8>,
    /// How many soaks of this wave were broken.
    #[serde(default)]
    pub breaks: u8,
    /// Hosts that were missing when this soak began, as may be: they break nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing: BTreeSet<Name>,
    pub stage: Stage,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// Not every host of the wave goes by it yet.
    Spreading { wave: usize, since: Time },
    /// Every host of the wave goes by it.
    Soaking { wave: usize, since: Time },
    /// It was stopped, and the hosts that go by it are to give it back.
    Halted { wave: usize, at: Time, why: String },
    /// It is for all hosts.
    Done { at: Time },
}

/// What a fleet knows of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When the servers heard it.
    pub at: Time,
    pub state: HostState,
}

impl Heard {
    /// Whether it should have spoken again by now.
    pub fn is_silent(&self, now: Time) -> bool {
        let every =
            i64::try_from(self.state.every.max(1)).unwrap_or(i64::MAX / 8).min(i64::MAX / 8);
        now.duration_since(self.at) > jiff::SignedDuration::from_secs(every) * SILENT
    }

    /// Its VMs without network.
    pub fn cut_off(&self) -> u64 {
        CUT_OFF
            .iter()
            .filter_map(|status| self.state.vms.get(*status))
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// Where a roll-out stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Hosts that are to go by it by now, and spoke when it began. Of one that was stopped those that go by it yet.
    pub hosts: u64,
    pub going_by_it: u64,
    /// Hosts that are to and do not, or are silent. Of one that was stopped those that have not gone back.
    pub waiting: Vec<Name>,
    /// Those that do not take it, or not give it back, and why.
    pub refused: Vec<(Name, String)>,
    /// VMs that have lost their network since, on the hosts that go by it.
    pub cut_off: u64,
}

impl RollOut {
    /// A roll-out that begins.
    ///
    /// # Errors
    ///
    /// Its plan is none, or the bundle cannot follow what was announced before.
    pub fn begin(
        (version, plan): (Version, Plan),
        announced: Option<&Announcement>,
        hosts: &BTreeMap<Name, Heard>,
        (by, now): (String, Time),
    ) -> Result<Self, BadPlan> {
        plan.check()?;
        let before = announced.and_then(Announcement::settled);
        if before == Some(version) {
            return Err(BadPlan::Already(version.number));
        }
        announced.map_or(Ok(()), |announced| announced.may_be_followed_by(version))?;
        let (absent, alive): (Vec<_>, Vec<_>) =
            hosts.iter().partition(|(_, heard)| heard.is_silent(now));
        let counted = |hosts: Vec<(&Name, &Heard)>| -> BTreeMap<_, _> {
            hosts.into_iter().map(|(name, heard)| (name.clone(), heard.cut_off())).collect()
        };
        let (baseline, absent) = (counted(alive), counted(absent));
        // A wave of nobody would show nothing.
        if let Some(silent) = plan.canaries.iter().find(|name| !baseline.contains_key(*name)) {
            return Err(BadPlan::Silent(silent.clone()));
        }
        let withdrawn = announced.map(|before| before.withdrawn.clone()).unwrap_or_default();
        let stage = Stage::Spreading { wave: 0, since: now };
        let begun = Self {
            version,
            before,
            withdrawn,
            plan,
            by,
            begun: now,
            baseline,
            absent,
            broken: BTreeMap::new(),
            breaks: 0,
            missing: BTreeSet::new(),
            stage,
        };
        let told = begun.announcement();
        let is_first = |name| told.version_for(name) == Some(version);
        if begun.baseline.keys().any(is_first) { Ok(begun) } else { Err(BadPlan::Nobody) }
    }

    /// Whether somebody has to drive it.
    pub const fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Spreading { .. } | Stage::Soaking { .. })
    }

    /// The wave that it is in.
    pub fn wave(&self) -> usize {
        match self.stage {
            Stage::Spreading { wave, .. }
            | Stage::Soaking { wave, .. }
            | Stage::Halted { wave, .. } => wave,
            Stage::Done { .. } => self.plan.wave_count().saturating_sub(1),
        }
    }

    /// What hosts are told.
    pub fn announcement(&self) -> Announcement {
        let Self { version, before, withdrawn, .. } = self;
        let base = Announcement { withdrawn: withdrawn.clone(), ..Announcement::to_all(*version) };
        match (&self.stage, before) {
            (Stage::Done { .. }, _) => base,
            (Stage::Spreading { .. } | Stage::Soaking { .. }, _) => Announcement {
                hosts: self.plan.canaries.clone(),
                share: Some(self.plan.share(self.wave())),
                others: *before,
                ..base
            },
            (Stage::Halted { .. }, before) => {
                let withdrawn = self.with_itself(withdrawn);
                match before {
                    Some(before) => Announcement { withdrawn, ..Announcement::to_all(*before) },
                    None => Announcement { share: Some(0), withdrawn, ..base },
                }
            }
        }
    }

    /// These, and it among those that are withdrawn.
    fn with_itself(&self, withdrawn: &[Version]) -> Vec<Version> {
        let all = [withdrawn, &[self.version]].concat();
        let spare = all.len().saturating_sub(MOST_WITHDRAWN);
        all.into_iter().skip(spare).collect()
    }

    /// What is to be announced in place of what is, where hosts do not know yet what this roll-out has become; `None`
    /// where they do. `later` is whether it was announced after this stage was kept. Whoever drove it may have been killed
    /// before they announced, or have announced an earlier stage after that, not knowing of a later one.
    pub fn due(&self, announced: Option<&Announcement>, later: bool) -> Option<Announcement> {
        let wanted = self.announcement();
        match announced {
            Some(announced) if *announced == wanted => None,
            Some(offered) if self.is_overtaken(offered, later) => {
                let is_missing = matches!(self.stage, Stage::Halted { .. })
                    && !offered.withdrawn.contains(&self.version);
                // Offered by somebody who did not know yet that it was stopped.
                is_missing.then(|| Announcement {
                    withdrawn: self.with_itself(&offered.withdrawn),
                    others: offered.others.and_then(|others| {
                        if others == self.version { self.before } else { Some(others) }
                    }),
                    ..offered.clone()
                })
            }
            _ => Some(wanted),
        }
    }

    /// Whether something else was offered since it was over.
    pub fn is_overtaken(&self, announced: &Announcement, later: bool) -> bool {
        // Nobody but a roll-out announces shares.
        let is_its_own = announced.version == self.version && announced.share.is_some();
        later && !self.is_under_way() && !is_its_own && *announced != self.announcement()
    }

    /// Where it stands.
    pub fn progress(&self, hosts: &BTreeMap<Name, Heard>, now: Time) -> Progress {
        let announcement = self.announcement();
        let mut progress = Progress::default();
        for (name, heard) in hosts {
            let before = self.baseline.get(name).or_else(|| self.absent.get(name));
            // Of a host that is new nobody knows what it was before.
            if let Some(before) = before.filter(|_| self.is_in_force(heard)) {
                let more = heard.cut_off().saturating_sub(*before);
                progress.cut_off = progress.cut_off.saturating_add(more);
            }
        }
        let is_over = matches!(self.stage, Stage::Halted { .. });
        let is_in = |name: &&Name| match is_over {
            true => hosts.get(*name).is_some_and(|heard| self.is_in_force(heard)),
            false => announcement.version_for(name) == Some(self.version),
        };
        let counted: Vec<_> = match is_over {
            true => hosts.keys().filter(is_in).collect(),
            false => self.baseline.keys().filter(is_in).collect(),
        };
        for name in counted {
            progress.hosts += 1;
            let heard = hosts.get(name);
            let refused = heard.and_then(|heard| self.refusal(heard));
            progress.refused.extend(refused.map(|why| (name.clone(), why)));
            let goes_by_it = heard.is_some_and(|one| self.is_in_force(one) && !one.is_silent(now));
            progress.going_by_it += u64::from(goes_by_it);
            if is_over || !goes_by_it {
                progress.waiting.push(name.clone());
            }
        }
        progress
    }

    fn is_in_force(&self, heard: &Heard) -> bool {
        heard.state.policy.in_force == Some(self.version)
    }

    /// Why a host does not take it, or not give it back. Another bundle of the same number is another one.
    fn refusal(&self, heard: &Heard) -> Option<String> {
        let refused = heard.state.policy.refused.as_ref()?;
        let is_it = refused.version == self.version.number
            && refused.sha256.is_none_or(|sha256| sha256 == self.version.sha256);
        is_it.then(|| refused.why.clone())
    }

    /// What it becomes by what is known of hosts; `None` while it stays as it is. `watched` is for how long whoever asks
    /// has heard hosts without a break since it is in this stage: what nobody sees is no time without harm, and no clock of another machine
    /// counts.
    pub fn next(&self, progress: &Progress, now: Time, watched: Duration) -> Option<Stage> {
        let Progress { waiting, refused, cut_off, .. } = progress;
        let (wave, soaks) = match self.stage {
            Stage::Spreading { wave, .. } => (wave, false),
            Stage::Soaking { wave, .. } => (wave, true),
            Stage::Halted { .. } | Stage::Done { .. } => return None,
        };
        let halt = |why: String| Some(Stage::Halted { wave, at: now, why: brief(&why) });
        let lasted = |seconds: u64| watched >= Duration::from_secs(seconds);
        if *cut_off > self.plan.most {
            let vms = if *cut_off == 1 { "VM has" } else { "VMs have" };
            return halt(format!(
                "{cut_off} more {vms} no network on the hosts that go by it; {} may",
                self.plan.most
            ));
        }
        if let Some((host, why)) = refused.first() {
            return halt(format!("{host} does not take it: {why}"));
        }
        let late = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        if let Some(host) = waiting.first().filter(|_| late > self.plan.late) {
            return match soaks {
                true if watched < BREAKS_AFTER => None,
                // One that went by it, and does no more or is silent.
                true => {
                    match self.breakers(progress).find(|host| self.times(host) + 1 >= MOST_BROKEN) {
                        Some(host) => halt(format!(
                            "{host} went by it, and {MOST_BROKEN} times was silent then or did no more"
                        )),
                        None if self.breaks + 1 >= MOST_BREAKS => halt(format!(
                            "{MOST_BREAKS} times hosts of a wave went by it, and were silent then or did no more"
                        )),
                        None => Some(Stage::Spreading { wave, since: now }),
                    }
                }
                false if lasted(self.plan.patience) => {
                    let more = match late {
                        1 => String::new(),
                        2 => " and another host".to_owned(),
                        _ => format!(" and {} more hosts", late - 1),
                    };
                    halt(format!("{host}{more} did not go by it in time"))
                }
                false => None,
            };
        }
        match soaks {
            // Those that may be late have their time.
            false if late > 0 && !lasted(self.plan.patience) => None,
            false => Some(Stage::Soaking { wave, since: now }),
            true if !lasted(self.plan.soak) => None,
            true if wave + 1 < self.plan.wave_count() => {
                Some(Stage::Spreading { wave: wave + 1, since: now })
            }
            true => Some(Stage::Done { at: now }),
        }
    }

    /// By whom a soak is broken.
    fn breakers<'a>(&'a self, progress: &'a Progress) -> impl Iterator<Item = &'a Name> {
        progress.waiting.iter().filter(|host| !self.missing.contains(*host))
    }

    /// How many soaks of this wave a host has broken.
    fn times(&self, host: &Name) -> u8 {
        self.broken.get(host).copied().unwrap_or(0)
    }

    /// The same in the stage that follows.
    pub fn moved_to(&self, stage: Stage, progress: &Progress) -> Self {
        let mut next = Self { stage, missing: BTreeSet::new(), ..self.clone() };
        match (&self.stage, &next.stage) {
            _ if next.wave() != self.wave() => {
                next.broken.clear();
                next.breaks = 0;
            }
            (Stage::Spreading { .. }, Stage::Soaking { .. }) => {
                next.missing = progress.waiting.iter().take(MOST_MISSING).cloned().collect();
            }
            (Stage::Soaking { .. }, Stage::Spreading { .. }) => {
                next.breaks = next.breaks.saturating_add(1);
                for host in self.breakers(progress) {
                    let times = self.times(host);
                    if times > 0 || next.broken.len() < MOST_BREAKERS {
                        next.broken.insert(host.clone(), times.saturating_add(1));
                    }
                }
            }
            _ => {}
        }
        next
    }

    /// Somebody stops it, or takes it back once it is for all hosts; `None` where that was done before.
    pub fn halt(&self, why: &str, now: Time) -> Option<Stage> {
        let is_over = matches!(self.stage, Stage::Halted { .. });
        (!is_over).then(|| Stage::Halted { wave: self.wave(), at: now, why: brief(why) })
    }
}

/// A host says why it refuses something, at what length it likes, and nothing may keep a roll-out from being stopped.
fn brief(why: &str) -> String {
    why.chars().take(LONGEST_REASON).collect()
}
