//! Disks that are volumes of a storage pool.

use detector_tests::daemon::Daemon;
use detector_tests::guest::Guest;
use detector_tests::libvirt::Libvirt;
use detector_tests::wait;

use super::{Lab, PATIENCE};

/// A domain that names a pool and a volume only is judged by the file that libvirt says it is.
#[test]
fn a_volume_is_the_file_that_its_pool_says() {
    let lab = Lab::new();
    let mut daemon = Daemon::configure(&lab.host, &lab.settings()).unwrap();
    let libvirt = Libvirt::start(&lab.host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let images = lab.host.path("pool");
    std::fs::create_dir(&images).unwrap();
    let base = images.join("base.qcow2");
    std::fs::copy(&lab.image.disk, &base).unwrap();
    let foreign = images.join("foreign.qcow2");
    let other = detector_tests::guest::Image::make(&images, "other", "from somewhere").unwrap();
    std::fs::rename(other.disk, &foreign).unwrap();
    let directory = images.to_str().unwrap();
    libvirt.virsh(&["pool-create-as", "images", "dir", "--target", directory]).unwrap();
    for (clone, of) in [("one", "base.qcow2"), ("two", "foreign.qcow2")] {
        let create = ["vol-create-as", "images", clone, "1M", "--format", "qcow2"];
        let backing = ["--backing-vol", of, "--backing-vol-format", "qcow2"];
        libvirt.virsh(&[&create[..], &backing].concat()).unwrap();
    }
    for (name, number, status) in [("one", 61, "granted"), ("two", 62, "isolated")] {
        let guest = Guest::new(name, number);
        let file = guest.overlay(lab.host.directory()).display().to_string();
        let xml = guest
            .domain(&lab.image, "br0", lab.host.directory())
            .replace("<disk type='file'", "<disk type='volume'")
            .replace(
                &format!("<source file='{file}'/>"),
                &format!("<source pool='images' volume='{name}'/>"),
            );
        let path = lab.host.path(&format!("{name}.xml"));
        std::fs::write(&path, xml).unwrap();
        libvirt.virsh(&["define", path.to_str().unwrap()]).unwrap();
        let file = format!("{directory}/{name}");
        wait::until("where the volume is", PATIENCE, || {
            Ok(daemon.show(&["vm", "show", name])?.contains(&file).then_some(()))
        })
        .unwrap();
        libvirt.start_domain(&guest).unwrap();
        let tap = libvirt.tap(&guest).unwrap();
        daemon.await_port(&tap, status, PATIENCE).unwrap();
    }
}
