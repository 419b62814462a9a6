mod detail;

use detector_core::fleet::message::{NicState, Time, VmState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::desk::Desk;

pub use detail::{Event, MediumRow, RemediationRow, Remedy, RequirementRow, StepRow, VmDetail, vm};

/// VMs of one page.
const PAGE: usize = 100;

/// A VM in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VmRow {
    pub host: String,
    pub uuid: Uuid,
    pub name: String,
    pub source: String,
    pub power: String,
    /// `approved`, `pending`, `denied`, `quarantined` or `off`.
    pub status: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// `ID` or `ID@VERSION`.
    pub template: Option<String>,
    pub nics: Vec<NicRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NicRow {
    pub mac: String,
    pub port: Option<String>,
    pub status: Option<String>,
    pub addresses: Vec<String>,
}

/// Which VMs are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct VmFilter {
    /// Part of a name, a UUID, a MAC, an address or a template.
    pub q: String,
    /// One security state.
    pub status: String,
    pub host: String,
    /// From 0 on.
    pub page: usize,
}

/// Some of the VMs that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VmPage {
    pub vms: Vec<VmRow>,
    /// How many there are on all pages.
    pub total: usize,
    pub page: usize,
    pub pages: usize,
}

pub(super) fn row(host: &str, vm: &VmState) -> VmRow {
    let nic = |nic: &NicState| NicRow {
        mac: nic.mac.clone(),
        port: nic.port.clone(),
        status: nic.status.clone(),
        addresses: nic.addresses.clone(),
    };
    VmRow {
        host: host.to_owned(),
        uuid: vm.uuid,
        name: vm.name.clone(),
        source: vm.source.clone(),
        power: vm.power.clone(),
        status: vm.status.clone(),
        since: vm.since,
        template: vm.template.clone(),
        nics: vm.nics.iter().map(nic).collect(),
    }
}

impl VmFilter {
    fn has(&self, host: &str, vm: &VmState) -> bool {
        let wanted = self.q.trim().to_lowercase();
        let within = |text: &str| text.to_lowercase().contains(&wanted);
        let named = || {
            let nics = vm.nics.iter().flat_map(|nic| nic.addresses.iter().chain([&nic.mac]));
            let mut texts = nics.chain([&vm.name]).chain(&vm.template);
            texts.any(|text| within(text)) || vm.uuid.to_string().starts_with(&wanted)
        };
        (self.status.is_empty() || self.status == vm.status)
            && (self.host.is_empty() || self.host == host)
            && (wanted.is_empty() || named())
    }
}

/// Those that need somebody first, then by name.
pub fn vms(desk: &Desk, filter: &VmFilter) -> VmPage {
    let estate = desk.estate();
    let mut found: Vec<_> = estate.vms().filter(|(host, vm)| filter.has(host, vm)).collect();
    let order = |status: &str| match status {
        "denied" => 0,
        "quarantined" => 1,
        "pending" => 2,
        "approved" => 3,
        _ => 4,
    };
    found.sort_by(|(a, one), (b, two)| {
        (order(&one.status), &one.name, a).cmp(&(order(&two.status), &two.name, b))
    });
    let (total, pages) = (found.len(), found.len().div_ceil(PAGE).max(1));
    let page = filter.page.min(pages - 1);
    let vms = found.into_iter().skip(page * PAGE).take(PAGE);
    VmPage { vms: vms.map(|(host, vm)| row(host, vm)).collect(), total, page, pages }
}
