use std::{collections::BTreeSet, time::Duration};

use super::{Alerts, MailSecurity, SyslogTransport, Tls};
use crate::config::check::{Checked, ensure};

/// Each is a task, and a line of `alert status`.
const MAX_SINKS: usize = 16;
const MIN_ALERTS: Duration = Duration::from_secs(1);
const MAX_ALERTS: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_SETTLE: Duration = Duration::from_secs(60 * 60);

/// Checks what the types do not say.
pub(in crate::config) fn check(alerts: &Alerts) -> Checked {
    ensure((1..=4096).contains(&alerts.outbox_mib), &["alerts", "outbox_mib"], || {
        "expected 1 to 4096".to_owned()
    })?;
    ensure((MIN_ALERTS..=MAX_ALERTS).contains(&alerts.overdue), &["alerts", "overdue"], || {
        "expected \"1s\" to \"1day\"".to_owned()
    })?;
    ensure(
        (MIN_ALERTS..=Duration::from_secs(300)).contains(&alerts.timeout),
        &["alerts", "timeout"],
        || "expected \"1s\" to \"5m\"".to_owned(),
    )?;
    ensure(alerts.settle <= MAX_SETTLE, &["alerts", "settle"], || {
        "expected at most an hour (\"1h\")".to_owned()
    })?;
    let mut names = BTreeSet::new();
    let count = alerts.names().count();
    ensure(count <= MAX_SINKS, &["alerts"], || {
        format!("{count} sinks; expected at most {MAX_SINKS}")
    })?;
    let twice = alerts.names().find(|name| !names.insert(*name));
    ensure(twice.is_none(), &["alerts"], || {
        format!("two sinks are called {:?}; expected a name for each", twice.unwrap_or_default())
    })?;
    for sink in &alerts.file {
        ensure(
            (1..=4096).contains(&sink.max_mib) && sink.keep <= 100,
            &["alerts", "file"],
            || format!("{}: expected max_mib of 1 to 4096, and keep of at most 100", sink.name),
        )?;
    }
    for sink in &alerts.syslog {
        let plain = sink.transport == SyslogTransport::Udp;
        ensure(!plain || sink.tls == Tls::default(), &["alerts", "syslog"], || {
            format!(
                "{}: there is no TLS over UDP; expected transport = \"tls\", or no tls",
                sink.name
            )
        })?;
    }
    for sink in &alerts.alertmanager {
        ensure(
            (MIN_ALERTS..=Duration::from_secs(60 * 60)).contains(&sink.resend),
            &["alerts", "alertmanager"],
            || format!("{}: expected resend of \"1s\" to \"1h\"", sink.name),
        )?;
    }
    for sink in &alerts.email {
        ensure(
            sink.username.is_some() == sink.password_file.is_some(),
            &["alerts", "email"],
            || format!("{}: expected both username and password_file, or neither", sink.name),
        )?;
        ensure(
            sink.username.is_none() || sink.security != MailSecurity::None,
            &["alerts", "email"],
            || {
                format!(
                    "{}: a password is not sent in the clear; expected security = \"starttls\" or \"tls\"",
                    sink.name
                )
            },
        )?;
        ensure(sink.every <= MAX_ALERTS, &["alerts", "email"], || {
            format!("{}: expected every of at most a day", sink.name)
        })?;
    }
    let syslog = alerts.syslog.iter().map(|sink| (&sink.name, &sink.tls));
    let webhook = alerts.webhook.iter().map(|sink| (&sink.name, &sink.tls));
    let manager = alerts.alertmanager.iter().map(|sink| (&sink.name, &sink.tls));
    let email = alerts.email.iter().map(|sink| (&sink.name, &sink.tls));
    for (name, tls) in syslog.chain(webhook).chain(manager).chain(email) {
        ensure(tls.certificate.is_some() == tls.key.is_some(), &["alerts"], || {
            format!("{name}: expected both certificate and key, or neither")
        })?;
    }
    Ok(())
}
