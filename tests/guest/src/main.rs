//! PID 1 of a lab's guest. It loads the drivers, brings its one NIC up and sends beats from the
//! first moment on, without end.
//!
//! The kernel's command line says how: `det.ip=192.0.2.11`, `det.first=300` beats in the first
//! phase, `det.pace_ms=5` between two beats, `det.foreign=02:…` a second source MAC to send from
//! after the first phase. With `det.dhcp=1` it asks a server for its address first, and then sends its beats
//! to `det.target=198.51.100.7` through that server's host, until the guest ends. `det.agent=real`, or another
//! word, has it answer at the guest agent's port.

mod agent;
mod dhcp;
mod nic;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use detector_guest::{Beat, MARKERS, Mac, PORT, Phase, udp};
use nic::Nic;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollTimeout, poll};

/// How long nothing else may have been sent before the marker.
const QUIET: Duration = Duration::from_millis(150);

fn main() {
    if let Err(error) = run() {
        println!("guest: failed: {error}");
    }
    // The end of PID 1 is a kernel panic, which hides what was said last.
    loop {
        pause(Duration::from_secs(3600));
    }
}

fn run() -> io::Result<()> {
    mount_all()?;
    load_modules()?;
    let settings = Settings::read()?;
    if let Some(kind) = settings.agent.clone() {
        agent::spawn(kind);
    }
    let mut nic = Nic::open("eth0", Duration::from_secs(10))?;
    println!("guest: eth0 {} {}", hex(nic.mac()), settings.ip);
    if settings.asks {
        return speak_from_a_lease(&mut nic, &settings);
    }
    nic.up(settings.ip)?;
    println!("guest: up");

    for seq in 0..settings.first {
        send(&nic, &settings, Phase::First, seq)?;
        pause(settings.pace);
    }
    // The kernel may send a frame of its own between the count and the marker. Hardly each time.
    for number in 0..MARKERS {
        nic.wait_until_quiet(QUIET)?;
        send(&nic, &settings, Phase::Marker, settings.first + number)?;
    }
    println!("guest: first phase sent={}", nic.sent()?);

    let mut said = Instant::now();
    for seq in 0.. {
        send(&nic, &settings, Phase::Stream, settings.first + MARKERS + seq)?;
        if let Some(foreign) = settings.foreign {
            let beat = Beat { phase: Phase::Foreign, seq, total: 0 };
            nic.send(&beat.frame(foreign, settings.ip))?;
        }
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            nic.listen()?;
            let sent = nic.sent()?;
            let heard = nic.heard().iter().map(|(mac, n)| format!(" {}={n}", hex(*mac)));
            println!("guest: sent={sent} heard{}", heard.collect::<String>());
        }
        pause(settings.pace);
    }
    Ok(())
}

fn speak_from_a_lease(nic: &mut Nic, settings: &Settings) -> io::Result<()> {
    nic.up(Ipv4Addr::UNSPECIFIED)?;
    let dhcp::Lease { address, server } = dhcp::lease(nic)?;
    println!("guest: leased {address}");
    nic.up(address)?;
    for seq in 0.. {
        let beat = Beat { phase: Phase::Stream, seq, total: 0 };
        let to = (server, settings.target, PORT);
        nic.send(&udp((nic.mac(), address, PORT), to, &beat.payload()))?;
        pause(Duration::from_millis(100));
    }
    Ok(())
}

fn send(nic: &Nic, settings: &Settings, phase: Phase, seq: u64) -> io::Result<()> {
    let beat = Beat { phase, seq, total: nic.sent()? };
    nic.send(&beat.frame(nic.mac(), settings.ip))
}

struct Settings {
    ip: Ipv4Addr,
    first: u64,
    pace: Duration,
    foreign: Option<Mac>,
    /// Its address is a server's to say.
    asks: bool,
    target: Ipv4Addr,
    agent: Option<String>,
}

impl Settings {
    fn read() -> io::Result<Self> {
        let line = std::fs::read_to_string("/proc/cmdline")?;
        let words: BTreeMap<_, _> = line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("det."))
            .filter_map(|word| word.split_once('='))
            .collect();
        let number = |key: &str, default: u64| match words.get(key) {
            Some(text) => text.parse().map_err(|_| invalid(key)),
            None => Ok(default),
        };
        Ok(Self {
            ip: words.get("ip").and_then(|w| w.parse().ok()).ok_or_else(|| invalid("ip"))?,
            first: number("first", 300)?,
            pace: Duration::from_millis(number("pace_ms", 5)?),
            foreign: match words.get("foreign") {
                Some(text) => Some(mac(text).ok_or_else(|| invalid("foreign"))?),
                None => None,
            },
            asks: number("dhcp", 0)? != 0,
            target: match words.get("target") {
                Some(text) => text.parse().map_err(|_| invalid("target"))?,
                None => Ipv4Addr::BROADCAST,
            },
            agent: words.get("agent").map(|kind| (*kind).to_owned()),
        })
    }
}

fn mount_all() -> io::Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        std::fs::create_dir_all(place)?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)?;
    }
    Ok(())
}

/// Loads what is in /modules, in the order of the names.
fn load_modules() -> io::Result<()> {
    let mut paths = std::fs::read_dir("/modules")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        finit_module(File::open(&path)?, &CString::default(), ModuleInitFlags::empty())
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Waits; there is nothing to be woken by.
fn pause(time: Duration) {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    // An interrupted pause is a short one, which nobody minds.
    let _ = poll(&mut [], timeout);
}

fn invalid(key: &str) -> io::Error {
    io::Error::other(format!("det.{key} on the kernel's command line is missing or malformed"))
}

fn mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn hex(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
