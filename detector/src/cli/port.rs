use std::io::Write;

use anyhow::Result;
use detector_common::maps::SIGHTINGS_PER_PORT;
use serde::Serialize;

use super::{
    Done, Global,
    args::PortCommand,
    ask::{try_ask, unexpected},
    output::{Output, Text, Tone},
    pins::{self, Origin},
};
use crate::api::{
    Reply, Request,
    view::{CountersView, IdentityView, LearnedView, PortState, PortView, SightingView},
};

pub(super) fn run(global: &Global, command: &PortCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        PortCommand::List => {
            let (origin, ports) = match try_ask(global, Request::PortList { counters: false })? {
                Ok(Reply::Ports(ports)) => (Origin::Daemon, ports),
                Ok(other) => return unexpected(&other),
                Err(error) => (Origin::Pins, pins::instead(global, error)?.ports),
            };
            list(&mut output, origin, &ports)?;
        }
        PortCommand::Show { name } => {
            let request = Request::PortShow { name: name.clone() };
            let (origin, port) = match try_ask(global, request)? {
                Ok(Reply::Port(port)) => (Origin::Daemon, *port),
                Ok(other) => return unexpected(&other),
                Err(error) => (Origin::Pins, pins::instead(global, error)?.port(name)?),
            };
            show(&mut output, origin, &port)?;
        }
    }
    Ok(Done::Fine)
}

pub(super) fn list<W: Write>(
    output: &mut Output<W>,
    source: Origin,
    ports: &[PortView],
) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            source: Origin,
            ports: &'a [PortView],
        }
        return output.json(&List { source, ports });
    }
    let rows: Vec<_> = ports
        .iter()
        .map(|port| {
            let row = vec![
                port.name.as_str().into(),
                port.role.as_str().into(),
                state(port.status),
                port.bridge.as_deref().or(port.device.as_deref()).unwrap_or("-").into(),
                port.vm.as_ref().map_or("-", |vm| vm.name.as_str()).into(),
                macs(port).into(),
                port.why.as_deref().unwrap_or_default().into(),
            ];
            let more = vec![
                port.ifindex.to_string().into(),
                port.instance.to_string().into(),
                port.since.map(|at| output.ago(at)).unwrap_or_default().into(),
                addresses(port).into(),
                port.isolation.as_deref().unwrap_or("-").into(),
            ];
            (row, more)
        })
        .collect();
    let header = ["PORT", "ROLE", "STATUS", "BRIDGE", "VM", "MAC", "WHY"];
    let more = ["IFINDEX", "INSTANCE", "SINCE", "ADDRESSES", "ISOLATION"];
    output.wide_table(&header, &more, rows)
}

pub(super) fn show<W: Write>(
    output: &mut Output<W>,
    source: Origin,
    port: &PortView,
) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Show<'a> {
            source: Origin,
            #[serde(flatten)]
            port: &'a PortView,
        }
        return output.json(&Show { source, port });
    }
    let place = format!("{} (ifindex {}, instance {})", port.name, port.ifindex, port.instance);
    output.field("Port", place)?;
    output.field("Role", port.role.as_str())?;
    if let Some(bridge) = &port.bridge {
        output.field("Bridge", bridge.as_str())?;
    }
    if let Some(device) = &port.device {
        output.field("Device", device.as_str())?;
    }
    output.field("Status", state(port.status))?;
    match port.isolation.as_deref() {
        Some("sandbox") if port.passage => {
            output.field("Isolation", "it speaks with the sandbox only")?;
        }
        Some("sandbox") => {
            output.field("Isolation", "sandbox, to which there is no way: it is cut off")?;
        }
        Some(_) => output.field("Isolation", "it neither sends nor receives")?,
        None => (),
    }
    services(output, port.services.as_deref())?;
    if port.shield {
        output.field("Shield", "on: it floods, and its frames end at the device")?;
    }
    if port.observed {
        output.field("Mode", "observe, as configured: what is refused goes on")?;
    }
    if let Some(why) = &port.why {
        output.field("Why", why.as_str())?;
    }
    if let Some(since) = port.since {
        output.field("Since", output.ago(since))?;
    }
    if let Some(vm) = &port.vm {
        output.field("VM", format!("{} ({})", vm.name, vm.uuid))?;
    }
    identities(output, &port.identities)?;
    learned(output, &port.learned)?;
    if let Some(counted) = &port.counters {
        counters(output, counted)?;
    }
    sightings(output, &port.sightings)?;
    match port.unlisted() {
        0 => Ok(()),
        count => output.item("  ", &unlisted(count)),
    }
}

/// What is said where a port has claimed more than is kept.
pub(super) fn unlisted(frames: u64) -> String {
    format!(
        "and {frames} more frame{} by claims that are not listed: a port has {SIGHTINGS_PER_PORT} places, \
         and later claims have taken theirs",
        if frames == 1 { "" } else { "s" }
    )
}

/// What is granted.
pub(super) fn identities<W: Write>(
    output: &mut Output<W>,
    identities: &[IdentityView],
) -> Result<()> {
    for identity in identities {
        let mut text = identity.mac.clone();
        if identity.vlan != 0 {
            text.push_str(&format!(" VLAN {}", identity.vlan));
        }
        if identity.addresses.is_empty() {
            text.push_str(" link-local only");
        }
        for word in &identity.addresses {
            text.push(' ');
            text.push_str(word);
        }
        if identity.dhcp_server {
            text.push_str(" (DHCP server)");
        }
        if identity.router {
            text.push_str(" (router)");
        }
        if identity.vrrp {
            text.push_str(" (virtual router)");
        }
        output.field("Granted", text)?;
    }
    Ok(())
}

/// What it may reach in the sandbox, where that is limited.
pub(super) fn services<W: Write>(output: &mut Output<W>, named: Option<&[String]>) -> Result<()> {
    match named {
        Some([]) => output.field("Reaches", "nothing: the sandbox offers no service"),
        Some(named) => named.iter().try_for_each(|one| output.field("Reaches", one.as_str())),
        None => Ok(()),
    }
}

/// What it has learned.
pub(super) fn learned<W: Write>(output: &mut Output<W>, learned: &[LearnedView]) -> Result<()> {
    for one in learned {
        let vlan = if one.vlan == 0 { String::new() } else { format!(" VLAN {}", one.vlan) };
        let until = match one.expires {
            Some(at) => format!("until {}", at.strftime("%F %T UTC")),
            None => "without end".to_owned(),
        };
        let text = format!("{}{vlan} {} ({}, {until})", one.mac, one.address, one.origin);
        output.field("Learned", text)?;
    }
    Ok(())
}

/// Frames, and those that were refused by reason, the most frequent first.
pub(super) fn counters<W: Write>(output: &mut Output<W>, counters: &CountersView) -> Result<()> {
    let CountersView { frames, from, to, .. } = counters;
    for (name, frames, counts) in [("From guest", frames.from, from), ("To guest", frames.to, to)] {
        let mut counts: Vec<_> = counts.iter().collect();
        counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), (*reason).clone()));
        let text: Vec<_> =
            counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let refused =
            if text.is_empty() { String::new() } else { format!("; refused: {}", text.join(", ")) };
        output.field(name, format!("{frames} frames{refused}"))?;
    }
    if counters.events_lost > 0 || counters.events_held > 0 {
        let text = format!("{} lost, {} held back", counters.events_lost, counters.events_held);
        output.field("Reports", text)?;
    }
    Ok(())
}

/// What was claimed without a grant.
pub(super) fn sightings<W: Write>(output: &mut Output<W>, seen: &[SightingView]) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    output.heading("Claims without a grant")?;
    let rows = seen
        .iter()
        .map(|seen| {
            vec![
                seen.mac.as_str().into(),
                seen.vlan.to_string().into(),
                seen.ethertype.as_str().into(),
                seen.address.as_deref().unwrap_or("-").into(),
                seen.count.to_string().into(),
                seen.last.map(|at| output.ago(at)).unwrap_or_default().into(),
                seen.describe.as_str().into(),
            ]
        })
        .collect();
    output.table(&["MAC", "VLAN", "TYPE", "ADDRESS", "FRAMES", "LAST", "WHY"], rows)
}

pub(super) fn state(state: PortState) -> Text {
    let tone = match state {
        PortState::Granted => Tone::Good,
        PortState::Isolated => Tone::Bad,
        PortState::Pending | PortState::Kept | PortState::Unguarded => Tone::Attention,
        PortState::Gate => Tone::Plain,
    };
    Text(state.as_str().to_owned(), tone)
}

/// What is granted, and what was learned of it.
fn addresses(port: &PortView) -> String {
    let granted = port.identities.iter().flat_map(|identity| &identity.addresses);
    let learned = port.learned.iter().map(|one| &one.address);
    let mut all: Vec<_> = granted.chain(learned).map(String::as_str).collect();
    all.dedup();
    all.join(" ")
}

fn macs(port: &PortView) -> String {
    let mut macs: Vec<_> = port.identities.iter().map(|identity| identity.mac.as_str()).collect();
    macs.dedup();
    macs.join(" ")
}
