//! The fleet: each notice is a message of a stream, which keeps it under the notice's own name.

use detector_core::fleet::{
    message::FindingNews,
    page::{MOST_EVIDENCE, cut},
    report,
};

use super::{Delivered, Failure, Notice};
use crate::fleet::{
    speech::{Speech, Unsaid},
    words::Place,
};

#[derive(Debug)]
pub(super) struct Fleet(pub(super) Speech);

impl Fleet {
    pub(super) fn target(&self) -> String {
        format!("{} as {}", self.0.fleet(), self.0.host())
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        self.0.happened();
        for notice in notices {
            let said = self.0.put(Place::Finding, &news(notice), Some(notice.id)).await;
            said.map_err(|unsaid| match unsaid {
                Unsaid::Later(why) => Failure::Later(why),
                Unsaid::Never(why) => Failure::Refused(why.to_string()),
            })?;
        }
        Ok(())
    }
}

fn news(notice: &Notice) -> FindingNews {
    let mut finding = report::finding(notice.finding.clone());
    finding.evidence.truncate(MOST_EVIDENCE);
    finding.evidence.iter_mut().for_each(|(_, value)| cut(value));
    FindingNews {
        id: notice.id,
        alert: notice.alert,
        event: notice.event.as_str().to_owned(),
        at: notice.at,
        finding: finding.id,
        kind: finding.kind,
        severity: finding.severity,
        title: finding.title,
        since: finding.since,
        vm: finding.vm,
        evidence: finding.evidence,
        next: finding.next,
    }
}
