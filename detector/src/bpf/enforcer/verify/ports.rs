//! What runs on an interface, and where its bridge forwards to.

use std::time::Instant;

use detector_common::{maps, port::Role};

use super::{
    super::{Hook, KernelEnforcer, programs_of},
    Contest,
};
use crate::{
    bpf::{BpfError, attach::Standing, load::Programs, sys},
    enforcer::Tampered,
    net::{Xdp, link_by_index},
};

impl KernelEnforcer {
    /// Our programs run, and before all others. Returns whether an interface was freed, which was
    /// about to go.
    pub(super) fn verify_programs(&mut self) -> Result<bool, BpfError> {
        let slots: Vec<_> = self.mirror.interfaces.values().map(|held| held.slot).collect();
        let mut gone = Vec::new();
        for slot in slots {
            let port = (slot.ifindex, slot.instance);
            for &(hook, program) in programs_of(&slot) {
                match self.standing(slot.ifindex, hook, program)? {
                    Standing::First => {}
                    Standing::Behind(others) => self.go_ahead(port, hook, program, others)?,
                    Standing::Absent => gone.push((port, hook, program)),
                }
            }
        }
        if gone.is_empty() {
            return Ok(false);
        }
        // An interface that is being deleted loses its programs first, then the kernel says so.
        for (port, hook, program) in &gone {
            self.watch.put_back.insert(port.0);
            let put_back = self.attach(port.0, *hook, program);
            let found = format!("{program} was not on its {} any more", hook.as_str());
            self.watch.found(Some(*port), Tampered::Program, found, put_back);
        }
        let freed = self.absorb_changes();
        self.watch.put_back.clear();
        freed
    }

    fn go_ahead(
        &mut self,
        port: (u32, u32),
        hook: Hook,
        program: &str,
        others: usize,
    ) -> Result<(), BpfError> {
        let now = Instant::now();
        let before = self.watch.contests.get(&(port.0, hook)).copied();
        let put_back = if before.is_none_or(|before| before.is_due(now)) {
            self.watch
                .contests
                .retain(|(ifindex, _), _| self.mirror.interfaces.contains_key(ifindex));
            self.watch.contests.insert((port.0, hook), Contest::next(before, now));
            self.overtake(port.0, hook, program)
        } else {
            Err(BpfError::Refused("somebody keeps doing so: ours goes first again later".into()))
        };
        let (noun, verb) = if others == 1 { ("program", "runs") } else { ("programs", "run") };
        let found =
            format!("{others} {noun} of others {verb} before {program} on its {}", hook.as_str());
        self.watch.found(Some(port), Tampered::Order, found, put_back);
        Ok(())
    }

    fn overtake(&mut self, ifindex: u32, hook: Hook, program: &str) -> Result<(), BpfError> {
        let mut spare = match self.spare.take() {
            Some(spare) => spare,
            None => self.load_spare()?,
        };
        let method = self.method;
        let done =
            method.overtake(&mut self.programs, &mut spare, program, &self.pins, ifindex, hook);
        self.spare = Some(spare);
        done?;
        self.hold(ifindex, hook)
    }

    /// The loader takes over what is pinned at this moment, which must still be ours.
    fn load_spare(&mut self) -> Result<Programs, BpfError> {
        let mut spare = Programs::load(&self.pins, self.stamp, !self.predecessors.is_empty())?;
        let (theirs, used) = (spare.map_ids()?, self.programs.map_ids()?);
        for name in maps::ALL {
            let id = self.map_id(name)?;
            if used.contains(&id) && !theirs.contains(&id) {
                return Err(BpfError::Refused(format!(
                    "the map {name} was replaced while programs were being loaded over it"
                )));
            }
        }
        Ok(spare)
    }

    /// Sticky forwarding entries are where they were put. Returns whether some had gone with good
    /// reason.
    pub(super) fn verify_forwarding(&mut self) -> Result<bool, BpfError> {
        let missing = self.missing_forwarding()?;
        if missing.is_empty() {
            return Ok(false);
        }
        // An interface that leaves its bridge loses its entries first, then the kernel says so; the
        // answer to a question comes when that is over.
        for (port, ..) in &missing {
            link_by_index(port.0)?;
        }
        let changed = self.absorb_changes()?;
        for (port, mac, vlan) in self.missing_forwarding()? {
            let put_back = self.pin_forwarding(port.0, mac, vlan);
            let found = format!("the forwarding entry of {mac} was removed, moved or not sticky");
            self.watch.found(Some(port), Tampered::Forwarding, found, put_back);
        }
        Ok(changed)
    }

    #[expect(clippy::type_complexity, reason = "port, MAC and VLAN, used next door only")]
    fn missing_forwarding(
        &mut self,
    ) -> Result<Vec<((u32, u32), detector_common::addr::Mac, u16)>, BpfError> {
        let none_pinned = self.mirror.interfaces.values().all(|held| held.forwarding.is_empty());
        if none_pinned {
            return Ok(Vec::new());
        }
        let there = self.find_forwarding()?;
        let mut missing = Vec::new();
        for (ifindex, held) in &self.mirror.interfaces {
            let port = (*ifindex, held.slot.instance);
            let there = there.get(ifindex);
            let gone = held
                .forwarding
                .iter()
                .filter(|entry| there.is_none_or(|there| !there.contains(entry)));
            missing.extend(gone.map(|(mac, vlan)| (port, *mac, *vlan)));
        }
        Ok(missing)
    }

    /// Nothing sees the frames of a guest's port before its guard does: an XDP program that is not
    /// ours is taken off. Those of uplinks and bridges are their administrator's.
    pub(super) fn verify_xdp(&mut self) -> Result<(), BpfError> {
        for Xdp { ifindex, program, mode } in self.watch.xdp.list()? {
            let Some(held) = self.mirror.interfaces.get(&ifindex) else { continue };
            let slot = held.slot;
            if slot.role() != Role::Guest || self.is_own_program(program)? {
                continue;
            }
            let put_back = self.take_off_xdp(ifindex, program, mode);
            let found = format!("the XDP program {program} ran on it");
            let port = (ifindex, slot.instance);
            self.watch.found(Some(port), Tampered::Xdp, found, put_back);
        }
        Ok(())
    }

    /// Ours are those that look at our slots, whichever daemon has loaded them.
    fn is_own_program(&self, program: u32) -> Result<bool, BpfError> {
        let ports = self.map_id(maps::PORTS)?;
        match sys::maps_of(program) {
            Ok(maps) => Ok(maps.contains(&ports)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(BpfError::failed(format!("look at the XDP program {program}"))(error))
            }
        }
    }

    fn take_off_xdp(&mut self, ifindex: u32, program: u32, mode: u32) -> Result<(), BpfError> {
        use std::os::fd::AsFd;

        let what = format!("take the XDP program {program} off interface {ifindex}");
        // A program with a link cannot be taken off but by its link.
        for link in sys::all_links() {
            if matches!(sys::xdp_link(link.as_fd()), Ok(Some(place)) if place == (ifindex, program))
            {
                return sys::detach(link.as_fd()).map_err(BpfError::failed(what));
            }
        }
        Ok(self.watch.xdp.take_off(ifindex, mode)?)
    }
}
