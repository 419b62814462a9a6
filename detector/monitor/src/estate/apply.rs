use std::collections::BTreeMap;

use detector_core::fleet::{
    message::{FindingNews, HostState, Time, VmState},
    page,
    roll_out::RollOut,
};

use super::{Estate, Host, MOST_FINDINGS, News, OpenFinding};

/// Something that was heard.
#[derive(Clone, Debug)]
pub enum Told {
    /// Everything of a host at once.
    Whole {
        host: String,
        state: HostState,
        vms: Vec<VmState>,
        findings: Vec<OpenFinding>,
    },
    State {
        host: String,
        state: HostState,
    },
    Page {
        host: String,
        number: u32,
        /// How many pages there are.
        of: u32,
        vms: Vec<VmState>,
    },
    /// Open findings, as the host lists them.
    Open {
        host: String,
        number: u32,
        of: u32,
        findings: Vec<OpenFinding>,
    },
    Finding {
        host: String,
        news: FindingNews,
    },
    /// Which bundle is offered.
    Offered(u64),
    /// Where a roll-out stands.
    RollOut(Box<RollOut>),
    /// A host does not answer.
    Silent {
        host: String,
        why: String,
    },
    /// Nothing is heard from now on; what is known stays.
    Lost(String),
    /// Something is heard again.
    Back,
}

impl Estate {
    /// Takes what was heard at a moment.
    pub fn apply(&mut self, now: Time, told: Told) {
        match told {
            Told::Whole { host, state, vms, findings } => {
                let host = self.hosts.entry(host).or_default();
                host.replace_findings(now, findings);
                host.put_page(now, (0, 1), vms);
                host.hear(now, HostState { pages: 1, ..state });
            }
            Told::State { host, state } => self.hosts.entry(host).or_default().hear(now, state),
            Told::Page { host, number, of, vms } => {
                self.hosts.entry(host).or_default().put_page(now, (number, of), vms);
            }
            Told::Open { host, number, of, findings } => {
                self.hosts.entry(host).or_default().put_open((number, of), findings);
            }
            Told::Finding { host, news } => self.hosts.entry(host).or_default().take(news),
            Told::Offered(version) => self.offered = Some(version),
            Told::RollOut(roll_out) => self.roll_out = Some(*roll_out),
            Told::Silent { host, why } => {
                self.hosts.entry(host).or_default().lost = Some(why);
            }
            Told::Lost(why) => self.lost = Some(why),
            Told::Back => self.lost = None,
        }
    }
}

impl Host {
    fn hear(&mut self, now: Time, state: HostState) {
        self.lost = None;
        self.heard = Some(now);
        self.state = Some(state);
    }

    fn put_page(&mut self, now: Time, (number, of): (u32, u32), vms: Vec<VmState>) {
        let known = self.pages.page(number);
        let before: BTreeMap<_, _> =
            known.into_iter().flatten().map(|vm| (vm.uuid, vm.status.clone())).collect();
        // What is heard for the first time has not just happened.
        let known = known.is_some();
        for vm in &vms {
            let was = before.get(&vm.uuid);
            if known && was != Some(&vm.status) {
                let what = match was {
                    Some(was) => format!("{was} → {}", vm.status),
                    None => format!("appears, {}", vm.status),
                };
                let at = vm.since.filter(|since| *since <= now).unwrap_or(now);
                let (event, vm) = ("status".to_owned(), Some(vm.uuid));
                self.note(News { at, vm, event, what, severity: None });
            }
        }
        self.pages.put((number, of), vms);
    }

    /// What has happened to them is told besides.
    fn put_open(&mut self, (number, of): (u32, u32), mut findings: Vec<OpenFinding>) {
        findings.truncate(MOST_FINDINGS.saturating_sub(self.open.beside(number)));
        findings.iter_mut().for_each(|finding| finding.evidence.truncate(page::MOST_EVIDENCE));
        self.open.put((number, of), findings);
    }

    /// What is open now, by a host that tells all of it; what has changed is news.
    fn replace_findings(&mut self, now: Time, findings: Vec<OpenFinding>) {
        let next: BTreeMap<_, _> = findings
            .into_iter()
            .take(MOST_FINDINGS)
            .map(|finding| (finding.id.clone(), finding))
            .collect();
        let before = std::mem::take(&mut self.told);
        let is_first = self.state.is_none();
        for finding in next.values().filter(|one| !before.contains_key(&one.id)) {
            let at = if is_first { finding.since } else { finding.since.max(now - HOUR).min(now) };
            self.note(news_of(finding, "opened", at));
        }
        for finding in before.values().filter(|one| !next.contains_key(&one.id)) {
            self.note(news_of(finding, "closed", now));
        }
        self.told = next;
    }

    fn take(&mut self, news: FindingNews) {
        let FindingNews {
            event,
            at,
            finding,
            kind,
            severity,
            title,
            since,
            vm,
            evidence,
            next,
            ..
        } = news;
        // Somebody has tried whether alerts arrive.
        if event == "test" {
            return;
        }
        let id = finding;
        let settled = matches!(event.as_str(), "acknowledged" | "suppressed");
        let one = OpenFinding { id, kind, severity, title, evidence, next, since, vm, settled };
        self.note(news_of(&one, &event, at));
        if event == "closed" {
            self.told.remove(&one.id);
        } else if self.told.len() < MOST_FINDINGS || self.told.contains_key(&one.id) {
            // What is opened again is to be seen to again: the suppression has ended.
            let before =
                event != "opened" && self.told.get(&one.id).is_some_and(|before| before.settled);
            let one = OpenFinding { settled: one.settled || before, ..one };
            self.told.insert(one.id.clone(), one);
        }
    }
}

const HOUR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

fn news_of(finding: &OpenFinding, event: &str, at: Time) -> News {
    News {
        at,
        vm: finding.vm,
        event: event.to_owned(),
        what: finding.title.clone(),
        severity: Some(finding.severity),
    }
}
