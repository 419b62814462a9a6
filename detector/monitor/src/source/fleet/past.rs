//! What a host's audit says about one VM, as far as the fleet keeps what the host has sent.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push::OrderedConfig},
};
use detector_core::fleet::{Name, message::Records, message::Time, subject};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::Fleet;
use crate::estate::News;

/// Messages of the whole fleet that are looked through, the latest ones: the page of one VM is no reason to read them all.
const MESSAGES: u64 = 20_000;
/// Records that are kept of them.
const MOST: usize = 100;
/// How long the next message may take to come.
const PATIENCE: Duration = Duration::from_secs(3);

/// A record, as far as it is shown.
#[derive(Deserialize)]
struct Record {
    at: Time,
    kind: String,
    subject: Option<Subject>,
    from: Option<String>,
    to: Option<String>,
    who: Value,
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(rename = "type")]
    of: String,
    id: String,
}

impl Fleet {
    pub(super) async fn past_of(&self, host: &Name, vm: Uuid) -> Result<Vec<News>, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let client = self.client().await.map_err(|error| text(&error))?;
        let context = jetstream::new(client.clone());
        let stream = context.get_stream(subject::AUDIT).await.map_err(|error| text(&error))?;
        let last = stream.cached_info().state.last_sequence;
        let start_sequence = last.saturating_sub(MESSAGES).max(1);
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            filter_subject: subject::audit(host),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| text(&error))?;
        let waiting = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.map_err(|error| text(&error))?;
        let mut found = std::collections::VecDeque::new();
        for _ in 0..waiting {
            let message = match timeout(PATIENCE, messages.next()).await {
                Ok(Some(message)) => message.map_err(|error| text(&error))?,
                Ok(None) | Err(_) => break,
            };
            let subject = message.subject.as_str();
            let Some((_, Records { records })) =
                self.read(subject.rsplit('.').next().unwrap_or_default(), &message.payload)
            else {
                continue;
            };
            found.extend(records.iter().filter_map(|record| about(&record.line, vm)));
            found.drain(..found.len().saturating_sub(MOST));
        }
        Ok(found.into())
    }
}

/// The record of this line, where it is about the VM.
fn about(line: &str, vm: Uuid) -> Option<News> {
    let record: Record = serde_json::from_str(line).ok()?;
    let subject = record.subject.as_ref()?;
    if subject.of != "vm" || subject.id.parse() != Ok(vm) {
        return None;
    }
    let (at, event, what) = (record.at, record.kind.clone(), record.sentence());
    Some(News { at, vm: Some(vm), event, what, severity: None })
}

impl Record {
    fn sentence(&self) -> String {
        let change = match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            (None, Some(to)) => to.clone(),
            (Some(from), None) => format!("no longer {from}"),
            (None, None) => String::new(),
        };
        let by = self.person().map(|name| format!("by {name}"));
        let parts = [change, by.unwrap_or_default(), self.why.clone()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(": ")
    }

    /// Who it was, where it was a person.
    fn person(&self) -> Option<String> {
        let word = |key: &str| self.who[key].as_str().map(str::to_owned);
        let user = || Some(format!("the user {}", self.who["uid"].as_u64()?));
        word("on_behalf").or_else(|| word("user")).or_else(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_words() {
        let vm: Uuid = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let about_vm = |rest: &str| {
            format!(
                r#"{{"v":1,"seq":1,"at":"2026-01-02T03:04:05Z","prev":"","subject":{{"type":"vm","id":"{vm}"}},{rest}}}"#
            )
        };
        let cases = [
            (
                about_vm(
                    r#""kind":"vm","from":"approved","to":"denied","who":{"type":"daemon"},"why":"no template""#,
                ),
                Some("vm approved → denied: no template"),
            ),
            (
                about_vm(
                    r#""kind":"action-asked","to":"quarantine-add","who":{"type":"fleet","monitor":"desk","user":"otto (operate)","command":"x"},"why":"ticket 42""#,
                ),
                Some("action-asked quarantine-add: by otto (operate): ticket 42"),
            ),
            (
                about_vm(
                    r#""kind":"action-done","to":"quarantine-release","who":{"type":"person","via":"api","uid":7,"gid":7,"pid":1}"#,
                ),
                Some("action-done quarantine-release: by the user 7"),
            ),
            (
                about_vm(r#""kind":"vm","who":{"type":"daemon"}"#)
                    .replace("\"vm\",\"id", "\"port\",\"id"),
                None,
            ),
            (about_vm(r#""kind":"vm","who":{"type":"daemon"}"#).replace("000001", "000002"), None),
            ("{".to_owned(), None),
        ];
        for (line, expect) in cases {
            let said = about(&line, vm).map(|news| format!("{} {}", news.event, news.what));
            assert_eq!(said.as_deref(), expect, "{line}");
        }
    }
}
