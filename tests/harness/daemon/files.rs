//! The files that an administrator edits.

use anyhow::{Context, Result};

use super::{Daemon, Settings};

/// What is not about it cuts off as many as it likes.
fn unguarded(settings: &Settings) -> &'static str {
    let is_about_it = settings.more.contains("[mitigation]");
    if is_about_it { "" } else { "[mitigation]\nguard = false\n" }
}

impl Daemon<'_> {
    /// Replaces the static inventory.
    pub fn write_inventory(&self, text: &str) -> Result<()> {
        let new = self.path("inventory.new");
        std::fs::write(&new, text)?;
        // In one step, so that the daemon never reads half of it.
        std::fs::rename(new, self.path("inventory.toml")).context("cannot write the inventory")
    }

    /// Replaces a template manifest.
    pub fn write_template(&self, name: &str, text: &str) -> Result<()> {
        let new = self.path("templates.d/.new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.path("templates.d").join(name)).context("cannot write a manifest")
    }

    /// The text of its configuration.
    pub fn configuration(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.config())?)
    }

    /// Replaces its configuration; it is read at the next start or reload.
    pub fn write_configuration(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.config(), text)?)
    }

    /// The configuration that these settings make.
    pub(super) fn text(&self, settings: &Settings) -> String {
        let place = |name: &str| self.path(name).display().to_string();
        let uri = if settings.libvirt && settings.uris.is_empty() { "qemu:///system" } else { "" };
        format!(
            "mode = {:?}\n\
             [paths]\n\
             pins = \"/sys/fs/bpf/detector\"\n\
             state = {:?}\n\
             socket = {:?}\n\
             templates = {:?}\n\
             inventory = {:?}\n\
             policy = {:?}\n\
             [network]\n\
             bridges = {:?}\n\
             uplinks = {:?}\n\
             protected = {:?}\n\
             {}\n\
             [libvirt]\n\
             uri = {uri:?}\n\
             uris = {:?}\n\
             {}\
             [policy]\n\
             evidence = {:?}\n\
             {}\n",
            settings.mode,
            place("state"),
            place("detector.sock"),
            place("templates.d"),
            place("inventory.toml"),
            place("policy.cedar"),
            settings.bridges,
            settings.uplinks,
            settings.protected,
            settings.network,
            settings.uris,
            unguarded(settings),
            settings.evidence,
            settings.more,
        )
    }
}
