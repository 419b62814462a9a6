//! The configuration and all other files, read again while the daemon runs.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use detector_core::{
    decide::policy::Rulebook,
    model::{
        Digest, Finding, FindingKey, FindingKind, Policy, Registry, Severity, Subject, Timestamp,
    },
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::spawn_blocking,
};

use super::{
    brain::Brain,
    files::{Change, Fresh},
    input::{AdmissionRules, CallId, Effect, Input},
    sources,
    supervisor::Supervisor,
};
use crate::{
    alert::Alerts,
    api::{Reply, view::Reloaded},
    config::{
        Config, Metrics,
        reload::{Kept, plan},
    },
    enforcer::Enforcer,
    inventory::{SourceEvent, file},
};

/// Reads the configuration once more, as it was read at the start.
pub type Load = Box<dyn Fn() -> Result<Config> + Send + Sync>;

/// What was read for a reload.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file, or why it is not used: then nothing else has been read.
    config: Result<Configured, String>,
    /// Whoever has read it is told whether it holds.
    holds: mpsc::Sender<bool>,
}

/// What holds from now on.
#[derive(Clone, Debug)]
struct Configured {
    /// What was read.
    text: Option<Digest>,
    policy: Policy,
    admission: AdmissionRules,
    changed: Vec<String>,
    kept: Vec<Kept>,
    registry: Option<Registry>,
    rules: Option<Rulebook>,
    inventory: Option<SourceEvent>,
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub(super) struct Reloads {
    /// Since when, and why the configuration on the disk is not used.
    refused: Option<(Timestamp, String)>,
    /// How many there were, and how many of them were refused.
    pub(super) counts: [u64; 2],
}

/// Reads everything anew, one time after the other.
#[derive(Clone)]
pub(super) struct Reloader {
    state: Arc<Mutex<State>>,
    supervisor: Supervisor,
}

struct State {
    running: Config,
    load: Arc<Load>,
    fresh: Fresh,
    metrics: watch::Sender<Metrics>,
    alerts: Alerts,
}

impl Reloader {
    pub(super) fn new(
        running: Config,
        load: Load,
        fresh: Fresh,
        (metrics, alerts): (watch::Sender<Metrics>, Alerts),
        supervisor: Supervisor,
    ) -> Self {
        let state = State { running, load: Arc::new(load), fresh, metrics, alerts };
        Self { state: Arc::new(Mutex::new(state)), supervisor }
    }

    /// Reads everything; the brain makes it hold, and answers. What holds beside the brain does so once the brain has
    /// said that it does, and the next reload waits for that.
    pub(super) async fn load(&self, id: CallId) -> Input {
        self.supervisor.reloading();
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let (holds, mut held) = mpsc::channel(1);
        let config = state.read().await.map(|(configured, next, change)| {
            tokio::spawn(async move {
                match held.recv().await {
                    Some(true) => state.hold(next),
                    _ => state.go_back(&next, &change),
                }
                drop(change);
            });
            configured
        });
        Input::Reload { id, loaded: Box::new(Loaded { config, holds }) }
    }
}

impl State {
    /// Reads everything, the templates at last: nobody else reads those until the change is dropped.
    async fn read(&mut self) -> Result<(Configured, Config, Change), String> {
        let load = Arc::clone(&self.load);
        let wanted = match spawn_blocking(move || load()).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(error)) => return Err(format!("{error:#}")),
            Err(error) => return Err(format!("reading it has broken: {error}")),
        };
        let mut running = self.running.clone();
        if wanted.fleet.names().is_some() {
            // They are where the fleet's bundle is.
            running.paths.policy.clone_from(&wanted.paths.policy);
            running.paths.templates.clone_from(&wanted.paths.templates);
        }
        let plan = plan(&running, &wanted);
        let next = plan.next;
        let inventory: PathBuf = next.paths.inventory.clone();
        let inventory = spawn_blocking(move || file::said(&inventory)).await.ok();
        let change = self.fresh.templates.change().await;
        self.read_by(&self.running, &next, &change)?;
        let configured = Configured {
            text: wanted.text,
            policy: next.policy(),
            admission: AdmissionRules::of(&next),
            changed: plan.changed.iter().map(|key| (*key).to_owned()).collect(),
            kept: plan.kept,
            registry: self.fresh.templates.read_by(&change).await,
            rules: self.fresh.policy.fresh().await,
            inventory,
        };
        Ok((configured, next, change))
    }

    /// The brain goes by it from now on.
    fn hold(&mut self, next: Config) {
        self.metrics.send_replace(next.metrics.clone());
        if next.alerts != self.running.alerts {
            self.alerts.configure(next.alerts.clone());
        }
        self.running = next;
    }

    /// Has files be read as a configuration has it.
    fn read_by(&self, before: &Config, next: &Config, change: &Change) -> Result<(), String> {
        // A manifest whose signature does not count any more must not keep its meaning.
        if next.registry != before.registry || next.paths.templates != before.paths.templates {
            self.fresh.templates.replace(next.manifests(true)?, &next.paths.templates, change);
        }
        if next.paths.policy != before.paths.policy {
            self.fresh.policy.follow(&next.paths.policy);
        }
        Ok(())
    }

    /// Nobody goes by it, and nobody has heard of what it makes of the templates.
    fn go_back(&mut self, next: &Config, change: &Change) {
        if let Err(why) = self.read_by(next, &self.running, change) {
            tracing::error!(why, "templates are read as a configuration has it that is not used");
        }
    }
}

impl<E: Enforcer> Brain<E> {
    /// Makes what was read hold. False where nothing of it does.
    pub(super) fn reload(&mut self, id: CallId, loaded: Loaded) -> bool {
        let now = self.world.now;
        self.reloads.counts[0] += 1;
        // What follows from it is judged by it there: where the enforcer cannot read it, nobody goes by it.
        let config =
            loaded.config.and_then(|configured| match self.enforcer.reload(configured.text) {
                Ok(()) => Ok(configured),
                Err(error) => Err(format!("the enforcer cannot use it: {error}")),
            });
        let view = match config {
            Err(why) => {
                tracing::error!(why, "the configuration is not used, what held before still holds");
                self.reloads.counts[1] += 1;
                let since = self.reloads.refused.take().map_or(now, |(since, _)| since);
                self.reloads.refused = Some((since, why.clone()));
                Reloaded { refused: Some(why), ..Reloaded::default() }
            }
            Ok(configured) => self.configure(configured),
        };
        let holds = view.refused.is_none();
        // Whoever has read it waits for this, and for nothing else.
        let _ = loaded.holds.try_send(holds);
        self.emit(Effect::Reloaded);
        self.emit(Effect::Reply { id, reply: Ok(Reply::Reloaded(Box::new(view))), last: true });
        holds
    }

    fn configure(&mut self, configured: Configured) -> Reloaded {
        let Configured { policy, admission, changed, kept, registry, rules, inventory, .. } =
            configured;
        self.reloads.refused = None;
        self.world.policy = policy;
        self.admissions.configure(admission);
        if let Some(registry) = registry {
            self.world.registry = registry;
        }
        if let Some(rules) = rules {
            self.world.rules = rules;
        }
        let mut said = None;
        if let Some(event) = inventory {
            said = Some(event.source.clone());
            let started = sources::take_in(self, event);
            self.media.refresh(&mut self.world, &started);
            self.media.forget_unused(&mut self.world);
        }
        // The other inventories answer when they can.
        self.emit(Effect::AskSources);
        tracing::info!(
            changed = ?changed,
            waits = ?kept.iter().map(|kept| kept.key.as_str()).collect::<Vec<_>>(),
            "the configuration was read again"
        );
        let source = said.and_then(|name| self.world.sources.get(&name));
        let rejected = self.world.registry.rejected.iter();
        let rejected = rejected.chain(source.into_iter().flat_map(|source| &source.rejected));
        let mut trouble: Vec<_> =
            rejected.map(|entry| format!("{}: {}", entry.place, entry.why)).collect();
        trouble.extend(self.world.rules.refused.iter().flat_map(|refused| refused.why.clone()));
        if let Some(detector_core::model::Health::Lost { why, .. }) = source.map(|s| &s.health) {
            trouble.push(why.clone());
        }
        Reloaded {
            refused: None,
            changed,
            kept,
            templates: self.world.registry.templates.len(),
            rules: self.world.rules.rules.list().len(),
            vms: source.map_or(0, |source| source.vms.len()),
            trouble,
        }
    }

    /// What is wrong with the configuration on the disk.
    pub(super) fn reload_findings(&self) -> Option<Finding> {
        let (since, why) = self.reloads.refused.clone()?;
        let subject = Subject::Place("configuration".to_owned());
        Some(Finding {
            key: FindingKey { kind: FindingKind::EntryRejected, subject },
            severity: Severity::High,
            title: format!(
                "The configuration is not used, what held before still holds, and the daemon would not \
                 start with it: {why}."
            ),
            evidence: vec![("why".to_owned(), why)],
            next: Some("detector reload".to_owned()),
            since,
        })
    }

    /// Whether the configuration on the disk could be used when it was read last.
    pub(super) fn is_configured(&self) -> bool {
        self.reloads.refused.is_none()
    }
}

#[cfg(test)]
mod tests;
