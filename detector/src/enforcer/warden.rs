//! What the brain may have done: judged by the enforcer's own configuration and its own look at interfaces, whatever
//! the brain says that follows from them.
//!
//! Who may speak under which address is the brain's to decide; that is what it is for. But programs come to what is
//! configured to have them and to nothing else, and leave only what is no longer; and what a person has cut off stays
//! cut off for as long as its record stands.

use std::collections::BTreeMap;

use detector_common::{
    addr::Mac,
    port::{Role, flags},
    quarantine::{Cause, QuarantineMode},
};
use detector_core::{
    decide::{Class, classify},
    model::{Link, Observed, Policy, Quarantine, QuarantineTarget, SandboxService},
    reconcile::{Action, services},
};

use super::EnforceError;
use crate::net::{Changed, LinkChanges, NetError, link_by_index, links};

/// Entries of one order: more than any host has addresses.
const MOST_ENTRIES: usize = 1 << 17;

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Whoever gives it may have seen an interface as it was a moment ago.
    Perhaps(String),
    /// Nobody gives it by mistake.
    Certain(String),
    /// It cannot be judged now.
    Blind(String),
}

/// How the warden sees interfaces.
pub(super) trait Sight {
    fn changed(&mut self) -> Result<Changed, NetError>;
    fn one(&mut self, ifindex: u32) -> Result<Option<Link>, NetError>;
    fn all(&mut self) -> Result<Vec<Link>, NetError>;
}

impl Sight for LinkChanges {
    fn changed(&mut self) -> Result<Changed, NetError> {
        self.take()
    }

    fn one(&mut self, ifindex: u32) -> Result<Option<Link>, NetError> {
        link_by_index(ifindex)
    }

    fn all(&mut self) -> Result<Vec<Link>, NetError> {
        links()
    }
}

/// Judges orders.
pub(super) struct Warden<S = LinkChanges> {
    policy: Policy,
    sight: S,
    /// Whether changes have been taken that nobody has looked at.
    stale: bool,
    links: BTreeMap<u32, Link>,
    classes: BTreeMap<u32, Class>,
}

impl Warden {
    /// By this configuration, in the network namespace of this thread.
    pub(super) fn new(policy: Policy) -> Result<Self, NetError> {
        Self::seeing(LinkChanges::subscribe()?, policy)
    }
}

impl<S: Sight> Warden<S> {
    fn seeing(sight: S, policy: Policy) -> Result<Self, NetError> {
        let (links, classes) = (BTreeMap::new(), BTreeMap::new());
        let mut warden = Self { policy, sight, stale: true, links, classes };
        warden.look_at_all()?;
        Ok(warden)
    }

    /// From now on by another one.
    pub(super) fn follow(&mut self, policy: Policy) {
        self.policy = policy;
        self.classify();
    }

    /// Whether the action may be carried out, on what is held now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn judge(&mut self, action: &Action, held: &Observed) -> Result<(), Refusal> {
        let role = |ifindex: &u32| held.interfaces.get(ifindex).map(|one| one.slot.role());
        match action {
            Action::AttachGuard { ifindex, name } => self.expect(*ifindex, name, Class::Guest),
            Action::AttachUplink { ifindex, name } => self.expect(*ifindex, name, Class::Uplink),
            Action::AttachBridge { ifindex, name } => self.expect(*ifindex, name, Class::Bridge),
            Action::AttachSandbox { ifindex, name } => self.expect(*ifindex, name, Class::Sandbox),
            Action::Trust { ifindex, name } => self.expect(*ifindex, name, Class::Trusted),
            Action::AttachDevice { ifindex, name, trusted, closed: _ } => {
                self.expect(*ifindex, name, Class::Device { trusted: *trusted })
            }
            Action::Release { ifindex } => match (role(ifindex), self.class(*ifindex)?) {
                (Some(role), Some(class)) if is_of(role, class) => Err(Refusal::Perhaps(format!(
                    "interface {ifindex} is to be guarded as it is, by the configuration"
                ))),
                _ => Ok(()),
            },
            Action::MakeSandbox { name } => {
                let rules = self.policy.sandbox.as_ref();
                if rules.is_some_and(|rules| rules.create && rules.bridge == *name) {
                    return Ok(());
                }
                Err(Refusal::Perhaps(format!("no sandbox {name:?} is to be made")))
            }
            Action::OpenPassage { ifindex, bridge, .. } => {
                is_guest(*ifindex, role(ifindex))?;
                match self.class(*bridge)? {
                    Some(Class::Sandbox) => Ok(()),
                    _ => Err(Refusal::Perhaps(format!(
                        "interface {bridge} is not the sandbox's bridge"
                    ))),
                }
            }
            Action::PinForwarding { ifindex, .. }
            | Action::UnpinForwarding { ifindex, .. }
            | Action::PutShield { ifindex, .. }
            | Action::DropShield { ifindex, .. }
            | Action::ClosePassage { ifindex, .. }
            | Action::DefendMac { ifindex, .. }
            | Action::YieldMac { ifindex, .. } => is_guest(*ifindex, role(ifindex)),
            Action::WriteSlot { ifindex, instance, slot } => {
                is_judged(*ifindex, role(ifindex))?;
                if slot.flags & (flags::SANDBOXED | flags::LIMITED) == flags::SANDBOXED
                    && self.named().is_some()
                {
                    return Err(Refusal::Perhaps(format!(
                        "interface {ifindex} is to reach all of the sandbox, which offers some by the \
                         configuration"
                    )));
                }
                let cut_off = slot.flags & (flags::ISOLATED | flags::ISOLATED_BY_OPERATOR) != 0;
                if cut_off || slot.flags & flags::GRANTED == 0 {
                    return Ok(());
                }
                let station = [QuarantineTarget::Mac(Mac(slot.mac))];
                let port = QuarantineTarget::Port { ifindex: *ifindex, instance: *instance };
                none_by_a_person(held, station.into_iter().chain([port]))
            }
            Action::PutGrants { ifindex, grants, .. } => {
                bounded(grants.len())?;
                is_judged(*ifindex, role(ifindex))?;
                // In the sandbox it may have what it has there, which is put before the port is cut off.
                let in_sandbox = |target: &QuarantineTarget| {
                    let quarantine = held.quarantines.get(target);
                    quarantine.is_some_and(|one| one.mode == QuarantineMode::Sandbox)
                };
                let stations = grants.iter().map(|grant| QuarantineTarget::Mac(Mac(grant.mac)));
                let isolated = held.interfaces.get(ifindex);
                if isolated.is_some_and(|port| port.slot.has(flags::ISOLATED)) {
                    return Ok(());
                }
                none_by_a_person(held, stations.filter(|target| !in_sandbox(target)))
            }
            Action::DropGrants { ifindex, grants, .. } => {
                bounded(grants.len())?;
                is_judged(*ifindex, role(ifindex))
            }
            Action::Teach { ifindex, seeds, .. } => {
                bounded(seeds.len())?;
                is_guest(*ifindex, role(ifindex))
            }
            Action::Protect { entries } | Action::Unprotect { entries } => bounded(entries.len()),
            Action::OfferServices { entries } => {
                let named = self.named().map(services).unwrap_or_default();
                if entries.iter().all(|entry| named.contains(&(*entry).into())) {
                    return Ok(());
                }
                Err(Refusal::Perhaps("the sandbox is to offer what is not configured".to_owned()))
            }
            // It takes away only.
            Action::WithdrawServices { entries } => bounded(entries.len()),
            Action::PutQuarantine(quarantine) => match held.quarantines.get(&quarantine.target) {
                Some(old) if is_by_a_person(old) && !is_by_a_person(quarantine) => {
                    let why = "what a person has quarantined does not become a verdict's";
                    Err(Refusal::Certain(why.to_owned()))
                }
                _ => Ok(()),
            },
            Action::SetMode(_)
            | Action::SetObserved { .. }
            | Action::SetSwitched { .. }
            // It lifts no more than a lift does, which is told of in the same way.
            | Action::GiveQuarantineBack(_)
            | Action::LiftQuarantine(_) => Ok(()),
        }
    }

    /// What those who are quarantined may reach in the sandbox, where that is limited.
    fn named(&self) -> Option<&[SandboxService]> {
        self.policy.sandbox.as_ref()?.services.as_deref()
    }

    /// Whether the interface is what is said, under the name that is said.
    fn expect(&mut self, ifindex: u32, name: &str, class: Class) -> Result<(), Refusal> {
        let found = self.class(ifindex)?;
        let named = self.links.get(&ifindex).is_some_and(|link| link.name == name);
        if found == Some(class) && named {
            return Ok(());
        }
        let is = match found {
            Some(found) => format!("it is {found:?}"),
            None => "it is none of what is configured".to_owned(),
        };
        let why = format!("interface {ifindex}, {name:?}, is to become {class:?}, and {is}");
        Err(Refusal::Perhaps(why))
    }

    fn class(&mut self, ifindex: u32) -> Result<Option<Class>, Refusal> {
        self.look().map_err(|error| Refusal::Blind(error.to_string()))?;
        Ok(self.classes.get(&ifindex).copied())
    }

    /// One system call where nothing has changed.
    fn look(&mut self) -> Result<(), NetError> {
        match self.sight.changed()? {
            _ if self.stale => self.look_at_all(),
            Changed::Any => self.look_at_all(),
            Changed::Some(some) if some.changed.is_empty() => Ok(()),
            Changed::Some(some) => {
                self.stale = true;
                for ifindex in some.changed {
                    match self.sight.one(ifindex)? {
                        Some(link) => drop(self.links.insert(ifindex, link)),
                        None => drop(self.links.remove(&ifindex)),
                    }
                }
                self.classify();
                Ok(())
            }
        }
    }

    fn look_at_all(&mut self) -> Result<(), NetError> {
        self.stale = true;
        self.links = self.sight.all()?.into_iter().map(|link| (link.ifindex, link)).collect();
        self.classify();
        Ok(())
    }

    fn classify(&mut self) {
        let classes = classify(&self.links, &self.policy);
        self.classes = classes.into_iter().map(|(link, class)| (link.ifindex, class)).collect();
        self.stale = false;
    }
}

impl From<Refusal> for EnforceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Perhaps(why) | Refusal::Certain(why) => {
                Self(format!("the enforcer refuses it: {why}"))
            }
            Refusal::Blind(why) => Self(why),
        }
    }
}

fn bounded(entries: usize) -> Result<(), Refusal> {
    if entries > MOST_ENTRIES {
        return Err(Refusal::Certain(format!("{entries} entries at once")));
    }
    Ok(())
}

/// What has no slot has no verdict either, and whoever carries the order out says so.
fn is_judged(ifindex: u32, role: Option<Role>) -> Result<(), Refusal> {
    match role {
        Some(Role::Uplink | Role::Bridge | Role::Trusted | Role::Sandbox) => Err(Refusal::Perhaps(
            format!("interface {ifindex} is the host's own, and no verdict is on it"),
        )),
        _ => Ok(()),
    }
}

fn is_guest(ifindex: u32, role: Option<Role>) -> Result<(), Refusal> {
    if role.is_some_and(Role::is_guest) {
        return Ok(());
    }
    Err(Refusal::Perhaps(format!("interface {ifindex} is no guest's port")))
}

/// Whether an interface that is this to the programs is what it should be.
fn is_of(role: Role, class: Class) -> bool {
    match class {
        Class::Guest => role.is_guest(),
        Class::Uplink => role == Role::Uplink,
        Class::Bridge => role == Role::Bridge,
        Class::Trusted => role == Role::Trusted,
        Class::Device { .. } => matches!(role, Role::Device | Role::ClosedDevice),
        Class::Sandbox => role == Role::Sandbox,
    }
}

fn is_by_a_person(quarantine: &Quarantine) -> bool {
    quarantine.cause == Cause::Operator
}

/// Whether none of these has been quarantined by a person.
fn none_by_a_person(
    held: &Observed,
    targets: impl Iterator<Item = QuarantineTarget>,
) -> Result<(), Refusal> {
    if held.quarantines.is_empty() {
        return Ok(());
    }
    for target in targets {
        if held.quarantines.get(&target).is_some_and(is_by_a_person) {
            return Err(Refusal::Certain(format!("{target:?} is quarantined by a person")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
