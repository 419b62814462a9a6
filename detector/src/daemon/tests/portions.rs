//! Many things to do at once: others have their turn in between.

use detector_core::{decide::VmStatus, model::ModeRequest};

use super::{super::input::Admit, *};

const CALL: u64 = 700;
const PORTS: std::ops::Range<u32> = 10..14;
/// Longer than a portion, so that one holds one action.
const PACE: Duration = Duration::from_millis(110);

fn taps() -> Vec<Input> {
    PORTS.map(|ifindex| tap(ifindex, &format!("vnet{ifindex}"))).collect()
}

fn guarded(host: &mut Host) -> usize {
    PORTS.filter(|ifindex| host.port(*ifindex) != Port::None).count()
}

#[test]
fn what_takes_the_kernel_long_is_done_in_portions() {
    let mut host = Host::new(Mode::Enforce);
    host.kernel().pace = PACE;
    host.turn(taps());
    // One portion for the interfaces, and one for what else has come.
    let first = guarded(&mut host);
    assert!((1..PORTS.len()).contains(&first), "{first} ports are guarded in the first turn");
    assert_eq!(host.brain.wake_at(), Some(Timestamp(host.now)), "the next turn follows at once");
    assert_eq!(host.told(), [""; 0]);
    let mut turns = 1;
    while host.brain.wake_at() == Some(Timestamp(host.now)) {
        host.turn(vec![]);
        turns += 1;
        assert!(turns < 8 * PORTS.len(), "it ends");
    }
    assert_eq!(guarded(&mut host), PORTS.len());
    assert!(turns > 2);
}

#[test]
fn a_start_waits_for_its_own_portion() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    // Its guard comes first, and its grant after the guards of the others.
    let first = PORTS.start + 1;
    let admitted = vm("app", 2, &format!("vnet{first}"));
    host.kernel().pace = PACE;
    let admit = Admit {
        id: CALL,
        source: LIBVIRT.to_owned(),
        name: "app".to_owned(),
        vm: Ok(admitted),
        links: vec![link(first, &format!("vnet{first}"))],
        registry: Some(registry()),
    };
    let mut inputs = taps();
    inputs.push(Input::Admit(Box::new(admit)));
    host.turn(inputs).read(|_| APPROVED);
    loop {
        let granted = host.port(first) == Port::Granted;
        match host.answer(CALL) {
            None => host.turn(vec![]),
            Some(answer) => {
                assert!(granted, "{answer:?}");
                let status = host.brain.decision.vms[&uuid(2)].status;
                break assert_eq!(status, VmStatus::Approved);
            }
        };
    }
}

#[test]
fn the_beginning_is_over_when_all_is_in_force() {
    let mut host = Host::new(Mode::Enforce);
    assert!(!host.brain.is_beginning());
    host.brain.beginning = true;
    host.kernel().pace = PACE;
    host.turn(taps());
    while host.brain.is_beginning() {
        assert!(guarded(&mut host) < PORTS.len());
        host.turn(vec![]);
    }
    assert_eq!(guarded(&mut host), PORTS.len());
    let kept = host.effects.iter().filter_map(|effect| match effect {
        Effect::KeepAdopted(ports) => Some(ports.len()),
        _ => None,
    });
    assert!(kept.count() > 1, "what is adopted is kept all along");
}

#[test]
fn a_change_of_the_mode_waits_for_what_comes_before_it() {
    let mut host = Host::new(Mode::Observe);
    host.kernel().pace = PACE;
    host.turn(taps());
    assert!(guarded(&mut host) < PORTS.len(), "some of it is left");
    let change = ModeRequest::Enforce { confirm_within: None };
    let asked = host.ask(Request::ModeChange { change, reason: "a test".to_owned() });
    assert!(matches!(asked, Ok(Reply::Mode(_))), "{asked:?}");
    assert_eq!(host.brain.mode(), Some(Mode::Enforce));
    assert_eq!(guarded(&mut host), PORTS.len());
}
