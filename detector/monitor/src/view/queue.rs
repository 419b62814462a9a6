use std::collections::BTreeMap;

use detector_core::{
    api::{Reply, Request, view::QuarantineView},
    fleet::message::Time,
    model::QuarantineTarget,
};
use futures::{StreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FindingRow, Missing, finding};
use crate::{desk::Desk, estate::Estate};

/// Hosts that are asked at a time, and at all: one page is no reason to wake a whole fleet.
const AT_ONCE: usize = 8;
const MOST_HOSTS: usize = 200;

/// What is cut off, or waits for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Queue {
    pub items: Vec<QueueItem>,
    /// Hosts that could not be asked, with why.
    pub unasked: BTreeMap<String, String>,
}

/// One thing that is cut off, or that fails the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueItem {
    pub host: String,
    /// As commands and actions name it: `vm:UUID`, `mac:MAC`, `port:IFINDEX/INSTANCE`.
    pub target: String,
    pub name: String,
    /// `quarantined`, or `denied` and `pending` of what is not.
    pub status: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// `verdict` or `operator`, of what is quarantined.
    pub cause: Option<String>,
    /// `drop` or `sandbox`, of what is quarantined.
    pub mode: Option<String>,
    pub note: String,
    pub vm: Option<Uuid>,
    /// The findings about it.
    pub evidence: Vec<FindingRow>,
}

/// Whether a host has anything that is quarantined, as far as it has said.
fn has_any(estate: &Estate, host: &str) -> bool {
    let Some(host) = estate.hosts.get(host) else { return false };
    let isolated = host.state.as_ref().and_then(|state| state.ports.get("isolated"));
    isolated.is_some_and(|count| *count > 0) || host.vms().any(|vm| vm.status == "quarantined")
}

pub async fn queue(desk: &Desk, who: &str) -> Queue {
    let hosts: Vec<_> = {
        let estate = desk.estate();
        let named = estate.hosts.keys().filter(|host| has_any(&estate, host));
        named.take(MOST_HOSTS).cloned().collect()
    };
    let asked = stream::iter(hosts).map(|host| async move {
        let answer = desk.ask((&host, who), Request::QuarantineList {}).await;
        (host, answer)
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut queue = Queue::default();
    let estate = desk.estate();
    for (host, answer) in answers {
        match answer {
            Ok(Reply::Quarantines(all)) => {
                queue.items.extend(all.into_iter().map(|one| item(&host, one)));
            }
            Ok(_) => drop(queue.unasked.insert(host, Missing::Other.to_string())),
            Err(error) => drop(queue.unasked.insert(host, error.to_string())),
        }
    }
    // A VM that is not approved is in the queue, whether or not it is cut off by itself.
    for (host, vm) in estate.vms() {
        let known = |item: &QueueItem| item.host == host && item.vm == Some(vm.uuid);
        if matches!(vm.status.as_str(), "denied" | "pending" | "quarantined")
            && !queue.items.iter().any(known)
        {
            queue.items.push(QueueItem {
                host: host.to_owned(),
                target: format!("vm:{}", vm.uuid),
                name: vm.name.clone(),
                status: vm.status.clone(),
                since: vm.since,
                cause: None,
                mode: None,
                note: String::new(),
                vm: Some(vm.uuid),
                evidence: Vec::new(),
            });
        }
    }
    for item in &mut queue.items {
        let Some(host) = estate.hosts.get(&item.host) else { continue };
        let about = host.findings().filter(|one| one.vm.is_some() && one.vm == item.vm);
        item.evidence = about.map(|one| finding::row(&item.host, one, Some(&item.name))).collect();
    }
    let order = |item: &QueueItem| match item.status.as_str() {
        "denied" => 0,
        "quarantined" => 1,
        _ => 2,
    };
    queue.items.sort_by(|a, b| {
        (order(a), b.since, &a.host, &a.target).cmp(&(order(b), a.since, &b.host, &b.target))
    });
    queue
}

fn item(host: &str, view: QuarantineView) -> QueueItem {
    let (target, vm) = match view.target {
        QuarantineTarget::Vm(uuid) => (format!("vm:{uuid}"), Some(uuid)),
        QuarantineTarget::Mac(mac) => (format!("mac:{mac}"), None),
        QuarantineTarget::Port { ifindex, instance } => {
            (format!("port:{ifindex}/{instance}"), None)
        }
    };
    QueueItem {
        host: host.to_owned(),
        target,
        name: view.name,
        status: "quarantined".to_owned(),
        since: Some(view.since),
        cause: Some(view.cause),
        mode: Some(view.mode),
        note: view.note,
        vm,
        evidence: Vec::new(),
    }
}
