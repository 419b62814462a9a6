//! One list of VMs from all sources. Where they disagree the strictest answer holds, and the
//! disagreement is kept for a finding.
//!
//! | statement | how two of them become one |
//! | --- | --- |
//! | power | off, if one says off; else in transit, if one says so. No finding: sources learn of a change at different moments |
//! | declared template | the one that is named; none, if two are named |
//! | media | all that any lists: each has to be covered |
//! | NICs | those that both list, by MAC, unless one lists none |
//! | port of a NIC | the one that is named; the NIC is withheld, if two are named |
//! | VLANs, addresses | those that both grant; saying nothing of them leaves it to the other |
//! | roles of a NIC | those that both grant |
//! | ways out without a guard | all that any lists |
//! | posture | what both say, at its worst: see [`Posture::join`](crate::model::Posture::join) |
//!
//! Settings for NICs, by MAC ([`Source::overlays`]) or with the NIC itself, narrow VLANs and addresses in the
//! same way, and settle roles, for which most sources have no words: a role that one setting refuses is
//! refused. Some of them only narrow ([`NicSettings::narrows`]): they take away from what is granted without
//! them, be it by default, and come last.

use std::{borrow::Cow, collections::BTreeMap};

use detector_common::addr::Mac;
use uuid::Uuid;

use super::{identity, text::quoted};
use crate::model::{AddressRule, Health, MediumRole, Nic, NicSettings, PowerState, Source, Vm};

/// A VM as all sources together describe it.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    pub(super) vm: Cow<'a, Vm>,
    /// Every source that lists the VM is lost.
    pub(super) lost: bool,
    /// The latest word of a source on it was refused.
    pub(super) outdated: bool,
    /// What the sources disagree on: the subject, and what they say.
    pub(super) conflicts: Vec<(String, String)>,
    /// NICs that are granted nothing, because the sources leave nothing or contradict each other.
    pub(super) withheld: Vec<Mac>,
}

/// Every VM that any source lists, in the order of the UUIDs.
pub(super) fn merge(sources: &BTreeMap<String, Source>, default: AddressRule) -> Vec<Merged<'_>> {
    let mut listed: Vec<(&Uuid, &Source, &Vm)> = sources
        .values()
        .flat_map(|source| source.vms.iter().map(move |(uuid, vm)| (uuid, source, vm)))
        .collect();
    // Stable: sources stay in the order of their names.
    listed.sort_by_key(|(uuid, ..)| **uuid);

    let mut merged: Vec<Merged<'_>> = Vec::with_capacity(listed.len());
    for (uuid, source, vm) in listed {
        let lost = source.health != Health::Healthy;
        let outdated = source.outdated.contains(uuid);
        match merged.last_mut() {
            Some(last) if last.vm.uuid == *uuid => {
                last.lost &= lost;
                last.outdated |= outdated;
                last.join(vm);
            }
            _ => merged.push(Merged {
                vm: Cow::Borrowed(vm),
                lost,
                outdated,
                conflicts: Vec::new(),
                withheld: Vec::new(),
            }),
        }
    }

    let overlays: Vec<_> = sources.values().map(|source| &source.overlays).collect();
    for vm in &mut merged {
        vm.apply(&overlays, default);
        let presumed = vm.vm.presumed.iter();
        let said = presumed
            .map(|what| ("metadata".to_owned(), format!("{what}: nobody has to believe it")));
        let said: Vec<_> = said.collect();
        vm.conflicts.extend(said);
    }
    merged
}

impl Merged<'_> {
    /// Takes in what another source says of the same VM.
    fn join(&mut self, other: &Vm) {
        let Self { vm, conflicts, withheld, .. } = self;
        let vm = vm.to_mut();
        match (vm.power, other.power) {
            (PowerState::Off, _) => {}
            (_, PowerState::Off | PowerState::InTransit) => vm.power = other.power,
            _ => {}
        }
        match (&vm.declared_template, &other.declared_template) {
            (Some(one), Some(two)) if one != two => {
                conflicts.push((
                    "declared template".to_owned(),
                    format!("{} or {}: neither is believed", quoted(one), quoted(two)),
                ));
                vm.declared_template = None;
            }
            (None, two) => vm.declared_template.clone_from(two),
            _ => {}
        }
        join_media(vm, other, conflicts);
        let news = other.attachments.iter().filter(|way| !vm.attachments.contains(way));
        let news: Vec<_> = news.cloned().collect();
        vm.attachments.extend(news);
        vm.presumed.extend(other.presumed.iter().cloned());
        for what in vm.posture.join(&other.posture) {
            let why = "the sources differ: the worse holds, or neither is believed".to_owned();
            conflicts.push((format!("posture: {what}"), why));
        }
        join_nics(vm, other, conflicts, withheld);
    }

    /// Applies the settings for the VM's NICs.
    fn apply(&mut self, overlays: &[&BTreeMap<Mac, NicSettings>], default: AddressRule) {
        for index in 0..self.vm.nics.len() {
            let Nic { mac, settings, .. } = &self.vm.nics[index];
            let by_mac = overlays.iter().filter_map(|by_mac| by_mac.get(mac));
            let settings: Vec<_> = by_mac.chain(settings).cloned().collect();
            if settings.is_empty() {
                continue;
            }
            let nic = &mut self.vm.to_mut().nics[index];
            for setting in settings.iter().filter(|setting| !setting.narrows) {
                let stated = stating(nic, setting);
                narrow(nic, &stated, &mut self.conflicts, &mut self.withheld);
            }
            for setting in settings.iter().filter(|setting| setting.narrows) {
                confine(nic, setting, default, &mut self.conflicts, &mut self.withheld);
            }
            let role = |stated: fn(&NicSettings) -> Option<bool>, before| {
                let may =
                    |setting: &&NicSettings| !setting.narrows || stated(setting) == Some(false);
                settings.iter().filter(may).filter_map(stated).min().unwrap_or(before)
            };
            nic.dhcp_server = role(|setting| setting.dhcp_server, nic.dhcp_server);
            nic.router = role(|setting| setting.router, nic.router);
            nic.vrrp = role(|setting| setting.vrrp, nic.vrrp);
        }
    }
}

fn join_media(vm: &mut Vm, other: &Vm, conflicts: &mut Vec<(String, String)>) {
    // Variables are no medium that another source would list.
    let listed =
        |vm: &Vm| vm.media.iter().filter(|medium| medium.role != MediumRole::Variables).count();
    let (known, others) = (listed(vm), listed(other));
    for medium in &other.media {
        if !vm.media.contains(medium) {
            vm.media.push(medium.clone());
        }
    }
    let (silent, all) = (known == 0 || others == 0, listed(vm));
    if !silent && (all != known || others != known) {
        conflicts.push((
            "media".to_owned(),
            format!("{known} or {others} listed: all {all} have to be covered",),
        ));
    }
}

fn join_nics(
    vm: &mut Vm,
    other: &Vm,
    conflicts: &mut Vec<(String, String)>,
    withheld: &mut Vec<Mac>,
) {
    if other.nics.is_empty() {
        return;
    }
    if vm.nics.is_empty() {
        vm.nics.clone_from(&other.nics);
        return;
    }
    let known: Vec<Mac> = vm.nics.iter().map(|nic| nic.mac).collect();
    for nic in &mut vm.nics {
        let mut said = false;
        let mac = nic.mac;
        for twin in other.nics.iter().filter(|twin| twin.mac == mac) {
            said = true;
            narrow(nic, twin, conflicts, withheld);
            nic.settings.extend(twin.settings.iter().cloned());
            nic.unguarded = nic.unguarded.or(twin.unguarded);
            let roles = |nic: &Nic| (nic.dhcp_server, nic.router, nic.vrrp);
            if roles(nic) != roles(twin) {
                conflicts.push((
                    format!("roles of {}", nic.mac),
                    "one source grants a role that the other does not: it is not granted"
                        .to_owned(),
                ));
                nic.dhcp_server &= twin.dhcp_server;
                nic.router &= twin.router;
                nic.vrrp &= twin.vrrp;
            }
        }
        if !said {
            withhold(nic.mac, "only one source lists this NIC", conflicts, withheld);
        }
    }
    // Kept, and withheld, so that its port is known to be this VM's.
    for nic in other.nics.iter().filter(|nic| !known.contains(&nic.mac)) {
        vm.nics.push(nic.clone());
        withhold(nic.mac, "only one source lists this NIC", conflicts, withheld);
    }
}

/// Leaves of `nic` what `other` grants too: port, VLANs and addresses.
fn narrow(
    nic: &mut Nic,
    other: &Nic,
    conflicts: &mut Vec<(String, String)>,
    withheld: &mut Vec<Mac>,
) {
    match (&nic.port, &other.port) {
        (Some(one), Some(two)) if one != two => {
            let why = format!("port {} or {}", quoted(one), quoted(two));
            withhold(nic.mac, &why, conflicts, withheld);
        }
        (None, two) => nic.port.clone_from(two),
        _ => {}
    }

    if nic.vlans.is_empty() {
        nic.vlans.clone_from(&other.vlans);
    } else if !other.vlans.is_empty() {
        let (one, two) = (identity::vlans(nic), identity::vlans(other));
        if one != two {
            nic.vlans = one.iter().copied().filter(|id| two.contains(id)).collect();
            if nic.vlans.is_empty() {
                withhold(nic.mac, "the sources share no VLAN", conflicts, withheld);
            } else {
                conflicts.push((
                    format!("VLANs of {}", nic.mac),
                    format!("{one:?} or {two:?}: {:?} granted", nic.vlans),
                ));
            }
        }
    }

    match (stated(nic), stated(other)) {
        (_, None) => {}
        (None, Some(_)) => {
            nic.rule = other.rule;
            nic.addresses.clone_from(&other.addresses);
        }
        (Some(one), Some(two)) if one != two => {
            let (rule, addresses) = identity::listed(&identity::intersect(&one, &two));
            conflicts.push((
                format!("addresses of {}", nic.mac),
                format!("the sources differ: {} entries granted that both grant", addresses.len()),
            ));
            nic.rule = Some(rule);
            nic.addresses = addresses;
        }
        _ => {}
    }
}

/// The NIC as a setting would have it.
fn stating(nic: &Nic, setting: &NicSettings) -> Nic {
    Nic {
        port: None,
        vlans: setting.vlans.clone().unwrap_or_default(),
        addresses: setting.addresses.clone(),
        rule: setting.rule,
        ..nic.clone()
    }
}

/// Takes away from `nic` what a setting does not leave, that of the default too. Whatever it would add is
/// not granted.
fn confine(
    nic: &mut Nic,
    setting: &NicSettings,
    default: AddressRule,
    conflicts: &mut Vec<(String, String)>,
    withheld: &mut Vec<Mac>,
) {
    let other = stating(nic, setting);
    let mut more = |what: &str| {
        let why = "more is asked than it may have, and not granted".to_owned();
        conflicts.push((format!("{what} of {}", nic.mac), why));
    };
    if !other.vlans.is_empty() {
        let (one, two) = (identity::vlans(nic), identity::vlans(&other));
        if two.iter().any(|id| !one.contains(id)) {
            more("VLANs");
        }
        let both: Vec<_> = one.into_iter().filter(|id| two.contains(id)).collect();
        if both.is_empty() {
            return withhold(nic.mac, "its settings leave no VLAN", conflicts, withheld);
        }
        nic.vlans = both;
    }
    let Some(two) = stated(&other) else { return };
    let one = stated(nic).unwrap_or_else(|| identity::addresses(default, &[]));
    let both = identity::intersect(&one, &two);
    if (&both.0, &both.1) != (&two.0, &two.1) {
        more("addresses");
    }
    if both != one {
        (nic.rule, nic.addresses) = {
            let (rule, addresses) = identity::listed(&both);
            (Some(rule), addresses)
        };
    }
}

/// What a NIC's source says of its addresses, if it says anything.
fn stated(nic: &Nic) -> Option<identity::Addresses> {
    let silent = nic.rule.is_none() && nic.addresses.is_empty();
    (!silent).then(|| identity::addresses(identity::rule(nic, AddressRule::Exact), &nic.addresses))
}

fn withhold(mac: Mac, why: &str, conflicts: &mut Vec<(String, String)>, withheld: &mut Vec<Mac>) {
    conflicts.push((format!("NIC {mac}"), format!("{why}: nothing is granted to it")));
    if !withheld.contains(&mac) {
        withheld.push(mac);
    }
}
