//! Floods: one finding, and a shield while the port is cut off.

use crate::api::schema::TargetSpec;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// So many frames are refused in each of these seconds.
fn refuse(host: &mut Host, ifindex: u32, seconds: usize, frames: u64) {
    for _ in 0..seconds {
        *host.kernel().refused.entry(ifindex).or_default() += frames;
        host.wait(SECOND);
    }
}

#[test]
fn a_flood_is_one_finding_and_a_shield_comes_and_goes() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.wait(SECOND).told();
    refuse(&mut host, 10, 5, 50_000);
    assert_eq!(host.told(), ["+flood"]);
    assert!(!host.kernel().taken().contains(&"shield 10".to_owned()), "it is not cut off");

    let target = TargetSpec::Vm("web".to_owned());
    let reason = "a test".to_owned();
    host.ask(Request::QuarantineAdd { target: target.clone(), reason, mode: None }).unwrap();
    assert!(host.kernel().taken().ends_with(&["shield 10".to_owned()]));
    refuse(&mut host, 10, 9, 10);
    refuse(&mut host, 10, 1, 50_000);
    assert_eq!(host.kernel().taken(), [] as [&str; 0], "not before it is sure");
    refuse(&mut host, 10, 10, 10);
    assert_eq!(host.kernel().taken(), ["unshield 10"]);
    assert_eq!(host.told(), ["-flood"]);

    refuse(&mut host, 10, 2, 50_000);
    assert_eq!(host.kernel().taken(), ["shield 10"]);
    host.ask(Request::QuarantineRelease { target, reason: String::new() }).unwrap();
    assert!(host.kernel().taken().ends_with(&["unshield 10".to_owned()]));
    assert_eq!(host.port(10), Port::Granted);
}

#[test]
fn a_tick_looks_at_a_bounded_number_of_ports_and_at_every_one_in_time() {
    const PORTS: u32 = 600;
    let mut host = Host::new(Mode::Enforce);
    host.turn((0..PORTS).map(|n| tap(100 + n, &format!("vnet{n}"))).collect());
    host.kernel().looks = 0;
    for tick in 1..=20 {
        let busy = [100, 399, 100 + PORTS - 1];
        busy.into_iter().for_each(|port| *host.kernel().refused.entry(port).or_default() += 50_000);
        host.wait(SECOND);
        let most = 256 + busy.len();
        assert!(host.kernel().looks <= tick * most, "tick {tick}");
    }
    let floods = host.told().iter().filter(|told| *told == "+flood").count();
    assert_eq!(floods, 3);
}
