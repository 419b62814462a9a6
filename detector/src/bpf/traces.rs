//! What the programs note of each port: frames that were refused, and claims without a grant.

use std::collections::BTreeMap;

use detector_common::{
    addr::{Address, Mac},
    claim::ClaimRecord,
    counters::{Budget, PortCounters, Sighting},
    learned::Transaction,
    maps::{self, SIGHTINGS_PER_PORT, TRANSACTIONS_PER_PORT},
    port::PortSlot,
    reason::Reason,
};

use aya::maps::PerCpuValues;

use super::{
    BpfError,
    maps::{Maps, failed},
    pod::Pod,
};
use crate::{enforcer::Counts, net};

const NO_SIGHTING: Sighting = Sighting {
    first: 0,
    last: 0,
    count: 0,
    instance: 0,
    claim: ClaimRecord {
        address: Address::UNSPECIFIED,
        mac: Mac::ZERO,
        vlan: 0,
        ethertype: 0,
        family: 0,
        reason: 0,
        pad: [0; 4],
    },
    pad: 0,
};

impl Maps {
    /// The sightings of a port instance, the latest first.
    pub(super) fn sightings(&self, slot: &PortSlot) -> Result<Vec<Sighting>, BpfError> {
        let mut found = Vec::new();
        for index in sighting_indices(slot.id) {
            let Pod(sighting) =
                self.sightings.get(&index, 0).map_err(failed("read", maps::SIGHTINGS))?;
            if sighting.instance == slot.instance && sighting.count > 0 {
                found.push(sighting);
            }
        }
        found.sort_by_key(|sighting| std::cmp::Reverse(sighting.last));
        Ok(found)
    }

    /// The frames of the interface with this slot.
    pub(super) fn counts(&self, slot: &PortSlot) -> Result<Counts, BpfError> {
        let each_cpu =
            self.counters.get(&u32::from(slot.id), 0).map_err(failed("read", maps::COUNTERS))?;
        let frames = net::frames(slot.ifindex)?.unwrap_or_default();
        let mut totals = Counts { frames, ..Counts::default() };
        for Pod(cpu) in each_cpu.iter() {
            for &reason in Reason::ALL {
                add(&mut totals.from, reason, cpu.from[reason as usize]);
                add(&mut totals.to, reason, cpu.to[reason as usize]);
            }
            totals.events_lost += cpu.events_lost;
            totals.events_held += cpu.events_held;
        }
        Ok(totals)
    }

    /// How many frames from the port's side have been refused.
    pub(super) fn refused(&self, id: u16) -> Result<u64, BpfError> {
        let each_cpu =
            self.counters.get(&u32::from(id), 0).map_err(failed("read", maps::COUNTERS))?;
        let refusals = || Reason::ALL.iter().filter(|reason| !reason.passes());
        let of_cpu = |Pod(cpu): &Pod<PortCounters>| -> u64 {
            refusals().map(|reason| cpu.from[*reason as usize]).sum()
        };
        Ok(each_cpu.iter().map(of_cpu).sum())
    }

    /// Forgets what a former port with this id has left: counters, sightings, budget, addresses.
    pub(super) fn clear_traces(&mut self, id: u16) -> Result<(), BpfError> {
        for index in sighting_indices(id) {
            self.sightings
                .set(index, Pod(NO_SIGHTING), 0)
                .map_err(failed("write", maps::SIGHTINGS))?;
        }
        self.clear_learned(id)?;
        let first = u32::from(id) * TRANSACTIONS_PER_PORT;
        for index in first..first + TRANSACTIONS_PER_PORT {
            self.transactions
                .set(index, Pod(Transaction::default()), 0)
                .map_err(failed("write", maps::DHCP_TRANSACTIONS))?;
        }
        let index = u32::from(id);
        self.budgets
            .set(index, Pod(Budget::default()), 0)
            .map_err(failed("write", maps::BUDGETS))?;
        let cpus = aya::util::nr_cpus().map_err(|(_, e)| BpfError::failed("count the CPUs")(e))?;
        let zero = PerCpuValues::try_from(vec![Pod(PortCounters::ZERO); cpus])
            .map_err(BpfError::failed("clear counters"))?;
        self.counters.set(index, zero, 0).map_err(failed("write", maps::COUNTERS))
    }
}

fn sighting_indices(id: u16) -> std::ops::Range<u32> {
    let first = u32::from(id) * SIGHTINGS_PER_PORT;
    first..first + SIGHTINGS_PER_PORT
}

fn add(counts: &mut BTreeMap<Reason, u64>, reason: Reason, count: u64) {
    if count > 0 {
        *counts.entry(reason).or_default() += count;
    }
}
