//! Addresses that ports have learned: read from the kernel when they are asked for, and kept for
//! after a restart of the host.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    event::Event,
    learned::{Origin, OwnerKey},
    port::flags,
    reason::Reason,
};
use detector_core::model::{KnownLease, Learned, Link, Seen, Timestamp, World};

use super::{brain::Brain, input::Effect};
use crate::enforcer::Enforcer;

/// How many ticks pass before leases are written down again: some five seconds.
const WRITE_EVERY: u32 = 10;
/// Leases of absent NICs that are kept.
const MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Learning {
    ticks: u32,
    /// Ports of which a claim has shown that the kernel may know more. It is asked once for all claims
    /// that are looked at together, since guests choose how many there are.
    stale: BTreeSet<u32>,
    /// What lease files say.
    files: Vec<KnownLease>,
    /// What is kept for after a restart.
    kept: Option<Vec<KnownLease>>,
}

impl Learning {
    /// Takes in what is known from elsewhere. No decision on what is in force depends on it.
    pub(super) fn take_leases(&mut self, world: &mut World, leases: Vec<KnownLease>) -> bool {
        let (files, kept) = leases.into_iter().partition(|lease| lease.from_file);
        self.files = files;
        // Later on what is kept is known better here.
        self.kept.get_or_insert(kept);
        self.tell(world);
        false
    }

    /// Takes in that a port has made a claim which is new.
    pub(super) fn heard(&mut self, event: &Event) {
        if concerns(event) {
            self.stale.insert(event.ifindex);
        }
    }

    fn tell(&self, world: &mut World) {
        // Servers write down ends by the time of day.
        let of_files = self.files.iter().map(|lease| KnownLease {
            expires: lease.expires.map(|at| world.skew.moment(at)),
            ..lease.clone()
        });
        world.leases = of_files.chain(self.kept.iter().flatten().cloned()).collect();
    }
}

/// Whether the claim is about addresses that are learned.
fn concerns(event: &Event) -> bool {
    matches!(
        Reason::from_code(event.claim.reason),
        Some(Reason::AddressNotLeased | Reason::AddressTaken | Reason::LearnedFull)
    )
}

impl<E: Enforcer> Brain<E> {
    /// Reads from the kernel what those ports have learned that have made claims about it, and those
    /// whose addresses they have claimed: no guest makes it read what all have.
    pub(super) fn read_stale(&mut self) {
        let stale = std::mem::take(&mut self.learning.stale);
        let mut ports = stale.clone();
        for ifindex in stale {
            for key in taken(&self.world, ifindex) {
                match self.enforcer.owner_of(key) {
                    Ok(owner) => ports.extend(owner),
                    Err(error) => tracing::warn!(%error, "cannot read who has an address"),
                }
                // The kernel learns of routers by itself.
                if self.enforcer.is_router(key).unwrap_or(false) {
                    self.world.observed.routers.insert(key);
                }
            }
        }
        for ifindex in ports {
            match self.enforcer.learned_by(ifindex) {
                Ok(learned) => drop(self.world.learned.insert(ifindex, learned)),
                Err(error) => tracing::warn!(%error, "cannot read what a port has learned"),
            }
        }
    }

    /// Reads from the kernel what all ports have learned.
    pub(super) fn read_learned(&mut self) {
        match self.enforcer.learned() {
            Ok(learned) => self.world.learned = learned,
            Err(error) => tracing::warn!(%error, "cannot read what ports have learned"),
        }
    }

    /// Has the leases written down, when they are others than before.
    pub(super) fn remember(&mut self) {
        self.learning.ticks += 1;
        if self.learning.ticks < WRITE_EVERY {
            return;
        }
        self.learning.ticks = 0;
        self.read_learned();
        let kept = self.learning.kept.take().unwrap_or_default();
        let leases = leases(&self.world, &kept);
        let news = !same(&leases, &kept);
        self.learning.kept = Some(leases.clone());
        if news {
            self.learning.tell(&mut self.world);
            // The next start knows moments by the time of day only.
            let skew = self.world.skew;
            let leases = leases
                .into_iter()
                .map(|lease| KnownLease { expires: lease.expires.map(|at| skew.day(at)), ..lease });
            self.emit(Effect::Remember(leases.collect()));
        }
    }
}

/// The addresses of others that a port has claimed: at most as many as claims are remembered of it.
fn taken(world: &World, ifindex: u32) -> Vec<OwnerKey> {
    let scope = world.links.get(&ifindex).map_or(ifindex, Link::scope);
    let seen = world.seen.get(&ifindex).into_iter().flatten();
    let taken = seen.filter(|seen| seen.claim.reason == Reason::AddressTaken as u8);
    let key = |seen: &Seen| OwnerKey {
        address: seen.claim.address,
        scope,
        vlan: seen.claim.vlan,
        pad: 0,
    };
    taken.map(key).collect()
}

/// The leases of all ports, and those of NICs that have no port now. What a guest only claims is not
/// kept: the next frame claims it again, or it is lent no more.
fn leases(world: &World, before: &[KnownLease]) -> Vec<KnownLease> {
    let bridge = |one: &Learned| world.links.get(&one.scope).map(|link| link.name.clone());
    let interfaces = &world.observed.interfaces;
    let in_sandbox = |ifindex| interfaces.get(ifindex).is_some_and(|held| held.slot.is_sandboxed());
    let all = world.learned.iter().filter(|(ifindex, _)| !in_sandbox(*ifindex));
    let all = all.flat_map(|(_, learned)| learned);
    // What a guest has in the sandbox says nothing of what it has elsewhere, and takes nothing of it away.
    let all = all.filter(|one| Origin::is_lease(one.origin as u32));
    let mut leases: BTreeMap<_, KnownLease> = BTreeMap::new();
    for one in all {
        let lease = KnownLease {
            mac: one.mac,
            vlan: one.vlan,
            bridge: bridge(one),
            address: one.address,
            expires: one.expires,
            from_file: false,
        };
        leases.insert((one.scope, one.mac, one.vlan, one.address), lease);
    }
    let learns: BTreeSet<_> = world
        .observed
        .interfaces
        .values()
        .filter(|held| held.slot.has(flags::LEARNS) && !held.slot.is_sandboxed())
        .flat_map(|held| held.grants.keys().map(|key| key.mac).chain([held.slot.mac]))
        .collect();
    let absent = |lease: &&KnownLease| !learns.contains(&lease.mac) && lease.is_alive(world.now);
    let absent = before.iter().filter(absent).take(MOST).cloned();
    leases.into_values().chain(absent).collect()
}

/// Whether the two say the same: the clock of ticks and that of the day differ by a little each time.
fn same(one: &[KnownLease], other: &[KnownLease]) -> bool {
    const SLACK: u64 = 2_000;
    let close = |one: Option<Timestamp>, other: Option<Timestamp>| match (one, other) {
        (Some(one), Some(other)) => one.0.abs_diff(other.0) <= SLACK,
        (one, other) => one == other,
    };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            close(one.expires, other.expires)
                && KnownLease { expires: None, ..one.clone() }
                    == KnownLease { expires: None, ..other.clone() }
        })
}
