//! What is not moved, and why: nothing is changed, and whoever asks is told what is in the way.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use detector::remediate::storage::{StorageError, Task};
use detector_tests::guest::Guest;
use detector_tests::hands::{Answer, Order, Place};
use detector_tests::libvirt::Libvirt;
use detector_tests::{run, wait};

use super::{BOOT, Files, Lab, POOL, digest};

/// What is done before it is asked for, and undone afterwards.
type Put<'a> = &'a dyn Fn(&Lab, &Libvirt<'_>, &Files, bool);

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_changed() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let virsh = |words: &[&str]| drop(libvirt.virsh(words).unwrap());
    let redefine = |edit: &dyn Fn(String) -> String| {
        let xml = libvirt.virsh(&["dumpxml", "--inactive", "web"]).unwrap();
        libvirt.define_as(&guest, &edit(xml)).unwrap();
    };
    let overlay = |words: &[&str]| {
        let mut tool = Command::new("qemu-img");
        tool.args(words).arg(&files.overlay);
        let result = tool.output();
        run::checked(&tool, result).unwrap();
    };
    let base = lab.image.disk.to_str().unwrap().to_owned();
    let data = files.data.display().to_string();
    let cases: &[(&str, Put<'_>)] = &[
        ("in no storage pool of libvirt's and in none of registry.image_dirs", &|_, _, _, put| {
            let elsewhere = lab.host.path("elsewhere.img");
            let (from, to) = (&data, elsewhere.to_str().unwrap());
            let (old, new) = if put { (from.as_str(), to) } else { (to, from.as_str()) };
            fs::rename(old, new).unwrap();
            redefine(&|xml| xml.replace(old, new));
        }),
        ("it has 1 snapshot(s)", &|_, _, _, put| {
            let words = if put { "snapshot-create-as" } else { "snapshot-delete" };
            // Internal snapshots are qcow2's.
            redefine(&|xml| match put {
                true => xml.replace("<target dev='vdb'", "<readonly/><target dev='vdb'"),
                false => xml,
            });
            virsh(&[words, "web", "one"]);
            redefine(&|xml| xml.replace("<readonly/>", ""));
        }),
        ("names the layer beneath it as \"../base.qcow2\"", &|_, _, _, put| {
            let beneath = if put { "../base.qcow2" } else { base.as_str() };
            overlay(&["rebase", "-u", "-F", "qcow2", "-b", beneath]);
        }),
        ("its disk vdb is the block device /dev/loop0", &|_, _, _, put| {
            let file = format!(
                "type='file' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source file='{data}'/>"
            );
            let block = "type='block' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source dev='/dev/loop0'/>";
            let (old, new) = if put { (file.as_str(), block) } else { (block, file.as_str()) };
            redefine(&|xml| {
                assert!(xml.contains(old), "{xml}");
                xml.replace(old, new)
            });
        }),
        (
            "is another VM's too: other names it, or has it beneath a disk",
            &|lab, libvirt, files, put| {
                if put {
                    let other = Guest::new("other", 32);
                    let own = other.overlay(lab.host.directory());
                    let mut tool = Command::new("qemu-img");
                    tool.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                        .arg(&files.data)
                        .arg(&own);
                    let result = tool.output();
                    run::checked(&tool, result).unwrap();
                    let xml = other.domain(&lab.image, "br0", lab.host.directory());
                    libvirt.define_as(&other, &xml).unwrap();
                } else {
                    libvirt.virsh(&["undefine", "other"]).unwrap();
                }
            },
        ),
        ("is another VM's too: third names it", &|lab, libvirt, _, put| {
            other_with(
                lab,
                libvirt,
                &medium("type='file' device='cdrom'", &format!("file='{data}'")),
                put,
            );
        }),
        ("is another VM's too: third names it", &|lab, libvirt, _, put| {
            // libvirt need not have looked into the pool.
            let images = lab.images();
            match put {
                true => {
                    virsh(&[
                        "pool-define-as",
                        "still",
                        "dir",
                        "--target",
                        images.to_str().unwrap(),
                    ]);
                }
                false => virsh(&["pool-undefine", "still"]),
            }
            other_with(
                lab,
                libvirt,
                &medium("type='volume'", "pool='still' volume='web.img'"),
                put,
            );
        }),
        ("it is not known which files third has", &|lab, libvirt, _, put| {
            other_with(lab, libvirt, &medium("type='volume'", "pool='none' volume='x'"), put);
        }),
        ("is not active: start it (virsh pool-start sandbox)", &|_, _, _, put| {
            virsh(&[if put { "pool-destroy" } else { "pool-start" }, POOL]);
        }),
    ];
    for (expect, put) in cases {
        put(&lab, &libvirt, &files, true);
        let before = digest(&files.overlay);
        expect_refusal(&lab, &lab.order(&guest), expect);
        assert_eq!(digest(&files.overlay), before, "{expect}");
        put(&lab, &libvirt, &files, false);
    }
    let absent = Task { pool: "a b".to_owned(), ..lab.task(&guest) };
    expect_refusal(
        &lab,
        &Order::Move { task: absent, at: lab.place() },
        "there is no storage pool 'a b'",
    );
    let strange = Task { domain: uuid::Uuid::from_u128(1), ..lab.task(&guest) };
    expect_refusal(&lab, &Order::Move { task: strange, at: lab.place() }, "knows no domain 0000");
    let at = Place { kept: vec![files.data.clone()], ..lab.place() };
    expect_refusal(&lab, &Order::Move { task: lab.task(&guest), at }, "is a template's, and stays");
    // And with nothing in the way it moves.
    lab.moved(&guest);
}

fn medium(kind: &str, source: &str) -> String {
    let target = "<target dev='sdz' bus='scsi'/><readonly/>";
    format!("<disk {kind}><driver name='qemu' type='raw'/><source {source}/>{target}</disk>")
}

/// Defines another VM that has this besides, or has it gone.
fn other_with(lab: &Lab, libvirt: &Libvirt<'_>, disk: &str, put: bool) {
    if !put {
        libvirt.virsh(&["undefine", "third"]).unwrap();
        return;
    }
    let other = Guest::new("third", 33);
    let xml = other.domain(&lab.image, "br0", lab.host.directory());
    let xml = xml.replace("<interface ", &format!("{disk}<interface "));
    libvirt.define_as(&other, &xml).unwrap();
}

/// By QEMU's own locks, which its tools hold too.
#[test]
fn a_locked_image_is_refused_and_who_holds_it_is_named() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let mut tool = Command::new("qemu-io");
    tool.args(["-f", "qcow2"]).arg(&files.overlay).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut tool = lab.host.spawn(&mut tool).unwrap();
    wait::until("the lock", BOOT, || {
        match lab.ask(&Order::Plan { task: lab.task(&guest), at: lab.place() }) {
            Answer::Storage(StorageError::Refused(why)) => {
                assert!(why.contains("is in use by") && why.contains("qemu-io"), "{why}");
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    })
    .unwrap();
    drop(tool.stdin.take());
    tool.wait().unwrap();
    lab.moved(&guest);
}

#[test]
fn a_pool_without_room_is_refused_before_anything_is_copied() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    let files = lab.define(&libvirt, &guest);
    let before = files.digests();
    small(&lab, &libvirt, 3);
    expect_refusal(&lab, &lab.order(&guest), "bytes free, and web needs");
    assert_eq!(files.digests(), before);
    assert!(fs::read_dir(lab.host.path("state")).unwrap().next().is_none(), "no journal");
}

/// Makes the pool one of so many MiB.
pub(super) fn small(lab: &Lab, libvirt: &Libvirt<'_>, mib: u32) {
    let size = format!("size={mib}m");
    lab.host
        .check(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(lab.sandbox()))
        .unwrap();
    libvirt.virsh(&["pool-refresh", POOL]).unwrap();
}

fn expect_refusal(lab: &Lab, order: &Order, expect: &str) {
    match lab.ask(order) {
        Answer::Storage(StorageError::Refused(why)) => {
            assert!(why.contains(expect), "{expect:?}: {why}");
        }
        other => panic!("{expect:?}: {other:?}"),
    }
    assert_eq!(lab.copies(), [] as [&Path; 0], "{expect}");
}
