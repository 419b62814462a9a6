//! Takes notices to one receiver: in order, again and again until it has them, and with patience. A
//! receiver that hangs holds up its own notices only.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    desk::{Desk, Health},
    outbox::Entry,
    sink::Failure,
};

/// After a failure it is tried again after this, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);
/// So many failures double it.
const DOUBLED: u32 = 9;

/// Runs for as long as the daemon does; one delivery may take so long.
pub(super) async fn run(desk: Rc<RefCell<Desk>>, route: usize, patience: Duration) {
    let (sink, bell) = {
        let desk = desk.borrow();
        (Arc::clone(&desk.routes[route].sink), Arc::clone(&desk.routes[route].bell))
    };
    // Where the receiver does not want one of several, they go one by one.
    let (mut most, mut one_by_one) = (sink.batch(), 0usize);
    let mut resend = sink.resend().map(|_| Instant::now());
    loop {
        let now = Instant::now();
        let batch = desk.borrow_mut().outbox.next(&sink.name, most);
        let again = batch.is_empty() && resend.is_some_and(|at| at <= now);
        if batch.is_empty() && !again {
            // What is rung for meanwhile is not missed: the bell keeps one ring.
            tokio::select! {
                () = bell.notified() => {}
                () = sleep_until(resend.unwrap_or(now)), if resend.is_some() => {}
            }
            continue;
        }
        let notices: Vec<_> = match again {
            true => desk.borrow_mut().still_open(route, Timestamp::now()),
            false => batch.iter().map(|entry| entry.notice.clone()).collect(),
        };
        let delivery = async {
            match again {
                true => sink.still_open(&notices).await,
                false => sink.deliver(&notices).await,
            }
        };
        let outcome = timeout(patience, delivery).await.unwrap_or_else(|_| {
            Err(Failure::Later(format!("no answer within {} seconds", patience.as_secs())))
        });
        match outcome {
            Ok(()) => {
                succeeded(&desk, route, &batch, !again || !notices.is_empty());
                one_by_one = one_by_one.saturating_sub(batch.len());
                most = if one_by_one > 0 { 1 } else { sink.batch() };
                if again {
                    resend = sink.resend().map(|every| Instant::now() + every);
                } else if !sink.pause().is_zero() {
                    sleep_until(now + sink.pause()).await;
                }
            }
            Err(Failure::Refused(why)) if batch.len() == 1 => {
                let name = &sink.name;
                tracing::warn!(sink = name, why, "alerts: the receiver does not want one");
                desk.borrow_mut().outbox.refused(name, &batch[0]);
                one_by_one = one_by_one.saturating_sub(1);
                most = if one_by_one > 0 { 1 } else { sink.batch() };
            }
            Err(Failure::Refused(_)) if batch.len() > 1 => {
                (most, one_by_one) = (1, batch.len());
            }
            Err(failure) => {
                let pause = failed(&desk, route, &failure);
                let until = Instant::now() + pause;
                // Somebody who has mended it need not wait.
                let tried = desk.borrow().routes[route].tried.clone();
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = tried.notified() => {}
                }
            }
        }
    }
}

fn succeeded(desk: &RefCell<Desk>, route: usize, batch: &[Entry], was_told: bool) {
    let mut desk = desk.borrow_mut();
    let Desk { outbox, routes, .. } = &mut *desk;
    let route = &mut routes[route];
    outbox.delivered(&route.sink.name, batch);
    if route.health.failing_since.is_some() {
        tracing::info!(sink = route.sink.name, "alerts: delivered again");
    }
    let last = was_told.then(Timestamp::now).or(route.health.last_delivery);
    route.health = Health { last_delivery: last, ..Health::default() };
}

/// Notes the failure, and says how long to wait.
fn failed(desk: &RefCell<Desk>, route: usize, failure: &Failure) -> Duration {
    let mut desk = desk.borrow_mut();
    let route = &mut desk.routes[route];
    let health = &mut route.health;
    if health.failing_since.is_none() {
        tracing::warn!(sink = route.sink.name, why = failure.why(), "alerts: cannot be delivered");
    }
    let pause = pause(health.tries, fraction());
    let now = Timestamp::now();
    health.failing_since.get_or_insert(now);
    health.error = Some(failure.why().to_owned());
    health.next_try = Some(now + pause);
    health.tries += 1;
    pause
}

/// How long to wait after so many failures: not to the second, so that a thousand hosts do not come back
/// to a receiver at once.
fn pause(failures: u32, fraction: f64) -> Duration {
    let pause = (FIRST_RETRY * 2u32.pow(failures.min(DOUBLED))).min(LAST_RETRY);
    pause.mul_f64(0.8 + 0.4 * fraction)
}

/// Some number from 0 to 1.
fn fraction() -> f64 {
    f64::from(Timestamp::now().subsec_nanosecond() % 1000) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_and_longer_and_not_for_ever() {
        let seconds = |failures| pause(failures, 0.5).as_secs();
        assert_eq!([0, 1, 2, 5, 8].map(seconds), [1, 2, 4, 32, 256]);
        assert_eq!([9, 10, u32::MAX].map(seconds), [300; 3]);
        assert!(pause(0, 0.0) < pause(0, 1.0));
    }
}
