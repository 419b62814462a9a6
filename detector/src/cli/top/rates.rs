//! From what was counted at two moments to how much there is a second.

use std::{cmp::Ordering, collections::BTreeMap, time::Instant};

use crate::{
    api::view::{CountersView, PortState, PortView, Status},
    cli::pins::Origin,
};

/// What was seen at a moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) origin: Origin,
    pub(super) ports: Vec<PortView>,
    /// Unknown without the daemon.
    pub(super) status: Option<Box<Status>>,
}

/// A port, with frames a second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) vm: String,
    pub(super) state: PortState,
    pub(super) is_guest: bool,
    /// From its side, refused ones included.
    pub(super) from: f64,
    /// Towards its side.
    pub(super) to: f64,
    /// Refused, either way.
    pub(super) refused: f64,
    /// Why most of those were refused; or of all so far, where none has been since.
    pub(super) reason: String,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Refused,
    From,
    To,
    Name,
}

impl Order {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Refused => Self::From,
            Self::From => Self::To,
            Self::To => Self::Name,
            Self::Name => Self::Refused,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::From => "from guest",
            Self::To => "to guest",
            Self::Name => "name",
        }
    }

    /// The most first; by name where there is no difference.
    pub(super) fn sort(self, rows: &mut [&Row]) {
        let most = |a: f64, b: f64| b.partial_cmp(&a).unwrap_or(Ordering::Equal);
        rows.sort_by(|a, b| {
            let order = match self {
                Self::Refused => most(a.refused, b.refused),
                Self::From => most(a.from, b.from),
                Self::To => most(a.to, b.to),
                Self::Name => Ordering::Equal,
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
    }
}

/// A row for each port of the later sample. A port that was not there before has no rates yet.
pub(super) fn rows(before: Option<&Sample>, now: &Sample) -> Vec<Row> {
    let seconds = before.map_or(0.0, |before| (now.at - before.at).as_secs_f64());
    let before: BTreeMap<_, _> = before
        .iter()
        .flat_map(|sample| &sample.ports)
        .filter_map(|port| Some(((port.ifindex, port.instance), port.counters.as_ref()?)))
        .collect();
    let row = |port: &PortView| {
        let nothing = CountersView::default();
        let counted = port.counters.as_ref().unwrap_or(&nothing);
        let earlier = before.get(&(port.ifindex, port.instance)).copied();
        // A counter that goes back has begun anew.
        let rate = |now: u64, then: Option<u64>| match then {
            #[expect(clippy::cast_precision_loss, reason = "for people to read")]
            Some(then) if seconds > 0.0 => now.saturating_sub(then) as f64 / seconds,
            _ => 0.0,
        };
        let (all, reason) = refused(counted, None);
        let since = earlier.map(|earlier| refused(counted, Some(earlier)));
        let latest = since.and_then(|(_, reason)| reason);
        Row {
            name: port.name.clone(),
            vm: port.vm.as_ref().map_or_else(|| "-".to_owned(), |vm| vm.name.clone()),
            state: port.status,
            is_guest: port.role == "guest",
            from: rate(counted.frames.from, earlier.map(|earlier| earlier.frames.from)),
            to: rate(counted.frames.to, earlier.map(|earlier| earlier.frames.to)),
            refused: rate(all, earlier.map(|earlier| refused(earlier, None).0)),
            reason: latest.or(reason).unwrap_or("-").to_owned(),
        }
    };
    now.ports.iter().map(row).collect()
}

/// How many frames were refused since, and why most of them; the first by name of equals.
fn refused<'a>(now: &'a CountersView, since: Option<&CountersView>) -> (u64, Option<&'a str>) {
    let mut by_reason = BTreeMap::<&str, u64>::new();
    let sides = [(&now.from, since.map(|it| &it.from)), (&now.to, since.map(|it| &it.to))];
    for (counts, earlier) in sides {
        for (reason, count) in counts {
            let then = earlier.and_then(|counts| counts.get(reason)).copied().unwrap_or(0);
            *by_reason.entry(reason).or_default() += count.saturating_sub(then);
        }
    }
    let most = by_reason
        .iter()
        .filter(|(_, count)| **count > 0)
        .max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
    (by_reason.values().sum(), most.map(|(reason, _)| *reason))
}
