//! Whether what was put in force is still there as it was put: others have the capabilities too.
//!
//! What this process remembers is compared with what the kernel holds, and what differs is put back
//! and told. Nothing here depends on who has done it or on having heard of it: between two looks
//! this process changes both alike, so its own actions never differ. A program of somebody else
//! behind ours is none of our business.

mod contents;
mod pins;
mod ports;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use self::pins::PinnedMap;
use super::{Hook, KernelEnforcer};
use crate::{
    bpf::{BpfError, PinPaths, busy},
    enforcer::{Recheck, Sign, Tampered, Tampering},
    net::XdpPrograms,
};

/// What looking around has to remember.
#[derive(Debug)]
pub(super) struct Watch {
    maps: Vec<PinnedMap>,
    xdp: XdpPrograms,
    /// Found, and not told yet.
    untold: Vec<Tampering>,
    /// Interfaces to which programs are being put back.
    pub(super) put_back: BTreeSet<u32>,
    /// When the larger maps and tables are read again.
    pub(super) thorough_at: Instant,
    pub(super) contests: BTreeMap<(u32, Hook), Contest>,
}

/// Somebody keeps putting a program ahead of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contest {
    pub(super) last: Instant,
    pub(super) wait: Duration,
}

/// Reading maps and tables that may be large takes at most this part of the time.
const THOROUGH_SHARE: u32 = 50;
/// … and is done no more often than this.
const THOROUGH_PAUSE: Duration = Duration::from_millis(400);
/// The first and the longest time between two times that we go ahead of the same hook's others.
const CONTEST_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Watch {
    /// Holds the pinned maps open.
    pub(super) fn new(paths: &PinPaths) -> Result<Self, BpfError> {
        Ok(Self {
            maps: PinnedMap::all(paths)?,
            xdp: XdpPrograms::open()?,
            untold: Vec::new(),
            put_back: BTreeSet::new(),
            thorough_at: Instant::now(),
            contests: BTreeMap::new(),
        })
    }

    fn found(
        &mut self,
        port: Option<(u32, u32)>,
        what: Tampered,
        found: impl Into<String>,
        put_back: Result<(), BpfError>,
    ) {
        let left = put_back.err().map(|error| crate::enforcer::EnforceError::from(error).0);
        self.untold.push(Tampering { port, what, found: found.into(), left });
    }
}

impl Contest {
    /// Whether it is time to go ahead once more.
    fn is_due(self, now: Instant) -> bool {
        now >= self.last + self.wait
    }

    /// The next one, twice as late unless there has been peace for long.
    fn next(before: Option<Self>, now: Instant) -> Self {
        let wait = match before {
            Some(before) if now < before.last + CONTEST_PAUSE.1 * 2 => before.wait * 2,
            _ => CONTEST_PAUSE.0,
        };
        Self { last: now, wait: wait.min(CONTEST_PAUSE.1) }
    }
}

impl KernelEnforcer {
    /// Looks whether what is in force is as it was put there, and puts back what differs. What may
    /// be much is looked at less often the longer it takes.
    pub fn look_around(&mut self) -> Result<Recheck, BpfError> {
        let mut changed = self.absorb_changes()?;
        changed |= self.verify()?;
        if Instant::now() >= self.watch.thorough_at {
            changed |= self.verify_thoroughly()?;
        }
        changed |= self.recheck_aside()?;
        changed |= self.recheck_mode();
        self.prepare_spare();
        Ok(self.told(changed))
    }

    /// Looks at what the signs are about.
    pub fn look_for(&mut self, signs: &BTreeSet<Sign>) -> Result<Recheck, BpfError> {
        let mut changed = self.absorb_changes()?;
        if signs.contains(&Sign::Programs) || signs.contains(&Sign::Pins) {
            changed |= self.verify()?;
        }
        if signs.contains(&Sign::Forwarding) {
            changed |= self.verify_forwarding()?;
        }
        Ok(self.told(changed))
    }

    fn told(&mut self, changed: bool) -> Recheck {
        let mut tampering = std::mem::take(&mut self.watch.untold);
        // One that turns out to have gone has not been tampered with.
        tampering.retain(|one| {
            one.port.is_none_or(|(ifindex, instance)| {
                let held = self.mirror.interfaces.get(&ifindex);
                held.is_some_and(|held| held.slot.instance == instance)
            })
        });
        Recheck { changed, tampering, ..Recheck::default() }
    }

    /// Everything at once.
    pub(super) fn verify_all(&mut self) -> Result<(), BpfError> {
        self.absorb_changes()?;
        self.verify()?;
        self.verify_thoroughly()?;
        Ok(())
    }

    /// What costs a few system calls for each port. Returns whether an interface was freed.
    fn verify(&mut self) -> Result<bool, BpfError> {
        self.verify_pins()?;
        self.verify_settings()?;
        let freed = self.verify_programs()?;
        self.verify_slots()?;
        self.verify_passages()?;
        self.verify_services()?;
        Ok(freed)
    }

    fn verify_thoroughly(&mut self) -> Result<bool, BpfError> {
        let start = busy();
        self.verify_grants()?;
        self.renew_native_vlans()?;
        self.verify_mac_owners()?;
        self.verify_protected()?;
        self.verify_quarantines()?;
        let changed = self.verify_forwarding()?;
        self.verify_xdp()?;
        // Others on the processor do not make it more work.
        let took = busy().saturating_sub(start);
        self.watch.thorough_at = Instant::now() + (took * THOROUGH_SHARE).max(THOROUGH_PAUSE);
        Ok(changed)
    }
}
