//! The files that an administrator edits.

use anyhow::{Context, Result};

use super::Daemon;

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
}
