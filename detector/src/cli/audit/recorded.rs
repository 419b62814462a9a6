//! What the command line does in place of the daemon is on record before it is done.

use anyhow::Result;

use super::super::{Global, ask::config, escape::escape};
use crate::audit::{Entry, Kind, Place, Subject, Via, Who, aside};

/// Puts on record what is asked for, does it, and puts on record what has come of it. It is done in any case: this is
/// for when people are cut off, or have to cut somebody off.
pub(in crate::cli) fn on_record<T>(
    global: &Global,
    (action, subject, why): (&str, Subject, &str),
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let entry = Entry::new(Kind::ActionAsked, Who::this(Via::Pins))
        .on(subject)
        .change(None::<String>, action)
        .why(why);
    let place = config(global).map(|config| Place::new(&config.paths.state));
    let put = |entry: &Entry| match &place {
        Ok(place) => aside::record(place, entry),
        Err(error) => Err(format!("{error:#}")),
    };
    let asked = put(&entry);
    let result = act();
    let outcome = result.as_ref().map(drop).map_err(|error| format!("{error:#}"));
    let of = asked.as_ref().ok().copied().flatten();
    let ended = put(&entry.outcome(of, outcome));
    if let Some(why) = asked.err().or(ended.err()) {
        eprintln!(
            "detector: it is not on record, since the audit cannot be written: {}",
            escape(&why)
        );
    }
    result
}
