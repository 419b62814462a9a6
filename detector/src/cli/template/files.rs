//! The directory of manifests, as the command line reads and changes it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use detector_core::model::{Registry, Template};

use crate::{
    cli::{Global, ask::config, escape::escape},
    registry::Manifests,
    suggest::did_you_mean,
};

pub(in crate::cli) struct Directory {
    path: PathBuf,
    manifests: Manifests,
    pub(super) registry: Registry,
    /// Held while a manifest is changed, so that two changes do not undo each other.
    _lock: Option<File>,
}

impl Directory {
    /// Reads every manifest, and says which are refused.
    pub(super) fn read(global: &Global) -> Result<Self> {
        let config = config(global)?;
        let manifests = config.manifests(false).map_err(|why| anyhow!(why))?;
        Ok(Self::load(config.paths.templates, manifests, None))
    }

    /// The same for a change; waits while somebody else changes a manifest.
    pub(super) fn change(global: &Global) -> Result<Self> {
        let path = config(global)?.paths.templates;
        let lock = File::open(&path)
            .and_then(|directory| directory.lock().map(|()| directory))
            .with_context(|| format!("{}: cannot be opened", path.display()))?;
        // Whatever is signed: what is changed has to be signed anew.
        let manifests = Manifests::new(&path);
        Ok(Self::load(path, manifests, Some(lock)))
    }

    /// The same for a new manifest; makes the directory where there is none.
    pub(in crate::cli) fn extend(global: &Global) -> Result<Self> {
        let path = config(global)?.paths.templates;
        fs::create_dir_all(&path).with_context(|| format!("{}: cannot be made", path.display()))?;
        Self::change(global)
    }

    fn load(path: PathBuf, mut manifests: Manifests, lock: Option<File>) -> Self {
        let registry = manifests.reload();
        for rejected in &registry.rejected {
            let text = format!("{}: {}", rejected.place, rejected.why);
            eprintln!("detector: {}", escape(&text));
        }
        Self { path, manifests, registry, _lock: lock }
    }

    /// The manifests with this name. Of two with the same id and version the one that holds counts.
    pub(in crate::cli) fn all_named(&self, name: &str) -> Vec<(&Path, &Template)> {
        let mut found: Vec<(&Path, &Template)> = Vec::new();
        for (path, template) in self.manifests.files() {
            let known = found.iter().any(|(_, one)| one.exact_name() == template.exact_name());
            let holds = self.registry.templates.contains(template);
            if template.is_named(name) && holds && !known {
                found.push((path, template));
            }
        }
        found
    }

    /// The one manifest with this name.
    pub(super) fn named(&self, name: &str) -> Result<(&Path, &Template)> {
        match self.all_named(name)[..] {
            [] => {
                let known: Vec<_> = self.registry.templates.iter().map(Template::name).collect();
                let close = did_you_mean(name, known.iter().map(String::as_str));
                bail!(
                    "no template {name:?} in {}{close}; `detector template list` shows all",
                    self.path.display()
                )
            }
            [one] => Ok(one),
            ref several => {
                let names: Vec<_> = several.iter().map(|(_, one)| one.exact_name()).collect();
                bail!("template {name:?} has several versions; say which: {}", names.join(", "))
            }
        }
    }

    /// Where the manifest of a new template goes.
    pub(in crate::cli) fn place_for(&self, template: &Template) -> PathBuf {
        let name = template.name();
        let usable = |c: char| c.is_ascii_alphanumeric() || "._+@-".contains(c);
        let name = name.chars().map(|c| if usable(c) { c } else { '_' });
        // A file name has 255 bytes at most (NAME_MAX), and one that begins with a dot is not read.
        let mut name: String = name.take(200).collect();
        if name.starts_with('.') {
            name.replace_range(..1, "_");
        }
        self.path.join(format!("{name}.toml"))
    }
}
