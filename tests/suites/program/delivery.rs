//! The loaded programs at the places where frames are delivered, against the functions that they are compiled
//! from: whatever a frame carries, and wherever it came in.

use detector_common::gate;
use detector_tests::needs::Need;

use super::*;

/// No interface has a slot with this number.
const STRANGER: u32 = 77;
const STAMP: Stamp = Stamp::DEFAULT;
/// What a frame carries in its mark: nothing, the stamp, the stamp beside somebody's bits, and only those.
const MARKS: [u32; 5] = [0, STAMP.value, STAMP.value | 0xbeef, 0xbeef, !STAMP.value];

#[test]
fn kernel_and_host_agree_on_what_is_delivered() {
    NetNs::new().unwrap().run(compare).unwrap();
}

fn compare() -> Result<()> {
    let mut port = Port::new()?;
    let place = |name: &str, link: &str| -> Result<u32> {
        let made = std::process::Command::new("ip")
            .args(["link", "add", name])
            .args(link.split_whitespace())
            .status()?;
        ensure!(made.success(), "cannot make {name}");
        Ok(nix::net::if_::if_nametoindex(name)?)
    };
    let bridge = place("br0", "type bridge")?;
    let uplink = place("up0", "type veth peer name up1")?;
    port.enforcer.execute(&Action::AttachBridge { ifindex: bridge, name: "br0".to_owned() })?;
    port.enforcer.execute(&Action::AttachUplink { ifindex: uplink, name: "up0".to_owned() })?;
    let all = [0, LO, bridge, uplink, STRANGER];
    let sources = if needs::lacks(&[Need::SourceOfTestRun]) { &all[..1] } else { &all[..] };
    let mut compared = 0;
    let guests = [0, flags::GRANTED, flags::ISOLATED, flags::GRANTED | flags::ISOLATED];
    let kinds = guests.iter().flat_map(|flags| [false, true].map(|switched| (*flags, switched)));
    for (flags, switched) in kinds {
        for ifindex in [LO, bridge, uplink] {
            let instance = port.enforcer.observe()?.interfaces[&ifindex].slot.instance;
            port.enforcer.execute(&Action::SetSwitched { ifindex, instance, switched })?;
        }
        let (ifindex, instance) = (LO, port.instance);
        let slot = SlotEntry { flags, mac: MAC_A, ..SlotEntry::default() };
        port.enforcer.execute(&Action::WriteSlot { ifindex, instance, slot })?;
        for source in sources {
            for mark in MARKS {
                compared += delivered(&mut port, bridge, uplink, *source, mark)?;
            }
        }
    }
    println!("{compared} frames delivered or not");
    ensure!(compared == 8 * sources.len() * MARKS.len() * 4, "{compared} were compared");
    Ok(())
}

/// One frame at each of four places.
fn delivered(port: &mut Port, bridge: u32, uplink: u32, source: u32, mark: u32) -> Result<usize> {
    let interfaces = port.enforcer.observe()?.interfaces;
    let slot_of = |ifindex: u32| interfaces.get(&ifindex).map(|one| one.slot);
    let (guest, from) = (slot_of(LO).context("no slot")?, slot_of(source));
    let is_stamped = match mark & STAMP.mask {
        bits if bits == STAMP.refused() => guest.has(flags::SWITCHED),
        bits => bits == STAMP.value,
    };
    // All places are in a datapath of Open vSwitch, or none is.
    let vetted = || {
        let sourceless = || gate::vet_sourceless(Some(&guest), || is_stamped, || false);
        gate::vet_source(source, || is_stamped, |_| from.as_ref(), sourceless)
    };
    let routed = match source {
        0 => Reason::HostOwn,
        _ => gate::vet_routed(from.as_ref()),
    };
    let places = [
        (LO, "lo", Hook::Egress, gate::vet_towards(&guest, vetted, || false)),
        (uplink, "up0", Hook::Egress, vetted()),
        (bridge, "br0", Hook::Egress, routed),
        (bridge, "br0", Hook::Ingress, gate::vet_for_host(is_stamped, || false)),
    ];
    for (ifindex, name, hook, expect) in places {
        let program = port.program(ifindex, name, hook)?;
        let context = SkBuff::on(ifindex).came_in_by(source).with_mark(mark);
        let before = port.enforcer.counts(ifindex)?.context("no counters")?.to;
        let dropped = bpf::run(program.as_fd(), &context, &tcp4(MAC_A, IP_A), 1)? == SHOT;
        let after = port.enforcer.counts(ifindex)?.context("no counters")?.to;
        let moved: Vec<_> =
            after.iter().filter(|(one, count)| before.get(one) != Some(count)).collect();
        let what = format!("{name} {hook:?}, from {source}, mark {mark:#x}, {guest:?}");
        ensure!(dropped != expect.passes(), "{what}: {expect:?}, and dropped: {dropped}");
        let counted: Vec<_> = moved.into_iter().map(|(reason, _)| *reason).collect();
        let told = if dropped { vec![expect] } else { Vec::new() };
        ensure!(counted == told, "{what}: {expect:?}, and counted {counted:?}");
    }
    Ok(4)
}
