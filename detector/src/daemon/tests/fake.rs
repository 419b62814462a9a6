//! A kernel of plain maps, which fails where a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use detector_common::{
    addr::{Address, Mac},
    learned::OwnerKey,
    port::{Grant, GrantKey, PortSlot, Role, flags},
    services::Service,
};
use detector_core::{
    model::{
        Learned, ModeRecord, Observed, ObservedInterface, ObservedMode, Passage, Seen, Shield,
        Ticks, Timestamp,
    },
    reconcile::Action,
};

use crate::enforcer::{Counts, EnforceError, Enforcer, Recheck, Sign};

#[derive(Debug, Default)]
pub(super) struct FakeKernel {
    pub(super) state: Observed,
    /// What has been carried out, in a word each.
    pub(super) log: Vec<String>,
    /// Steps that fail, as the log would name them.
    pub(super) broken: BTreeSet<String>,
    pub(super) observe_fails: bool,
    /// Says that it has carried out what it has not.
    pub(super) lies: bool,
    /// What the next look around shows.
    pub(super) recheck: Recheck,
    /// Frames refused so far, by ifindex.
    pub(super) refused: BTreeMap<u32, u64>,
    /// How often it was asked for them.
    pub(super) looks: usize,
    /// Addresses that ports have learned, by ifindex.
    pub(super) learned: BTreeMap<u32, Vec<Learned>>,
    /// How long each action takes.
    pub(super) pace: Duration,
    /// Its clock, which ticks once a millisecond.
    pub(super) ticks: u64,
    pub(super) instances: u32,
    /// Whether programs of another map schema are in force.
    pub(super) predecessors: bool,
}

impl FakeKernel {
    /// Takes what has been carried out since the last call.
    pub(super) fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn mode_of(&self, record: ModeRecord) -> ObservedMode {
        ObservedMode::at(record, Ticks(self.ticks), |at| Timestamp(at.0))
    }

    /// What another daemon has left behind.
    pub(super) fn put_mode(&mut self, record: ModeRecord) {
        self.state.mode = Some(self.mode_of(record));
    }

    fn attach(&mut self, ifindex: u32, role: Role) {
        self.instances += 1;
        let slot =
            PortSlot { ifindex, instance: self.instances, role: role as u8, ..PortSlot::VACANT };
        let interface = ObservedInterface {
            slot,
            grants: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            forwarding: BTreeSet::new(),
            defended: BTreeSet::new(),
            shield: Shield::Off,
            passage: None,
        };
        self.state.interfaces.insert(ifindex, interface);
    }

    fn set_flag(&mut self, ifindex: u32, flag: u32, is_set: bool) -> Result<(), EnforceError> {
        let slot = &mut self.interface(ifindex)?.slot;
        slot.flags &= !flag;
        slot.flags |= if is_set { flag } else { 0 };
        Ok(())
    }

    fn interface(&mut self, ifindex: u32) -> Result<&mut ObservedInterface, EnforceError> {
        let found = self.state.interfaces.get_mut(&ifindex);
        found.ok_or_else(|| EnforceError(format!("no interface {ifindex}")))
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::SetMode(record) => format!("mode {:?}", record.mode),
        Action::AttachGuard { ifindex, .. } => format!("guard {ifindex}"),
        Action::AttachUplink { ifindex, .. } => format!("uplink {ifindex}"),
        Action::AttachBridge { ifindex, .. } => format!("bridge {ifindex}"),
        Action::AttachSandbox { ifindex, .. } => format!("sandbox {ifindex}"),
        Action::Trust { ifindex, .. } => format!("trust {ifindex}"),
        Action::AttachDevice { ifindex, .. } => format!("device {ifindex}"),
        Action::Release { ifindex } => format!("release {ifindex}"),
        Action::PutGrants { ifindex, .. } => format!("put {ifindex}"),
        Action::WriteSlot { ifindex, .. } => format!("slot {ifindex}"),
        Action::SetObserved { ifindex, observed, .. } => format!("observed {ifindex} {observed}"),
        Action::SetSwitched { ifindex, switched, .. } => format!("switched {ifindex} {switched}"),
        Action::DropGrants { ifindex, .. } => format!("drop {ifindex}"),
        Action::Teach { ifindex, .. } => format!("teach {ifindex}"),
        Action::Protect { .. } => "protect".to_owned(),
        Action::Unprotect { .. } => "unprotect".to_owned(),
        Action::OfferServices { .. } => "offer".to_owned(),
        Action::WithdrawServices { .. } => "withdraw".to_owned(),
        Action::PinForwarding { ifindex, mac, .. } => format!("pin {ifindex} {mac}"),
        Action::UnpinForwarding { ifindex, .. } => format!("unpin {ifindex}"),
        Action::DefendMac { ifindex, mac, .. } => format!("defend {ifindex} {mac}"),
        Action::YieldMac { ifindex, mac, .. } => format!("yield {ifindex} {mac}"),
        Action::PutShield { ifindex, .. } => format!("shield {ifindex}"),
        Action::DropShield { ifindex, .. } => format!("unshield {ifindex}"),
        Action::MakeSandbox { name } => format!("make {name}"),
        Action::OpenPassage { ifindex, .. } => format!("open {ifindex}"),
        Action::ClosePassage { ifindex, .. } => format!("close {ifindex}"),
        Action::PutQuarantine(_) => "quarantine".to_owned(),
        Action::GiveQuarantineBack(_) => "give-back".to_owned(),
        Action::LiftQuarantine(_) => "lift".to_owned(),
    }
}

impl Enforcer for FakeKernel {
    fn observe(&mut self) -> Result<Observed, EnforceError> {
        if self.observe_fails {
            return Err(EnforceError("the maps are gone".to_owned()));
        }
        let record = self.state.mode.take().map(|mode| mode.record);
        self.state.mode = record.map(|record| self.mode_of(record));
        Ok(self.state.clone())
    }

    fn execute(&mut self, action: &Action) -> Result<(), EnforceError> {
        let (word, begun) = (word(action), Instant::now());
        while begun.elapsed() < self.pace {
            std::hint::spin_loop();
        }
        if self.broken.contains(&word) {
            self.log.push(format!("{word}!"));
            return Err(EnforceError(format!("{word}: EIO")));
        }
        self.log.push(word);
        if self.lies {
            return Ok(());
        }
        match action {
            Action::SetMode(record) => self.state.mode = Some(self.mode_of(record.clone())),
            Action::AttachGuard { ifindex, .. } => self.attach(*ifindex, Role::Guest),
            Action::AttachUplink { ifindex, .. } => self.attach(*ifindex, Role::Uplink),
            Action::AttachBridge { ifindex, .. } => self.attach(*ifindex, Role::Bridge),
            Action::AttachSandbox { ifindex, .. } => self.attach(*ifindex, Role::Sandbox),
            Action::Trust { ifindex, .. } => self.attach(*ifindex, Role::Trusted),
            Action::AttachDevice { ifindex, closed, .. } => {
                self.attach(*ifindex, if *closed { Role::ClosedDevice } else { Role::Device });
            }
            Action::Release { ifindex } => {
                self.state.interfaces.remove(ifindex);
            }
            Action::PutGrants { ifindex, grants, .. } => {
                let interface = self.interface(*ifindex)?;
                for grant in grants.iter().filter(|grant| grant.prefix.is_none()) {
                    let key = GrantKey {
                        ifindex: *ifindex,
                        instance: interface.slot.instance,
                        mac: Mac(grant.mac),
                        vlan: grant.vlan,
                        address: grant.address,
                    };
                    interface.grants.insert(key, Grant { flags: grant.flags });
                }
            }
            Action::DropGrants { ifindex, grants, .. } => {
                let interface = self.interface(*ifindex)?;
                interface.grants.retain(|key, _| {
                    !grants
                        .iter()
                        .any(|g| (g.mac, g.vlan, g.address) == (key.mac.0, key.vlan, key.address))
                });
            }
            Action::WriteSlot { ifindex, instance, slot } => {
                let interface = self.interface(*ifindex)?;
                assert_eq!(interface.slot.instance, *instance, "another life of {ifindex}");
                interface.slot = PortSlot {
                    flags: slot.flags | interface.slot.flags & flags::OF_PLACE,
                    mac: Mac(slot.mac),
                    vlan: slot.vlan,
                    v4: slot.v4,
                    v4_mask: slot.v4_mask,
                    v6: Address::from_bytes(slot.v6),
                    v6_mask: Address::from_bytes(slot.v6_mask),
                    ..interface.slot
                };
            }
            Action::SetObserved { ifindex, observed, .. } => {
                self.set_flag(*ifindex, flags::OBSERVED, *observed)?;
            }
            Action::SetSwitched { ifindex, switched, .. } => {
                self.set_flag(*ifindex, flags::SWITCHED, *switched)?;
            }
            Action::Teach { ifindex, .. } => {
                self.interface(*ifindex)?;
            }
            Action::Protect { entries } => {
                self.state.protected.extend(entries.iter().map(|entry| OwnerKey::from(*entry)));
            }
            Action::Unprotect { entries } => {
                for entry in entries {
                    self.state.protected.remove(&(*entry).into());
                }
            }
            Action::OfferServices { entries } => {
                self.state.services.extend(entries.iter().map(|entry| Service::from(*entry)));
            }
            Action::WithdrawServices { entries } => {
                for entry in entries {
                    self.state.services.remove(&(*entry).into());
                }
            }
            Action::PinForwarding { ifindex, mac, vlan } => {
                self.interface(*ifindex)?.forwarding.insert((*mac, *vlan));
            }
            Action::UnpinForwarding { ifindex, mac, vlan } => {
                self.interface(*ifindex)?.forwarding.remove(&(*mac, *vlan));
            }
            Action::DefendMac { ifindex, mac, vlan, .. } => {
                self.interface(*ifindex)?.defended.insert((*mac, *vlan));
            }
            Action::YieldMac { ifindex, mac, vlan, .. } => {
                self.interface(*ifindex)?.defended.remove(&(*mac, *vlan));
            }
            Action::PutShield { ifindex, .. } => {
                self.interface(*ifindex)?.shield = Shield::On;
            }
            Action::DropShield { ifindex, .. } => {
                self.interface(*ifindex)?.shield = Shield::Off;
            }
            Action::MakeSandbox { .. } => {}
            Action::OpenPassage { ifindex, bridge, .. } => {
                let passage = Passage { inner: 100_000 + ifindex, bridge: *bridge };
                self.interface(*ifindex)?.passage = Some(passage);
            }
            Action::ClosePassage { ifindex, .. } => self.interface(*ifindex)?.passage = None,
            Action::PutQuarantine(quarantine) | Action::GiveQuarantineBack(quarantine) => {
                self.state.quarantines.insert(quarantine.target, quarantine.clone());
            }
            Action::LiftQuarantine(target) => {
                self.state.quarantines.remove(target);
            }
        }
        Ok(())
    }

    fn ticks_after(&mut self, seconds: u64) -> Result<Ticks, EnforceError> {
        Ok(Ticks(self.ticks.saturating_add(seconds.saturating_mul(1000))))
    }

    fn recheck_for(&mut self, _: &BTreeSet<Sign>) -> Result<Recheck, EnforceError> {
        self.recheck()
    }

    fn recheck(&mut self) -> Result<Recheck, EnforceError> {
        let mut recheck = std::mem::take(&mut self.recheck);
        // What ends by itself, as the kernel's own clock has it.
        recheck.changed |= self
            .state
            .mode
            .as_ref()
            .is_some_and(|known| *known != self.mode_of(known.record.clone()));
        Ok(recheck)
    }

    fn resync(&mut self) -> Result<(), EnforceError> {
        Ok(())
    }

    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError> {
        Ok(BTreeMap::new())
    }

    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError> {
        Ok(self.learned.clone())
    }

    fn learned_by(&mut self, ifindex: u32) -> Result<Vec<Learned>, EnforceError> {
        Ok(self.learned.get(&ifindex).cloned().unwrap_or_default())
    }

    fn has_predecessors(&self) -> bool {
        self.predecessors
    }

    fn end_predecessors(&mut self) -> Result<(), EnforceError> {
        self.predecessors = false;
        Ok(())
    }

    fn is_router(&mut self, _address: OwnerKey) -> Result<bool, EnforceError> {
        Ok(false)
    }

    fn owner_of(&mut self, address: OwnerKey) -> Result<Option<u32>, EnforceError> {
        let has = |one: &Learned| {
            (one.scope, one.vlan) == (address.scope, address.vlan)
                && one.address == std::net::Ipv6Addr::from(address.address).to_canonical()
        };
        let owner = self.learned.iter().find(|(_, learned)| learned.iter().any(has));
        Ok(owner.map(|(ifindex, _)| *ifindex))
    }

    fn counts(&mut self, ifindex: u32) -> Result<Option<Counts>, EnforceError> {
        Ok(self.state.interfaces.contains_key(&ifindex).then(Counts::default))
    }

    fn refused(&mut self, ifindex: u32) -> Result<Option<u64>, EnforceError> {
        self.looks += 1;
        let known = self.state.interfaces.contains_key(&ifindex);
        Ok(known.then(|| self.refused.get(&ifindex).copied().unwrap_or(0)))
    }
}
