//! How receivers tell this host from others.

use std::fs;

use sha2::{Digest, Sha256};

/// This host, and this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The host's name, as far as it is made of what names are made of.
    pub host: String,
    /// An identifier that stays when the name changes. Not the machine id itself, which is to be kept
    /// confidential (machine-id(5)).
    pub uid: String,
    pub version: &'static str,
}

impl Origin {
    pub fn here() -> Self {
        let name = nix::unistd::gethostname().unwrap_or_default();
        let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self::of(&name.to_string_lossy(), id.trim())
    }

    fn of(name: &str, machine: &str) -> Self {
        let nameable = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host: String = name.chars().filter(nameable).take(255).collect();
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        let of = if machine.is_empty() { &host } else { machine };
        let digest = Sha256::digest(format!("detector {of}"));
        let uid = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { host, uid, version: env!("CARGO_PKG_VERSION") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_harmless_and_the_identifier_stays() {
        let [one, other] = ["hv1.example", "b\u{1b}ad host]"].map(|name| Origin::of(name, "abc"));
        assert_eq!((one.host.as_str(), other.host.as_str()), ("hv1.example", "badhost"));
        assert_eq!(one.uid, other.uid);
        assert!(!one.uid.contains("abc") && one.uid.len() == 32);
        assert_eq!(Origin::of("", "").host, "localhost");
    }
}
