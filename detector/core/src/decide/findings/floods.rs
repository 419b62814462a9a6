//! Ports that send more than anybody wants.

use super::{Facts, Found, finding, pair, ports::subject};
use crate::{
    decide::{
        ports::Port,
        text::{quoted, show_port},
    },
    model::{FindingKind, Load, Severity, Shield},
};

/// One finding on the rate, whatever the port sends. Under whose identity it sends is another.
pub(super) fn report(port: &Port<'_>, facts: &Facts<'_>, found: &mut Found) {
    let Some((load, since)) = flood(port, facts) else { return };
    let name = quoted(&port.link.name);
    let rate = rounded(load.rate);
    let shield = match port.observed.map_or(Shield::Off, |held| held.shield) {
        Shield::Off => "off",
        Shield::On => "on",
        Shield::Refused => "not possible on this port",
    };
    let shielded = if shield == "on" { ", before they cost much (a shield is on)" } else { "" };
    found.add(finding(
        (FindingKind::Flood, subject(port)),
        Severity::Medium,
        format!("Port {name} floods: about {rate} frames a second are refused{shielded}."),
        vec![pair("port", &port.link.name), pair("refused a second", rate), pair("shield", shield)],
        Some(show_port(&port.link.name)),
        since,
    ));
}

fn flood<'a>(port: &Port<'_>, facts: &'a Facts<'_>) -> Option<(&'a Load, crate::model::Timestamp)> {
    let load = facts.world.loads.get(&port.link.ifindex)?;
    Some((load, load.flood.filter(|_| load.instance == port.instance)?))
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
