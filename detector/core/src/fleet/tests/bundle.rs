use crate::{
    fleet::{
        Name,
        accept::{Refusal, Standing, Verdict, judge},
        bundle::{Bundle, Fault, LONGEST, LONGEST_FILE, MAGIC, POLICY, Sealed, seal},
        message::Version,
    },
    model::{Digest, Timestamp, Today},
};

const SIGNATURE: &str = "untrusted comment: a\nQUJD\ntrusted comment: b\nREVG\n";

fn text(files: &str) -> String {
    format!(
        r#"{{"fleet":"prod","version":3,"created":"2026-01-01T00:00:00Z","expires":"2026-02-01T00:00:00Z",
            "files":{{"policy.cedar":"permit(principal,action,resource);"{files}}}}}"#
    )
}

#[test]
fn a_bundle_has_a_signature_and_a_text() {
    let body = text("");
    let sealed = seal(SIGNATURE, body.as_bytes()).unwrap();
    let read = Sealed::read(&sealed).unwrap();
    assert_eq!((read.signature, read.text), (SIGNATURE, body.as_bytes()));
    let bundle = Bundle::parse(read.text).unwrap();
    assert_eq!((bundle.version, bundle.files.len()), (3, 1));
    assert_eq!(Bundle::parse(&bundle.to_text().unwrap()).unwrap(), bundle);

    let fault = |bytes: &[u8]| Sealed::read(bytes).unwrap_err();
    assert_eq!(fault(b""), Fault::NoBundle);
    assert_eq!(fault(body.as_bytes()), Fault::NoBundle);
    assert_eq!(fault(b"detector-bundle 2\n"), Fault::NoBundle);
    assert_eq!(fault(format!("{MAGIC}\n").as_bytes()), Fault::NoSignature);
    assert_eq!(fault(format!("{MAGIC}\n{body}\n\n\n\n").as_bytes()), Fault::NoSignature);
    let endless = format!("{MAGIC}\nuntrusted comment: {}\n\n\n\n{body}", "x".repeat(5000));
    assert_eq!(fault(endless.as_bytes()), Fault::NoSignature);
    assert_eq!(fault(&vec![b' '; LONGEST + 1]), Fault::TooLong(LONGEST + 1));
    // One line more or less would move the text.
    for signature in [SIGNATURE.replace("QUJD\n", ""), format!("{SIGNATURE}more\n")] {
        assert_eq!(seal(&signature, body.as_bytes()), Err(Fault::NoSignature), "{signature}");
    }
}

#[test]
fn what_no_bundle_says_is_refused() {
    let long = "x".repeat(LONGEST_FILE + 1);
    let many: String = (0..1025).map(|n| format!(r#","templates/t{n}.toml":"""#)).collect();
    let cases = [
        (r#","/etc/passwd":"x""#, "a file"),
        (r#","../policy.cedar":"x""#, "a file"),
        (r#","templates/../../x.toml":"x""#, "a file"),
        (r#","templates/a/b.toml":"x""#, "a file"),
        (r#","templates/.toml":"x""#, "a file"),
        (r#","templates/..toml":"x""#, "a file"),
        (r#","templates/a.sh":"x""#, "a file"),
        (r#","templates/a\u0000.toml":"x""#, "a file"),
        (r#","config.toml":"x""#, "a file"),
        (r#","":"x""#, "a file"),
        (r#","policy.cedar":"x""#, "twice"),
        (r#","templates/a.toml":"x","templates/a.toml":"x""#, "twice"),
        (r#","settings.toml":7"#, "string"),
        (&format!(r#","settings.toml":"{long}""#), "bytes"),
        (&many, "files"),
    ];
    for (files, expect) in cases {
        let fault = Bundle::parse(text(files).as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(expect), "{files:.60}: {fault}");
    }
    assert!(
        Bundle::parse(
            text(r#","templates/a@1.toml":"","templates/a@1.toml.minisig":"""#).as_bytes()
        )
        .is_ok()
    );
    let good = text("");
    for (from, to, expect) in [
        ("\"version\":3", "\"version\":0", "version"),
        ("\"version\":3", "\"version\":-1", "u64"),
        ("\"version\":3", "\"version\":3,\"version\":4", "duplicate"),
        ("2026-02-01", "2025-02-01", "expires"),
        ("policy.cedar", "settings.toml", "policy.cedar"),
        ("\"files\"", "\"run\":\"x\",\"files\"", "unknown field"),
        ("\"prod\"", "\"PROD\"", "name"),
    ] {
        let fault = Bundle::parse(good.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(expect), "{to}: {fault}");
    }
    for bad in ["", "null", "[]", &"{\"files\":".repeat(5000)] {
        assert!(matches!(Bundle::parse(bad.as_bytes()), Err(Fault::Unreadable(_))), "{bad:.20}");
    }
    // What could not be read is not packed.
    let mut bundle = Bundle::parse(good.as_bytes()).unwrap();
    bundle.files.insert("../x".to_owned(), String::new());
    assert!(bundle.to_text().is_err());
    bundle.files.remove("../x");
    for n in 0..4 {
        bundle.files.insert(format!("templates/{n}.toml"), "x".repeat(LONGEST_FILE));
    }
    assert!(matches!(bundle.to_text(), Err(Fault::TooLong(_))));
    assert!(bundle.files.contains_key(POLICY));
}

#[test]
fn a_host_takes_what_is_newer_and_has_not_expired() {
    let bundle = Bundle::parse(text("").as_bytes()).unwrap();
    let (this, other) = (Digest([1; 32]), Digest([2; 32]));
    let version = Version { number: bundle.version, sha256: this };
    let fleet = |name: &str| name.parse::<Name>().unwrap();
    let own = |highest| Standing { fleet: fleet("prod"), highest };
    let had = |number, sha256| own(Some(Version { number, sha256 }));
    let at =
        |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64);
    let day = |text: &str| Today { earliest: at(text), latest: at(text) };
    let before = day("2026-01-31T23:59:59Z");
    let after = day("2026-02-01T00:00:00Z");
    let doubted = Today { earliest: before.earliest, latest: after.latest };
    let expires = bundle.expires;
    let cases = [
        (own(None), before, Ok(Verdict::Take)),
        (had(2, other), before, Ok(Verdict::Take)),
        (had(3, this), before, Ok(Verdict::Known)),
        (had(3, this), after, Ok(Verdict::Known)),
        (had(3, other), before, Err(Refusal::OtherText(3))),
        (had(4, this), before, Err(Refusal::Older { offered: 3, known: 4 })),
        (had(4, this), after, Err(Refusal::Older { offered: 3, known: 4 })),
        (own(None), after, Err(Refusal::Expired(expires))),
        (own(None), doubted, Err(Refusal::DayUnknown(expires))),
        (
            Standing { fleet: fleet("test"), highest: None },
            before,
            Err(Refusal::OtherFleet { offered: fleet("prod"), own: fleet("test") }),
        ),
    ];
    for (standing, today, expect) in cases {
        assert_eq!(judge(&bundle, version, &standing, today), expect, "{standing:?} {today:?}");
    }
}
