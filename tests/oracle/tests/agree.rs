//! The product's parser and verdict against the second opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::thread;

use detector_common::reason::Reason;
use detector_oracle::{Arrival, Port, Reading, broken, frames, granted, learned::Held};

/// Frames of which none is like another, of all threads together.
const FRAMES: usize = 2_000_000;
const THREADS: u64 = 2;
/// More of them: `DETECTOR_ORACLE_FRAMES=50000000 cargo test -p detector-oracle`.
const MANY: &str = "DETECTOR_ORACLE_FRAMES";

/// How often each reason was given, and how often it was the only one there could be.
type Seen = BTreeMap<Reason, (u64, u64)>;

/// Each frame is judged for every kind of port.
#[test]
fn the_parser_and_a_second_opinion_agree() {
    let frames = std::env::var(MANY).map_or(FRAMES, |count| count.parse().unwrap());
    let seed =
        std::env::var("DETECTOR_ORACLE_SEED").map_or(frames::SEED, |seed| seed.parse().unwrap());
    let ports = granted::ports().len();
    println!("seed {seed:#x}: {frames} frames, each at {ports} ports");
    let each = frames.div_ceil(THREADS as usize);
    let threads: Vec<_> =
        (0..THREADS).map(|number| thread::spawn(move || judge(seed + number, each))).collect();
    let mut seen = Seen::new();
    for thread in threads {
        for (reason, (given, unique)) in thread.join().unwrap() {
            let counts = seen.entry(reason).or_default();
            *counts = (counts.0 + given, counts.1 + unique);
        }
    }
    for (reason, (given, unique)) in &seen {
        println!("{:>12} {:>12} {}", given, unique, reason.as_str());
    }
    // Agreement on what was never asked shows nothing.
    for reason in Reason::ALL.iter().filter(|reason| is_of_the_rules(**reason)) {
        let (given, unique) = seen.get(reason).copied().unwrap_or_default();
        // A MAC that can be nobody's is not granted either.
        let told = if *reason == Reason::SourceMacInvalid { given } else { unique };
        assert!(told > 1_000, "{} was hardly ever the one answer: {told}", reason.as_str());
    }
}

/// Judges frames of the stream until there were so many different ones.
fn judge(seed: u64, frames: usize) -> Seen {
    let ports: Vec<_> = granted::ports()
        .into_iter()
        .map(|(name, port)| (name, granted::Compiled::new(&port), port))
        .collect();
    let mut held = Held::new(usize::MAX);
    let mut seen = Seen::new();
    let mut different = BTreeSet::new();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    for (number, arrival) in frames::stream(seed).enumerate() {
        if different.len() == frames {
            break;
        }
        if !different.insert(hasher.hash_one(&arrival)) {
            continue;
        }
        let reading = Reading::of(&arrival);
        for (name, compiled, port) in &ports {
            let said = compiled.verdict(&arrival, &mut held);
            let rules = reading.broken(port);
            let agrees = if said.passes() { rules.is_empty() } else { rules.contains(&said) };
            assert!(agrees, "{}", difference(seed, number, name, &arrival, said, port));
            let (given, unique) = seen.entry(said).or_default();
            *given += 1;
            *unique += u64::from(rules.len() <= 1);
        }
    }
    seen
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
