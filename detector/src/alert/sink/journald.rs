//! systemd's journal.

use std::sync::Arc;

use detector_core::model::Severity;

use super::{Delivered, Failure, blocking};
use crate::{
    alert::{host::Origin, notice::Notice, ocsf, text},
    config::alerts,
    journal,
};

/// By which `journalctl MESSAGE_ID=…` finds every alert.
const MESSAGE_ID: &str = "d5a31fb0b3d94f0e9b1ad0a0de7ec70f";

#[derive(Debug)]
pub(super) struct Journald {
    keys: alerts::Journald,
    origin: Arc<Origin>,
}

impl Journald {
    pub(super) fn new(keys: &alerts::Journald, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        self.keys.socket.display().to_string()
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        let entries: Vec<_> = notices.iter().map(|notice| self.entry(notice)).collect();
        let path = self.keys.socket.clone();
        blocking(move || {
            entries
                .iter()
                .try_for_each(|entry| journal::send(&path, entry))
                .map_err(|error| Failure::later("the journal does not take it", error))
        })
        .await
    }

    fn entry(&self, notice: &Notice) -> Vec<u8> {
        let finding = &notice.finding;
        journal::entry([
            ("MESSAGE", text::line(notice, &self.origin)),
            ("MESSAGE_ID", MESSAGE_ID.to_owned()),
            ("PRIORITY", priority(notice).to_string()),
            ("SYSLOG_IDENTIFIER", "detector".to_owned()),
            ("DETECTOR_ID", notice.id.to_string()),
            ("DETECTOR_ALERT", notice.alert.to_string()),
            ("DETECTOR_EVENT", notice.event.to_string()),
            ("DETECTOR_FINDING", finding.id.clone()),
            ("DETECTOR_KIND", finding.kind.as_str().to_owned()),
            ("DETECTOR_SEVERITY", finding.severity.as_str().to_owned()),
            ("DETECTOR_OCSF", ocsf::line(notice, &self.origin)),
        ])
    }
}

fn priority(notice: &Notice) -> u8 {
    match notice.severity() {
        _ if notice.event.ends() => 5,
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}
