//! What others do while a VM moves, and moves that come to nothing.

use detector_tests::tap::{Header, Tap};

use super::*;

/// So slow that its memory takes minutes, in MiB a second: [`Street::hurry`] ends that.
const SLOWLY: [&str; 2] = ["--bandwidth", "1"];

impl Street {
    /// Starts to move the guest, slowly; returns when it is announced at the other host.
    pub(super) fn set_out(&self, [from, to]: &[Home<'_>; 2], options: &[&str]) -> Child {
        let options = [options, &SLOWLY].concat();
        let migration = from.libvirt.migrate(&self.guest, &to.libvirt, to.address, &options);
        let migration = migration.unwrap();
        to.await_port(self, "granted");
        migration
    }

    /// Has the rest of its memory follow at once.
    pub(super) fn hurry(&self, from: &Home<'_>) {
        from.libvirt.virsh(&["migrate-setspeed", &self.guest.name, "1000"]).unwrap();
    }
}

impl Home<'_> {
    /// The port of the guest here, if it has one.
    fn port(&self, street: &Street) -> Option<String> {
        let vm = self.daemon.ask(&["vm", "show", &street.guest.name]).unwrap().json;
        vm["nics"][0]["port"].as_str().map(str::to_owned)
    }

    /// Waits until the guest's port here has this status.
    fn await_port(&self, street: &Street, status: &str) {
        wait::until(&format!("the guest's port to be {status}"), PATIENCE, || {
            let Some(port) = self.port(street) else { return Ok(None) };
            let shown = self.daemon.ask(&["port", "show", &port])?.json;
            Ok((shown["status"] == status).then_some(()))
        })
        .unwrap();
    }

    /// A tap on the bridge that is nobody's.
    fn stray(&self) -> Tap {
        let network = self.host.network();
        let tap = Tap::open(network, "stray0", Header::None).unwrap();
        network.ip("link set stray0 addrgenmode none up").unwrap();
        link::enslave(network, "stray0", "br0").unwrap();
        tap
    }
}

/// A stranger with the guest's MAC outside, and one at a tap of each host: the first gets in only where the
/// guest is not, the others nowhere, before, during and after the move.
#[test]
fn no_clone_is_believed_in_any_phase() {
    let street = Street::new();
    let homes = street.homes();
    let [from, to] = &homes;
    // What a bridge is about to hand to its own host is recorded before the gate, so each is listened for
    // elsewhere.
    let strays = [(from, b"stray, first host"), (to, b"stray, other host")];
    let strays = strays.map(|(home, payload)| (home.stray(), payload));
    let clone = Station { mac: street.guest.mac, ip: street.guest.ip };
    let attempts = |phase: &str, at: &Home<'_>, elsewhere: &Home<'_>| {
        for family in Family::BOTH {
            for (stray, payload) in &strays {
                let to = (BROADCAST, Ipv4Addr::BROADCAST);
                stray.send(&family.udp(clone, to, (7, 7), *payload)).unwrap();
                stray.send(&family.announcement(clone)).unwrap();
            }
        }
        assert!(!street.lets_in(at, phase), "{phase}: where the guest is");
        assert!(street.lets_in(elsewhere, phase), "{phase}: where it is not");
        assert!(at.forwarding(&street).contains("sticky"), "{phase}");
        for (capture, strays) in [
            (&street.outside, &strays[..]),
            (&from.inside, &strays[1..]),
            (&to.inside, &strays[..1]),
        ] {
            let frames = capture.frames().unwrap();
            for (stray, payload) in strays {
                let heard = frames.iter().any(|frame| frame.bytes.ends_with(*payload));
                assert!(
                    !heard,
                    "{phase}: {} of {}",
                    stray.name(),
                    String::from_utf8_lossy(*payload)
                );
            }
        }
    };
    attempts("before", from, to);
    let migration = street.set_out(&homes, &["--live"]);
    attempts("while its memory moves", from, to);
    from.libvirt.virsh(&["domjobabort", "wanderer"]).unwrap();
    assert!(!end(migration).0, "it was called off");
    attempts("called off", from, to);
    // Standing still: an emulated processor may lose what it writes while its memory moves slowly.
    let migration = from.libvirt.migrate(&street.guest, &to.libvirt, to.address, &[]).unwrap();
    let (done, said) = end(migration);
    assert!(done, "{said}");
    to.await_defence(true, &street);
    attempts("after", to, from);
    let last = street.await_beats(200);
    await_whole(&street.outside, street.guest.mac, 0, last).unwrap();
    for home in [from, to] {
        home.daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
        home.daemon.await_finding("mac-clone", "wanderer", PATIENCE).unwrap();
    }
}

/// libvirt asks its hook before the guest runs at the target; by then its port is granted there.
#[test]
fn the_grant_is_in_force_before_the_guest_arrives() {
    let street = Street::new();
    // The test ends what the hook waits for.
    let homes = street.homes_with(
        |daemon, host| {
            let place = host.directory().display();
            let ask = daemon.hook();
            let ask = ask.lines().last().unwrap().trim_start_matches("exec ");
            format!(
                "#!/bin/sh\n{ask}\ncode=$?\n[ \"$2 $3\" != \"start begin\" ] || {{\n\
             touch {place}/asked\nwhile [ -e {place}/wait ]; do sleep 0.05; done\n}}\nexit $code\n"
            )
        },
        ["", ""],
    );
    let [from, to] = &homes;
    let [asked, hold] = ["asked", "wait"].map(|name| to.host.path(name));
    std::fs::write(&hold, "").unwrap();
    let options = ["--live"];
    let migration = from.libvirt.migrate(&street.guest, &to.libvirt, to.address, &options).unwrap();
    wait::until("the hook", PATIENCE, || Ok(asked.exists().then_some(()))).unwrap();
    to.await_port(&street, "granted");
    assert!(hold.exists() && asked.exists(), "while the hook waits");
    assert!(!to.forwarding(&street).contains("sticky"), "the MAC is the other host's still");
    assert!(from.forwarding(&street).contains("sticky"));
    std::fs::remove_file(&hold).unwrap();
    let (done, said) = end(migration);
    assert!(done, "{said}");
    to.await_defence(true, &street);
    let last = street.await_beats(200);
    street.assert_nothing_lost(&homes, last);
}

/// The guest stays, and so does everything that it has.
fn comes_to_nothing(street: &Street, homes: &[Home<'_>; 2]) {
    let [from, to] = homes;
    from.await_defence(true, street);
    let last = street.await_beats(200);
    assert!(!from.mistakes_the_guest() && !to.mistakes_the_guest());
    street.assert_nothing_lost(homes, last);
    assert!(!street.lets_in(from, "a clone where the guest has stayed"));
    assert!(street.lets_in(to, "where it never came"));
    assert!(!to.forwarding(street).contains("sticky"), "{}", to.forwarding(street));
}

#[test]
fn a_failed_migration_gives_the_mac_back() {
    let street = Street::new();
    let homes = street.homes();
    let [from, to] = &homes;
    // The guest stands still from the beginning, for as long as its memory takes.
    let migration = from.libvirt.migrate(&street.guest, &to.libvirt, to.address, &SLOWLY).unwrap();
    from.await_defence(false, &street);
    from.libvirt.virsh(&["domjobabort", "wanderer"]).unwrap();
    let (done, said) = end(migration);
    assert!(!done, "{said}");
    comes_to_nothing(&street, &homes);
}

/// While the guest runs here, moves that are called off change nothing, also of one that was to go on at the
/// target before all of its memory was there.
#[test]
fn a_live_migration_that_is_called_off_changes_nothing() {
    let street = Street::new();
    let homes = street.homes();
    let [from, to] = &homes;
    for options in [&["--live"][..], &["--live", "--postcopy"]] {
        let migration = street.set_out(&homes, options);
        from.libvirt.virsh(&["domjobabort", "wanderer"]).unwrap();
        let (done, said) = end(migration);
        assert!(!done, "{options:?}: {said}");
        wait::until("the guest to be gone there", PATIENCE, || {
            Ok(to.port(&street).is_none().then_some(()))
        })
        .unwrap();
    }
    comes_to_nothing(&street, &homes);
}

/// Once the guest runs at the target it cannot be called back: libvirt refuses, and the move is completed.
#[test]
fn a_post_copy_migration_cannot_be_called_off() {
    let street = Street::new();
    let homes = street.homes();
    let [from, to] = &homes;
    let migration = street.set_out(&homes, &["--live", "--postcopy", "--postcopy-bandwidth", "1"]);
    // Once its memory has begun to move.
    wait::until("the switch to post-copy", PATIENCE, || {
        Ok(from.libvirt.virsh(&["migrate-postcopy", "wanderer"]).ok())
    })
    .unwrap();
    to.await_defence(true, &street);
    let refused = from.libvirt.virsh(&["domjobabort", "wanderer"]);
    assert!(refused.is_err(), "{refused:?}");
    assert!(street.lets_in(from, "the guest has left"));
    assert!(!street.lets_in(to, "and is there"));
    let (done, said) = end(migration);
    assert!(done, "{said}");
    let last = street.await_beats(200);
    street.assert_nothing_lost(&homes, last);
    assert!(!street.lets_in(to, "it is there still"));
}

/// The target's libvirt dies midway: the guest stays, and what is left of it there is nobody's.
#[test]
fn a_target_that_dies_midway_changes_nothing() {
    let street = Street::new();
    let mut homes = street.homes();
    let migration = street.set_out(&homes, &["--live"]);
    homes[1].libvirt.kill().unwrap();
    street.hurry(&homes[0]);
    let (done, said) = end(migration);
    assert!(!done, "{said}");
    homes[0].await_defence(true, &street);
    assert!(!street.lets_in(&homes[0], "a clone where the guest has stayed"));
    let last = street.await_beats(200);
    await_whole(&street.outside, street.guest.mac, 0, last).unwrap();
    assert!(!homes[1].forwarding(&street).contains("sticky"));
    // It is there again, and clears away what did not arrive.
    homes[1].libvirt.restart().unwrap();
    wait::until("the guest to be gone there", PATIENCE, || {
        Ok(homes[1].port(&street).is_none().then_some(()))
    })
    .unwrap();
    assert!(street.lets_in(&homes[1], "where it never came"));
    let last = street.await_beats(100);
    await_whole(&street.outside, street.guest.mac, 0, last).unwrap();
}
