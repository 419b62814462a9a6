use detector_core::model::Digest;

use super::*;

#[test]
fn the_end_of_what_was_printed_is_a_line() {
    let cases = [
        ("", "".to_owned()),
        ("a\n\nb\n\n", "a | b".to_owned()),
        ("1\n2\n3\n4\n5\n6", "2 | 3 | 4 | 5 | 6".to_owned()),
        (&"é".repeat(END_OF_OUTPUT), "é".repeat(END_OF_OUTPUT)),
        (&"é".repeat(END_OF_OUTPUT + 1), format!("…{}", "é".repeat(END_OF_OUTPUT))),
    ];
    for (output, expect) in cases {
        assert_eq!(end_of(output), expect);
    }
}

#[test]
fn a_provisioner_is_told_what_was_kept_of_the_same_file() {
    let disk = |target: &str, path: &str| Disk {
        target: target.to_owned(),
        path: path.into(),
        format: "raw".to_owned(),
        sha256: None,
    };
    let kept = |target: &str, path: &str, sha256| DiskEvidence {
        target: target.to_owned(),
        path: path.to_owned(),
        format: "raw".to_owned(),
        bytes: 1,
        sha256,
        unread: None,
    };
    let mut disks =
        [disk("vda", "/p/a"), disk("vdb", "/p/b"), disk("vdc", "/p/c"), disk("vdd", "/d")];
    let digests = [1, 2].map(|number| Some(Digest([number; 32])));
    let known = [
        kept("vda", "/p/a", digests[0]),
        kept("vdb", "/elsewhere", digests[1]),
        kept("vdc", "/p/c", None),
    ];
    add_digests(&mut disks, &known);
    assert_eq!(disks.map(|disk| disk.sha256), [digests[0], None, None, None]);
}

#[test]
fn what_a_provisioner_came_to_is_said_also_where_the_vm_runs_on() {
    let ended = |outcome| Ended { outcome, output: "no route\n".to_owned(), printed: 9, strays: 0 };
    let failed = || result_of("base", ended(Outcome::Failed { why: "code 1".to_owned() }));
    let given_up = || result_of("base", ended(Outcome::GivenUp));
    let fine = || {
        let message = "12 packages".to_owned();
        result_of("base", ended(Outcome::Done { message, changed: Some(true) }))
    };
    let runs_on = || Err(StorageError::Refused("no answer".to_owned()));
    assert_eq!(fine().unwrap().more["output"], "no route");
    assert_eq!(and_off(fine(), Ok(())), fine());
    assert_eq!(and_off(given_up(), Ok(())), Err(Failed::Stopped));
    for (result, expect) in [
        (fine(), "12 packages"),
        (failed(), "the provisioner base: code 1. It has printed: no route"),
        (given_up(), "it was stopped"),
    ] {
        let why = and_off(result, runs_on()).unwrap_err().to_string();
        assert!(why.contains("no answer") && why.contains(expect), "{why}");
    }
}
