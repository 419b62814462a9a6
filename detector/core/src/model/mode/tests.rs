use super::*;

const NOW: Ticks = Ticks(1_000);

fn deed(why: &str) -> Deed {
    Deed::new(Timestamp(7_000), 1000, Cause::Operator, why)
}

fn at(record: ModeRecord) -> ObservedMode {
    ObservedMode::at(record, NOW, |ticks| Timestamp(ticks.0))
}

fn provisional(mode: Mode, until: u64) -> ModeRecord {
    ModeRecord { until: Some(Ticks(until)), ..ModeRecord::confirmed(mode, deed("before")) }
}

#[test]
fn records_round_trip() {
    let maintenance = Maintenance { until: Ticks(9), deed: deed("disks") };
    for mode in [Mode::Observe, Mode::Enforce] {
        for until in [None, Some(Ticks(5))] {
            for maintenance in [None, Some(maintenance.clone())] {
                for cause in [Cause::Configured, Cause::Operator, Cause::Lapsed] {
                    let deed = Deed::new(Timestamp(3), 4, cause, &"ä".repeat(NOTE_BYTES));
                    let record = ModeRecord { mode, until, deed, maintenance: maintenance.clone() };
                    let settings = record.write(Settings { hz: 7, ..Settings::DEFAULT });
                    assert_eq!(settings.hz, 7);
                    assert_eq!(ModeRecord::read(&settings), record);
                    let late = record.until.map_or(u64::MAX, |until| until.0);
                    let expect = if late <= NOW.0 { mode.other() } else { mode };
                    assert_eq!(settings.enforces(|| NOW.0), expect == Mode::Enforce);
                    assert_eq!(at(record).effective(), expect);
                }
            }
        }
    }
}

#[test]
fn a_damaged_code_is_the_stricter_mode() {
    for code in [4, 6, u32::MAX] {
        let record = ModeRecord::read(&Settings { mode: code, ..Settings::DEFAULT });
        assert_eq!((record.mode, record.until), (Mode::Enforce, None), "{code}");
    }
}

/// From each state, what each request leads to: the mode and its end, or a word of the refusal.
#[test]
fn requests() {
    use ModeRequest::*;
    type Expect = Result<(Mode, Option<u64>), &'static str>;
    let states = [
        ModeRecord::confirmed(Mode::Observe, deed("before")),
        ModeRecord::confirmed(Mode::Enforce, deed("before")),
        provisional(Mode::Enforce, 2_000),
        provisional(Mode::Observe, 2_000),
        provisional(Mode::Enforce, 500),
        provisional(Mode::Observe, 500),
    ];
    let (o, e) = (Ok((Mode::Observe, None)), Ok((Mode::Enforce, None)));
    let trial = Ok((Mode::Enforce, Some(1_060)));
    let glass = Ok((Mode::Observe, Some(1_060)));
    let long = Err("1 day");
    let cases: [(ModeRequest, [Expect; 6]); 8] = [
        (Enforce { confirm_within: None }, [e; 6]),
        (
            Enforce { confirm_within: Some(60) },
            [trial, Err("already"), trial, Err("break-glass"), trial, Err("already")],
        ),
        (Enforce { confirm_within: Some(0) }, [long; 6]),
        (
            Confirm {},
            [
                Err("observes"),
                Err("confirmed"),
                e,
                Err("break-glass"),
                Err("is over"),
                Err("confirmed"),
            ],
        ),
        (
            Rollback {},
            [
                Err("observes"),
                Err("confirmed"),
                o,
                Err("break-glass"),
                Err("is over"),
                Err("confirmed"),
            ],
        ),
        (Observe {}, [o; 6]),
        (
            BreakGlass { lasts: 60 },
            [Err("nothing is enforced"), glass, Err("rollback"), glass, Err("nothing"), glass],
        ),
        (BreakGlass { lasts: 86_401 }, [long; 6]),
    ];
    for (request, expect) in cases {
        for (state, expect) in states.iter().zip(expect) {
            let from = at(state.clone());
            let result = request.apply(&from, deed("why"), Ticks(1_060));
            let case = format!("{request:?} of {state:?}: {result:?}");
            match (result, expect) {
                (Ok(record), Ok(expect)) => {
                    assert_eq!((record.mode, record.until.map(|at| at.0)), expect, "{case}");
                }
                (Err(refusal), Err(word)) => assert!(refusal.0.contains(word), "{case}"),
                _ => panic!("{case}"),
            }
        }
    }
}

#[test]
fn maintenance_changes_no_mode_and_outlives_its_change() {
    let start = ModeRequest::Maintenance { lasts: 60 };
    let after = Ticks(1_060);
    let from = at(provisional(Mode::Enforce, 2_000));
    let record = start.apply(&from, deed("disks"), after).unwrap();
    assert_eq!(record.until, from.record.until);
    let on = at(record);
    assert_eq!(on.maintenance, Some(Timestamp(1_060)));
    let confirmed = ModeRequest::Confirm {}.apply(&on, deed(""), after).unwrap();
    assert_eq!(confirmed.maintenance, on.record.maintenance);
    let ended = ModeRequest::EndMaintenance {}.apply(&on, deed(""), after).unwrap();
    assert_eq!(ended, from.record);
    let off = at(ended);
    for (request, why) in [
        (ModeRequest::EndMaintenance {}, "no maintenance"),
        (ModeRequest::Maintenance { lasts: 0 }, "7 days"),
        (ModeRequest::Maintenance { lasts: 604_801 }, "7 days"),
    ] {
        let refusal = request.apply(&off, deed("disks"), after).unwrap_err();
        assert!(refusal.0.contains(why), "{refusal}");
    }
    let refusal = start.apply(&off, deed(" "), after).unwrap_err();
    assert!(refusal.0.contains("--reason"), "{refusal}");
}
