//! A VM is made from an approved template in the place of one that was not approved.

use std::collections::BTreeMap;
use std::fs;

use detector::remediate::replace::{Cloning, Replaced, Replacement, TemplateFile};
use detector::remediate::storage::StorageError;
use detector_tests::capture::Capture;
use detector_tests::flow::Flow;
use detector_tests::guest::{Guest, Image, hex};
use detector_tests::hands::{Answer, Deed, Order, Then};
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::{link, wait};

use super::{BOOT, HANDS, Lab, POOL, URI, digest};

/// No replacement says more.
const MOST: u32 = 20;

fn replacement(approved: &Image, guest: &Guest, cloning: Cloning) -> Replacement {
    let file = |path: &std::path::Path, format: &str| TemplateFile {
        path: path.to_owned(),
        format: format.to_owned(),
        sha256: digest(path).parse().unwrap(),
    };
    Replacement {
        uri: URI.to_owned(),
        former: guest.uuid.parse().unwrap(),
        workflow: "1700000000".to_owned(),
        date: "20231114".to_owned(),
        disk: file(&approved.disk, "qcow2"),
        kernel: Some(file(&approved.kernel, "raw")),
        initrd: Some(file(&approved.initrd, "raw")),
        arguments: Some(format!(
            "console=ttyS0 quiet panic=-1 tsc=unstable det.ip={} det.first=50 det.pace_ms=5",
            guest.ip
        )),
        pool: POOL.to_owned(),
        cloning,
    }
}

fn order(lab: &Lab, replacement: &Replacement) -> Order {
    Order::Replace { replacement: Box::new(replacement.clone()), state: lab.host.path("state") }
}

fn replaced(lab: &Lab, replacement: &Replacement) -> Replaced {
    match lab.ask(&order(lab, replacement)) {
        Answer::Replaced(replaced) => replaced,
        other => panic!("{other:?}"),
    }
}

fn xml(libvirt: &Libvirt<'_>, name: &str) -> String {
    libvirt.virsh(&["dumpxml", "--inactive", "--security-info", name]).unwrap()
}

/// All VMs with their descriptions, by name.
fn all(libvirt: &Libvirt<'_>) -> BTreeMap<String, String> {
    let names = libvirt.virsh(&["list", "--all", "--name"]).unwrap();
    names.split_whitespace().map(|name| (name.to_owned(), xml(libvirt, name))).collect()
}

#[test]
fn it_has_the_names_and_networks_of_the_former_one_and_its_frames_go_out() {
    let lab = Lab::new();
    let outside = NetNs::new().unwrap();
    link::cable((lab.host.network(), "up0"), (&outside, "far0")).unwrap();
    link::enslave(lab.host.network(), "up0", "br0").unwrap();
    let capture = Capture::start(&outside, "far0").unwrap();
    let libvirt = lab.libvirt();
    let approved = Image::make(lab.host.directory(), "approved", "what was reviewed").unwrap();
    let template = digest(&approved.disk);
    for (number, cloning) in [Cloning::Overlay, Cloning::Copy].into_iter().enumerate() {
        let guest = Guest::new(&format!("web{number}"), 31 + number as u8);
        let files = lab.define(&libvirt, &guest);
        libvirt.virsh(&["autostart", &guest.name]).unwrap();
        let wanted = replacement(&approved, &guest, cloning);
        let done = replaced(&lab, &wanted);
        assert_eq!(done.name, guest.name);
        assert_eq!(done.archived_as, format!("web{number}-rogue-20231114"));
        assert_eq!(replaced(&lab, &wanted), done, "it is done once");
        let (new, former) = (xml(&libvirt, &guest.name), xml(&libvirt, &done.archived_as));
        assert!(new.contains(&done.successor.to_string()), "{new}");
        assert!(new.contains(&hex(guest.mac)) && new.contains("<source bridge='br0'/>"), "{new}");
        assert!(new.contains("<memory unit='KiB'>131072</memory>"), "{new}");
        assert!(former.contains(&guest.uuid) && !former.contains("<interface"), "{former}");
        assert!(former.contains(files.overlay.to_str().unwrap()), "{former}");
        let starts = libvirt.virsh(&["list", "--all", "--name", "--autostart"]).unwrap();
        assert!(starts.contains(&guest.name) && !starts.contains("rogue"), "{starts}");
        if cloning == Cloning::Copy {
            assert_eq!(digest(&done.disk), template);
        }
        libvirt.start_domain(&guest).unwrap();
        wait::until("its frames", BOOT, || {
            Ok(Flow::of(&capture.frames()?, guest.mac).first_phase())
        })
        .unwrap();
        let undo = Order::TakeBack { former: wanted.former, state: lab.host.path("state") };
        match lab.ask(&undo) {
            Answer::Storage(error) => {
                assert!(error.to_string().contains("shut it down first"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        libvirt.destroy(&guest).unwrap();
    }
    assert_eq!(digest(&approved.disk), template, "nobody has written to the template");
}

#[test]
fn killed_at_any_step_there_is_one_vm_of_the_name_at_most_and_both_ways_are_open() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let approved = Image::make(lab.host.directory(), "approved", "what was reviewed").unwrap();
    let guest = Guest::new("web", 31);
    lab.define(&libvirt, &guest);
    let before = all(&libvirt);
    let mut ended = 0;
    for at in 1..MOST {
        let wanted = replacement(&approved, &guest, Cloning::Overlay);
        let begun = Deed::begin(&lab.host, HANDS, &order(&lab, &wanted), &Then::Dies(at)).unwrap();
        let died = begun.end().unwrap().is_none();
        if at % 2 == 1 {
            let done = replaced(&lab, &wanted);
            let now = all(&libvirt);
            assert_eq!(now.len(), 2, "{at}");
            assert!(now["web"].contains(&done.successor.to_string()), "{at}");
        }
        let undo = Order::TakeBack { former: wanted.former, state: lab.host.path("state") };
        assert_eq!(lab.ask(&undo), Answer::Undone, "{at}");
        assert_eq!(all(&libvirt), before, "{at}");
        assert_eq!(lab.copies().len(), 0, "{at}");
        if !died {
            ended = at;
            break;
        }
    }
    assert!(ended > 3, "{ended}");
}

/// What one workflow has left is taken back by the next one; what it has finished is not.
#[test]
fn another_workflow_takes_back_what_was_left_and_nothing_else() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let approved = Image::make(lab.host.directory(), "approved", "what was reviewed").unwrap();
    let guest = Guest::new("web", 31);
    lab.define(&libvirt, &guest);
    let first = replacement(&approved, &guest, Cloning::Overlay);
    let archived = Then::WaitsFor("Step { what: \"the former VM is archived\"".to_owned());
    let mut left = Deed::begin(&lab.host, HANDS, &order(&lab, &first), &archived).unwrap();
    left.await_pause().unwrap();
    drop(left);
    let workflow = |name: &str| Replacement { workflow: name.to_owned(), ..first.clone() };
    let done = replaced(&lab, &workflow("1700000001"));
    let now = all(&libvirt);
    assert_eq!(now.len(), 2, "{now:?}");
    assert!(now["web"].contains(&done.successor.to_string()), "{now:?}");
    assert_eq!(lab.copies(), std::slice::from_ref(&done.disk));
    match lab.ask(&order(&lab, &workflow("1700000002"))) {
        Answer::Storage(StorageError::Refused(why)) => {
            assert!(why.contains("has been replaced already"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(all(&libvirt), now);
}

#[test]
fn what_is_not_approved_or_in_use_is_refused() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let approved = Image::make(lab.host.directory(), "approved", "what was reviewed").unwrap();
    let guest = Guest::new("web", 31);
    lab.define(&libvirt, &guest);
    let before = all(&libvirt);
    let good = replacement(&approved, &guest, Cloning::Overlay);
    let refused = |wanted: &Replacement, expect: &str| match lab.ask(&order(&lab, wanted)) {
        Answer::Storage(StorageError::Refused(why)) => assert!(why.contains(expect), "{why}"),
        other => panic!("{expect}: {other:?}"),
    };
    let mut other = good.clone();
    other.disk.path.clone_from(&lab.image.disk);
    refused(&other, "is not what was approved: its digest is");
    other.disk.path = "/nowhere".into();
    refused(&other, "there is no such file");
    refused(&Replacement { pool: "none".to_owned(), ..good.clone() }, "no storage pool none");
    libvirt.start_domain(&guest).unwrap();
    refused(&good, "web is running");
    libvirt.destroy(&guest).unwrap();
    assert_eq!(all(&libvirt), before);
    assert!(fs::read_dir(lab.host.path("state")).unwrap().next().is_none(), "nothing was begun");
}
