use std::{fs, os::unix::ffi::OsStrExt, time::Duration};

use detector_common::{addr::Mac, settings::Mode, stamp::Stamp};
use detector_core::model::{AddressRule, AdoptionRules, EvidenceLevel};

use super::*;
use crate::inventory::MetadataTrust;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("c.toml")).map_err(|error| error.to_string())
}

#[test]
fn nothing_configured_is_the_default() {
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(Config::default().stamp, Stamp::DEFAULT);
}

#[test]
fn the_example_is_the_default_also_when_its_keys_are_not_commented_out() {
    assert_eq!(parse(EXAMPLE), Ok(Config::default()));
    let keys = EXAMPLE.lines().filter(|line| line.starts_with('#') && !line.starts_with("# "));
    assert_eq!(keys.count(), 87, "a key is missing from the example");
    let active: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let user = Some("detector".to_owned());
    let mut expect = Config { user, ..Config::default() };
    expect.api.group = Some("detector".to_owned());
    expect.sandbox.bridge = Some("sbx0".to_owned());
    let address = "198.51.100.53".parse().unwrap();
    let service = ServiceKeys { address, protocol: Protocol::Tcp, port: Some(443) };
    expect.sandbox.services = Some(vec![service]);
    expect.remediation.pool = Some("detector-sandbox".to_owned());
    expect.metrics.textfile = Some("/var/lib/prometheus/node-exporter/detector.prom".into());
    expect.fleet.name = "prod".parse().ok();
    expect.fleet.host = "host-1".parse().ok();
    expect.fleet.authority = Some("/etc/detector/fleet-ca.pem".into());
    let bridge = Some("br-dmz".to_owned());
    expect.modes = vec![ModeKeys { bridge, vm: None, mode: Mode::Observe }];
    assert_eq!(parse(&active), Ok(expect));
}

#[test]
fn what_is_adopted_is_what_is_listed() {
    let adopted =
        |text: &str| parse(&format!("[learning]\n{text}")).map(|one| one.policy().adoption);
    assert_eq!(adopted(""), Ok(AdoptionRules::DEFAULT));
    let none = AdoptionRules {
        neighbours: false,
        observed: false,
        migrated: false,
        ..AdoptionRules::DEFAULT
    };
    assert_eq!(adopted("adopt = []"), Ok(none));
    let lasts = Duration::from_secs(60);
    let one = AdoptionRules { migrated: true, lasts, ..none };
    assert_eq!(adopted("adopt = [\"migrated\"]\nadopt_for = \"1m\""), Ok(one));
    for wrong in ["adopt_for = \"59s\"", "adopt_for = \"8days\"", "adopt = [\"all\"]"] {
        let error = adopted(wrong).unwrap_err();
        assert!(error.contains("adopt") || error.contains("all"), "{error}");
    }
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        r#"
        mode = "enforce"
        [paths]
        state = "/s"
        [network]
        bridges = ["br*", "!br9"]
        uplinks = ["eth?"]
        trusted = ["wg0"]
        closed_devices = ["eth?"]
        known_senders = ["02:42:ac:11:00:02"]
        [policy]
        evidence = "declared"
        default_rule = "exact"
        unknown_port_grace = "1m 30s"
        [admission]
        timeout = "500ms"
        on_timeout = "refuse"
        [stamp]
        carrier = "tc-index"
        "#,
    )
    .unwrap();
    let policy = config.policy();
    assert_eq!(policy.mode, Mode::Enforce);
    assert_eq!(policy.evidence, EvidenceLevel::Declared);
    assert_eq!(policy.default_rule, AddressRule::Exact);
    assert_eq!(policy.unknown_port_grace, Duration::from_secs(90));
    assert_eq!(policy.bridges, ["br*", "!br9"]);
    assert_eq!(policy.uplinks, ["eth?"]);
    assert_eq!(policy.trusted, ["wg0"]);
    assert_eq!(policy.closed_devices, ["eth?"]);
    assert_eq!(policy.known_senders, [Mac([2, 0x42, 0xac, 0x11, 0, 2])]);
    assert_eq!(config.admission.timeout, Duration::from_millis(500));
    assert_eq!(config.admission.on_timeout, OnRefusal::Refuse);
    assert_eq!(config.admission.denied, OnRefusal::Mute);
    assert_eq!(config.paths.state, Path::new("/s"));
    assert_eq!(config.stamp, Stamp::IN_TC_INDEX);
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    let cases: &[(&str, &str, &str)] = &[
        ("mode = \"watch\"", "c.toml:1:8: ", "expected `observe` or `enforce`"),
        ("\nmod = 1", "c.toml:2:1: ", "unknown field `mod`, expected one of `mode`"),
        ("[libvirt]\nurl = \"\"", "c.toml:2:1: ", "`uri`"),
        ("[libvirt]\nuris = [\"lxc\"]", "c.toml:2:8: ", "no connection URI"),
        ("[libvirt]\nuris = [\"lxc:///\", \"lxc:///\"]", "c.toml:2:8: ", "listed twice"),
        ("[libvirt]\nmetadata = \"yes\"", "c.toml:2:12: ", "`trusted`, `narrow`"),
        ("[libvirt]\nmetadata_of = { \"lxc:///\" = \"narrow\" }", "c.toml:2:15: ", "no connection"),
        ("[libvirt]\nuri = \"xen:///\"\nuris = [\"lxc:///\"]", "c.toml:2:7: ", "in its place"),
        ("[metrics]\ntextfile = \"/a.txt\"", "c.toml:2:12: ", ".prom"),
        ("[metrics]\ninterval = \"0s\"", "c.toml:2:12: ", "expected \"1s\""),
        ("[mitigation]\nmax_percent = 101", "c.toml:2:15: ", "0 to 100"),
        ("[mitigation]\nwindow = \"0s\"", "c.toml:2:10: ", "1s"),
        ("[remediation]\npool = \"\"", "c.toml:2:8: ", "name of a storage pool"),
        ("[remediation]\nshutdown_grace = \"2h\"", "c.toml:2:18: ", "one hour"),
        (
            "[remediation]\nprovisioners = [{ name = \"a\", command = [\"sh\"] }]",
            "c.toml:2:16: ",
            "whole path",
        ),
        (
            "[[remediation.provisioners]]\nname = \"a/b\"\ncommand = [\"/bin/true\"]",
            "c.toml:1:1: ",
            "no name of a provisioner",
        ),
        (
            "[[remediation.provisioners]]\nname = \"a\"\noffline = { run = [\"true\"] }",
            "c.toml:1:1: ",
            "name one by remediation.pool",
        ),
        (
            "[remediation]\npool = \"p\"\nprovisioners = [{ name = \"a\", offline = {} }]",
            "c.toml:3:16: ",
            "expected 1 to 256",
        ),
        (
            "[remediation]\npool = \"p\"\nprovisioners = [{ name = \"a\", command = [\"/a\"], \
             offline = {} }]",
            "c.toml:3:16: ",
            "expected either `offline`",
        ),
        ("mode = ", "c.toml:1:", "string"),
        ("[policy]\nunknown_port_grace = 5", "c.toml:2:22: ", "expected a string"),
        ("[policy]\nunknown_port_grace = \"x\"", "c.toml:2:22: ", "\"500ms\""),
        ("[policy]\nunknown_port_grace = \"2days\"", "c.toml:2:22: ", "one day"),
        ("[admission]\ntimeout = \"0s\"", "c.toml:2:11: ", "more than zero"),
        ("[policy]\nquarantine = \"mute\"", "c.toml:2:14: ", "`drop` or `sandbox`"),
        ("[policy]\nquarantine = \"sandbox\"", "c.toml:2:14: ", "sandbox.bridge"),
        ("[sandbox]\nbridge = \"sbx*\"", "c.toml:2:10: ", "no interface name"),
        ("[sandbox]\nrule = \"exact\"", "c.toml:2:8: ", "\"first-come\", \"dhcp\""),
        ("[sandbox]\nrule = \"prefix\"", "c.toml:2:8: ", "sandbox.addresses"),
        ("[sandbox]\nrule = \"any\"\naddresses = [\"::/8\"]", "c.toml:3:13: ", "\"prefix\""),
        ("[sandbox]\nrule = \"any\"\nprotected = [\"192.0.2.1\"]", "c.toml:3:13: ", "192.0.2.1"),
        ("[sandbox]\naddresses = [\"192.0.2.1\"]", "c.toml:2:13: ", "CIDR"),
        ("[sandbox]\nservices = []", "c.toml:2:12: ", "no sandbox"),
        (
            "[sandbox]\nbridge = \"sbx0\"\nrule = \"any\"\nservices = [{ address = \"192.0.2.1\", protocol = \"icmp\" }]",
            "c.toml:4:12: ",
            "192.0.2.1",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\nrule = \"prefix\"\naddresses = [\"192.0.2.0/24\"]\n\
             services = [{ address = \"192.0.2.1\", protocol = \"icmp\" }]",
            "c.toml:5:12: ",
            "prefixes without it",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\nservices = [{ address = \"192.0.2.1\", protocol = \"tcp\" }]",
            "c.toml:3:12: ",
            "a port from 1 on",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\nservices = [{ address = \"192.0.2.1\", protocol = \"dhcp\", port = 67 }]",
            "c.toml:3:12: ",
            "no port",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\nservices = [{ address = \"ff02::1\", protocol = \"icmp\" }]",
            "c.toml:3:12: ",
            "no host's address",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\nservices = [{ address = \"192.0.2.1\", protocol = \"gre\" }]",
            "c.toml:3:49: ",
            "`router`",
        ),
        (
            "[sandbox]\nrule = \"prefix\"\naddresses = [\"192.0.2.0/24\"]\nprotected = [\"192.0.2.1\"]",
            "c.toml:4:13: ",
            "prefixes without it",
        ),
        (
            "[sandbox]\nbridge = \"sbx0\"\n[stamp]\nmask = 0x40000000\nvalue = 0x40000000",
            "c.toml:4:8: ",
            "two bits",
        ),
        ("[registry]\nimage_dirs = [\"x\"]", "c.toml:2:14: ", "begins with /"),
        ("[flood]\nabove = 0", "c.toml:2:9: ", "at least 1"),
        ("[flood]\nabove = 10", "c.toml", "1 to 10"),
        ("[flood]\nbelow = 20000", "c.toml:2:9: ", "1 to 10000"),
        ("[flood]\ncalm = \"2h\"", "c.toml:2:8: ", "one hour"),
        ("[network]\nbridges = [\"br 0\"]", "c.toml:2:11: ", "matches no interface name"),
        ("[network]\nbridges = [\"!\"]", "c.toml:2:11: ", "matches no interface name"),
        ("[network]\nuplinks = [\"a-very-long-name\"]", "c.toml:2:11: ", "at most 15"),
        ("[network]\nclosed_devices = [\"eth 0\"]", "c.toml:2:18: ", "matches no interface name"),
        (
            "[network]\nknown_senders = [\"02:42\"]",
            "c.toml:2:17: ",
            "such as \"02:42:ac:11:00:02\"",
        ),
        ("[network]\nknown_senders = [\"ff:ff:ff:ff:ff:ff\"]", "c.toml:2:17: ", "no station's MAC"),
        ("[paths]\nstate = \"x\"", "c.toml:2:9: ", "begins with /"),
        ("[libvirt]\nuri = \"system\"", "c.toml:2:7: ", "qemu:///system"),
        ("[[modes]]\nmode = \"observe\"", "c.toml:1:", "either bridge"),
        ("[[modes]]\nbridge = \"b\"\nvm = \"v\"\nmode = \"observe\"", "c.toml:1:", "either bridge"),
        ("[[modes]]\nbridge = \"!b\"\nmode = \"observe\"", "c.toml:1:", "does not exclude"),
        ("[[modes]]\nbridge = \"b\"", "c.toml:1:", "missing field `mode`"),
        ("[sandbox]\ncreate = true", "c.toml:2:10: ", "no name"),
        ("[remediation]\napprovals = 0", "c.toml:2:13: ", "expected 1 to 5"),
        ("[stamp]\nmask = 0xff", "c.toml:2:8: ", "bits 16 to 31"),
        ("[stamp]\nvalue = 0", "c.toml:2:9: ", "at least one bit"),
        ("[stamp]\nvalue = 0x20000000", "c.toml:2:9: ", "outside the mask 0xc0000000"),
        ("[stamp]\ncarrier = \"tc-index\"\nmask = 0x10000", "c.toml:3:8: ", "16 bits"),
        ("[stamp]\nmask = 0x10000", "c.toml", "outside the mask 0x10000"),
        ("[stamp]\nmask = 0x1_0000_0000", "c.toml:2:8: ", "u32"),
        ("[stamp]\nmask = -1", "c.toml:2:8: ", "u32"),
    ];
    for (text, place, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(place), "{text:?}: {error}");
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn several_libvirts() {
    let uris = |text: &str| parse(text).unwrap().libvirt.uris().to_vec();
    assert_eq!(uris(""), ["qemu:///system"]);
    assert_eq!(uris("[libvirt]\nuri = \"\""), [""; 0]);
    assert_eq!(uris("[libvirt]\nuri = \"xen:///\""), ["xen:///"]);
    let several = "[libvirt]\nuris = [\"lxc:///\", \"qemu+unix:///session\", \"qemu:///system\"]";
    assert_eq!(uris(several), ["lxc:///", "qemu+unix:///session", "qemu:///system"]);
    let libvirt = parse(several).unwrap().libvirt;
    let of = |driver| libvirt.uri_of(driver);
    assert_eq!(of("lxc"), Some("lxc:///"));
    assert_eq!(of("qemu"), Some("qemu+unix:///session"), "the first one");
    assert_eq!(of("xen"), None);
    let trust =
        parse("[libvirt]\nuris = [\"a://\", \"b://\"]\nmetadata_of = { \"b://\" = \"trusted\" }");
    let trust = trust.unwrap().libvirt;
    let of = ["a://", "b://"].map(|uri| trust.metadata(uri));
    assert_eq!(of, [MetadataTrust::Narrow, MetadataTrust::Trusted]);
}

#[test]
fn a_named_file_has_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    assert!(matches!(
        Config::load(Some(&path)),
        Err(ConfigError::Unreadable { why: ReadError::Absent, .. })
    ));
    fs::write(&path, "mode = \"enforce\"").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().mode, Mode::Enforce);
    fs::write(&path, b"# \n# \xff").unwrap();
    assert!(matches!(
        Config::load(Some(&path)),
        Err(ConfigError::Unreadable { why: ReadError::Encoding(2), .. })
    ));
}

#[test]
fn only_small_regular_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_text(dir.path(), 9), Err(ReadError::Irregular));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(read_text(&fifo, 9), Err(ReadError::Irregular));
    let file = dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff\n"));
    fs::write(&file, "123456789").unwrap();
    assert_eq!(read_text(&file, 9), Ok("123456789".to_owned()));
    assert_eq!(read_text(&file, 8), Err(ReadError::TooLarge(8)));
    let place = Place::of(&file, "\n\u{e9}x", Some(3..4)).to_string();
    assert!(place.ends_with("\\n:2:2"), "{place}");
}
