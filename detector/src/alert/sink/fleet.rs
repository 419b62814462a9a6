//! The fleet: each notice is a message of a stream, which keeps it under the notice's own name.

use detector_core::{
    fleet::{message::FindingNews, page::cut},
    model::Subject,
};

use super::{Delivered, Failure, Notice};
use crate::fleet::{
    speech::{Speech, Unsaid},
    words::Place,
};

/// Of a finding's evidence, as much is told.
const MOST_EVIDENCE: usize = 32;

#[derive(Debug)]
pub(super) struct Fleet(pub(super) Speech);

impl Fleet {
    pub(super) fn target(&self) -> String {
        format!("{} as {}", self.0.fleet(), self.0.host())
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
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
    let finding = &notice.finding;
    let mut evidence = finding.evidence.clone();
    evidence.truncate(MOST_EVIDENCE);
    evidence.iter_mut().for_each(|(_, value)| cut(value));
    FindingNews {
        id: notice.id,
        alert: notice.alert,
        event: notice.event.as_str().to_owned(),
        at: notice.at,
        finding: finding.id.clone(),
        kind: finding.kind.as_str().to_owned(),
        severity: finding.severity,
        title: finding.title.clone(),
        since: finding.since,
        vm: match finding.subject {
            Subject::Vm(vm) => Some(vm),
            _ => None,
        },
        evidence,
        next: finding.next.clone(),
    }
}
