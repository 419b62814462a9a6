//! What a domain's description says in our own XML namespace.
//!
//! ```xml
//! <metadata>
//!   <detector:vm xmlns:detector="urn:detector:domain:1" template="debian-12">
//!     <detector:nic mac="52:54:00:00:00:01" rule="exact" addresses="192.0.2.7" vlans="0"
//!                   roles="router vrrp"/>
//!   </detector:vm>
//! </metadata>
//! ```
//!
//! Libvirt does not say who has written it. Whoever may define a domain may, so that it is a wish until an
//! administrator says that those who may are trusted.

use std::collections::BTreeMap;

use detector_common::addr::Mac;
use detector_core::model::{AddressRule, NicSettings, Vm};
use roxmltree::Node;
use serde::Deserialize;

use super::{MAX_NAME, MAX_NICS, XmlError, at, children, nic};

const NAMESPACE: &str = "urn:detector:domain:1";

/// Addresses or VLANs of one NIC.
const MOST: usize = 256;

/// What it counts that a domain's description says in our own namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataTrust {
    /// As much as the static inventory.
    Trusted,
    /// It may take away, and give nothing.
    #[default]
    Narrow,
    Ignored,
}

#[derive(Debug, Default)]
struct Metadata {
    template: Option<String>,
    nics: BTreeMap<Mac, NicSettings>,
}

/// Adds to the VM what its metadata say, as far as they count.
///
/// # Errors
///
/// Where they count and cannot be understood.
pub(super) fn apply(
    domain: Node<'_, '_>,
    trust: MetadataTrust,
    vm: &mut Vm,
) -> Result<(), XmlError> {
    match (trust, read(domain)) {
        (MetadataTrust::Ignored, _) => {}
        (MetadataTrust::Trusted, read) => {
            let Metadata { template, nics } = read?;
            vm.declared_template = template;
            add(vm, nics);
        }
        (MetadataTrust::Narrow, Ok(Metadata { template, mut nics })) => {
            if template.is_some() {
                vm.presumed.push("a template".to_owned());
            }
            for (mac, settings) in &mut nics {
                settings.narrows = true;
                let NicSettings { dhcp_server, router, vrrp, .. } = settings;
                let mut presumes = false;
                for role in [dhcp_server, router, vrrp] {
                    presumes |= role.take_if(|granted| *granted).is_some();
                }
                if presumes {
                    vm.presumed.push(format!("roles of {mac}"));
                }
            }
            add(vm, nics);
        }
        // Whoever is not trusted must not keep a description from being read by what he writes into it.
        (MetadataTrust::Narrow, Err(error)) => {
            vm.presumed.push(format!("what cannot be read ({error})"));
        }
    }
    Ok(())
}

fn add(vm: &mut Vm, mut nics: BTreeMap<Mac, NicSettings>) {
    for nic in &mut vm.nics {
        nic.settings.extend(nics.remove(&nic.mac));
    }
}

fn read(domain: Node<'_, '_>) -> Result<Metadata, XmlError> {
    let all = children(domain, "metadata").flat_map(|metadata| metadata.children());
    let mut ours = all.filter(|child| child.has_tag_name((NAMESPACE, "vm")));
    let Some(vm) = ours.next() else { return Ok(Metadata::default()) };
    if let Some(second) = ours.next() {
        return Err(at(second, "a second <vm> in our namespace; expected one"));
    }
    only(vm, &["template"])?;
    let template = vm.attribute("template").map(str::to_owned);
    if template.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME) {
        return Err(at(vm, format!("template: expected 1 to {MAX_NAME} bytes")));
    }
    let mut metadata = Metadata { template, nics: BTreeMap::new() };
    for element in vm.children().filter(Node::is_element) {
        if !element.has_tag_name((NAMESPACE, "nic")) {
            let name = element.tag_name().name();
            return Err(at(element, format!("<{name}>; expected <nic> in our namespace")));
        }
        let (mac, settings) = settings(element)?;
        if metadata.nics.insert(mac, settings).is_some() {
            return Err(at(element, format!("{mac} is there already; expected one <nic> for it")));
        }
        if metadata.nics.len() > MAX_NICS {
            return Err(at(element, format!("more than {MAX_NICS} <nic>")));
        }
    }
    Ok(metadata)
}

fn settings(element: Node<'_, '_>) -> Result<(Mac, NicSettings), XmlError> {
    only(element, &["mac", "rule", "addresses", "vlans", "roles"])?;
    let refuse = |message| at(element, message);
    let words = |name| element.attribute(name).map(|text| text.split_ascii_whitespace());
    let mac = element.attribute("mac").ok_or_else(|| at(element, "a <nic> without mac=…"))?;
    let mac = nic::mac(mac).map_err(refuse)?;
    let addresses = words("addresses").into_iter().flatten().map(nic::address);
    let addresses = addresses.take(MOST + 1).collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let vlan = |text: &str| text.parse().map_err(|_| format!("vlans: {text:?} is no VLAN id"));
    let vlans =
        words("vlans").map(|ids| ids.map(vlan).take(MOST + 1).collect::<Result<Vec<_>, _>>());
    let vlans = vlans.transpose().map_err(refuse)?;
    if addresses.len() > MOST || vlans.as_ref().is_some_and(|ids| ids.len() > MOST) {
        return Err(at(element, format!("expected at most {MOST} addresses and VLANs")));
    }
    let vlans = vlans.map(|ids| nic::vlans(&ids)).transpose().map_err(refuse)?;
    let mut settings = NicSettings { addresses, vlans, ..NicSettings::default() };
    settings.rule = element.attribute("rule").map(rule).transpose().map_err(refuse)?;
    // Whoever speaks of roles says which it has and which it has not.
    if let Some(roles) = words("roles") {
        let mut granted = [false; 3];
        for role in roles {
            let place = ROLES.iter().position(|name| *name == role).ok_or_else(|| {
                at(element, format!("role {role:?}; expected {}", ROLES.join(", ")))
            })?;
            granted[place] = true;
        }
        let [dhcp_server, router, vrrp] = granted.map(Some);
        settings = NicSettings { dhcp_server, router, vrrp, ..settings };
    }
    Ok((mac, settings))
}

const ROLES: [&str; 3] = ["dhcp-server", "router", "vrrp"];

fn rule(name: &str) -> Result<AddressRule, String> {
    Ok(match name {
        "exact" => AddressRule::Exact,
        "prefix" => AddressRule::Prefix,
        "any" => AddressRule::Any,
        "dhcp" => AddressRule::Dhcp,
        "first-come" => AddressRule::FirstCome,
        _ => return Err(format!("rule {name:?}; expected exact, prefix, any, dhcp or first-come")),
    })
}

/// A word that nobody knows may have been meant to narrow something.
fn only(element: Node<'_, '_>, known: &[&str]) -> Result<(), XmlError> {
    let unknown = element.attributes().find(|one| !known.contains(&one.name()));
    unknown.map_or(Ok(()), |one| {
        let message = format!("attribute {:?}; expected {}", one.name(), known.join(", "));
        Err(at(element, message))
    })
}

#[cfg(test)]
mod tests {
    use detector_core::model::PowerState;

    use super::super::{Context, parse};
    use super::*;

    const MAC: &str = "52:54:00:00:00:01";

    fn read(metadata: &str, trust: MetadataTrust) -> Result<Vm, String> {
        let text = format!(
            "<domain type='kvm'><name>v</name>
             <uuid>5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50</uuid>
             <metadata><other xmlns='urn:other'/>{metadata}</metadata><devices>
             <interface type='bridge'><mac address='{MAC}'/></interface></devices></domain>"
        );
        let context = Context { metadata: trust, ..Context::default() };
        parse(&text, PowerState::Running, &context).map_err(|error| error.to_string())
    }

    fn vm(inner: &str) -> String {
        format!("<d:vm xmlns:d='{NAMESPACE}' template='t'>{inner}</d:vm>")
    }

    #[test]
    fn how_far_metadata_count() {
        let nic = |more: &str| vm(&format!("<d:nic mac='{MAC}' {more}/>"));
        let text =
            nic("rule='prefix' addresses='192.0.2.0/24 2001:db8::7' vlans='0 7' roles='router'");
        let trusted = read(&text, MetadataTrust::Trusted).unwrap();
        assert_eq!(trusted.declared_template.as_deref(), Some("t"));
        assert_eq!(trusted.presumed, [""; 0]);
        let expect = NicSettings {
            addresses: ["192.0.2.0/24", "2001:db8::7/128"].map(|net| net.parse().unwrap()).to_vec(),
            rule: Some(AddressRule::Prefix),
            vlans: Some(vec![0, 7]),
            dhcp_server: Some(false),
            router: Some(true),
            vrrp: Some(false),
            narrows: false,
        };
        assert_eq!(trusted.nics[0].settings, std::slice::from_ref(&expect));

        let narrow = read(&text, MetadataTrust::Narrow).unwrap();
        assert_eq!(narrow.declared_template, None);
        assert_eq!(narrow.presumed, ["a template".to_owned(), format!("roles of {MAC}")]);
        let expect = NicSettings { router: None, narrows: true, ..expect };
        assert_eq!(narrow.nics[0].settings, [expect]);

        let ignored = read(&text, MetadataTrust::Ignored).unwrap();
        let none = read("", MetadataTrust::Trusted).unwrap();
        assert_eq!(ignored, none);
        assert_eq!((none.nics[0].settings.len(), none.presumed.len()), (0, 0));
        // Of a NIC that the domain does not have nothing is said.
        let other = vm("<d:nic mac='52:54:00:00:00:02'/>");
        assert_eq!(read(&other, MetadataTrust::Trusted).unwrap().nics[0].settings, []);
    }

    #[test]
    fn what_cannot_be_understood() {
        let nic = |more: &str| vm(&format!("<d:nic mac='{MAC}' {more}/>"));
        let cases = [
            (vm("") + &vm(""), "a second <vm>"),
            (vm("<d:disk/>"), "<disk>; expected <nic>"),
            (vm("<nic mac='52:54:00:00:00:01'/>"), "<nic>; expected <nic> in our namespace"),
            (vm("<d:nic/>"), "without mac"),
            (vm(&format!("<d:nic mac='{MAC}'/>").repeat(2)), "is there already"),
            (nic("adresses='192.0.2.1'"), "attribute \"adresses\"; expected mac, rule"),
            (nic("addresses='192.0.2'"), "192.0.2"),
            (nic("vlans='untagged'"), "\"untagged\" is no VLAN id"),
            (nic("vlans='4095'"), "4095 is no VLAN id"),
            (nic("roles='king'"), "expected dhcp-server, router, vrrp"),
            (nic("rule='some'"), "expected exact, prefix"),
            (nic(&format!("addresses='{}'", "192.0.2.1 ".repeat(257))), "at most 256"),
            (vm("").replace("'t'", "''"), "template"),
        ];
        for (text, expect) in cases {
            let error = read(&text, MetadataTrust::Trusted).unwrap_err();
            assert!(error.contains(expect) && error.starts_with("line "), "{text}: {error}");
            let vm = read(&text, MetadataTrust::Narrow).unwrap();
            assert_eq!(vm.nics[0].settings, [], "{text}");
            let [presumed] = vm.presumed.as_slice() else { panic!("{text}: {:?}", vm.presumed) };
            assert!(presumed.contains(expect), "{text}: {presumed}");
            assert!(read(&text, MetadataTrust::Ignored).unwrap().presumed.is_empty());
        }
    }
}
