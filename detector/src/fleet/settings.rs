//! What a bundle may say in place of a host's own configuration: how strict verdicts are, and nothing that says which
//! host this is, what it may touch or whom it trusts.

use detector_core::fleet::bundle::{self, Bundle};
use toml::Table;

/// The keys, by section. Each can change while the daemon runs, and the enforcer's process goes by none of them.
const KEYS: [(&str, &[&str]); 2] = [
    ("policy", &["default_rule", "unknown_port_grace", "quarantine", "revoked", "revoked_grace"]),
    ("flood", &["above", "after", "below", "calm"]),
];

/// The settings of a bundle; none where it has none.
///
/// # Errors
///
/// They are no TOML, or have a key that is not a fleet's to say, or a value that a configuration may not have.
pub(crate) fn parse(bundle: &Bundle) -> Result<Table, String> {
    let text = bundle.files.get(bundle::SETTINGS).map(String::as_str).unwrap_or_default();
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    for (section, value) in &table {
        let keys = KEYS.iter().find(|(name, _)| name == section).map_or(&[][..], |(_, keys)| keys);
        let strange = match value {
            toml::Value::Table(inner) => inner
                .keys()
                .find(|key| !keys.contains(&key.as_str()))
                .map(|key| format!("{section}.{key}")),
            _ => Some(section.clone()),
        };
        if keys.is_empty() || strange.is_some() {
            let known = KEYS
                .iter()
                .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")));
            let known: Vec<_> = known.collect();
            return Err(format!(
                "{} is not for a fleet to say; expected one of {}",
                strange.unwrap_or_else(|| section.clone()),
                known.join(", ")
            ));
        }
    }
    let alone = crate::config::Config::parse(text, std::path::Path::new(bundle::SETTINGS));
    alone.map_err(|error| error.to_string())?;
    Ok(table)
}

/// Puts settings in the place of what a configuration says.
pub(crate) fn lay_over(configuration: &mut Table, settings: &Table) {
    for (section, value) in settings {
        let own = configuration.entry(section).or_insert_with(|| Table::new().into());
        if let (toml::Value::Table(own), toml::Value::Table(theirs)) = (own, value) {
            own.extend(theirs.clone());
        }
    }
}
