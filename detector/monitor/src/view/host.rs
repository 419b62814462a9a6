use std::collections::BTreeMap;

use detector_core::{
    api::{Reply, Request, view::PortView},
    fleet::message::Time,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Counts, Missing, no_host, now, word};
use crate::{desk::Desk, estate::Host};

/// A host in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HostRow {
    pub name: String,
    /// `well`, `troubled` or `silent`.
    pub condition: String,
    /// Why it is not well.
    pub troubles: Vec<String>,
    pub mode: Option<String>,
    pub release: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Time>,
    /// The fleet's bundle that it goes by.
    pub bundle: Option<u64>,
    /// VMs by security state.
    pub vms: Counts,
    /// Guest ports by status.
    pub ports: Counts,
    /// Open findings by severity.
    pub findings: Counts,
}

/// A host, and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HostView {
    #[serde(flatten)]
    pub row: HostRow,
    pub bridges: Vec<BridgeView>,
    /// VMs without a port.
    pub portless: Vec<PortRow>,
    /// Why ports are not shown.
    pub unasked: Option<String>,
}

/// A bridge, or what else ports are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BridgeView {
    pub name: String,
    pub uplinks: Vec<String>,
    pub ports: Vec<PortRow>,
}

/// A port, and the VM that speaks through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PortRow {
    /// Interface, where there is one.
    pub name: String,
    /// `granted`, `pending`, `isolated`, `kept` or `unguarded`.
    pub status: String,
    /// `drop` or `sandbox`, where it is isolated.
    pub isolation: Option<String>,
    pub why: Option<String>,
    pub macs: Vec<String>,
    pub vm: Option<Uuid>,
    pub vm_name: Option<String>,
    pub vm_status: Option<String>,
}

pub(super) fn row(name: &str, host: &Host) -> HostRow {
    let state = host.state.as_ref();
    let silent = host.is_silent(now()) || host.lost.is_some();
    let mut troubles: Vec<_> = host.lost.iter().cloned().collect();
    if silent && troubles.is_empty() {
        troubles.push("It has said nothing for too long".to_owned());
    }
    troubles.extend(state.iter().flat_map(|state| state.troubles.iter().cloned()));
    let mut findings = Counts::new();
    for finding in host.findings().filter(|finding| !finding.settled) {
        *findings.entry(finding.severity.as_str().to_owned()).or_default() += 1;
    }
    let mut vms = Counts::new();
    for vm in host.vms() {
        *vms.entry(vm.status.clone()).or_default() += 1;
    }
    let condition = match (silent, troubles.is_empty()) {
        (true, _) => "silent",
        (false, false) => "troubled",
        (false, true) => "well",
    };
    HostRow {
        name: name.to_owned(),
        condition: condition.to_owned(),
        troubles,
        mode: state.map(|state| state.mode.clone()),
        release: state.map(|state| state.release.clone()),
        heard: host.heard,
        started: state.map(|state| state.started),
        bundle: state.and_then(|state| Some(state.policy.in_force?.number)),
        vms,
        ports: state.map(|state| state.ports.clone()).unwrap_or_default(),
        findings,
    }
}

pub fn hosts(desk: &Desk) -> Vec<HostRow> {
    desk.estate().hosts.iter().map(|(name, host)| row(name, host)).collect()
}

/// # Errors
///
/// No such host is known.
pub async fn host(desk: &Desk, name: &str, who: &str) -> Result<HostView, Missing> {
    let asked = desk.ask((name, who), Request::PortList { counters: false }).await;
    let (ports, unasked) = match asked {
        Ok(Reply::Ports(ports)) => (ports, None),
        Ok(_) => (Vec::new(), Some(Missing::Other.to_string())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let estate = desk.estate();
    let host = estate.hosts.get(name).ok_or_else(|| no_host(name))?;
    let vms: BTreeMap<_, _> = host.vms().map(|vm| (vm.uuid, vm)).collect();
    let mut bridges: BTreeMap<String, BridgeView> = BTreeMap::new();
    let mut shown = Vec::new();
    for port in ports {
        let place = port.bridge.clone().or_else(|| port.device.clone());
        let name = match (place, port.role.as_str()) {
            (_, "bridge" | "device" | "sandbox") => port.name.clone(),
            (Some(place), _) => place,
            (None, _) => "on no bridge".to_owned(),
        };
        let bridge = bridges.entry(name.clone()).or_insert_with(|| BridgeView {
            name,
            uplinks: Vec::new(),
            ports: Vec::new(),
        });
        match port.role.as_str() {
            "guest" => {
                let vm = port.vm.as_ref().map(|vm| vm.uuid);
                shown.extend(vm);
                let status = vm.and_then(|vm| Some(vms.get(&vm)?.status.clone()));
                bridge.ports.push(port_row(port, status));
            }
            "uplink" => bridge.uplinks.push(port.name),
            _ => {}
        }
    }
    let portless = vms.values().filter(|vm| !shown.contains(&vm.uuid)).map(|vm| PortRow {
        name: String::new(),
        status: vm.power.clone(),
        isolation: None,
        why: None,
        macs: vm.nics.iter().map(|nic| nic.mac.clone()).collect(),
        vm: Some(vm.uuid),
        vm_name: Some(vm.name.clone()),
        vm_status: Some(vm.status.clone()),
    });
    let portless = portless.collect();
    let bridges = bridges.into_values().collect();
    Ok(HostView { row: row(name, host), bridges, portless, unasked })
}

fn port_row(port: PortView, vm_status: Option<String>) -> PortRow {
    let mut macs: Vec<_> = port.identities.iter().map(|one| one.mac.clone()).collect();
    macs.dedup();
    PortRow {
        status: word(port.status),
        name: port.name,
        isolation: port.isolation,
        why: port.why,
        macs,
        vm: port.vm.as_ref().map(|vm| vm.uuid),
        vm_name: port.vm.map(|vm| vm.name),
        vm_status,
    }
}
