//! The product's parser and verdict against the second opinion.

use std::collections::BTreeMap;

use detector_common::reason::Reason;
use detector_oracle::{Arrival, Port, broken, dice::Dice, frames, granted, learned::Held};

/// Fixed, so that a difference comes back; printed with it.
const SEED: u64 = 0x0dd5_eed5;
/// In a debug build this takes some seconds.
const FRAMES: usize = 40_000;
/// Frames for the long run: `DETECTOR_ORACLE_FRAMES=5000000 cargo test --release -p detector-oracle`.
const MANY: &str = "DETECTOR_ORACLE_FRAMES";

/// Each frame is judged for every kind of port.
#[test]
fn the_parser_and_a_second_opinion_agree() {
    let frames = std::env::var(MANY).map_or(FRAMES, |count| count.parse().unwrap());
    let seed = std::env::var("DETECTOR_ORACLE_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let ports: Vec<_> = granted::ports()
        .into_iter()
        .map(|(name, port)| (name, granted::Compiled::new(&port), port))
        .collect();
    let mut dice = Dice::new(seed);
    let mut held = Held::new(usize::MAX);
    // How often each reason was given, and how often it was the only one there could be.
    let mut seen: BTreeMap<Reason, (u64, u64)> = BTreeMap::new();
    for number in 0..frames {
        let arrival = frames::any(&mut dice);
        for (name, compiled, port) in &ports {
            let said = compiled.verdict(&arrival, &mut held);
            let rules = broken(&arrival, port);
            let agrees = if said.passes() { rules.is_empty() } else { rules.contains(&said) };
            assert!(agrees, "{}", difference(seed, number, name, &arrival, said, port));
            let (given, unique) = seen.entry(said).or_default();
            *given += 1;
            *unique += u64::from(rules.len() <= 1);
        }
    }
    println!("seed {seed:#x}: {frames} frames, each at {} ports", ports.len());
    for (reason, (given, unique)) in &seen {
        println!("{:>12} {:>12} {}", given, unique, reason.as_str());
    }
    // Agreement on what was never asked shows nothing.
    for reason in Reason::ALL.iter().filter(|reason| is_of_the_rules(**reason)) {
        let (given, unique) = seen.get(reason).copied().unwrap_or_default();
        // A MAC that can be nobody's is not granted either.
        let told = if *reason == Reason::SourceMacInvalid { given } else { unique };
        assert!(told > 20, "{} was hardly ever the one answer: {told}", reason.as_str());
    }
}

/// Whether a frame from a port with a slot can meet it.
fn is_of_the_rules(reason: Reason) -> bool {
    reason == Reason::Granted
        || matches!(reason as u8, 8 | 9)
        || (16..=47).contains(&(reason as u8))
        || matches!(reason, Reason::VrrpRole | Reason::AddressNotLeased)
}

fn difference(
    seed: u64,
    number: usize,
    name: &str,
    arrival: &Arrival,
    said: Reason,
    port: &Port,
) -> String {
    let rules = broken(arrival, port);
    format!(
        "seed {seed:#x}, frame {number}, port {name:?}: said {said:?}, by the rules {rules:?}\n\
         {arrival:02x?}"
    )
}
