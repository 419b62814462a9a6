//! Bundles on a host's disk: what was taken, what is in force, and whether that is what is there.
//!
//! `standing.json` in `STATE/fleet` says it all, and is replaced in one step: a bundle is laid out beside the one in force
//! first, whole, and then named there. The highest version stays on record whatever becomes of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::{
    fleet::{
        Name,
        accept::{Standing, Verdict, judge, may_give_back},
        bundle::{self, POLICY, TEMPLATES},
        message::{Time, Version},
    },
    model::Today,
};
use serde::{Deserialize, Serialize};

use super::{
    pack::{self, Opened},
    settings,
};
use crate::{
    config::{Config, Places, text::read_text},
    registry::{Manifests, Trust, edit::overwrite},
};

/// Version of the record.
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 64 << 10;
const MAX_FILE: u64 = 1 << 20;
/// The bundle as it came, beside what was in it.
const SEALED: &str = "bundle";

/// Bundles of the fleet that a host is of.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    fleet: Name,
    trust: Trust,
    /// By whose signatures templates are taken here.
    of_templates: Trust,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    fleet: Name,
    highest: Option<Version>,
    in_force: Option<Version>,
    #[serde(default)]
    before: Option<Before>,
}

/// What was in force before, and comes back if the fleet withdraws what is, as that allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    /// `None` for the host's own files.
    version: Option<Version>,
    until: Time,
}

/// What has become of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was there.
    Known,
    /// It is what the host goes by from the next reload on, in place of this.
    Instead { version: Version, of: Former },
}

/// What the record was before another bundle was named there, which comes back if that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Former(Box<Record>);

impl Former {
    /// What was in force; `None` for the host's own files.
    pub(crate) fn version(&self) -> Option<Version> {
        self.0.in_force
    }
}

/// Why a bundle stays that the fleet has withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stays {
    #[error("{0}")]
    Forever(String),
    /// What keeps it may pass.
    #[error("{0}")]
    Still(String),
}

impl Store {
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (fleet, _) = config.fleet.names()?;
        let registry = &config.registry;
        Some(Self {
            directory: config.paths.state.join("fleet"),
            fleet: fleet.clone(),
            // They were checked with the configuration.
            trust: Trust::new(&config.fleet.trusted_keys, true).ok()?,
            of_templates: Trust::new(&registry.trusted_keys, registry.require_signature).ok()?,
        })
    }

    /// The bundle in force.
    pub(crate) fn in_force(&self) -> Result<Option<Version>, String> {
        Ok(self.record()?.in_force)
    }

    /// Judges a bundle and, where it is to be taken, lays it out and names it as the one in force. On any doubt nothing
    /// changes.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub(crate) fn take(&self, file: &[u8], today: Today) -> Result<Taken, String> {
        let record = self.record()?;
        let opened = pack::open(file, Some(&self.trust)).map_err(|error| error.to_string())?;
        let Opened { bundle, version, .. } = &opened;
        let standing = Standing { fleet: self.fleet.clone(), highest: record.highest };
        match judge(bundle, *version, &standing, today).map_err(|refusal| refusal.to_string())? {
            // One that did not hold is tried again by a new version only.
            Verdict::Known => return Ok(Taken::Known),
            Verdict::Take => {}
        }
        pack::check(bundle).map_err(|error| error.to_string())?;
        let failed = |error: io::Error| format!("it cannot be kept: {error}");
        let place = self.place(*version);
        self.lay_out(&opened, file, &place).map_err(failed)?;
        self.try_templates(&place)?;
        let of = Former(Box::new(record.clone()));
        let before = (bundle.withdraw > 0).then(|| {
            let until = today.latest.0.saturating_add(bundle.withdraw.saturating_mul(1000));
            let until = i64::try_from(until).ok().and_then(|at| Time::from_millisecond(at).ok());
            Before { version: record.in_force, until: until.unwrap_or(Time::MIN) }
        });
        let next = Record { highest: Some(*version), in_force: Some(*version), before, ..record };
        self.save(&next).map_err(failed)?;
        Ok(Taken::Instead { version: *version, of })
    }

    /// Has that be in force again which was, since what came in its place did not hold. A bundle that was taken does
    /// not come back.
    pub(crate) fn go_back(&self, to: Former) -> Result<(), String> {
        let highest = self.record()?.highest;
        self.save(&Record { highest, ..*to.0 }).map_err(|error| error.to_string())
    }

    /// Has the one before be in force again, since the fleet has withdrawn this one, which allows that for a while.
    ///
    /// # Errors
    ///
    /// Why it stays.
    pub(crate) fn give_back(&self, today: Today) -> Result<(Option<Version>, Former), Stays> {
        let record = self.record().map_err(Stays::Still)?;
        let Some(before) = record.before.clone() else {
            return Err(Stays::Forever("it says that it is not to be given back".to_owned()));
        };
        let until = before.until;
        match may_give_back(until, today) {
            Some(true) => {}
            Some(false) => {
                return Err(Stays::Forever(format!("it could be given back until {until}")));
            }
            None => {
                return Err(Stays::Still(format!(
                    "whether it can still be given back (until {until}) is not known, since this host's clock was set"
                )));
            }
        }
        // What cannot be read any more is no place to go back to.
        if let Some(version) = before.version {
            self.sealed(version).map_err(Stays::Still)?;
        }
        self.save(&Record { in_force: before.version, before: None, ..record.clone() })
            .map_err(|error| Stays::Still(error.to_string()))?;
        Ok((before.version, Former(Box::new(record))))
    }

    /// Removes what is neither in force nor was before that.
    pub(crate) fn tidy(&self, before: Option<Version>) {
        let Ok(Record { in_force, .. }) = self.record() else { return };
        let kept: Vec<_> = in_force.into_iter().chain(before).map(|one| self.place(one)).collect();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !kept.contains(&path) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// Which files in force are not those of the bundle.
    pub(crate) fn drift(&self) -> Vec<String> {
        let version = match self.record() {
            Ok(Record { in_force: Some(version), .. }) => version,
            Ok(_) => return Vec::new(),
            Err(why) => return vec![why],
        };
        let place = self.place(version);
        let opened = match self.sealed(version) {
            Ok(opened) => opened,
            Err(why) => return vec![why],
        };
        let mut strange: Vec<String> = Vec::new();
        for (name, text) in &opened.bundle.files {
            match read_text(&place.join(name), MAX_FILE) {
                Ok(found) if found == *text => {}
                Ok(_) => strange.push(format!("{name}: it was changed")),
                Err(why) => strange.push(format!("{name}: {why}")),
            }
        }
        for entry in fs::read_dir(place.join(TEMPLATES)).into_iter().flatten().flatten() {
            let name = format!("{TEMPLATES}{}", entry.file_name().to_string_lossy());
            if !opened.bundle.files.contains_key(&name) {
                strange.push(format!("{name}: it was added"));
            }
        }
        strange
    }

    /// A bundle as it came, by its signature: what lies beside it could have been written by whoever has taken the daemon
    /// over.
    fn sealed(&self, version: Version) -> Result<Opened, String> {
        let no = |why: String| format!("{SEALED}: {why}");
        let text = read_text(&self.place(version).join(SEALED), bundle::LONGEST as u64)
            .map_err(|error| no(error.to_string()))?;
        let opened = pack::open(text.as_bytes(), Some(&self.trust))
            .map_err(|error| no(error.to_string()))?;
        if opened.version != version {
            return Err(no("it is another one".to_owned()));
        }
        Ok(opened)
    }

    /// What a bundle says in place of the configuration.
    fn settings(&self, version: Version) -> Result<toml::Table, String> {
        settings::parse(&self.sealed(version)?.bundle)
    }

    /// Whoever requires signatures of templates requires them of a fleet's, too.
    fn try_templates(&self, place: &Path) -> Result<(), String> {
        let templates = place.join(TEMPLATES);
        if !templates.exists() {
            return Ok(());
        }
        let read = Manifests::new(&templates).trusting(self.of_templates.clone(), None).reload();
        match read.rejected.first() {
            None => Ok(()),
            Some(rejected) => Err(format!("{}: {}", rejected.place, rejected.why)),
        }
    }

    fn lay_out(&self, opened: &Opened, file: &[u8], place: &Path) -> io::Result<()> {
        // What a crash has left of it is made anew.
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir_all(place)?;
        for (name, text) in &opened.bundle.files {
            let path = place.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            overwrite(&path, text, 0o600)?;
        }
        let text = std::str::from_utf8(file).map_err(io::Error::other)?;
        overwrite(&place.join(SEALED), text, 0o600)
    }

    fn place(&self, version: Version) -> PathBuf {
        self.directory.join(version.number.to_string())
    }

    /// What is on record. What cannot be read is a reason to take nothing, since anything could be old.
    fn record(&self) -> Result<Record, String> {
        let path = self.directory.join("standing.json");
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(Record {
                v: VERSION,
                fleet: self.fleet.clone(),
                highest: None,
                in_force: None,
                before: None,
            });
        }
        let no = |why: String| {
            format!(
                "which bundles were taken cannot be told: {}: {why}; mend it, or remove it once you are sure that \
                 the fleet offers no older one",
                path.display()
            )
        };
        let text = read_text(&path, MAX_BYTES).map_err(|error| no(error.to_string()))?;
        let record: Record = serde_json::from_str(&text).map_err(|error| no(error.to_string()))?;
        if record.v != VERSION {
            return Err(no(format!("it has version {}; expected {VERSION}", record.v)));
        }
        if record.fleet != self.fleet {
            return Err(no(format!("it is of the fleet {}", record.fleet)));
        }
        Ok(record)
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
        overwrite(&self.directory.join("standing.json"), &text, 0o600)
    }
}

/// Reads the configuration, with what the bundle in force says in its place.
///
/// # Errors
///
/// Why it is not used. At the start that is never the bundle's doing: a host without a guard is worse than one that goes
/// by its own settings.
pub(crate) fn configured(places: &Places, starting: bool) -> anyhow::Result<Config> {
    let config = places.load()?;
    let Some(store) = Store::new(&config) else { return Ok(config) };
    let version = match store.record() {
        Ok(Record { in_force: Some(version), .. }) => version,
        Ok(_) => return Ok(config),
        // What is in force stays.
        Err(why) if !starting => anyhow::bail!(why),
        Err(why) => {
            // What cannot be told is no reason to be without a guard.
            tracing::error!(why, "the fleet's bundle is not used, the host's own files are");
            return Ok(config);
        }
    };
    let place = store.place(version);
    let laid_over = store
        .settings(version)
        .map_err(anyhow::Error::msg)
        .and_then(|table| Ok(places.load_with(|own| settings::lay_over(own, &table))?));
    let mut config = match laid_over {
        Err(error) if starting => {
            tracing::error!(%error, "the settings of the fleet's bundle are not used");
            config
        }
        laid_over => laid_over?,
    };
    config.paths.policy = place.join(POLICY);
    // A fleet that says nothing of templates leaves each host its own.
    if place.join(TEMPLATES).exists() {
        config.paths.templates = place.join(TEMPLATES);
    }
    Ok(config)
}
