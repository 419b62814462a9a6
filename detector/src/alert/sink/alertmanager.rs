//! The API v2 of a Prometheus Alertmanager. It wants to hear again and again what is open, and ends by
//! itself what it hears no more of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Delivered, blocking, http, secret};
use crate::{
    alert::{
        host::Origin,
        notice::{Event, Notice},
        text::shown,
    },
    config::alerts,
};

/// After how many intervals without a word an alert ends there.
const LASTS: u32 = 4;
/// For how long at least an alert fires there: an alert that is over before the receiver has looked is
/// told to nobody.
const FIRES: Duration = Duration::from_secs(120);
/// Alerts in one request.
const MOST: usize = 64;

#[derive(Debug)]
pub(super) struct Alertmanager {
    keys: alerts::Alertmanager,
    pub(super) resend: Duration,
    origin: Arc<Origin>,
    /// When alerts have been told here that may end soon. Bounded by what is open.
    fired: Mutex<BTreeMap<Uuid, Timestamp>>,
}

impl Alertmanager {
    pub(super) fn new(keys: &alerts::Alertmanager, origin: &Arc<Origin>) -> Self {
        Self {
            keys: keys.clone(),
            resend: keys.resend,
            origin: Arc::clone(origin),
            fired: Mutex::default(),
        }
    }

    pub(super) fn target(&self) -> String {
        self.keys.url.to_string()
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        for notice in notices {
            let now = Timestamp::now();
            self.post(json!([self.alert(notice, now)])).await?;
            let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
            match notice.event.ends() || notice.event == Event::Test {
                true => drop(fired.remove(&notice.alert)),
                false => drop(fired.entry(notice.alert).or_insert(now)),
            }
        }
        Ok(())
    }

    /// Says of each that it lasts.
    pub(super) async fn still_open(&self, open: &[Notice], now: Timestamp) -> Delivered {
        let open: Vec<_> = open.iter().map(|notice| self.alert(notice, now)).collect();
        for some in open.chunks(MOST) {
            self.post(Value::Array(some.to_vec())).await?;
        }
        Ok(())
    }

    fn alert(&self, notice: &Notice, now: Timestamp) -> Value {
        let finding = &notice.finding;
        let class = finding.kind.class();
        let ends = match notice.event {
            event if event.ends() => self.end(notice),
            Event::Test => now + FIRES,
            _ => now + self.resend * LASTS,
        };
        let mut evidence = String::new();
        for (name, value) in &finding.evidence {
            evidence.push_str(&format!("{}: {}\n", shown(name), shown(value)));
        }
        let mut annotations = json!({
            "summary": shown(&finding.title),
            "description": class.meaning,
            "advice": class.advice,
            "evidence": evidence.trim_end(),
        });
        if let Some(next) = &finding.next {
            annotations["command"] = json!(shown(next));
        }
        if let Some(mark) = notice.mark() {
            annotations["acknowledged"] =
                json!(format!("{}: {}", shown(&mark.who()), shown(&mark.why)));
        }
        let technique = class.technique.map(|technique| technique.id);
        json!({
            "labels": {
                "alertname": finding.kind.as_str(),
                "category": class.category.as_str(),
                "finding": finding.id,
                "instance": self.origin.host,
                "job": "detector",
                "severity": finding.severity.as_str(),
                "technique": technique.unwrap_or_default(),
            },
            "annotations": annotations,
            "startsAt": finding.since,
            "endsAt": ends,
        })
    }

    fn end(&self, notice: &Notice) -> Timestamp {
        let fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        let least = fired.get(&notice.alert).map(|at| *at + FIRES.min(self.resend * 2));
        least.map_or(notice.at, |least| least.max(notice.at))
    }

    async fn post(&self, alerts: Value) -> Delivered {
        let secret = match self.keys.authorization_file.clone() {
            None => None,
            Some(path) => Some(blocking(move || secret::read(&path)).await?),
        };
        let headers = secret.iter().map(|value| ("authorization", value.clone())).collect();
        let alerts::Alertmanager { url, tls, .. } = &self.keys;
        let path = format!("{}/api/v2/alerts", url.path.trim_end_matches('/'));
        let body = alerts.to_string().into_bytes();
        http::post(url, &path, tls, headers, secret.as_deref(), body).await
    }
}
