//! One MAC, several ports: who has it.

use std::collections::BTreeMap;

use detector_common::addr::Mac;

use super::{
    PortStatus,
    ports::{Port, held_macs},
    text::quoted,
};
use crate::reconcile::PortPlan;

/// Takes a MAC away from every port that wants it when several do, except from the one on which it
/// is in force: who speaks under it already is not put out by a newcomer who claims the same. When
/// nobody has it yet, or several do, nobody gets it.
pub(super) fn settle(ports: &mut [Port<'_>]) {
    let mut wanted: Vec<(Mac, usize)> = Vec::with_capacity(ports.len());
    for (number, port) in ports.iter().enumerate() {
        match &port.plan {
            PortPlan::Granted(identities) => {
                wanted.extend(identities.iter().map(|identity| (identity.mac, number)));
            }
            PortPlan::Keep if port.decision.status == PortStatus::Kept => {
                let held = port.observed.into_iter().flat_map(held_macs);
                wanted.extend(held.map(|mac| (mac, number)));
            }
            _ => {}
        }
    }
    wanted.sort_unstable();
    wanted.dedup();

    let mut losses: BTreeMap<usize, Vec<(Mac, usize)>> = BTreeMap::new();
    for rivals in wanted.chunk_by(|one, other| one.0 == other.0).filter(|rivals| rivals.len() > 1) {
        let in_force = |(mac, number): &&(Mac, usize)| {
            let held = ports[*number].observed.into_iter().flat_map(held_macs);
            held.into_iter().any(|held| held == *mac)
        };
        let mut incumbents = rivals.iter().filter(in_force);
        let incumbent = match (incumbents.next(), incumbents.next()) {
            (Some((_, number)), None) => Some(*number),
            _ => None,
        };
        for (mac, number) in rivals.iter().filter(|(_, number)| Some(*number) != incumbent) {
            let other = rivals.iter().find(|(_, other)| other != number);
            let other = other.map_or(*number, |(_, other)| *other);
            losses.entry(*number).or_default().push((*mac, incumbent.unwrap_or(other)));
        }
    }
    for (number, lost) in losses {
        let (mac, rival) = lost[0];
        let rival = quoted(&ports[rival].link.name);
        let port = &mut ports[number];
        port.contested = lost.iter().map(|(mac, _)| *mac).collect();
        let PortPlan::Granted(identities) = &mut port.plan else { continue };
        identities.retain(|identity| !port.contested.contains(&identity.mac));
        if identities.is_empty() {
            let why = format!(
                "MAC {mac} is also claimed for port {rival}: it is granted to one only when that one had it first."
            );
            port.set(PortPlan::Pending, why);
        }
    }
}
