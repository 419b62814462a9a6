use detector_core::model::Finding;

use crate::{
    api::{ApiError, ErrorCode, view::FindingView},
    daemon::brain::Brain,
    enforcer::Enforcer,
    findings,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn finding_views(&self) -> Vec<FindingView> {
        self.findings.open().into_iter().map(|finding| self.finding_view(finding)).collect()
    }

    /// The open finding of that identifier.
    pub(super) fn finding_named(&self, id: &str) -> Result<FindingView, ApiError> {
        let found = self.finding_views().into_iter().find(|finding| finding.id == id);
        found.ok_or_else(|| {
            let message =
                format!("no finding {id:?} is open; detector finding list shows those that are");
            ApiError::new(ErrorCode::NotFound, message)
        })
    }

    /// A finding, with what people have said of it.
    pub(in crate::daemon) fn finding_view(&self, finding: &Finding) -> FindingView {
        let mut view = findings::view(finding);
        self.alerts.label(&mut view);
        view
    }
}
