//! Whoever moves is killed after each thing that it says, and after each piece.

use std::fs;

use detector_tests::guest::Guest;
use detector_tests::hands::{Answer, Deed, Order, Then};

use super::{HANDS, Lab, digest, named};

/// No move of the lab's says more.
const MOST: u32 = 60;

/// At every moment the files that the domain is described by are there and whole; called again, it goes on or is undone.
#[test]
fn killed_at_any_step_it_loses_nothing_and_goes_on_or_is_undone() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let (mut ended, mut undone, mut finished) = (0, 0, 0);
    for at in 1..MOST {
        // Every second one is undone, as far as it can be.
        let guest = Guest::new(&format!("web{at}"), 60 + at as u8);
        let files = lab.define(&libvirt, &guest);
        let before = files.digests();
        let order = lab.order(&guest);
        let died = Deed::begin(&lab.host, HANDS, &order, &Then::Dies(at)).unwrap().end().unwrap();
        let now = named(&libvirt, &guest);
        let there: Vec<_> = now.iter().map(|path| digest(path)).collect();
        assert_eq!(there, before, "killed at {at}");
        if let Some(answer) = died {
            assert!(matches!(answer, Answer::Moved(_)), "{answer:?}");
            ended = at - 1;
            libvirt.virsh(&["undefine", &guest.name]).unwrap();
            break;
        }
        let undo = Order::Undo { domain: guest.uuid.parse().unwrap(), at: lab.place() };
        let former = [files.overlay.clone(), files.data.clone()];
        match (at % 2 == 0).then(|| lab.ask(&undo)) {
            Some(Answer::Undone) => {
                undone += 1;
                assert_eq!(named(&libvirt, &guest), former, "undone after {at}");
                assert_eq!(files.digests(), before);
                assert_eq!(lab.ask(&undo), Answer::Undone, "there is nothing left to undo");
            }
            Some(Answer::Storage(error)) => {
                let why = error.to_string();
                assert!(why.contains("gone"), "{at}: {why}");
                lab.moved(&guest);
            }
            None => {
                finished += 1;
                let report = lab.moved(&guest);
                let places: Vec<_> = report.moved.iter().map(|one| one.to.clone()).collect();
                assert_eq!(named(&libvirt, &guest), places, "gone on after {at}");
                assert_eq!(places.iter().map(|path| digest(path)).collect::<Vec<_>>(), before);
                assert_eq!(files.are_there(), [false, false]);
            }
            other => panic!("{at}: {other:?}"),
        }
        libvirt.virsh(&["undefine", &guest.name]).unwrap();
        for path in lab.copies().iter().chain(&former) {
            if path.exists() {
                fs::remove_file(path).unwrap();
            }
        }
        let pools = libvirt.virsh(&["pool-list", "--all", "--name"]).unwrap();
        assert_eq!(pools.trim(), super::POOL, "after {at}");
    }
    println!("killed at {ended} moments: gone on {finished} times, undone {undone} times");
    assert!(ended > 12 && finished > 5 && undone > 4, "{ended}, {finished}, {undone}");
}

/// What has been handed over before is not handed over again.
#[test]
fn it_goes_on_at_the_byte_where_it_was_killed() {
    let lab = Lab::new();
    let libvirt = lab.libvirt();
    let guest = Guest::new("web", 31);
    lab.define(&libvirt, &guest);
    let copied = |then: Then| -> (Option<Answer>, Vec<u64>) {
        let deed = Deed::begin(&lab.host, HANDS, &lab.order(&guest), &then).unwrap();
        let (answer, said) = deed.outcome().unwrap();
        let bytes = said.iter().filter_map(|line| {
            let line = line.strip_prefix("Copied { target: \"vdb\", bytes: ")?;
            line.split(',').next()?.parse().ok()
        });
        (answer, bytes.collect())
    };
    // Somewhere in the middle of the second disk.
    let mut first = Vec::new();
    let mut at = 1;
    while first.len() < 2 {
        let (answer, bytes) = copied(Then::Dies(at));
        assert!(answer.is_none(), "{at}");
        first.extend(bytes);
        at += 1;
    }
    let (answer, rest) = copied(Then::GoOn);
    assert!(matches!(answer, Some(Answer::Moved(_))), "{answer:?}");
    assert!(
        rest.iter().all(|bytes| first.iter().all(|before| bytes > before)),
        "{first:?}, {rest:?}"
    );
}
