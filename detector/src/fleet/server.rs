//! The configuration of a NATS server for a fleet.

use std::path::Path;

/// What it is to say.
pub(super) struct Server<'a> {
    pub(super) fleet: &'a str,
    pub(super) listen: &'a str,
    /// Where the configuration and what it names will lie.
    pub(super) directory: &'a Path,
    pub(super) operator: &'a str,
    pub(super) system_account: &'a str,
}

impl Server<'_> {
    pub(super) fn text(&self) -> String {
        let Self { fleet, listen, directory, operator, system_account } = self;
        let at = |name: &str| directory.join(name).display().to_string();
        let (tokens, kept) = (at("accounts"), at("jetstream"));
        let (certificate, key) = (at("server.pem"), at("server.key"));
        format!(
            r#"# A NATS server of the fleet {fleet}: nats-server -c {own}
# A cluster takes a section `cluster` and a `server_name` more on each server, which the documentation of NATS explains;
# each has a directory `accounts` of its own.
listen: {listen:?}
server_name: {fleet:?}

# Who signs accounts, and where those are: enrolling somebody changes nothing here, and revoking somebody is told to the
# running server.
operator: {operator}
system_account: {system_account}
resolver: {{
  type: full
  dir: {tokens:?}
  allow_delete: false
  interval: "2m"
}}

jetstream: {{
  store_dir: {kept:?}
  max_memory_store: 64MB
  max_file_store: 20GB
}}

tls: {{
  cert_file: {certificate:?}
  key_file: {key:?}
  timeout: 5
}}
max_payload: 1MB
"#,
            own = at("nats-server.conf"),
        )
    }
}
