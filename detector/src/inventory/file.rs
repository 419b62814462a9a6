//! The static inventory: VMs that no manager lists, and settings for NICs that one does.

mod follow;

use std::{collections::BTreeMap, ops::Range, path::Path};

use detector_common::addr::Mac;
use detector_core::model::{
    AddressRule, Nic, NicSettings, Posture, PowerState, Rejected, Unsettled, Vm,
};
use ipnet::IpNet;
use serde::{Deserialize, de::DeserializeOwned};
use toml::Spanned;
use uuid::Uuid;

use super::{Refused, SourceEvent, Update, nic};
pub use follow::FileSource;

use crate::config::text::{Place, ReadError, one_line, read_text};

/// Some ten thousand VMs.
const MAX_BYTES: u64 = 4 << 20;

const MAX_NAME: usize = 1024;

/// Reads the static inventory. An absent file is an empty inventory; one that cannot be read or is
/// no TOML is a lost source, and an entry that is wrong is refused by itself.
pub fn read(path: &Path) -> Update {
    match read_text(path, MAX_BYTES) {
        Ok(text) => parse(path, &text),
        Err(ReadError::Absent) => parse(path, ""),
        Err(why) => Update::Lost { why: format!("{}: {why}", Place::of(path, "", None)) },
    }
}

/// What the static inventory says now; blocks.
pub fn said(path: &Path) -> SourceEvent {
    SourceEvent { source: name(path), update: read(path) }
}

/// What the source is called.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The identity of a VM whose entry gives none.
pub fn uuid_of(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileKeys {
    vm: Vec<Spanned<toml::Value>>,
    nic: Vec<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmKeys {
    name: String,
    uuid: Option<Uuid>,
    template: Option<String>,
    #[serde(default)]
    nic: Vec<NicKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NicKeys {
    mac: String,
    port: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    rule: Option<AddressRule>,
    #[serde(default)]
    vlans: Vec<u16>,
    #[serde(default)]
    dhcp_server: bool,
    #[serde(default)]
    router: bool,
    #[serde(default)]
    vrrp: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverlayKeys {
    mac: String,
    #[serde(default)]
    addresses: Vec<String>,
    rule: Option<AddressRule>,
    vlans: Option<Vec<u16>>,
    dhcp_server: Option<bool>,
    router: Option<bool>,
    vrrp: Option<bool>,
}

/// Parses the text of an inventory; `path` is for messages.
fn parse(path: &Path, text: &str) -> Update {
    let keys: FileKeys = match toml::from_str(text) {
        Ok(keys) => keys,
        Err(error) => {
            let place = Place::of(path, text, error.span());
            return Update::Lost { why: format!("{place}: {}", one_line(error.message())) };
        }
    };
    let refuse = |vm, nics, span: Range<usize>, why| Refused {
        vm,
        nics,
        rejected: Rejected { place: Place::of(path, text, Some(span)).to_string(), why },
    };
    let mut vms: BTreeMap<Uuid, Vm> = BTreeMap::new();
    let mut overlays: BTreeMap<Mac, NicSettings> = BTreeMap::new();
    let mut refused = Vec::new();
    for entry in keys.vm {
        let (span, value) = (entry.span(), entry.into_inner());
        let known = identity(&value);
        match read_entry::<VmKeys>(value).and_then(vm) {
            Err(why) => {
                refused.push(refuse(known, Unsettled::default(), span, format!("vm: {why}")));
            }
            Ok(vm) if vms.contains_key(&vm.uuid) => {
                let why = format!("vm: the VM {} has an entry already; expected one", vm.uuid);
                refused.push(refuse(None, Unsettled::default(), span, why));
            }
            Ok(vm) => {
                vms.insert(vm.uuid, vm);
            }
        }
    }
    for entry in keys.nic {
        let span = entry.span();
        let value = entry.into_inner();
        let known = settings_of(&value);
        match read_entry::<OverlayKeys>(value).and_then(|keys| overlay(&keys)) {
            Err(why) => refused.push(refuse(None, known, span, format!("nic: {why}"))),
            Ok((mac, _)) if overlays.contains_key(&mac) => {
                let why = format!("nic: {mac} has an entry already; expected one");
                refused.push(refuse(None, Unsettled::default(), span, why));
            }
            Ok((mac, settings)) => {
                overlays.insert(mac, settings);
            }
        }
    }
    Update::Snapshot { vms: vms.into_values().collect(), overlays, refused }
}

fn read_entry<T: DeserializeOwned>(value: toml::Value) -> Result<T, String> {
    value.try_into().map_err(|error: toml::de::Error| one_line(&error.to_string()))
}

/// Which VM an entry is about, even if the rest of it is wrong.
fn identity(value: &toml::Value) -> Option<Uuid> {
    let text = |key: &str| value.get(key).and_then(toml::Value::as_str);
    match value.get("uuid") {
        Some(_) => Uuid::try_parse(text("uuid")?).ok(),
        None => text("name").map(uuid_of),
    }
}

/// Which NIC an entry is about, even if the rest of it is wrong.
fn settings_of(value: &toml::Value) -> Unsettled {
    let text = value.get("mac").and_then(toml::Value::as_str);
    match text.and_then(|text| nic::mac(text).ok()) {
        Some(mac) => Unsettled::Nics([mac].into()),
        None => Unsettled::Any,
    }
}

fn vm(keys: VmKeys) -> Result<Vm, String> {
    if keys.name.is_empty() || keys.name.len() > MAX_NAME {
        return Err(format!("the name is empty or longer than {MAX_NAME} bytes"));
    }
    Ok(Vm {
        uuid: keys.uuid.unwrap_or_else(|| uuid_of(&keys.name)),
        name: keys.name,
        power: PowerState::Running,
        nics: keys.nic.iter().map(nic_of).collect::<Result<_, _>>()?,
        media: Vec::new(),
        declared_template: keys.template,
        run: None,
        presumed: Vec::new(),
        attachments: Vec::new(),
        posture: Posture::default(),
    })
}

fn nic_of(keys: &NicKeys) -> Result<Nic, String> {
    Ok(Nic {
        mac: nic::mac(&keys.mac)?,
        port: keys.port.as_deref().map(nic::port).transpose()?,
        vlans: nic::vlans(&keys.vlans)?,
        addresses: addresses(&keys.addresses)?,
        rule: keys.rule,
        dhcp_server: keys.dhcp_server,
        router: keys.router,
        vrrp: keys.vrrp,
        unguarded: None,
        settings: Vec::new(),
    })
}

fn overlay(keys: &OverlayKeys) -> Result<(Mac, NicSettings), String> {
    let settings = NicSettings {
        addresses: addresses(&keys.addresses)?,
        rule: keys.rule,
        vlans: keys.vlans.as_deref().map(nic::vlans).transpose()?,
        dhcp_server: keys.dhcp_server,
        router: keys.router,
        vrrp: keys.vrrp,
        narrows: false,
    };
    Ok((nic::mac(&keys.mac)?, settings))
}

fn addresses(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts.iter().map(|text| nic::address(text)).collect()
}

#[cfg(test)]
mod tests;
