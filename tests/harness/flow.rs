//! What became of the frames of one guest, judged by those that arrived.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result};
use detector_guest::{Beat, MARKERS, Mac, Phase};

use crate::capture::{Capture, Frame};
use crate::scene::PATIENCE;
use crate::wait;

/// Waits until every beat with a number in `from..=to` has arrived at the capture. Beats may overtake
/// each other on a busy machine, so that the last one may be there before others.
///
/// # Errors
///
/// Names those that are missing.
pub fn await_whole(capture: &Capture, mac: Mac, from: u64, to: u64) -> Result<()> {
    let mut missing = Vec::new();
    wait::until("every beat", PATIENCE, || {
        missing = Flow::of(&capture.frames()?, mac).missing(from, to);
        Ok(missing.is_empty().then_some(()))
    })
    .with_context(|| {
        let some = &missing[..missing.len().min(SAID)];
        format!("{} of the beats {from}..={to} are missing, among them {some:?}", missing.len())
    })
}

/// How many of the beats that are missing are named.
const SAID: usize = 40;

/// The frames of one source MAC, in the order of arrival.
pub struct Flow {
    frames: Vec<(Frame, Option<Beat>)>,
}

/// The first phase of a guest, from its very first frame to the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstPhase {
    /// Frames that the guest's kernel sent, the marker included.
    pub sent: u64,
    /// Those that arrived.
    pub arrived: u64,
    /// Of those, the ones that are not beats: neighbour discovery, multicast reports.
    pub others: u64,
}

/// The beats between two that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub sent: u64,
    pub arrived: u64,
}

impl Flow {
    pub fn of(frames: &[Frame], mac: Mac) -> Self {
        let own = frames.iter().filter(|frame| frame.source() == Some(mac));
        Self { frames: own.map(|f| (f.clone(), Beat::parse(&f.bytes))).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The highest number among the beats that arrived.
    pub fn last_seq(&self) -> Option<u64> {
        self.beats().map(|(_, beat)| beat.seq).max()
    }

    /// What the first marker says that agrees with what arrived, or else the last one; `None` until
    /// then. A marker does not count a frame that the guest's kernel sent at that very moment, so
    /// that one alone may disagree without any loss.
    pub fn first_phase(&self) -> Option<FirstPhase> {
        let mut markers: Vec<FirstPhase> = Vec::new();
        let mut others = 0;
        for (number, (_, beat)) in self.frames.iter().enumerate() {
            others += u64::from(beat.is_none());
            if let Some(marker) = beat.filter(|beat| beat.phase == Phase::Marker) {
                let (sent, arrived) = (marker.total + 1, number as u64 + 1);
                markers.push(FirstPhase { sent, arrived, others });
            }
        }
        let whole = markers.iter().find(|marker| marker.is_whole()).copied();
        whole.or_else(|| markers.get(MARKERS as usize - 1).copied())
    }

    /// How many of the beats with a number in `from..=to` arrived.
    pub fn stream(&self, from: u64, to: u64) -> Stream {
        let arrived: BTreeSet<_> =
            self.beats().map(|(_, b)| b.seq).filter(|seq| (from..=to).contains(seq)).collect();
        Stream { sent: (to + 1).saturating_sub(from), arrived: arrived.len() as u64 }
    }

    /// The beats with a number in `from..=to` that have not arrived.
    fn missing(&self, from: u64, to: u64) -> Vec<u64> {
        let arrived: BTreeSet<_> = self.beats().map(|(_, beat)| beat.seq).collect();
        (from..=to).filter(|seq| !arrived.contains(seq)).collect()
    }

    /// The numbers missing between two beats that arrived, where most are.
    pub fn longest_gap(&self) -> Range<u64> {
        let arrived: BTreeSet<_> = self.beats().map(|(_, beat)| beat.seq).collect();
        let gaps = arrived.iter().zip(arrived.iter().skip(1)).map(|(a, b)| a + 1..*b);
        gaps.max_by_key(|gap| gap.end - gap.start).unwrap_or(0..0)
    }

    /// The frames that tell switches where the MAC is now: QEMU's RARP.
    pub fn announcements(&self) -> usize {
        self.frames
            .iter()
            .filter(|(frame, _)| frame.bytes.get(12..14) == Some(&[0x80, 0x35]))
            .count()
    }

    fn beats(&self) -> impl Iterator<Item = (&Frame, &Beat)> {
        self.frames.iter().filter_map(|(frame, beat)| Some((frame, beat.as_ref()?)))
    }
}

impl FirstPhase {
    pub fn is_whole(&self) -> bool {
        self.sent == self.arrived
    }
}

impl Stream {
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    fn beat(phase: Phase, seq: u64, total: u64) -> Frame {
        let frame = Beat { phase, seq, total }.frame(MAC, Ipv4Addr::LOCALHOST);
        Frame { at: Instant::now(), bytes: frame.to_vec() }
    }

    fn other() -> Frame {
        let mut bytes = vec![0; 60];
        bytes[6..12].copy_from_slice(&MAC);
        Frame { at: Instant::now(), bytes }
    }

    #[test]
    fn a_missing_frame_is_noticed_wherever_it_was() {
        let all = [
            beat(Phase::First, 0, 0),
            other(),
            beat(Phase::First, 1, 2),
            beat(Phase::Marker, 2, 3),
            beat(Phase::Marker, 3, 4),
            beat(Phase::Marker, 4, 5),
            beat(Phase::Stream, 5, 6),
        ];
        let whole = Flow::of(&all, MAC).first_phase().unwrap();
        assert_eq!(whole, FirstPhase { sent: 4, arrived: 4, others: 1 });
        for missing in 0..3 {
            let mut some = all.to_vec();
            some.remove(missing);
            assert!(!Flow::of(&some, MAC).first_phase().unwrap().is_whole(), "without {missing}");
        }
        assert_eq!(Flow::of(&all[..3], MAC).first_phase(), None);
        // A frame that slipped in before the first marker, after the count: the next ones count it.
        let slipped = [&all[..3], &[other()], &all[3..]].concat();
        assert!(Flow::of(&slipped[..5], MAC).first_phase().is_none());
        let recounted = [&slipped[..5], &[beat(Phase::Marker, 3, 5)]].concat();
        assert!(Flow::of(&recounted, MAC).first_phase().unwrap().is_whole());
        assert_eq!(Flow::of(&all, MAC).stream(0, 5).lost(), 0);
        assert_eq!(Flow::of(&all[2..], MAC).stream(0, 5).lost(), 1);
        assert!(Flow::of(&all, [2, 0, 0, 0, 0, 8]).is_empty());
    }
}
