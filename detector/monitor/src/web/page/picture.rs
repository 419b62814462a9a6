//! Host → bridge → port → VM, as lists within each other: whoever needs somebody comes first.

use maud::{Markup, html};

use super::part::{empty, host_path, icon, segment, state, text, vm_path};
use crate::view::{HostView, PortRow};

/// At one place so many are shown at the most; the rest is counted.
pub(super) fn show(view: &HostView, most: usize) -> Markup {
    let host = &view.row;
    html! {
        @if let Some(why) = &view.unasked {
            div.note.bad { (icon("alert")) p { "Its ports are not shown: " (text(why)) } }
        }
        ul.tree {
            li {
                a.node href=(host_path(&host.name)) {
                    (icon("host")) strong { (text(&host.name)) }
                    @if let Some(mode) = &host.mode { (state(mode)) }
                }
                ul {
                    @for bridge in &view.bridges {
                        li {
                            div.node {
                                (icon("bridge")) strong { (text(&bridge.name)) }
                                @if !bridge.uplinks.is_empty() {
                                    span.hint { "out by " @for (number, uplink) in bridge.uplinks.iter().enumerate() { @if number > 0 { ", " } (text(uplink)) } }
                                }
                            }
                            @if bridge.ports.is_empty() { ul { li { span.node.quiet { "No guest is plugged in" } } } }
                            @else { (leaves(&host.name, &bridge.ports, most)) }
                        }
                    }
                    @if !view.portless.is_empty() {
                        li {
                            div.node { (icon("off")) "Without a port" span.hint { (view.portless.len()) } }
                            (leaves(&host.name, &view.portless, most))
                        }
                    }
                }
            }
        }
        @if view.bridges.is_empty() && view.portless.is_empty() && view.unasked.is_none() {
            (empty("bridge", "Nothing to guard yet", &html! { "Name bridges in " code { "network.bridges" } " of the host's configuration, or plug a VM in." }))
        }
    }
}

fn leaves(host: &str, ports: &[PortRow], most: usize) -> Markup {
    let mut ports: Vec<_> = ports.iter().collect();
    ports.sort_by_key(|port| (is_fine(port), &port.vm_name, &port.name));
    let rest = ports.split_off(most.min(ports.len()));
    html! {
        ul {
            @for port in ports { (leaf(host, port)) }
            @if !rest.is_empty() {
                li {
                    a.node href=(format!("/vms?host={}", segment(host))) {
                        "and " (rest.len()) " more"
                        @if rest.iter().all(|port| is_fine(port)) { span.hint { "all fine" } }
                    }
                }
            }
        }
    }
}

fn is_fine(port: &PortRow) -> bool {
    let state = port.vm_status.as_deref();
    matches!(state, Some("approved" | "off")) && (port.name.is_empty() || port.status == "granted")
}

fn leaf(host: &str, port: &PortRow) -> Markup {
    html! {
        li {
            div.pair {
                @if !port.name.is_empty() {
                    span.node title=[port.why.as_deref().map(detector_core::escape::escape)] {
                        (icon("port")) (text(&port.name)) (state(&port.status))
                        @if let Some(isolation) = &port.isolation { span.hint { (isolation) } }
                    }
                }
                @match (port.vm, &port.vm_name) {
                    (Some(vm), Some(name)) => {
                        a.node href=(vm_path(host, vm)) {
                            (icon("vm")) strong { (text(name)) }
                            @if let Some(word) = &port.vm_status { (state(word)) }
                        }
                    }
                    _ => span.node.unknown { (icon("alert")) "No VM is known behind it" }
                }
            }
        }
    }
}
