use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use tempfile::TempDir;

use super::*;

/// A directory with images in it.
struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn raw(&self, name: impl AsRef<Path>) -> PathBuf {
        fs::write(self.path(&name), "raw").unwrap();
        self.path(name)
    }

    fn overlay(&self, name: impl AsRef<Path>, backing: impl AsRef<OsStr>, format: &str) -> PathBuf {
        let bytes = overlay(backing.as_ref().as_bytes(), format.as_bytes());
        fs::write(self.path(&name), bytes).unwrap();
        self.path(name)
    }
}

/// The smallest version 3 image with a backing file.
fn overlay(backing: &[u8], format: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &512u64.to_be_bytes());
    put(16, &(backing.len() as u32).to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    if !format.is_empty() {
        put(104, &0xe279_2aca_u32.to_be_bytes());
        put(108, &(format.len() as u32).to_be_bytes());
        put(112, format);
    }
    put(512, backing);
    bytes
}

/// The names of the layers, top first, with their formats.
fn layers(path: &Path, format: Option<&str>) -> Result<Vec<String>, ChainError> {
    let walked = walk(&ImageFile::new(path, format), &Pools::anywhere())?;
    let all = walked.overlays.iter().chain([&walked.base]);
    Ok(all
        .map(|layer| {
            let name = layer.path.file_name().unwrap().to_string_lossy().into_owned();
            format!("{name}:{}", layer.format)
        })
        .collect())
}

#[test]
fn a_chain_leads_to_its_base() {
    let images = Images::new();
    images.raw("base");
    images.overlay("mid", "base", "raw");
    let top = images.overlay("top", images.path("mid"), "qcow2");
    assert_eq!(layers(&top, Some("qcow2")).unwrap(), ["top:qcow2", "mid:qcow2", "base:raw"]);
    assert_eq!(layers(&images.path("base"), None).unwrap(), ["base:raw"]);
}

#[test]
fn contents_never_decide_how_a_layer_is_read() {
    let images = Images::new();
    images.raw("approved");
    // A guest has written an overlay's header onto its raw disk.
    let disk = images.overlay("disk", "approved", "raw");
    assert_eq!(layers(&disk, Some("raw")).unwrap(), ["disk:raw"]);
    assert_eq!(layers(&disk, None), Err(ChainError::Ambiguous(disk.clone())));
    let stated = images.overlay("stated", "disk", "raw");
    assert_eq!(layers(&stated, Some("qcow2")).unwrap(), ["stated:qcow2", "disk:raw"]);
    let unstated = images.overlay("unstated", "disk", "");
    assert_eq!(layers(&unstated, Some("qcow2")), Err(ChainError::Ambiguous(disk)));
    // Without a backing file both readings have the same base.
    let whole = images.overlay("whole", "", "");
    assert_eq!(layers(&whole, None).unwrap(), ["whole:qcow2"]);
    // A raw disk that is said to be qcow2 is refused, not probed.
    let raw = images.path("approved");
    assert_eq!(layers(&raw, Some("qcow2")), Err(ChainError::Header(raw, HeaderError::Magic)));
}

#[test]
fn formats_other_than_two_are_refused() {
    let images = Images::new();
    let disk = images.raw("disk");
    assert_eq!(
        layers(&disk, Some("vmdk")),
        Err(ChainError::Format(disk.clone(), "vmdk".to_owned()))
    );
    let top = images.overlay("top", "disk", "luks");
    assert_eq!(layers(&top, Some("qcow2")), Err(ChainError::Format(disk, "luks".to_owned())));
}

#[test]
fn only_file_names_are_followed() {
    let images = Images::new();
    images.raw("json:x");
    for name in [
        "json:{\"driver\":\"null-co\"}",
        "nbd:unix:/x",
        "nbd://h/x",
        "http://h/x",
        "json:x",
        ":",
        "a:b",
    ] {
        let top = images.overlay("top", name, "raw");
        assert_eq!(
            layers(&top, Some("qcow2")),
            Err(ChainError::Protocol(top.clone(), name.to_owned()))
        );
    }
    // After a slash a colon is a colon, as it is for QEMU.
    let top = images.overlay("top", "./json:x", "raw");
    assert_eq!(layers(&top, Some("qcow2")).unwrap(), ["top:qcow2", "json:x:raw"]);
}

#[test]
fn walks_end() {
    let images = Images::new();
    let own = images.overlay("own", "own", "qcow2");
    assert_eq!(layers(&own, Some("qcow2")), Err(ChainError::Cycle(own)));
    images.overlay("a", "b", "qcow2");
    fs::hard_link(images.path("a"), images.path("a2")).unwrap();
    images.overlay("b", "./a2", "qcow2");
    let cycle = layers(&images.path("a"), Some("qcow2"));
    assert_eq!(cycle, Err(ChainError::Cycle(images.path("./a2"))));

    images.raw("0");
    for layer in 1..=1000 {
        let format = if layer == 1 { "raw" } else { "qcow2" };
        images.overlay(layer.to_string(), (layer - 1).to_string(), format);
    }
    let deep = images.path("1000");
    assert_eq!(layers(&deep, Some("qcow2")), Err(ChainError::TooDeep(deep)));
    let shallow = images.path((MAX_LAYERS - 1).to_string());
    assert_eq!(layers(&shallow, Some("qcow2")).unwrap().len(), MAX_LAYERS);
    let one_more = images.path(MAX_LAYERS.to_string());
    assert_eq!(layers(&one_more, Some("qcow2")), Err(ChainError::TooDeep(one_more)));
}

#[test]
fn links_are_followed_and_names_resolve_where_the_overlay_was_named() {
    let images = Images::new();
    fs::create_dir(images.path("real")).unwrap();
    images.overlay("real/top", "base", "raw");
    images.raw("base");
    symlink("real/top", images.path("link")).unwrap();
    let walked =
        walk(&ImageFile::new(images.path("link"), Some("qcow2")), &Pools::anywhere()).unwrap();
    let dir = images.0.path().canonicalize().unwrap();
    assert_eq!(walked.overlays[0].path, dir.join("real/top"));
    assert_eq!(walked.base.path, dir.join("base"));

    symlink("loop", images.path("loop")).unwrap();
    assert!(matches!(
        layers(&images.path("loop"), None),
        Err(ChainError::Open(_, OpenError::Io(_)))
    ));
}

#[test]
fn only_files_and_block_devices_are_opened() {
    let images = Images::new();
    let fifo = images.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let cases = [
        (fifo, OpenError::Irregular("FIFO")),
        (images.path("."), OpenError::Irregular("directory")),
        (PathBuf::from("/dev/zero"), OpenError::Irregular("character device")),
        (images.path("absent"), OpenError::Absent),
        // Files that need not end, and such as lead elsewhere for each process.
        (PathBuf::from("/proc/kmsg"), OpenError::Irregular("file of the kernel's own")),
        (
            PathBuf::from("/sys/kernel/uevent_seqnum"),
            OpenError::Irregular("file of the kernel's own"),
        ),
        (PathBuf::from("/proc/self/fd/0"), OpenError::MagicLink),
        (PathBuf::from("/dev/fd/0"), OpenError::MagicLink),
        (PathBuf::from("/proc/self/root/etc/passwd"), OpenError::MagicLink),
    ];
    for (path, error) in cases {
        assert_eq!(layers(&path, Some("raw")), Err(ChainError::Open(path, error)));
    }
    let top = images.overlay("top", "absent", "raw");
    assert_eq!(
        layers(&top, Some("qcow2")),
        Err(ChainError::Open(images.path("absent"), OpenError::Absent))
    );
}

#[test]
fn names_need_not_be_utf_8() {
    let images = Images::new();
    let name = OsString::from(OsStr::from_bytes(b"b\xff\n"));
    images.raw(&name);
    let top = images.overlay("top", &name, "raw");
    let walked = walk(&ImageFile::new(&top, Some("qcow2")), &Pools::anywhere()).unwrap();
    assert_eq!(walked.base.path.file_name(), Some(name.as_os_str()));
}

/// Pools, a medium in a directory of its own, and what it may lead to.
#[test]
fn backing_files_are_followed_within_the_pools_only() {
    let images = Images::new();
    for dir in ["pool", "pool/deep", "vm", "elsewhere", "pool-not"] {
        fs::create_dir(images.path(dir)).unwrap();
    }
    for base in ["pool/base", "pool/deep/base", "vm/base", "elsewhere/base", "pool-not/base"] {
        images.raw(base);
    }
    symlink(images.path("elsewhere/base"), images.path("vm/link")).unwrap();
    symlink(images.path("elsewhere"), images.path("pool/out")).unwrap();
    symlink(images.path("pool"), images.path("elsewhere/in")).unwrap();
    images.overlay("elsewhere/overlay", "../pool/base", "raw");
    images.overlay("pool/overlay", "../elsewhere/base", "raw");
    let pools = Pools::new(&[images.path("pool")]);
    let cases = [
        ("base", true),
        ("../pool/base", true),
        ("../pool/deep/base", true),
        // Where it leads counts, not how it is named.
        ("../elsewhere/in/base", true),
        ("../elsewhere/base", false),
        ("../pool/../elsewhere/base", false),
        ("../pool-not/base", false),
        ("link", false),
        ("../pool/out/base", false),
        ("/etc/passwd", false),
        // One step out is too many, wherever the chain ends.
        ("../elsewhere/overlay", false),
        ("../pool/overlay", false),
    ];
    for (backing, followed) in cases {
        let format = if backing.ends_with("overlay") { "qcow2" } else { "raw" };
        let top = images.overlay("vm/top", backing, format);
        let walked = walk(&ImageFile::new(&top, Some("qcow2")), &pools);
        let outside = matches!(&walked, Err(ChainError::Open(_, OpenError::Outside(_))));
        assert_eq!((walked.is_ok(), outside), (followed, !followed), "{backing}: {walked:?}");
        // The same where a manager repeats what the image says.
        let named = Some(images.path("vm").join(backing));
        let beneath = named.filter(|_| !backing.ends_with("overlay")).map(|path| ImageFile {
            beneath: Some(top.clone()),
            ..ImageFile::new(path, Some("raw"))
        });
        if let Some(beneath) = beneath {
            assert_eq!(walk(&beneath, &pools).is_ok(), followed, "{backing} as a manager says");
        }
    }
    // A manager's pools count too, until it names others.
    let top = images.overlay("vm/top", "../elsewhere/base", "raw");
    let top = ImageFile::new(top, Some("qcow2"));
    for (told, followed) in [(vec![images.path("elsewhere")], true), (Vec::new(), false)] {
        pools.tell("qemu:///system", told);
        assert_eq!(walk(&top, &pools).is_ok(), followed);
    }
    // What the manager itself names is opened wherever it lies.
    let named = ImageFile::new(images.path("elsewhere/base"), Some("raw"));
    assert!(walk(&named, &pools).is_ok());
    let error = walk(
        &ImageFile::new(images.overlay("vm/top", "/etc/passwd", "raw"), Some("qcow2")),
        &pools,
    );
    let told = error.unwrap_err().to_string();
    assert!(told.contains("/etc/passwd") && told.contains("registry.image_dirs"), "{told}");
}

#[test]
fn a_device_is_known_by_its_name() {
    let pools = Pools::new(&[PathBuf::from("/dev/vg0")]);
    let reach = pools.beneath(Path::new("/dev/sdb"), Path::new("/dev/sdb"));
    let cases = [
        ("/dev/vg0/base", "/dev/dm-3", true),
        ("/dev/vg0/../sda", "/dev/sda", false),
        ("/dev/sda", "/dev/sda", false),
        ("/dev/vg01/base", "/dev/dm-4", false),
    ];
    for (named, real, reached) in cases {
        assert_eq!(reach.includes(Path::new(named), Path::new(real), true), reached, "{named}");
    }
    let beside = pools.beneath(Path::new("/dev/vg1/top"), Path::new("/dev/dm-9"));
    assert!(beside.includes(Path::new("/dev/vg1/base"), Path::new("/dev/dm-5"), true));
    assert!(!beside.includes(Path::new("/dev/sda"), Path::new("/dev/sda"), true));
}

/// Wherever in a large first cluster the name is, it is the same name.
#[test]
fn a_large_cluster_is_read_as_far_as_it_is_needed() {
    let images = Images::new();
    images.raw("base");
    for place in [512_u64, 65_532, 65_536, 1_000_000] {
        let mut bytes = overlay(b"base", b"raw");
        bytes.resize(2 << 20, 0);
        bytes[512..516].fill(0);
        bytes[8..16].copy_from_slice(&place.to_be_bytes());
        bytes[20..24].copy_from_slice(&21u32.to_be_bytes());
        let start = usize::try_from(place).unwrap();
        bytes[start..start + 4].copy_from_slice(b"base");
        let top = images.path("top");
        fs::write(&top, bytes).unwrap();
        assert_eq!(layers(&top, Some("qcow2")).unwrap(), ["top:qcow2", "base:raw"], "{place}");
    }
}

/// Features that change how contents are kept do not change what lies beneath, or are refused.
#[test]
fn features_that_change_how_an_image_is_read() {
    let images = Images::new();
    images.raw("base");
    let cases = [
        ("dirty", 1 << 0, true),
        ("corrupt", 1 << 1, true),
        ("external data", 1 << 2, false),
        ("compression", 1 << 3, true),
        ("extended L2 entries", 1 << 4, true),
        ("something new", 1_u64 << 5, false),
    ];
    for (what, feature, read) in cases {
        let mut bytes = overlay(b"base", b"raw");
        bytes[72..80].copy_from_slice(&feature.to_be_bytes());
        fs::write(images.path("top"), &bytes).unwrap();
        assert_eq!(layers(&images.path("top"), Some("qcow2")).is_ok(), read, "{what}");
    }
    // Encrypted (LUKS) or not, the name of what lies beneath is the same.
    let mut bytes = overlay(b"base", b"raw");
    bytes[32..36].copy_from_slice(&2u32.to_be_bytes());
    // It lies about its sizes: neither the disk's nor that of its tables is believed.
    bytes[24..32].copy_from_slice(&u64::MAX.to_be_bytes());
    bytes[36..56].fill(0xff);
    fs::write(images.path("top"), &bytes).unwrap();
    assert_eq!(layers(&images.path("top"), Some("qcow2")).unwrap(), ["top:qcow2", "base:raw"]);
}
