//! What somebody else does while files are moved.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use detector::remediate::storage::{StorageError, Task};
use detector_tests::guest::Guest;
use detector_tests::hands::{Answer, Deed, Order, Then};
use detector_tests::libvirt::Libvirt;

use super::{Files, HANDS, Lab, digest, is_defined, named, refused};

/// Has it go on until it has said something that begins like this.
fn pause_at(lab: &Lab, guest: &Guest, said: &str) -> Deed {
    Deed::begin(&lab.host, HANDS, &lab.order(guest), &Then::WaitsFor(said.to_owned()))
        .and_then(|mut deed| deed.await_pause().map(|()| deed))
        .unwrap()
}

const COPYING: &str = "Copied { target: \"vdb\", bytes: 10";
const SAME: &str = "Step { what: \"the copies are the same\"";
const DESCRIBED: &str = "Step { what: \"the domain is described by the copies\"";

/// Started or deleted, it stays what it was, and the copies go.
#[test]
fn a_vm_that_somebody_starts_or_deletes_keeps_its_files() {
    type Do = fn(&Libvirt<'_>, &Guest);
    let start: Do = |libvirt, guest| libvirt.start_domain(guest).unwrap();
    let delete: Do = |libvirt, guest| drop(libvirt.virsh(&["undefine", &guest.name]).unwrap());
    let started = "has been started meanwhile";
    let deleted = "somebody has deleted it meanwhile";
    let cases = [
        (COPYING, start, started, true),
        (SAME, start, started, true),
        (COPYING, delete, deleted, false),
        (SAME, delete, deleted, false),
        (DESCRIBED, delete, deleted, false),
    ];
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    for (number, (when, act, expect, stays)) in cases.into_iter().enumerate() {
        let guest = Guest::new(&format!("web{number}"), 40 + number as u8);
        let files = lab.define(&libvirt, &guest);
        let before = digest(&files.data);
        let mut deed = pause_at(&lab, &guest, when);
        act(&libvirt, &guest);
        deed.go_on().unwrap();
        match deed.end().unwrap() {
            Some(Answer::Storage(StorageError::Interfered(why))) => {
                assert!(why.contains(expect) && why.contains("where they were"), "{when}: {why}");
            }
            other => panic!("{when}: {other:?}"),
        }
        assert_eq!(is_defined(&libvirt, &guest), stays);
        assert_eq!(files.are_there(), [true, true], "{when}");
        assert_eq!(digest(&files.data), before);
        assert_eq!(lab.copies().len(), 0, "{when}");
        if stays {
            assert_eq!(named(&libvirt, &guest), [files.overlay.clone(), files.data.clone()]);
            libvirt.destroy(&guest).unwrap();
            libvirt.virsh(&["undefine", &guest.name]).unwrap();
        }
    }
    // One that is started from the copies has them, and its former files go.
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let mut deed = pause_at(&lab, &guest, DESCRIBED);
    libvirt.start_domain(&guest).unwrap();
    deed.go_on().unwrap();
    assert!(matches!(deed.end().unwrap(), Some(Answer::Moved(_))));
    assert_eq!(files.are_there(), [false, false]);
    assert_eq!(named(&libvirt, &guest), lab.copies());
    assert_eq!(libvirt.virsh(&["domstate", "web"]).unwrap().trim(), "running");
}

/// libvirt dies with the pool that was made for the move; the move goes on with the next one.
#[test]
fn libvirt_starts_anew_in_the_middle() {
    let lab = Lab::new();
    let mut libvirt = lab.libvirt();
    libvirt.virsh(&["pool-autostart", super::POOL]).unwrap();
    for (number, when) in [COPYING, SAME, DESCRIBED].into_iter().enumerate() {
        let guest = Guest::new(&format!("web{number}"), 40 + number as u8);
        let files = lab.define(&libvirt, &guest);
        let before = files.digests();
        let mut deed = pause_at(&lab, &guest, when);
        libvirt.kill().unwrap();
        deed.go_on().unwrap();
        match deed.end().unwrap() {
            Some(Answer::Storage(StorageError::Failed(why))) => {
                assert!(why.contains("libvirt was asked to"), "{when}: {why}");
            }
            other => panic!("{when}: {other:?}"),
        }
        match lab.ask(&lab.order(&guest)) {
            Answer::Storage(StorageError::Failed(why)) => {
                assert!(why.contains("does not answer"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        libvirt.restart().unwrap();
        let report = lab.moved(&guest);
        let copies = report.moved.iter().map(|one| digest(&one.to)).collect::<Vec<_>>();
        assert_eq!(copies, before, "{when}");
        assert_eq!(files.are_there(), [false, false]);
    }
}

#[test]
fn the_pool_fills_up_a_disk_is_written_to_and_another_file_appears() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    refused::small(&lab, &libvirt, 12);
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let before = files.digests();

    let mut deed = pause_at(&lab, &guest, COPYING);
    let filler = lab.sandbox().join("filler");
    let fill = |host: &detector_tests::host::Host| {
        // It ends where there is no room any more.
        let mut dd = Command::new("dd");
        let of = format!("of={}", filler.display());
        drop(host.output(dd.args(["if=/dev/zero", &of, "bs=64k"])).unwrap());
    };
    fill(&lab.host);
    deed.go_on().unwrap();
    match deed.end().unwrap() {
        Some(Answer::Storage(StorageError::Interfered(why))) => {
            assert!(why.contains("has filled up") && why.contains("where they were"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(files.digests(), before);
    let listed = lab.host.check(Command::new("ls").arg(lab.sandbox())).unwrap();
    assert_eq!(listed.trim(), "filler", "the copies are gone");
    lab.host.check(Command::new("rm").arg(&filler)).unwrap();

    // What was copied is not what there is: it is copied anew.
    let mut deed = pause_at(&lab, &guest, COPYING);
    let disk = fs::File::options().write(true).open(&files.data).unwrap();
    disk.write_all_at(b"another", 9 << 20).unwrap();
    drop(disk);
    deed.go_on().unwrap();
    let expect = digest(&files.data);
    let report = match deed.end().unwrap() {
        // By its digest…
        Some(Answer::Moved(report)) => report,
        // … or by its times, and whoever asks again has it moved.
        Some(Answer::Storage(StorageError::Failed(why))) => {
            assert!(why.contains("has been written to"), "{why}");
            lab.moved(&guest)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(report.moved[1].sha256.to_string(), expect);
    assert_eq!(digest(&lab.host.inside(&report.moved[1].to)), expect);
}

/// A disk that is written to after it was compared stays where it is, and that is said.
#[test]
fn a_former_file_that_is_written_to_later_is_kept() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files: Files = lab.define(&libvirt, &guest);
    let mut deed = pause_at(&lab, &guest, DESCRIBED);
    fs::write(&files.data, "somebody needs this").unwrap();
    deed.go_on().unwrap();
    let report = match deed.end().unwrap() {
        Some(Answer::Moved(report)) => report,
        other => panic!("{other:?}"),
    };
    assert_eq!(report.moved[1].kept.as_deref(), Some("it has been written to since"));
    assert_eq!(files.are_there(), [false, true]);
}

/// So is one that is started and shut down once its copy was compared: what it has written meanwhile is not lost.
#[test]
fn a_disk_that_is_written_to_before_the_copies_count_is_copied_anew() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let mut deed = pause_at(&lab, &guest, SAME);
    let disk = fs::File::options().write(true).open(&files.data).unwrap();
    disk.write_all_at(b"another", 9 << 20).unwrap();
    drop(disk);
    deed.go_on().unwrap();
    match deed.end().unwrap() {
        Some(Answer::Storage(StorageError::Failed(why))) => {
            assert!(why.contains("has been written to"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(named(&libvirt, &guest), [files.overlay.clone(), files.data.clone()]);
    let expect = files.digests();
    let report = lab.moved(&guest);
    assert_eq!(report.moved.iter().map(|one| digest(&one.to)).collect::<Vec<_>>(), expect);
    assert_eq!(files.are_there(), [false, false]);
}

/// Wherever a move was left, one to another pool can be made.
#[test]
fn a_move_to_another_pool_ends_the_one_that_was_left() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let other = lab.host.path("other");
    fs::create_dir(&other).unwrap();
    let target = other.to_str().unwrap();
    libvirt.virsh(&["pool-create-as", "other", "dir", "--target", target]).unwrap();
    let half = "Step { what: \"the former file of vda";
    for (number, when) in [COPYING, SAME, DESCRIBED, half].into_iter().enumerate() {
        let guest = Guest::new(&format!("web{number}"), 40 + number as u8);
        let files = lab.define(&libvirt, &guest);
        let before = files.digests();
        // It is killed where it waits.
        drop(pause_at(&lab, &guest, when));
        let task = Task { pool: "other".to_owned(), ..lab.task(&guest) };
        let report = match lab.ask(&Order::Move { task, at: lab.place() }) {
            Answer::Moved(report) => report,
            other => panic!("{when}: {other:?}"),
        };
        let places: Vec<_> = report.moved.iter().map(|one| one.to.clone()).collect();
        assert!(places.iter().all(|place| place.starts_with(&other)), "{when}: {places:?}");
        assert_eq!(named(&libvirt, &guest), places, "{when}");
        assert_eq!(places.iter().map(|place| digest(place)).collect::<Vec<_>>(), before, "{when}");
        assert_eq!(files.are_there(), [false, false], "{when}");
        assert_eq!(lab.copies().len(), 0, "{when}");
    }
}
