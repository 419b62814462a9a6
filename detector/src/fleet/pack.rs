//! Bundles as files: made of a directory, sealed, shown and verified.

use std::{
    fs,
    path::{Path, PathBuf},
};

use detector_core::{
    decide::policy::{Rules, SCHEMA},
    fleet::{
        bundle::{self, Bundle, Fault, Sealed},
        message::Version,
    },
    model::Digest,
};
use sha2::{Digest as _, Sha256};

use super::settings;
use crate::{
    config::text::read_text,
    registry::{Trust, Wrong, parse},
};

/// Why a bundle is not made, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Unreadable(PathBuf, String),
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("{0}; expected one of fleet.trusted_keys")]
    Signature(#[from] Wrong),
    #[error("its policy is none:\n{0}")]
    Policy(String),
    #[error("its template {0}: {1}")]
    Template(String, String),
}

/// A bundle that has been read.
#[derive(Clone, Debug)]
pub struct Opened {
    pub bundle: Bundle,
    pub version: Version,
    /// The key that has signed it, where that was asked.
    pub signer: Option<String>,
}

/// Puts files of a directory into a bundle, as far as one may have them: `policy.cedar`, `policy.cedarschema`,
/// `settings.toml` and `templates/*.toml` with their signatures.
///
/// # Errors
///
/// One of them cannot be read, or is not what it should be.
pub fn pack(directory: &Path, mut bundle: Bundle) -> Result<Vec<u8>, PackError> {
    let limit = bundle::LONGEST_FILE as u64;
    let mut take = |path: PathBuf, name: String| match read_text(&path, limit) {
        Ok(text) => {
            bundle.files.insert(name, text);
            Ok(())
        }
        Err(why) => Err(PackError::Unreadable(path, why.to_string())),
    };
    for name in [bundle::POLICY, bundle::SCHEMA, bundle::SETTINGS] {
        let path = directory.join(name);
        if name == bundle::POLICY || path.exists() {
            take(path, name.to_owned())?;
        }
    }
    let templates = directory.join(bundle::TEMPLATES);
    let unreadable =
        |error: std::io::Error| PackError::Unreadable(templates.clone(), error.to_string());
    if templates.exists() {
        for entry in fs::read_dir(&templates).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What an editor has left there is nobody's template.
            if name.ends_with(".toml") || name.ends_with(".toml.minisig") {
                take(entry.path(), format!("{}{name}", bundle::TEMPLATES))?;
            }
        }
    }
    let text = bundle.to_text()?;
    check(&bundle)?;
    Ok(text)
}

/// Reads a bundle. Its signature is looked at first, where there are keys to do that by; nothing of what it says is
/// read before.
///
/// # Errors
///
/// It is none, or not to be believed.
pub fn open(bytes: &[u8], trust: Option<&Trust>) -> Result<Opened, PackError> {
    let sealed = Sealed::read(bytes)?;
    let signer = trust.map(|trust| trust.verify(sealed.text, sealed.signature)).transpose()?;
    let bundle = Bundle::parse(sealed.text)?;
    let sha256 = Digest(Sha256::digest(sealed.text).into());
    let version = Version { number: bundle.version, sha256 };
    Ok(Opened { bundle, version, signer })
}

/// Whether what a bundle has can be used by this release.
///
/// # Errors
///
/// What cannot.
pub fn check(bundle: &Bundle) -> Result<(), PackError> {
    let policy = bundle.files.get(bundle::POLICY).map(String::as_str).unwrap_or_default();
    if let Err(faults) = Rules::parse(policy) {
        let mut why: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let known = bundle.files.get(bundle::SCHEMA);
        if known.is_some_and(|schema| schema.trim() != SCHEMA.trim()) {
            why.push("(it was written for the schema of another release)".to_owned());
        }
        return Err(PackError::Policy(why.join("\n")));
    }
    for (name, text) in bundle.templates().filter(|(name, _)| name.ends_with(".toml")) {
        let (mut rejected, path) = (Vec::new(), Path::new(name));
        let refused = parse(path, text, &mut rejected).err();
        if let Some(refused) = refused.or_else(|| rejected.pop()) {
            return Err(PackError::Template(refused.place, refused.why));
        }
    }
    settings::parse(bundle)
        .map(drop)
        .map_err(|why| PackError::Unreadable(bundle::SETTINGS.into(), why))
}
