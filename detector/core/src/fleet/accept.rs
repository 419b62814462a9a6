//! Whether a host takes a bundle.

use super::{
    Name,
    bundle::Bundle,
    message::{Time, Version},
};
use crate::model::{Timestamp, Today};

/// What a host remembers of bundles; it is kept, so that no restart forgets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The fleet that the host is of.
    pub fleet: Name,
    /// The highest version that it has ever taken.
    pub highest: Option<Version>,
}

/// What becomes of a bundle whose signature was trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// It is the one that was taken last.
    Known,
}

/// Why a bundle is not taken. What was in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is of the fleet {offered}, and this host is of {own}")]
    OtherFleet { offered: Name, own: Name },
    #[error(
        "its version {offered} is lower than {known}, which was taken before: an older one does not come back; pack what \
         it says as a new version"
    )]
    Older { offered: u64, known: u64 },
    #[error(
        "its version {0} is that of another text, which was taken before; raise the version with every change"
    )]
    OtherText(u64),
    #[error("it has expired ({0}); sign a new one")]
    Expired(Time),
    #[error("whether it has expired ({0}) is not known, since this host's clock was set")]
    DayUnknown(Time),
}

/// Judges a bundle. `today` is the time of day as far as it is known.
///
/// # Errors
///
/// It is not to be taken.
pub fn judge(
    bundle: &Bundle,
    version: Version,
    standing: &Standing,
    today: Today,
) -> Result<Verdict, Refusal> {
    if bundle.fleet != standing.fleet {
        let (offered, own) = (bundle.fleet.clone(), standing.fleet.clone());
        return Err(Refusal::OtherFleet { offered, own });
    }
    if let Some(known) = standing.highest {
        if version.number < known.number {
            return Err(Refusal::Older { offered: version.number, known: known.number });
        }
        if version.number == known.number {
            let same = version.sha256 == known.sha256;
            // What has been taken stays, also when it has expired since.
            return if same { Ok(Verdict::Known) } else { Err(Refusal::OtherText(known.number)) };
        }
    }
    match today.has_come(moment(bundle.expires)) {
        Some(false) => Ok(Verdict::Take),
        Some(true) => Err(Refusal::Expired(bundle.expires)),
        None => Err(Refusal::DayUnknown(bundle.expires)),
    }
}

/// Whether a host gives back a bundle that its fleet has withdrawn, and that said it may be until then; `None` while
/// that is not known.
pub fn may_give_back(until: Time, today: Today) -> Option<bool> {
    today.has_come(moment(until)).map(|has| !has)
}

/// Before the epoch everything has expired.
fn moment(at: Time) -> Timestamp {
    Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0))
}
