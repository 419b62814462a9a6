//! Users and groups that the configuration gives a role and nobody on this host knows, such as those of a directory
//! service before the host has a network: the daemon guards meanwhile, and they may ask nothing.

use std::{sync::Arc, time::Duration};

use detector_core::model::{Finding, FindingKey, FindingKind, Severity, Subject, Timestamp};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::input::Input;
use crate::api::{
    peer::Access,
    socket::{Doors, Named},
};

/// Between two attempts: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Looks them up, ever less often, until all are known.
pub(super) async fn look_up(
    mut doors: Doors,
    access: watch::Sender<Arc<Access>>,
    inputs: mpsc::Sender<Input>,
) {
    let (mut pause, mut told) = (FIRST_PAUSE, false);
    while !doors.unknown.is_empty() {
        let before = doors.unknown.clone();
        let mut looking = spawn_blocking(move || {
            doors.look_up();
            doors
        });
        let found = match timeout(FIRST_PAUSE, &mut looking).await {
            Ok(found) => found,
            // Those whom another service knows are no news, unless it takes its time.
            Err(_) => {
                if !told && inputs.send(Input::Unknown(before.clone())).await.is_err() {
                    return;
                }
                told = true;
                looking.await
            }
        };
        // One that the look-up breaks on is no reason to let anybody in.
        let Ok(found) = found else { return };
        doors = found;
        let news = doors.unknown.len() < before.len();
        if news {
            pause = FIRST_PAUSE;
            let uid = access.borrow().uid;
            access.send_replace(Arc::new(Access { uid, roles: doors.roles.clone() }));
        }
        if (news || !told) && inputs.send(Input::Unknown(doors.unknown.clone())).await.is_err() {
            return;
        }
        told = true;
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Those who are unknown now, and since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Option<(Timestamp, Vec<Named>)>);

impl Strangers {
    /// Takes in who is unknown now, all of them.
    pub(super) fn take(&mut self, now: Timestamp, unknown: Vec<Named>) {
        let since = self.0.take().map_or(now, |(since, _)| since);
        self.0 = (!unknown.is_empty()).then_some((since, unknown));
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let (since, unknown) = self.0.as_ref()?;
        let names = unknown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let first = &unknown[0].name;
        let look = match first.strip_prefix('@') {
            Some(group) => ["getent", "group", group],
            None => ["getent", "passwd", first],
        };
        Some(Finding {
            key: FindingKey {
                kind: FindingKind::EntryRejected,
                subject: Subject::Place("configuration (roles)".to_owned()),
            },
            severity: Severity::Low,
            title: format!(
                "Nobody on this host knows {names}: they may ask nothing until somebody does, and are looked up again."
            ),
            evidence: unknown.iter().map(|one| (one.key.clone(), one.name.clone())).collect(),
            next: Some(look.join(" ")),
            since: *since,
        })
    }
}
