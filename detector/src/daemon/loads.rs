//! How many frames of each port are refused: looked at with every tick, at bounded cost.

use std::collections::BTreeMap;

use detector_core::model::{Load, Observed, Shield, Timestamp, World};

use crate::enforcer::Enforcer;

/// Ports that are looked at in one tick besides those that are known to be busy.
const IN_A_TICK: usize = 256;

/// What was counted at the last look at each port.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: BTreeMap<u32, Look>,
    /// The last port that had its turn.
    turn: u32,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    instance: u32,
    at: Timestamp,
    refused: u64,
}

/// What is known of the ports at the start: one that has a shield on was flooding.
pub(super) fn at_the_start(observed: &Observed, now: Timestamp) -> BTreeMap<u32, Load> {
    let shielded = observed.interfaces.iter().filter(|(_, held)| held.shield == Shield::On);
    shielded.map(|(ifindex, held)| (*ifindex, Load::flooding(held.slot.instance, now))).collect()
}

impl Looks {
    /// Looks at the ports that are busy, and at the next of the others. Returns whether a flood has
    /// begun or ended.
    pub(super) fn look(&mut self, world: &mut World, enforcer: &mut impl Enforcer) -> bool {
        let World { now, policy, observed, loads, .. } = world;
        let interfaces = &observed.interfaces;
        let lives = |ifindex: &u32, instance: u32| {
            interfaces.get(ifindex).is_some_and(|held| held.slot.instance == instance)
        };
        self.last.retain(|ifindex, look| lives(ifindex, look.instance));
        loads.retain(|ifindex, load| lives(ifindex, load.instance));

        let guest = |ifindex: u32| {
            let slot = &interfaces.get(&ifindex)?.slot;
            slot.role().is_guest().then_some((ifindex, slot.instance))
        };
        let busy = loads.iter().filter(|(_, load)| load.rate > 0 || load.flood.is_some());
        let mut ports: BTreeMap<u32, u32> =
            busy.filter_map(|(ifindex, _)| guest(*ifindex)).collect();
        let from_here = interfaces.range(self.turn.saturating_add(1)..);
        let around = from_here.chain(interfaces.range(..=self.turn));
        for (ifindex, instance) in around.filter_map(|(i, _)| guest(*i)).take(IN_A_TICK) {
            ports.insert(ifindex, instance);
            self.turn = ifindex;
        }
        let mut changed = false;
        for (ifindex, instance) in ports {
            let refused = match enforcer.refused(ifindex) {
                Ok(Some(refused)) => refused,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot read how many frames are refused");
                    return changed;
                }
            };
            let look = Look { instance, at: *now, refused };
            if let Some(last) = self.last.insert(ifindex, look) {
                let load = loads.entry(ifindex).or_insert(Load::new(instance));
                let frames = refused.saturating_sub(last.refused);
                let flooded = load.flood.is_some();
                load.sample(&policy.flood, last.at, *now, frames);
                changed |= flooded != load.flood.is_some();
            }
        }
        changed
    }
}
