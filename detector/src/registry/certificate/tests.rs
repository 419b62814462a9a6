use std::os::unix::fs::FileExt;

use super::{
    super::{open::open, pools::Reach},
    *,
};

const IMAGE: Digest = Digest([7; 32]);

fn opened(path: &Path) -> Opened {
    open(path, &Reach::Anything).unwrap()
}

fn write(path: &Path, byte: u8) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[byte], 0).unwrap();
}

fn always() -> bool {
    true
}

#[test]
fn a_certificate_holds_for_what_its_vm_has_left() {
    type Change = fn(&Path);
    let cases: &[(&str, Change, Birth)] = &[
        ("untouched", |_| (), Birth::Certified(IMAGE)),
        ("written to while off", |path| write(path, 9), Birth::Unknown),
        (
            "with its times set back",
            |path| {
                let times = fs::metadata(path).unwrap().modified().unwrap();
                write(path, 9);
                fs::File::options().write(true).open(path).unwrap().set_modified(times).unwrap();
            },
            Birth::Unknown,
        ),
        (
            "written to under another name",
            |path| {
                let twin = path.with_extension("twin");
                fs::hard_link(path, &twin).unwrap();
                write(&twin, 9);
            },
            Birth::Unknown,
        ),
        (
            "replaced by the same contents",
            |path| {
                let copy = path.with_extension("copy");
                fs::copy(path, &copy).unwrap();
                fs::rename(copy, path).unwrap();
            },
            Birth::Unknown,
        ),
    ];
    for (what, change, expect) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        fs::write(&path, "disk").unwrap();
        if !opened(&path).dated {
            return eprintln!("{}: its file system does not tell of changes", path.display());
        }
        let certificates = Certificates::open(dir.path());
        assert_eq!(certificates.birth(&opened(&path)), Birth::Unknown, "{what}");
        certificates.begin(&opened(&path), IMAGE);
        assert_eq!(certificates.birth(&opened(&path)), Birth::InUse, "{what}");
        // The VM writes, and ends.
        write(&path, 1);
        certificates.end(&opened(&path), always).unwrap();
        assert_eq!(certificates.birth(&opened(&path)), Birth::Certified(IMAGE), "{what}");
        change(&path);
        assert_eq!(certificates.birth(&opened(&path)), *expect, "{what}");
        // The same after a restart, and an end that is told late changes nothing.
        let certificates = Certificates::open(dir.path());
        assert_eq!(certificates.birth(&opened(&path)), *expect, "{what}");
        certificates.end(&opened(&path), always).unwrap();
        assert_eq!(certificates.birth(&opened(&path)), *expect, "{what}");
    }
}

/// On a file system whose clock ticks slowly, a change of the same tick would not show.
#[test]
fn what_changes_before_the_clock_ticks_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, "disk").unwrap();
    let look = || Ok(FileState::of(&fs::metadata(&path)?));
    assert_eq!(settled(look, || ()).unwrap(), look().unwrap());
    let before = fs::metadata(&path).unwrap().len();
    assert!(settled(look, || fs::write(&path, "disk, and more").unwrap()).is_err());
    assert!(fs::metadata(&path).unwrap().len() > before);
}

/// Who has let go of the file may be gone before its state is recorded, and somebody else may have had it.
#[test]
fn an_end_that_nobody_waits_for_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, "disk").unwrap();
    if !opened(&path).dated {
        return eprintln!("{}: its file system does not tell of changes", path.display());
    }
    let certificates = Certificates::open(dir.path());
    certificates.begin(&opened(&path), IMAGE);
    assert!(certificates.end(&opened(&path), || false).is_err());
    assert_eq!(certificates.birth(&opened(&path)), Birth::InUse);
    certificates.end(&opened(&path), always).unwrap();
    assert_eq!(certificates.birth(&opened(&path)), Birth::Certified(IMAGE));
    // Nobody is waited for where nothing is recorded.
    certificates.end(&opened(&path), || panic!("asked")).unwrap();
}

#[test]
fn a_run_without_an_end_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, "disk").unwrap();
    Certificates::open(dir.path()).begin(&opened(&path), IMAGE);
    assert!(matches!(
        Certificates::open(dir.path()).birth(&opened(&path)),
        Birth::InUse | Birth::Unknown
    ));
}

#[test]
fn what_is_not_ours_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates.json");
    fs::write(&path, "{\"version\":1,\"entries\":[{\"dev\":1}]}").unwrap();
    Certificates::open(dir.path());
    assert!(!path.exists() && dir.path().join("certificates.json.bad").exists());
}

#[test]
fn they_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, "disk").unwrap();
    let certificates = Certificates::open(dir.path());
    for inode in 0..MAX_CERTIFICATES as u64 {
        let one = Certificate {
            dev: u64::MAX,
            inode,
            created: None,
            sha256: IMAGE,
            number: inode,
            rest: None,
        };
        certificates.lock().insert((u64::MAX, inode), one);
    }
    certificates.begin(&opened(&path), IMAGE);
    let held = certificates.lock();
    assert_eq!(held.len(), MAX_CERTIFICATES);
    assert!(held.contains_key(&opened(&path).id) && !held.contains_key(&(u64::MAX, 0)));
}
