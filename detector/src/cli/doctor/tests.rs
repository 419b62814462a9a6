use std::{fs, os::unix::fs::PermissionsExt};

use detector_common::stamp::Carrier;
use detector_core::model::Timestamp;
use jiff::Timestamp as Moment;

use super::*;
use crate::{
    cli::{Format, hook::installed::asking},
    clock::Reading,
};

fn status(finding: &Finding) -> Status {
    finding.status
}

#[test]
fn kernels_are_told_by_their_release() {
    let cases = [
        ("6.18.1-cloud-amd64", Status::Ok),
        ("5.10.0", Status::Ok),
        ("5.9.16-5", Status::Problem),
        ("4.19", Status::Problem),
        ("experimental", Status::Unknown),
    ];
    for (release, expect) in cases {
        assert_eq!(status(&kernel::judge(release)), expect, "{release}");
    }
}

#[test]
fn a_kernel_without_landlock_is_told_of() {
    assert_eq!(status(&sandbox::judge(0)), Status::Warning);
    assert_eq!(status(&sandbox::judge(1)), Status::Ok);
    assert_eq!(status(&sandbox::separate(Ok(None))), Status::Warning);
    assert_eq!(status(&sandbox::separate(Err("no user".to_owned()))), Status::Problem);
    let other = sandbox::agree(None, "4005").unwrap();
    assert_eq!(status(&other), Status::Warning);
    assert!(sandbox::agree(None, "root").is_none());
}

#[test]
fn devices_past_every_guard_are_told_of() {
    let devices = tempfile::tempdir().unwrap();
    let told = || vhost::look(devices.path()).iter().map(status).collect::<Vec<_>>();
    assert_eq!(told(), [Status::Ok], "QEMU sends");
    fs::write(devices.path().join("vhost-net"), "").unwrap();
    assert_eq!(told(), [Status::Ok]);
    fs::write(devices.path().join("vhost-vdpa-0"), "").unwrap();
    assert_eq!(told(), [Status::Ok, Status::Warning]);
}

#[test]
fn a_hook_is_ours_another_releases_or_somebody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("detector");
    fs::write(&program, "").unwrap();
    let ours =
        format!("#!/bin/sh\ndetector={}\nexec \"$detector\" hook qemu \"$@\"\n", program.display());
    let path = directory.path().join("qemu");
    let judge = |text: Option<&str>, mode| {
        let _ = fs::remove_file(&path);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        status(&hook::look("qemu", &ours, directory.path()))
    };
    assert_eq!(judge(None, 0), Status::Warning);
    assert_eq!(judge(Some(&ours), 0o755), Status::Ok);
    assert_eq!(judge(Some(&ours), 0o644), Status::Problem, "libvirt passes it by");
    assert_eq!(judge(Some(&format!("{ours}# changed\n")), 0o755), Status::Warning);
    assert_eq!(judge(Some("#!/bin/sh\n# hook qemu\nexit 0\n"), 0o755), Status::Problem);
    // As a package puts it there: somebody else's own is none of our business.
    let beside = directory.path().join("qemu.d");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("detector"), &ours).unwrap();
    fs::set_permissions(beside.join("detector"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(judge(None, 0), Status::Ok);
    assert_eq!(judge(Some("#!/bin/sh\nexit 0\n"), 0o755), Status::Ok);
    assert_eq!(judge(Some(&ours), 0o755), Status::Warning, "both ask");
    assert_eq!(asking(directory.path(), "qemu"), [path.clone(), beside.join("detector")]);
    fs::remove_dir_all(&beside).unwrap();
    fs::remove_file(&program).unwrap();
    assert_eq!(judge(Some(&ours), 0o755), Status::Problem, "the program is gone");
}

#[test]
fn what_others_may_write_to_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    assert!(permissions::writable(&path).is_none(), "it is not there");
    fs::write(&path, "").unwrap();
    let judged = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (
            permissions::writable(&path).map(|f| status(&f)),
            permissions::private(&path).map(|f| status(&f)),
        )
    };
    let is_root = nix::unistd::geteuid().is_root();
    let private = if is_root { None } else { Some(Status::Warning) };
    assert_eq!(judged(0o600), (private, None));
    assert_eq!(judged(0o644), (private, Some(Status::Warning)));
    assert_eq!(judged(0o666).0, Some(Status::Problem));
}

#[test]
fn little_room_is_told_before_there_is_none() {
    let cases = [
        (1 << 31, false, Status::Ok),
        (100 << 20, false, Status::Warning),
        (1 << 20, false, Status::Problem),
        (1 << 30, true, Status::Problem),
    ];
    for (free, read_only, expect) in cases {
        let found = disk::judge(std::path::Path::new("/s"), free, read_only);
        assert_eq!(status(&found), expect, "{free} {read_only}");
    }
}

#[test]
fn a_clock_that_nobody_keeps_is_told() {
    let today = Timestamp(1_790_000_000_000);
    let cases = [
        (today, true, Status::Ok),
        (today, false, Status::Warning),
        (Timestamp(1_000), true, Status::Problem),
    ];
    for (day, synchronised, expect) in cases {
        let found = clock::judge(&Reading { day, synchronised });
        assert_eq!(status(&found), expect, "{day:?}");
    }
}

#[test]
fn settings_of_the_host_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge-nf-call-iptables");
    let of = |carrier| status(&netfilter::judge(directory.path(), carrier));
    assert_eq!(of(Carrier::Mark), Status::Ok, "br_netfilter is not loaded");
    fs::write(&path, "1\n").unwrap();
    assert_eq!((of(Carrier::Mark), of(Carrier::TcIndex)), (Status::Warning, Status::Ok));
    fs::write(&path, "0\n").unwrap();
    assert_eq!(of(Carrier::Mark), Status::Ok);
    assert_eq!(status(&addresses::judge(&[&path])), Status::Warning);
    assert!(conflicts::nwfilter(directory.path()).is_none());
    fs::write(directory.path().join("vnet0.xml"), "").unwrap();
    assert!(conflicts::nwfilter(directory.path()).is_some());
    assert_eq!(libvirt::dotted(9_000_012), "9.0.12");
}

#[test]
fn it_fits_on_a_screen() {
    let of = |check, Finding { status, what, mend }| Advice { check, status, what, mend };
    let all = [
        of("kernel", fine("Linux 6.18")),
        of("disk", problem("nothing is free", "make room")),
        of("pins", unknown("not permitted", "run it as root")),
    ];
    let mut text = Vec::new();
    let mut output = Output::to(&mut text, Format::Table, Moment::UNIX_EPOCH);
    print(&mut output, &all).unwrap();
    let expect = "\
kernel       Linux 6.18
disk         nothing is free
             → make room
pins         not known: not permitted
             → run it as root

1 problem
";
    assert_eq!(String::from_utf8(text).unwrap(), expect);
}
