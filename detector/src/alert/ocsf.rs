//! Alerts as events of the Open Cybersecurity Schema Framework: class Detection Finding (2004), with the
//! profile `host`.

use detector_core::model::{Severity, Subject, Technique};
use serde_json::{Map, Value, json};

use super::{
    host::Origin,
    notice::{Event, Notice},
    text::shown,
};
use crate::escape;

/// The version of the schema.
pub const VERSION: &str = "1.5.0";

const CATEGORY: u32 = 2;
const CLASS: u32 = 2004;
/// The release of ATT&CK whose identifiers are used.
const ATTACK: &str = "17";

/// The event on a line that acts on nobody's terminal.
pub fn line(notice: &Notice, origin: &Origin) -> String {
    // A value of JSON is always written.
    escape::json(&event(notice, origin)).unwrap_or_default()
}

/// The event that says so.
pub fn event(notice: &Notice, origin: &Origin) -> Value {
    let finding = &notice.finding;
    let class = finding.kind.class();
    let (activity, activity_name) = activity(notice.event);
    let (status, status_name) = status(notice);
    let (severity, severity_name) = severity(finding.severity);
    let mut event = json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_name": "Findings",
        "category_uid": CATEGORY,
        "class_name": "Detection Finding",
        "class_uid": CLASS,
        "device": {
            "hostname": origin.host,
            "type": "Server",
            "type_id": 1,
            "uid": origin.uid,
        },
        "evidences": [evidence(notice)],
        "finding_info": {
            "analytic": {
                "category": class.category.as_str(),
                "desc": class.meaning,
                "name": finding.kind.as_str(),
                "type": "Rule",
                "type_id": 1,
                "uid": finding.kind.as_str(),
            },
            "created_time": finding.since.as_millisecond(),
            "desc": class.meaning,
            "first_seen_time": finding.since.as_millisecond(),
            "last_seen_time": notice.at.as_millisecond(),
            "title": shown(&finding.title),
            "types": [finding.kind.as_str()],
            "uid": notice.alert,
            "uid_alt": finding.id,
        },
        "is_alert": notice.event != Event::Test,
        "message": shown(&finding.title),
        "metadata": {
            "event_code": finding.kind.as_str(),
            "product": {
                "name": "detector",
                "vendor_name": "detector",
                "version": origin.version,
            },
            "profiles": ["host"],
            "uid": notice.id,
            "version": VERSION,
        },
        "remediation": { "desc": class.advice },
        "severity": severity_name,
        "severity_id": severity,
        "status": status_name,
        "status_id": status,
        "time": notice.at.as_millisecond(),
        "type_name": format!("Detection Finding: {activity_name}"),
        "type_uid": CLASS * 100 + activity,
    });
    if let Some(technique) = class.technique {
        event["finding_info"]["attacks"] = json!([attack(technique)]);
    }
    if let Some(resource) = resource(notice) {
        event["resources"] = json!([resource]);
    }
    if let Some(mark) = notice.mark() {
        event["comment"] = json!(format!("{}: {}", shown(&mark.who()), shown(&mark.why)));
    }
    if let Some(next) = &finding.next {
        event["unmapped"] = json!({ "next_command": shown(next) });
    }
    event
}

const fn activity(event: Event) -> (u32, &'static str) {
    match event {
        Event::Opened | Event::Test => (1, "Create"),
        Event::Changed | Event::Acknowledged | Event::Suppressed => (2, "Update"),
        Event::Closed => (3, "Close"),
    }
}

fn status(notice: &Notice) -> (u32, &'static str) {
    match notice.event {
        Event::Closed => (4, "Resolved"),
        Event::Suppressed => (3, "Suppressed"),
        _ if notice.finding.acknowledged.is_some() => (2, "In Progress"),
        _ => (1, "New"),
    }
}

const fn severity(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

fn attack(technique: Technique) -> Value {
    let mut attack = json!({
        "tactic": { "name": technique.tactic_name, "uid": technique.tactic },
        "version": ATTACK,
    });
    let named = json!({ "name": technique.name, "uid": technique.id });
    match technique.id.split_once('.') {
        None => attack["technique"] = named,
        Some((parent, _)) => {
            attack["technique"] = json!({ "uid": parent });
            attack["sub_technique"] = named;
        }
    }
    attack
}

/// Evidence as it is in the finding. A name that comes again gets a list.
fn evidence(notice: &Notice) -> Value {
    let mut data: Map<String, Value> = Map::new();
    for (name, value) in &notice.finding.evidence {
        let value = Value::String(shown(value));
        match data.get_mut(&shown(name)) {
            None => drop(data.insert(shown(name), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(known) => *known = json!([known.take(), value]),
        }
    }
    json!({ "name": notice.finding.kind.as_str(), "data": data })
}

fn resource(notice: &Notice) -> Option<Value> {
    let named = |wanted: &str| {
        let mut evidence = notice.finding.evidence.iter();
        evidence.find(|(name, _)| name == wanted).map(|(_, value)| shown(value))
    };
    match &notice.finding.subject {
        Subject::Vm(uuid) => Some(json!({ "type": "vm", "uid": uuid })),
        Subject::Port { ifindex, instance } => {
            let name = named("port").unwrap_or_else(|| format!("interface {ifindex}"));
            let uid = format!("{ifindex}/{instance}");
            Some(json!({ "type": "port", "name": name, "uid": uid }))
        }
        Subject::Source(name) => Some(json!({ "type": "inventory source", "name": shown(name) })),
        Subject::Place(place) => Some(json!({ "type": "file", "name": shown(place) })),
        Subject::Process(id) => Some(json!({ "type": "process", "uid": id.to_string() })),
        Subject::Host => None,
    }
}

#[cfg(test)]
mod tests;
