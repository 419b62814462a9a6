//! Frames whose outer tag the network stack has moved into their metadata, which no test run can have: they go
//! through a tap, where the guard has judged a frame when it has been written.

use detector_tests::tap::{Header, Tap};

use super::*;

/// Tagged frames of the stream, for each kind of port.
const TAGGED: usize = 1_000;
/// The tags that the network stack takes out of a frame; others stay where they are.
const TAKEN_OUT: [u16; 2] = [0x8100, 0x88a8];

#[test]
fn kernel_and_host_agree_on_tags_in_metadata() {
    let network = NetNs::new().unwrap();
    let tap = Tap::open(&network, "tap0", Header::None).unwrap();
    network.ip("link set tap0 up").unwrap();
    network.run(|| compare(&tap)).unwrap();
}

fn compare(tap: &Tap) -> Result<()> {
    let ifindex = nix::net::if_::if_nametoindex(tap.name())?;
    let mut port = Port::on(ifindex, tap.name())?;
    let slowness = wait::slowness();
    let tagged: Vec<_> = frames::stream(frames::SEED)
        .filter_map(|arrival| arrival.tag.map(|tag| (tag, arrival.bytes)))
        .filter(|((kind, _), bytes)| TAKEN_OUT.contains(kind) && bytes.len() >= SHORT)
        .take(TAGGED / slowness as usize)
        .collect();
    for (identity, wanted) in granted::ports() {
        port.admit(wanted)?;
        for (tag @ (kind, tci), bytes) in &tagged {
            port.lease()?;
            let header = [kind.to_be_bytes(), tci.to_be_bytes()].concat();
            tap.send(&[&bytes[..12], &header, &bytes[12..]].concat())?;
            let arrival = Arrival { bytes: bytes.clone(), tag: Some(*tag), in_segments: false };
            port.compare(&format!("{identity}: tag {tag:04x?}, {bytes:02x?}"), &arrival)?;
        }
    }
    let Port { granted, dropped, .. } = port;
    println!("{granted} granted, {dropped} dropped, of {} tagged frames", tagged.len());
    let enough = granted > 200 / u64::from(slowness) && dropped > 1_000 / u64::from(slowness);
    ensure!(enough, "{granted} granted, {dropped} dropped");
    Ok(())
}
