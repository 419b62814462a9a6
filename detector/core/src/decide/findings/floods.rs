//! Ports that send more than anybody wants.

use detector_common::reason::Reason;

use super::{
    Found,
    claims::{Speaker, listed},
    finding, learning, pair,
};
use crate::{
    decide::text::{quoted, show_port},
    model::{FindingKind, Load, Seen, Severity, Shield, Timestamp, Vm},
};

/// How much a port floods, and since when.
pub(super) struct Flood<'a>(&'a Load, Timestamp);

pub(super) fn of<'a>(speaker: &Speaker<'a>) -> Option<Flood<'a>> {
    let load = speaker.world.loads.get(&speaker.link.ifindex)?;
    Some(Flood(load, load.flood.filter(|_| load.instance == speaker.instance)?))
}

/// One finding for all that the port does while it floods: whatever it claims is evidence of this one.
/// What it claimed last is a finding of its own again when the flood is over, so that a flood hides
/// nothing. `claims` is what is not its own, and `victim` the VM whose that is.
pub(super) fn report<'a>(
    speaker: &Speaker<'a>,
    Flood(load, since): &Flood<'_>,
    mut claims: Vec<&'a Seen>,
    victim: Option<&Vm>,
    found: &mut Found,
) {
    let port = &speaker.link.name;
    let rate = rounded(load.rate);
    let shield = match speaker.observed.map_or(Shield::Off, |held| held.shield) {
        Shield::Off => "off",
        Shield::On => "on",
        Shield::Refused => "not possible on this port",
    };
    let shielded = if shield == "on" { ", before they cost much (a shield is on)" } else { "" };
    let (severity, under) = match victim {
        Some(vm) => (Severity::High, format!(" under the MAC of VM {} too", quoted(&vm.name))),
        None => (Severity::Medium, String::new()),
    };
    let title = format!(
        "Port {} floods{under}: about {rate} frames a second are refused{shielded}.",
        quoted(port)
    );
    let mut evidence =
        vec![pair("port", port), pair("refused a second", rate), pair("shield", shield)];
    evidence.extend(victim.map(|vm| pair("owner", vm.uuid)));
    let taken = learning::claims(speaker, Reason::AddressTaken);
    evidence.extend(learning::owners(speaker, &taken));
    claims.extend(taken);
    claims.extend(learning::claims(speaker, Reason::LearnedFull));
    evidence.extend(listed(&claims));
    let key = (FindingKind::Flood, speaker.subject());
    found.add(finding(key, severity, title, evidence, Some(show_port(port)), *since));
}

/// Whether the port floods by itself, and not for the most part with what others have claimed before it.
pub(in crate::decide) fn is_its_own(speaker: &Speaker<'_>) -> bool {
    let all: u64 = speaker.claims(|_| true).into_iter().map(|seen| seen.count).sum();
    speaker.contested() <= all / 2
}

/// Two digits say enough.
fn rounded(rate: u64) -> u64 {
    let unit = 10_u64.pow(rate.checked_ilog10().unwrap_or(0).saturating_sub(1));
    rate / unit * unit
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn rates_have_two_digits() {
        let cases = [(0, 0), (9, 9), (99, 99), (101, 100), (123_456, 120_000)];
        for (rate, expect) in cases {
            assert_eq!(rounded(rate), expect);
        }
        assert_eq!(rounded(u64::MAX), 18_000_000_000_000_000_000);
    }
}
