use std::{
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use detector_core::model::{
    FirmwareKind, Image, ImageFormat, MediumRole, SecurityProfile, TemplateStatus, Timestamp,
};
use nix::sys::stat::Mode;

use super::*;

const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn manifest(id: &str) -> String {
    format!(
        "id = \"{id}\"\nstatus = \"approved\"\n[[image]]\nrole = \"disk\"\nsha256 = \"{SHA}\"\n"
    )
}

fn ids(registry: &Registry) -> Vec<&str> {
    registry.templates.iter().map(|template| template.id.as_str()).collect()
}

#[test]
fn a_whole_manifest() {
    let text = format!(
        r#"
        id = "debian-12"
        version = "2026.11"
        os = "Debian 12"
        status = "deprecated"
        reason = "a newer one is out"
        since = 2026-11-01T00:00:00Z
        expires = "2027-06-30T00:00:00Z"
        serial = 7
        [profile]
        firmware = "efi"
        secure_boot = true
        host_devices = false
        devices = ["disk", "interface"]
        [[image]]
        role = "disk"
        format = "qcow2"
        path = "/images/debian.qcow2"
        sha256 = "{SHA}"
        [[image]]
        role = "firmware"
        sha256 = "{}"
        "#,
        SHA.to_uppercase()
    );
    let mut rejected = Vec::new();
    let template = parse(Path::new("t.toml"), &text, &mut rejected).unwrap();
    assert_eq!(rejected, []);
    let sha256 = SHA.parse().unwrap();
    assert_eq!(
        template,
        Template {
            id: "debian-12".to_owned(),
            version: Some("2026.11".to_owned()),
            os: Some("Debian 12".to_owned()),
            status: TemplateStatus::Deprecated,
            reason: Some("a newer one is out".to_owned()),
            since: Some(Timestamp(1_793_491_200_000)),
            expires: Some(Timestamp(1_814_313_600_000)),
            images: vec![
                Image {
                    format: Some(ImageFormat::Qcow2),
                    path: Some("/images/debian.qcow2".into()),
                    ..Image::new(MediumRole::Disk, sha256)
                },
                Image::new(MediumRole::Firmware, sha256),
            ],
            profile: SecurityProfile {
                firmware: Some(FirmwareKind::Efi),
                secure_boot: Some(true),
                host_devices: Some(false),
                devices: Some(["disk", "interface"].map(str::to_owned).into()),
                ..SecurityProfile::default()
            },
            serial: Some(7),
            signed_by: None,
        }
    );
}

#[test]
fn the_example_is_a_manifest() {
    let text = include_str!("../../../../packaging/template.toml");
    let mut rejected = Vec::new();
    let template = parse(Path::new("template.toml"), text, &mut rejected).unwrap();
    assert_eq!((rejected, template.status), (vec![], TemplateStatus::Draft));
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    let good = manifest("a");
    let cases: &[(String, &str, &str)] = &[
        (String::new(), "t.toml", "missing field `id`"),
        ("id = ".to_owned(), "t.toml:1:", ""),
        (good.replace("\"a\"", "\"a b\""), "t.toml:1:6", "no template id"),
        (good.replace("\"a\"", "\"\""), "t.toml:1:6", "no template id"),
        (good.replace("approved", "aproved"), "t.toml:2:10", "expected one of `approved`"),
        (format!("os = \"a\\n\"\n{good}"), "t.toml:1:6", "one line"),
        (format!("expires = 2027-01-01\n{good}"), "t.toml:1:11", "RFC 3339"),
        (format!("expires = \"soon\"\n{good}"), "t.toml:1:11", "RFC 3339"),
        (format!("expires = 1960-01-01T00:00:00Z\n{good}"), "t.toml:1:11", "RFC 3339"),
        (format!("owner = 1\n{good}"), "t.toml:1:1", "unknown field `owner`"),
        ("id = \"a\"\nstatus = \"approved\"".to_owned(), "t.toml", "approves nothing"),
        (format!("reason = \"{}\"\n{good}", "x".repeat(1025)), "t.toml:1:10", "1024 bytes"),
        (format!("since = \"now\"\n{good}"), "t.toml:1:9", "RFC 3339"),
        (format!("{good}[profile]\nfirmware = \"openfirmware\""), "t.toml:7:12", "`bios`"),
        (format!("{good}[profile]\ntpm = \"2.0\""), "t.toml:7:7", "expected a boolean"),
        (format!("{good}[profile]\nhostdevs = true"), "t.toml:7:1", "expected one of `firmware`"),
        (format!("{good}[profile]\ndevices = [\"a b\"]"), "t.toml:", "no kind of device"),
    ];
    for (text, place, expected) in cases {
        let error = parse(Path::new("t.toml"), text, &mut Vec::new()).unwrap_err();
        assert!(error.place.starts_with(place), "{text:?}: {error:?}");
        assert!(error.why.contains(expected), "{text:?}: {error:?}");
    }
    let toml_datetime = format!("expires = 2027-06-30T02:00:00+02:00\n{good}");
    let template = parse(Path::new("t.toml"), &toml_datetime, &mut Vec::new()).unwrap();
    assert_eq!(template.expires, Some(Timestamp(1_814_313_600_000)));
}

#[test]
fn a_bad_image_is_refused_by_itself() {
    let cases = [
        ("role = \"disk\"\nsha256 = \"abc\"", "64 hexadecimal"),
        ("role = \"network\"\nsha256 = \"0\"", "expected one of `disk`"),
        ("role = \"disk\"", "missing field `sha256`"),
        ("a = 1\nrole = \"disk\"", "unknown field `a`"),
        (&format!("role = \"disk\"\nsha256 = \"{SHA}\"\nformat = \"vmdk\""), "`raw` or `qcow2`"),
        (&format!("role = \"disk\"\nsha256 = \"{SHA}\"\npath = \"a\""), "begins with /"),
    ];
    for (image, expected) in cases {
        let text = format!("{}[[image]]\n{image}\n", manifest("a"));
        let mut rejected = Vec::new();
        let template = parse(Path::new("t.toml"), &text, &mut rejected).unwrap();
        assert_eq!(template.images.len(), 1);
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].place.starts_with("t.toml:6:"), "{rejected:?}");
        assert!(rejected[0].why.contains(expected), "{rejected:?}");
    }
}

#[test]
fn the_rest_holds_when_one_file_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.toml"), manifest("a")).unwrap();
    fs::write(path("b.toml"), b"id = \"\xff\"").unwrap();
    fs::write(path("c.toml"), manifest("a")).unwrap();
    fs::write(path("d.txt"), "no manifest").unwrap();
    fs::write(path(".e.toml"), "hidden").unwrap();
    fs::create_dir(path("f.toml")).unwrap();
    fs::write(path("g.toml"), vec![b'#'; (MAX_BYTES + 1) as usize]).unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"h\xff.toml")), manifest("h")).unwrap();
    fs::write(path("linked"), manifest("i")).unwrap();
    symlink("linked", path("i.toml")).unwrap();
    symlink("/nowhere", path("j.toml")).unwrap();
    symlink("k.toml", path("k.toml")).unwrap();
    nix::unistd::mkfifo(&path("l.toml"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", path("m.toml")).unwrap();
    let _socket = UnixListener::bind(path("n.toml")).unwrap();
    File::create(path("o.toml")).unwrap().set_len(2 << 30).unwrap();
    fs::write(path("p.toml"), b"id = \"p\"\0").unwrap();
    let registry = Manifests::new(dir.path()).reload();
    let mut found = ids(&registry);
    found.sort_unstable();
    assert_eq!(found, ["a", "h", "i"]);
    let whys: Vec<_> = registry
        .rejected
        .iter()
        .map(|rejected| (rejected.place.rsplit('/').next().unwrap(), rejected.why.as_str()))
        .collect();
    let expected = [
        ("b.toml", "line 1 is not UTF-8"),
        ("f.toml", "not a regular file"),
        ("g.toml", "larger than"),
        ("j.toml", "no such file"),
        ("k.toml", "symbolic links"),
        ("l.toml", "not a regular file"),
        ("m.toml", "not a regular file"),
        ("n.toml", "not a regular file"),
        ("o.toml", "larger than"),
        ("p.toml:1:9", ""),
        ("c.toml", "is taken by"),
    ];
    assert_eq!(whys.len(), expected.len(), "{whys:?}");
    for ((name, why), (file, expect)) in whys.iter().zip(expected) {
        assert!(*name == file && why.contains(expect), "{name}: {why}");
    }
}

#[test]
fn an_id_has_versions_each_with_a_status() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, more: &str| {
        fs::write(dir.path().join(name), format!("{more}\n{}", manifest("a"))).unwrap();
    };
    write("1.toml", "version = \"1\"");
    write("2.toml", "version = \"2\"");
    write("3.toml", "");
    write("again.toml", "version = \"2\"");
    let registry = Manifests::new(dir.path()).reload();
    let names: Vec<_> = registry.templates.iter().map(Template::name).collect();
    assert_eq!(names, ["a@1", "a@2", "a"]);
    let why = &registry.rejected[0].why;
    assert!(why.contains("version \"2\"") && why.contains("2.toml"), "{why}");
    // Of two that contradict each other the stricter one holds, whatever their names.
    let other = manifest("a").replace("approved", "revoked");
    fs::write(dir.path().join("z.toml"), format!("version = \"2\"\n{other}")).unwrap();
    fs::remove_file(dir.path().join("again.toml")).unwrap();
    let registry = Manifests::new(dir.path()).reload();
    let named: Vec<_> = registry.templates.iter().filter(|t| t.is_named("a@2")).collect();
    assert_eq!((named.len(), named[0].status), (1, TemplateStatus::Revoked));
    assert!(registry.rejected[0].place.ends_with("2.toml"), "{:?}", registry.rejected);
    let named = |name| registry.templates.iter().filter(|t| t.is_named(name)).count();
    assert_eq!(["a", "a@2", "a@", "a@3", "b"].map(named), [3, 1, 1, 0, 0]);
}

#[test]
fn ten_thousand_files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..10_000 {
        fs::write(dir.path().join(format!("{n:05}.toml")), manifest(&format!("t{n}"))).unwrap();
    }
    let registry = Manifests::new(dir.path()).reload();
    assert_eq!(registry.templates.len(), MAX_FILES);
    assert_eq!(registry.rejected.len(), 1);
    assert!(registry.rejected[0].why.contains("5904 manifests are left out"));
    assert!(registry.gap().is_some(), "one of those may be what a VM needs");
}

#[test]
fn what_nothing_is_known_of_is_told_of() {
    let half = &manifest("b")[..20];
    let short = manifest("b").replace(SHA, "00");
    let some = format!("{}[[image]]\nrole = \"kernel\"\nsha256 = \"00\"\n", manifest("b"));
    let twin = manifest("a");
    for (text, known) in
        [(half, "b.toml:2:"), (&short, "b.toml"), (&some, "b.toml:6:"), (&twin, "b.toml")]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.toml"), manifest("a")).unwrap();
        fs::write(dir.path().join("b.toml"), text).unwrap();
        let registry = Manifests::new(dir.path()).reload();
        assert!(
            registry.incomplete.as_ref().is_some_and(|why| why.contains(known)),
            "{registry:?}"
        );
        assert_eq!((ids(&registry)[0], &registry.lost), ("a", &None));
    }
}

#[test]
fn a_manifest_that_counts_its_images_is_whole_or_none() {
    let image = |role: &str| {
        format!("[[image]]\nrole = \"{role}\"\nformat = \"raw\"\nsha256 = \"{SHA}\"\n")
    };
    let head = "id = \"a\"\nstatus = \"revoked\"\nimages = 2\n";
    let profile = "[profile]\nfirmware = \"efi\"\nsecure_boot = true\n";
    let whole = [head, profile, &image("disk"), &image("kernel")].concat();
    let read = |text: &str| {
        let mut rejected = Vec::new();
        parse(Path::new("a.toml"), text, &mut rejected).map_err(|refused| told(&refused))
    };
    let template = read(&whole).unwrap();
    assert_eq!((template.images.len(), template.profile.secure_boot), (2, Some(true)));
    for end in 0..whole.trim_end().len() {
        assert!(read(&whole[..end]).is_err(), "{}", &whole[..end]);
    }
    let behind = [head, &image("disk"), &image("kernel"), profile].concat();
    let cases = [
        (behind, "a.toml:12:", "before the first [[image]]"),
        (whole.replace("= 2", "= 3"), "a.toml:3:", "3 images are announced, and 2 usable"),
        (whole.replacen(SHA, "00", 1), "a.toml:3:", "2 images are announced, and 1 usable"),
    ];
    for (text, place, why) in cases {
        let refused = read(&text).unwrap_err();
        assert!(refused.contains(place) && refused.contains(why), "{refused}");
    }
}

#[test]
fn what_turns_unreadable_keeps_its_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let templates = dir.path().join("templates.d");
    let mut manifests = Manifests::new(&templates);
    let registry = manifests.reload();
    assert_eq!((registry.templates.len(), registry.rejected.len()), (0, 1));

    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("a.toml"), manifest("a")).unwrap();
    fs::write(templates.join("b.toml"), manifest("b")).unwrap();
    assert_eq!(ids(&manifests.reload()), ["a", "b"]);

    // An editor has written half of it.
    fs::write(templates.join("b.toml"), &manifest("b")[..20]).unwrap();
    let registry = manifests.reload();
    assert_eq!(ids(&registry), ["a", "b"]);
    assert!(registry.rejected[0].why.contains("stays in force"), "{:?}", registry.rejected);
    assert_eq!(registry.incomplete, None);

    fs::rename(&templates, dir.path().join("gone")).unwrap();
    let registry = manifests.reload();
    assert_eq!(ids(&registry), ["a", "b"]);
    assert_eq!(registry.rejected.len(), 1);

    fs::rename(dir.path().join("gone"), &templates).unwrap();
    fs::remove_file(templates.join("a.toml")).unwrap();
    fs::write(templates.join("b.toml"), manifest("b")).unwrap();
    let registry = manifests.reload();
    assert_eq!(ids(&registry), ["b"]);
    assert_eq!(registry.rejected, []);
}
