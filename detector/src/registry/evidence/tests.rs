use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use super::*;

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
