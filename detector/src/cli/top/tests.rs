use std::time::{Duration, Instant};

use ratatui::{Terminal, backend::TestBackend};

use super::{
    draw::{Screen, draw},
    rates::{Order, Row, Sample, rows},
    *,
};
use crate::api::view::{CountersView, FramesView, PortState, PortView, VmRef};

fn port(name: &str, ifindex: u32, from: u64, refused: &[(&str, u64)]) -> PortView {
    PortView {
        name: name.into(),
        ifindex,
        instance: 1,
        role: if name.starts_with("up") { "uplink" } else { "guest" }.into(),
        bridge: None,
        device: None,
        status: if refused.is_empty() { PortState::Granted } else { PortState::Isolated },
        isolation: None,
        shield: false,
        passage: false,
        services: None,
        why: None,
        since: None,
        vm: Some(VmRef { uuid: uuid::Uuid::from_u128(7), name: "web\u{1b}[2J1".into() }),
        identities: vec![],
        counters: Some(CountersView {
            frames: FramesView { from, to: 2 * from },
            from: refused.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            ..CountersView::default()
        }),
        learned: vec![],
        observed: false,
        sightings: vec![],
    }
}

fn sample(at: Instant, ports: Vec<PortView>) -> Sample {
    Sample { at, origin: Origin::Pins, ports, status: None }
}

#[test]
fn rates_are_of_one_life_of_a_port() {
    let start = Instant::now();
    let rogue = [("mac-not-granted", 100), ("port-isolated", 7)];
    let before = sample(start, vec![port("a", 1, 50, &[]), port("b", 2, 107, &rogue)]);
    let rogue = [("mac-not-granted", 101), ("port-isolated", 27)];
    let reborn = PortView { instance: 2, ..port("a", 1, 60, &[]) };
    let now = vec![reborn, port("b", 2, 149, &rogue), port("c", 3, 10, &[])];
    let after = sample(start + Duration::from_secs(2), now);
    let all = rows(Some(&before), &after);
    let told = |row: &Row| (row.from, row.to, row.refused, row.reason.clone());
    assert_eq!(told(&all[0]), (0.0, 0.0, 0.0, "-".into()), "another life");
    assert_eq!(told(&all[1]), (21.0, 42.0, 10.5, "port-isolated".into()));
    assert_eq!(told(&all[2]), (0.0, 0.0, 0.0, "-".into()), "it is new");
    assert_eq!(rows(None, &after)[1].reason, "mac-not-granted", "of all so far");

    let back = sample(start + Duration::from_secs(3), vec![port("b", 2, 3, &[("x", 1)])]);
    let begun = &rows(Some(&after), &back)[0];
    assert_eq!((begun.from, begun.refused), (0.0, 0.0), "counters that begin anew");
}

#[test]
fn the_screen_shows_the_worst_first() {
    let start = Instant::now();
    let ports = |refused: u64| {
        let rogue = [("mac-not-granted", refused)];
        vec![port("vnet0", 1, refused, &[]), port("vnet1", 2, 0, &rogue), port("up0", 3, 0, &[])]
    };
    let (before, after) =
        (sample(start, ports(1)), sample(start + Duration::from_secs(1), ports(2_001)));
    let all = rows(Some(&before), &after);
    let shown = chosen(&all, &Choice::default());
    let screen = Screen {
        sample: &after,
        rows: &shown,
        count: shown.len(),
        order: Order::Refused,
        trouble: Some("no answer"),
    };
    let mut terminal = Terminal::new(TestBackend::new(110, 6)).unwrap();
    terminal.draw(|frame| draw(frame, &screen)).unwrap();
    let lines: Vec<_> = terminal
        .backend()
        .to_string()
        .lines()
        .map(|line| line.trim_matches('"').trim_end().to_owned())
        .collect();
    let expected = [
        "The daemon does not answer: this is what the pinned maps hold",
        "These figures are old: no answer",
        "",
    ];
    assert_eq!(lines[..2], expected[..2], "{lines:#?}");
    assert!(lines[2].starts_with("PORT "), "{lines:#?}");
    assert!(lines[3].starts_with("vnet1  ") && lines[3].contains("2000"), "{lines:#?}");
    assert!(lines[3].ends_with("mac-not-granted"), "{lines:#?}");
    assert!(lines[4].starts_with("vnet0  ") && lines[4].contains("web\\u{1b}[2J1"), "{lines:#?}");
    assert!(lines[5].starts_with("2 ports, by the pins, by refused"), "{lines:#?}");
}

#[test]
fn keys_choose_what_is_seen() {
    let mut choice = Choice::default();
    let mut typed =
        |code| matches!(press(&mut choice, KeyEvent::new(code, KeyModifiers::NONE)), Key::Quit);
    for code in [KeyCode::Char('s'), KeyCode::Char('a'), KeyCode::PageDown, KeyCode::Up] {
        assert!(!typed(code), "{code:?}");
    }
    assert!(typed(KeyCode::Char('q')) && typed(KeyCode::Esc));
    assert_eq!((choice.order, choice.all, choice.first), (Order::From, true, PAGE - 1));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(matches!(press(&mut choice, interrupt), Key::Quit));
}
