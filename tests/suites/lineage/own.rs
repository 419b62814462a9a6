//! What a VM has of its own: variables that its firmware stores, and block devices.

use std::path::{Path, PathBuf};

use detector_core::decide::policy::DEFAULT;
use detector_tests::block::LoopDevice;
use sha2::{Digest, Sha256};

use super::*;

/// The rule that the built-in policy shows how to ask.
const ASKS: &str = r#"
@id("variables-known")
@sentence("The variables of a VM's firmware come from its template.")
forbid (principal, action == Action::"join", resource)
unless {
  principal has lineage.variables
  && ["none", "template", "certificate"].contains(principal.lineage.variables)
};
"#;

fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_at_the_start(path: &Path, text: &str) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

/// Firmware that halts, and what its variables are made from.
fn firmware(host: &Host) -> (PathBuf, PathBuf) {
    let files = [("code.fd", 0xf4, 256 << 10), ("vars.fd", 0xff, 64 << 10)];
    let [code, variables] = files.map(|(name, byte, size)| {
        let path = host.path(name);
        std::fs::write(&path, vec![byte; size]).unwrap();
        path
    });
    (code, variables)
}

/// Libvirt makes the variables from the template's at the first start; from then on they are the VM's own, until
/// somebody else has had them.
#[test]
fn stored_variables_come_from_the_template_or_prove_nothing() {
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let (code, variables) = firmware(&host);
    let mut manifest = image.manifest("lab").unwrap();
    for path in [&code, &variables] {
        let digest = digest(path);
        manifest.push_str(&format!("[[image]]\nrole = \"firmware\"\nsha256 = \"{digest}\"\n"));
    }
    let templates = vec![("lab.toml".to_owned(), manifest)];
    let settings = Settings { templates, ..settings(&image) };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    std::fs::write(host.path("policy.cedar"), format!("{ASKS}{DEFAULT}")).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();

    let guest = Guest::new("efi", 27);
    let stored = host.path("efi.vars");
    libvirt.define(&guest, &image, "br0").unwrap();
    let os = format!(
        "<loader readonly='yes' type='pflash'>{}</loader>\
         <nvram template='{}'>{}</nvram></os>",
        code.display(),
        variables.display(),
        stored.display()
    );
    let domain = guest.domain(&image, "br0", host.directory()).replace("</os>", &os);
    libvirt.define_as(&guest, &domain).unwrap();
    let start = |daemon: &Daemon<'_>, more: &[&str], status: &str, said: &str| {
        libvirt.virsh(&[&["start", "efi"], more].concat()).unwrap();
        daemon.await_port(&libvirt.tap(&guest).unwrap(), status, PATIENCE).unwrap();
        let shown = daemon.show(&["vm", "show", "efi"]).unwrap();
        assert!(shown.contains(said), "{said:?} is not in: {shown}");
    };
    let is_recorded_to_run = || {
        let held = std::fs::read_to_string(host.path("state/certificates.json"));
        held.unwrap_or_default().contains("\"rest\": null")
    };
    let end = || {
        let begins = "its beginning to be recorded";
        wait::until(begins, PATIENCE, || Ok(is_recorded_to_run().then_some(()))).unwrap();
        // Libvirt has let go of its files once it is on record what they are like.
        libvirt.destroy(&guest).unwrap();
        assert!(!is_recorded_to_run(), "libvirt was not held up");
    };
    start(&daemon, &[], "granted", "are the template's");
    // What the firmware would write.
    write_at_the_start(&stored, "a boot entry");
    end();
    start(&daemon, &[], "granted", "A certificate of birth says that the variables");
    write_at_the_start(&stored, "another one");
    // A daemon that begins anew takes nothing away, and knows the end of the run.
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port(&libvirt.tap(&guest).unwrap(), "kept", PATIENCE).unwrap();
    end();
    start(&daemon, &[], "granted", "A certificate of birth says that the variables");
    end();
    // Somebody else, while it is off.
    write_at_the_start(&stored, "other keys");
    start(&daemon, &[], "isolated", "are not the template's");
    daemon.await_finding("rogue-vm", "variables-known", PATIENCE).unwrap();
    libvirt.destroy(&guest).unwrap();
    // Made anew from the template's, it is released by a person.
    libvirt.virsh(&["start", "efi", "--reset-nvram"]).unwrap();
    let tap = libvirt.tap(&guest).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();
    wait::until("the release of the VM", PATIENCE, || {
        let released = daemon.ask(&["quarantine", "release", "vm", "efi"])?;
        Ok((released.code == 0).then_some(()))
    })
    .unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();
}

/// A block device is proven by what is on it, each time: a full copy on one as well.
#[test]
fn a_block_device_is_what_is_on_it() {
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let copy = host.path("copy");
    std::fs::copy(&image.disk, &copy).unwrap();
    let device = match LoopDevice::attach(&copy) {
        Ok(device) => device,
        Err(error) => return println!("skipped: no loop device ({error:#})"),
    };
    if digest(&device.path) != digest(&copy) {
        // A device has whole sectors, so that its digest is that of a file of that size.
        return println!("skipped: the image does not end with a sector");
    }
    let settings = Settings { evidence: "certificate", ..settings(&image) };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guest = Guest::new("block", 28);
    libvirt.define(&guest, &image, "br0").unwrap();
    let file = guest.overlay(host.directory()).display().to_string();
    let domain = guest
        .domain(&image, "br0", host.directory())
        .replace("<disk type='file'", "<disk type='block'")
        .replace(
            &format!("<source file='{file}'/>"),
            &format!("<source dev='{}'/>", device.path.display()),
        );
    libvirt.define_as(&guest, &domain).unwrap();
    let run = |status: &str| {
        libvirt.start_domain(&guest).unwrap();
        daemon.await_port(&libvirt.tap(&guest).unwrap(), status, PATIENCE).unwrap();
        libvirt.destroy(&guest).unwrap();
    };
    run("granted");
    run("granted");
    // Nothing tells whether that was the guest: there is no certificate of a device.
    let written = std::fs::File::options().write(true).open(&device.path).unwrap();
    written.write_all_at(b"evil", copy.metadata().unwrap().len() - 512).unwrap();
    written.sync_all().unwrap();
    drop(written);
    run("isolated");
}
