use crate::{
    api::view::{DaemonMetrics, MetricsView, PortMetrics},
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn metrics_view(&mut self) -> MetricsView {
        let mut ports = self.port_views();
        self.add_counters(&mut ports);
        let metered = |port: crate::api::view::PortView| {
            let (name, role) = (port.name, port.role);
            Some(PortMetrics { name, role, counters: port.counters? })
        };
        let status = self.status_view();
        let [reloads, reloads_refused] = self.reloads.counts;
        MetricsView {
            enforces: status.mode.enforces(),
            quarantines: status.quarantines,
            ports: ports.into_iter().filter_map(metered).collect(),
            daemon: Some(DaemonMetrics {
                status,
                turns: self.turns.count,
                turns_took_us: u64::try_from(self.turns.took.as_micros()).unwrap_or(u64::MAX),
                reloads,
                reloads_refused,
                configured: self.is_configured(),
            }),
        }
    }
}
