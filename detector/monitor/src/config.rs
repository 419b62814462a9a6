//! The configuration of the monitor.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use detector_core::{api::Role, fleet::Name};
use ipnet::IpNet;
use serde::Deserialize;

pub const DEFAULT: &str = "/etc/detector/monitor.toml";
pub const SOCKET: &str = "/run/detector/detector.sock";

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the page is served.
    pub listen: SocketAddr,
    /// The file of accounts.
    pub accounts: PathBuf,
    /// Seconds for which two hosts have to say the same before it counts: they speak one after another.
    pub settle_seconds: u32,
    /// Networks that each host has for itself.
    pub separate_networks: Vec<IpNet>,
    pub local: Option<LocalConfig>,
    pub fleet: Option<FleetConfig>,
    pub proxy: Option<Proxy>,
    pub metrics: Option<Metrics>,
}

/// Where Prometheus asks: counts and names of hosts, for whoever reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    pub servers: Vec<String>,
    /// The fleet's name.
    pub name: Name,
    /// The name by which the monitor was enrolled.
    pub monitor: Name,
    #[serde(default = "credentials")]
    pub credentials: PathBuf,
    /// Who has signed the servers' certificate; whom the machine trusts where it is left out.
    pub authority: Option<PathBuf>,
}

/// A reverse proxy that says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// The addresses that it connects from; from all others the header counts for nothing.
    pub peers: Vec<IpAddr>,
    /// The header by which it names the person. It has to take away one that others have sent.
    pub header: String,
    /// The role of whoever has no account; they are kept out where it is left out.
    pub role: Option<Role>,
}

fn credentials() -> PathBuf {
    "/etc/detector/monitor.creds".into()
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { socket: SOCKET.into() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8471)) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            accounts: "/etc/detector/monitor-accounts".into(),
            settle_seconds: 20,
            // libvirt's own default network, which is another one on each host.
            separate_networks: vec![IpNet::new_assert(IpAddr::from([192, 168, 122, 0]), 24)],
            local: None,
            fleet: None,
            proxy: None,
            metrics: None,
        }
    }
}

impl Config {
    /// # Errors
    ///
    /// It cannot be read, or what it says cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if self.local.is_some() && self.fleet.is_some() {
            bail!("both [local] and [fleet]: a monitor shows one host or one fleet");
        }
        // Passwords and sessions would go over the network for everybody to read.
        let Some(proxy) = &self.proxy else {
            if !self.listen.ip().is_loopback() {
                bail!(
                    "listen = \"{}\" is not of this machine alone, and nothing here encrypts: listen on 127.0.0.1, or \
                     behind a reverse proxy that does and that [proxy] names",
                    self.listen
                );
            }
            return Ok(());
        };
        if axum::http::HeaderName::from_bytes(proxy.header.as_bytes()).is_err() {
            bail!("proxy.header = {:?} is no name of a header", proxy.header);
        }
        if proxy.peers.is_empty() {
            bail!("proxy.peers is empty: name the addresses that the proxy connects from");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the package has, with every key that is commented out.
    fn packaged() -> Config {
        let text = include_str!("../../../packaging/monitor.toml");
        let is_key = |line: &str| line.starts_with('[') || line.contains(" = ");
        let lines = text.lines().filter_map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(' ') => None,
            Some(rest) => Some(rest),
            None => Some(line),
        });
        let lines: Vec<_> = lines.filter(|line| is_key(line)).collect();
        toml::from_str(&lines.join("\n")).unwrap()
    }

    #[test]
    fn the_packaged_configuration_has_every_key_with_its_default() {
        let Config {
            listen,
            accounts,
            settle_seconds,
            separate_networks,
            local,
            fleet,
            proxy,
            metrics,
        } = packaged();
        let default = Config::default();
        assert_eq!(
            (listen, accounts, settle_seconds, separate_networks),
            (default.listen, default.accounts, default.settle_seconds, default.separate_networks)
        );
        assert_eq!(local, Some(LocalConfig::default()));
        let FleetConfig { servers, name: _, monitor: _, credentials: of_fleet, authority } =
            fleet.unwrap();
        assert_eq!((servers.len(), of_fleet, authority.is_some()), (1, credentials(), true));
        let Proxy { peers, header, role } = proxy.unwrap();
        assert_eq!((peers.len(), header.is_empty(), role), (1, false, Some(Role::View)));
        assert_eq!(metrics, Some(Metrics::default()));
        // As it is, it shows this host.
        let text = include_str!("../../../packaging/monitor.toml");
        let as_it_is: Config = toml::from_str(text).unwrap();
        as_it_is.check().unwrap();
        assert_eq!(as_it_is, Config { local: Some(LocalConfig::default()), ..Config::default() });
    }

    #[test]
    fn what_a_configuration_may_say() {
        let cases = [
            ("", true),
            ("listen = \"127.0.0.1:1\"\n[local]\n", true),
            ("listen = \"[::1]:1\"\n", true),
            ("listen = \"0.0.0.0:1\"\n", false),
            (
                "listen = \"192.0.2.1:1\"\n[proxy]\npeers = [\"192.0.2.2\"]\nheader = \"x-user\"\n",
                true,
            ),
            ("[proxy]\npeers = []\nheader = \"x-user\"\n", false),
            ("[proxy]\npeers = [\"::1\"]\nheader = \"x user\"\n", false),
            ("[local]\n[fleet]\nservers = []\nname = \"a\"\nmonitor = \"b\"\n", false),
            ("[fleet]\nservers = []\nname = \"A\"\nmonitor = \"b\"\n", false),
            ("[metrics]\n", true),
            ("[metrics]\nlisten = \"192.0.2.1:8471\"\n", true),
            ("lisen = 1\n", false),
        ];
        for (text, expect) in cases {
            let config = toml::from_str::<Config>(text);
            let good = config.is_ok_and(|config| config.check().is_ok());
            assert_eq!(good, expect, "{text}");
        }
    }
}
