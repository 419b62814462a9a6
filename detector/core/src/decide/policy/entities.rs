//! Facts as Cedar sees them. The names are those of the schema.

use std::str::FromStr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use detector_common::quarantine::QuarantineMode;

use super::{Fact, Facts, NicFacts, facts};
use crate::{
    decide::profile::Ask,
    model::{EvidenceLevel, GuestClaims, LinkKind, Posture, PowerState},
};

/// An entity with its attributes. One without a value is not known yet.
pub(super) struct Record {
    pub(super) uid: EntityUid,
    pub(super) attributes: Vec<(&'static str, Option<RestrictedExpression>)>,
}

/// Whether facts that are not known are unknowns, or left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknowns {
    Kept,
    LeftOut,
}

/// Why a question cannot be put. It has to be a bug; it denies.
pub(super) type Unaskable = String;

pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, Unaskable> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

pub(super) fn records(facts: &Facts) -> Result<Vec<Record>, Unaskable> {
    let id = facts.uuid.to_string();
    let (host, lineage) = (uid("Host", "this")?, uid("Lineage", &id)?);
    let nics: Vec<_> =
        facts.nics.iter().map(|nic| uid("Nic", &nic.mac)).collect::<Result<_, _>>()?;
    let mut vm = vec![
        ("name", Some(text(&facts.name))),
        ("power", Some(text(power(facts.power)))),
        ("host", Some(entity(&host))),
        ("lineage", Some(entity(&lineage))),
        ("mediaCount", Some(RestrictedExpression::new_long(count(facts.media)))),
        ("mediaRoles", Some(texts(facts.media_roles.iter().map(|role| role.as_str())))),
        ("mediaLocal", Some(yes(facts.media_local))),
        ("mediaRead", known(&facts.media_read, |read| yes(*read))),
        ("bootsFromNetwork", Some(yes(facts.boots_from_network))),
        ("attachments", Some(texts(facts.attachments.iter().map(|kind| kind.as_str())))),
        ("findings", Some(texts(facts.findings.iter().map(|kind| kind.as_str())))),
        ("nics", Some(RestrictedExpression::new_set(nics.iter().map(entity)))),
    ];
    let posture = uid("Posture", &id)?;
    vm.push(("posture", Some(entity(&posture))));
    let guest = uid("GuestClaims", &id)?;
    vm.extend(facts.guest.as_ref().map(|_| ("guestClaims", Some(entity(&guest)))));
    vm.extend(facts.declared.as_deref().map(|id| ("declaredTemplate", Some(text(id)))));

    let evidence = known(&facts.standing, |standing| {
        text(match standing {
            facts::Standing::Digest => "digest",
            facts::Standing::Certificate => "certificate",
            facts::Standing::Declared => "declared",
            facts::Standing::None => "none",
        })
    });
    let mut template = None;
    let mut lineage_attributes =
        vec![("evidence", evidence), ("registered", known(&facts.registered, |is| yes(*is)))];
    // Positive facts: what is taken away from them, or is silent, meets nothing.
    lineage_attributes.extend(
        Ask::ALL
            .map(|ask| (ask.attribute(), known(&facts.unmet, |unmet| yes(!unmet.contains(&ask))))),
    );
    let variables = facts.variables.as_ref();
    lineage_attributes.extend(variables.map(|of| ("variables", known(of, |of| text(of.as_str())))));
    match &facts.template {
        Fact::Unknown => lineage_attributes.push(("template", None)),
        Fact::Known(of) => {
            let uid = uid("Template", &of.id)?;
            lineage_attributes.push(("template", Some(entity(&uid))));
            let mut attributes = vec![
                ("id", Some(text(&of.id))),
                ("status", known(&of.status, |status| text(status.as_str()))),
                ("expired", known(&of.expired, |expired| yes(*expired))),
            ];
            attributes.extend(of.version.as_deref().map(|it| ("version", Some(text(it)))));
            attributes.extend(of.os.as_deref().map(|it| ("os", Some(text(it)))));
            template = Some(Record { uid, attributes });
        }
    }
    let host_attributes = vec![
        (
            "evidence",
            Some(text(match facts.host.evidence {
                EvidenceLevel::Declared => "declared",
                EvidenceLevel::Certificate => "certificate",
                EvidenceLevel::Digest => "digest",
            })),
        ),
        (
            "quarantine",
            Some(text(match facts.host.quarantine {
                QuarantineMode::Drop => "drop",
                QuarantineMode::Sandbox => "sandbox",
            })),
        ),
        ("sandbox", Some(yes(facts.host.sandbox))),
    ];
    let mut records = vec![
        Record { uid: uid("Vm", &id)?, attributes: vm },
        Record { uid: host, attributes: host_attributes },
        Record { uid: lineage, attributes: lineage_attributes },
        Record { uid: posture, attributes: posture_attributes(&facts.posture) },
    ];
    records.extend(template);
    records.extend(
        facts
            .guest
            .as_ref()
            .map(|claims| Record { uid: guest, attributes: guest_attributes(claims) }),
    );
    for (nic, uid) in facts.nics.iter().zip(nics) {
        if !records.iter().any(|record| record.uid == uid) {
            records.push(Record { uid, attributes: nic_attributes(nic) });
        }
        for place in place(nic)? {
            if !records.iter().any(|record| record.uid == place.uid) {
                records.push(place);
            }
        }
    }
    Ok(records)
}

/// What nobody says is absent.
fn posture_attributes(posture: &Posture) -> Vec<(&'static str, Option<RestrictedExpression>)> {
    let list = |of: &Option<Vec<String>>| Some(texts(of.as_ref()?.iter().map(String::as_str)));
    let devices = posture.devices.as_ref().map(|of| texts(of.keys().map(String::as_str)));
    let attributes = [
        ("firmware", posture.firmware.map(|of| text(of.as_str()))),
        ("secureBoot", posture.secure_boot.map(yes)),
        ("storedVariables", posture.stored_variables.map(yes)),
        ("tpm", posture.tpm.map(|of| text(of.as_str()))),
        ("tpmVersion", posture.tpm_version.as_deref().map(text)),
        ("launchSecurity", posture.launch_security.map(|of| text(of.as_str()))),
        ("architecture", posture.architecture.as_deref().map(text)),
        ("machine", posture.machine.as_deref().map(text)),
        ("emulator", posture.emulator.as_deref().map(text)),
        ("kernelArguments", posture.kernel_arguments.as_deref().map(text)),
        ("hostDevices", list(&posture.host_devices)),
        ("sharedMemory", list(&posture.shared_memory)),
        ("sharedDirectories", list(&posture.shared_directories)),
        ("devices", devices),
        ("rawArguments", posture.raw_arguments.map(yes)),
    ];
    attributes.into_iter().filter(|(_, value)| value.is_some()).collect()
}

/// What the guest does not say is absent.
fn guest_attributes(claims: &GuestClaims) -> Vec<(&'static str, Option<RestrictedExpression>)> {
    let users = claims.users.as_ref().map(|of| texts(of.iter().map(String::as_str)));
    let attributes = [
        ("osId", claims.os_id.as_deref().map(text)),
        ("osVersion", claims.os_version.as_deref().map(text)),
        ("kernel", claims.kernel.as_deref().map(text)),
        ("hostname", claims.hostname.as_deref().map(text)),
        ("users", users),
    ];
    attributes.into_iter().filter(|(_, value)| value.is_some()).collect()
}

fn nic_attributes(nic: &NicFacts) -> Vec<(&'static str, Option<RestrictedExpression>)> {
    let untagged: &[u16] = &[0];
    let vlans = if nic.vlans.is_empty() { untagged } else { &nic.vlans };
    let vlans = vlans.iter().map(|vlan| RestrictedExpression::new_long(i64::from(*vlan)));
    let mut attributes = vec![
        ("mac", Some(text(&nic.mac))),
        ("vlans", Some(RestrictedExpression::new_set(vlans))),
        ("addresses", Some(texts(nic.addresses.iter().map(String::as_str)))),
        ("dhcpServer", Some(yes(nic.dhcp_server))),
        ("router", Some(yes(nic.router))),
        ("vrrp", Some(yes(nic.vrrp))),
    ];
    attributes.extend(nic.rule.map(|rule| ("addressRule", Some(text(rule.as_str())))));
    attributes
}

/// The port and the network of a NIC, as far as it has them.
fn place(nic: &NicFacts) -> Result<Vec<Record>, Unaskable> {
    let mut records = Vec::new();
    if let Some((name, kind)) = &nic.port {
        let kind = match kind {
            LinkKind::Bridge => "bridge",
            LinkKind::OpenVSwitch => "openvswitch",
            LinkKind::Tap => "tap",
            LinkKind::Veth => "veth",
            LinkKind::Macvtap | LinkKind::MacvtapVepa => "macvtap",
            LinkKind::MacvtapPassthrough => "macvtap-passthrough",
            LinkKind::Physical => "physical",
            LinkKind::Loopback => "loopback",
            LinkKind::Other => "other",
        };
        let attributes = vec![("name", Some(text(name))), ("kind", Some(text(kind)))];
        records.push(Record { uid: uid("Port", name)?, attributes });
    }
    if let Some(name) = &nic.network {
        let attributes = vec![("name", Some(text(name)))];
        records.push(Record { uid: uid("Network", name)?, attributes });
    }
    Ok(records)
}

pub(super) fn entities(records: &[Record], unknowns: Unknowns) -> Result<Entities, Unaskable> {
    let entities = records.iter().map(|record| {
        let mut attributes = Vec::new();
        for (name, value) in &record.attributes {
            let value = match (value, unknowns) {
                (Some(value), _) => value.clone(),
                (None, Unknowns::LeftOut) => continue,
                (None, Unknowns::Kept) => {
                    RestrictedExpression::new_unknown(format!("{}.{name}", record.uid))
                }
            };
            attributes.push(((*name).to_owned(), value));
        }
        let attributes = attributes.into_iter().collect();
        Entity::new(record.uid.clone(), attributes, std::iter::empty().collect())
            .map_err(|error| error.to_string())
    });
    let entities = entities.collect::<Result<Vec<_>, _>>()?;
    Entities::from_entities(entities, None).map_err(|error| error.to_string())
}

/// The question whether the VM, with this NIC, may do `action`. The network of a NIC that is on none is
/// an unknown, or, where those are left out, one that nobody can name.
pub(super) fn request(
    facts: &Facts,
    nic: Option<&NicFacts>,
    action: &str,
    unknowns: Unknowns,
) -> Result<Request, Unaskable> {
    let mut context = Vec::new();
    if let Some(nic) = nic {
        context.push(("nic".to_owned(), entity(&uid("Nic", &nic.mac)?)));
        if let Some((name, _)) = &nic.port {
            context.push(("port".to_owned(), entity(&uid("Port", name)?)));
        }
    }
    let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
    let request = Request::builder()
        .principal(uid("Vm", &facts.uuid.to_string())?)
        .action(uid("Action", action)?)
        .context(context);
    let network = nic.and_then(|nic| nic.network.as_deref());
    Ok(match (network, unknowns) {
        (Some(name), _) => request.resource(uid("Network", name)?).build(),
        (None, Unknowns::LeftOut) => request.resource(uid("Network", "")?).build(),
        (None, Unknowns::Kept) => {
            let kind = EntityTypeName::from_str("Network").map_err(|error| error.to_string())?;
            request.unknown_resource_with_type(kind).build()
        }
    })
}

fn known<T>(
    fact: &Fact<T>,
    value: impl Fn(&T) -> RestrictedExpression,
) -> Option<RestrictedExpression> {
    match fact {
        Fact::Known(known) => Some(value(known)),
        Fact::Unknown => None,
    }
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn texts<'a>(all: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(all.map(text))
}

fn yes(is: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(is)
}

fn entity(uid: &EntityUid) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid.clone())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn power(power: PowerState) -> &'static str {
    match power {
        PowerState::Starting => "starting",
        PowerState::Running => "running",
        PowerState::Paused => "paused",
        PowerState::InTransit => "in-transit",
        PowerState::Off => "off",
    }
}
