//! Mail by SMTP: one alert is a mail, several that have come meanwhile are one digest.

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};

use detector_core::model::Severity;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Identity, Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::{Delivered, Failure, blocking, net::contents, secret};
use crate::{
    alert::{host::Origin, notice::Notice, text},
    config::alerts::{self, MailSecurity},
};

/// Alerts that a digest has whole; of the others it says how many of which kind.
const WHOLE: usize = 50;

#[derive(Debug)]
pub(super) struct Email {
    keys: alerts::Email,
    pub(super) every: Duration,
    origin: Arc<Origin>,
}

impl Email {
    pub(super) fn new(keys: &alerts::Email, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), every: keys.every, origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        format!("{} by {}", self.keys.to.join(", "), self.keys.server)
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        let Some(first) = notices.first() else { return Ok(()) };
        let broken = |error| Failure::later("this is no mail", error);
        let mut message = Message::builder()
            .from(mailbox(&self.keys.from)?)
            .subject(self.subject(notices))
            // The same for each try, so that a mail that arrives twice is seen to be one.
            .message_id(Some(format!("<{}@{}>", first.id, self.origin.host)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.keys.to {
            message = message.to(mailbox(to)?);
        }
        let message = message.body(self.body(notices)).map_err(broken)?;
        let keys = self.keys.clone();
        let host = self.origin.host.clone();
        let transport = blocking(move || transport(&keys, &host)).await?;
        match transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(judge(&error)),
        }
    }

    fn subject(&self, notices: &[Notice]) -> String {
        match notices {
            [one] => text::line(one, &self.origin),
            several => {
                let worst = several.iter().map(Notice::severity).max().unwrap_or(Severity::Info);
                let (count, host) = (several.len(), &self.origin.host);
                format!("{count} alerts, {} and below [detector on {host}]", worst.as_str())
            }
        }
    }

    fn body(&self, notices: &[Notice]) -> String {
        // The most severe first, so that they are among those that are there whole.
        let mut sorted: Vec<_> = notices.iter().collect();
        sorted.sort_by_key(|notice| std::cmp::Reverse(notice.severity()));
        let (whole, rest) = sorted.split_at(sorted.len().min(WHOLE));
        let mut body = String::new();
        for notice in whole {
            body.push_str(&text::paragraph(notice, &self.origin));
            let _ = writeln!(body, "  id: {}, alert: {}\n", notice.id, notice.alert);
        }
        if !rest.is_empty() {
            let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
            for notice in rest {
                *kinds.entry((notice.finding.kind.as_str(), notice.event)).or_default() += 1;
            }
            let _ =
                writeln!(body, "And {} more; detector finding list has what is open:", rest.len());
            for ((kind, event), count) in kinds {
                let _ = writeln!(body, "  {count} {kind}, {event}");
            }
        }
        body
    }
}

fn mailbox(text: &str) -> Result<Mailbox, Failure> {
    text.parse().map_err(|error| Failure::later("this is no address", error))
}

/// Reads what the files hold. Blocks.
fn transport(
    keys: &alerts::Email,
    host: &str,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
    let tls = match keys.security {
        MailSecurity::None => Tls::None,
        MailSecurity::Tls => Tls::Wrapper(parameters(keys)?),
        MailSecurity::Starttls => Tls::Required(parameters(keys)?),
    };
    let mut transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(keys.server.host.clone())
            .port(keys.server.port)
            .hello_name(ClientId::Domain(host.to_owned()))
            .tls(tls);
    if let (Some(user), Some(path)) = (&keys.username, &keys.password_file) {
        transport = transport.credentials(Credentials::new(user.clone(), secret::read(path)?));
    }
    Ok(transport.build())
}

fn parameters(keys: &alerts::Email) -> Result<TlsParameters, Failure> {
    let failed = |error| Failure::later("no TLS", error);
    let mut builder = TlsParameters::builder(keys.server.host.clone())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(Certificate::from_pem(&contents(&keys.tls.ca)?).map_err(failed)?);
    if let (Some(certificate), Some(key)) = (&keys.tls.certificate, &keys.tls.key) {
        let identity = Identity::from_pem(&contents(certificate)?, &contents(key)?);
        builder = builder.identify_with(identity.map_err(failed)?);
    }
    builder.build().map_err(failed)
}

/// A server's final word on a mail (too large, its content not wanted) is one; what else it refuses,
/// such as the sender or a recipient, an administrator can mend.
fn judge(error: &lettre::transport::smtp::Error) -> Failure {
    let why = format!("the mail server: {}", describe(error));
    match error.status().map(u16::from) {
        Some(552 | 554) => Failure::Refused(text::shown(&why)),
        _ => Failure::Later(text::shown(&why)),
    }
}

/// An error with what is behind it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(&format!(": {next}"));
        }
        source = error.source();
    }
    text
}
