use std::time::Instant;

use uuid::Uuid;

use super::*;

fn hands(text: &str) -> HostHands {
    HostHands::new(&Config::parse(text, std::path::Path::new("c.toml")).unwrap())
}

#[test]
fn what_can_be_done_is_what_is_configured() {
    const POOL: &str = "[remediation]\npool = \"p\"\n";
    const PROVISIONER: &str = "provisioners = [{ name = \"a\", command = [\"/bin/true\"] }]";
    // (configuration, deed, why not)
    let cases = [
        ("", Deed::Evidence, None),
        ("", Deed::Replace, None),
        ("", Deed::Contain, None),
        ("", Deed::Move, Some("remediation.pool names no storage pool")),
        (POOL, Deed::Move, None),
        (POOL, Deed::Provision, Some("lists none")),
        (&format!("{POOL}{PROVISIONER}"), Deed::Provision, None),
        ("[libvirt]\nuri = \"\"", Deed::Evidence, Some("no libvirt is followed")),
    ];
    for (text, deed, expect) in cases {
        let can = hands(text).can(deed);
        match expect {
            None => assert_eq!(can, Ok(()), "{text} {deed:?}"),
            Some(expect) => assert!(can.unwrap_err().contains(expect), "{text} {deed:?}"),
        }
    }
}

/// A source that is no libvirt of this host's is asked for nothing, whatever it is called.
#[test]
fn only_the_libvirts_of_this_host_are_asked() {
    let patient = Patient {
        uuid: Uuid::from_u128(7),
        name: "web".to_owned(),
        source: "qemu+ssh://elsewhere/system?command=/bin/sh".to_owned(),
        workflow: 1,
    };
    let order = Order::Contain;
    let refused = hands("").carry_out(&patient, &order, &mut |_| ControlFlow::Continue(()));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("no libvirt of this host's"), "{why}");
}

/// Of what says nothing, too, whoever hears is asked whether it shall go on.
#[test]
fn who_says_nothing_is_stopped_all_the_same() {
    let stop = AtomicBool::new(false);
    let (sender, heard) = channel::<storage::Progress>();
    let mut asked = 0;
    thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            let until = Instant::now() + Duration::from_secs(20);
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                thread::park_timeout(Duration::from_millis(10));
            }
            drop(sender);
        });
        let mut hear = |_| {
            asked += 1;
            if asked < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        listen(&heard, &mut hear, stop);
    });
    assert!(stop.load(Ordering::Relaxed));
}
