use super::*;

#[test]
fn rules() {
    use AddressRule::{Any, Dhcp, Exact, FirstCome, Prefix};
    /// The NIC's rule, its list, and what is granted of each family.
    type Case = (Option<AddressRule>, &'static [&'static str], &'static str, &'static str);
    let cases: &[Case] = &[
        (None, &[], "any", "any"),
        (Some(Exact), &[], "", ""),
        (Some(Prefix), &[], "", ""),
        (Some(Any), &["192.0.2.7/32"], "any", "any"),
        (None, &["192.0.2.7/24"], "192.0.2.7/32", ""),
        (Some(Exact), &["192.0.2.7/24", "192.0.2.7/32"], "192.0.2.7/32", ""),
        (Some(Prefix), &["192.0.2.7/24"], "192.0.2.0/24", ""),
        (Some(Prefix), &["192.0.2.7/24", "192.0.2.9/32", "192.0.0.0/16"], "192.0.0.0/16", ""),
        (Some(Prefix), &["0.0.0.0/0", "192.0.2.0/24"], "any", ""),
        (Some(Prefix), &["::/0"], "", "any"),
        (Some(Exact), &["0.0.0.0/0", "::/0"], "", ""),
        (None, &["2001:db8::1/64", "192.0.2.1/32"], "192.0.2.1/32", "2001:db8::1/128"),
        (Some(Prefix), &["2001:db8::1/64"], "", "2001:db8::/64"),
        // To a rule that learns, the list is where it may.
        (Some(Dhcp), &[], "any", "any"),
        (Some(FirstCome), &[], "any", "any"),
        (Some(Dhcp), &["192.0.2.7/24"], "192.0.2.0/24", ""),
        (Some(FirstCome), &["2001:db8::1/64"], "", "2001:db8::/64"),
        // Nobody's: multicast, broadcast, unspecified, and IPv4 by way of IPv6.
        (None, &["224.0.0.1/32", "255.255.255.255/32", "0.0.0.0/32", "::/128"], "", ""),
        (None, &["ff02::1/128", "::ffff:192.0.2.1/128"], "", ""),
        (Some(Prefix), &["::/64", "::/8", "::ffff:0:0/96", "ff00::/8", "224.0.0.0/4"], "", ""),
    ];
    for (rule, list, v4, v6) in cases {
        let nic = nic(*rule, list);
        let [identity] = &identities(&nic, Any)[..] else { panic!("{list:?}") };
        assert_eq!(text(&identity.v4), *v4, "{rule:?} {list:?}");
        assert_eq!(text(&identity.v6), *v6, "{rule:?} {list:?}");
        let learns = identity.learns.as_ref().map(|learning| learning.rule);
        let expect = match rule {
            Some(Dhcp) => Some(LearningRule::Dhcp),
            Some(FirstCome) => Some(LearningRule::FirstCome),
            _ => None,
        };
        assert_eq!(learns, expect, "{rule:?} {list:?}");
        assert_eq!(has_refused(&nic), !refused(&nic).is_empty(), "{rule:?} {list:?}");
    }
}

#[test]
fn the_default_rule_is_for_who_lists_nothing() {
    for default in [AddressRule::Exact, AddressRule::Prefix, AddressRule::Any] {
        assert_eq!(rule(&nic(None, &[]), default), default);
        assert_eq!(rule(&nic(None, &["192.0.2.1/24"]), default), AddressRule::Exact);
    }
}

#[test]
fn vlans_and_macs() {
    let cases: &[(&[u16], &[u16])] = &[
        (&[], &[0]),
        (&[0], &[0]),
        (&[20, 10, 20], &[10, 20]),
        (&[4094, 4095, 9999], &[4094]),
        (&[4095], &[]),
    ];
    for (vlans, expect) in cases {
        let nic = Nic { vlans: vlans.to_vec(), ..nic(None, &[]) };
        let granted = identities(&nic, AddressRule::Any);
        let granted: Vec<_> = granted.iter().map(|identity| identity.vlan).collect();
        assert_eq!(granted, *expect, "{vlans:?}");
    }
    let virtual_router = Mac([0, 0, 0x5e, 0, 1, 51]);
    for mac in [Mac::ZERO, Mac([0xff; 6]), Mac([1, 0, 0x5e, 0, 0, 1]), virtual_router] {
        let nic = Nic { mac, ..nic(None, &[]) };
        assert_eq!(identities(&nic, AddressRule::Any), []);
        assert!(has_refused(&nic));
    }
}

/// What two statements leave is what both grant, learned by the stricter rule of the two, and
/// written as a list it is the same.
#[test]
fn the_strictest_of_two_rules() {
    use AddressRule::{Any, Dhcp, Exact, FirstCome, Prefix};
    type Statement = (AddressRule, &'static [&'static str]);
    let cases: &[(Statement, Statement, &str, Option<LearningRule>)] = &[
        ((Any, &[]), (Dhcp, &[]), "any", Some(LearningRule::Dhcp)),
        ((FirstCome, &[]), (Dhcp, &[]), "any", Some(LearningRule::Dhcp)),
        ((FirstCome, &[]), (Any, &[]), "any", Some(LearningRule::FirstCome)),
        ((Exact, &["192.0.2.7/24"]), (Dhcp, &[]), "192.0.2.7/32", Some(LearningRule::Dhcp)),
        (
            (Prefix, &["192.0.2.0/25"]),
            (FirstCome, &["192.0.2.0/24"]),
            "192.0.2.0/25",
            Some(LearningRule::FirstCome),
        ),
        ((Prefix, &["10.0.0.0/8"]), (Dhcp, &["192.0.2.0/24"]), "", None),
        ((Exact, &[]), (Dhcp, &[]), "", None),
    ];
    for ((one, list), (other, second), v4, rule) in cases {
        let of = |rule, list: &[&str]| addresses(rule, &nic(None, list).addresses);
        let (rule_of_both, written) = listed(&intersect(&of(*one, list), &of(*other, second)));
        let both = addresses(rule_of_both, &written);
        assert_eq!((text(&both.0).as_str(), both.2), (*v4, *rule), "{one:?} {other:?}");
    }
}

fn nic(rule: Option<AddressRule>, list: &[&str]) -> Nic {
    Nic {
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        port: None,
        vlans: Vec::new(),
        addresses: list.iter().map(|text| text.parse().unwrap()).collect(),
        rule,
        dhcp_server: false,
        router: false,
        vrrp: false,
        unguarded: None,
        settings: Vec::new(),
    }
}

fn text<Net: ToString>(set: &AddressSet<Net>) -> String {
    match set {
        AddressSet::Any => "any".to_owned(),
        AddressSet::Only(nets) => {
            nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    }
}
