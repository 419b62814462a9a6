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
