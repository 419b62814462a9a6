//! Secrets: each in a file of its own, read when it is needed, so that it can be changed at any time and
//! is in no configuration, log or answer.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::Failure;

/// No secret is longer.
const LONGEST: u64 = 4096;

/// The secret in a file, without the line feed at its end. Blocks.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::later(&path.display().to_string(), why);
    let metadata = fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(wrong("expected a file of at most 4096 bytes with the secret in it"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(wrong("everybody may read this secret: chmod o= it, and exchange the secret"));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(wrong("expected the secret on one line"));
    }
    Ok(text.to_owned())
}

/// What stands for a secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// A receiver's answer without what it was sent in confidence.
pub(super) fn hide(answer: &str, secret: Option<&str>) -> String {
    match secret {
        Some(secret) => {
            let hidden = answer.replace(secret, HIDDEN);
            // A receiver may repeat the token of "Bearer TOKEN" alone.
            match secret.split_once(' ').map(|(_, token)| token.trim()) {
                Some(token) if !token.is_empty() => hidden.replace(token, HIDDEN),
                _ => hidden,
            }
        }
        None => answer.to_owned(),
    }
}
