use std::process::Command;

use super::*;

fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    super::parse(&Cluster::new(bytes)).map(|(header, _)| header)
}

/// A version 3 header with one backing format extension and the name of a backing file.
fn header(name: &[u8], format: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &MAGIC);
    put(4, &3u32.to_be_bytes());
    put(8, &512u64.to_be_bytes());
    put(16, &(name.len() as u32).to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(104, &EXTENSION_BACKING_FORMAT.to_be_bytes());
    put(108, &(format.len() as u32).to_be_bytes());
    put(112, format);
    put(512, name);
    bytes
}

fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = header(b"base.img", b"raw");
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

fn backing(name: &str, format: Option<&str>) -> Header {
    Header { backing: Some(Backing { name: name.into(), format: format.map(str::to_owned) }) }
}

#[test]
fn headers() {
    let good = Ok(backing("base.img", Some("raw")));
    let mut twice = header(b"base.img", b"raw");
    twice.copy_within(104..120, 120);
    let long = header(&[b'a'; 1023], b"raw");
    let cases: &[(&str, Vec<u8>, Result<Header, HeaderError>)] = &[
        ("plain", header(b"base.img", b"raw"), good.clone()),
        ("no format", header(b"base.img", b""), Ok(backing("base.img", None))),
        ("no backing", with(8, &0u64.to_be_bytes()), Ok(Header { backing: None })),
        ("empty name", header(b"", b"raw"), Ok(Header { backing: None })),
        ("longest name", long, Ok(backing(&"a".repeat(1023), Some("raw")))),
        ("name too long", with(16, &1024u32.to_be_bytes()), Err(HeaderError::BackingName)),
        ("name of 4 GiB", with(16, &[0xff; 4]), Err(HeaderError::BackingName)),
        ("name at the end", with(8, &65530u64.to_be_bytes()), Err(HeaderError::BackingName)),
        ("name beyond", with(8, &[0xff; 8]), Err(HeaderError::BackingName)),
        ("name over the header", with(8, &8u64.to_be_bytes()), Err(HeaderError::BackingName)),
        ("nul", header(b"base\0img", b"raw"), Err(HeaderError::BackingNul)),
        ("magic", with(0, b"QFI\0"), Err(HeaderError::Magic)),
        ("version 1", with(4, &1u32.to_be_bytes()), Err(HeaderError::Version(1))),
        ("version 4", with(4, &4u32.to_be_bytes()), Err(HeaderError::Version(4))),
        ("small clusters", with(20, &8u32.to_be_bytes()), Err(HeaderError::ClusterBits(8))),
        ("large clusters", with(20, &22u32.to_be_bytes()), Err(HeaderError::ClusterBits(22))),
        ("dirty", with(72, &1u64.to_be_bytes()), good.clone()),
        ("corrupt", with(72, &2u64.to_be_bytes()), good.clone()),
        ("external data", with(72, &4u64.to_be_bytes()), Err(HeaderError::ExternalData)),
        ("unknown", with(72, &[0x80, 0, 0, 0, 0, 0, 0, 0]), Err(HeaderError::Features(1 << 63))),
        ("short header", with(100, &103u32.to_be_bytes()), Err(HeaderError::Length(103))),
        ("a v2 length", with(100, &72u32.to_be_bytes()), Err(HeaderError::Length(72))),
        ("long header", with(100, &[0xff; 4]), Err(HeaderError::Length(u32::MAX))),
        ("extension beyond", with(108, &401u32.to_be_bytes()), Err(HeaderError::Extension)),
        ("long format", with(108, &16u32.to_be_bytes()), Err(HeaderError::BackingFormat)),
        ("format twice", twice, Err(HeaderError::BackingFormat)),
        ("no text", header(b"base.img", b"ra\xff"), Err(HeaderError::BackingFormat)),
        ("nothing", Vec::new(), Err(HeaderError::Magic)),
        ("cut", header(b"base.img", b"raw")[..100].to_vec(), Err(HeaderError::Truncated)),
    ];
    for (what, bytes, expect) in cases {
        assert_eq!(parse(bytes), *expect, "{what}");
    }
}

#[test]
fn a_version_2_header_has_no_features() {
    let mut bytes = vec![0; 512];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[7] = 2;
    bytes[23] = 9;
    bytes[8..16].copy_from_slice(&80u64.to_be_bytes());
    bytes[19] = 4;
    bytes[80..84].copy_from_slice(b"base");
    assert_eq!(parse(&bytes), Ok(backing("base", None)));
}

#[test]
fn no_bytes_make_it_panic() {
    let good = header(b"base.img", b"qcow2");
    for length in 0..600 {
        let _ = parse(&good[..length]);
    }
    // Every byte of header, extension and name, with values at the edges.
    for at in (0..140).chain(505..530) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let _ = parse(&bytes);
            bytes.truncate(540);
            let _ = parse(&bytes);
        }
    }
}

#[test]
fn images_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    type Case<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>);
    let cases: &[Case<'_>] = &[
        (&["base.qcow2", "1M"], None),
        (&["-b", "base.qcow2", "-F", "qcow2", "a"], Some(("base.qcow2", "qcow2"))),
        (&["-o", "compat=0.10", "-b", "a", "-F", "qcow2", "v2"], Some(("a", "qcow2"))),
        (&["-o", "cluster_size=512", "-b", "./a", "-F", "qcow2", "b"], Some(("./a", "qcow2"))),
        (&["-o", "cluster_size=2M", "-b", "a", "-F", "qcow2", "c"], Some(("a", "qcow2"))),
        (&["-o", "extended_l2=on", "-b", "a", "-F", "qcow2", "d"], Some(("a", "qcow2"))),
        (&["-o", "compression_type=zstd", "-b", "a", "-F", "qcow2", "e"], Some(("a", "qcow2"))),
        (&["-u", "-b", "a\u{e9} b", "-F", "raw", "f", "1M"], Some(("a\u{e9} b", "raw"))),
    ];
    for (arguments, expect) in cases {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(*arguments)
            .current_dir(&dir)
            .status()
            .unwrap();
        assert!(made.success(), "{arguments:?}");
        let name = arguments.iter().rev().find(|word| **word != "1M").unwrap();
        let file = File::open(dir.path().join(name)).unwrap();
        let expect = expect.map(|(name, format)| backing(name, Some(format)));
        let read = read(&file).map(|(header, _)| header);
        assert_eq!(read, Ok(expect.unwrap_or(Header { backing: None })), "{arguments:?}");
    }
    let external = ["create", "-q", "-f", "qcow2", "-o", "data_file=x.raw", "x", "1M"];
    assert!(Command::new("qemu-img").args(external).current_dir(&dir).status().unwrap().success());
    let file = File::open(dir.path().join("x")).unwrap();
    assert_eq!(read(&file), Err(HeaderError::ExternalData));
}
