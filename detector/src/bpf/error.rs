use std::{error::Error, io, path::PathBuf};

use super::features::hint;
use crate::{enforcer::EnforceError, net::NetError};

/// Why something could not be done with the kernel.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    #[error(
        "{} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a \
         directory of one as `paths.pins`", .0.display()
    )]
    NotBpffs(PathBuf),
    #[error(
        "process {holder} holds the pins in {}: it guards this host already. Stop it first \
         (what is in force stays), or give this one pins of its own with `paths.pins`", root.display()
    )]
    Locked { root: PathBuf, holder: String },
    #[error(
        "{found} belongs to another version of this program, whose map schema is not {ours}: run that \
         version, or give up what it has in force with `detector detach --all`"
    )]
    OtherSchema { found: String, ours: u32 },
    #[error(
        "the pinned map {} is {found}, expected {expected}: it belongs to another build of this \
         program. Run that one, or give up what is in force with `detector detach --all`",
        path.display()
    )]
    Shape { path: PathBuf, found: String, expected: String },
    #[error("nothing is pinned in {}: no daemon has run with these pins. `--pins` or `paths.pins` name \
         another place", .0.display())]
    Nothing(PathBuf),
    #[error("cannot {what}{}", hint(source.as_ref()))]
    Failed {
        what: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Net(#[from] NetError),
}

impl BpfError {
    /// A step that failed, with its cause.
    pub(super) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        |source| Self::Failed { what: what.into(), source: source.into() }
    }
}

impl From<BpfError> for EnforceError {
    fn from(error: BpfError) -> Self {
        Self(chain(&error))
    }
}

/// An error and its causes in one line. A cause that only repeats what was said is left out.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The errno at the bottom of an error.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_named_down_to_the_errno() {
        let error = BpfError::failed("attach port_ingress to interface 7")(
            io::Error::from_raw_os_error(libc::EPERM),
        );
        assert_eq!(errno(&error), Some(libc::EPERM));
        let EnforceError(text) = error.into();
        assert!(text.starts_with("cannot attach port_ingress to interface 7 ("), "{text}");
        assert!(text.contains("CAP_BPF") && text.contains("os error 1"), "{text}");
    }
}
