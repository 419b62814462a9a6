//! What VMs have booted changes while they run.

use super::*;

const AGAIN: Duration = Duration::from_secs(3);

impl Host {
    /// Takes what the brain wants looked at again.
    fn looks(&mut self) -> Option<Vec<(ImageFile, bool)>> {
        let look = |effect: &Effect| matches!(effect, Effect::LookAgain(_));
        let place = self.effects.iter().position(look)?;
        match self.effects.remove(place) {
            Effect::LookAgain(media) => Some(media),
            _ => None,
        }
    }

    /// A look shows that the medium is not what it was, and it is read again.
    fn altered(&mut self, found: Digest) -> &mut Self {
        self.looked_at = true;
        self.wait(AGAIN);
        assert_eq!(self.looks(), Some(vec![(image("web"), true)]));
        self.turn(vec![Input::Altered(vec![image("web")])]);
        self.read(|_| found)
    }

    fn findings(&self) -> Vec<&'static str> {
        self.brain.decision.findings.iter().map(|one| one.key.kind.as_str()).collect()
    }
}

#[test]
fn one_look_at_a_time() {
    let mut host = Host::new(Mode::Enforce);
    host.looked_at = true;
    host.approved().wait(AGAIN);
    assert!(host.looks().is_some());
    host.wait(AGAIN);
    assert_eq!(host.looks(), None, "nobody has answered yet");
    assert_eq!(host.told(), [""; 0]);
    host.wait(Duration::from_secs(30));
    assert_eq!(host.told(), ["+no-evidence"]);
    host.turn(vec![Input::Altered(Vec::new())]).wait(Duration::from_secs(1));
    assert_eq!(host.told(), ["-no-evidence"]);
    assert!(host.looks().is_some());
    host.turn(vec![Input::Altered(Vec::new())]);
    assert_eq!(host.gathers(), 0);
    host.wait(AGAIN);
    assert!(host.looks().is_some());
    host.turn(vec![Input::Altered(Vec::new()), listing(vec![off(vm("web", 1, "vnet0"))])]);
    host.wait(AGAIN);
    assert_eq!(host.looks(), None, "nobody runs");
}

#[test]
fn another_base_beneath_a_running_vm_counts_at_once() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().altered(FOUND);
    assert_eq!(host.port(10), Port::Isolated);
    assert_eq!(host.findings(), ["rogue-vm", "medium-changed"]);
    let told = &host.brain.decision.findings[1].evidence[1].1;
    assert!(told.contains(&APPROVED.to_string()) && told.contains(&FOUND.to_string()), "{told}");
}

#[test]
fn an_approved_base_put_beneath_a_running_vm_proves_nothing() {
    // Observed, so that no quarantine holds what the evidence does not.
    let mut host = Host::new(Mode::Observe);
    host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| FOUND);
    assert_eq!(host.port(10), Port::Isolated);
    host.altered(APPROVED);
    assert_eq!(host.port(10), Port::Isolated);
    assert_eq!(host.findings(), ["rogue-vm", "medium-changed"]);
    // Once it has begun to run anew, what is there now is what it has booted.
    host.turn(vec![listing(vec![off(vm("web", 1, "vnet0"))])]);
    host.turn(vec![listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| APPROVED);
    assert_eq!(host.port(10), Port::Granted);
    assert!(host.findings().is_empty());
}

#[test]
fn what_cannot_be_read_any_more_is_told_and_takes_nothing_away() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().wait(AGAIN);
    host.turn(vec![Input::Altered(vec![image("web")])]);
    let file = image("web");
    let ticket = host.ticket();
    host.effects.clear();
    let evidence = Evidence::Unreadable("it is gone".to_owned());
    host.turn(vec![Input::Evidence { file: file.clone(), ticket, evidence }]);
    assert_eq!(host.port(10), Port::Granted);
    assert_eq!(host.findings(), ["medium-changed"]);
    // While it waits to be tried again, news of it start nothing.
    host.turn(vec![Input::Altered(vec![file])]);
    assert_eq!(host.gathers(), 0);
    host.wait(Duration::from_secs(6)).read(|_| APPROVED);
    assert!(host.findings().is_empty());
}

#[test]
fn a_shared_medium_that_changed_counts_for_those_who_booted_it() {
    let mut host = Host::new(Mode::Observe);
    let other = || {
        let mut other = vm("other", 2, "vnet1");
        other.media = vm("web", 1, "vnet0").media;
        other
    };
    host.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), listing(vec![vm("web", 1, "vnet0")])]);
    host.read(|_| FOUND);
    // The image is replaced, and another VM begins with it.
    host.turn(vec![listing(vec![vm("web", 1, "vnet0"), other()])]);
    host.read(|_| APPROVED);
    assert_eq!((host.port(10), host.port(11)), (Port::Isolated, Port::Granted));
}

/// Libvirt tells of a medium that is inserted; the description then names it.
#[test]
fn a_medium_that_is_inserted_while_the_vm_runs_is_judged() {
    for (found, port) in [(APPROVED, Port::Isolated), (FOUND, Port::Isolated)] {
        let mut host = Host::new(Mode::Enforce);
        let mut with = vm("web", 1, "vnet0");
        host.approved();
        assert_eq!(host.port(10), Port::Granted);
        let iso = MediumSource::File(ImageFile::new("/iso", Some("raw")));
        with.media.push(Medium { role: MediumRole::Cdrom, source: iso });
        host.turn(vec![said(Update::Changed(with))]);
        assert_eq!(host.port(10), Port::Granted, "until it has been read");
        host.read(|_| found);
        // No template has it as a CD-ROM.
        assert_eq!(host.port(10), port, "{found}");
    }
}

impl Host {
    /// Takes what the brain says of runs: `+` where one begins, `-` where one ends.
    fn runs(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Begins { role, disk, digest } => {
                let role = if *role == MediumRole::Disk { "" } else { role.as_str() };
                told.push(format!("+{role}{} {digest}", disk.path.display()));
                false
            }
            Effect::Ends { disks, .. } => {
                told.extend(disks.iter().map(|disk| format!("-{}", disk.path.display())));
                false
            }
            _ => true,
        });
        told
    }
}

/// The VM's manager has let go of its files.
fn released() -> Input {
    Input::Ended { id: 99, uuid: uuid(1) }
}

/// The VM's manager asks whether it may start.
fn asked() -> Input {
    Input::Admit(Box::new(super::super::input::Admit {
        id: 1,
        source: LIBVIRT.to_owned(),
        name: "web".to_owned(),
        vm: Ok(vm("web", 1, "vnet0")),
        links: Vec::new(),
        registry: None,
    }))
}

#[test]
fn a_run_with_a_disk_of_its_own_is_followed_from_verdict_to_end() {
    let web = || vm("web", 1, "vnet0");
    let begins = || vec![format!("+/images/web {APPROVED}")];
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![web()])]);
    assert_eq!(host.runs(), [""; 0], "no verdict yet");
    host.read(|_| APPROVED);
    assert_eq!(host.runs(), begins());
    host.wait(AGAIN);
    assert_eq!(host.runs(), [""; 0], "once");
    host.turn(vec![listing(vec![off(web())])]);
    assert_eq!(host.runs(), ["-/images/web"]);
    host.turn(vec![listing(vec![web()])]);
    host.read(|_| APPROVED);
    assert_eq!(host.runs(), begins());
    // By the word of who lets go of its files, before any listing.
    host.turn(vec![released()]);
    assert_eq!(host.runs(), ["-/images/web"]);

    // A rogue's is not.
    let mut host = Host::new(Mode::Enforce);
    host.turn(vec![tap(10, "vnet0"), listing(vec![web()])]);
    host.read(|_| FOUND);
    host.turn(vec![listing(vec![off(web())]), released()]);
    assert_eq!(host.runs(), [""; 0]);
}

/// What firmware stores is the VM's own as its disk is, and is looked at while it runs.
#[test]
fn variables_are_followed_like_a_disk() {
    let web = || {
        let mut web = vm("web", 1, "vnet0");
        let store = MediumSource::File(ImageFile::new("/vars", Some("raw")));
        web.media.push(Medium { role: MediumRole::Variables, source: store });
        web
    };
    let mut host = Host::new(Mode::Enforce);
    host.looked_at = true;
    host.turn(vec![tap(10, "vnet0"), listing(vec![web()])]);
    assert_eq!(host.gathers(), 2);
    host.read(|path| if path == Path::new("/vars") { FOUND } else { APPROVED });
    assert_eq!(host.port(10), Port::Granted, "nobody asks where they come from");
    let begun = [format!("+/images/web {APPROVED}"), format!("+variables/vars {FOUND}")];
    assert_eq!(host.runs(), begun);
    host.wait(AGAIN);
    let written = |name: &str| (name.to_owned(), true);
    let looks = host.looks().unwrap().into_iter();
    let looks: Vec<_> = looks.map(|(file, by)| (file.path.display().to_string(), by)).collect();
    assert_eq!(looks, [written("/images/web"), written("/vars")]);
    host.turn(vec![listing(vec![off(web())])]);
    assert_eq!(host.runs(), ["-/images/web", "-/vars"]);
}

/// Between two runs of which only the beginning was seen, somebody may have had the disk.
#[test]
fn a_run_whose_end_was_not_seen_has_none() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    host.runs();
    host.turn(vec![asked()]);
    host.turn(vec![listing(vec![off(vm("web", 1, "vnet0"))]), released()]);
    assert_eq!(host.runs(), [""; 0]);
}

/// Until its manager's connection tells that it is off, it is listed as running, and approved: what is recorded by
/// then would be what anybody has made of its disk since.
#[test]
fn nothing_begins_with_what_has_been_let_go_before_the_next_start() {
    let begins = || vec![format!("+/images/web {APPROVED}")];
    for kept in [false, true] {
        let mut host = Host::new(Mode::Enforce);
        host.approved();
        assert_eq!(host.runs(), begins());
        if kept {
            // By another daemon, which knows what the kernel holds.
            host.brain.media = Default::default();
            host.brain.world.evidence.clear();
            host.wait(Duration::from_secs(1));
            host.effects.clear();
        }
        host.turn(vec![released()]);
        assert_eq!(host.runs(), ["-/images/web"], "{kept}");
        host.wait(AGAIN).wait(AGAIN);
        host.read(|_| APPROVED);
        host.turn(vec![released()]).wait(AGAIN);
        assert_eq!(host.runs(), [""; 0], "{kept}");
        let still_off = listing(vec![off(vm("web", 1, "vnet0"))]);
        host.turn(vec![still_off]).wait(AGAIN);
        assert_eq!(host.runs(), [""; 0], "{kept}");
        host.turn(vec![listing(vec![vm("web", 1, "vnet0")])]).read(|_| APPROVED);
        assert_eq!(host.runs(), begins(), "{kept}");
        // The next start may come before any word of the end.
        host.turn(vec![released()]).wait(AGAIN);
        assert_eq!(host.runs(), ["-/images/web"], "{kept}");
        host.turn(vec![asked()]).read(|_| APPROVED);
        assert_eq!(host.runs(), begins(), "{kept}");
    }
}

/// Whoever asks before a start lets go of the files as well; where that has not been heard, they have been anybody's
/// for as long as it took the listing to come.
#[test]
fn a_run_that_was_asked_for_ends_by_the_same_word() {
    for heard in [true, false] {
        let mut host = Host::new(Mode::Enforce);
        host.turn(vec![tap(10, "vnet0"), asked()]).read(|_| APPROVED);
        assert_eq!(host.runs(), [format!("+/images/web {APPROVED}")]);
        host.turn(vec![listing(vec![vm("web", 1, "vnet0")])]);
        if heard {
            host.turn(vec![released()]);
            assert_eq!(host.runs(), ["-/images/web"]);
        }
        host.turn(vec![listing(vec![off(vm("web", 1, "vnet0"))])]);
        host.turn(vec![released()]).wait(AGAIN);
        assert_eq!(host.runs(), [""; 0], "{heard}");
    }
}

/// Between two looks at a busy libvirt a VM may have ended and begun anew.
#[test]
fn another_run_is_a_start_though_nobody_has_seen_the_end() {
    let numbered = |run| listing(vec![Vm { run, ..vm("web", 1, "vnet0") }]);
    for (before, now, begins) in
        [(Some(1), Some(1), 0), (Some(1), Some(2), 1), (None, Some(1), 0), (Some(1), None, 0)]
    {
        let mut host = Host::new(Mode::Enforce);
        host.turn(vec![tap(10, "vnet0"), numbered(before)]).read(|_| APPROVED);
        host.runs();
        host.turn(vec![numbered(now)]);
        assert_eq!(host.gathers(), begins, "{before:?} {now:?}");
        host.turn(vec![listing(vec![off(vm("web", 1, "vnet0"))])]);
        assert_eq!(host.runs().is_empty(), begins == 1, "{before:?} {now:?}: its end was not seen");
    }
}

#[test]
fn a_run_that_outlives_the_daemon_ends_where_its_port_has_been_in_force_throughout() {
    for granted in [true, false] {
        let mut host = Host::new(Mode::Enforce);
        if granted {
            host.approved().runs();
        } else {
            host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
        }
        // What a new daemon knows: what the kernel holds.
        host.brain.media = Default::default();
        host.brain.world.evidence.clear();
        host.wait(Duration::from_secs(1));
        host.effects.clear();
        host.turn(vec![listing(vec![off(vm("web", 1, "vnet0"))])]);
        let expect: &[&str] = if granted { &["-/images/web"] } else { &[] };
        assert_eq!(host.runs(), expect, "{granted}");
    }
}
