//! Going ahead of others takes no loading once it has been quiet.

use super::*;
use crate::bpf::{
    enforcer::spare::{QUIET, Spare},
    load::borrowed,
};

/// Another program goes ahead on a hook: how long it takes until ours is first again.
fn overtake(victim: &mut Victim, foreign: &mut Programs, hook: Hook) -> Duration {
    let program = borrowed(foreign.fd(programs::BRIDGE_EGRESS).unwrap());
    let _theirs = sys::attach_first(program, victim.port, hook).unwrap();
    assert!(!victim.is_first(hook));
    let start = Instant::now();
    let found = look(&mut victim.enforcer).tampering;
    let took = start.elapsed();
    assert_eq!((found.len(), &found[0].left), (1, &None), "{found:?}");
    assert!(victim.is_first(hook));
    took
}

/// The number of a copy's program in the kernel.
fn number(programs: &mut Programs) -> u32 {
    programs.get(programs::PORT_EGRESS).unwrap().info().unwrap().id()
}

#[test]
fn the_second_copy_is_loaded_ahead_of_need() {
    let mut victim = Victim::new(Method::Tcx);
    let mut foreign = foreign_programs(&victim);
    let cold = overtake(&mut victim, &mut foreign, Hook::Ingress);

    // The start is over for long: the next look has it loaded, and others go on meanwhile.
    victim.enforcer.spare = Spare::Absent(Instant::now().checked_sub(QUIET).unwrap());
    let start = Instant::now();
    assert_eq!(look(&mut victim.enforcer), Recheck::default());
    let looked = start.elapsed();
    let mut looks = 0;
    while !victim.enforcer.has_spare() {
        assert!(start.elapsed() < Duration::from_secs(300), "it is never loaded");
        assert_eq!(look(&mut victim.enforcer), Recheck::default());
        looks += 1;
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!(
        "loaded after {:?}; {looks} looks meanwhile, the first in {looked:?}",
        start.elapsed()
    );
    let Spare::Ready(spare) = &mut victim.enforcer.spare else { panic!("it is ready") };
    let loaded = number(spare);
    let warm = overtake(&mut victim, &mut foreign, Hook::Egress);
    println!("ahead after {cold:?} without a copy, after {warm:?} with one");
    let attached = sys::link_info(victim.link(Hook::Egress).as_fd()).unwrap().prog_id;
    assert_eq!(attached, loaded, "the copy that was loaded before");
    assert!(victim.enforcer.has_spare(), "and it is kept");

    // One that is still being loaded is waited for, and not loaded twice.
    victim.enforcer.spare = Spare::Absent(Instant::now().checked_sub(QUIET).unwrap());
    victim.enforcer.prepare_spare();
    assert!(matches!(victim.enforcer.spare, Spare::Loading(_)));
    victim.enforcer.take_spare().unwrap();
    // Nothing of a thread is left behind when the enforcer goes.
    victim.enforcer.spare = Spare::Absent(Instant::now().checked_sub(QUIET).unwrap());
    victim.enforcer.prepare_spare();
    let Victim { enforcer, root, _ns, .. } = victim;
    drop(enforcer);
    assert_eq!(look(&mut open(&root)).tampering, []);
}
