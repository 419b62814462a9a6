use detector_core::{
    api::{Reply, Request, view::PolicyChange},
    decide::VmStatus,
};
use futures::{StreamExt, stream};
use serde::Serialize;

use crate::{desk::Desk, source::AskError};

/// Hosts that are asked at a time.
const AT_ONCE: usize = 16;

/// What another policy would change for the VMs of all hosts.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// VMs that were judged by both policies.
    pub vms: usize,
    /// VMs that would be judged otherwise.
    pub changes: usize,
    /// VMs that would be denied, …
    pub denied: usize,
    /// … and of how many of them a person would be asked first.
    pub held: usize,
    pub hosts: Vec<HostPlan>,
}

/// The same of one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostPlan {
    pub host: String,
    pub vms: usize,
    pub denied: usize,
    pub held: usize,
    pub changes: Vec<PolicyChange>,
    /// Why it is not known.
    pub why: Option<String>,
}

/// Asks every host what the policy would change there. Nothing is done.
pub async fn plan(desk: &Desk, who: &str, policy: &str) -> Plan {
    let hosts: Vec<_> = desk.estate().hosts.keys().cloned().collect();
    let asked = stream::iter(hosts).map(|host| async move {
        let request = Request::PolicyDiff { text: policy.to_owned() };
        let answer = desk.ask((&host, who), request).await;
        of_host(host, answer)
    });
    let mut hosts: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    let sum = |count: fn(&HostPlan) -> usize| hosts.iter().map(count).sum();
    Plan {
        vms: sum(|host| host.vms),
        changes: sum(|host| host.changes.len()),
        denied: sum(|host| host.denied),
        held: sum(|host| host.held),
        hosts,
    }
}

fn of_host(host: String, answer: Result<Reply, AskError>) -> HostPlan {
    let unknown = HostPlan { host, vms: 0, denied: 0, held: 0, changes: Vec::new(), why: None };
    match answer {
        Ok(Reply::PolicyDiff(diff)) => HostPlan {
            vms: diff.vms,
            denied: diff.changes.iter().filter(|one| one.to == VmStatus::Denied).count(),
            held: diff.held,
            changes: diff.changes,
            ..unknown
        },
        Ok(_) => HostPlan { why: Some("it has answered something else".to_owned()), ..unknown },
        Err(error) => HostPlan { why: Some(error.to_string()), ..unknown },
    }
}
