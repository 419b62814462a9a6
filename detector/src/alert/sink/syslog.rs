//! Syslog, RFC 5424: over UDP (RFC 5426), or over TLS with octet counting (RFC 5425).

use std::{sync::Arc, time::Duration};

use detector_core::model::Severity;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    time::timeout,
};

use super::{Delivered, Failure, net};
use crate::{
    alert::{
        host::Origin,
        notice::{Event, Notice},
        ocsf, text,
    },
    config::alerts::{self, SyslogFormat, SyslogTransport},
};

/// What a datagram may hold; receivers take 2,048 bytes at the least, and 8 KiB as they come.
const DATAGRAM: usize = 8 * 1024;
/// How long it takes a host to say that nobody listens on a port.
const REFUSAL: Duration = Duration::from_millis(50);
/// The identifier of structured data: the enterprise number is the one for examples (RFC 5612), since
/// there is none of our own.
const DATA: &str = "detector@32473";

#[derive(Debug)]
pub(super) struct Syslog {
    keys: alerts::Syslog,
    origin: Arc<Origin>,
}

impl Syslog {
    pub(super) fn new(keys: &alerts::Syslog, origin: &Arc<Origin>) -> Self {
        Self { keys: keys.clone(), origin: Arc::clone(origin) }
    }

    pub(super) fn target(&self) -> String {
        let transport = match self.keys.transport {
            SyslogTransport::Udp => "udp",
            SyslogTransport::Tls => "tls",
        };
        format!("{transport} {}", self.keys.address)
    }

    pub(super) async fn deliver(&self, notices: &[Notice]) -> Delivered {
        match self.keys.transport {
            SyslogTransport::Udp => self.datagrams(notices).await,
            SyslogTransport::Tls => self.stream(notices).await,
        }
    }

    async fn datagrams(&self, notices: &[Notice]) -> Delivered {
        let address = (self.keys.address.host.as_str(), self.keys.address.port);
        let found = tokio::net::lookup_host(address).await;
        let mut found = found.map_err(|error| Failure::later("no address", error))?;
        let to = found.next().ok_or_else(|| Failure::Later("no address".to_owned()))?;
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let failed = |error| Failure::later("cannot send", error);
        let socket = UdpSocket::bind(from).await.map_err(failed)?;
        socket.connect(to).await.map_err(failed)?;
        for notice in notices {
            let mut message = self.message(notice, self.keys.format);
            if message.len() > DATAGRAM {
                message = self.message(notice, SyslogFormat::Text);
                message.truncate(message.floor_char_boundary(DATAGRAM));
            }
            socket.send(message.as_bytes()).await.map_err(failed)?;
        }
        // Nobody says that it has arrived; that nobody listens is said at once, if at all.
        match timeout(REFUSAL, socket.recv(&mut [0; 1])).await {
            Ok(Err(error)) => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// There is no acknowledgement in the protocol. A receiver that ends the connection because we have
    /// done so has read everything before; one that is gone does not.
    async fn stream(&self, notices: &[Notice]) -> Delivered {
        let failed = |error| Failure::later("the connection broke", error);
        let mut stream = net::encrypted(&self.keys.address, &self.keys.tls).await?;
        for notice in notices {
            let message = self.message(notice, self.keys.format);
            let framed = format!("{} {message}", message.len());
            stream.write_all(framed.as_bytes()).await.map_err(failed)?;
        }
        stream.shutdown().await.map_err(failed)?;
        let mut ignored = [0; 256];
        loop {
            match stream.read(&mut ignored).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // It has ended the connection without TLS's farewell, as many do.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// `<PRI>1 TIME HOST detector PID KIND [data] text`
    fn message(&self, notice: &Notice, format: SyslogFormat) -> String {
        let finding = &notice.finding;
        let priority = self.keys.facility as u32 * 8 + severity(notice);
        let said = match format {
            SyslogFormat::Text => format!("\u{feff}{}", text::line(notice, &self.origin)),
            SyslogFormat::Ocsf => ocsf::line(notice, &self.origin),
        };
        let data = [
            ("id", notice.id.to_string()),
            ("alert", notice.alert.to_string()),
            ("event", notice.event.to_string()),
            ("finding", finding.id.clone()),
            ("severity", finding.severity.as_str().to_owned()),
        ];
        let data: String =
            data.iter().map(|(name, value)| format!(" {name}=\"{}\"", quoted(value))).collect();
        format!(
            "<{priority}>1 {:.3} {} detector {} {} [{DATA}{data}] {said}",
            notice.at,
            self.origin.host,
            std::process::id(),
            finding.kind.as_str(),
        )
    }
}

/// The severity of RFC 5424. What is over is a notice.
fn severity(notice: &Notice) -> u32 {
    match (notice.event, notice.severity()) {
        (Event::Closed | Event::Acknowledged | Event::Suppressed, _) => 5,
        (_, Severity::Critical) => 2,
        (_, Severity::High) => 3,
        (_, Severity::Medium) => 4,
        (_, Severity::Low) => 5,
        (_, Severity::Info) => 6,
    }
}

/// A value of structured data (RFC 5424, section 6.3.3).
fn quoted(value: &str) -> String {
    value.chars().fold(String::new(), |mut quoted, c| {
        if matches!(c, '"' | '\\' | ']') {
            quoted.push('\\');
        }
        quoted.push(c);
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_structured_data_end_where_they_end() {
        let cases = [("a", "a"), ("a\"] b", "a\\\"\\] b"), ("\\", "\\\\"), ("ü\n", "ü\n")];
        for (value, expect) in cases {
            assert_eq!(quoted(value), expect);
        }
    }
}
