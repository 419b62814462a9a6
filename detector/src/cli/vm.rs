use std::io::Write;

use anyhow::Result;
use detector_core::decide::{Outcome, Requirement, VmStatus};
use serde::Serialize;

use super::{
    Done, Global,
    args::VmCommand,
    ask::{ask, unexpected},
    mitigation,
    output::{Output, Text, Tone},
    posture,
};
use crate::api::{
    Reply, Request,
    view::{EvidenceView, MediumView, VmView, vm_status},
};

pub(super) fn run(global: &Global, command: &VmCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        VmCommand::List => match ask(global, Request::VmList {})? {
            Reply::Vms(vms) => list(&mut output, &vms)?,
            other => return unexpected(&other),
        },
        VmCommand::Show { name } => match ask(global, Request::VmShow { name: name.clone() })? {
            Reply::Vm(vm) => show(&mut output, &vm)?,
            other => return unexpected(&other),
        },
    }
    Ok(Done::Fine)
}

pub(super) fn list<W: Write>(output: &mut Output<W>, vms: &[VmView]) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            vms: &'a [VmView],
        }
        return output.json(&List { vms });
    }
    let rows: Vec<_> = vms
        .iter()
        .map(|vm| {
            let ports: Vec<_> = vm.nics.iter().filter_map(|nic| nic.port.as_deref()).collect();
            let macs: Vec<_> = vm.nics.iter().map(|nic| nic.mac.as_str()).collect();
            let addresses = vm.nics.iter().flat_map(|nic| nic.addresses.iter().chain(&nic.learned));
            let addresses: Vec<_> = addresses.map(String::as_str).collect();
            let more = [vm.source.clone(), macs.join(" "), addresses.join(" ")];
            let row = vec![
                vm.name.as_str().into(),
                status(vm.status),
                power(vm).into(),
                vm.template_name().unwrap_or_else(|| "-".to_owned()).into(),
                ports.join(" ").into(),
                vm.since.map(|at| output.ago(at)).unwrap_or_default().into(),
                vm.uuid.to_string().into(),
            ];
            (row, more.map(Text::from).into())
        })
        .collect();
    let header = ["NAME", "STATUS", "POWER", "TEMPLATE", "PORTS", "SINCE", "UUID"];
    output.wide_table(&header, &["SOURCE", "MACS", "ADDRESSES"], rows)
}

pub(super) fn show<W: Write>(output: &mut Output<W>, vm: &VmView) -> Result<()> {
    if output.is_json() {
        return output.json(vm);
    }
    output.field("VM", vm.name.as_str())?;
    output.field("UUID", vm.uuid.to_string())?;
    output.field("Source", vm.source.as_str())?;
    output.field("Power", power(vm))?;
    output.field("Status", status(vm.status))?;
    vm.held.as_ref().map_or(Ok(()), |held| mitigation::field(output, held))?;
    output.field("Template", vm.template_name().unwrap_or_else(|| "none".to_owned()))?;
    for nic in &vm.nics {
        let port = nic.port.as_deref().unwrap_or("no port");
        let state = nic.status.map_or("", |state| state.as_str());
        output.field("NIC", format!("{} {port} {state} {}", nic.mac, nic.addresses.join(" ")))?;
        if !nic.learned.is_empty() {
            output.field("Learned", nic.learned.join(" "))?;
        }
    }
    requirements(output, &vm.requirements)?;
    media(output, &vm.media)?;
    vm.posture.as_ref().map_or(Ok(()), |posture| posture::print(output, posture))?;
    vm.guest.as_ref().map_or(Ok(()), |claims| posture::print_claims(output, claims))
}

/// Every requirement, met or not.
pub(super) fn requirements<W: Write>(
    output: &mut Output<W>,
    requirements: &[Requirement],
) -> Result<()> {
    if requirements.is_empty() {
        return Ok(());
    }
    output.heading("Requirements")?;
    for requirement in telling(requirements) {
        let (mark, tone) = match requirement.outcome {
            Outcome::Met => ("met", Tone::Good),
            Outcome::Failed => ("FAILED", Tone::Bad),
            Outcome::Unknown => ("unknown", Tone::Attention),
        };
        let mark = output.toned(&format!("{mark:<8}"), tone);
        let text = super::escape::escape(&requirement.finding);
        output.item(&format!("  {mark} {:<20} ", requirement.id), &text)?;
    }
    Ok(())
}

/// Without those of which nothing can be said because of another one: they tell nothing.
fn telling(requirements: &[Requirement]) -> impl Iterator<Item = &Requirement> {
    let fails = requirements.iter().any(|one| one.outcome == Outcome::Failed);
    let follows = move |one: &&Requirement| {
        one.outcome == Outcome::Unknown && (fails || one.remedy.is_empty())
    };
    requirements.iter().filter(move |one| !follows(one))
}

/// Whether the medium is the base of another one here, with which it has been told of already:
/// libvirt's description may state the chain that the image states too.
fn is_base_of_another(medium: &MediumView, media: &[MediumView]) -> bool {
    let EvidenceView::Chain { layers, sha256, .. } = &medium.evidence else { return false };
    media.iter().filter(|other| other.role == medium.role).any(|other| match &other.evidence {
        EvidenceView::Chain { layers: all, sha256: base, .. } => {
            base == sha256 && all.len() > layers.len() && all.ends_with(layers)
        }
        _ => false,
    })
}

/// What the VM boots from, and what reading it has shown.
pub(super) fn media<W: Write>(output: &mut Output<W>, media: &[MediumView]) -> Result<()> {
    if media.is_empty() {
        return Ok(());
    }
    output.heading("Media")?;
    for medium in media.iter().filter(|medium| !is_base_of_another(medium, media)) {
        let (text, digest) = match &medium.evidence {
            EvidenceView::Pending => (format!("{}: not read yet", medium.source), None),
            EvidenceView::Unreadable(why) => {
                (format!("{}: cannot be read: {why}", medium.source), None)
            }
            EvidenceView::Remote => {
                (format!("{}: cannot be digested on this host", medium.source), None)
            }
            EvidenceView::Chain { layers, sha256, at_birth } => {
                let when = if *at_birth { " before its VM ran, by a certificate" } else { "" };
                (layers.join(" on "), Some(format!("{sha256}{when}")))
            }
        };
        let of = medium.snapshot_of.as_ref();
        let of =
            of.map_or_else(String::new, |of| format!(", a snapshot of {of} by its manager's word"));
        let text = super::escape::escape(&format!("{text}{of}"));
        output.item(&format!("  {:<8} ", medium.role.as_str()), &text)?;
        if let Some(digest) = digest {
            output.line(&format!("{:11}sha256 {digest}", ""))?;
        }
    }
    Ok(())
}

pub(super) fn status(status: VmStatus) -> Text {
    let tone = match status {
        VmStatus::Approved => Tone::Good,
        VmStatus::Pending => Tone::Attention,
        VmStatus::Denied | VmStatus::Quarantined => Tone::Bad,
        VmStatus::Off => Tone::Plain,
    };
    Text(vm_status(status).to_owned(), tone)
}

fn power(vm: &VmView) -> &'static str {
    use detector_core::model::PowerState;
    match vm.power {
        PowerState::Starting => "starting",
        PowerState::Running => "running",
        PowerState::Paused => "paused",
        PowerState::InTransit => "in-transit",
        PowerState::Off => "off",
    }
}
