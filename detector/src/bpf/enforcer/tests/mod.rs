mod lifecycle;
mod mode;
mod passages;
mod quarantine;
mod shield;
mod slots;
mod tamper;

use std::{collections::BTreeSet, fs, time::Duration};

use aya::maps::{Array, MapData};
use detector_common::{
    addr::{Address, Mac},
    maps::{self, PORT_SLOTS},
    port::{GrantKey, Role, flags},
    quarantine::Cause,
    reason::Reason,
    settings::Mode,
    stamp::{Carrier, Stamp},
};
use detector_core::{
    model::{Observed, ObservedInterface, Quarantine, QuarantineTarget, Shield, Timestamp},
    reconcile::{Action, GrantEntry, SlotEntry},
};

use super::{
    KernelEnforcer, Options,
    testing::{PinRoot, Tap},
};
use crate::{
    bpf::{BpfError, Hook, Inspector, Method, PinPaths, probe},
    enforcer::Enforcer,
    net::{
        link_by_name,
        testing::{NetNs, ip, run},
    },
};

/// The enforcer may be driven from a thread of its own.
const fn is_send<T: Send>() {}
const _: () = is_send::<KernelEnforcer>();

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

fn open_by(root: &PinRoot, method: Option<Method>) -> Result<KernelEnforcer, BpfError> {
    let pins = root.path().to_owned();
    KernelEnforcer::open(&Options { pins, stamp: Stamp::default(), method })
}

fn open(root: &PinRoot) -> KernelEnforcer {
    open_by(root, None).unwrap()
}

/// How programs can be attached on this kernel.
fn methods() -> Vec<Method> {
    let all = [Method::Tcx, Method::Clsact];
    all.into_iter().filter(|m| *m != Method::Tcx || probe().unwrap().tcx).collect()
}

fn ifindex(name: &str) -> u32 {
    link_by_name(name).unwrap().unwrap().ifindex
}

fn tap(name: &str) -> u32 {
    ip(&format!("tuntap add {name} mode tap"));
    ifindex(name)
}

fn guard(ifindex: u32) -> Action {
    Action::AttachGuard { ifindex, name: format!("test {ifindex}") }
}

fn granted() -> SlotEntry {
    SlotEntry {
        flags: flags::GRANTED | flags::V4,
        mac: MAC,
        v4: [192, 0, 2, 7],
        v4_mask: [255; 4],
        ..SlotEntry::default()
    }
}

fn carry_out(enforcer: &mut KernelEnforcer, actions: &[Action]) {
    for action in actions {
        enforcer.execute(action).unwrap_or_else(|error| panic!("{action:?}: {error}"));
    }
}

fn interface(enforcer: &mut KernelEnforcer, ifindex: u32) -> ObservedInterface {
    enforcer.observe().unwrap().interfaces.remove(&ifindex).expect("it has a slot")
}

/// What the mirror says is what the kernel holds.
fn assert_in_sync(enforcer: &mut KernelEnforcer) -> Observed {
    let mirror = enforcer.observe().unwrap();
    enforcer.resync().unwrap();
    assert_eq!(enforcer.observe().unwrap(), mirror);
    mirror
}

/// A broadcast from the granted MAC, of an EtherType that is never let through.
fn unknown_frame() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    frame
}
