use std::collections::BTreeMap;

use crate::model::{Deed, ObservedMode};
use detector_common::settings::{Cause, Mode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ModeView, PortState, SightingView, VmRef, moment};

/// The mode of the host, how it has come about, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeDetail {
    /// The mode that holds.
    pub mode: ModeView,
    /// `confirmed`, `provisional` (enforcing that awaits its confirmation) or `break-glass`.
    pub standing: String,
    /// Where it ends by itself: when, by the clock of now.
    pub until: Option<Timestamp>,
    /// The mode that follows then.
    pub then: Option<ModeView>,
    pub since: Timestamp,
    /// User id of whoever wanted it, or of the daemon.
    pub uid: u32,
    /// `configured`, `operator`, or `lapsed` where nobody has confirmed or ended what was before.
    pub cause: String,
    pub reason: String,
    pub maintenance: Option<TermView>,
}

/// Maintenance, while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermView {
    pub until: Timestamp,
    pub since: Timestamp,
    pub uid: u32,
    pub reason: String,
}

impl From<&ObservedMode> for ModeDetail {
    fn from(observed: &ObservedMode) -> Self {
        let mode = observed.effective();
        let provisional = observed.is_provisional();
        let Deed { since, uid, cause, why } = observed.record.deed.clone();
        let cause = if observed.lapsed { Cause::Lapsed } else { cause };
        let maintenance = observed.record.maintenance.as_ref().zip(observed.maintenance);
        Self {
            mode: mode.into(),
            standing: match (provisional, mode) {
                (false, _) => "confirmed",
                (true, Mode::Enforce) => "provisional",
                (true, Mode::Observe) => "break-glass",
            }
            .to_owned(),
            until: observed.until.filter(|_| provisional).map(moment),
            then: provisional.then(|| mode.other().into()),
            since: moment(since),
            uid,
            cause: match cause {
                Cause::Configured => "configured",
                Cause::Operator => "operator",
                Cause::Lapsed => "lapsed",
            }
            .to_owned(),
            reason: why,
            maintenance: maintenance.map(|(maintenance, until)| TermView {
                until: moment(until),
                since: moment(maintenance.deed.since),
                uid: maintenance.deed.uid,
                reason: maintenance.deed.why.clone(),
            }),
        }
    }
}

/// What enforcing would cut, and cuts where the host enforces already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The mode that holds.
    pub mode: ModeView,
    /// VMs that run and are not approved.
    pub vms: Vec<PreviewVm>,
    /// Interfaces that are mute, or of which frames have been refused.
    pub ports: Vec<PreviewPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewVm {
    pub vm: VmRef,
    /// `denied` or `pending`.
    pub status: String,
    /// What enforcing does to it.
    pub effect: String,
    /// The requirements that are not met.
    pub why: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewPort {
    pub name: String,
    pub ifindex: u32,
    pub instance: u32,
    pub role: String,
    pub status: PortState,
    pub vm: Option<VmRef>,
    /// Every frame is cut: the port is mute or isolated.
    pub mute: bool,
    pub why: Option<String>,
    /// Frames refused from the port's side so far, by reason.
    pub from: BTreeMap<String, u64>,
    /// Frames refused towards the port's side so far.
    pub to: BTreeMap<String, u64>,
    /// What was claimed without a grant; of each port the latest few.
    pub claims: Vec<SightingView>,
    /// Frames refused from its side whose claims are not among them, because others have taken their
    /// places: where there are any, the list of claims is not all of it.
    #[serde(default)]
    pub unlisted: u64,
}
