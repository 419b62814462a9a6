use std::fs;

use super::*;

fn snapshot(text: &str) -> (Vec<Vm>, BTreeMap<Mac, NicSettings>, Vec<Refused>) {
    match parse(Path::new("i.toml"), text) {
        Update::Snapshot { vms, overlays, refused } => (vms, overlays, refused),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_is_taken() {
    let (vms, overlays, refused) = snapshot(
        r#"
        [[vm]]
        name = "db1"
        template = "debian-12"
        [[vm.nic]]
        mac = "52:54:00:00:00:01"
        port = "tap-db1"
        addresses = ["192.0.2.7/32", "2001:db8::/64"]
        rule = "exact"
        vlans = [5, 0, 5]
        router = true
        vrrp = true
        [[vm]]
        name = "db2"
        uuid = "5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50"
        [[nic]]
        mac = "52:54:00:00:00:02"
        addresses = ["192.0.2.8"]
        dhcp_server = false
        "#,
    );
    assert_eq!(refused, []);
    let nic = Nic {
        mac: "52:54:00:00:00:01".parse().unwrap(),
        port: Some("tap-db1".to_owned()),
        vlans: vec![0, 5],
        addresses: vec!["192.0.2.7/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
        rule: Some(AddressRule::Exact),
        dhcp_server: false,
        router: true,
        vrrp: true,
        unguarded: None,
        settings: Vec::new(),
    };
    let vm = |name: &str, uuid, template: Option<&str>, nics| Vm {
        uuid,
        name: name.to_owned(),
        power: PowerState::Running,
        nics,
        media: Vec::new(),
        declared_template: template.map(str::to_owned),
        run: None,
        presumed: Vec::new(),
        attachments: Vec::new(),
        posture: Posture::default(),
    };
    let second = Uuid::try_parse("5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50").unwrap();
    let mut expect = vec![
        vm("db1", uuid_of("db1"), Some("debian-12"), vec![nic]),
        vm("db2", second, None, vec![]),
    ];
    expect.sort_by_key(|vm| vm.uuid);
    assert_eq!(vms, expect);
    let settings = NicSettings {
        addresses: vec!["192.0.2.8/32".parse().unwrap()],
        dhcp_server: Some(false),
        ..NicSettings::default()
    };
    assert_eq!(overlays, BTreeMap::from([("52:54:00:00:00:02".parse().unwrap(), settings)]));
}

#[test]
fn a_bad_entry_is_refused_by_itself() {
    let nic = "[[vm]]\nname = \"x\"\n[[vm.nic]]\n";
    let cases: &[(String, &str)] = &[
        ("[[vm]]\nnome = \"x\"".to_owned(), "unknown field `nome`"),
        ("[[vm]]\nname = \"\"".to_owned(), "empty"),
        ("[[vm]]\nname = \"x\"\nuuid = \"1\"".to_owned(), "uuid"),
        ("[[vm]]\nname = \"good\"".to_owned(), "has an entry already"),
        (format!("{nic}port = \"x\""), "missing field `mac`"),
        (format!("{nic}mac = \"x\""), "not a MAC"),
        (
            format!("{nic}mac = \"52:54:00:00:00:01\"\nvlans = [4095]"),
            "expected 0 (untagged) to 4094",
        ),
        (format!("{nic}mac = \"52:54:00:00:00:01\"\nrule = \"all\""), "`exact`"),
        (format!("{nic}mac = \"52:54:00:00:00:01\"\nport = \"a/b\""), "network interface"),
        ("[[nic]]\nmac = \"52:54:00:00:00:02\"".to_owned(), "has an entry already"),
        ("[[nic]]\nmac = \"ff:ff:ff:ff:ff:ff\"".to_owned(), "station"),
        ("[[nic]]\nmac = \"52:54:00:00:00:03\"\nport = \"x\"".to_owned(), "unknown field `port`"),
    ];
    assert_eq!(settings_of(&toml::from_str("mac = \"52:54:00:00:00:03\"").unwrap()), {
        Unsettled::Nics([nic::mac("52:54:00:00:00:03").unwrap()].into())
    });
    assert_eq!(settings_of(&toml::from_str("mac = \"zz\"").unwrap()), Unsettled::Any);
    for (entry, expected) in cases {
        let text =
            format!("[[nic]]\nmac = \"52:54:00:00:00:02\"\n[[vm]]\nname = \"good\"\n{entry}\n");
        let (vms, overlays, refused) = snapshot(&text);
        assert_eq!((vms.len(), overlays.len(), refused.len()), (1, 1, 1), "{entry}: {refused:?}");
        let Rejected { place, why } = &refused[0].rejected;
        assert!(place.starts_with("i.toml:5:"), "{entry}: {place}");
        assert!(why.contains(expected) && !why.contains('\n'), "{entry}: {why}");
    }
}

#[test]
fn addresses_are_what_they_seem() {
    let cases = [
        ("192.0.2.7", None),
        ("192.0.2.0/24", None),
        ("0.0.0.0/0", None),
        ("2000::/3", None),
        ("192.0.2.7/24", Some("expected 192.0.2.7 for one address or 192.0.2.0/24")),
        ("192.0.2.7/33", Some("neither")),
        ("224.0.0.1", Some("multicast")),
        ("ff02::1", Some("multicast")),
        ("::ffff:192.0.2.7", Some("IPv4-mapped")),
        ("::/0", Some("IPv4-mapped")),
        ("::fffe:0:0/95", Some("IPv4-mapped")),
        ("host", Some("neither")),
    ];
    for (text, error) in cases {
        match (nic::address(text), error) {
            (Ok(_), None) => {}
            (Err(why), Some(expected)) => assert!(why.contains(expected), "{text}: {why}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_empty_and_one_that_is_bad_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.toml");
    assert!(matches!(read(&path), Update::Snapshot { vms, .. } if vms.is_empty()));
    for bad in [&b"[[vm]]\nname = \"x"[..], b"\xff", b"vms = 1", b"vm = 1"] {
        fs::write(&path, bad).unwrap();
        let Update::Lost { why } = read(&path) else { panic!("{bad:?}") };
        assert!(why.contains("inventory.toml"), "{why}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&path), Update::Lost { .. }));
}
