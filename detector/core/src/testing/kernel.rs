use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    addr::{Address, Mac},
    learned::OwnerKey,
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    services::Service,
    settings::Mode,
};

use crate::{
    model::{
        ModeRecord, Observed, ObservedInterface, ObservedMode, Passage, Shield, Ticks, Timestamp,
    },
    reconcile::{Action, GrantEntry},
};

/// What the kernel holds, changed by actions only. It panics where an action comes at the wrong
/// moment.
#[derive(Clone, Default)]
pub(crate) struct FakeKernel {
    pub(crate) state: Observed,
    ticks: Ticks,
    last_instance: u32,
}

impl FakeKernel {
    /// The kernel's clock, which ticks once a millisecond, is this far.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.ticks = Ticks(now.0);
        let record = self.state.mode.take().map(|mode| mode.record);
        self.state.mode = record.map(|record| self.mode_of(record));
    }

    fn mode_of(&self, record: ModeRecord) -> ObservedMode {
        ObservedMode::at(record, self.ticks, |at| Timestamp(at.0))
    }

    fn set_flag(&mut self, (ifindex, instance): (u32, u32), flag: u32, is_set: bool) {
        let held = self.state.interfaces.get_mut(&ifindex).expect("no such interface");
        assert_eq!(held.slot.instance, instance, "another life of {ifindex}");
        held.slot.flags &= !flag;
        held.slot.flags |= if is_set { flag } else { 0 };
    }

    pub(crate) fn apply(&mut self, action: &Action) {
        match action {
            Action::SetMode(record) => self.state.mode = Some(self.mode_of(record.clone())),
            Action::AttachGuard { ifindex, .. } => self.attach(*ifindex, Role::Guest),
            Action::AttachUplink { ifindex, .. } => self.attach(*ifindex, Role::Uplink),
            Action::AttachBridge { ifindex, .. } => self.attach(*ifindex, Role::Bridge),
            Action::AttachSandbox { ifindex, .. } => self.attach(*ifindex, Role::Sandbox),
            Action::Trust { ifindex, .. } => self.attach(*ifindex, Role::Trusted),
            Action::AttachDevice { ifindex, trusted, closed, .. } => {
                self.attach(*ifindex, if *closed { Role::ClosedDevice } else { Role::Device });
                let instance = self.last_instance;
                self.set_flag((*ifindex, instance), flags::TRUSTED, *trusted);
            }
            Action::Release { ifindex } => {
                let held = self.state.interfaces.remove(ifindex).expect("nothing to release");
                assert!(held.forwarding.is_empty(), "pins outlive {ifindex}");
            }
            Action::PutGrants { ifindex, instance, grants } => {
                let held = self.judged(*ifindex, *instance);
                for entry in grants {
                    let value = Grant { flags: entry.flags };
                    match entry.prefix {
                        None => held.grants.insert(grant_key(*ifindex, *instance, entry), value),
                        Some(length) => {
                            let key = prefix_key(*ifindex, *instance, entry);
                            held.prefixes.insert((key, length), value)
                        }
                    };
                }
            }
            Action::DropGrants { ifindex, instance, grants } => {
                let held = self.judged(*ifindex, *instance);
                for entry in grants {
                    let known = match entry.prefix {
                        None => held.grants.remove(&grant_key(*ifindex, *instance, entry)),
                        Some(length) => {
                            let key = prefix_key(*ifindex, *instance, entry);
                            held.prefixes.remove(&(key, length))
                        }
                    };
                    assert!(known.is_some(), "{entry:?} is not there to be dropped");
                }
            }
            Action::WriteSlot { ifindex, instance, slot } => {
                let held = self.judged(*ifindex, *instance);
                held.slot.flags = slot.flags | held.slot.flags & flags::OF_PLACE;
                held.slot.mac.0 = slot.mac;
                held.slot.vlan = slot.vlan;
                (held.slot.v4, held.slot.v4_mask) = (slot.v4, slot.v4_mask);
                held.slot.v6 = Address::from_bytes(slot.v6);
                held.slot.v6_mask = Address::from_bytes(slot.v6_mask);
                let listed = !held.grants.is_empty();
                assert!(!held.slot.has(flags::MORE_GRANTS) || listed, "slot before its grants");
            }
            Action::SetObserved { ifindex, instance, observed } => {
                self.set_flag((*ifindex, *instance), flags::OBSERVED, *observed);
            }
            Action::SetSwitched { ifindex, instance, switched } => {
                self.set_flag((*ifindex, *instance), flags::SWITCHED, *switched);
            }
            Action::Teach { ifindex, instance, seeds } => {
                let held = self.guest(*ifindex, *instance);
                assert!(!seeds.is_empty() && !held.slot.has(flags::LEARNS), "taught too late");
            }
            Action::Protect { entries } => {
                self.state.protected.extend(entries.iter().map(|entry| OwnerKey::from(*entry)));
            }
            Action::Unprotect { entries } => {
                for entry in entries {
                    assert!(self.state.protected.remove(&(*entry).into()), "not protected");
                }
            }
            Action::OfferServices { entries } => {
                self.state.services.extend(entries.iter().map(|entry| Service::from(*entry)));
            }
            Action::WithdrawServices { entries } => {
                for entry in entries {
                    assert!(self.state.services.remove(&(*entry).into()), "not offered");
                }
            }
            Action::PinForwarding { ifindex, mac, vlan } => {
                let held = self.state.interfaces.get_mut(ifindex).expect("no such port");
                assert!(held.slot.has(flags::GRANTED), "pin on a port that is granted nothing");
                assert!(held.forwarding.insert((*mac, *vlan)), "pinned twice");
                let pinned = |held: &&ObservedInterface| held.forwarding.contains(&(*mac, *vlan));
                assert_eq!(self.state.interfaces.values().filter(pinned).count(), 1, "{mac}");
            }
            Action::UnpinForwarding { ifindex, mac, vlan } => {
                let held = self.state.interfaces.get_mut(ifindex).expect("no such port");
                assert!(held.forwarding.remove(&(*mac, *vlan)), "not pinned");
            }
            Action::DefendMac { ifindex, instance, mac, vlan } => {
                let held = self.guest(*ifindex, *instance);
                assert!(held.slot.has(flags::GRANTED), "defended for a port without a grant");
                assert!(held.defended.insert((*mac, *vlan)), "defended twice");
                let owns = |held: &&ObservedInterface| held.defended.contains(&(*mac, *vlan));
                assert_eq!(self.state.interfaces.values().filter(owns).count(), 1, "{mac}");
            }
            Action::YieldMac { ifindex, instance, mac, vlan } => {
                let held = self.guest(*ifindex, *instance);
                assert!(held.defended.remove(&(*mac, *vlan)), "not defended");
            }
            Action::PutShield { ifindex, instance } => {
                let held = self.guest(*ifindex, *instance);
                assert!(held.slot.has(flags::ISOLATED), "shield before isolation");
                held.shield = Shield::On;
            }
            Action::DropShield { ifindex, instance } => {
                let held = self.guest(*ifindex, *instance);
                assert_ne!(held.shield, Shield::Off, "no shield to drop");
                held.shield = Shield::Off;
            }
            Action::MakeSandbox { .. } => {}
            Action::OpenPassage { ifindex, instance, bridge } => {
                assert_eq!(self.state.interfaces[bridge].slot.role(), Role::Sandbox);
                let held = self.guest(*ifindex, *instance);
                assert!(held.slot.is_sandboxed(), "passage before isolation");
                let passage = Passage { inner: 100_000 + ifindex, bridge: *bridge };
                assert_eq!(held.passage.replace(passage), None, "opened twice");
            }
            Action::ClosePassage { ifindex, instance } => {
                let held = self.guest(*ifindex, *instance);
                assert!(held.passage.take().is_some(), "no passage to close");
            }
            Action::PutQuarantine(quarantine) | Action::GiveQuarantineBack(quarantine) => {
                self.state.quarantines.insert(quarantine.target, quarantine.clone());
            }
            Action::LiftQuarantine(target) => {
                self.state.quarantines.remove(target);
            }
        }
    }

    /// The interface is gone and another has its index: nothing of the slot is left.
    pub(crate) fn forget(&mut self, ifindex: u32) {
        self.state.interfaces.remove(&ifindex);
    }

    pub(crate) fn slot(&self, ifindex: u32) -> PortSlot {
        self.state.interfaces[&ifindex].slot
    }

    pub(crate) fn mode(&self) -> Option<Mode> {
        self.state.mode.as_ref().map(ObservedMode::effective)
    }

    fn attach(&mut self, ifindex: u32, role: Role) {
        self.last_instance += 1;
        let instance = self.last_instance;
        let slot = PortSlot { ifindex, instance, role: role as u8, ..PortSlot::VACANT };
        let held = ObservedInterface {
            slot,
            grants: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            forwarding: BTreeSet::new(),
            defended: BTreeSet::new(),
            shield: Shield::Off,
            passage: None,
        };
        let before = self.state.interfaces.insert(ifindex, held);
        let turns = |held: &ObservedInterface| held.slot.role().is_aside() && role.is_aside();
        assert!(before.as_ref().is_none_or(turns), "{ifindex} is attached already");
    }

    fn guest(&mut self, ifindex: u32, instance: u32) -> &mut ObservedInterface {
        let held = self.judged(ifindex, instance);
        assert_eq!(held.slot.role(), Role::Guest);
        held
    }

    /// What entries and slots are written for.
    fn judged(&mut self, ifindex: u32, instance: u32) -> &mut ObservedInterface {
        let held = self.state.interfaces.get_mut(&ifindex).expect("no such port");
        assert_eq!(held.slot.instance, instance, "another instance");
        assert!(matches!(held.slot.role(), Role::Guest | Role::Device | Role::ClosedDevice));
        held
    }
}

fn grant_key(ifindex: u32, instance: u32, entry: &GrantEntry) -> GrantKey {
    let mac = Mac(entry.mac);
    GrantKey { ifindex, instance, mac, vlan: entry.vlan, address: entry.address }
}

fn prefix_key(ifindex: u32, instance: u32, entry: &GrantEntry) -> PrefixKey {
    PrefixKey {
        ifindex: ifindex.to_ne_bytes(),
        instance: instance.to_ne_bytes(),
        mac: Mac(entry.mac),
        vlan: entry.vlan.to_ne_bytes(),
        address: entry.address,
    }
}
