use std::{
    fs,
    path::{Path, PathBuf},
};

use detector_core::model::{Registry, TemplateStatus};
use minisign::KeyPair;
use tempfile::TempDir;

use super::*;
use crate::registry::Manifests;

const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn signature(key: &KeyPair, text: &str) -> String {
    let comment = Some("timestamp:1800000000");
    minisign::sign(Some(&key.pk), &key.sk, text.as_bytes(), comment, None).unwrap().into_string()
}

fn text(status: &str, serial: u64) -> String {
    format!(
        "id = \"a\"\nstatus = \"{status}\"\nserial = {serial}\n[[image]]\nrole = \"disk\"\n\
         sha256 = \"{SHA}\"\n"
    )
}

/// A directory of manifests that have to be signed by a key.
struct Place {
    dir: TempDir,
    key: KeyPair,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("state")).unwrap();
        fs::create_dir_all(dir.path().join("t")).unwrap();
        Self { dir, key: key() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("t").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn sign(&self, name: &str, text: &str) {
        self.write(name, text);
        self.write(&format!("{name}.minisig"), &signature(&self.key, text));
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn manifests(&self, required: bool) -> Manifests {
        let trust = Trust::new(&[self.key.pk.to_base64()], required).unwrap();
        Manifests::new(&self.dir.path().join("t")).trusting(trust, Some(&self.state()))
    }
}

/// The status of the one template, and the one reason why something is refused.
fn outcome(registry: &Registry) -> (Option<TemplateStatus>, String) {
    assert!(registry.templates.len() <= 1 && registry.rejected.len() <= 1, "{registry:?}");
    let why = registry.rejected.first().map(|rejected| rejected.why.clone()).unwrap_or_default();
    (registry.templates.first().map(|template| template.status), why)
}

#[test]
fn only_what_is_signed_by_a_trusted_key_is_taken() {
    let good = text("approved", 1);
    let other = key();
    // In place of the signature; what is refused where signatures are required, and where not.
    type Spoil<'a> = &'a dyn Fn(&Place);
    let cases: [(&str, Spoil<'_>, &str, &str); 7] = [
        ("signed", &|_| {}, "", ""),
        (
            "unsigned",
            &|p| fs::remove_file(p.path("a.toml.minisig")).unwrap(),
            "it is not signed",
            "",
        ),
        (
            "another's",
            &|p| p.write("a.toml.minisig", &signature(&other, &good)),
            "a key that is not trusted",
            "a key that is not trusted",
        ),
        (
            "changed",
            &|p| p.write("a.toml", &text("deprecated", 1)),
            "not of what it says",
            "not of what it says",
        ),
        (
            "another comment",
            &|p| {
                let signed = signature(&p.key, &good);
                p.write("a.toml.minisig", &signed.replace("timestamp:18", "timestamp:19"));
            },
            "not of what it says",
            "not of what it says",
        ),
        (
            "garbage",
            &|p| p.write("a.toml.minisig", "RW\n\n\nRW"),
            "no signature of minisign",
            "no signature of minisign",
        ),
        (
            "too large",
            &|p| p.write("a.toml.minisig", &"x".repeat(1 << 17)),
            "larger than",
            "larger than",
        ),
    ];
    for (name, spoil, required, voluntary) in cases {
        for (is_required, expected) in [(true, required), (false, voluntary)] {
            let place = Place::new();
            place.sign("a.toml", &good);
            spoil(&place);
            let registry = place.manifests(is_required).reload();
            let (status, why) = outcome(&registry);
            let expected_status = expected.is_empty().then_some(TemplateStatus::Approved);
            assert_eq!(status, expected_status, "{name}: {why}");
            assert!(why.contains(expected), "{name}: {why}");
            assert_eq!(registry.gap().is_some(), !expected.is_empty(), "{name}");
        }
    }
    assert!(Trust::new(&["RWnokey".to_owned()], true).unwrap_err().contains("no public key"));
}

/// Key, manifest and signature by minisign 0.11 of Debian 12; prehashed, and as older releases do it.
#[test]
fn what_minisign_has_signed_is_taken() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/signature/testdata");
    let key = fs::read_to_string(testdata.join("minisign.pub")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let trust = Trust::new(std::slice::from_ref(&key), true).unwrap();
    for name in ["hashed.toml", "legacy.toml"] {
        let path = testdata.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(trust.signer(&path, &text), Ok(Some(key.clone())), "{name}");
        assert!(trust.signer(&path, &text.replace("disk", "cdrom")).is_err(), "{name}");
    }
}

#[test]
fn what_it_last_said_validly_stays_in_force() {
    let place = Place::new();
    place.sign("a.toml", &text("revoked", 2));
    let mut manifests = place.manifests(true);
    assert_eq!(outcome(&manifests.reload()), (Some(TemplateStatus::Revoked), String::new()));
    place.write("a.toml", &text("approved", 3));
    let registry = manifests.reload();
    let (status, why) = outcome(&registry);
    assert_eq!(status, Some(TemplateStatus::Revoked));
    assert!(why.ends_with("stays in force") && registry.gap().is_none(), "{why}");
}

#[test]
fn an_older_manifest_does_not_come_back() {
    let (old, revoked) = (text("approved", 1), text("revoked", 2));
    let place = Place::new();
    place.sign("a.toml", &old);
    let mut manifests = place.manifests(true);
    manifests.reload();
    place.sign("a.toml", &revoked);
    assert_eq!(outcome(&manifests.reload()).0, Some(TemplateStatus::Revoked));

    // Neither while the daemon runs nor after a restart, under no name, and not beside the latest.
    place.sign("a.toml", &old);
    let (status, why) = outcome(&manifests.reload());
    assert_eq!(status, Some(TemplateStatus::Revoked));
    assert!(why.contains("serial 1 is lower than 2"), "{why}");
    let registry = place.manifests(true).reload();
    assert_eq!(outcome(&registry).0, None);
    assert!(registry.gap().is_some(), "nobody is denied for the lack of it");
    fs::rename(place.path("a.toml"), place.path("0.toml")).unwrap();
    fs::rename(place.path("a.toml.minisig"), place.path("0.toml.minisig")).unwrap();
    place.sign("a.toml", &revoked);
    for registry in [manifests.reload(), place.manifests(true).reload()] {
        assert_eq!(outcome(&registry).0, Some(TemplateStatus::Revoked));
    }

    // The same serial with another text is no news either; a higher one is.
    fs::remove_file(place.path("0.toml")).unwrap();
    place.sign("a.toml", &text("approved", 2));
    let (status, why) = outcome(&manifests.reload());
    assert_eq!(status, Some(TemplateStatus::Revoked));
    assert!(why.contains("raise the serial"), "{why}");
    place.sign("a.toml", &text("approved", 3));
    assert_eq!(outcome(&manifests.reload()), (Some(TemplateStatus::Approved), String::new()));
}

#[test]
fn what_was_said_before_does_not_outlive_a_later_serial() {
    let place = Place::new();
    place.sign("a.toml", &text("approved", 1));
    let mut manifests = place.manifests(true);
    assert_eq!(outcome(&manifests.reload()).0, Some(TemplateStatus::Approved));
    place.sign("b.toml", &text("revoked", 2));
    // Also where the older one turns unreadable at the same time.
    for spoil in [false, true] {
        if spoil {
            place.write("a.toml", "half a manif");
        }
        assert_eq!(outcome(&manifests.reload()).0, Some(TemplateStatus::Revoked), "{spoil}");
    }
}

#[test]
fn the_latest_counts_also_where_all_are_new() {
    let place = Place::new();
    place.sign("a.toml", &text("approved", 1));
    place.sign("b.toml", &text("revoked", 2));
    assert_eq!(outcome(&place.manifests(true).reload()).0, Some(TemplateStatus::Revoked));
}

#[test]
fn serials_that_cannot_be_read_let_nothing_in() {
    let place = Place::new();
    place.sign("a.toml", &text("approved", 1));
    place.manifests(true).reload();
    let kept = place.state().join("registry.json");
    let text = fs::read_to_string(&kept).unwrap();
    for spoilt in [&text[..text.len() / 2], "", &text.replace("\"version\": 1", "\"version\": 9")] {
        fs::write(&kept, spoilt).unwrap();
        let (status, why) = outcome(&place.manifests(true).reload());
        assert_eq!(status, None, "{spoilt}");
        assert!(why.contains("registry.json") && why.contains("remove it"), "{why}");
    }
    // Where they cannot be kept, that is told and the manifest holds.
    fs::remove_dir_all(place.state()).unwrap();
    let (status, why) = outcome(&place.manifests(true).reload());
    assert_eq!(status, Some(TemplateStatus::Approved));
    assert!(why.contains("cannot be kept"), "{why}");
}
