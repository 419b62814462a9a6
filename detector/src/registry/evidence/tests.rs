use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use detector_core::model::Layer;

use super::{
    super::{open::open, pools::Reach},
    *,
};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn digest(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Chain(chain) => chain.digest.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn an_overlay_is_read_down_to_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let (base, top) = (dir.path().join("base.raw"), dir.path().join("top.qcow2"));
    fs::write(&base, "abc").unwrap();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw"])
        .arg(&top)
        .status()
        .unwrap();
    assert!(made.success());
    let gatherer = Gatherer::open(dir.path());
    let evidence = gatherer.gather(&ImageFile::new(&top, Some("qcow2"))).await;
    assert_eq!(digest(&evidence), ABC);
    let Evidence::Chain(chain) = &evidence else { panic!() };
    assert_eq!(chain.overlays.len(), 1);
    assert!(chain.base.path.ends_with("base.raw"));

    // Writing to the overlay changes nothing, writing to the base does.
    let file = fs::File::options().write(true).open(&top).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(gatherer.gather(&ImageFile::new(&top, Some("qcow2"))).await, evidence);
    fs::write(&base, "abd").unwrap();
    assert_ne!(digest(&gatherer.gather(&ImageFile::new(&top, Some("qcow2"))).await), ABC);

    // Another image in the place of the overlay.
    fs::write(&top, "abc").unwrap();
    let swapped = gatherer.gather(&ImageFile::new(&top, Some("qcow2"))).await;
    assert!(matches!(&swapped, Evidence::Unreadable(why) if why.contains("top.qcow2")));
}

#[tokio::test]
async fn an_unchanged_file_is_answered_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, "abc").unwrap();
    let gatherer = Gatherer::open(dir.path());
    let deadline = Instant::now() + Duration::from_secs(10);
    let file = ImageFile::new(&path, Some("raw"));
    // A file this young is not remembered at once.
    while gatherer.shared.look(&file).is_none() {
        assert!(Instant::now() < deadline);
        assert_eq!(digest(&gatherer.gather(&file).await), ABC);
    }
    assert_eq!(digest(&gatherer.shared.look(&file).unwrap()), ABC);
}

#[tokio::test]
async fn who_asks_together_is_answered_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, vec![1; 4 << 20]).unwrap();
    let gatherer = Gatherer::open(dir.path());
    let file = ImageFile::new(&path, None);
    let all = futures::future::join_all((0..50).map(|_| gatherer.gather(&file))).await;
    assert!(
        all.iter().all(|evidence| *evidence == all[0] && matches!(evidence, Evidence::Chain(_)))
    );
    assert!(gatherer.shared.gathering.lock().unwrap().is_empty());
}

/// Each change is told once, and what the VM itself writes is none.
#[tokio::test]
async fn what_has_changed_is_told_once() {
    type Change = fn(&Path);
    fn qemu_img(words: &[&str], at: &Path) {
        let done = Command::new("qemu-img").args(words).current_dir(at).status().unwrap();
        assert!(done.success(), "{words:?}");
    }
    let written = true;
    let cases: &[(&str, &str, Change, bool)] = &[
        ("nothing", "top", |_| (), false),
        ("the VM writes", "top", |at| grow(at, "top"), false),
        (
            "the VM writes to its only layer",
            "raw",
            |at| fs::write(at.join("raw"), "x").unwrap(),
            false,
        ),
        (
            "rebase in place",
            "top",
            |at| {
                qemu_img(&["rebase", "-u", "-b", "other", "-F", "raw", "top"], at);
            },
            true,
        ),
        (
            "another base by name",
            "top",
            |at| fs::rename(at.join("other"), at.join("base")).unwrap(),
            true,
        ),
        (
            "another base by a link",
            "linked",
            |at| {
                fs::remove_file(at.join("link")).unwrap();
                std::os::unix::fs::symlink("other", at.join("link")).unwrap();
            },
            true,
        ),
        ("the base in place", "top", |at| grow(at, "base"), true),
        (
            "the base through a hard link",
            "top",
            |at| {
                fs::hard_link(at.join("base"), at.join("twin")).unwrap();
                let times = fs::metadata(at.join("twin")).unwrap().modified().unwrap();
                fs::write(at.join("twin"), "abd").unwrap();
                fs::File::options()
                    .write(true)
                    .open(at.join("twin"))
                    .unwrap()
                    .set_modified(times)
                    .unwrap();
            },
            true,
        ),
        (
            "the only layer by name",
            "raw",
            |at| fs::rename(at.join("other"), at.join("raw")).unwrap(),
            true,
        ),
        ("gone", "top", |at| fs::remove_file(at.join("base")).unwrap(), true),
    ];
    for (what, medium, change, told) in cases {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        for (name, text) in [("base", "abc"), ("other", "abd"), ("raw", "abc")] {
            fs::write(at.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("base", at.join("link")).unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "top"], at);
        qemu_img(&["create", "-q", "-f", "qcow2", "-b", "link", "-F", "raw", "linked"], at);
        let format = if *medium == "raw" { "raw" } else { "qcow2" };
        let file = ImageFile::new(at.join(medium), Some(format));
        let gatherer = Gatherer::open(at);
        assert_eq!(digest(&gatherer.gather(&file).await), ABC, "{what}");
        let media = [(file.clone(), written)];
        assert_eq!(gatherer.altered(&media), [], "{what}");
        change(at);
        let expect: &[ImageFile] = if *told { &[file] } else { &[] };
        assert_eq!(gatherer.altered(&media), expect, "{what}");
        assert_eq!(gatherer.altered(&media), [], "{what}, once more");
    }
}

/// A CD-ROM is its own base too, and no guest writes to it.
#[tokio::test]
async fn what_no_guest_writes_to_may_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = ImageFile::new(dir.path().join("iso"), Some("raw"));
    fs::write(&file.path, "abc").unwrap();
    let gatherer = Gatherer::open(dir.path());
    gatherer.gather(&file).await;
    grow(dir.path(), "iso");
    assert_eq!(gatherer.altered(&[(file.clone(), false)]), [file]);
}

fn grow(at: &Path, name: &str) {
    let file = fs::File::options().write(true).open(at.join(name)).unwrap();
    file.set_len(1 << 20).unwrap();
}

/// Variables get a certificate of birth whatever the policy asks of disks; disks where it counts.
#[tokio::test]
async fn what_gets_a_certificate() {
    const CHANGED: &str = "of something else";
    for (role, disks, expect) in [
        (MediumRole::Variables, false, ABC),
        (MediumRole::Variables, true, ABC),
        (MediumRole::Disk, true, ABC),
        (MediumRole::Disk, false, CHANGED),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own");
        fs::write(&path, "abc").unwrap();
        let file = ImageFile::new(&path, Some("raw"));
        let certificates = Certificates::open(dir.path());
        let pools = Pools::new(&[]);
        let gatherer = Gatherer::new(dir.path(), pools, Some(certificates), disks);
        let before = gatherer.gather(&file).await;
        assert_eq!(digest(&before), ABC);
        let Evidence::Chain(chain) = before else { panic!() };
        gatherer.begin(role, &file, chain.digest);
        // Its guest writes, and it ends.
        fs::File::options().append(true).open(&path).unwrap().set_len(1 << 16).unwrap();
        gatherer.end(&file, || true);
        let after = gatherer.gather(&file).await;
        if !open(&path, &Reach::Anything).unwrap().dated {
            return eprintln!("{}: its file system does not tell of changes", path.display());
        }
        assert_eq!(digest(&after) == ABC, expect == ABC, "{role:?} where disks: {disks}");
    }
}

/// A device is read each time, and its contents alone count: it has no times, and gets no certificate.
#[tokio::test]
async fn a_device_is_read_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut content = vec![0; 1 << 16];
    content[..3].copy_from_slice(b"abc");
    fs::write(&image, &content).unwrap();
    let Some(device) = Loop::attach(&image) else {
        return eprintln!("no loop device can be made here");
    };
    let gatherer = Gatherer::certifying(dir.path(), Pools::new(&[]));
    let file = ImageFile::new(&device.path, Some("raw"));
    let first = gatherer.gather(&file).await;
    assert_eq!(first, {
        let of_image = gatherer.gather(&ImageFile::new(&image, Some("raw"))).await;
        let Evidence::Chain(Chain { digest, .. }) = of_image else { panic!() };
        let base = Layer { path: device.path.clone(), format: "raw".to_owned() };
        Evidence::Chain(Chain { overlays: Vec::new(), base, digest, at_birth: false })
    });
    let Evidence::Chain(Chain { digest, .. }) = first.clone() else { panic!() };
    gatherer.begin(MediumRole::Disk, &file, digest);
    // Its times stay what they are.
    let written = fs::File::options().write(true).open(&device.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&written, b"x", 0).unwrap();
    drop(written);
    gatherer.end(&file, || true);
    let second = gatherer.gather(&file).await;
    assert_ne!(second, first);
    assert!(matches!(second, Evidence::Chain(Chain { at_birth: false, .. })));
}

/// A device whose contents are a file's.
struct Loop {
    path: std::path::PathBuf,
}

impl Loop {
    fn attach(image: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Self { path: path.trim().into() })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}
