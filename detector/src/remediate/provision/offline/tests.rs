use super::*;

fn work(text: &str) -> Offline {
    toml::from_str(text).unwrap()
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let cases = [
        ("mask = [\"a.service\"]", None),
        ("run = [\"true\"]\nroot = \"vda1\"\nmemory_mib = 64", None),
        ("files = [{ path = \"/etc/x\", content = \"\" }]", None),
        ("files = [{ path = \"/etc/x\", from = \"/a\", mode = \"600\", owner = \"1:2\" }]", None),
        ("", Some("expected 1 to 256")),
        ("run = [\"true\"]\nmemory_mib = 8", Some("memory_mib")),
        ("run = [\"true\"]\nkernel = \"vmlinuz\"", Some("whole paths")),
        ("run = [\"true\"]\nroot = \"../vda\"", Some("no device")),
        ("remove = [\"etc/x\"]", Some("no whole path")),
        ("remove = [\"/etc/../x\"]", Some("no whole path")),
        ("remove = [\"/\"]", Some("no whole path")),
        ("mask = [\"../x.service\"]", Some("no name of a unit")),
        ("mask = [\"x\"]", Some("no name of a unit")),
        ("files = [{ path = \"/etc/x\" }]", Some("expected content, or from")),
        ("files = [{ path = \"/x\", content = \"\", from = \"/a\" }]", Some("expected content")),
        ("files = [{ path = \"/x\", content = \"\", mode = \"9\" }]", Some("not octal")),
        ("files = [{ path = \"/x\", content = \"\", owner = \"root\" }]", Some("UID:GID")),
    ];
    for (text, expect) in cases {
        let fault = work(text).fault();
        match expect {
            None => assert_eq!(fault, None, "{text}"),
            Some(part) => {
                assert!(fault.as_ref().is_some_and(|why| why.contains(part)), "{text}: {fault:?}");
            }
        }
    }
}

fn attended(said: &[&str], seconds: u64, open: bool, stopped: bool) -> Ended {
    let (sender, heard) = sync_channel(WAITING);
    for text in said {
        sender.send(text.as_bytes().to_vec()).unwrap();
    }
    let kept = open.then_some(sender);
    let limits = Limits { timeout: Duration::from_secs(seconds), keep: 64 };
    let tell: Tell = std::sync::Arc::new(|_| {});
    let ended = Running { said: heard }.attend(&limits, &AtomicBool::new(stopped), &tell);
    drop(kept);
    ended
}

/// Only what it says last, and by ending by itself, counts.
#[test]
fn its_last_word_counts_when_it_has_ended() {
    const FINE: &str =
        "\r\n{\"event\":\"result\",\"ok\":true,\"changed\":true,\"message\":\"fine\"}\r\n";
    const NOT: &str = "{\"event\":\"result\",\"ok\":false,\"message\":\"step 1\"}\n";
    let failed = |why: &str| Outcome::Failed { why: why.to_owned() };
    let silent = "its machine has ended without saying what has come of it";
    let cases: &[(&[&str], Outcome)] = &[
        (&[FINE], Outcome::Done { changed: Some(true), message: "fine".to_owned() }),
        (&[FINE, NOT], failed("step 1")),
        (&["\u{1b}[2J", &FINE[..20]], failed(silent)),
        (&[], failed(silent)),
    ];
    for (said, expect) in cases {
        assert_eq!(attended(said, 60, false, false).outcome, *expect);
    }
    assert!(matches!(attended(&[FINE], 1, true, false).outcome, Outcome::Late { .. }));
    assert_eq!(attended(&[FINE], 60, true, true).outcome, Outcome::GivenUp);
    let flood = "x".repeat(1 << 20);
    let ended = attended(&[&flood], 60, false, false);
    assert_eq!((ended.output.len(), ended.printed), (64, 1 << 20));
}

/// Whoever describes a VM names files as they like.
#[test]
fn only_what_was_moved_for_the_vm_is_its_own() {
    let (vm, pool) = (Uuid::from_u128(7), Path::new("/pool"));
    let own = format!("/pool/{vm}-vda.img");
    assert!(is_moved(own.as_ref(), pool, vm));
    let another = format!("/pool/{}-vda.img", Uuid::from_u128(8));
    let above = format!("/pool/../pool/{vm}-vda.img");
    let below = format!("/pool/{vm}-a/b.img");
    for other in [another, above, below, "/pool/vda.img".to_owned(), format!("/{vm}-vda.img")] {
        assert!(!is_moved(other.as_ref(), pool, vm), "{other}");
    }
}

#[test]
fn a_machine_of_ours_is_known_by_its_kernel() {
    let live = |kernel: &str| format!("<domain><os><kernel>{kernel}</kernel></os></domain>");
    let own = Path::new("/pool/7-appliance.kernel");
    assert!(boots_from(&live("/pool/7-appliance.kernel"), own));
    for other in ["<domain/>", "x", &live("/pool/8-appliance.kernel")] {
        assert!(!boots_from(other, own), "{other}");
    }
}
