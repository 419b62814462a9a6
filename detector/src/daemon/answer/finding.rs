use crate::{api::view::FindingView, daemon::brain::Brain, enforcer::Enforcer};

impl<E: Enforcer> Brain<E> {
    pub(super) fn finding_views(&self) -> Vec<FindingView> {
        self.findings.open().into_iter().map(FindingView::from).collect()
    }
}
