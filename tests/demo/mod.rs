//! The story of the product, act by act. Each act observes what it claims, prints what it saw, and
//! fails if it saw something else.

mod approved;
mod comes_back;
mod crash;
mod fleet;
mod narrator;
mod one_page;
mod one_policy;
mod rogue;
mod second_mac;
mod slow_daemon;
mod stage;
mod stray_tap;

pub use narrator::Narrator;
pub use stage::{BOOT, Stage};

use anyhow::{Context, Result};

use crate::host::Host;
use fleet::{Fleet, Places};

/// A title and what happens.
type Act = (&'static str, fn(&Stage<'_>, &mut Cast<'_>) -> Result<()>);

/// In this order: later acts need the VMs of earlier ones.
const ACTS: [Act; 11] = [
    ("an approved VM loses no packet, from its first frame on", approved::play),
    ("nor when the daemon hangs, nor when the VM is saved and restored", slow_daemon::play),
    ("a VM of an unregistered image is cut off before anybody hears it", rogue::play),
    ("a tap that no VM owns is mute and steals nothing", stray_tap::play),
    ("an approved VM that takes a second MAC loses that one only", second_mac::play),
    ("the daemon is killed: what is in force stays in force", crash::play),
    ("a rogue VM is patched while it is off, and comes back", comes_back::patched),
    ("or a VM of an approved template replaces it", comes_back::replaced),
    ("or its image becomes a template", comes_back::template),
    ("of a fleet one page shows every host, and a click cuts a VM off", one_page::play),
    (
        "a signed policy comes to all hosts in waves, and whom it cuts off is known",
        one_policy::play,
    ),
];

/// What acts hand on to later ones.
pub struct Cast<'a> {
    pub daemon: crate::daemon::Daemon<'a>,
    pub libvirt: crate::libvirt::Libvirt<'a>,
    pub narrator: Narrator,
    places: &'a Places,
    /// Once the host is of one.
    fleet: Option<Fleet<'a>>,
}

/// Plays every act on a stage of its own. With `keep` the stage is left up until the process is
/// interrupted, also when an act failed.
pub fn play(keep: bool) -> Result<()> {
    let (host, places) = (Host::new()?, Places::new()?);
    stage(&host, &places, keep)
}

fn stage(host: &Host, places: &Places, keep: bool) -> Result<()> {
    let narrator = Narrator::default();
    narrator.say("a host of namespaces, with a bridge, an uplink, a libvirt and the daemon");
    let stage = Stage::build(host)?;
    let (daemon, libvirt) = stage.start()?;
    let mut cast = Cast { daemon, libvirt, narrator, places, fleet: None };
    let result = acts(&stage, &mut cast);
    if let Err(error) = &result {
        eprintln!("\nFAILED: {error:#}");
        for host in [host, places.second.host(), &places.desk] {
            host.print_logs();
        }
    }
    // Here, while the VMs run and the daemon guards them.
    if keep {
        linger(host, &cast)?;
    }
    result
}

/// Waits until somebody has played enough with the stage.
fn linger(host: &Host, cast: &Cast<'_>) -> Result<()> {
    let interrupted = || crate::wait::INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed);
    println!("\nThe lab stays up until Ctrl-C. To enter it, in another terminal:");
    println!("  {}", host.how_to_enter());
    println!("  cd {}", host.directory().display());
    println!("  alias detector='{}'", cast.daemon.command_line());
    println!("  virsh start web1; detector status; detector explain rogue");
    if let Some(fleet) = &cast.fleet {
        fleet.invite(cast.places)?;
    }
    while !interrupted() {
        crate::wait::pause(std::time::Duration::from_millis(100));
    }
    Ok(())
}

fn acts(stage: &Stage<'_>, cast: &mut Cast<'_>) -> Result<()> {
    for (number, (title, act)) in ACTS.iter().enumerate() {
        cast.narrator.act(number + 1, title);
        act(stage, cast).with_context(|| format!("act {}: {title}", number + 1))?;
    }
    cast.narrator.end();
    Ok(())
}
