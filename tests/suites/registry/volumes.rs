//! Volumes of LVM and snapshots of them, where the kernel has them.

use std::os::unix::fs::FileExt;

use detector_tests::block::VolumeGroup;
use detector_tests::needs::{Need, lacks};

use super::*;

const SIZE: usize = 8 << 20;

/// A snapshot is an image of the template for as long as its guest has written nothing, whatever becomes of the
/// volume that it was taken of.
#[test]
fn a_snapshot_is_known_until_its_guest_writes() {
    if lacks(&[Need::Snapshots]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[]).unwrap();
    let name = format!("detector-lab-{}", scene.host().number());
    let group = VolumeGroup::make(&name, &scene.host().path("disks"), 8 * SIZE).unwrap();
    let write = |volume: &str, what: &[u8]| {
        let device = fs::File::options().write(true).open(group.path(volume)).unwrap();
        device.write_all_at(what, 4096).unwrap();
        device.sync_all().unwrap();
    };
    group.volume("base", SIZE).unwrap();
    write("base", b"as it was reviewed");
    let base = group.path("base").display().to_string();
    run(&daemon, &["template", "add", "golden", "--disk", &base, "--approve"], 0);
    for snapshot in ["fresh", "used"] {
        group.snapshot(snapshot, "base", SIZE / 2).unwrap();
    }
    let is_known = |volume: &str| {
        let device = group.path(volume).display().to_string();
        let answer = daemon.ask(&["template", "verify", &device, "--format", "raw"]).unwrap();
        assert!([0, 3].contains(&answer.code), "{answer:?}");
        answer.code == 0
    };
    assert!(is_known("base") && is_known("fresh") && is_known("used"));
    write("used", b"and then by its guest");
    assert!(is_known("fresh") && !is_known("used"));
    write("base", b"and then by somebody");
    assert!(!is_known("base") && is_known("fresh"));

    // What libvirt asks for, and the stand-in of another suite answers.
    let asked = "lv_name,origin,uuid,devices,segtype,stripes,seg_size,vg_extent_size,size,lv_attr";
    let listed = group.list(asked).unwrap();
    let origins: Vec<_> = listed.iter().map(|fields| (&*fields[0], &*fields[1])).collect();
    assert_eq!(origins, [("base", ""), ("fresh", "base"), ("used", "base")]);
    assert!(listed.iter().all(|fields| fields.len() == 10 && fields[4] == "linear"), "{listed:?}");
}
